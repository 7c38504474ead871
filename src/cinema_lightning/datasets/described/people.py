"""Tables of people: whatever a spreadsheet writes, as the cells of the cohort table."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cinema_lightning.columns import COHORT, COLUMNS
from cinema_lightning.datasets.described.description import PeopleTable, TableColumn
from cinema_lightning.datasets.files import sex, tidy
from cinema_lightning.errors import CinemaError
from cinema_lightning.tables import Notation, decimal_marks, finite, open_table, plain_number

FRAMES = ("ed_frame", "es_frame")
# What preparation itself says of a study; the frames and the person may come from a table.
TAKEN = {column.name for column in COHORT if column.housekeeping} - {*FRAMES, "subject"}
MISSING = ("", ".", "na", "nan", "n/a")
SHOWN = 3


@dataclass(frozen=True)
class People:
    """A table that was read.

    Attributes:
        table: What the description says of it.
        path: The file.
        rows: Key -> our column -> number, text or None; ``ed_frame`` and ``es_frame`` as the table counts them.
        splits: Key -> cell of the column of the splits.
    """

    table: PeopleTable
    path: Path
    rows: Mapping[str, Mapping[str, Any]]
    splits: Mapping[str, str]


@dataclass(frozen=True)
class _Cells:
    """One column: its name here, what it becomes, and (number of the row, cell)."""

    name: str
    use: TableColumn
    path: Path
    cells: Sequence[tuple[int, str]]

    @property
    def what(self) -> str:
        return f"{self.path}, column '{self.use.column}'"

    @property
    def must_be_numbers(self) -> bool:
        known = COLUMNS[self.name].kind if self.name in COLUMNS else ""
        return known in ("number", "code") or self.name in FRAMES or self.use.factor is not None

    def notation(self) -> Notation | None:
        """How its numbers are written; None for a column of names."""
        if self.use.values or (self.name in COLUMNS and not self.must_be_numbers):
            return None
        notation = Notation(self.what)
        for row, cell in self.cells:
            notation.add("" if cell.lower() in MISSING else cell)
            if notation.text and self.must_be_numbers:
                raise CinemaError(
                    f"{self.what}, row {row}: '{cell}' is not a number, which {self.name} has to be: mend it, leave it "
                    "empty, or keep the column under another name (columns)."
                )
        names = notation.text or any(re.fullmatch(r"0\d+", cell) for _, cell in self.cells)
        return None if names and not self.must_be_numbers else notation

    def values(self, mark: str | None) -> Iterator[Any]:
        """The cells as they stand in the cohort table."""
        for row, cell in self.cells:
            if mark is not None:
                number = finite(plain_number(cell, mark))
                yield tidy(number * (self.use.factor or 1) if number is not None else None)
            elif self.use.values:
                yield self._meaning(row, cell)
            elif self.name == "sex" and cell.lower() in MISSING:
                yield None
            elif self.name == "sex":
                if sex(cell) is None:
                    raise CinemaError(
                        f"{self.what}, row {row}: '{cell}' is neither M nor F; say what it means with values: "
                        f"{{{cell}: F}} under columns.sex."
                    )
                yield sex(cell)
            else:
                yield cell or None

    def _meaning(self, row: int, cell: str) -> str | None:
        if cell and cell not in self.use.values:
            raise CinemaError(
                f"{self.what}, row {row}: '{cell}' is not among the values {', '.join(self.use.values)} of "
                f"columns.{self.name}; add it."
            )
        return self.use.values.get(cell) or None


def read_people(raw: Path, table: PeopleTable, split_column: str = "", measured: Collection[str] = ()) -> People:
    """Reads a table of people.

    Args:
        raw: The raw folder.
        table: What the description says of it.
        split_column: Column of the splits, where this table may have it.
        measured: Columns that preparation fills itself.

    Returns:
        Its cells: numbers with a decimal comma as numbers, columns that are not renamed under their own names.

    Raises:
        CinemaError: If it cannot be read, lacks a column, has a person twice, a column of a name that is taken, or a
            cell that cannot be what it should; names file, row and column.
    """
    path = raw / table.file
    opened = open_table(path, [table.key, *(use.column for use in table.columns.values())])
    rows = list(opened.rows())
    place = {name: number for number, name in enumerate(opened.columns)}
    keys = [(row, cells[place[table.key]]) for row, cells in rows]
    _check_keys(path, table, keys)
    split_column = split_column if split_column in place else ""
    columns = [
        _Cells(name, use, path, [(row, cells[place[use.column]]) for row, cells in rows])
        for name, use in _uses(path, table, opened.columns, split_column, measured).items()
    ]
    notations = [column.notation() for column in columns]
    marks = iter(decimal_marks([notation for notation in notations if notation is not None]))
    found = {
        column.name: list(column.values(None if notation is None else next(marks)))
        for column, notation in zip(columns, notations, strict=True)
    }
    by_key = {key: {name: cells[n] for name, cells in found.items()} for n, (_, key) in enumerate(keys)}
    splits = {key: cells[place[split_column]] for (_, key), (_, cells) in zip(keys, rows, strict=True) if split_column}
    return People(table, path, by_key, splits)


def _check_keys(path: Path, table: PeopleTable, keys: Sequence[tuple[int, str]]) -> None:
    first: dict[str, int] = {}
    for row, key in keys:
        if not key:
            raise CinemaError(f"{path}, row {row}: column '{table.key}' is empty, so it is not known whose row it is.")
        if first.setdefault(key, row) != row:
            raise CinemaError(
                f"{path}, row {row}: lists '{key}' a second time (first in row {first[key]}); keep one row of each."
            )


def _uses(
    path: Path, table: PeopleTable, columns: Sequence[str], split_column: str, measured: Collection[str]
) -> dict[str, TableColumn]:
    """Our name -> column: those that the description names, and the others under their own names."""
    named = {use.column for use in table.columns.values()}
    free = [name for name in columns if name and name not in (*named, table.key, split_column)]
    uses = dict(table.columns) | {name: TableColumn(name) for name in free if name not in table.columns}
    clash = [name for name in free if name in table.columns] + [name for name in uses if name in TAKEN]
    for name in clash:
        raise CinemaError(
            f"{path} has a column '{name}', a name that the cohort table needs for something else: keep it under "
            f"another one with columns: {{my_{name}: {name}}} in the description."
        )
    for name in uses:
        if name in measured:
            raise CinemaError(
                f"{path} has a column for {name}, which is measured from the label maps: keep both by columns: "
                f"{{{name}_reported: {uses[name].column}}} in the description."
            )
    return uses


def unmatched(people: People, names: Collection[str]) -> str:
    """What is to be said of rows that are of none of the studies; empty where all are.

    Args:
        people: The table.
        names: Ids of the studies, or their subjects.

    Raises:
        CinemaError: If no row is of any study.
    """
    others = [key for key in people.rows if key not in names]
    one = "the id of a study" if people.table.by == "id" else "a subject"
    if others and len(others) == len(people.rows):
        raise CinemaError(
            f"{people.path}: no cell of column '{people.table.key}' ({_some(others)}) is {one} of the "
            f"images ({_some(sorted(names))}): mend the pattern or name another column in tables."
        )
    count = "1 row has" if len(others) == 1 else f"{len(others)} rows have"
    return f"{people.path.name}: {count} no images, e.g. {_some(others)}" if others else ""


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")
