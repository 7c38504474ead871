"""What a report is made of: sections of tables, pictures and sentences, and how numbers are written.

A table's cells are texts, made once, so that the page, LaTeX and Markdown show the same. Its ``records`` are the full
numbers, one row per figure, for the CSV.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

DIGITS = 6
"""Significant digits of the CSV; the page's shorter numbers are rounded from these."""
MINUS = "\N{MINUS SIGN}"


@dataclass(frozen=True)
class Cell:
    """A cell of a table.

    Attributes:
        text: What it says.
        bold: The best of its row.
        small: A second line, in small print.
        muted: Says that there is nothing ("missing", a dash).
    """

    text: str
    bold: bool = False
    small: str = ""
    muted: bool = False


MISSING = Cell("missing", muted=True)
NOTHING = Cell("–", muted=True)


@dataclass
class Table:
    """A table.

    Attributes:
        name: Name of its files, without suffix.
        caption: One or two sentences.
        header: Titles of the columns.
        rows: Cells, or texts; a row of a single cell is a heading across the table.
        left: How many of the first columns hold texts, the others numbers.
        notes: Sentences below it.
    """

    name: str
    caption: str
    header: Sequence[str]
    rows: list[list[Cell | str]]
    left: int = 1
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Picture:
    """A picture: SVG text, its caption and a text for those who cannot see it."""

    svg: str
    caption: str
    alternative: str


@dataclass(frozen=True)
class Paragraph:
    """A sentence or more; ``warning`` sets it off."""

    text: str
    warning: bool = False


@dataclass(frozen=True)
class Pictures:
    """Small pictures side by side."""

    items: Sequence[Picture]


Block = Table | Picture | Pictures | Paragraph


@dataclass
class Section:
    """A section of the page.

    Attributes:
        key: Its anchor, and the name of its CSV.
        title: Its heading.
        blocks: What it shows.
        records: Rows of its CSV; none for no CSV.
        parts: Sections one level down.
    """

    key: str
    title: str
    blocks: list[Block] = field(default_factory=list)
    records: list[dict[str, Any]] = field(default_factory=list)
    parts: list[Section] = field(default_factory=list)


# ---------------------------------------------------------------------- numbers
def tidy(value: float) -> float:
    """A number with the digits that the CSV keeps."""
    return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else float("nan")


def decimals(unit: str) -> int:
    """Decimals of a figure on the page: three for shares and scores, two for what has a unit."""
    return 2 if unit else 3


def number(value: float, unit: str = "", sign: bool = False) -> str:
    """A number as the page writes it; a dash where it is not defined."""
    if not math.isfinite(value):
        return "–"
    places = decimals(unit)
    text = f"{value:{'+' if sign else ''}.{places}f}"
    if float(text) == 0:
        text = f"{0:.{places}f}"
    return text.replace("-", MINUS)


def interval(value: float, low: float, high: float, unit: str = "", sign: bool = False) -> str:
    """``value [low, high]``; the value alone where there is no interval."""
    if not math.isfinite(value):
        return "–"
    if not (math.isfinite(low) and math.isfinite(high)):
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


def arrow(higher_is_better: bool) -> str:
    """Which way is better."""
    return "↑" if higher_is_better else "↓"


def counted(n: int, noun: str) -> str:
    """``1 case``, ``2 cases``."""
    return f"{n} {noun}{'' if n == 1 else 's'}"


def listed(names: Sequence[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}" if names else ""
