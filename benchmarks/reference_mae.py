"""The yardstick of the pretraining benchmark: the masked autoencoder computed densely, as published.

Frozen on purpose. Convolutions of kernel 1 are Conv modules on channels-first maps, the channel norm permutes, norms
and permutes back, queries and keys-values have separate layers, and masked positions are computed and then thrown
away. It is written from the description of the published network and uses the published key names, so that both
networks can run the same weights; a test compares their numbers. Do not speed it up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def conv(dims: int) -> type[nn.Module]:
    return nn.Conv2d if dims == 2 else nn.Conv3d


class ChannelNorm(nn.Module):
    """Layer norm over the channels of channels-first maps."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, C, ...) to the same shape."""
        x = x.permute(0, *range(2, x.dim()), 1)
        x = F.layer_norm(x, (x.shape[-1],), self.weight, self.bias, 1e-6)
        return x.permute(0, x.dim() - 1, *range(1, x.dim() - 1)).contiguous()


class ConvMlp(nn.Module):
    """Two convolutions of kernel 1."""

    def __init__(self, channels: int, dims: int) -> None:
        super().__init__()
        self.fc1 = conv(dims)(channels, 4 * channels, 1)
        self.fc2 = conv(dims)(4 * channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, C, ...) to the same shape."""
        return self.fc2(F.gelu(self.fc1(x)))


class ConvBlock(nn.Module):
    """Masked convolution block."""

    def __init__(self, channels: int, dims: int) -> None:
        super().__init__()
        self.norm1 = ChannelNorm(channels)
        self.norm2 = ChannelNorm(channels)
        self.conv1 = conv(dims)(channels, channels, 1)
        self.conv2 = conv(dims)(channels, channels, 1)
        self.dw_conv = conv(dims)(channels, channels, 5, padding=2, groups=channels)
        self.mlp = ConvMlp(channels, dims)

    def forward(self, x: Tensor, visible: Tensor | None) -> Tensor:
        """Maps (B, C, ...), with a map of ones at visible pixels (B, 1, ...) or None, to the same shape."""
        mixed = self.conv1(self.norm1(x))
        x = x + self.conv2(self.dw_conv(mixed if visible is None else visible * mixed))
        return x + self.mlp(self.norm2(x))


class Stage(nn.Module):
    """Strided convolution, norm, GELU, blocks."""

    def __init__(self, channels: int, out: int, kernel: Sequence[int], n_blocks: int) -> None:
        super().__init__()
        dims = len(kernel)
        self.patch_embed = nn.ModuleDict(
            {"conv": conv(dims)(channels, out, kernel, stride=kernel), "norm": ChannelNorm(out)}
        )
        self.conv = nn.ModuleList(ConvBlock(out, dims) for _ in range(n_blocks))

    def forward(self, x: Tensor, visible: Tensor | None) -> Tensor:
        """Maps (B, C, ...) to the next, coarser map."""
        x = F.gelu(self.patch_embed["norm"](self.patch_embed["conv"](x)))
        for block in self.conv:
            x = block(x, visible)
        return x


class Stem(nn.Module):
    """One view's stem."""

    def __init__(
        self,
        channels: int,
        widths: Sequence[int],
        kernels: Sequence[Sequence[int]],
        n_blocks: int,
        grid: Sequence[int],
        dim: int,
    ) -> None:
        super().__init__()
        self.kernels, self.grid = kernels, grid
        self.conv_blocks = nn.ModuleList(
            Stage(c, out, kernel, n_blocks)
            for c, out, kernel in zip([channels, *widths[:-1]], widths, kernels[:-1], strict=True)
        )
        pixels = torch.Size(kernels[-1]).numel()
        self.patch_embed = nn.ModuleDict({"proj": nn.Linear(pixels * widths[-1], dim)})
        self.linear = nn.Linear(dim, dim)
        self.register_buffer("pos_embed", torch.zeros(1, torch.Size(grid).numel(), dim))

    def forward(self, x: Tensor, mask: Tensor | None = None) -> tuple[Tensor, list[Tensor]]:
        """Gives all tokens (B, N, D) and the stages' maps; without a mask everything is visible."""
        maps = []
        for i, stage in enumerate(self.conv_blocks):
            x = stage(x, None if mask is None else self._visible(mask, self.kernels[i + 1 :]))
            maps.append(x)
        tokens = self.linear(self.patch_embed["proj"](patches(x, self.kernels[-1])))
        return tokens + self.pos_embed, maps

    def _visible(self, mask: Tensor, kernels: Sequence[Sequence[int]]) -> Tensor:
        visible = (~mask).float().reshape(-1, 1, *self.grid)
        for kernel in kernels:
            for axis, n in enumerate(kernel):
                visible = visible.repeat_interleave(n, dim=axis + 2)
        return visible


def patches(x: Tensor, kernel: Sequence[int]) -> Tensor:
    """Cuts (B, C, X, Y[, Z]) into (B, N, pixels * C), the channel last."""
    dims = len(kernel)
    split = [n for size, k in zip(x.shape[2:], kernel, strict=True) for n in (size // k, k)]
    x = x.reshape(*x.shape[:2], *split)
    x = x.permute(0, *range(2, 2 + 2 * dims, 2), *range(3, 3 + 2 * dims, 2), 1)
    return x.flatten(1 + dims).flatten(1, dims)


class Attention(nn.Module):
    """Attention with separate query and key-value layers."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q, self.kv, self.proj = nn.Linear(dim, dim), nn.Linear(dim, 2 * dim), nn.Linear(dim, dim)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        """Queries (B, N, D) attend to a context (B, M, D)."""
        batch, n, dim = x.shape
        q = self.q(x).reshape(batch, n, self.heads, -1).permute(0, 2, 1, 3)
        k, v = self.kv(context).reshape(batch, -1, 2, self.heads, dim // self.heads).permute(2, 0, 3, 1, 4)
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(batch, n, dim))


class Mlp(nn.Module):
    """Two linear layers."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, N, D) to the same shape."""
        return self.fc2(F.gelu(self.fc1(x)))


class Block(nn.Module):
    """Pre-norm block."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.attn = nn.LayerNorm(dim), Attention(dim, heads)
        self.norm2, self.mlp = nn.LayerNorm(dim), Mlp(dim)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Self-attention without a context."""
        normed = self.norm1(x)
        x = x + self.attn(normed, normed if context is None else context)
        return x + self.mlp(self.norm2(x))


class Encoder(nn.Module):
    """Blocks and a norm, with or without a class token."""

    def __init__(self, dim: int, depth: int, heads: int, cls: bool) -> None:
        super().__init__()
        if cls:
            self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.blocks = nn.ModuleList(Block(dim, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(dim)


class Fusion(nn.Module):
    """Brings every stage's whole map to the patch grid."""

    def __init__(self, widths: Sequence[int], kernels: Sequence[Sequence[int]], dim: int) -> None:
        super().__init__()
        downs = []
        for i, width in enumerate(widths):
            kernel = tuple(torch.tensor(kernels[i + 1 :]).prod(dim=0).tolist())
            downs.append(conv(len(kernel))(width, dim, kernel, stride=kernel))
        self.down_convs = nn.ModuleList(downs)
        self.norm = nn.LayerNorm(dim)

    def forward(self, tokens: Tensor, maps: Sequence[Tensor], mask: Tensor) -> Tensor:
        """Adds the visible patches' values to the visible tokens."""
        for down, x in zip(self.down_convs, maps, strict=True):
            tokens = tokens + keep(down(x).flatten(2).transpose(1, 2), ~mask)
        return self.norm(tokens)


class Embed(nn.Module):
    """A view's decoder position table and mask token."""

    def __init__(self, n: int, dim: int) -> None:
        super().__init__()
        self.register_buffer("pos_embed", torch.zeros(1, n, dim))
        self.mask_token = nn.Parameter(torch.zeros(1, 1, dim))


def keep(tokens: Tensor, where: Tensor) -> Tensor:
    """Picks tokens (B, N, D) by a boolean (B, N), as many per sample."""
    return tokens[where].reshape(tokens.shape[0], -1, tokens.shape[-1])


class ReferenceMae(nn.Module):
    """The published masked autoencoder with a cross-attention decoder, dense.

    Args:
        grids: View -> tokens along each axis.
        kernels: View -> kernels of the convolution stages and of the patch embedding.
        channels: Input channels.
        widths: Channels of the convolution stages.
        n_blocks: Convolution blocks per stage.
        enc: Encoder width, depth and heads.
        dec: Decoder width, depth and heads.
    """

    def __init__(
        self,
        grids: Mapping[str, Sequence[int]],
        kernels: Mapping[str, Sequence[Sequence[int]]],
        channels: int = 1,
        widths: Sequence[int] = (64, 128),
        n_blocks: int = 2,
        enc: tuple[int, int, int] = (768, 12, 12),
        dec: tuple[int, int, int] = (512, 8, 16),
    ) -> None:
        super().__init__()
        self.patch = {view: torch.tensor(kernels[view]).prod(dim=0).tolist() for view in grids}
        self.enc_down_dict = nn.ModuleDict(
            {view: Stem(channels, widths, kernels[view], n_blocks, grids[view], enc[0]) for view in grids}
        )
        self.enc_fusion_dict = nn.ModuleDict({view: Fusion(widths, kernels[view], enc[0]) for view in grids})
        self.encoder = Encoder(*enc, cls=True)
        self.dec_linear = nn.Linear(enc[0], dec[0])
        self.dec_embed_dict = nn.ModuleDict({view: Embed(torch.Size(grids[view]).numel(), dec[0]) for view in grids})
        self.decoder = Encoder(*dec, cls=False)
        self.pred_head_dict = nn.ModuleDict(
            {view: nn.Linear(dec[0], torch.Size(self.patch[view]).numel() * channels) for view in grids}
        )

    def forward(self, images: Mapping[str, Tensor], masks: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Gives the loss and the predictions of the masked patches of each view."""
        batch = len(next(iter(images.values())))
        stems = {view: self.enc_down_dict[view](image, masks[view]) for view, image in images.items()}
        tokens = [keep(stems[view][0], ~masks[view]) for view in images]
        x = torch.cat([self.encoder.cls_token.expand(batch, -1, -1), *tokens], dim=1)
        for block in self.encoder.blocks:
            x = block(x)
        cls, *parts = self.encoder.norm(x).split([1, *[t.shape[1] for t in tokens]], dim=1)
        fused = [
            self.enc_fusion_dict[view](part, stems[view][1], masks[view])
            for view, part in zip(images, parts, strict=True)
        ]
        sizes = [1, *[part.shape[1] for part in fused]]
        cls, *parts = self.dec_linear(torch.cat([cls, *fused], dim=1)).split(sizes, dim=1)
        queries, context = [cls], []
        for view, part in zip(images, parts, strict=True):
            embed = self.dec_embed_dict[view]
            position = embed.pos_embed.expand(batch, -1, -1)
            context.append(part + keep(position, ~masks[view]))
            queries.append(embed.mask_token + keep(position, masks[view]))
        counts = [query.shape[1] for query in queries[1:]]
        x, seen = torch.cat(queries, dim=1), torch.cat(context, dim=1)
        for block in self.decoder.blocks:
            x = block(x, seen)
        x = self.decoder.norm(x[:, -sum(counts) :])
        predictions, losses = {}, []
        for view, part in zip(images, x.split(counts, dim=1), strict=True):
            predictions[view] = self.pred_head_dict[view](part)
            target = keep(patches(images[view], self.patch[view]), masks[view])
            losses.append((predictions[view] - target).square().mean())
        return torch.stack(losses).mean(), predictions
