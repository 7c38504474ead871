"""Turned images: flips and quarter turns in plane, and what was found in them turned back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from cinema_lightning.data.dataset import Batch

Turning = Literal["none", "flips", "rotations", "all"]
"""Which turns an image is seen in: as it is; mirrored along x, y and both; by 0 to 270 degrees; all eight."""
TurnsAs = Literal["maps", "points", "values"]
"""How something found in an image turns with it: voxel by voxel, as places (L, 2) in it, or not at all."""


@dataclass(frozen=True)
class Turn:
    """A turn of the X-Y plane.

    Attributes:
        mirrored: x runs the other way.
        quarters: Quarter turns after that.
    """

    mirrored: bool = False
    quarters: int = 0

    def plane(self, values: Tensor) -> Tensor:
        """Turns (C, X, Y[, Z])."""
        return torch.rot90(values.flip(1) if self.mirrored else values, self.quarters, (1, 2))

    def plane_back(self, values: Tensor) -> Tensor:
        """Undoes :meth:`plane`."""
        values = torch.rot90(values, -self.quarters, (1, 2))
        return values.flip(1) if self.mirrored else values

    def points_back(self, points: Tensor, size: tuple[int, int]) -> Tensor:
        """Places in a turned plane, (..., 2) voxels, as places in the plane itself, which is of ``size``."""
        x, y = points.unbind(-1)
        for quarter in range(self.quarters, 0, -1):
            down = size[1] if quarter % 2 else size[0]  # what a plane's y axis was before this quarter turn
            x, y = y, down - 1 - x
        return torch.stack([size[0] - 1 - x if self.mirrored else x, y], dim=-1)

    def sizes(self, sizes: Tensor) -> Tensor:
        """True sizes (B, D) of the turned images."""
        return sizes[:, [1, 0, *range(2, sizes.shape[1])]] if self.quarters % 2 else sizes


_FLIPS = (Turn(), Turn(mirrored=True), Turn(mirrored=True, quarters=2), Turn(quarters=2))
_ROTATIONS = tuple(Turn(quarters=n) for n in range(4))
TURNS: dict[str, tuple[Turn, ...]] = {
    "none": (Turn(),),
    "flips": _FLIPS,
    "rotations": _ROTATIONS,
    "all": (*_ROTATIONS, *(Turn(mirrored=True, quarters=n) for n in range(4))),
}


def turned(batch: Batch, views: Iterable[str], turn: Turn) -> Batch:
    """A batch whose images are turned, each within its own size, so that padding stays at the end.

    Args:
        batch: ``<view>`` (B, C, X, Y[, Z]) and ``<view>_size`` (B, D).
        views: Those that the batch has.
        turn: The turn.

    Returns:
        Another batch; images of quarter turns are padded to squares.
    """
    if turn == Turn():
        return batch
    out = dict(batch)
    for view in views:
        image, sizes = batch[view], batch[f"{view}_size"]
        x, y = image.shape[2:4]
        shape = (max(x, y), max(x, y)) if turn.quarters % 2 else (x, y)
        canvas = image.new_zeros(*image.shape[:2], *shape, *image.shape[4:])
        for place, one, (across, down) in zip(canvas, image, sizes[:, :2].tolist(), strict=True):
            _lay(place, turn.plane(one[:, :across, :down]))
        out |= {view: canvas, f"{view}_size": turn.sizes(sizes)}
    return out


def turned_back(
    scores: Mapping[str, Tensor], kind: TurnsAs, batch: Batch, shapes: Mapping[str, tuple[int, ...]], turn: Turn
) -> dict[str, Tensor]:
    """What was found in a turned batch, as if it had been found in the batch itself.

    Args:
        scores: What was found; by view, where it turns with the image.
        kind: How it turns.
        batch: The batch that was turned.
        shapes: View -> X, Y of the batch's images.
        turn: The turn.

    Returns:
        The same, turned back; maps have 0 in the padding.
    """
    if turn == Turn() or kind == "values":
        return dict(scores)
    sizes = {view: [(int(x), int(y)) for x, y in batch[f"{view}_size"][:, :2].tolist()] for view in scores}
    if kind == "points":
        return {
            view: torch.stack([turn.points_back(one, size) for one, size in zip(points, sizes[view], strict=True)])
            for view, points in scores.items()
        }
    out = {}
    for view, maps in scores.items():
        canvas = maps.new_zeros(*maps.shape[:2], *shapes[view][:2], *maps.shape[4:])
        for place, one, (across, down) in zip(canvas, maps, sizes[view], strict=True):
            x, y = (down, across) if turn.quarters % 2 else (across, down)
            _lay(place, turn.plane_back(one[:, :x, :y]))
        out[view] = canvas
    return out


def _lay(canvas: Tensor, values: Tensor) -> None:
    canvas[:, : values.shape[1], : values.shape[2]] = values
