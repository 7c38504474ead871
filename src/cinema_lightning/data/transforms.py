"""What happens to a batch on the device: zoom, scale to [0, 1], crop, pad.

A transform works in two steps: :meth:`Fit.prepare` draws all random numbers and decides all shapes, in the workers that
read the batch; :meth:`Fit.apply` computes on the device. What the device needs of a plan travels as tensors with the
batch, and what decides shapes stays a list of numbers, so that the device never has to be waited for.

A zoom without rotation is separable, so it is done as one small matrix per sample and axis. That is exact at the
borders whatever the padding, gives the same bits each time on a GPU, and costs less than sampling point by point.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cinema_lightning.data.dataset import Batch
from cinema_lightning.data.draws import generator
from cinema_lightning.views import get_view

PLAN = "_plan"
KEYS = "_keys"
Key = tuple[int, str, int]
"""Epoch, id and frame: what the draws of a sample are keyed on."""
# Of the cubic convolution kernel, as torch and monai use it in bicubic interpolation.
_CUBIC = -0.75


class Fit:
    """Scale to [0, 1], crop what is larger than the input (centred), pad at the end: validation, test, prediction.

    Each sample and view is scaled by its own minimum and maximum, over all channels together and within its true
    size. A constant image becomes 0.

    Args:
        input_size: View name -> size of the network's input, (x, y[, z]).
        seed: The run's seed; keys the draws of subclasses.
    """

    def __init__(self, input_size: Mapping[str, Sequence[int]], seed: int = 0) -> None:
        self.input_size = {view: tuple(size) for view, size in input_size.items()}
        self.seed = seed

    def __call__(self, batch: Batch) -> Batch:
        """Both steps at once, see :meth:`prepare` and :meth:`apply`."""
        return self.apply(self.prepare(batch))

    def prepare(self, batch: Batch) -> Batch:
        """Decides on the host what is done to each sample.

        Args:
            batch: The batch of :mod:`cinema_lightning.data.dataset`.

        Returns:
            The batch with the plan added: how each view is computed, and what else of the batch will be otherwise then
            (``V_size`` and ``V_affine`` after a crop). As it is where a worker has planned it.
        """
        if PLAN in batch:
            return batch
        becomes = dict(batch)
        views = {view: self._plan(becomes, view) for view in self.views(batch)}
        changed = {key: value for key, value in becomes.items() if value is not batch[key]}
        return batch | {PLAN: {"views": views, "becomes": changed}, KEYS: sample_keys(batch)}

    def _plan(self, batch: Batch, view: str) -> dict[str, Any]:
        """Plans one view, and changes in the batch what goes with it."""
        target, keys = self.input_size[view], sample_keys(batch)
        sizes = batch[f"{view}_size"].tolist()
        starts = [
            [self.start(key, view, axis, size - target[axis]) for axis, size in enumerate(true)]
            for key, true in zip(keys, sizes, strict=True)
        ]
        batch[f"{view}_size"] = batch[f"{view}_size"].minimum(batch[f"{view}_size"].new_tensor(target))
        batch[f"{view}_affine"] = _moved(batch[f"{view}_affine"], starts)
        return {"sizes": sizes, "starts": starts, **_zooms([self.zoom(key, view) for key in keys], sizes)}

    def apply(self, batch: Batch) -> Batch:
        """Computes what :meth:`prepare` decided, on the device that the batch is on.

        Args:
            batch: What :meth:`prepare` returned.

        Returns:
            The batch with each view float32 in [0, 1] of exactly the input size, (B, C, X, Y[, Z]).
        """
        plan = batch[PLAN]
        batch = {key: value for key, value in batch.items() if key != PLAN} | plan["becomes"]
        for view, own in plan["views"].items():
            # Grey levels need float32, also where the caller runs in bf16 autocast.
            with torch.autocast(batch[view].device.type, enabled=False):
                self._compute(batch, view, own)
        return batch

    def _compute(self, batch: Batch, view: str, plan: dict[str, Any]) -> None:
        """Computes one view of a batch as planned, in its place."""
        batch[view] = _apply(batch[view], plan, self.input_size[view])

    def views(self, batch: Batch) -> list[str]:
        """The views of a batch."""
        return [view for view in self.input_size if view in batch]

    def zoom(self, key: Key, view: str) -> float:
        """Zoom factor of a sample; 1 here."""
        return 1.0

    def start(self, key: Key, view: str, axis: int, excess: int) -> int:
        """First voxel of the crop along an axis that has ``excess`` voxels too many; centred here."""
        return max(excess, 0) // 2


class PretrainAugment(Fit):
    """The published augmentation of pretraining, then as :class:`Fit`, with a random crop.

    With probability ``probability`` an image is zoomed by one factor for all axes, z included, about the centre of its
    true size, which is kept: zeros come in where it shrinks. Linear in three dimensions, bicubic in two. The short axis
    draws by itself, the long-axis views of a sample share one draw. Every draw is keyed on seed, epoch, id, frame
    and view.

    Args:
        input_size: View name -> size of the network's input.
        seed: The run's seed.
        probability: Of a zoom.
        zoom_range: Lowest and highest factor, uniform between.
    """

    def __init__(
        self,
        input_size: Mapping[str, Sequence[int]],
        seed: int = 0,
        probability: float = 0.5,
        zoom_range: tuple[float, float] = (0.9, 1.1),
    ) -> None:
        super().__init__(input_size, seed)
        self.probability = probability
        self.zoom_range = zoom_range

    def zoom(self, key: Key, view: str) -> float:
        """Zoom factor of a sample."""
        rng = generator(self.seed, *key, "lax" if get_view(view).is_long_axis else view, "zoom")
        return float(rng.uniform(*self.zoom_range)) if rng.random() < self.probability else 1.0

    def start(self, key: Key, view: str, axis: int, excess: int) -> int:
        """First voxel of the random crop along an axis."""
        return int(generator(self.seed, *key, view, "crop", axis).integers(excess + 1)) if excess > 0 else 0


def sample_keys(batch: Batch) -> list[Key]:
    """What the draws of each sample of a batch are keyed on: two frames of a study are two samples."""
    if KEYS in batch:  # kept on the host, where the frames may be on a device by now
        return list(batch[KEYS])
    epoch, names = int(batch["epoch"]), batch["id"]
    frames = batch["frame"].tolist() if "frame" in batch else [0] * len(names)
    return [(epoch, name, frame) for name, frame in zip(names, frames, strict=True)]


def zoom_images(images: Tensor, factors: Sequence[float] | Tensor, sizes: Sequence[Sequence[int]] | Tensor) -> Tensor:
    """Zooms images about their own centres, keeping their size.

    Voxel centres are at integers and an image ends half a voxel beyond its outer centres; up to there the outer voxels
    are repeated, farther out is 0.

    Args:
        images: float (B, C, X, Y) (cubic) or (B, C, Z, X, Y) (linear), zero beyond the true sizes.
        factors: (B,), above 1 enlarges; a tensor on the images' device is not waited for.
        sizes: (B, 2) or (B, 3), true sizes in the order of the axes; likewise.

    Returns:
        The same shape.
    """
    cubic = images.ndim == 4
    true = torch.as_tensor(sizes, device=images.device)
    zoom = torch.as_tensor(factors, dtype=images.dtype, device=images.device)
    *depth, width, height = (
        _matrix(zoom, true[:, axis], length, cubic) for axis, length in enumerate(images.shape[2:])
    )
    lead = (slice(None), *([None] * (images.ndim - 3)))  # the matrices' batch axis, then one for C and one for Z
    out = width[lead] @ images @ height[lead].transpose(-1, -2)
    if depth:
        out = (depth[0][:, None] @ out.flatten(3)).view_as(out)
    return out


def _matrix(zoom: Tensor, size: Tensor, length: int, cubic: bool) -> Tensor:
    """(B, length, length) interpolation weights of one axis: row = voxel of the result, column = voxel of the image."""
    centre = ((size - 1).to(zoom.dtype) / 2)[:, None]
    place = torch.arange(length, device=zoom.device)
    source = centre + (place - centre) / zoom[:, None]
    first = source.floor()
    columns = place[None, None, :]
    last = (size - 1)[:, None]
    matrix = zoom.new_zeros(len(zoom), length, length)
    for tap in range(-1, 3) if cubic else range(2):
        at = first + tap
        weight = _kernel(source - at, cubic)
        # A comparison rather than scatter_add, whose sums come in another order each time on a GPU.
        matrix += weight[:, :, None] * (at.long().clamp(min=0).minimum(last)[:, :, None] == columns)
    inside = (source >= -0.5) & (source <= last + 0.5) & (place <= last)
    return matrix * inside[:, :, None]


def _kernel(distance: Tensor, cubic: bool) -> Tensor:
    """Weight of a voxel at a distance of up to 1 (linear) or 2 (cubic convolution) voxels."""
    d = distance.abs()
    if not cubic:
        return (1 - d).clamp(min=0)
    near = ((_CUBIC + 2) * d - (_CUBIC + 3)) * d * d + 1
    far = ((d - 5) * d + 8) * d * _CUBIC - 4 * _CUBIC
    return torch.where(d <= 1, near, torch.where(d < 2, far, 0.0))


def _zooms(factors: list[float], sizes: list[list[int]]) -> dict[str, Tensor]:
    """Which samples are zoomed, by how much, and their true sizes in the order of their memory (z first)."""
    rows = [row for row, factor in enumerate(factors) if factor != 1]
    order = _memory_axes(len(sizes[0]))
    return {
        "zoomed": torch.tensor(rows, dtype=torch.long),
        "zooms": torch.tensor([factors[row] for row in rows], dtype=torch.float32),
        "zoomed_sizes": torch.tensor([[sizes[row][axis] for axis in order] for row in rows], dtype=torch.long),
    }


def _memory_axes(dims: int) -> tuple[int, ...]:
    """Order of the spatial axes in memory: a stack runs z, x, y."""
    return (2, 0, 1) if dims == 3 else (0, 1)


def _apply(images: Tensor, plan: dict[str, Any], target: tuple[int, ...]) -> Tensor:
    """Zoom, scale, crop and pad (B, C, X, Y[, Z]) uint8; works plane by plane (B, C, Z, X, Y), as stacks come."""
    axes = _memory_axes(len(target))
    order = (0, 1, *(2 + axis for axis in axes))
    sizes, starts = ([[row[axis] for axis in axes] for row in plan[key]] for key in ("sizes", "starts"))
    images = images.permute(order).to(torch.float32, memory_format=torch.contiguous_format)
    zoomed = plan["zoomed"]
    if len(zoomed):
        chosen = zoom_images(images.index_select(0, zoomed), plan["zooms"], plan["zoomed_sizes"])
        images.index_copy_(0, zoomed, chosen)
    out = images.new_zeros(*images.shape[:2], *target)
    into = out.permute(order)
    for rows, size, start in _alike(sizes, starts):
        wanted = [min(n, target[axis]) for n, axis in zip(size, axes, strict=True)]
        regions = images[rows][_box([0] * len(size), size)]
        into[rows][_box([0] * len(size), wanted)] = _scaled(regions, _box(start, wanted))
    return out


def _box(first: Sequence[int], size: Sequence[int]) -> tuple[Any, ...]:
    """Index of a box in the last axes."""
    return (..., *(slice(start, start + length) for start, length in zip(first, size, strict=True)))


def _alike(sizes: list[list[int]], starts: list[list[int]]) -> list[tuple[slice, list[int], list[int]]]:
    """Runs of neighbouring samples of one size and crop, which is usually the whole batch."""
    runs: list[tuple[slice, list[int], list[int]]] = []
    for row, (size, start) in enumerate(zip(sizes, starts, strict=True)):
        if runs and runs[-1][1:] == (size, start):
            runs[-1] = (slice(runs[-1][0].start, row + 1), size, start)
        else:
            runs.append((slice(row, row + 1), size, start))
    return runs


def _scaled(images: Tensor, crop: tuple[Any, ...]) -> Tensor:
    """Scales each sample by its own minimum and maximum over all channels, before the crop; constant ones become 0."""
    around = tuple(range(1, images.ndim))
    low, high = images.amin(around, keepdim=True), images.amax(around, keepdim=True)
    spread = high - low
    return (images[crop] - low) / torch.where(spread > 0, spread, 1.0)


def _moved(affines: Tensor, starts: list[list[int]]) -> Tensor:
    """Affines of images cropped at the given first voxels (x, y[, z])."""
    offset = np.zeros((len(starts), 3, 1), dtype=np.float32)
    offset[:, : len(starts[0]), 0] = starts
    moved = affines.clone()
    moved[:, :3, 3:] += affines[:, :3, :3] @ torch.from_numpy(offset).to(affines)
    return moved
