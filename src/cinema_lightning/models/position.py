"""Fixed sine-cosine position tables.

The tables of the published checkpoints were built with numpy's default ('xy') mesh grid, so that row number
``(j * n0 + i) * n2 + k`` holds ``i`` in the first block of channels and ``j`` in the second, while tokens count in
(x, y, z) order. They are rebuilt here just so, because the weights were trained with them.

A stack of fewer slices than the table takes the table's first entries along z: images are padded at the end, so that
its slices lie where they lie in a padded one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F


def sincos_table(grid: Sequence[int], dim: int) -> Tensor:
    """Builds the position table of a grid of tokens.

    Each of the n axes gets ``floor(dim / n)`` channels, rounded down to even: first the sines, then the cosines, at
    frequencies ``10000 ** (-i / (d / 2))``. Channels left over are zero.

    Args:
        grid: Tokens along each axis.
        dim: Width of the tokens.

    Returns:
        Table (1, prod(grid), dim), float32, always on the CPU.
    """
    per_axis = dim // len(grid) // 2 * 2
    half = per_axis // 2
    table = np.zeros((math.prod(grid), dim))
    frequencies = 10000.0 ** (-np.arange(half) / max(half, 1))
    positions = np.meshgrid(*[np.arange(n, dtype=np.float64) for n in grid])
    for axis, position in enumerate(positions):
        angles = position.reshape(-1, 1) * frequencies
        block = np.concatenate([np.sin(angles), np.cos(angles)], axis=1)
        table[:, axis * per_axis : (axis + 1) * per_axis] = block
    return torch.from_numpy(table.astype(np.float32))[None]


def interpolate_table(table: Tensor, grid: Sequence[int], new_grid: Sequence[int]) -> Tensor:
    """Resamples a position table to another grid: bicubic in 2D, trilinear in 3D, corners not aligned.

    Args:
        table: (1, prod(grid), dim), read as a map over (x, y[, z]).
        grid: Tokens along each axis of the table.
        new_grid: Tokens along each axis wanted.

    Returns:
        Table (1, prod(new_grid), dim); the same tensor if the grids are equal.
    """
    if tuple(grid) == tuple(new_grid):
        return table
    dim = table.shape[-1]
    maps = table.float().transpose(1, 2).reshape(1, dim, *grid)
    mode = "bicubic" if len(grid) == 2 else "trilinear"
    maps = F.interpolate(maps, size=tuple(new_grid), mode=mode, align_corners=False, antialias=False)
    return maps.flatten(2).transpose(1, 2).to(table.dtype)


class PositionTable(nn.Module):
    """A position table kept in checkpoints, never trained.

    Args:
        grid: Tokens along each axis.
        dim: Width of the tokens.
    """

    table: Tensor

    def __init__(self, grid: Sequence[int], dim: int) -> None:
        super().__init__()
        self.grid = tuple(grid)
        table = sincos_table(grid, dim)
        self.register_buffer("table", table.to(torch.get_default_device()))

    def forward(self, grid: Sequence[int]) -> Tensor:
        """Returns the table (1, n, dim) for a grid of tokens.

        Of a grid with fewer slices, the first entries along z; interpolated where the grid is another in plane or
        deeper.
        """
        table, own = self.table, self.grid
        if len(own) == 3 and grid[2] < own[2]:
            table = table.unflatten(1, own)[:, :, :, : grid[2]].flatten(1, 3)
            own = (*own[:2], grid[2])
        return interpolate_table(table, own, grid)
