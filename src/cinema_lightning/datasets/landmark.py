"""Landmarks: valve hinge points and apex in 2- and 4-chamber images (used by arXiv 2506.00679)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from cinema_lightning.datasets.base import CaseRef, Dataset, RawCase, RawSeries, dataset
from cinema_lightning.datasets.files import find_folder, number, shuffled_split
from cinema_lightning.errors import CinemaError
from cinema_lightning.imaging.geometry import LPS_TO_RAS
from cinema_lightning.imaging.png import read_png
from cinema_lightning.tables import first_row, read_table

COLUMNS = ("cohort", "uid", "view", "landmark", "x", "y")
# What the published preparation writes instead: a header, one row per image, and images that are small already.
POINTS = ("x1", "y1", "x2", "y2", "x3", "y3")
PUBLISHED_COLUMNS = ("cohort_name", "uid", *POINTS)
# Grey level of the mask -> landmark.
LANDMARKS = {85: "hinge_1", 170: "hinge_2", 255: "apex"}
SCALE = 0.25


@dataset
class Landmark(Dataset):
    """One row of the table per image. Each view is split by itself, so a person counts once per view."""

    name = "landmark"
    display = "Landmark"
    source = "on request from its authors at UCL, see https://github.com/mathpluscode/CineMA"
    looked_for = "raw/lax_2c.csv with raw/lax_2c/images/UID.png and raw/lax_2c/masks/UID.png (and lax_4c)"
    views = ("lax_2c", "lax_4c")
    crop = "none"
    grey_levels = "as read"
    spacing: ClassVar[dict[str, tuple[float, float, float] | None]] = {"lax_2c": None, "lax_4c": None}
    columns = ("cohort", "uid", "frame", "flipped")
    splits = "60/20/20 by person, seed 0, each view by itself"

    def cases(self, raw: Path) -> list[CaseRef]:
        """See :meth:`Dataset.cases`."""
        root = find_folder(raw, "lax_[24]c.csv", folder="raw", display=self.display, looked_for=self.looked_for)
        return [case for view in self.views if (root / f"{view}.csv").is_file() for case in _cases(root, view)]

    def read(self, case: CaseRef) -> RawCase:
        """Image and points, flipped to the view's usual side where needed, at a quarter of the size."""
        if "points" in case.args:
            return _preprocessed(case)
        image, mask = (read_png(path) for path in case.sources)
        if image.shape != mask.shape:
            raise CinemaError(f"{case.sources[1]} is {mask.shape} pixels, its image {image.shape}.")
        view = case.args["view"]
        points = _points(mask, case.sources[1])
        flip = _is_mirrored(points, view)
        if flip:
            points = _points(mask[:, ::-1], case.sources[1])
        small = shrink(image)
        frames = (small[:, ::-1] if flip else small)[None, :, :, None]
        return _case_read(view, frames, [(int(x * SCALE), int(y * SCALE)) for x, y in points], {"flipped": int(flip)})


def _case_read(view: str, frames: np.ndarray, points: Sequence[Sequence[float]], fields: dict[str, Any]) -> RawCase:
    marks = [(view, 0, name, float(x), float(y)) for name, (x, y) in zip(LANDMARKS.values(), points, strict=True)]
    # Pixels count as 1 mm, since the PNG says nothing; the mark in the file says that this is not known.
    series = RawSeries(frames, LPS_TO_RAS, facts={"spacing_known": False})
    return RawCase({view: series}, fields, marks)


def _preprocessed(case: CaseRef) -> RawCase:
    return _case_read(case.args["view"], read_png(case.sources[0])[None, :, :, None], case.args["points"], {})


def _rows(table: Path) -> Iterator[tuple[dict[str, str], list[list[float]] | None]]:
    """Rows of images, with the points where the images are preprocessed."""
    if "x1" not in first_row(table):
        yield from ((row, None) for row in read_table(table, COLUMNS, header=False))
        return
    for row in read_table(table, PUBLISHED_COLUMNS, numbers=POINTS):
        values = [number(row[name], f"{name} of {row['uid']} in {table}") for name in POINTS]
        known = [value for value in values if value is not None]
        if len(known) < len(POINTS):
            raise CinemaError(f"{table}: {row['uid']} lacks one of {', '.join(POINTS)}.")
        yield row | {"cohort": row["cohort_name"]}, [known[start : start + 2] for start in (0, 2, 4)]


def _cases(root: Path, view: str) -> list[CaseRef]:
    rows: dict[str, tuple[dict[str, str], list[list[float]] | None]] = {}
    for row, points in _rows(root / f"{view}.csv"):
        rows.setdefault(row["uid"], (row, points))
    splits = shuffled_split(dict.fromkeys(_person(uid) for uid in rows))
    return [_case(root, view, row, splits[_person(uid)], points) for uid, (row, points) in rows.items()]


def _person(uid: str) -> str:
    return uid.split("_")[0]


def _case(root: Path, view: str, row: dict[str, str], split: str, points: list[list[float]] | None) -> CaseRef:
    uid = row["uid"]
    fields: dict[str, Any] = {"cohort": row["cohort"], "uid": uid, "frame": uid.rpartition("_")[2]}
    kinds = ("images", "masks") if points is None else ("images",)
    sources = tuple(root / view / kind / f"{uid}.png" for kind in kinds)
    args = {"view": view} if points is None else {"view": view, "points": points}
    # The same person may train in one view and be tested in the other, so the subject is named with the view.
    return CaseRef(f"{uid}_{view}", f"{_person(uid)}_{view}", split, sources, fields, args)


def _points(mask: np.ndarray, path: Path) -> list[tuple[int, int]]:
    """Mean position of each landmark's mask, cut to whole pixels."""
    points = []
    for value, name in LANDMARKS.items():
        x, y = np.nonzero(mask == value)
        if x.size == 0:
            raise CinemaError(f"{path} has no pixel of value {value} ({name}).")
        points.append((int(x.mean()), int(y.mean())))
    return points


def _is_mirrored(points: list[tuple[int, int]], view: str) -> bool:
    """2-chamber points turn one way and 4-chamber points the other; an image that does not was stored mirrored."""
    (x1, y1), (x2, y2), (x3, y3) = points
    turn = (y2 - y1) * (x3 - x2) - (x2 - x1) * (y3 - y2)
    return turn <= 0 if view == "lax_2c" else turn >= 0


def shrink(image: np.ndarray) -> np.ndarray:
    """Scales an image by 0.25: Gaussian against aliasing, then linear, as scikit-image's ``rescale`` does.

    Args:
        image: (X, Y) uint8.

    Returns:
        (X/4, Y/4) uint8, cut.
    """
    from scipy import ndimage

    # Half of the factor beyond one pixel is scikit-image's choice of sigma.
    smooth = ndimage.gaussian_filter(image.astype(np.float64) / 255, (1 / SCALE - 1) / 2, mode="mirror")
    size = [round(n * SCALE) for n in image.shape]
    factors = [new / old for new, old in zip(size, image.shape, strict=True)]
    small = ndimage.zoom(smooth, factors, order=1, mode="mirror", grid_mode=True)
    return np.clip(small * 255, 0, 255).astype(np.uint8)
