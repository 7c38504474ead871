"""``cinema describe``: a cohort in numbers, and one picture in which wrong geometry shows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cinema_lightning import columns
from cinema_lightning.data.store import Series, open_series, series_path
from cinema_lightning.data.table import SPLITS, Cohort, read_cohort
from cinema_lightning.datasets.base import Dataset
from cinema_lightning.datasets.described.reader import DescribedDataset
from cinema_lightning.datasets.described.stored import dataset_of
from cinema_lightning.datasets.files import number
from cinema_lightning.errors import CinemaError
from cinema_lightning.files import replacing
from cinema_lightning.prepare.failures import write_rows
from cinema_lightning.prepare.tables import LANDMARKS
from cinema_lightning.tables import finite, read_table
from cinema_lightning.views import VIEWS

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

STATISTICS, SHEET = "description.csv", "contact_sheet.png"
COLUMNS = ("split", "column", "value", "n", "mean", "sd", "min", "max")
# Of a column that nobody declared, more different texts than these are no classes.
MOST_CLASSES = 12
COLOURS = ("tab:red", "tab:green", "tab:cyan", "tab:orange", "tab:purple")


def describe(dataset: str, root: Path, studies: int = 12, out: Path | None = None) -> int:
    """Prints a cohort's statistics per split and draws a contact sheet with label contours.

    Args:
        dataset: The dataset's name.
        root: Folder of the store.
        studies: How many studies the contact sheet shows, taken evenly from the table; 0 draws none.
        out: Folder of description.csv and contact_sheet.png; the store's by default.

    Returns:
        Exit code 0.

    Raises:
        CinemaError: If the store cannot be read or a file cannot be written.
    """
    reader, cohort = dataset_of(dataset, root), read_cohort(root)
    folder = Path(out) if out is not None else Path(root)
    rows = statistics(cohort.table, free=isinstance(reader, DescribedDataset))
    write_rows(folder / STATISTICS, COLUMNS, rows)
    _print(reader, cohort, rows)
    if studies > 0:
        path = folder / SHEET
        draw_sheet(reader, cohort, even_rows(len(cohort), studies), path)
        print(f"Contact sheet: {path}")
    return 0


def even_rows(total: int, wanted: int) -> list[int]:
    """Row numbers spread evenly over a table."""
    return sorted({int(row) for row in np.linspace(0, total - 1, min(total, wanted)).round()})


def statistics(table: pd.DataFrame, *, free: bool = False) -> list[tuple[Any, ...]]:
    """Statistics per split and over all.

    Args:
        table: The cohort table.
        free: Whether columns that nobody declared are described, too, by what is in them.

    Returns:
        Rows (split, column, value, n, mean, sd, min, max): one per column of numbers with n, mean, SD (n - 1) and
        range, one per value of each column of classes with its count; ``studies`` and ``subjects`` come first.
    """
    rows: list[tuple[Any, ...]] = []
    known = [column for column in columns.COLUMNS.values() if column.name in table and column.described]
    others = [str(name) for name in table if free and str(name) not in columns.COLUMNS]
    known += [_guessed(name, table[name]) for name in others]
    for split in ("all", *SPLITS):
        part = table if split == "all" else table[table["split"] == split]
        if part.empty:
            continue
        for name, count in (("studies", len(part)), ("subjects", part["subject"].nunique())):
            rows.append((split, name, "", count, "", "", "", ""))
        numbers = [column.name for column in known if column.kind == "number"]
        rows += [row for name in numbers for row in _continuous(split, name, part[name])]
        for name in (column.name for column in known if column.kind in ("code", "class")):
            counts = part[name].dropna().astype(str).value_counts().sort_index()
            rows += [(split, name, value, int(count), "", "", "", "") for value, count in counts.items()]
    return rows


def _guessed(name: str, cells: pd.Series[Any]) -> columns.Column:
    """A column that nobody declared, such as a free one of own data: numbers, or a few classes, or text."""
    import pandas as pd

    filled = cells.dropna()
    if not pd.to_numeric(filled, errors="coerce").isna().any():
        return columns.Column(name)
    return columns.Column(name, kind="class" if filled.nunique() <= MOST_CLASSES else "text")


def _continuous(split: str, column: str, cells: pd.Series[Any]) -> Iterable[tuple[Any, ...]]:
    import pandas as pd

    values = pd.to_numeric(cells, errors="coerce").dropna()
    if len(values):
        spread = float(values.std()) if len(values) > 1 else ""
        yield (split, column, "", len(values), float(values.mean()), spread, float(values.min()), float(values.max()))


def _print(reader: Dataset, cohort: Cohort, rows: Sequence[tuple[Any, ...]]) -> None:
    """One line per column or value, one column per split: mean and SD, or a count."""
    cells: dict[str, dict[str, str]] = {}
    for split, column, value, n, mean, sd, *_ in rows:
        spread = f" ({sd:.2f})" if sd != "" else ""
        cells.setdefault(f"{column} {value}".strip(), {})[split] = str(n) if mean == "" else f"{mean:.2f}{spread}"
    splits = list(dict.fromkeys(row[0] for row in rows))
    print(f"{reader.display}: {cohort.root}; counts, or mean (SD)")
    print(f"{'':34}" + "".join(f"{split:>18}" for split in splits))
    for name, line in cells.items():
        print(f"{name[:33]:34}" + "".join(f"{line.get(split, '-'):>18}" for split in splits))


def draw_sheet(reader: Dataset, cohort: Cohort, rows: Sequence[int], path: Path) -> None:
    """Draws studies, one row each: every view at ED and ES (or the first frame), label contours and landmarks.

    On a long-axis image a dashed line shows where the SAX slice beside it cuts it: it should cross the ventricle.

    Args:
        reader: The dataset.
        cohort: The cohort.
        rows: Row numbers.
        path: PNG to write.

    Raises:
        CinemaError: If a series cannot be read or the file cannot be written.
    """
    from matplotlib.figure import Figure

    columns = [(view, phase) for view in reader.views for phase in ("ed", "es")]
    figure = Figure(figsize=(1.9 * len(columns), 2.1 * len(rows)), dpi=110, layout="constrained")
    axes = figure.subplots(len(rows), len(columns), squeeze=False)
    marks = _landmarks(cohort.root)
    for line, row in zip(axes, rows, strict=True):
        cells = cohort.table.iloc[row].to_dict()
        study, views = str(cells["id"]), str(cells["views"]).split()
        stack = open_series(series_path(cohort.root, study, "sax")) if "sax" in views else None
        for axis, (view, phase) in zip(line, columns, strict=True):
            frame = _frame(cells, phase)
            if view not in views or frame is None:
                axis.set_axis_off()
                continue
            axis.set(xticks=[], yticks=[], title=f"{study}  {VIEWS[view].display} frame {frame}")
            axis.title.set_fontsize(6)
            _draw(axis, reader, cohort.root, study, view, frame, stack)
            for x, y in marks.get((study, view), []):
                axis.plot(x, y, "+", color="yellow", markersize=6)
    with replacing(path) as temporary:
        figure.savefig(temporary)


def _frame(cells: dict[Any, Any], phase: str) -> int | None:
    """The frame of a phase; without ED and ES the first frame stands for ED and nothing for ES."""
    value = number(cells.get(f"{phase}_frame", ""))
    return int(value) if value is not None else 0 if phase == "ed" else None


def _draw(axis: Axes, reader: Dataset, root: Path, study: str, view: str, frame: int, stack: Series | None) -> None:
    series = open_series(series_path(root, study, view))
    frame = min(frame, series.n_frames - 1)
    label = _label(root, study, view, frame)
    image = series.read([frame])[0]
    if image.ndim == 3:
        middle = image.shape[2] // 2
        image, label = image[..., middle], None if label is None else label[..., middle]
    axis.imshow(image.T, cmap="gray", vmin=0, vmax=255)
    if label is not None:
        for code, colour in zip(sorted(code for code in reader.labels if code > 0), COLOURS, strict=False):
            if (label == code).any() and not (label == code).all():
                axis.contour((label == code).T, levels=[0.5], colors=[colour], linewidths=0.7)
    if view != "sax" and stack is not None:
        _draw_slice(axis, stack, series)


def _label(root: Path, study: str, view: str, frame: int) -> np.ndarray | None:
    path = series_path(root, study, view, "label")
    if not path.is_file():
        return None
    label = open_series(path)
    frames = label.info.frames if label.info.frames is not None else list(range(label.n_frames))
    return label.read([frames.index(frame)])[0] if frame in frames else None


def _draw_slice(axis: Axes, stack: Series, plane: Series) -> None:
    """Where the middle SAX slice cuts a long-axis image: a x + b y + c = 0 in its pixels."""
    sax, lax = stack.info.affine, plane.info.affine
    normal = np.cross(sax[:3, 0], sax[:3, 1])
    middle = sax[:3, 3] + sax[:3, 2] * (stack.shape[2] // 2)
    a, b = float(normal @ lax[:3, 0]), float(normal @ lax[:3, 1])
    c = float(normal @ (lax[:3, 3] - middle))
    width, height = plane.shape
    if max(abs(a), abs(b)) < 1e-6:
        return
    if abs(a) > abs(b):
        points = [(-(b * y + c) / a, y) for y in (0.0, height - 1.0)]
    else:
        points = [(x, -(a * x + c) / b) for x in (0.0, width - 1.0)]
    axis.plot(*zip(*points, strict=True), "--", color="white", linewidth=0.6, scalex=False, scaley=False)


def _landmarks(root: Path) -> dict[tuple[str, str], list[tuple[float, float]]]:
    path = Path(root) / "landmarks.csv"
    marks: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for row in read_table(path, LANDMARKS, numbers=("x", "y")) if path.is_file() else []:
        x, y = finite(row["x"]), finite(row["y"])
        if x is None or y is None:
            raise CinemaError(f"{path}: {row['landmark']} of {row['id']} is at '{row['x']}', '{row['y']}'; mend it.")
        marks.setdefault((row["id"], row["view"]), []).append((x, y))
    return marks
