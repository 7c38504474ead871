"""What a report is made of: tidy tables, how their numbers are written, pictures, and sections of these.

A table is a frame with one row per number, and says which columns people read and how. The page, LaTeX and
Markdown show the cells that are made of it here, once; the CSV holds the frame itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cinema_lightning.metrics.inference import FEW

if TYPE_CHECKING:
    import pandas as pd

DIGITS = 6
"""Significant digits of the CSV; the page's shorter numbers are rounded from these."""
MINUS = "\N{MINUS SIGN}"
Row = Mapping[str, Any]


@dataclass(frozen=True)
class ReportCell:
    """A cell of a table.

    Attributes:
        text: What it says.
        sort: What the page sorts by: a number, or None for the text.
        bold: A finding.
        small: A second line, in small print.
        muted: Says that there is nothing ("missing", a dash).
    """

    text: str
    sort: float | None = None
    bold: bool = False
    small: str = ""
    muted: bool = False


MISSING = ReportCell("missing", muted=True)
NOTHING = ReportCell("–", muted=True)
Form = Callable[[Row, str], ReportCell]
"""Takes a row of the frame and the name of a column; writes the cell."""


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows of a frame."""
    return [{str(name): value for name, value in row.items()} for row in frame.to_dict("records")]


# ---------------------------------------------------------------------- numbers as people read them
def tidy(value: float) -> float:
    """A number with the digits that the CSV keeps."""
    return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else float("nan")


def number(value: float, unit: str = "", sign: bool = False) -> str:
    """A number: three decimals for shares and scores, two for what has a unit; a dash where it is not defined."""
    if not math.isfinite(value):
        return "–"
    places = 2 if unit else 3
    text = f"{value:{'+' if sign else ''}.{places}f}"
    if float(text) == 0:
        text = f"{0:.{places}f}"
    return text.replace("-", MINUS)


def interval(value: float, low: float, high: float, unit: str = "", sign: bool = False) -> str:
    """``value [low, high]``; the value alone where there is no interval."""
    if not (math.isfinite(value) and math.isfinite(low) and math.isfinite(high)):
        return number(value, unit, sign)
    return f"{number(value, unit, sign)} [{number(low, unit, sign)}, {number(high, unit, sign)}]"


def p_value(p: float) -> str:
    """``0.012``, ``<0.001``, or a dash."""
    if not math.isfinite(p):
        return "–"
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def titled(display: str, unit: str) -> str:
    """Name of a figure with its unit."""
    return f"{display}, {unit}" if unit else display


def counted(n: int, noun: str) -> str:
    """``1 case``, ``2 cases``."""
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def subjects(n: float) -> str:
    """``n 50``; ``n 15 †`` where they are so few that a figure says little."""
    return f"n {int(n):,}{' †' if n < FEW else ''}"


def listed(names: Sequence[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}" if names else ""


# ---------------------------------------------------------------------- forms of cells
def text(row: Row, name: str) -> ReportCell:
    """A text as it stands."""
    value = row[name]
    return ReportCell(str(value)) if value is not None and value == value and value != "" else NOTHING


def count(row: Row, name: str) -> ReportCell:
    """A whole number."""
    value = row[name]
    return ReportCell(f"{int(value):,}", float(value)) if value is not None and value == value else NOTHING


def decimal(places: int) -> Form:
    """A number with so many decimals."""

    def form(row: Row, name: str) -> ReportCell:
        value = float(row[name])
        return ReportCell(f"{value:.{places}f}".replace("-", MINUS), value) if math.isfinite(value) else NOTHING

    return form


def significance(row: Row, name: str) -> ReportCell:
    """A p."""
    value = float(row[name])
    return ReportCell(p_value(value), value) if math.isfinite(value) else NOTHING


def ranged(unit: str = "", sign: bool = False) -> Form:
    """A number in a unit, with the interval of the columns ``<name>_low`` and ``<name>_high`` where there are such."""

    def form(row: Row, name: str) -> ReportCell:
        value, low, high = (float(row.get(key, math.nan)) for key in (name, f"{name}_low", f"{name}_high"))
        return ReportCell(interval(value, low, high, unit, sign), value) if math.isfinite(value) else NOTHING

    return form


def bounded(low: str, high: str, row: Row, name: str) -> ReportCell:
    """A number with the interval of two columns, where there is one."""
    value, start, end = (float(row[key]) if key else math.nan for key in (name, low, high))
    return ReportCell(interval(value, start, end), value) if math.isfinite(value) else NOTHING


def estimate(row: Row, name: str) -> ReportCell:
    """A figure of an arm in the row's unit: interval, subjects, seeds and, where there are any, failures."""
    del name
    value, unit = float(row["value"]), row["unit"]
    if not row["n_seeds"] and not math.isfinite(value):
        return MISSING
    small = _small(row)
    if not math.isfinite(value):
        return ReportCell("–", small=small if row.get("failed") else "", muted=True)
    return ReportCell(interval(value, row["low"], row["high"], unit), value, bool(row.get("best", False)), small)


def difference(row: Row, name: str) -> ReportCell:
    """A difference of two arms in the row's unit: interval, p and Holm's, subjects; ranks where there are failures."""
    del name
    value = float(row["value"])
    if not math.isfinite(value):
        return NOTHING
    found = interval(value, row["low"], row["high"], row["unit"], sign=True)
    tests = f"p {p_value(row['p'])}, Holm {p_value(row['p_holm'])}; " if math.isfinite(row["p"]) else ""
    if row["test"] == "ranks":
        ranks = interval(row["rank_better"], row["rank_low"], row["rank_high"], sign=True)
        tests = f"by rank {ranks}, {tests}"
    if row["failed"] or row["failed_baseline"]:
        tests = f"failed {row['failed']:.1%}, {row['failed_baseline']:.1%}; {tests}"
    return ReportCell(found, value, bool(row["better"]), f"{tests}{subjects(row['n_subjects'])}")


def _small(row: Row) -> str:
    seeds, wanted = int(row["n_seeds"]), int(row.get("n_seeds_wanted", 0))
    parts = [subjects(row["n_subjects"])]
    if seeds:
        parts.append(f"{seeds} of {wanted} seeds" if wanted > seeds else counted(seeds, "seed"))
    failed = row.get("failed")
    return "; ".join([*parts, *([f"{failed:.1%} failed"] if failed else [])])


# ---------------------------------------------------------------------- tables
@dataclass(frozen=True)
class ReportColumn:
    """A column that people read.

    Attributes:
        name: Column of the frame.
        title: Its heading, with the unit.
        form: How a number of it is written.
    """

    name: str
    title: str
    form: Form = text

    @property
    def numeric(self) -> bool:
        """Whether it stands at the right."""
        return self.form is not text


@dataclass(frozen=True)
class Across:
    """Rows of the frame that stand side by side: one column of the page for each value of a column of the frame.

    Attributes:
        by: Column of the frame.
        titles: Its values in their order, and their headings.
        form: How a row of the frame becomes a cell.
    """

    by: str
    titles: Mapping[str, str]
    form: Form


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        name: Name of its files, without suffix.
        caption: One or two sentences.
        data: Its frame.
        columns: What people read of it; where rows stand side by side, what they have in common.
        across: Which rows stand side by side.
        notes: Sentences below it.
    """

    name: str
    caption: str
    data: pd.DataFrame
    columns: Sequence[ReportColumn]
    across: Across | None = None
    notes: Sequence[str] = ()

    @property
    def header(self) -> list[tuple[str, bool]]:
        """Headings, and whether numbers stand below."""
        sides = [] if self.across is None else [(title, True) for title in self.across.titles.values()]
        return [*((column.title, column.numeric) for column in self.columns), *sides]

    @property
    def rows(self) -> Iterator[list[ReportCell]]:
        """Cells of each line."""
        for rows in self._lines():
            first = next(iter(rows.values()))
            cells = [column.form(first, column.name) for column in self.columns]
            if self.across is not None:
                sides = (rows.get(value) for value in self.across.titles)
                cells += [NOTHING if row is None else self.across.form(row, self.across.by) for row in sides]
            yield cells

    def _lines(self) -> list[dict[Any, Row]]:
        """Rows of the frame by line, and there by the column that they stand side by side for."""
        rows = records(self.data)
        if self.across is None:
            return [{None: row} for row in rows]
        lines: dict[tuple[str, ...], dict[Any, Row]] = {}
        for row in rows:
            key = tuple(column.form(row, column.name).text for column in self.columns)
            lines.setdefault(key, {})[row[self.across.by]] = row
        return list(lines.values())


@dataclass(frozen=True)
class Picture:
    """A picture: SVG text, its caption and a text for those who cannot see it."""

    svg: str
    caption: str
    alternative: str


@dataclass(frozen=True)
class Section:
    """A section of the page.

    Attributes:
        key: Its anchor, and the name of its CSV.
        title: Its heading.
        nothing: Why it is empty, where it is.
        text: How to read it.
        pictures: Pictures, before the tables.
        tables: Tables.
        warnings: Sentences that are set off.
        claim: What the pictures that open the page are about.
        claims: These pictures.
        data: Frame of its CSV.
        parts: Sections one level down.
    """

    key: str
    title: str
    nothing: str = ""
    text: str = ""
    pictures: Sequence[Picture] = ()
    tables: Sequence[Table] = ()
    warnings: Sequence[str] = ()
    claim: str = ""
    claims: Sequence[Picture] = ()
    data: pd.DataFrame | None = None
    parts: Sequence[Section] = field(default_factory=tuple)

    @property
    def empty(self) -> bool:
        """Whether there is nothing to show."""
        return not (self.pictures or self.tables or self.warnings or self.parts)

    def all(self) -> Iterator[Section]:
        """It and all below it."""
        yield self
        for part in self.parts:
            yield from part.all()
