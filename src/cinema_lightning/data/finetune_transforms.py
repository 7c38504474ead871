"""What happens to batches with labels on the device: nothing is cropped in evaluation, training is augmented.

As in :mod:`cinema_lightning.data.transforms`, ``prepare`` draws all numbers and decides all shapes in the workers, and
``apply`` computes on the device, for the whole batch at once. Points are a few numbers, so they move on the host.

Images are worked on plane by plane, (B, C, Z, X, Y), as stacks lie in memory. A rotation in plane is then one
two-dimensional sampling whose channels are the slices, and together with the crop it is one resampling.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from cinema_lightning.data.dataset import Batch
from cinema_lightning.data.draws import generator
from cinema_lightning.data.labels import IGNORE
from cinema_lightning.data.transforms import Fit, Key, sample_keys
from cinema_lightning.views import get_view

# Published limits at the published input sizes: translation 60 of 192 and 80 of 256 pixels, hole 40 x 40 x 2 of
# 192 x 192 x 16 and 50 x 50 of 256 x 256.
TRANSLATION = {3: 60 / 192, 2: 80 / 256}
HOLE = {3: (40 / 192, 40 / 192, 2 / 16), 2: (50 / 256, 50 / 256)}
NOISE = 0.1
GAMMA = (0.5, 1.5)
SCALE = (0.8, 1.2)


class Whole(Fit):
    """Scale to [0, 1] and pad at the end, without a crop: validation, test and prediction.

    A view is padded to the input size, and to the largest image of the batch where that is larger. Each sample and
    view is scaled by its own minimum and maximum over all channels together, within its true size; a constant image
    becomes 0.

    Args:
        input_size: View name -> size of the network's input, (x, y[, z]).
        seed: The run's seed; keys the draws of subclasses.
    """

    def _plan(self, batch: Batch, view: str) -> dict[str, Any]:
        target = [max(pair) for pair in zip(self.input_size[view], batch[view].shape[2:], strict=True)]
        return _base_plan(batch, view, target)

    def _compute(self, batch: Batch, view: str, plan: dict[str, Any]) -> None:
        label = f"{view}_label"
        batch[view] = self._images(batch[view], plan)
        if label in batch:
            batch[label] = self._labels(batch[label], plan)

    def _images(self, images: Tensor, plan: dict[str, Any]) -> Tensor:
        planes = _planes(images).to(torch.float32, memory_format=torch.contiguous_format)
        return _padded(_unit(planes, _inside(plan, planes)), plan["target"])

    def _labels(self, labels: Tensor, plan: dict[str, Any]) -> Tensor:
        return _without_unlabelled(_padded(_planes(labels[:, None]), plan["target"])[:, 0], plan)


class Draws(NamedTuple):
    """The random numbers of one sample and view.

    Attributes:
        gamma: Exponent of the contrast, 1 for none.
        noise: SD of the noise, 0 for none.
        noise_seed: Seed of the device's generator.
        turn: Rotation in plane, rad, from the first axis towards the second; None where there is no affine.
        shift: Translation, voxels (x, y).
        scale: Enlargement in plane.
        hole: First voxel of the hole (x, y[, z]) in the image before the crop, None for none.
        start: First voxel of the crop (x, y[, z]).
    """

    gamma: float
    noise: float
    noise_seed: int
    turn: float | None
    shift: tuple[float, float]
    scale: float
    hole: tuple[int, ...] | None
    start: tuple[int, ...]


class FinetuneAugment(Whole):
    """The published augmentation of fine-tuning; the result has exactly the input size.

    Each with a probability of its own draw, in this order: contrast (gamma 0.5 to 1.5, keeping the range); Gaussian
    noise (SD up to 0.1); always, scale to [0, 1]; rotation in plane by up to 180 degrees about the centre of the true
    size, translation and scale 0.8 to 1.2 (isotropic in plane), in one resampling: linear for images, nearest for
    labels, exact for points, zeros outside; one hole of zeros in the image where ``hole`` is set; always, a random crop
    to the input size and padding at the end. Views draw independently, and so do the frames of a study where a frame is
    a sample; frames that are the channels of one sample share a draw. Every draw is keyed on seed, epoch, id, frame
    and view.

    Translation and hole are published in voxels, for the published input sizes; they are the same shares of any other
    input size (60 of 192 pixels are 20 of 64). That keeps them right for smaller images and for images whose voxel size
    is unknown. A rotation is done in mm, so it stays one where voxels are not square in plane.

    The noise itself is drawn on the device, from a seed per sample; CPU and GPU draw different noise.

    Args:
        input_size: View name -> size of the network's input.
        seed: The run's seed.
        probability: Of each of the four.
        noise_scale: ``unit`` takes the noise's SD on the [0, 1] scale; ``published`` adds it to grey levels of 0 to
            255, as the published code does, where it is next to nothing.
        hole: Cut a hole of zeros, as published for segmentation.
    """

    def __init__(
        self,
        input_size: Mapping[str, Sequence[int]],
        seed: int = 0,
        probability: float = 0.5,
        noise_scale: Literal["unit", "published"] = "unit",
        hole: bool = False,
    ) -> None:
        super().__init__(input_size, seed)
        self.probability = probability
        self.noise_scale = noise_scale
        self.hole = hole

    def draws(self, key: Key, view: str, size: Sequence[int]) -> Draws:
        """Random numbers of one sample and view.

        Args:
            key: Epoch, id and frame.
            view: View name.
            size: True size, (x, y[, z]).

        Returns:
            The numbers.
        """
        target, dims = self.input_size[view], get_view(view).dims

        def rng(purpose: str) -> tuple[bool, np.random.Generator]:
            draw = generator(self.seed, *key, view, purpose)
            return bool(draw.random() < self.probability), draw

        contrast, gamma = rng("gamma")
        noisy, noise = rng("noise")
        moved, affine = rng("affine")
        holed, hole = rng("hole")
        crop = generator(self.seed, *key, view, "crop")
        reach = [TRANSLATION[dims] * n for n in target[:2]]
        shift = affine.uniform(-1, 1), affine.uniform(-1, 1)
        return Draws(
            gamma=float(gamma.uniform(*GAMMA)) if contrast else 1.0,
            noise=float(noise.uniform(0, NOISE)) if noisy else 0.0,
            noise_seed=int(noise.integers(2**62)),
            turn=float(affine.uniform(-math.pi, math.pi)) if moved else None,
            shift=(float(shift[0] * reach[0]), float(shift[1] * reach[1])) if moved else (0.0, 0.0),
            scale=float(affine.uniform(*SCALE)) if moved else 1.0,
            hole=tuple(int(hole.integers(max(n - h, 0) + 1)) for n, h in zip(size, self.hole_size(view), strict=True))
            if holed and self.hole
            else None,
            start=tuple(int(crop.integers(max(n - t, 0) + 1)) for n, t in zip(size, target, strict=True)),
        )

    def hole_size(self, view: str) -> tuple[int, ...]:
        """Voxels of the hole along each axis."""
        target = self.input_size[view]
        return tuple(max(1, round(share * n)) for share, n in zip(HOLE[get_view(view).dims], target, strict=True))

    def _plan(self, batch: Batch, view: str) -> dict[str, Any]:
        target = self.input_size[view]
        plan = _base_plan(batch, view, target)
        sizes = np.array(plan["sizes"])
        draws = [self.draws(key, view, size) for key, size in zip(sample_keys(batch), plan["sizes"], strict=True)]
        spacing = batch[f"{view}_spacing"].numpy().astype(np.float64)
        back = np.stack([_source(*args) for args in zip(draws, sizes, spacing, strict=True)])
        moved = torch.tensor([row for row, draw in enumerate(draws) if draw.turn is not None], dtype=torch.long)
        # Only the in-plane part: (x, y) of the result -> (x, y) of the image.
        source = torch.from_numpy(back[:, :2][:, :, [0, 1, 3]].astype(np.float32))
        batch[f"{view}_size"] = batch[f"{view}_size"].minimum(batch[f"{view}_size"].new_tensor(target))
        plan |= {
            "draws": draws,
            "moved": moved,
            "source": source[moved],
            "moved_size": batch[f"{view}_size"][moved, :2],
            "first_slice": torch.tensor([draw.start[2] if len(target) == 3 else 0 for draw in draws]),
            "hole": self.hole_size(view),
        }
        batch[f"{view}_affine"] = (batch[f"{view}_affine"].double() @ torch.from_numpy(back)).float()
        enlarged = np.array([[draw.scale, draw.scale, 1] for draw in draws])
        batch[f"{view}_spacing"] = torch.from_numpy((spacing / enlarged).astype(np.float32))
        if f"{view}_points" in batch:
            _move_points(batch, view, back)
        return plan

    def _images(self, images: Tensor, plan: dict[str, Any]) -> Tensor:
        planes = _planes(images).to(torch.float32, memory_format=torch.contiguous_format)
        planes = self._grey_levels(planes, plan)
        out = images.new_zeros(*images.shape[:2], *plan["target"], dtype=torch.float32)
        self._place(planes, _planes(out), plan, linear=True)
        for row, draw in enumerate(plan["draws"]):
            if draw.hole is not None:
                first = [max(h - s, 0) for h, s in zip(draw.hole, draw.start, strict=True)]
                last = [max(h - s + n, 0) for h, s, n in zip(draw.hole, draw.start, plan["hole"], strict=True)]
                box = tuple(slice(a, b) for a, b in zip(first, last, strict=True))
                out[row][(slice(None), *box)] = 0
        return out

    def _labels(self, labels: Tensor, plan: dict[str, Any]) -> Tensor:
        out = labels.new_zeros(labels.shape[0], 1, *plan["target"])
        self._place(_planes(labels[:, None]).contiguous(), _planes(out), plan, linear=False)
        return _without_unlabelled(out[:, 0], plan)

    def _grey_levels(self, planes: Tensor, plan: dict[str, Any]) -> Tensor:
        """Contrast, noise, and scale to [0, 1]; (B, C, Z, X, Y)."""
        inside = _inside(plan, planes)
        low, high = _range(planes, inside)
        spread = (high - low).flatten()
        planes = _unit(planes, inside)
        for row, draw in enumerate(plan["draws"]):
            if draw.gamma != 1:
                planes[row] = planes[row] ** draw.gamma
            if draw.noise == 0:
                continue
            x, y, *rest = plan["sizes"][row]
            true = planes[row, :, : (rest or [1])[0], :x, :y]
            noise = seeded_noise(true.shape, draw.noise_seed, planes.device) * draw.noise
            # A constant image has no contrast that noise could be measured against; it stays 0.
            grey = spread[row] if self.noise_scale == "published" else 1.0
            noisy = true + torch.where(spread[row] > 0, noise / grey, 0.0)
            true.copy_(_unit(noisy[None], None)[0])
        return planes

    def _place(self, planes: Tensor, out: Tensor, plan: dict[str, Any], *, linear: bool) -> None:
        """Crops and moves (B, C, Z, X, Y) into ``out``, the same of the target size."""
        depth = out.shape[2]
        if planes.shape[2] > depth:
            slices = plan["first_slice"][:, None] + torch.arange(depth, device=planes.device)
            slices = slices.clamp(max=planes.shape[2] - 1)[:, None, :, None, None]
            planes = planes.take_along_dim(slices.expand(*planes.shape[:2], -1, *planes.shape[3:]), dim=2)
        deep, wide, high = (min(pair) for pair in zip(planes.shape[2:], out.shape[2:], strict=True))
        for row, draw in enumerate(plan["draws"]):
            if draw.turn is None:
                x, y = draw.start[:2]
                out[row, :, :deep, :wide, :high] = planes[row, :, :, x : x + wide, y : y + high]
        moved = plan["moved"]
        if len(moved):
            places = _places(plan["source"], wide, high)
            kept = _box_mask(plan["moved_size"], (wide, high))
            sample = _sample_linear if linear else _sample_nearest
            values = sample(planes.index_select(0, moved).flatten(1, 2), places, kept)
            values = values.view(len(moved), planes.shape[1], deep, wide, high)
            out[:, :, :deep, :wide, :high].index_copy_(0, moved, values)


def seeded_noise(shape: Sequence[int], seed: int, device: torch.device) -> Tensor:
    """Standard normal noise of a seed, drawn on a device; each kind of device draws its own."""
    source = torch.Generator(device).manual_seed(seed)
    return torch.randn(tuple(shape), generator=source, device=device)


def _source(draw: Draws, size: np.ndarray, spacing: np.ndarray) -> np.ndarray:
    """(4, 4) from voxels of the result to voxels of the image: the inverse of rotate, scale, translate, crop."""
    back = np.eye(4)
    back[: len(draw.start), 3] = draw.start
    if draw.turn is not None:
        cos, sin = math.cos(draw.turn), math.sin(draw.turn)
        to_mm = np.diag(spacing[:2])
        turn = np.linalg.inv(to_mm) @ np.array([[cos, sin], [-sin, cos]]) @ to_mm / draw.scale
        centre = (size[:2] - 1) / 2
        back[:2, :2] = turn
        back[:2, 3] = turn @ (np.array(draw.start[:2]) - centre - np.array(draw.shift)) + centre
    return back


def _move_points(batch: Batch, view: str, back: np.ndarray) -> None:
    """Points follow the image; those that leave it are no longer valid."""
    points, matrices = batch[f"{view}_points"].double().numpy(), back[:, None, :2, :2]
    moved = np.linalg.solve(matrices, (points - back[:, None, :2, 3])[..., None])[..., 0]
    size = batch[f"{view}_size"].numpy()[:, None, :2]
    inside = ((moved >= -0.5) & (moved < size - 0.5)).all(-1)
    batch[f"{view}_points"] = torch.from_numpy(moved.astype(np.float32))
    batch[f"{view}_points_valid"] = batch[f"{view}_points_valid"] & torch.from_numpy(inside)


def _base_plan(batch: Batch, view: str, target: Sequence[int]) -> dict[str, Any]:
    size = batch[f"{view}_size"]
    labelled = batch.get(f"{view}_labelled")
    return {
        "target": list(target),
        "size": size,
        "sizes": size.tolist(),
        # Where no image is padded, nothing has to be masked.
        "full": bool((size == size.new_tensor(batch[view].shape[2:])).all()),
        "unlabelled": None if labelled is None or bool(labelled.all()) else ~labelled,
    }


def _planes(images: Tensor) -> Tensor:
    """(B, C, X, Y[, Z]) as (B, C, Z, X, Y), a view."""
    return images.movedim(4, 2) if images.ndim == 5 else images.unsqueeze(2)


def _box_mask(sizes: Tensor, shape: Sequence[int]) -> Tensor:
    """(B, *shape) bool, true within the sizes (B, axes)."""
    mask = torch.ones((), dtype=torch.bool, device=sizes.device)
    for axis, n in enumerate(shape):
        along = torch.arange(n, device=sizes.device) < sizes[:, axis, None]
        mask = mask & along.view(len(sizes), *(n if a == axis else 1 for a in range(len(shape))))
    return mask


def _inside(plan: dict[str, Any], planes: Tensor) -> Tensor | None:
    """(B, 1, Z, X, Y) bool, true within the true sizes; None where that is everywhere."""
    if plan["full"]:
        return None
    size = plan["size"]
    deep = size[:, 2:] if size.shape[1] == 3 else size.new_ones(len(size), 1)
    return _box_mask(torch.cat([deep, size[:, :2]], 1), planes.shape[2:])[:, None]


def _range(planes: Tensor, inside: Tensor | None) -> tuple[Tensor, Tensor]:
    """Minimum and maximum of each sample within its true size, (B, 1, 1, 1, 1). Padding is 0, images are not below."""
    around = tuple(range(1, planes.ndim))
    high = planes.amax(around, keepdim=True)
    low = planes if inside is None else planes.masked_fill(~inside, math.inf)
    return low.amin(around, keepdim=True), high


def _unit(planes: Tensor, inside: Tensor | None) -> Tensor:
    """Scales each sample by its own minimum and maximum; padding stays 0, constant images become 0."""
    low, high = _range(planes, inside)
    scaled = (planes - low) / torch.where(high > low, high - low, 1.0)
    return scaled if inside is None else scaled.masked_fill_(~inside, 0)


def _padded(planes: Tensor, target: Sequence[int]) -> Tensor:
    """(B, C, Z, X, Y) to (B, C, X, Y[, Z]) of at least the same size, zeros at the end."""
    out = planes.new_zeros(*planes.shape[:2], *target)
    depth, width, height = planes.shape[2:]
    _planes(out)[:, :, :depth, :width, :height] = planes
    return out


def _without_unlabelled(labels: Tensor, plan: dict[str, Any]) -> Tensor:
    """Padding does not turn what is unknown into background."""
    unlabelled = plan["unlabelled"]
    return labels if unlabelled is None else labels.masked_fill_(unlabelled.view(-1, *[1] * (labels.ndim - 1)), IGNORE)


def _places(source: Tensor, width: int, height: int) -> Tensor:
    """Where each pixel of the result comes from: (B, 2, 3) matrices to (B, X, Y, 2) image coordinates."""
    x = torch.arange(width, device=source.device, dtype=source.dtype)[None, :, None, None]
    y = torch.arange(height, device=source.device, dtype=source.dtype)[None, None, :, None]
    columns = source[:, None, None]
    return columns[..., 0] * x + columns[..., 1] * y + columns[..., 2]


def _sample_linear(planes: Tensor, places: Tensor, kept: Tensor) -> Tensor:
    """Linear between pixels and zeros outside: (B, N, X, Y) at (B, X', Y', 2), to (B, N, X', Y')."""
    # grid_sample counts the last axis first.
    x, y = (place * (2 / max(n - 1, 1)) - 1 for place, n in zip(places.unbind(-1), planes.shape[2:], strict=True))
    grid = torch.stack([y, x], dim=-1)
    return F.grid_sample(planes, grid, padding_mode="zeros", align_corners=True) * kept[:, None]


def _sample_nearest(planes: Tensor, places: Tensor, kept: Tensor) -> Tensor:
    """The nearest pixel and zeros outside, in the type of the labels; shapes as in :func:`_sample_linear`."""
    width, height = planes.shape[2:]
    x, y = (places + 0.5).floor().long().unbind(-1)
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height) & kept
    index = torch.where(inside, x * height + y, 0).flatten(1)[:, None]
    values = planes.flatten(2).gather(2, index.expand(-1, planes.shape[1], -1))
    return values.view(*planes.shape[:2], *x.shape[1:]) * inside[:, None]
