"""The dense decoder of ConvUNetR, written for channels-last maps (B, X, Y[, Z], C).

Convolutions of kernel 1, or of kernel = stride, are linear layers on rows of channels; the channel norm is a plain
layer norm over the last axis; only the 3 x 3[x 3] convolutions go through torch's convolutions, on views that are
channels-last in memory, so that no map is ever copied only to change its layout.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from cinema_lightning.models.blocks import CHANNEL_NORM_EPS, PatchConv, PointwiseConv, add, gelu, run
from cinema_lightning.models.patches import nested_patches
from cinema_lightning.models.sizes import Norm

INSTANCE_NORM_EPS = 1e-5


def map_conv(in_channels: int, out_channels: int, dims: int, flat: bool = False) -> nn.Conv2d | nn.Conv3d:
    """A 3 x 3[x 3] convolution with same padding, its weights channels-last in memory; run it with :func:`convolve`.

    A flat one looks at no neighbouring slices: 3 x 3 x 1.
    """
    depth = 1 if flat else 3
    conv: nn.Conv2d | nn.Conv3d = (
        nn.Conv2d(in_channels, out_channels, 3, padding=1)
        if dims == 2
        else nn.Conv3d(in_channels, out_channels, (3, 3, depth), padding=(1, 1, depth // 2))
    )
    layout = torch.channels_last if dims == 2 else torch.channels_last_3d
    conv.weight.data = conv.weight.data.contiguous(memory_format=layout)
    return conv


def convolve(conv: nn.Module, maps: Tensor) -> Tensor:
    """Runs a convolution module on channels-last maps (B, X, Y[, Z], C)."""
    out: Tensor = conv(maps.movedim(-1, 1))
    return out.movedim(1, -1)


class InstanceNorm(nn.Module):
    """Instance norm of channels-last maps: each sample's channels to mean 0 and variance 1, then scaled and shifted.

    Args:
        channels: Channels.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        # not weight and bias: weights that were trained with layer norms would seem to fit, and the other way round
        self.scale = nn.Parameter(torch.ones(channels))
        self.shift = nn.Parameter(torch.zeros(channels))

    def forward(self, maps: Tensor) -> Tensor:
        """Maps (B, X, Y[, Z], C) to the same shape."""
        with torch.autocast(maps.device.type, enabled=False):
            rows = maps.flatten(1, -2).float()
            normed: Tensor = _Normalised.apply(rows, self.scale.float(), self.shift.float())
            return normed.view(maps.shape).to(maps.dtype)


class _Normalised(torch.autograd.Function):
    """Rows (B, N, C) normalised over N, scaled and shifted; half the time of torch's ops one by one on a CPU."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        centred = rows - rows.mean(1, keepdim=True)
        rate = torch.rsqrt((centred * centred).mean(1, keepdim=True) + INSTANCE_NORM_EPS)
        normed = centred.mul_(rate)
        ctx.save_for_backward(normed, rate, scale)
        return torch.addcmul(shift, normed, scale)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        normed, rate, scale = ctx.saved_tensors
        along, total = (grad * normed).sum(1, keepdim=True), grad.sum(1, keepdim=True)
        n = grad.shape[1]
        rows = torch.addcmul(grad - total / n, normed, along, value=-1 / n).mul_(rate * scale)
        return rows, along.sum((0, 1)), total.sum((0, 1))


def norm_of(channels: int, norm: Norm) -> nn.Module:
    """A norm of channels-last maps."""
    return InstanceNorm(channels) if norm == "instance" else nn.LayerNorm(channels, eps=CHANNEL_NORM_EPS)


class PatchUpConv(nn.Module):
    """A transposed convolution whose kernel equals its stride.

    Args:
        in_channels: Input channels.
        out_channels: Output channels.
        kernel: Kernel and stride, one number per spatial dimension.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel: Sequence[int]) -> None:
        super().__init__()
        self.kernel = tuple(kernel)
        pixels = math.prod(self.kernel)
        self.weight = nn.Parameter(torch.empty(pixels * out_channels, in_channels))
        self.bias = nn.Parameter(torch.empty(out_channels))
        bound = 1 / math.sqrt(pixels * out_channels)  # torch's own bound of a transposed convolution
        nn.init.uniform_(self.weight, -bound, bound)
        nn.init.uniform_(self.bias, -bound, bound)

    def forward(self, maps: Tensor, skip: Tensor | None = None) -> Tensor:
        """Enlarges maps.

        Args:
            maps: (B, X, Y[, Z], in_channels).
            skip: Maps of the enlarged size to add, (B, X * kx, Y * ky[, Z * kz], out_channels).

        Returns:
            Maps of the enlarged size.
        """
        batch, *size, _ = maps.shape
        dims = len(size)
        pixels = F.linear(maps, self.weight, self.bias.repeat(math.prod(self.kernel)))
        pixels = pixels.unflatten(-1, (*self.kernel, -1))
        order = [axis for i in range(dims) for axis in (1 + i, 1 + dims + i)]
        nested = pixels.permute(0, *order, 2 * dims + 1)
        if skip is not None:
            # adding in nested order puts the pixels in place without a copy of their own
            nested = add(skip.reshape(nested.shape), nested)
        return nested.reshape(batch, *[n * k for n, k in zip(size, self.kernel, strict=True)], -1)


class ResidualBlock(nn.Module):
    """Norm, GELU, convolution, norm, GELU, dropout, convolution, and a shortcut of kernel 1 where channels differ.

    Args:
        in_channels: Input channels.
        out_channels: Output channels.
        dims: Spatial dimensions.
        dropout: Rate of dropout before the second convolution.
        checkpointing: Keep only the input of each half for the backward pass, which computes norms, GELUs and dropout
            again; the convolutions, which are nearly all of the time, are not computed twice.
        norm: Kind of both norms.
        flat: Convolutions of stacks look at no neighbouring slices.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        dims: int,
        dropout: float = 0.0,
        checkpointing: bool = False,
        norm: Norm = "layer",
        flat: bool = False,
    ) -> None:
        super().__init__()
        self.checkpointing = checkpointing
        self.norm1 = norm_of(in_channels, norm)
        self.conv1 = map_conv(in_channels, out_channels, dims, flat)
        self.norm2 = norm_of(out_channels, norm)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = map_conv(out_channels, out_channels, dims, flat)
        same = in_channels == out_channels
        self.shortcut = nn.Identity() if same else PointwiseConv(in_channels, out_channels, dims)

    def forward(self, maps: Tensor) -> Tensor:
        """Maps (B, X, Y[, Z], in_channels) to (B, X, Y[, Z], out_channels)."""
        return add(self.branch(maps), self.shortcut(maps))

    def branch(self, maps: Tensor) -> Tensor:
        """What the block adds to its shortcut."""
        # half by half: torch stops computing again at the convolution, the last of each half that wants its input
        x = run(self._first, maps, checkpointing=self.checkpointing)
        return run(self._second, x, checkpointing=self.checkpointing)

    def _first(self, maps: Tensor) -> Tensor:
        return convolve(self.conv1, gelu(self.norm1(maps)))

    def _second(self, maps: Tensor) -> Tensor:
        return self._last(gelu(self.norm2(maps)))

    def _last(self, maps: Tensor) -> Tensor:
        return convolve(self.conv2, self.dropout(maps))


class ImageBlock(ResidualBlock):
    """The residual block on the image itself.

    The layer norm of a single channel is a constant, so with one input channel the branch does not depend on the image
    (the published weights were trained so, and it is kept). Two 3 x 3[x 3] convolutions of a constant differ from
    their value inside only within two voxels of the border. The branch is therefore worked out on five voxels per axis
    and spread over the map: the same numbers, without two convolutions at full size. With dropout, which is drawn for
    each voxel, this goes as far as the dropout.
    """

    def forward(self, maps: Tensor) -> Tensor:
        """Maps (B, X, Y[, Z], C) to (B, X, Y[, Z], out_channels)."""
        if maps.shape[-1] > 1 or not isinstance(self.norm1, nn.LayerNorm):
            return super().forward(maps)
        size = maps.shape[1:-1]
        x = self._first(maps.new_zeros(1, *[min(n, 5) for n in size], 1))
        if self.training and self.dropout.p > 0:
            x = run(self._spread, x, (len(maps), *size), checkpointing=self.checkpointing)
        elif torch.is_grad_enabled():
            x = spread(self._second(x), size)
        else:
            return _add_spread(self.shortcut(maps), self._second(x))
        return x + self.shortcut(maps)

    def _spread(self, maps: Tensor, shape: Sequence[int]) -> Tensor:
        """The second half, of the first one on five voxels per axis."""
        full = spread(gelu(self.norm2(maps)), shape[1:])
        return self._last(full.expand(shape[0], *full.shape[1:]))


def spread(maps: Tensor, size: Sequence[int]) -> Tensor:
    """Spreads a map that is the same but for the two voxels at each border, known on five voxels per axis.

    Args:
        maps: (B, x, y[, z], C), of each axis 5 voxels or, where the map has no more, all.
        size: X, Y[, Z], the size of the map.

    Returns:
        (B, X, Y[, Z], C).
    """
    for axis in range(len(size), 0, -1):  # the longest copies last
        if (n := size[axis - 1]) > 5:
            first, inside, last = maps.split([2, 1, 2], dim=axis)
            shape = [*maps.shape]
            shape[axis] = n - 4
            maps = torch.cat([first, inside.expand(shape), last], dim=axis)
    return maps


def _add_spread(maps: Tensor, five: Tensor) -> Tensor:
    """Adds what :func:`spread` would make to maps (B, X, Y[, Z], C), in their memory."""
    size = maps.shape[1:-1]
    other = spread(five, [min(size[0], 5), *size[1:]])
    if size[0] <= 5:
        return maps.add_(other)
    # the first axis is spread by broadcasting, so that no second map of full size is made
    for voxels, part in ((slice(2), slice(2)), (slice(2, -2), slice(2, 3)), (slice(-2, None), slice(3, 5))):
        maps[:, voxels] += other[:, part]
    return maps


class UpLevel(nn.Module):
    """One step up: a transposed convolution, the skip added, residual blocks.

    Args:
        in_channels: Channels of the coarser level.
        out_channels: Channels of this level.
        kernel: Scale between them.
        checkpointing: See :class:`ResidualBlock`.
        norm: Kind of the blocks' norms.
        n_blocks: Number of residual blocks.
        flat: See :class:`ResidualBlock`.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: Sequence[int],
        checkpointing: bool = False,
        norm: Norm = "layer",
        n_blocks: int = 2,
        flat: bool = False,
    ) -> None:
        super().__init__()
        self.up = PatchUpConv(in_channels, out_channels, kernel)
        self.blocks = nn.ModuleList(
            ResidualBlock(out_channels, out_channels, len(kernel), checkpointing=checkpointing, norm=norm, flat=flat)
            for _ in range(n_blocks)
        )

    def forward(self, maps: Tensor, skip: Tensor | None) -> Tensor:
        """Maps (B, X, Y[, Z], in_channels), with the skip of this level or None, to this level's maps."""
        maps = self.up(maps, skip)
        for block in self.blocks:
            maps = block(maps)
        return maps


class ViewDecoder(nn.Module):
    """From one view's image, stage maps and tokens to features at full size.

    Levels are numbered by how often the image was scaled down: the image is level 0, the first stage level
    ``first_level``, later stages, the tokens and their strided convolution one level each.

    Args:
        in_channels: Image channels.
        conv_channels: Channels of the stem's stages.
        dim: Width of the tokens.
        dec_channels: Channels of levels 1, 2, ...; level 0 has those of level 1.
        scale: Scale between levels.
        first_level: Level of the first stage.
        dropout: Rate of dropout in the skips.
        checkpointing: See :class:`ResidualBlock`.
        norm: Kind of the blocks' norms.
        n_blocks: Residual blocks of each level going up.
        side_levels: How many levels below the full size are given beside it in training (deep supervision).
        flat_levels: How many of the finest levels, the full size first, look at no neighbouring slices.
        carry: The skip of each level also sees that of the finer one, as an encoder of convolutions would.
    """

    def __init__(
        self,
        in_channels: int,
        conv_channels: Sequence[int],
        dim: int,
        dec_channels: Sequence[int],
        scale: Sequence[int],
        first_level: int,
        dropout: float = 0.0,
        checkpointing: bool = False,
        norm: Norm = "layer",
        n_blocks: int = 2,
        side_levels: int = 0,
        flat_levels: int = 0,
        carry: bool = False,
    ) -> None:
        super().__init__()
        dims = len(scale)
        self.first_level = first_level
        self.side_levels = side_levels
        finer = (dec_channels[0], *dec_channels)
        self.image = ImageBlock(in_channels, finer[0], dims, dropout, checkpointing, norm, flat_levels > 0)
        self.down = PatchConv(dim, dim, scale)
        widths, wanted = (*conv_channels, dim, dim), dec_channels[first_level - 1 :]
        self.skips = nn.ModuleList(
            ResidualBlock(a, b, dims, dropout, checkpointing, norm, level < flat_levels)
            for level, (a, b) in enumerate(zip(widths, wanted, strict=True), first_level)
        )
        # a sum of branches of instance norms has no scale of its own, and gets one before the head
        self.end = norm_of(finer[0], norm) if norm == "instance" else None
        steps = [[k**first_level for k in scale], *[scale] * (len(widths) - 1)]
        sources = zip((finer[0], *wanted), widths, steps, strict=False) if carry else ()
        self.carries = nn.ModuleList(PatchConv(a, b, step) for a, b, step in sources)
        self.ups = nn.ModuleList(
            UpLevel(dec_channels[i], finer[i], scale, checkpointing, norm, n_blocks, i < flat_levels)
            for i in reversed(range(len(dec_channels)))
        )

    def forward(self, image: Tensor, stages: Sequence[Tensor], tokens: Tensor) -> list[Tensor]:
        """Decodes one view.

        Args:
            image: (B, X, Y[, Z], C).
            stages: The stem stages' maps, channels last, fine to coarse.
            tokens: Encoded tokens on their grid, (B, x, y[, z], D).

        Returns:
            The maps at full size, (B, X, Y[, Z], dec_channels[0]); in training, ``side_levels`` coarser ones after
            them, of dec_channels[0], dec_channels[1], ... channels.
        """
        skips = self._skips(image, [*stages, tokens])
        x, sides = skips.pop(), self.side_levels if self.training else 0
        kept: list[Tensor] = []
        for level, up in zip(reversed(range(len(self.ups))), self.ups, strict=True):
            x = up(x, skips.pop())
            if level <= sides:
                kept.append(x)
        if self.end is not None:
            kept[-1] = gelu(self.end(kept[-1]))
        return kept[::-1]

    def _skips(self, image: Tensor, sources: Sequence[Tensor]) -> list[Tensor | None]:
        """What each level adds on the way up, fine to coarse; the last is where that way begins."""
        given = [image, *sources, _strided(self.down, sources[-1])]
        blocks = [self.image, *self.skips]
        if len(self.carries):
            made = [self.image(image)]
            for block, source, carry in zip(self.skips, given[1:], self.carries, strict=True):
                made.append(block(add(source, _strided(carry, made[-1]))))
        else:  # coarse to fine, the order in which dropout was always drawn
            made = [block(source) for block, source in zip(blocks[::-1], given[::-1], strict=True)][::-1]
        return [made[0], *[None] * (self.first_level - 1), *made[1:]]


def _strided(conv: nn.Module, maps: Tensor) -> Tensor:
    """Maps (B, X, Y[, Z], C) by a convolution whose kernel is its stride."""
    assert isinstance(conv, PatchConv)
    grid = [n // k for n, k in zip(maps.shape[1:-1], conv.kernel, strict=True)]
    return conv(nested_patches(maps, [conv.kernel]).flatten(2)).unflatten(1, grid)
