"""The cohort table: which studies exist, what views they have, and who is in which split.

``<root>/cohort.csv`` holds one row per study (participant and visit). It is the only thing that is read to open a
cohort, so that 75,000 studies open in a second and no folder is listed. A root without it is taken for a folder of
NIfTI files (see :mod:`cinema_lightning.data.nifti`), which is listed.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

from cinema_lightning.columns import frames_column, look_up, texts
from cinema_lightning.data import nifti
from cinema_lightning.data.store import Series, SeriesInfo, open_series, series_path
from cinema_lightning.errors import CinemaError
from cinema_lightning.files import replacing
from cinema_lightning.imaging.nifti import Geometry
from cinema_lightning.tables import column_numbers, open_table
from cinema_lightning.views import VIEWS, get_view

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

TABLE = "cohort.csv"
Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")
GET_DATA = "prepare the data with `cinema prepare`, or make some with `cinema phantom --out DIR`, and give that folder"
MOST_FRAMES = np.iinfo(np.int32).max
# Bit of each view in a study's mask of views.
VIEW_BITS = {name: 1 << bit for bit, name in enumerate(VIEWS)}


class SeriesLike(Protocol):
    """What the store's and the NIfTI folder's series have in common."""

    path: Path
    shape: tuple[int, ...]
    n_frames: int
    phases: Mapping[str, int]

    @property
    def info(self) -> SeriesInfo:
        """Affine and spacing."""

    def read(self, frames: Sequence[int] | slice | None = None) -> np.ndarray:
        """Frames as uint8, (n, X, Y[, Z])."""


class Reader(Protocol):
    """Opens the series of a cohort by id and view."""

    @property
    def frames(self) -> Mapping[str, np.ndarray]:
        """View -> (n,) frames of each row's series, as the table says; 0 where it does not."""

    def open(self, study: str, view: str) -> SeriesLike:
        """Opens one series."""


@dataclass(frozen=True)
class StoreReader:
    """Opens the image series of a store.

    Attributes:
        root: Folder of the store.
        frames: View -> (n,) frames of each row's series, as the table says; 0 where it does not.
    """

    root: Path
    frames: Mapping[str, np.ndarray] = field(default_factory=dict)

    def open(self, study: str, view: str) -> Series:
        """Opens one series; see :func:`cinema_lightning.data.store.open_series`.

        Raises:
            CinemaError: If it cannot be opened or has not the dimensions of its view.
        """
        series = open_series(series_path(self.root, study, view))
        dims = get_view(view).dims
        if len(series.shape) != dims:
            raise CinemaError(
                f"{series.path}: a frame has {len(series.shape)} dimensions, but {get_view(view).display} has {dims}; "
                "prepare this study again."
            )
        return series


@dataclass(frozen=True)
class Cohort:
    """A table of studies and the way to read them.

    Attributes:
        root: The folder.
        source: The file or folder that rows are named after in messages.
        table: One row per study; at least id, subject, split and views.
        ids: (n,) str, ids in the order of the table.
        view_masks: (n,) uint8, the views of each study as bits of ``VIEW_BITS``.
        reader: Opens series.
    """

    root: Path
    source: Path
    table: pd.DataFrame
    ids: np.ndarray
    view_masks: np.ndarray
    reader: Reader

    def __len__(self) -> int:
        return len(self.ids)

    def numbers(self, column: str) -> np.ndarray:
        """A numeric column.

        Args:
            column: Its name.

        Returns:
            (n,) float64, NaN where the cell is empty; all NaN where there is no such column.

        Raises:
            CinemaError: If a cell is not a number, or can be read in two ways; names the row or the cell.
        """
        if column not in self.table:
            return np.full(len(self), np.nan)
        cells = self.table[column]
        values = numbers_of(cells, f"{self.source}, column '{column}'")
        wrong = np.flatnonzero(np.isnan(values) & cells.notna().to_numpy())
        if len(wrong):
            raise CinemaError(
                f"{self.source}: row '{self.ids[wrong[0]]}' has '{cells.iloc[wrong[0]]}' in column {column}, "
                "which is not a number; mend it or leave the cell empty."
            )
        return values

    def texts(self, column: str) -> list[str | None]:
        """A column's cells as the names of classes.

        Args:
            column: Its name.

        Returns:
            n cells, None where they are empty.

        Raises:
            CinemaError: If there is no such column, or it is empty; names those that there are.
        """
        cells = [text_of(cell) for cell in self.table[column].tolist()] if column in self.table else []
        if any(cell is not None for cell in cells):
            return cells
        known = [
            str(other)
            for other in self.table
            if not look_up(str(other)).housekeeping and self.table[other].notna().any()
        ]
        what = f"the column '{column}' is empty" if column in self.table else f"there is no column '{column}'"
        what = what if column else "no column to learn is named"
        raise CinemaError(
            f"{self.source}: {what}; columns with values are {', '.join(known) or 'none'}. Set data.target to "
            "one of them, or prepare the data again with it."
        )


def read_cohort(
    root: str | Path,
    views: Sequence[str] = tuple(VIEWS),
    spacing: Mapping[str, Sequence[float] | None] | None = None,
    geometry: Geometry = "refuse",
) -> Cohort:
    """Opens a prepared store or a folder of NIfTI files.

    Args:
        root: The folder.
        views: Of NIfTI files, the views to look at: what the files of others are called changes nothing.
        spacing: Of NIfTI files, the voxel size in mm that they are brought to by view; their own where there is none.
        geometry: Of NIfTI files, what to believe where a header contradicts itself.

    Returns:
        The cohort.

    Raises:
        CinemaError: If the folder is missing or empty, or the table is not usable; says what to do.
    """
    root = Path(root)
    if not root.is_dir():
        raise CinemaError(f"There is no data folder {root}: {GET_DATA}.")
    path = root / TABLE
    return _read_table(path) if path.is_file() else _read_folder(root, views, spacing, geometry)


def write_cohort(root: str | Path, rows: Iterable[Mapping[str, Any]]) -> Path:
    """Writes the cohort table, whole or not at all.

    Args:
        root: Folder of the store.
        rows: One mapping per study; columns are their keys in order of appearance, missing cells stay empty. A list
            under ``views`` is written space separated.

    Returns:
        Path of the table.

    Raises:
        CinemaError: If the file cannot be written.
    """
    import pandas as pd

    cells = [
        {key: " ".join(value) if key == "views" and not isinstance(value, str) else value for key, value in row.items()}
        for row in rows
    ]
    path = Path(root) / TABLE
    with replacing(path) as temporary:
        pd.DataFrame(cells).to_csv(temporary, index=False, encoding="utf-8", lineterminator="\n")
    return path


def _read_table(path: Path) -> Cohort:
    if path.stat().st_size == 0:
        raise CinemaError(f"{path} is empty: {GET_DATA}.")
    table = read_cells(path, texts())
    missing = [column for column in ("id", "views") if column not in table]
    if missing:
        raise CinemaError(f"{path} has no column '{missing[0]}'; prepare the data again or add it.")
    if table.empty:
        raise CinemaError(f"{path} has no rows: {GET_DATA}.")
    _check_ids(path, table["id"])
    table = table.assign(subject=table["subject"].fillna(table["id"]) if "subject" in table else table["id"])
    table["split"] = _splits(path, table)
    ids = table["id"].to_numpy(dtype=str)
    cohort = Cohort(path.parent, path, table, ids, _view_masks(path, table), StoreReader(path.parent))
    return replace(cohort, reader=StoreReader(path.parent, _frames(cohort)))


def _frames(cohort: Cohort) -> dict[str, np.ndarray]:
    """Frames of each series as far as the table counts them, see :class:`StoreReader`."""
    found = {}
    for view in (view for view in VIEWS if frames_column(view) in cohort.table):
        counts = cohort.numbers(frames_column(view))
        wrong = np.flatnonzero((counts < 1) | (counts > np.floor(counts)) | (counts > MOST_FRAMES))
        if len(wrong):
            raise CinemaError(
                f"{cohort.source}: row '{cohort.ids[wrong[0]]}' has {counts[wrong[0]]:g} in column "
                f"{frames_column(view)}, which is no number of frames; mend it or leave the cell empty."
            )
        found[view] = np.nan_to_num(counts).astype(np.int32)
    return found


def read_cells(path: Path, texts: Iterable[str]) -> pd.DataFrame:
    """Reads a table with pandas, which is fast; what is wrong with a row is found and said before.

    Args:
        path: The file.
        texts: Columns that stay text though they may look like numbers ("0012").

    Returns:
        Its cells, blank rows left out; only an empty cell is unknown, since NA and None can be names.

    Raises:
        CinemaError: If it cannot be read or a row does not fit the header; names the row.
    """
    import pandas as pd

    table = open_table(path)
    table.check()
    used = [place for place, name in enumerate(table.columns) if name]
    cells = pd.read_csv(
        path,
        sep=table.delimiter,
        encoding=table.encoding,
        header=None,
        skiprows=table.header,
        names=[table.columns[place] for place in used],
        usecols=used,
        index_col=False,
        dtype=dict.fromkeys(texts, str),
        keep_default_na=False,
        na_values=[""],
        low_memory=False,
    )
    return cells.dropna(how="all", ignore_index=True)


def numbers_of(cells: pd.Series[Any], what: str) -> np.ndarray:
    """A column as numbers, see :func:`cinema_lightning.tables.plain_numbers`.

    Args:
        cells: The column, as pandas read it.
        what: What to call it in a message.

    Returns:
        (n,) float64, NaN where a cell is empty or no number.
    """
    import pandas as pd

    values = pd.to_numeric(cells, errors="coerce")
    if not (values.isna() & cells.notna()).any():
        return values.to_numpy(dtype=np.float64)
    texts = ("" if cell is None or cell != cell else str(cell) for cell in cells)
    return np.array(column_numbers(texts, what), dtype=np.float64)


def _check_ids(path: Path, ids: pd.Series[str]) -> None:
    if ids.isna().any():
        raise CinemaError(f"{path}: row {int(np.argmax(ids.isna())) + 2} has no id; every study needs one.")
    repeated = ids[ids.duplicated()]
    if len(repeated):
        raise CinemaError(f"{path} lists the id '{repeated.iloc[0]}' more than once; ids must be unique.")
    outside = ids[ids.str.contains(r"[/\\]", regex=True) | ids.isin([".", ".."])]
    if len(outside):
        raise CinemaError(f"{path} has the id '{outside.iloc[0]}', which is no folder name; rename it.")


def _splits(path: Path, table: pd.DataFrame) -> pd.Series[str]:
    import pandas as pd

    if "split" not in table:
        return pd.Series("", index=table.index)
    splits = table["split"].fillna("").str.strip()
    wrong = ~splits.isin(["", *SPLITS])
    if wrong.any():
        row = table.loc[wrong].iloc[0]
        raise CinemaError(
            f"{path}: row '{row['id']}' has split '{row['split']}'; a split is {', '.join(SPLITS)} or empty."
        )
    return splits


def _view_masks(path: Path, table: pd.DataFrame) -> np.ndarray:
    import pandas as pd

    codes, texts = pd.factorize(table["views"].fillna(""))
    masks = np.zeros(len(texts), dtype=np.uint8)
    for position, text in enumerate(texts):
        names = str(text).split()
        unknown = [name for name in names if name not in VIEW_BITS]
        if unknown:
            row = table["id"].iloc[int(np.argmax(codes == position))]
            raise CinemaError(
                f"{path}: row '{row}' names the view '{unknown[0]}'; the views are {', '.join(VIEW_BITS)}."
            )
        masks[position] = mask_of(names)
    return masks[codes]


def text_of(cell: Any) -> str | None:
    """A cell of the table as the name of a class: 1.0 reads 1; None where it is empty."""
    if cell is None or cell != cell or str(cell).strip() == "":
        return None
    if isinstance(cell, int | float | np.number) and float(cell).is_integer():
        return str(int(cell))
    return str(cell).strip()


def mask_of(views: Iterable[str]) -> int:
    """The set of views as bits of ``VIEW_BITS``."""
    return sum(VIEW_BITS[view] for view in set(views))


def views_of(mask: int) -> tuple[str, ...]:
    """The views of a mask, in the order of ``VIEWS``."""
    return tuple(view for view, bit in VIEW_BITS.items() if mask & bit)


def _read_folder(
    root: Path, wanted: Sequence[str], spacing: Mapping[str, Sequence[float] | None] | None, geometry: Geometry
) -> Cohort:
    import pandas as pd

    found = nifti.scan(root)
    if not found:
        raise CinemaError(f"{root} holds neither {TABLE} nor NIfTI files named <id>/<view>.nii.gz: {GET_DATA}.")
    rows, mixed = [], []
    for study, views in found.items():
        phases, agree = nifti.study_phases({view: paths for view, paths in views.items() if view in wanted})
        mixed += [] if agree else [study]
        frames = {f"{phase}_frame": frame for phase, frame in phases.items()}
        names = " ".join(view for view in VIEWS if view in views)
        rows.append({"id": study, "subject": study, "split": "", "views": names, **frames})
    if mixed:
        warnings.warn(
            f"{root}: of {len(mixed)} studies (the first is '{mixed[0]}') the files name ED and ES in some views only, "
            "so that the frames of the others cannot be told to belong to them, and the study's ED and ES are not "
            "known; name them in all views, or ask for those views alone that name them (data.views).",
            stacklevel=2,
        )
    table = pd.DataFrame(rows)
    masks = _view_masks(root, table)
    reader = nifti.NiftiReader(found, spacing, geometry)
    return Cohort(root, root, table, table["id"].to_numpy(dtype=str), masks, reader)
