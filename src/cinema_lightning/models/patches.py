"""Cutting channels-last maps into patches, and choosing the visible ones.

Maps are (B, X, Y[, Z], C). A patch's pixels can be laid out coarse to fine: all pixels of one coarse step together,
inside them all pixels of the next finer step, and so on. In that order every convolution whose kernel equals its
stride is a plain reshape followed by a linear layer, for any selection of patches.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cinema_lightning.errors import CinemaError


def nested_patches(maps: Tensor, kernels: Sequence[Sequence[int]]) -> Tensor:
    """Cuts a map into patches whose pixels are ordered coarse to fine.

    Args:
        maps: (B, X, Y[, Z], C).
        kernels: Kernels coarse to fine; a patch spans their product.

    Returns:
        (B, n_patches, pixels per patch, C); patches in (x, y, z) order.
    """
    batch, *size, channels = maps.shape
    levels = len(kernels) + 1
    split: list[int] = []
    for axis, n in enumerate(size):
        steps = [kernel[axis] for kernel in kernels]
        split += [n // math.prod(steps), *steps]
    order = [1 + axis * levels + level for level in range(levels) for axis in range(len(size))]
    pixels = math.prod([math.prod(kernel) for kernel in kernels])
    nested = maps.reshape(batch, *split, channels).permute(0, *order, len(order) + 1)
    return nested.reshape(batch, -1, pixels, channels)


def patchify(images: Tensor, patch: Sequence[int]) -> Tensor:
    """Cuts images into patches.

    Args:
        images: (B, C, X, Y[, Z]).
        patch: Size of a patch, voxels.

    Returns:
        (B, n_patches, prod(patch) * C), the channel last.
    """
    return nested_patches(images.movedim(1, -1), [patch]).flatten(2)


def unpatchify(patches: Tensor, grid: Sequence[int], patch: Sequence[int]) -> Tensor:
    """Puts patches together again, the inverse of :func:`patchify`.

    Args:
        patches: (B, n_patches, prod(patch) * C).
        grid: Patches along each axis.
        patch: Size of a patch, voxels.

    Returns:
        Images (B, C, X, Y[, Z]).
    """
    batch, dims = patches.shape[0], len(grid)
    split = patches.reshape(batch, *grid, *patch, -1)
    order = [axis for i in range(dims) for axis in (1 + i, 1 + dims + i)]
    size = [g * p for g, p in zip(grid, patch, strict=True)]
    return split.permute(0, 2 * dims + 1, *order).reshape(batch, -1, *size)


@dataclass(frozen=True)
class Selection:
    """Which patches of one view are visible and which are masked.

    Attributes:
        mask: (B, N), true where masked.
        visible: (B, n_visible) patch numbers, ascending.
        masked: (B, n_masked) patch numbers, ascending.
    """

    mask: Tensor
    visible: Tensor
    masked: Tensor


def select(view: str, mask: Tensor, batch: int, n_patches: int, n_visible: int | None = None) -> Selection:
    """Turns a mask into patch numbers.

    Args:
        view: Name of the view, for messages.
        mask: (B, N) boolean, true = masked; the same number is masked in every sample.
        batch: B.
        n_patches: N.
        n_visible: Patches that are visible, where that is known: then nothing is read back from the device, and a mask
            of another number is refused by the device itself.

    Returns:
        The selection.

    Raises:
        CinemaError: For a wrong shape or type, uneven numbers, or a mask that leaves nothing visible.
    """
    if mask.dtype != torch.bool or mask.shape != (batch, n_patches):
        raise CinemaError(
            f"The mask of view '{view}' must be boolean of shape {(batch, n_patches)}, "
            f"but it is {mask.dtype} of shape {tuple(mask.shape)}."
        )
    if n_visible is None:
        n_visible = n_patches - _count_masked(view, mask)
    else:
        fits = (mask.sum(dim=1) == n_patches - n_visible).all()
        torch._assert_async(fits, f"The mask of view '{view}' must hide {n_patches - n_visible} patches.")
    if n_visible == 0:
        raise CinemaError(f"The mask of view '{view}' hides every patch; leave at least one visible.")
    order = mask.to(torch.uint8).argsort(dim=1, stable=True)
    return Selection(mask, order[:, :n_visible], order[:, n_visible:])


def _count_masked(view: str, mask: Tensor) -> int:
    """Masked patches of each sample, read back from the mask."""
    counts = set(mask.sum(dim=1).tolist())
    if len(counts) > 1:
        raise CinemaError(f"The mask of view '{view}' hides {sorted(counts)} patches; hide as many in every sample.")
    return counts.pop() if counts else 0


def take(values: Tensor, index: Tensor) -> Tensor:
    """Picks entries along axis 1, per sample.

    Args:
        values: (B, N, ...) or (1, N, ...), which then serves every sample.
        index: (B, n) numbers below N.

    Returns:
        (B, n, ...).
    """
    batch, n = index.shape
    flat = values.flatten(0, 1)
    if values.shape[0] != 1:
        index = index + torch.arange(batch, device=index.device)[:, None] * values.shape[1]
    return flat.index_select(0, index.reshape(-1)).unflatten(0, (batch, n))


def pixel_index(size: Sequence[int], kernels: Sequence[Sequence[int]], visible: Tensor) -> Tensor:
    """Numbers the pixels of the visible patches in a batch of maps.

    Args:
        size: Size of the map (X, Y[, Z]).
        kernels: Kernels coarse to fine from the patch to this map's pixels.
        visible: (B, n_visible) patch numbers.

    Returns:
        (B * n_visible * pixels per patch,) row numbers in the map flattened to (B * X * Y * Z, C), in the order of
        :func:`nested_patches`.
    """
    n_pixels = math.prod(size)
    numbers = torch.arange(n_pixels, device=visible.device).reshape(1, *size, 1)
    chosen = take(nested_patches(numbers, kernels).squeeze(-1), visible)
    offsets = torch.arange(visible.shape[0], device=visible.device)[:, None, None] * n_pixels
    return (chosen + offsets).reshape(-1)
