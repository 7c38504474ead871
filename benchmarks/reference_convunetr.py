"""The yardstick of the dense-inference benchmark: ConvUNetR computed channels first, as published.

Frozen on purpose. Convolutions of kernel 1 are Conv modules, convolutions with kernel = stride and their transposes
are strided Conv modules, the channel norm permutes, norms, permutes back and copies, and every function is a plain
call. It is written from the description of the published network and uses the published key names, so that both
networks can run the same weights; a test compares their numbers. Do not speed it up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cinema_lightning.models.convunetr import ConvUNetR
from cinema_lightning.weights.layout import to_published
from reference_mae import ChannelNorm, Encoder, Stem, conv


class ResidualBlock(nn.Module):
    """Norm, GELU, convolution, twice, and a shortcut."""

    def __init__(self, channels: int, out: int, dims: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.norm1, self.conv1 = ChannelNorm(channels), conv(dims)(channels, out, 3, padding=1)
        self.norm2, self.conv2 = ChannelNorm(out), conv(dims)(out, out, 3, padding=1)
        self.dropout = nn.Dropout(dropout)
        self.shortcut = nn.Identity() if channels == out else conv(dims)(channels, out, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, C, ...) to (B, out, ...)."""
        y = self.conv1(F.gelu(self.norm1(x)))
        y = self.conv2(self.dropout(F.gelu(self.norm2(y))))
        return y + self.shortcut(x)


class UpBlock(nn.Module):
    """Transposed convolution, skip, two residual blocks."""

    def __init__(self, channels: int, out: int, scale: Sequence[int]) -> None:
        super().__init__()
        dims = len(scale)
        transposed = nn.ConvTranspose2d if dims == 2 else nn.ConvTranspose3d
        self.up = transposed(channels, out, kernel_size=tuple(scale), stride=tuple(scale))
        self.conv = nn.ModuleList(ResidualBlock(out, out, dims) for _ in range(2))

    def forward(self, x: Tensor, skip: Tensor | None) -> Tensor:
        """Maps (B, C, ...) to the next, finer map."""
        x = self.up(x)
        if skip is not None:
            x = x + skip
        for block in self.conv:
            x = block(x)
        return x


class UpPath(nn.Module):
    """All levels of one view."""

    def __init__(self, widths: Sequence[int], scale: Sequence[int]) -> None:
        super().__init__()
        finer = (widths[0], *widths)
        self.blocks = nn.ModuleList(UpBlock(widths[i], finer[i], scale) for i in reversed(range(len(widths))))

    def forward(self, x: Tensor, skips: Sequence[Tensor | None]) -> Tensor:
        """Goes up from the coarsest map; skips are fine to coarse."""
        for block, skip in zip(self.blocks, reversed(skips), strict=True):
            x = block(x, skip)
        return x


class ReferenceConvUNetR(nn.Module):
    """The published segmentation network.

    Args:
        grids: View -> tokens along each axis.
        kernels: View -> kernels of the convolution stages and of the patch embedding.
        channels: Input channels.
        classes: Output channels.
        widths: Channels of the convolution stages.
        n_blocks: Convolution blocks per stage.
        enc: Encoder width, depth and heads.
        dec: Channels of the decoder's levels, fine to coarse.
        dropout: Rate of dropout in the skips.
    """

    def __init__(
        self,
        grids: Mapping[str, Sequence[int]],
        kernels: Mapping[str, Sequence[Sequence[int]]],
        channels: int = 1,
        classes: int = 4,
        widths: Sequence[int] = (64, 128),
        n_blocks: int = 2,
        enc: tuple[int, int, int] = (768, 12, 12),
        dec: Sequence[int] = (32, 64, 128, 256, 512),
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.grids = grids
        dim = enc[0]
        self.enc_down_dict = nn.ModuleDict(
            {view: Stem(channels, widths, kernels[view], n_blocks, grids[view], dim) for view in grids}
        )
        self.encoder = Encoder(*enc, cls=True)
        downs, images, skips, ups, heads = {}, {}, {}, {}, {}
        self.n_without_skip = len(dec) - len(widths) - 2
        for view, grid in grids.items():
            dims, scale = len(grid), tuple(kernels[view][-1])
            downs[view] = nn.ModuleList([conv(dims)(dim, dim, scale, stride=scale)])
            images[view] = ResidualBlock(channels, dec[0], dims, dropout)
            skips[view] = nn.ModuleList(
                ResidualBlock(width, out, dims, dropout)
                for width, out in zip((*widths, dim, dim), dec[self.n_without_skip :], strict=True)
            )
            ups[view] = UpPath(dec, scale)
            heads[view] = conv(dims)(dec[0], classes, 1)
        self.dec_down_blocks_dict = nn.ModuleDict(downs)
        self.dec_image_conv_block_dict = nn.ModuleDict(images)
        self.dec_conv_blocks_dict = nn.ModuleDict(skips)
        self.decoder_dict = nn.ModuleDict(ups)
        self.pred_head_dict = nn.ModuleDict(heads)

    def forward(self, images: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Maps view -> (B, C, X, Y[, Z]) to view -> logits (B, classes, X, Y[, Z])."""
        batch = len(next(iter(images.values())))
        stems = {view: self.enc_down_dict[view](image) for view, image in images.items()}
        tokens = [stem[0] for stem in stems.values()]
        x = torch.cat([self.encoder.cls_token.expand(batch, -1, -1), *tokens], dim=1)
        for block in self.encoder.blocks:
            x = block(x)
        _, *parts = self.encoder.norm(x).split([1, *[t.shape[1] for t in tokens]], dim=1)
        logits = {}
        for (view, image), part in zip(images.items(), parts, strict=True):
            encoded = part.transpose(1, 2).reshape(batch, -1, *self.grids[view])
            maps = [*stems[view][1], encoded, self.dec_down_blocks_dict[view][0](encoded)]
            maps = [block(x) for block, x in zip(self.dec_conv_blocks_dict[view], maps, strict=True)]
            *skips, coarsest = maps
            skips = [self.dec_image_conv_block_dict[view](image), *[None] * self.n_without_skip, *skips]
            logits[view] = self.pred_head_dict[view](self.decoder_dict[view](coarsest, skips))
        return logits


def reference_of(model: ConvUNetR) -> ReferenceConvUNetR:
    """Builds the reference with the sizes and weights of a network of this package."""
    geometries = model.encoder.geometries
    transformer = model.encoder.transformer
    decoder = next(iter(model.decoders.values()))
    reference = ReferenceConvUNetR(
        {view: g.grid for view, g in geometries.items()},
        {view: g.kernels for view, g in geometries.items()},
        model.encoder.channels,
        model.classes,
        model.encoder.conv_channels,
        model.encoder.conv_blocks,
        (model.encoder.cls_token.shape[-1], len(transformer.blocks), transformer.blocks[0].attn.heads),
        [up.up.weight.shape[1] for up in reversed(decoder.ups)],
        decoder.image.dropout.p,
    )
    reference.load_state_dict(to_published(model))
    return reference
