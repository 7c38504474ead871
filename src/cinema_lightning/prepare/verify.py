"""``cinema verify``: is a store fit for training? Errors and warnings, printed and as CSV."""

from __future__ import annotations

import hashlib
import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cinema_lightning import __version__
from cinema_lightning.columns import COLUMNS, Column, frames_column
from cinema_lightning.data.store import Series, open_series, series_path
from cinema_lightning.data.table import SPLITS, TABLE
from cinema_lightning.datasets.base import Dataset
from cinema_lightning.datasets.described.stored import STORED, dataset_of
from cinema_lightning.datasets.files import number
from cinema_lightning.errors import CinemaError
from cinema_lightning.imaging.geometry import spacing_of
from cinema_lightning.prepare.checking import Progress, Result, check_all, forget, join
from cinema_lightning.prepare.cohort_checks import PRINT, Finding, Row, check_cohort, check_copies
from cinema_lightning.prepare.failures import write_rows
from cinema_lightning.prepare.runner import stop_on_signals
from cinema_lightning.prepare.size import crop_size, size_of, spacing_wanted
from cinema_lightning.prepare.tables import LANDMARKS
from cinema_lightning.shards import Shard
from cinema_lightning.tables import read_table
from cinema_lightning.views import VIEWS

REPORT = "verify.csv"
SHOWN = 20


def verify(
    dataset: str,
    root: Path,
    full: bool = False,
    report: Path | None = None,
    workers: int = 1,
    shard: str | None = None,
) -> int:
    """Checks a prepared store before training.

    Ids, splits by subject, one image under two names, files, shapes, spacing, label values, ED and ES, volumes,
    clinical values, landmarks and classes per split. Reads the label maps whole and one frame of each image series. The
    result does not depend on the number of workers or shards. After a stop, the same command goes on with what is left
    or has changed.

    Args:
        dataset: The dataset's name.
        root: Folder of the store.
        full: Read every frame of every series, too.
        report: CSV to write; <root>/verify.csv by default.
        workers: Processes that check studies side by side.
        shard: I/N checks the I-th of N parts (I from 1), for N jobs side by side; the last one writes the report.

    Returns:
        Exit code: 0 without errors (there may be warnings), 1 with some, 128 + number of the signal that stopped it.

    Raises:
        CinemaError: If there is no table, or the report cannot be written.
    """
    if workers < 1:
        raise CinemaError(f"--workers is {workers}; give 1 or more.")
    root, part = Path(root), Shard.parse(shard)
    reader = dataset_of(dataset, root)
    rows = read_rows(root)
    path = Path(report or root / REPORT)
    check = RowCheck(reader, root, full, rows, dict(_landmarks(root)), _repeats(rows))
    progress = Progress.of(path, part, _digest(dataset, root, full))
    mine = range(len(rows))[part.index - 1 :: part.count]
    with stop_on_signals() as stop:
        check_all(check, mine, progress, workers, stop, f"verify {reader.display}")
        if stop.signal is not None or part.count > 1:
            progress.save()
    if stop.signal is not None:
        print(f"Stopped after {len(progress.done)} of {len(mine)} studies; the same command goes on from there.")
        return 128 + stop.signal
    results = join(progress, path, part, len(rows))
    if results is None:
        where = f"; the last of {part.count} shards to end writes {path}"
        return _say(f"{reader.display}: {len(mine)} studies", _found(progress.done), where)
    if part.count > 1:  # files may have changed since their shard ended
        results = {row: check(row, found) for row, found in results.items()}
    findings = [*check_cohort(reader, root, rows), *check_copies(rows, _found(results, prints=True)), *_found(results)]
    findings.sort(key=lambda finding: (finding.level, finding.id, finding.check))
    write_rows(path, Finding._fields, findings)
    forget(path, part)
    _print_classes(reader, rows)
    return _say(f"{reader.display}: {len(rows)} studies", findings, f": {path}")


@dataclass(frozen=True)
class RowCheck:
    """Checks the study of one row of the table, in any process.

    Attributes:
        dataset: The dataset.
        root: Folder of the store.
        full: Read every frame.
        rows: The table.
        marks: Id -> its rows of the landmark table.
        repeats: Rows whose id an earlier row has: its files are checked once.
    """

    dataset: Dataset
    root: Path
    full: bool
    rows: Sequence[Row]
    marks: Mapping[str, list[Row]]
    repeats: frozenset[int]

    def __call__(self, number: int, before: Result | None) -> Result:
        """The state of the study's files and the findings, those of an earlier start where the files are the same."""
        row = self.rows[number]
        mark = self._mark(row)
        if before is not None and before[0] == mark:
            return before
        try:
            found = list(self._findings(number, row))
        except Exception as error:  # of one study; the others are checked all the same
            found = [Finding("error", row["id"], "files", f"cannot be checked: {type(error).__name__}: {error}")]
        return mark, [list(finding) for finding in found]

    def _findings(self, number: int, row: Row) -> Iterator[Finding]:
        if number in self.repeats:
            return _check_clinical(row)
        return check_study(self.dataset, self.root, row, self.marks.get(row["id"], []), self.full)

    def _mark(self, row: Row) -> str:
        state = []
        for view in (row.get("views") or "").split():
            for kind in ("image", "label"):
                try:
                    found = series_path(self.root, row["id"], view, kind).stat()
                    state.append(f"{found.st_size}.{found.st_mtime_ns}")
                except OSError:
                    state.append("-")
        return " ".join(state)


def _repeats(rows: list[Row]) -> frozenset[int]:
    first: dict[str, int] = {}
    return frozenset(number for number, row in enumerate(rows) if first.setdefault(row["id"], number) != number)


def _digest(dataset: str, root: Path, full: bool) -> str:
    """Of the tables and the way of checking: results of another do not count."""
    digest = hashlib.blake2b(f"{__version__} {dataset} {full}".encode(), digest_size=8)
    for name in (TABLE, "landmarks.csv", STORED):
        if (root / name).is_file():
            digest.update((root / name).read_bytes())
    return digest.hexdigest()


def _found(results: Mapping[int, Result], *, prints: bool = False) -> list[Finding]:
    found = (Finding(*finding) for row in sorted(results) for finding in results[row][1])
    return [finding for finding in found if (finding.level == PRINT) == prints]


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
    if not path.is_file():
        raise CinemaError(f"{path} is missing: run cinema prepare first, or cinema phantom.")
    rows: list[Row] = list(read_table(path, numbers=[column.name for column in COLUMNS.values() if column.is_clinical]))
    if not rows or "id" not in rows[0]:
        raise CinemaError(f"{path} has no rows with an id: run cinema prepare again.")
    return rows


def _landmarks(root: Path) -> dict[str, list[Row]]:
    marks: dict[str, list[Row]] = defaultdict(list)
    path = root / "landmarks.csv"
    if path.is_file():
        for row in read_table(path, LANDMARKS, numbers=LANDMARKS[-2:]):
            marks[row["id"]].append(row)
    return marks


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
    frames: dict[str, int] = {}
    counts: dict[str, tuple[str, int, str]] = {}
    for view in views:
        if view not in VIEWS:
            yield Finding("error", name, "views", f"there is no view '{view}'")
            continue
        try:
            series = open_series(series_path(root, name, view))
            yield from _check_series(reader, row, view, series, full)
            yield from _check_marks(name, view, marks, series.shape)
            path = series_path(root, name, view, "label")
            if path.is_file():
                yield from _check_labels(reader, name, view, series, open_series(path), row)
            frames[view] = series.n_frames
            counts |= {frames_column(view): (view, series.n_frames, "frames")}
            counts |= {"n_slices": (view, series.shape[2], "slices")} if len(series.shape) == 3 else {}
        except CinemaError as error:
            yield Finding("error", name, "files", str(error))
    if frames:
        # ED and ES count in the SAX series, where there is one; other views may have fewer frames.
        yield from _check_phases(row, min(frames.values()), frames.get("sax", min(frames.values())))
        yield from _check_counts(row, counts)
    yield from _check_stack(row)
    yield from _check_clinical(row)


def _check_series(reader: Dataset, row: Row, view: str, series: Series, full: bool) -> Iterator[Finding]:
    name, info, dims = row["id"], series.info, VIEWS[view].dims
    if len(series.shape) != dims:
        yield Finding("error", name, "shapes", f"{view} has frames of shape {series.shape}, not of {dims} axes")
        return
    crop = crop_size(reader, view, size_of(info.provenance))
    whole = "none" in (reader.crop, row.get("crop_centre"))
    if not whole and any(size > limit for size, limit in zip(series.shape, crop, strict=False)):
        yield Finding("error", name, "shapes", f"{view} is {series.shape}, more than the crop {crop}")
    if not np.allclose(spacing_of(info.affine), info.spacing, rtol=1e-3):
        yield Finding("error", name, "spacing", f"{view}: spacing {info.spacing} and affine contradict each other")
    target = spacing_wanted(reader, view, info.spacing, info.provenance)
    if not np.allclose(info.spacing, target, rtol=1e-3):
        yield Finding("error", name, "spacing", f"{view} has the spacing {info.spacing}, not {target} mm")
    first = series.read([0])
    if first.any():
        yield Finding(PRINT, name, view, hashlib.blake2b(first.tobytes(), digest_size=8).hexdigest())
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
    # of codes in a row from 0, as datasets have them, the largest says that all are known: sorting takes longer
    known = set(range(int(maps.max()) + 1)) <= set(reader.labels)
    unknown = [] if known else sorted(set(np.unique(maps).tolist()) - set(reader.labels))
    if unknown:
        yield Finding(
            "error", name, "labels", f"{view}: the label maps hold {unknown}, known are {sorted(reader.labels)}"
        )
    for entry, frame in enumerate(frames):
        if not maps[entry].any() and str(frame) in (row.get("ed_frame"), row.get("es_frame")):
            yield Finding("warning", name, "labels", f"{view}: the label map of frame {frame} is empty")


def _check_marks(name: str, view: str, marks: list[Row], size: tuple[int, ...]) -> Iterator[Finding]:
    for mark in marks:
        if mark["view"] != view:
            continue
        at = [number(mark[axis]) for axis in LANDMARKS[-2:]]
        # The picture ends half a voxel beyond the centres of its outer voxels.
        if any(value is None or not -0.5 <= value <= limit - 0.5 for value, limit in zip(at, size, strict=False)):
            yield Finding("error", name, "landmarks", f"{view}: {mark['landmark']} is at {at}, outside of {size}")


def _check_counts(row: Row, counts: Mapping[str, tuple[str, int, str]]) -> Iterator[Finding]:
    for column, (view, count, what) in counts.items():
        said = row.get(column)
        if said and number(said) != count:
            yield Finding("error", row["id"], what, f"{view}: the table says {said} {what}, the file {count}")


def _check_phases(row: Row, n_frames: int, counted: int) -> Iterator[Finding]:
    name = row["id"]
    if row.get("n_frames") and number(row["n_frames"]) != n_frames:
        yield Finding("error", name, "frames", f"the table says {row['n_frames']} frames, the files {n_frames}")
    phases = [number(row.get(column, "")) for column in ("ed_frame", "es_frame")]
    for phase, frame in zip(("ED", "ES"), phases, strict=True):
        if frame is not None and not 0 <= frame < counted:
            yield Finding("error", name, "frames", f"{phase} is frame {frame:g}, but the frames are 0 to {counted - 1}")
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
    for column in COLUMNS.values():
        level, what = _what_is_wrong(column, row.get(column.name, ""))
        if what:
            yield Finding(level, name, "clinical", f"{column.name} is {what}")


def _what_is_wrong(column: Column, cell: str) -> tuple[str, str]:
    """Level of a finding and what the cell is, empty where it can be."""
    if cell and column.values and cell not in column.values:
        return "error", f"'{cell}', not {' or '.join(column.values)}"
    if not cell or not column.is_clinical:
        return "", ""
    value, (low, high) = number(cell), column.range or (-math.inf, math.inf)
    if value is None:
        return "error", f"'{cell}', not a number"
    found = f"{value:g} {column.unit}".strip()
    return ("", "") if low <= value <= high else ("warning", f"{found}, expected {low:g} to {high:g}")


def _print_classes(reader: Dataset, rows: Sequence[Row]) -> None:
    for column, classes in reader.classes.items():
        print(f"{column:<12}" + "".join(f"{split or '-':>8}" for split in SPLITS))
        counts = Counter((row.get(column), row.get("split")) for row in rows)
        for name in classes:
            print(f"  {name:<10}" + "".join(f"{counts[name, split]:>8}" for split in SPLITS))


def _say(what: str, findings: list[Finding], where: str) -> int:
    """Prints the first findings and how many there are; returns the exit code."""
    for finding in findings[:SHOWN]:
        print(f"{finding.level:<8} {finding.id:<16} {finding.check:<10} {finding.message}")
    if len(findings) > SHOWN:
        print(f"... and {len(findings) - SHOWN} more.")
    levels = Counter(finding.level for finding in findings)
    print(f"{what}, {levels['error']} errors, {levels['warning']} warnings{where}")
    return 1 if levels["error"] else 0
