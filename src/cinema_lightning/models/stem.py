"""From one view's images to tokens: convolution stages, patch embedding, position.

The stem runs in one of two ways that give the same numbers at visible patches. The dense way computes whole maps,
as is needed without masking. The visible-only way keeps rows of the visible patches' pixels and builds a map only
for the depth-wise convolutions: the masks are constant over each token's patch and no strided convolution crosses a
patch's border, so nothing else at masked positions reaches anything visible.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from cinema_lightning.models.blocks import (
    CHANNEL_NORM_EPS,
    DepthwiseConv,
    MaskedConvBlock,
    Mixer,
    PatchConv,
    gelu,
    run,
)
from cinema_lightning.models.patches import Selection, nested_patches, pixel_index, take
from cinema_lightning.models.position import PositionTable
from cinema_lightning.models.sizes import ViewGeometry, product


@dataclass
class StemOutput:
    """What one view's stem gives.

    Attributes:
        tokens: (B, n, D), all tokens or the visible ones, position added.
        stages: Each convolution stage's output, channels last: whole maps (B, X, Y[, Z], C), or with
            ``visible_only`` (B, n_visible, pixels per patch, C) in coarse-to-fine order.
        selection: The mask in use, if any.
        visible_only: True if the masked positions were skipped.
    """

    tokens: Tensor
    stages: list[Tensor]
    selection: Selection | None
    visible_only: bool


class ConvStage(nn.Module):
    """A strided convolution, channel norm and GELU, then masked convolution blocks.

    Args:
        in_channels: Input channels.
        out_channels: Output channels.
        kernel: Kernel and stride of the first convolution.
        n_blocks: Number of masked convolution blocks.
        checkpointing: Compute the blocks' activations again in the backward pass.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel: Sequence[int], n_blocks: int, checkpointing: bool = False
    ) -> None:
        super().__init__()
        self.checkpointing = checkpointing
        self.down = PatchConv(in_channels, out_channels, kernel)
        self.norm = nn.LayerNorm(out_channels, eps=CHANNEL_NORM_EPS)
        self.blocks = nn.ModuleList(MaskedConvBlock(out_channels, len(kernel)) for _ in range(n_blocks))

    def forward(self, patches: Tensor, mix: Mixer, shape: Sequence[int]) -> Tensor:
        """Runs the stage.

        Args:
            patches: (..., kernel pixels * in_channels), the pixels under each kernel.
            mix: Runs a depth-wise convolution on features of this layout.
            shape: Shape to give the features before the blocks, without channels.

        Returns:
            (*shape, out_channels).
        """
        x = gelu(self.norm(self.down(patches))).reshape(*shape, -1)
        for block in self.blocks:
            x = run(block, x, mix, checkpointing=self.checkpointing)
        return x


class ViewStem(nn.Module):
    """The stem of one view.

    Args:
        geometry: Input size and kernels.
        channels: Input channels.
        conv_channels: Channels of each convolution stage.
        conv_blocks: Masked convolution blocks per stage.
        dim: Width of the tokens.
        checkpointing: Compute activations again in the backward pass instead of keeping them.
    """

    def __init__(
        self,
        geometry: ViewGeometry,
        channels: int,
        conv_channels: Sequence[int],
        conv_blocks: int,
        dim: int,
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        self.geometry = geometry
        self.channels = channels
        widths = [channels, *conv_channels]
        self.stages = nn.ModuleList(
            ConvStage(widths[i], widths[i + 1], geometry.kernels[i], conv_blocks, checkpointing)
            for i in range(len(conv_channels))
        )
        self.embed = nn.Linear(math.prod(geometry.kernels[-1]) * widths[-1], dim)
        self.linear = nn.Linear(dim, dim)
        self.position = PositionTable(geometry.grid, dim)

    def forward(self, images: Tensor, selection: Selection | None = None, visible_only: bool = True) -> StemOutput:
        """Turns images into tokens.

        Args:
            images: (B, C, X, Y[, Z]), sizes multiples of the patch.
            selection: Which patches are visible; None for all, without masking.
            visible_only: With a selection, skip the masked positions instead of computing whole maps.

        Returns:
            Tokens and the stages' outputs.
        """
        grid = self.geometry.grid_of(images.shape[2:])
        maps = images.movedim(1, -1)
        visible_only = visible_only and selection is not None
        if selection is not None and visible_only:
            patches, stages = self._visible(maps, selection)
        else:
            patches, stages = self._dense(maps, selection)
        tokens = self.linear(self.embed(patches))
        position = self.position(grid)
        if selection is not None:
            position = take(position, selection.visible)
        return StemOutput(tokens + position, stages, selection, visible_only)

    def _dense(self, x: Tensor, selection: Selection | None) -> tuple[Tensor, list[Tensor]]:
        stages = []
        kernels = self.geometry.kernels
        grid = self.geometry.grid_of(x.shape[1:-1])
        for i, stage in enumerate(self.stages):
            size = [n // k for n, k in zip(x.shape[1:-1], kernels[i], strict=True)]
            visible = None
            if selection is not None:
                visible = _spread_mask(~selection.mask, grid, product(kernels[i + 1 :])).to(x.dtype)
            patches = nested_patches(x, kernels[i : i + 1]).flatten(2)
            x = stage(patches, partial(_mix_maps, visible), (x.shape[0], *size))
            stages.append(x)
        patches = nested_patches(x, kernels[-1:]).flatten(2)
        return (patches if selection is None else take(patches, selection.visible)), stages

    def _visible(self, maps: Tensor, selection: Selection) -> tuple[Tensor, list[Tensor]]:
        kernels = self.geometry.kernels
        batch, *size, _ = maps.shape
        n_visible = selection.visible.shape[1]
        x = take(nested_patches(maps, kernels[::-1]), selection.visible)
        stages = []
        for i, stage in enumerate(self.stages):
            size = [n // k for n, k in zip(size, kernels[i], strict=True)]
            index = pixel_index(size, kernels[:i:-1], selection.visible)
            patches = x.reshape(len(index), -1)
            x = stage(patches, partial(_mix_rows, index, (batch, *size)), (len(index),))
            stages.append(x.reshape(batch, n_visible, -1, x.shape[-1]))
        return x.reshape(batch, n_visible, -1), stages


def _spread_mask(patches: Tensor, grid: Sequence[int], pixels: Sequence[int]) -> Tensor:
    """Repeats a value per patch (B, N) over the patch's pixels: (B, X, Y[, Z], 1)."""
    maps = patches.reshape(-1, *grid)
    for axis, n in enumerate(pixels):
        maps = maps.repeat_interleave(n, dim=axis + 1)
    return maps[..., None]


def _mix_maps(visible: Tensor | None, conv: DepthwiseConv, x: Tensor) -> Tensor:
    """Mixer of whole maps (B, X, Y[, Z], C)."""
    return conv(x if visible is None else x * visible)


def _mix_rows(index: Tensor, shape: Sequence[int], conv: DepthwiseConv, rows: Tensor) -> Tensor:
    """Mixer of visible rows (R, C): spreads them over an empty map (*shape, C), convolves, picks them again."""
    rows = rows.float()
    maps = rows.new_zeros(torch.Size(shape).numel(), rows.shape[-1]).index_copy_(0, index, rows)
    return conv(maps.reshape(*shape, -1)).flatten(0, -2).index_select(0, index)
