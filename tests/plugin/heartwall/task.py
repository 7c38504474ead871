"""The task and its data: segmentation, of which the thickness of a sphere's wall of the same volumes is kept."""

from __future__ import annotations

import math
from typing import Any

import heartwall.kind  # noqa: F401  (registers the kind)
from cinema_lightning.data import DATA
from cinema_lightning.tasks import TASKS
from cinema_lightning.tasks.base import Batch
from cinema_lightning.tasks.segmentation.data import SegmentationData
from cinema_lightning.tasks.segmentation.task import Segmentation, Segmented


@DATA.register
class WallData(SegmentationData):
    """Label maps."""

    kind = "wall"


@TASKS.register
class WallThickness(Segmentation):
    """How thick the wall is, in mm."""

    kind = "wall"

    def cases(self, batch: Batch, output: Segmented) -> list[dict[str, Any]]:
        """Thickness, predicted and true, and how far they are apart."""
        return [_case(row) for row in super().cases(batch, output)]

    def facts(self) -> dict[str, Any]:
        """The unit."""
        return {"unit": "mm"}


def _case(row: dict[str, Any]) -> dict[str, Any]:
    out = {name: row[name] for name in ("id", "frame", "view", "phase")}
    for side in ("true", "pred"):
        out[f"wall_{side}"] = thickness(row[f"lv_volume_{side}"], row[f"myocardium_volume_{side}"])
    return out | {"wall_gap": abs(out["wall_pred"] - out["wall_true"])}


def thickness(cavity: float, muscle: float) -> float:
    """Mm, of a sphere's wall; both volumes in ml."""
    outer, inner = (10 * (3 * volume / (4 * math.pi)) ** (1 / 3) for volume in (cavity + muscle, cavity))
    return outer - inner
