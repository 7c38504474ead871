"""A folder of results, read and checked."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from cinema_lightning.columns import CASE, is_measured
from cinema_lightning.errors import CinemaError
from cinema_lightning.results.kind import KINDS, Results

TEXT = ("id", "subject", "view", "phase", "frames_left_out")
UNKNOWN = ("", "NA", "N/A", "NaN", "nan", "None", "null")
"""Cells outside of names that say nothing."""
ROWS = 200_000
"""Rows that are read at a time: a cine of every participant of a biobank has millions."""
Keep = Callable[[str], bool]
_BOUNDS: tuple[tuple[tuple[str, ...], float, float, str], ...] = (
    (("_dice", "_iou", "_stability"), 0.0, 1 + 1e-6, "a share, 0 to 1"),
    (("_hd95", "_distance_mm", "_distance_px"), 0.0, math.inf, "a distance, 0 or more"),
    (("_volume_true", "_volume_pred", "_area_true", "_area_pred"), 0.0, math.inf, "a size, 0 or more"),
)
"""How names of columns end -> what their numbers can be, and what to call that."""


def read_results(folder: Path, keep: Keep | None = None) -> Results:
    """Reads a folder of results, also of another tool.

    Args:
        folder: With ``cases.csv`` and ``test.json``; ``function.csv`` and ``validation.csv`` where they are.
        keep: Takes the name of a column of ``cases.csv`` and says whether it is wanted, beside those that name a case
            and those that its kind needs; None takes all.

    Returns:
        The results.

    Raises:
        CinemaError: If a file is missing or malformed; names file, column or row.
    """
    folder = Path(folder)
    facts = _facts(folder / "test.json")
    texts = KINDS[facts["kind"]].texts
    needed = {*CASE, *TEXT, *KINDS[facts["kind"]].columns(facts)}
    wanted = None if keep is None else lambda name: name in needed or keep(name)
    cases = read_table(folder / "cases.csv", texts, wanted)
    others = {name: folder / f"{name}.csv" for name in ("function", "validation")}
    tables = {name: read_table(path, texts) if path.is_file() else None for name, path in others.items()}
    check_cases(cases, facts, folder / "cases.csv")
    if tables["validation"] is not None:
        check_cases(tables["validation"], facts, others["validation"])
    if tables["function"] is not None:
        check_numbers(tables["function"], others["function"])
    return Results(folder, cases, tables["function"], tables["validation"], facts)


def read_table(path: Path, texts: tuple[str, ...] = (), keep: Keep | None = None) -> pd.DataFrame:
    """Reads a table of results; ids, subjects and class names are text as they stand, empty cells NaN or empty text.

    Args:
        path: CSV file with a header and a column ``id``.
        texts: Further columns that hold names, so that a class called NA or None stays one.
        keep: Says which columns are wanted; None takes all.

    Returns:
        The table; ``subject`` is the id where there is no such column or cell.

    Raises:
        CinemaError: If it is missing, not a CSV table, or has a row without an id.
    """
    if not path.is_file():
        raise CinemaError(f"There is no {path}; a folder of results holds cases.csv and test.json.")
    try:
        names = _check_shape(path)
        table = _cells(path, [name for name in names if keep is None or name == "id" or keep(name)], (*TEXT, *texts))
    except (csv.Error, pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise CinemaError(f"{path} is not a CSV table ({reason}); write it again.") from None
    if "id" not in table.columns:
        raise CinemaError(f"{path} has no column 'id'; each row of results is a case with its id.")
    empty = table.index[table["id"].str.strip() == ""]
    if len(empty):
        raise CinemaError(f"{path}, row {int(empty[0]) + 2}: the id is empty; fill it or remove the row.")
    if "subject" not in table.columns:
        table["subject"] = table["id"]
    table["subject"] = table["subject"].where(table["subject"] != "", table["id"])
    return table


def _cells(path: Path, names: list[str], texts: tuple[str, ...]) -> pd.DataFrame:
    """Some columns, read a part at a time: numbers where all cells that say something are numbers."""
    numeric = [name for name in names if name not in texts]
    options: dict[str, Any] = {"keep_default_na": False, "encoding": "utf-8-sig"}
    kinds: Any = {name: str for name in names if name in texts}
    unknown = {name: list(UNKNOWN) for name in numeric}
    with pd.read_csv(
        path,
        usecols=names,
        dtype=kinds,
        na_values=unknown,
        chunksize=ROWS,
        float_precision="round_trip",
        low_memory=False,
        **options,
    ) as reader:
        parts = list(reader)
    # What is not a number everywhere is text everywhere, as it stands in the file.
    other = [name for name in numeric if any(part[name].dtype.kind not in "iuf" for part in parts)]
    table = pd.concat([part.drop(columns=other) for part in parts], ignore_index=True)
    if other:
        again = pd.read_csv(path, usecols=other, dtype=str, **options)
        for name in other:
            table[name] = _converted(again[name])
    return table[names]


def _check_shape(path: Path) -> list[str]:
    """The names of the columns; refuses rows with more or fewer cells: pandas shifts or fills them without a word."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = csv.reader(file, strict=True)
        header = next(rows, [])
        twice = [name for place, name in enumerate(header) if name in header[:place]]
        if twice:
            raise CinemaError(f"{path} has two columns '{twice[0]}'; remove or rename one.")
        if _is_even(path, len(header)):
            return header
        for number, row in enumerate((row for row in rows if row), start=2):
            if len(row) != len(header):
                counts = f"{len(row)} cells for {len(header)} columns"
                raise CinemaError(
                    f"{path}, row {number} has {counts}; it may have been cut off: write the table again."
                )
    return header


def _is_even(path: Path, cells: int) -> bool:
    """Whether every line has so many cells and none is quoted, which is told without taking the lines apart."""
    with path.open("rb") as file:
        return all(b'"' not in line and line.count(b",") == cells - 1 for line in file)


def _converted(cells: pd.Series) -> pd.Series:
    """Numbers where all cells that say something are numbers."""
    known = cells.mask(cells.str.strip().isin(UNKNOWN))
    try:
        return pd.to_numeric(known)
    except (ValueError, TypeError):
        return known


def _facts(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise CinemaError(f"There is no {path}, which says what kind of task it is; see docs/results.md.")
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, UnicodeDecodeError) as error:
        raise CinemaError(f"{path} is not valid JSON ({error}); mend it.") from None
    if not isinstance(facts, dict) or facts.get("kind") not in KINDS:
        raise CinemaError(f"{path} has no known 'kind'; it is one of {', '.join(KINDS)}.")
    KINDS[facts["kind"]].check_facts(facts, path)
    return facts


def check_cases(table: pd.DataFrame, facts: Mapping[str, Any], path: Path) -> None:
    """Refuses a table of cases that lacks what its kind needs, or holds what cannot be.

    Args:
        table: The cases.
        facts: Facts of the test.
        path: The table's file, for the message.

    Raises:
        CinemaError: Names the file, row and column.
    """
    kind = KINDS[facts["kind"]]
    needed = kind.columns(facts)
    for name in needed:
        if name not in table.columns:
            raise CinemaError(f"{path} has no column '{name}', which {facts['kind']} needs.")
    check_numbers(table, path, [name for name in needed if name not in kind.texts])
    keys = [name for name in CASE if name in table.columns]
    refuse(table.duplicated(keys), path, lambda row: f"the case {table['id'].iloc[row]} stands there a second time")
    kind.check_cases(table, facts, path)


def check_numbers(table: pd.DataFrame, path: Path, also: Sequence[str] = ()) -> None:
    """Refuses texts where numbers belong, which would else count as missing, and numbers that cannot be.

    Args:
        table: A table of results.
        path: Its file, for the message.
        also: Columns of numbers beside those whose name ends as metrics do.

    Raises:
        CinemaError: Names the file, row and column.
    """
    for name in (str(name) for name in table.columns):
        if (is_measured(name) or name in ("frame", *also)) and not pd.api.types.is_numeric_dtype(table[name]):
            wrong = pd.to_numeric(table[name], errors="coerce").isna() & table[name].notna()
            refuse_cells(wrong, table[name], path, "a number")
        _check_bounds(table[name], path)


def _check_bounds(cells: pd.Series, path: Path) -> None:
    """Refuses numbers that cannot be, as of a percentage in the place of a share, or the other way about."""
    name = str(cells.name)
    for ends, low, high, what in _BOUNDS:
        if name.endswith(ends):
            refuse_cells(cells.notna() & ~cells.between(low, high), cells, path, what)
    if name.endswith("_ef_true") and 0 < cells.max() <= 1:
        raise CinemaError(
            f"{path}: column {name} is {cells.max():g} at most; an ejection fraction is written in percent."
        )


def refuse_cells(wrong: pd.Series, cells: pd.Series, path: Path, wanted: str) -> None:
    """Refuses a table some of whose cells are not what is ``wanted``; names the first row, the cell and the column."""
    refuse(wrong, path, lambda row: f"'{cells.iloc[row]}' in column {cells.name} is not {wanted}")


def refuse(wrong: pd.Series, path: Path, what: Callable[[int], str]) -> None:
    """Refuses a table with wrong rows; ``what`` takes the place of the first one and says what is wrong there."""
    if wrong.any():
        row = int(wrong.to_numpy().argmax())
        more = int(wrong.sum()) - 1
        others = f" (and {more} more row{'s' if more > 1 else ''})" if more else ""
        raise CinemaError(f"{path}, row {row + 2}: {what(row)}{others}; mend or remove it.")
