"""What the outputs of all batches of a scan come to, by kind of task."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cinema_lightning.columns import agreement_of, spread_of
from cinema_lightning.data.native import Native
from cinema_lightning.inference.results import (
    Classified,
    LabelMap,
    Landmarks,
    Result,
    Risk,
    Segmented,
    Value,
    stacked,
)
from cinema_lightning.inference.scans import STUDY, OpenStudy
from cinema_lightning.inference.spec import ModelSpec
from cinema_lightning.tasks.downstream import cropped
from cinema_lightning.tasks.ensemble import Together

Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Seen:
    """A scan that goes through a network.

    Attributes:
        task: The task; it knows the scan.
        spec: The network's facts.
        study: The scan.
        frames: Its frames that are seen.
        outputs: (batch, output), made one after the other.
        probabilities: Whether they are wanted.
    """

    task: Any
    spec: ModelSpec
    study: OpenStudy
    frames: tuple[int, ...]
    outputs: Iterable[tuple[Any, Any]]
    probabilities: bool = False

    def rows(self) -> Rows:
        """The rows of all batches."""
        return [row for batch, output in self.outputs for row in self.task.rows(batch, output)]


def segmented(seen: Seen) -> Segmented:
    """Label maps on the scan's grid, volumes and areas, and on request probabilities."""
    rows: Rows = []
    parts: dict[str, dict[str, list[np.ndarray]]] = {view: {} for view in seen.study.views}
    for batch, output in seen.outputs:
        rows += seen.task.rows(batch, output)
        mean, members = (output.mean, output.parts) if isinstance(output, Together) else (output, ())
        for view, maps in mean.native_maps.items():
            for i, (native, labels) in enumerate(maps):
                found = {"labels": native.own_codes(labels)}
                if seen.probabilities:
                    own = _on_scan(mean, batch, view, i, native)
                    found["probabilities"] = own
                    others = [_on_scan(one, batch, view, i, native) for one in members]
                    found |= {"spread": _spread(own, others)} if len(others) > 1 else {}
                for name, values in found.items():
                    parts[view].setdefault(name, []).append(values)
    views = {
        view: LabelMap(
            affine=seen.study.native(STUDY, view).grid.affine,
            classes=seen.spec.classes,
            **{name: np.stack(values, axis=-1) for name, values in found.items()},
        )
        for view, found in parts.items()
    }
    ends = {"_volume": "ml", "_area": "cm2"}
    units = {name: unit for name in rows[0] for end, unit in ends.items() if name.endswith(end)}
    units = {name: unit for name, unit in units.items() if name.startswith(seen.study.views)}
    return Segmented(seen.frames, tuple(rows), views, {name: stacked(rows, name) for name in units}, units)


def _on_scan(output: Any, batch: Any, view: str, i: int, native: Native) -> np.ndarray:
    """(classes, X, Y, Z) of one sample, on the scan's grid."""
    return native.on_scan(cropped(output.probabilities[view][i], batch[f"{view}_size"][i]).cpu().numpy())


def _spread(mean: np.ndarray, members: Sequence[np.ndarray]) -> np.ndarray:
    """(X, Y, Z) standard deviation over the members of the probability of each voxel's class."""
    chosen = mean.argmax(axis=0)[None]
    spread: np.ndarray = np.stack([np.take_along_axis(one, chosen, axis=0)[0] for one in members]).std(axis=0, ddof=1)
    return spread


def landmarks(seen: Seen) -> Landmarks:
    """Places in voxels of the scan, and in mm."""
    rows = seen.rows()
    views: dict[str, dict[str, np.ndarray]] = {}
    places: dict[str, dict[str, np.ndarray]] = {}
    for view in seen.study.views:
        affine = seen.study.native(STUDY, view).grid.affine
        views[view] = {
            name: np.stack([stacked(rows, f"{view}_{name}_{axis}") for axis in "xy"], axis=1)
            for name in seen.spec.landmarks
        }
        places[view] = {name: points @ affine[:3, :2].T + affine[:3, 3] for name, points in views[view].items()}
    return Landmarks(seen.frames, tuple(rows), views, places)


def classified(seen: Seen) -> Classified:
    """The likeliest class, and the probability of each."""
    (row,) = rows = seen.rows()
    shares = {name: float(row[f"prob_{name}"]) for name in seen.spec.classes.values()}
    return Classified(seen.frames, tuple(rows), str(row["predicted"]), shares, row.get(agreement_of("predicted")))


def valued(seen: Seen) -> Value:
    """The number in its unit."""
    (row,) = rows = seen.rows()
    return Value(
        seen.frames,
        tuple(rows),
        float(row["predicted"]),
        row.get(spread_of("predicted")),
        seen.spec.unit,
        seen.spec.target,
    )


def risked(seen: Seen) -> Risk:
    """The log-hazard."""
    (row,) = rows = seen.rows()
    return Risk(seen.frames, tuple(rows), float(row["risk"]), row.get(spread_of("risk")))


def anything(seen: Seen) -> Result:
    """The rows of a kind of which nothing else is known."""
    return Result(seen.frames, tuple(seen.rows()))


GATHERERS: Mapping[str, Callable[[Seen], Result]] = {
    "segmentation": segmented,
    "landmarks": landmarks,
    "classification": classified,
    "regression": valued,
    "survival": risked,
}
"""Kind of task -> what gathers its outputs; :func:`anything` gathers those of others."""
