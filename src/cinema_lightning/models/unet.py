"""The U-Net baseline of the published system: pre-activation residual blocks, additive skips (arXiv 2506.00679)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from torch import Tensor, nn

_CONV: dict[int, Any] = {2: nn.Conv2d, 3: nn.Conv3d}
_UP: dict[int, Any] = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
_NORM: dict[int, Any] = {2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}


class PreActivationBlock(nn.Module):
    """Twice instance norm, GELU and 3 x 3[x 3] convolution, dropout before the second; a shortcut around them.

    Args:
        channels: Channels.
        dims: Spatial dimensions.
        dropout: Rate of dropout.
    """

    def __init__(self, channels: int, dims: int, dropout: float) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            _NORM[dims](channels, affine=True),
            nn.GELU(),
            _CONV[dims](channels, channels, 3, padding=1),
            _NORM[dims](channels, affine=True),
            nn.GELU(),
            nn.Dropout(dropout),
            _CONV[dims](channels, channels, 3, padding=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, C, X, Y[, Z]) to the same shape."""
        return x + self.branch(x)


class ResidualUNet(nn.Module):
    """A U-Net of one view.

    Args:
        in_channels: Input channels.
        classes: Classes per voxel.
        channels: Channels of the levels, fine to coarse; the first is at full size.
        scale: Kernel and stride between levels.
        dropout: Rate of dropout in the blocks.
    """

    def __init__(
        self, in_channels: int, classes: int, channels: Sequence[int], scale: Sequence[int], dropout: float = 0.1
    ) -> None:
        super().__init__()
        dims, step = len(scale), tuple(scale)

        def level(width: int) -> nn.Sequential:
            return nn.Sequential(*[PreActivationBlock(width, dims, dropout) for _ in range(2)])

        self.stem = nn.Sequential(
            _CONV[dims](in_channels, channels[0], 3, padding=1),
            _NORM[dims](channels[0], affine=True),
            nn.GELU(),
        )
        pairs = list(pairwise(channels))
        self.down_levels = nn.ModuleList(level(width) for width in channels)
        self.downs = nn.ModuleList(_CONV[dims](a, b, step, stride=step) for a, b in pairs)
        self.ups = nn.ModuleList(_UP[dims](b, a, step, stride=step) for a, b in reversed(pairs))
        self.up_levels = nn.ModuleList(level(width) for width, _ in reversed(pairs))
        self.head = _CONV[dims](channels[0], classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Maps images (B, C, X, Y[, Z]), sizes multiples of all scales together, to logits (B, classes, X, Y[, Z])."""
        x = self.down_levels[0](self.stem(x))
        skips = []
        for down, level in zip(self.downs, self.down_levels[1:], strict=True):
            skips.append(x)
            x = level(down(x))
        for up, level in zip(self.ups, self.up_levels, strict=True):
            x = level(up(x) + skips.pop())
        return self.head(x)
