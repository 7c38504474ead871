"""What happens to a batch: augmentation, scale to [0, 1], crop, pad.

A transform works in two steps: :meth:`Fit.prepare` draws all random numbers and decides all shapes, in the workers that
read the batch; :meth:`Fit.apply` computes on the device, for the whole batch at once. What the device needs of a plan
travels as tensors with the batch, and what decides shapes stays a list of numbers, so that the device never has to be
waited for. Points are a few numbers, so they move on the host.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cinema_lightning.data.augment.base import About, Effect, Grey, Move, Sample, Warp, check_order
from cinema_lightning.data.augment.crop import Centred, Crop
from cinema_lightning.data.dataset import Batch
from cinema_lightning.data.draws import Key
from cinema_lightning.data.labels import IGNORE
from cinema_lightning.data.planes import as_planes, grey_range, inside, place, sample_linear, sample_nearest, unit
from cinema_lightning.errors import CinemaError
from cinema_lightning.views import Depth

PLAN = "_plan"
KEYS = "_keys"
Plan = dict[str, Any]
Drawn = dict[str, Any]
"""What was drawn for a sample and view, by purpose; what is not done to it is absent."""


class Fit:
    """Augments, scales to [0, 1], crops to the input size, and pads with zeros at the end.

    Each sample and view is scaled by its own minimum and maximum, over all channels together and within its true
    size. A constant image becomes 0.

    Effects are done in the order of the list: warps on grey levels as read, then scaling; all moves and the crop as one
    resampling, linear for images, nearest for labels, exact for points, zeros outside. Without a crop among them, what
    is larger than the input is cropped at its centre. Views draw independently, and so do the frames of a study where a
    frame is a sample; frames that are the channels of one sample share a draw. Every draw is keyed on seed, epoch, id,
    frame, view and the effect's name (the second effect of a name has a key of its own), so that leaving one out does
    not change the others.

    Args:
        input_size: View name -> size of the network's input, (x, y[, z]).
        seed: The run's seed; keys the draws.
        effects: The augmentation; none in validation, test and prediction.
        depth: Stacks of fewer slices than the input stay as the batch has them (own), or are padded to it (padded).
    """

    def __init__(
        self,
        input_size: Mapping[str, Sequence[int]],
        seed: int = 0,
        effects: Sequence[Effect] = (),
        *,
        depth: Depth = "padded",
    ) -> None:
        self.depth = depth
        self.input_size = {view: tuple(size) for view, size in input_size.items()}
        self.seed = seed
        check_order(effects)
        self.effects = _by_purpose(effects)
        names = list(self.effects)
        crop = next(n for n, name in enumerate(names) if isinstance(self.effects[name], Crop))
        self.before, self.after = ({name: self.effects[name] for name in some} for some in (names[:crop], names[crop:]))

    def __call__(self, batch: Batch) -> Batch:
        """Both steps at once, see :meth:`prepare` and :meth:`apply`."""
        return self.apply(self.prepare(batch))

    def prepare(self, batch: Batch) -> Batch:
        """Decides on the host what is done to each sample.

        Args:
            batch: The batch of :mod:`cinema_lightning.data.dataset`.

        Returns:
            The batch with the plan added: how each view is computed, and what else of the batch will be otherwise then
            (``V_size``, ``V_spacing``, ``V_affine`` and points). As it is where a worker has planned it.
        """
        if PLAN in batch:
            return batch
        becomes = dict(batch)
        views = {view: self._plan(becomes, view) for view in self.input_size if view in batch}
        changed = {key: value for key, value in becomes.items() if value is not batch[key]}
        return batch | {PLAN: {"views": views, "becomes": changed}, KEYS: sample_keys(batch)}

    def apply(self, batch: Batch) -> Batch:
        """Computes what :meth:`prepare` decided, on the device that the batch is on.

        Args:
            batch: What :meth:`prepare` returned.

        Returns:
            The batch with each view float32 in [0, 1] of its :meth:`target` size, (B, C, X, Y[, Z]), labels likewise.
        """
        plan = batch[PLAN]
        batch = {key: value for key, value in batch.items() if key != PLAN} | plan["becomes"]
        for view, own in plan["views"].items():
            # Grey levels need float32, also where the caller runs in bf16 autocast.
            with torch.autocast(batch[view].device.type, enabled=False):
                batch[view] = self._images(batch[view], own)
                if (label := f"{view}_label") in batch:
                    batch[label] = self._labels(batch[label], own)
        return batch

    def target(self, view: str, images: Tensor) -> tuple[int, ...]:
        """Size of a view after the transform."""
        plane, depth = self.input_size[view][:2], self.input_size[view][2:]
        return *plane, *(min(n, images.shape[4]) if self.depth == "own" else n for n in depth)

    def draws(self, sample: Sample) -> Drawn:
        """Draws what is done to one sample and view."""
        drawn: Drawn = {}
        for purpose, effect in self.effects.items():
            if (one := effect.drawn(sample, purpose)) is not None:
                drawn[purpose] = one
            if isinstance(effect, Crop):
                sample = sample._replace(start=one)
        return drawn

    def _plan(self, batch: Batch, view: str) -> Plan:
        """Plans one view, and changes in the batch what goes with it."""
        target, size, labelled = self.target(view, batch[view]), batch[f"{view}_size"], batch.get(f"{view}_labelled")
        sizes, spacing = size.tolist(), batch[f"{view}_spacing"].numpy().astype(np.float64)
        drawn = [
            self.draws(Sample(self.seed, key, view, true, target, [0] * len(true)))
            for key, true in zip(sample_keys(batch), sizes, strict=True)
        ]
        each = list(zip(drawn, np.array(sizes), spacing, strict=True))
        moves = np.stack([self._back("mc", *one) for one in each])
        back = np.stack([self._back("w", *one) for one in each]) @ moves
        kept = size.minimum(size.new_tensor(target))
        turned = [name for name, effect in self.effects.items() if effect.stage == "m"]
        moved = torch.tensor([row for row, one in enumerate(drawn) if one.keys() & turned], dtype=torch.long)
        batch[f"{view}_size"] = kept
        batch[f"{view}_affine"] = (batch[f"{view}_affine"].double() @ torch.from_numpy(back)).float()
        lengths = np.linalg.norm(spacing[:, :, None] * back[:, :3, :3], axis=1)
        batch[f"{view}_spacing"] = torch.from_numpy(lengths.astype(np.float32))
        if f"{view}_points" in batch:
            _move_points(batch, view, back)
        return {
            "target": target,
            "size": size,
            # Where no image is padded, nothing has to be masked.
            "full": bool((size == size.new_tensor(batch[view].shape[2:])).all()),
            "unlabelled": None if labelled is None or bool(labelled.all()) else ~labelled,
            "drawn": drawn,
            "sizes": sizes,
            "warps": self._warps(drawn, size),
            "moved": moved,
            # Only the in-plane part: (x, y) of the result -> (x, y) of the image.
            "source": torch.from_numpy(moves[:, :2][:, :, [0, 1, 3]].astype(np.float32))[moved],
            "moved_size": kept[moved, :2],
            "first_slice": torch.from_numpy(moves[:, 2, 3].astype(np.int64)),
            "cropped": _runs(moves[:, :2, 3], set(moved.tolist())),
        }

    def _back(self, stages: str, drawn: Drawn, size: np.ndarray, spacing: np.ndarray) -> np.ndarray:
        """(4, 4) from voxels of the result to voxels of the image, for the effects of some stages."""
        back = np.eye(4)
        for purpose, effect in self.effects.items():
            if isinstance(effect, Move) and effect.stage in stages and purpose in drawn:
                own = effect.matrix(drawn[purpose], size, spacing)
                if effect.stage == "m" and not (np.array_equal(own[2], [0, 0, 1, 0]) and not own[:2, 2].any()):
                    raise CinemaError(f"data.augment: {type(effect).__name__} moves along z; a move stays in plane.")
                back = back @ own
        return back

    def _warps(self, drawn: list[Drawn], size: Tensor) -> dict[str, tuple[Tensor, Tensor, Tensor]]:
        """By purpose: the samples that are warped, what was drawn for them, and their true sizes, z first."""
        sizes, out = size.roll(1, 1) if size.shape[1] == 3 else size, {}
        for purpose, effect in self.before.items():
            rows = [row for row, one in enumerate(drawn) if purpose in one]
            if rows and isinstance(effect, Warp):
                numbers = torch.tensor([drawn[row][purpose] for row in rows], dtype=torch.float32)
                out[purpose] = torch.tensor(rows), numbers, sizes[rows]
        return out

    def _images(self, images: Tensor, plan: Plan) -> Tensor:
        planes = as_planes(images).to(torch.float32, memory_format=torch.contiguous_format)
        planes = self._warped(planes, plan, nearest=False)
        true = None if plan["full"] else inside(plan["size"], planes)
        low, high = grey_range(planes, true)
        spread = (high - low).flatten()
        planes = self._grey(unit(planes, true), plan, self.before, spread)
        out = images.new_zeros(*images.shape[:2], *plan["target"], dtype=torch.float32)
        place(planes, as_planes(out), plan, sample_linear)
        self._grey(as_planes(out), plan, self.after, spread)
        return out

    def _labels(self, labels: Tensor, plan: Plan) -> Tensor:
        planes = as_planes(labels[:, None]).clone(memory_format=torch.contiguous_format)
        out = labels.new_zeros(labels.shape[0], 1, *plan["target"])
        place(self._warped(planes, plan, nearest=True), as_planes(out), plan, sample_nearest)
        if plan["unlabelled"] is None:
            return out[:, 0]
        # Padding does not turn what is unknown into background.
        return out[:, 0].masked_fill_(plan["unlabelled"].view(-1, *[1] * (labels.ndim - 1)), IGNORE)

    def _warped(self, planes: Tensor, plan: Plan, *, nearest: bool) -> Tensor:
        """Warps some samples of (B, C, Z, X, Y), in place."""
        for purpose, (rows, numbers, sizes) in plan["warps"].items():
            effect = self.effects[purpose]
            assert isinstance(effect, Warp)
            planes.index_copy_(0, rows, effect.warp(planes.index_select(0, rows), numbers, sizes, nearest=nearest))
        return planes

    def _grey(self, planes: Tensor, plan: Plan, effects: Mapping[str, Effect], spread: Tensor) -> Tensor:
        """Changes grey levels of (B, C, Z, X, Y), in place; zeros beyond the true sizes."""
        depth, *shape = planes.shape[2:]
        padded = False
        for row, (drawn, true) in enumerate(zip(plan["drawn"], plan["sizes"], strict=True)):
            x, y, z = (min(pair) for pair in zip([*true, 1][:3], [*shape, depth], strict=True))
            for purpose, effect in effects.items():
                if purpose in drawn and isinstance(effect, Grey):
                    image = planes[row]
                    changed = effect.apply(image, drawn[purpose], About((z, x, y), spread[row]))
                    if changed is not image:
                        image.copy_(changed)
                    padded |= (z, x, y) != (depth, *shape)
        return planes.masked_fill_(~inside(plan["size"], planes), 0) if padded else planes


class Whole(Fit):
    """Pads a view to the input size, and to the largest image of the batch where that is larger; crops nothing.

    For validation, test and prediction of data with labels.
    """

    def target(self, view: str, images: Tensor) -> tuple[int, ...]:
        """Size of a view after the transform."""
        return tuple(max(pair) for pair in zip(super().target(view, images), images.shape[2:], strict=True))


def sample_keys(batch: Batch) -> list[Key]:
    """What the draws of each sample of a batch are keyed on: two frames of a study are two samples."""
    if KEYS in batch:  # kept on the host, where the frames may be on a device by now
        return list(batch[KEYS])
    names = batch["id"]
    epochs = batch.get("epochs") or [int(batch["epoch"])] * len(names)
    frames = batch["frame"].tolist() if "frame" in batch else [0] * len(names)
    return list(zip(epochs, names, frames, strict=True))


def _by_purpose(effects: Sequence[Effect]) -> dict[str, Effect]:
    """The effects by what their draws are keyed on, with a crop among them."""
    listed = list(effects)
    if not any(isinstance(effect, Crop) for effect in listed):
        moves = [n for n, effect in enumerate(listed) if effect.stage == "m"]
        listed.insert(moves[-1] + 1 if moves else len(listed), Centred())
    names = [type(effect).__name__.lower() for effect in listed]
    numbers = [names[: n + 1].count(name) for n, name in enumerate(names)]
    return {
        name if number == 1 else f"{name} {number}": effect
        for name, number, effect in zip(names, numbers, listed, strict=True)
    }


def _runs(starts: np.ndarray, moved: set[int]) -> list[tuple[int, int, int, int]]:
    """Neighbouring samples that are cropped alike and not moved, which are usually all: first, end, x, y."""
    rows = [(row in moved, *start) for row, start in enumerate(starts.tolist())]
    runs, first = [], 0
    for (skipped, x, y), some in groupby(rows):
        end = first + len(list(some))
        if not skipped:
            runs.append((first, end, int(x), int(y)))
        first = end
    return runs


def _move_points(batch: Batch, view: str, back: np.ndarray) -> None:
    """Points follow the image; those that leave it are no longer valid."""
    points, matrices = batch[f"{view}_points"].double().numpy(), back[:, None, :2, :2]
    moved = np.linalg.solve(matrices, (points - back[:, None, :2, 3])[..., None])[..., 0]
    size = batch[f"{view}_size"].numpy()[:, None, :2]
    within = ((moved >= -0.5) & (moved < size - 0.5)).all(-1)
    batch[f"{view}_points"] = torch.from_numpy(moved.astype(np.float32))
    batch[f"{view}_points_valid"] = batch[f"{view}_points_valid"] & torch.from_numpy(within)
