"""``cinema verify``: is a store fit for training? Errors and warnings, printed and as CSV."""

from __future__ import annotations

import csv
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cinema_lightning.data.store import Series, open_series, series_path
from cinema_lightning.data.table import SPLITS, TABLE
from cinema_lightning.datasets.base import DATASETS, Dataset
from cinema_lightning.datasets.files import number
from cinema_lightning.errors import CinemaError
from cinema_lightning.imaging.geometry import spacing_of
from cinema_lightning.prepare.failures import read_problems, write_rows
from cinema_lightning.prepare.size import crop_size, size_of, spacing_wanted
from cinema_lightning.prepare.tables import LANDMARKS
from cinema_lightning.views import VIEWS

REPORT = "verify.csv"
SHOWN = 20
Row = Mapping[str, str]
# What a living adult's or child's heart can have; outside of it a cell is likelier a slip than a finding.
RANGES = {
    "age": (0.0, 120.0, "years"),
    "height": (0.5, 2.5, "m"),
    "weight": (3.0, 350.0, "kg"),
    "bmi": (8.0, 90.0, "kg/m2"),
    "lv_edv": (10.0, 700.0, "ml"),
    "rv_edv": (10.0, 700.0, "ml"),
    "lv_ef": (0.0, 95.0, "%"),
    "rv_ef": (0.0, 95.0, "%"),
    "lv_mass": (5.0, 600.0, "g"),
    "time": (0.0, 40_000.0, "days"),
}


class Finding(NamedTuple):
    """One thing that is wrong (error) or worth a look (warning).

    Attributes:
        level: error or warning.
        id: The study, or empty for the cohort.
        check: What was checked.
        message: One sentence.
    """

    level: str
    id: str
    check: str
    message: str


def verify(dataset: str, root: Path, full: bool = False, report: Path | None = None) -> int:
    """Checks a prepared store before training.

    Ids, splits by subject, files, shapes, spacing, label values, ED and ES, volumes, clinical values, landmarks and
    classes per split. Reads the label maps whole and one frame of each image series.

    Args:
        dataset: The dataset's name.
        root: Folder of the store.
        full: Read every frame of every series, too.
        report: CSV to write; <root>/verify.csv by default.

    Returns:
        Exit code: 0 without errors (there may be warnings), 1 with some.

    Raises:
        CinemaError: If there is no table, or the report cannot be written.
    """
    from tqdm import tqdm

    reader, root = DATASETS[dataset], Path(root)
    rows = read_rows(root)
    marks = _landmarks(root)
    findings = [*_check_table(rows, root), *_check_subjects(rows), *_check_classes(reader, rows)]
    for row in tqdm(rows, desc=f"verify {reader.display}", unit="study", mininterval=1.0):
        findings += check_study(reader, root, row, marks.get(row.get("id", ""), []), full)
    findings.sort(key=lambda finding: (finding.level, finding.id, finding.check))
    path = report or root / REPORT
    write_rows(path, Finding._fields, findings)
    _print(reader, rows, findings, path)
    return 1 if any(finding.level == "error" for finding in findings) else 0


def read_rows(root: Path) -> list[Row]:
    """Reads the cohort table as text, also one that the loader would refuse.

    Args:
        root: Folder of the store.

    Returns:
        One mapping per row.

    Raises:
        CinemaError: If there is no table or it has no rows.
    """
    path = root / TABLE
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows: list[Row] = list(csv.DictReader(file))
    except OSError as error:
        raise CinemaError(f"{path} cannot be read ({error.strerror}): run cinema prepare first.") from None
    if not rows or "id" not in rows[0]:
        raise CinemaError(f"{path} has no rows with an id: run cinema prepare again.")
    return rows


def _landmarks(root: Path) -> dict[str, list[Row]]:
    marks: dict[str, list[Row]] = defaultdict(list)
    path = root / "landmarks.csv"
    if path.is_file():
        with path.open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                marks[row["id"]].append(row)
    return marks


def _check_table(rows: list[Row], root: Path) -> Iterator[Finding]:
    counts = Counter(row["id"] for row in rows)
    for name, count in counts.items():
        if count > 1 or not name:
            yield Finding("error", name, "ids", f"the id '{name}' is in {count} rows; ids must be there and unique")
    for row in rows:
        if row.get("split", "") not in ("", *SPLITS):
            yield Finding("error", row["id"], "splits", f"the split '{row['split']}' is none of {', '.join(SPLITS)}")
    strays = sorted(
        path.name for path in root.iterdir() if path.is_dir() and path.name[0] != "." and path.name not in counts
    )
    if strays:
        yield Finding("warning", "", "files", f"{len(strays)} folders have no row in the table, e.g. {strays[0]}")
    failed = read_problems(root / "failures.csv") if (root / "failures.csv").is_file() else []
    if failed:
        yield Finding("warning", "", "failures", f"{len(failed)} studies could not be prepared, see failures.csv")


def _check_subjects(rows: list[Row]) -> Iterator[Finding]:
    splits: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        splits[row.get("subject") or row["id"]].add(row.get("split", ""))
    for subject, where in splits.items():
        if len(where) > 1:
            names = ", ".join(sorted(name or "no split" for name in where))
            yield Finding("error", subject, "splits", f"subject {subject} has studies in several splits: {names}")


def _check_classes(reader: Dataset, rows: list[Row]) -> Iterator[Finding]:
    for column, classes in reader.classes.items():
        counts = Counter((row.get("split", ""), row.get(column, "")) for row in rows)
        others = Counter(row.get(column, "") for row in rows if row.get(column, "") not in (*classes, ""))
        for name, count in sorted(others.items()):
            yield Finding(
                "warning", "", "classes", f"{column} '{name}' ({count} studies) is left out of classification"
            )
        if any(row.get("split") == "train" for row in rows):
            for name in classes:
                if counts["train", name] == 0:
                    yield Finding("warning", "", "classes", f"no training study has {column} '{name}'")
        empty = sum(not row.get(column) for row in rows)
        if empty:
            yield Finding("warning", "", "clinical", f"{column} is missing in {empty} of {len(rows)} studies")
    for column in reader.regression:
        empty = sum(number(row.get(column, "")) is None for row in rows)
        if empty:
            yield Finding("warning", "", "clinical", f"{column} is missing in {empty} of {len(rows)} studies")


def check_study(reader: Dataset, root: Path, row: Row, marks: list[Row], full: bool) -> Iterator[Finding]:
    """Checks one study.

    Args:
        reader: The dataset.
        root: Folder of the store.
        row: The study's row of the table.
        marks: Its rows of the landmark table.
        full: Read every frame.

    Yields:
        What is wrong or worth a look.
    """
    name, views = row["id"], row.get("views", "").split()
    if not views:
        yield Finding("error", name, "views", "the row names no view")
    frames = []
    for view in views:
        if view not in VIEWS:
            yield Finding("error", name, "views", f"there is no view '{view}'")
            continue
        try:
            series = open_series(series_path(root, name, view))
            yield from _check_series(reader, name, view, series, full)
            path = series_path(root, name, view, "label")
            if path.is_file():
                yield from _check_labels(reader, name, view, series, open_series(path), row)
            frames.append(series.n_frames)
        except CinemaError as error:
            yield Finding("error", name, "files", str(error))
        yield from _check_marks(name, view, marks, root)
    if frames:
        yield from _check_phases(row, min(frames))
    yield from _check_stack(row)
    yield from _check_clinical(row)


def _check_series(reader: Dataset, name: str, view: str, series: Series, full: bool) -> Iterator[Finding]:
    info, dims = series.info, VIEWS[view].dims
    if len(series.shape) != dims:
        yield Finding("error", name, "shapes", f"{view} has frames of shape {series.shape}, not of {dims} axes")
        return
    crop = crop_size(reader, view, size_of(info.provenance))
    if reader.crop != "none" and any(size > limit for size, limit in zip(series.shape, crop, strict=False)):
        yield Finding("error", name, "shapes", f"{view} is {series.shape}, more than the crop {crop}")
    if not np.allclose(spacing_of(info.affine), info.spacing, rtol=1e-3):
        yield Finding("error", name, "spacing", f"{view}: spacing {info.spacing} and affine contradict each other")
    target = spacing_wanted(reader, view, info.spacing, info.provenance)
    if not np.allclose(info.spacing, target, rtol=1e-3):
        yield Finding("error", name, "spacing", f"{view} has the spacing {info.spacing}, not {target} mm")
    dark = [index for index in (range(series.n_frames) if full else [0]) if not series.read([index]).any()]
    if dark:
        yield Finding("warning", name, "images", f"{view}: frame {dark[0]} is black ({len(dark)} such frames)")


def _check_labels(reader: Dataset, name: str, view: str, series: Series, label: Series, row: Row) -> Iterator[Finding]:
    if label.shape != series.shape:
        yield Finding("error", name, "shapes", f"{view}: label maps are {label.shape}, images {series.shape}")
        return
    if not np.allclose(label.info.affine, series.info.affine, atol=1e-4):
        yield Finding("error", name, "spacing", f"{view}: label maps lie elsewhere than the images")
    frames = label.info.frames if label.info.frames is not None else list(range(series.n_frames))
    if len(frames) != label.n_frames or any(not 0 <= frame < series.n_frames for frame in frames):
        yield Finding("error", name, "labels", f"{view}: label maps belong to frames {frames} of {series.n_frames}")
        return
    maps = label.read()
    unknown = sorted(set(np.unique(maps).tolist()) - set(reader.labels))
    if unknown:
        yield Finding(
            "error", name, "labels", f"{view}: the label maps hold {unknown}, known are {sorted(reader.labels)}"
        )
    for entry, frame in enumerate(frames):
        if not maps[entry].any() and str(frame) in (row.get("ed_frame"), row.get("es_frame")):
            yield Finding("warning", name, "labels", f"{view}: the label map of frame {frame} is empty")


def _check_marks(name: str, view: str, marks: list[Row], root: Path) -> Iterator[Finding]:
    points = [mark for mark in marks if mark["view"] == view]
    if not points:
        return
    try:
        size = open_series(series_path(root, name, view)).shape
    except CinemaError:
        return
    for mark in points:
        at = [number(mark[axis]) for axis in LANDMARKS[-2:]]
        # The picture ends half a voxel beyond the centres of its outer voxels.
        if any(value is None or not -0.5 <= value <= limit - 0.5 for value, limit in zip(at, size, strict=False)):
            yield Finding("error", name, "landmarks", f"{view}: {mark['landmark']} is at {at}, outside of {size}")


def _check_phases(row: Row, n_frames: int) -> Iterator[Finding]:
    name = row["id"]
    if row.get("n_frames") and number(row["n_frames"]) != n_frames:
        yield Finding("error", name, "frames", f"the table says {row['n_frames']} frames, the files {n_frames}")
    phases = [number(row.get(column, "")) for column in ("ed_frame", "es_frame")]
    for phase, frame in zip(("ED", "ES"), phases, strict=True):
        if frame is not None and not 0 <= frame < n_frames:
            yield Finding(
                "error", name, "frames", f"{phase} is frame {frame:g}, but the frames are 0 to {n_frames - 1}"
            )
    if phases[0] is not None and phases[0] == phases[1]:
        yield Finding("error", name, "frames", f"ED and ES are the same frame ({phases[0]:g})")


def _check_stack(row: Row) -> Iterator[Finding]:
    words = {"left_out": "left out of the stack", "filled": "filled between their neighbours"}
    for what, done in words.items():
        count = number(row.get(f"n_slices_{what}", ""))
        if count:
            said = f"SAX slices {done}: {count:g} ({row.get('n_slices_read')} were read), see warnings.csv"
            yield Finding("warning", row["id"], "slices", said)


def _check_clinical(row: Row) -> Iterator[Finding]:
    name = row["id"]
    for side in ("lv", "rv"):
        edv, esv = number(row.get(f"{side}_edv", "")), number(row.get(f"{side}_esv", ""))
        if edv is not None and esv is not None and edv < esv:
            yield Finding("error", name, "volumes", f"{side.upper()} EDV {edv:g} ml is less than ESV {esv:g} ml")
    for column, (low, high, unit) in RANGES.items():
        cell = row.get(column, "")
        value = number(cell)
        if cell and value is None:
            yield Finding("error", name, "clinical", f"{column} is '{cell}', not a number")
        elif value is not None and not low <= value <= high:
            yield Finding("warning", name, "clinical", f"{column} is {value:g} {unit}, expected {low:g} to {high:g}")
    if row.get("sex", "") not in ("", "M", "F"):
        yield Finding("error", name, "clinical", f"sex is '{row['sex']}', not M or F")
    if row.get("event", "") not in ("", "0", "1"):
        yield Finding("error", name, "clinical", f"event is '{row['event']}', not 0 or 1")


def _print(reader: Dataset, rows: list[Row], findings: list[Finding], path: Path) -> None:
    for column, classes in reader.classes.items():
        print(f"{column:<12}" + "".join(f"{split or '-':>8}" for split in SPLITS))
        for name in classes:
            counts = [sum(r.get(column) == name and r.get("split") == split for r in rows) for split in SPLITS]
            print(f"  {name:<10}" + "".join(f"{count:>8}" for count in counts))
    for finding in findings[:SHOWN]:
        print(f"{finding.level:<8} {finding.id:<16} {finding.check:<10} {finding.message}")
    if len(findings) > SHOWN:
        print(f"... and {len(findings) - SHOWN} more.")
    levels = Counter(finding.level for finding in findings)
    print(f"{reader.display}: {len(rows)} studies, {levels['error']} errors, {levels['warning']} warnings: {path}")
