"""Real studies with what experts drew on them, for `real_images.py`; measures nothing by itself."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cinema_lightning.analysis.originals import find_originals
from cinema_lightning.analysis.sources import sources_of
from cinema_lightning.analysis.study import read_study
from cinema_lightning.analysis.values import LV, MYOCARDIUM, Study, View

WITH_EXPERT, WITHOUT = ("ge_101", "ge_301"), ("acdc", "mnms2")
NUMBERS = {"lv_edv": "lv_edv_ml", "lv_esv": "lv_esv_ml", "lv_ef": "lv_ef_percent"}
"""Of the LV -> as the expert's file calls it."""


@dataclass(frozen=True, eq=False)
class Expert:
    """What an expert drew.

    Attributes:
        frames: Numbers of ED and ES.
        labels: (X, Y, Z, 2) at ED and ES: the LV, and at ED the myocardium around it; 0 elsewhere.
        numbers: Volumes in ml and EF in %, of the expert's contours.
    """

    frames: tuple[int, int]
    labels: np.ndarray
    numbers: Mapping[str, float]


@dataclass(frozen=True, eq=False)
class RealStudy:
    """A study, and what an expert drew on its short axis, where one did."""

    name: str
    study: Study
    expert: Expert | None = None

    @property
    def sax(self) -> View:
        """Its short axis."""
        return self.study.views["sax"]


def read_real(root: Path) -> list[RealStudy]:
    """Reads the studies of the folder of real images that are there, those with an expert first.

    Args:
        root: Of $CINEMA_REAL.

    Returns:
        The studies.
    """
    found = []
    for name in WITH_EXPERT:
        path = root / "dicom" / f"{name}.zip"
        if path.is_file():
            study = read_study(path, str)
            found.append(RealStudy(name, study, _expert(path, study.views["sax"])))
    return found + [RealStudy(name, read_study(root / name, str)) for name in WITHOUT if (root / name).is_dir()]


def _expert(path: Path, view: View) -> Expert:
    """The contours of the file beside a study, on the grid of its short axis."""
    truth = json.loads(path.with_name(f"{path.stem}_truth.json").read_text(encoding="utf-8"))
    with sources_of(path) as sources:
        images = find_originals(sources, view).images
    places = {str(image.SOPInstanceUID): place for place, image in images.items()}
    drawn: dict[str, dict[tuple[int, int], Any]] = {"endocardium": {}, "epicardium": {}}
    for contour in truth["contours"]:
        drawn[contour["kind"]][places[contour["sop_instance_uid"]]] = contour["points_column_row"]
    frames = (truth["ed_phase"], truth["es_phase"])
    labels = np.zeros((*view.frames.shape[:3], 2), np.uint8)
    for kind, code in (("epicardium", MYOCARDIUM), ("endocardium", LV)):
        for (z, frame), points in drawn[kind].items():
            labels[_inside(points, view.frames.shape[:2]), z, frames.index(frame)] = code
    return Expert(frames, labels, {name: float(truth[key]) for name, key in NUMBERS.items()})


def _inside(points: Any, size: tuple[int, ...]) -> np.ndarray:
    """Pixels (X, Y) whose centres lie within a closed contour of (column, row)."""
    from matplotlib.path import Path as Polygon

    pixels = np.stack(np.meshgrid(*(np.arange(n) for n in size), indexing="ij"), axis=-1)
    return Polygon(points).contains_points(pixels.reshape(-1, 2)).reshape(size)
