"""The yardstick of the fine-tuning benchmark: one training step of ConvUNetR on SAX as it was on 25 November 2026.

Frozen on purpose. It runs on the weights of a network of this package, whose decoder kept every activation then and
convolved the image branch at full size; the stem, the transformer and the loss are written out as they were, with 16
slices whatever the scan has. A test compares its numbers. Do not speed it up.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.losses import DiceLoss
from torch import Tensor, nn
from torch.nn import functional as F

from cinema_lightning.models.convunetr import ConvUNetR
from cinema_lightning.models.patches import nested_patches

SLICES = 16
EPS = 1e-6
DICE = DiceLoss(include_background=False)


def norm(layer: nn.LayerNorm, x: Tensor) -> Tensor:
    return F.layer_norm(x, layer.normalized_shape, layer.weight, layer.bias, layer.eps)


def linear(layer: nn.Linear, x: Tensor) -> Tensor:
    return F.linear(x, layer.weight, layer.bias)


def drop_path(x: Tensor, rate: float) -> Tensor:
    if not rate:
        return x
    return x * x.new_empty(x.shape[0], *[1] * (x.dim() - 1)).bernoulli_(1 - rate).div_(1 - rate)


def convolve(layer: nn.Conv3d, maps: Tensor) -> Tensor:
    return F.conv3d(maps.movedim(-1, 1), layer.weight, layer.bias, padding=1).movedim(1, -1)


def encode(encoder: nn.Module, image: Tensor, rate: float) -> tuple[list[Tensor], Tensor]:
    """Maps of the stem's stages, and the tokens (B, N, D); ``image`` is (B, X, Y, Z, C)."""
    stem, x, stages = encoder.stems["sax"], image, []
    for stage, kernel in zip(stem.stages, stem.geometry.kernels, strict=False):
        size = [n // k for n, k in zip(x.shape[1:-1], kernel, strict=True)]
        patches = nested_patches(x, [kernel]).flatten(2)
        x = F.gelu(norm(stage.norm, linear(stage.down, patches))).reshape(len(image), *size, -1)
        for block in stage.blocks:
            mixed = block.depthwise(linear(block.pointwise1, norm(block.norm1, x)))
            x = x + linear(block.pointwise2, mixed)
            x = x + linear(block.mlp.fc2, F.gelu(linear(block.mlp.fc1, norm(block.norm2, x))))
        stages.append(x)
    patches = nested_patches(x, [stem.geometry.kernels[-1]]).flatten(2)
    tokens = linear(stem.linear, linear(stem.embed, patches)) + stem.position(stem.geometry.grid_of(image.shape[1:-1]))
    tokens = torch.cat([encoder.cls_token.expand(len(image), -1, -1), tokens], dim=1)
    for block in encoder.transformer.blocks:
        qkv = linear(block.attn.qkv, norm(block.norm1, tokens)).unflatten(-1, (3, block.attn.heads, -1))
        seen = F.scaled_dot_product_attention(*qkv.permute(2, 0, 3, 1, 4).unbind(0)).transpose(1, 2).flatten(2)
        tokens = tokens + drop_path(linear(block.attn.proj, seen), rate)
        hidden = F.gelu(linear(block.mlp.fc1, norm(block.norm2, tokens)))
        tokens = tokens + drop_path(linear(block.mlp.fc2, hidden), rate)
    return stages, norm(encoder.transformer.norm, tokens)[:, 1:]


def residual(block: nn.Module, maps: Tensor, rate: float = 0.0) -> Tensor:
    x = convolve(block.conv1, F.gelu(norm(block.norm1, maps)))
    x = convolve(block.conv2, F.dropout(F.gelu(norm(block.norm2, x)), rate, rate > 0))
    return x + (maps if isinstance(block.shortcut, nn.Identity) else linear(block.shortcut, maps))


def up(layer: nn.Module, maps: Tensor, skip: Tensor | None) -> Tensor:
    batch, *size, _ = maps.shape
    pixels = F.linear(maps, layer.weight, layer.bias.repeat(len(layer.weight) // len(layer.bias)))
    nested = pixels.unflatten(-1, (*layer.kernel, -1)).permute(0, 1, 4, 2, 5, 3, 6, 7)
    if skip is not None:
        nested = skip.reshape(nested.shape) + nested
    return nested.reshape(batch, *[n * k for n, k in zip(size, layer.kernel, strict=True)], -1)


def decode(decoder: nn.Module, image: Tensor, stages: Sequence[Tensor], tokens: Tensor, rate: float) -> Tensor:
    """(B, X, Y, Z, channels) of the image (B, X, Y, Z, C), the stages' maps and the tokens on their grid."""
    kernel = decoder.down.kernel
    grid = [n // k for n, k in zip(tokens.shape[1:-1], kernel, strict=True)]
    coarsest = linear(decoder.down, nested_patches(tokens, [kernel]).flatten(2)).unflatten(1, grid)
    blocks = [decoder.image, *[None] * (decoder.first_level - 1), *decoder.skips]
    sources = [image, *[None] * (decoder.first_level - 1), *stages, tokens, coarsest]
    x = residual(blocks.pop(), sources.pop(), rate)
    for level in decoder.ups:
        block, source = blocks.pop(), sources.pop()
        x = up(level.up, x, None if block is None else residual(block, source, rate))
        for block in level.blocks:
            x = residual(block, x)
    return x


def forward(model: ConvUNetR, image: Tensor, drop: float = 0.1, dropout: float = 0.1) -> Tensor:
    """Logits (B, classes, X, Y, Z) of SAX images (B, C, X, Y, Z); ``drop`` is the rate of stochastic depth."""
    maps = image.movedim(1, -1)
    stages, tokens = encode(model.encoder, maps, drop)
    grid = model.encoder.geometries["sax"].grid_of(image.shape[2:])
    features = decode(model.decoders["sax"], maps, stages, tokens.unflatten(1, grid), dropout)
    return linear(model.heads["sax"], features).movedim(-1, 1)


def loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy and Dice of labels (B, X, Y, Z)."""
    labelled = labels != -1
    picked = logits.float().log_softmax(dim=1).gather(1, labels.clamp(min=0)[:, None])[:, 0]
    entropy = -(picked * labelled).sum() / labelled.sum().clamp(min=1)
    classes = torch.arange(logits.shape[1], device=labels.device).view(1, -1, 1, 1, 1)
    return entropy + DICE(logits.float().softmax(dim=1) * labelled[:, None], labels[:, None] == classes)
