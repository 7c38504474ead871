"""Images on the device plane by plane, (B, C, Z, X, Y), as stacks lie in memory: true sizes, grey levels, resampling.

A rotation in plane is then one two-dimensional sampling whose channels are the slices, and together with the crop it is
one resampling.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

Sampling = Callable[[Tensor, Tensor, Tensor], Tensor]


def as_planes(images: Tensor) -> Tensor:
    """(B, C, X, Y[, Z]) as (B, C, Z, X, Y), a view."""
    return images.movedim(4, 2) if images.ndim == 5 else images.unsqueeze(2)


def inside(size: Tensor, planes: Tensor) -> Tensor:
    """(B, 1, Z, X, Y) bool, true within the true sizes (B, 2 or 3), x, y[, z]."""
    deep = size[:, 2:] if size.shape[1] == 3 else size.new_ones(len(size), 1)
    return _box_mask(torch.cat([deep, size[:, :2]], 1), planes.shape[2:])[:, None]


def grey_range(planes: Tensor, true: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Minimum and maximum of each sample within its true size, (B, 1, 1, 1, 1). Padding is 0, images are not below."""
    around = tuple(range(1, planes.ndim))
    high = planes.amax(around, keepdim=True)
    low = planes if true is None else planes.masked_fill(~true, math.inf)
    return low.amin(around, keepdim=True), high


def unit(planes: Tensor, true: Tensor | None = None) -> Tensor:
    """Scales each sample by its own minimum and maximum; padding stays 0, constant images become 0."""
    low, high = grey_range(planes, true)
    scaled = (planes - low) / torch.where(high > low, high - low, 1.0)
    return scaled if true is None else scaled.masked_fill_(~true, 0)


def place(planes: Tensor, out: Tensor, plan: dict[str, Any], sample: Sampling) -> None:
    """Crops and moves images into those of the network's input size.

    Args:
        planes: (B, C, Z, X, Y).
        out: The same of the input size, zeros.
        plan: ``first_slice`` (B,); ``cropped``: neighbouring samples that are copied, as (first, end, x, y); ``moved``
            (M,): the samples that are sampled, at ``source`` (M, 2, 3), within ``moved_size`` (M, 2).
        sample: :func:`sample_linear` or :func:`sample_nearest`.
    """
    depth = out.shape[2]
    if planes.shape[2] > depth:
        slices = plan["first_slice"][:, None] + torch.arange(depth, device=planes.device)
        slices = slices.clamp(max=planes.shape[2] - 1)[:, None, :, None, None]
        planes = planes.take_along_dim(slices.expand(*planes.shape[:2], -1, *planes.shape[3:]), dim=2)
    deep, wide, high = (min(pair) for pair in zip(planes.shape[2:], out.shape[2:], strict=True))
    for first, end, x, y in plan["cropped"]:
        out[first:end, :, :deep, :wide, :high] = planes[first:end, :, :, x : x + wide, y : y + high]
    moved = plan["moved"]
    if len(moved):
        places = _places(plan["source"], wide, high)
        kept = _box_mask(plan["moved_size"], (wide, high))
        values = sample(planes.index_select(0, moved).flatten(1, 2), places, kept)
        values = values.view(len(moved), planes.shape[1], deep, wide, high)
        out[:, :, :deep, :wide, :high].index_copy_(0, moved, values)


def sample_linear(planes: Tensor, places: Tensor, kept: Tensor) -> Tensor:
    """Linear between pixels and zeros outside: (B, N, X, Y) at (B, X', Y', 2), to (B, N, X', Y')."""
    # grid_sample counts the last axis first.
    x, y = (place * (2 / max(n - 1, 1)) - 1 for place, n in zip(places.unbind(-1), planes.shape[2:], strict=True))
    grid = torch.stack([y, x], dim=-1)
    return F.grid_sample(planes, grid, padding_mode="zeros", align_corners=True) * kept[:, None]


def sample_nearest(planes: Tensor, places: Tensor, kept: Tensor) -> Tensor:
    """The nearest pixel and zeros outside, in the type of the labels; shapes as in :func:`sample_linear`."""
    width, height = planes.shape[2:]
    x, y = (places + 0.5).floor().long().unbind(-1)
    within = (x >= 0) & (x < width) & (y >= 0) & (y < height) & kept
    index = torch.where(within, x * height + y, 0).flatten(1)[:, None]
    values = planes.flatten(2).gather(2, index.expand(-1, planes.shape[1], -1))
    return values.view(*planes.shape[:2], *x.shape[1:]) * within[:, None]


def _box_mask(sizes: Tensor, shape: Sequence[int]) -> Tensor:
    """(B, *shape) bool, true within the sizes (B, axes)."""
    mask = torch.ones((), dtype=torch.bool, device=sizes.device)
    for axis, n in enumerate(shape):
        along = torch.arange(n, device=sizes.device) < sizes[:, axis, None]
        mask = mask & along.view(len(sizes), *(n if a == axis else 1 for a in range(len(shape))))
    return mask


def _places(source: Tensor, width: int, height: int) -> Tensor:
    """Where each pixel of the result comes from: (B, 2, 3) matrices to (B, X, Y, 2) image coordinates."""
    x = torch.arange(width, device=source.device, dtype=source.dtype)[None, :, None, None]
    y = torch.arange(height, device=source.device, dtype=source.dtype)[None, None, :, None]
    columns = source[:, None, None]
    return columns[..., 0] * x + columns[..., 1] * y + columns[..., 2]
