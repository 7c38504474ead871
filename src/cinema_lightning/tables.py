"""Tables of users: one reader for whatever a spreadsheet or a statistics program writes.

Encoding (UTF-8, UTF-16, Windows and Latin-1) and delimiter (comma, semicolon, tab) are found out. A row that does not
fit the header is refused with its number, as a spreadsheet counts rows. Whether a comma in a number is a decimal comma
or groups thousands is decided by the whole column; where nothing tells, the column is refused.
"""

from __future__ import annotations

import codecs
import csv
import io
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from cinema_lightning.errors import CinemaError

# Between equals the first: a comma stands in numbers and in prose, too.
DELIMITERS = ("\t", ";", ",")
# The longer marks come first: that of UTF-32 begins like that of UTF-16.
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# How workbooks (new, old) and compressed files begin.
_NO_TEXT = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0", b"\x1f\x8b")
_SAMPLE_ROWS, _SAMPLE = 20, 2**18

csv.field_size_limit(2**31 - 1)  # a cell of UK Biobank may list thousands of codes


@dataclass(frozen=True)
class Table:
    """A table that was looked at, not read.

    Attributes:
        path: The file.
        columns: Names of the columns, stripped; empty for a column without a name.
        encoding: Python's name of the encoding.
        delimiter: What stands between two cells.
        header: Number of the header's row, from 1; 0 where there is none.
    """

    path: Path
    columns: tuple[str, ...]
    encoding: str
    delimiter: str
    header: int

    def rows(self) -> Iterator[tuple[int, list[str]]]:
        """Reads the rows one by one, blank ones left out.

        Yields:
            Number of the row, from 1 as a spreadsheet counts, and one stripped cell per column.

        Raises:
            CinemaError: If a row is too short or too long, or the file cannot be read; names the row.
        """
        width = len(self.columns)
        for number, cells in _records(self.path, self.encoding, self.delimiter):
            if number <= self.header or not any(map(str.strip, cells)):
                continue
            if len(cells) != width and (len(cells) < width or any(map(str.strip, cells[width:]))):
                raise CinemaError(
                    f"{self.path}, row {number}: {len(cells)} cells for {width} columns; is the file complete, and is "
                    "text that holds a delimiter in quotes?"
                )
            yield number, [cell.strip() for cell in cells[:width]]

    def check(self) -> None:
        """Reads all rows for nothing but their length; fast where there are no quotes.

        Raises:
            CinemaError: See :meth:`rows`.
        """
        wanted = len(self.columns) - 1
        with suppress(UnicodeError), self.path.open(newline="", encoding=self.encoding) as file:
            if all(line.count(self.delimiter) == wanted and '"' not in line for line in file):
                return
        for _ in self.rows():
            pass


def open_table(path: Path, required: Sequence[str] = (), *, header: bool = True) -> Table:
    """Finds out how a table is written.

    Args:
        path: The file.
        required: Columns that must be there; without a header, the names of all columns in order.
        header: Whether the first row that is not blank names the columns.

    Returns:
        The table.

    Raises:
        CinemaError: If the file cannot be read, is no text, has two columns of one name, or lacks a column.
    """
    path = Path(path)
    try:
        encoding = _encoding(path)
        with path.open(newline="", encoding=encoding) as file:
            sample = file.read(_SAMPLE)
    except OSError as error:
        raise CinemaError(f"{path} cannot be read ({error.strerror or error}).") from None
    except UnicodeError as error:
        raise CinemaError(f"{path} is cut short or no text ({error}): save the table again as UTF-8.") from None
    named = re.match(r"sep=([,;\t])\r?\n", sample)  # written and understood by spreadsheets only
    delimiter = named[1] if named else _delimiter(sample, required if header else ())
    if not header:
        return Table(path, tuple(required), encoding, delimiter, 0)
    records = _records(path, encoding, delimiter)
    filled = ((number, cells) for number, cells in records if any(map(str.strip, cells)) and (number > 1 or not named))
    number, cells = next(filled, (0, []))
    names = [cell.strip() for cell in cells]
    while names and not names[-1]:
        names.pop()
    _check_names(path, names, required)
    return Table(path, tuple(names), encoding, delimiter, number)


def read_table(
    path: Path, columns: Sequence[str] = (), *, numbers: Sequence[str] = (), header: bool = True
) -> list[dict[str, str]]:
    """Reads a small table as text.

    Args:
        path: The file.
        columns: Columns that must be there; without a header, the names of all columns in order.
        numbers: Columns of numbers: their cells are written with a decimal point and without thousands, so that
            ``float`` reads them.
        header: Whether the first row names the columns.

    Returns:
        One dict of stripped cells per row that is not blank.

    Raises:
        CinemaError: If the file cannot be read, lacks a column, has a row of another length, or a column of numbers
            can be read in two ways.
    """
    table = open_table(path, columns, header=header)
    rows = [dict(zip(table.columns, cells, strict=True)) for _, cells in table.rows()]
    known = [name for name in numbers if name in table.columns]
    notations = [Notation(f"{path}, column '{name}'").of(row[name] for row in rows) for name in known]
    marks = dict(zip(known, decimal_marks(notations), strict=True))
    return [{**row, **{name: plain_number(row[name], mark) for name, mark in marks.items()}} for row in rows]


def first_row(path: Path) -> list[str]:
    """Stripped cells of the first row that is not blank, to tell tables with a header from those without.

    Raises:
        CinemaError: If the file cannot be read.
    """
    table = open_table(path, header=False)
    records = (cells for _, cells in _records(path, table.encoding, table.delimiter))
    return next(([cell.strip() for cell in cells] for cells in records if any(map(str.strip, cells))), [])


def _check_names(path: Path, names: Sequence[str], required: Sequence[str]) -> None:
    missing = [name for name in required if name not in names]
    if missing:
        raise CinemaError(f"{path} lacks the column '{missing[0]}'; it has {', '.join(filter(None, names)) or 'none'}.")
    twice = [name for name, count in Counter(filter(None, names)).items() if count > 1]
    if twice:
        raise CinemaError(f"{path} has more than one column '{twice[0]}'; rename or remove all but one.")


def _encoding(path: Path) -> str:
    with path.open("rb") as file:
        head = file.read(4096)
    if head.startswith(_NO_TEXT):
        raise CinemaError(f"{path} is a workbook or an archive and no text table: save it as CSV (UTF-8).")
    found = next((name for mark, name in _MARKS if head.startswith(mark)), None)
    if found is None and 0 in head:  # every other byte of Western text in UTF-16
        found = "utf-16-le" if head[1::2].count(0) > head[::2].count(0) else "utf-16-be"
    if found is not None:
        return found
    return next((name for name in ("utf-8", "cp1252") if _is_text(path, name)), "latin-1")


def _is_text(path: Path, encoding: str) -> bool:
    decoder = codecs.getincrementaldecoder(encoding)()
    try:
        with path.open("rb") as file:
            while block := file.read(2**20):
                decoder.decode(block)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True


def _delimiter(sample: str, required: Sequence[str]) -> str:
    """The delimiter that gives the wanted columns, rows as long as the header, and the most columns, in this order."""

    def score(delimiter: str) -> tuple[int, bool, float, int]:
        records = csv.reader(io.StringIO(sample, newline=""), delimiter=delimiter)
        rows = [cells for cells in islice(records, _SAMPLE_ROWS) if any(map(str.strip, cells))] or [[]]
        names, width = rows[0], len(rows[0])
        wanted = len({name.strip() for name in names} & set(required))
        # a blank follows a comma in prose
        columns = sum(not name.startswith(" ") for name in names)
        return wanted, width > 1, sum(len(cells) == width for cells in rows) / len(rows), columns

    return max(DELIMITERS, key=score)


def _records(path: Path, encoding: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """All records of a file, blank ones too, counted from 1."""
    number = 0
    try:
        with path.open(newline="", encoding=encoding) as file:
            for cells in csv.reader(file, delimiter=delimiter, strict=True):
                number += 1
                yield number, cells
    except csv.Error as error:
        raise CinemaError(f"{path}, row {number + 1}: {error}; mend the quotes of that row.") from None
    except (OSError, UnicodeError) as error:
        raise CinemaError(f"{path}, row {number + 1}: cannot be read ({error}); is the file complete?") from None


# ---------------------------------------------------------------------- numbers
# Blanks and apostrophes that group thousands: 1 234, 1'234.
_GROUPING = " '\N{RIGHT SINGLE QUOTATION MARK}\N{NO-BREAK SPACE}\N{NARROW NO-BREAK SPACE}"
_EITHER = re.compile(r"[-+]?[1-9]\d{0,2}[.,]\d{3}")
# Shapes of numbers that show no decimal mark though they have one: 1,234 and 1.234.
COMMA, POINT = "1,234", "1.234"
_PARTS = {
    mark: re.compile(
        rf"([-+]?)(\d*|\d{{1,3}}(?:[{group}{_GROUPING}]\d{{3}})+)(?:{re.escape(mark)}(\d*))?((?:[eE][-+]?\d+)?)"
    )
    for mark, group in ((".", ","), (",", "."))
}

# How statistics programs write that there is nothing.
_MISSING = ("", ".", "na", "nan", "none", "null")


class Notation:
    """How a column writes its numbers, learnt cell by cell.

    Args:
        what: The column, for messages.
    """

    def __init__(self, what: str) -> None:
        self.what = what
        self.text = ""
        """A cell that is no number; empty where there is none."""
        self._seen: dict[str, str] = {}

    def add(self, cell: str) -> None:
        """Takes one cell into account."""
        cell = cell.strip()
        if cell.lower() in _MISSING:
            return
        if not any(_parts(cell, mark) for mark in _PARTS):
            self.text = self.text or cell
        elif (mark := _decimal_mark(cell)) is not None:
            self._seen.setdefault(mark, cell)

    def of(self, cells: Iterable[str]) -> Notation:
        """Takes many cells into account; gives itself."""
        for cell in cells:
            self.add(cell)
        return self

    @property
    def mark(self) -> str:
        """The decimal mark, ``.`` or ``,``.

        Raises:
            CinemaError: If the cells contradict each other, or may be read in two ways.
        """
        if "." in self._seen and "," in self._seen:
            raise CinemaError(
                f"{self.what}: '{self._seen['.']}' has a decimal point and '{self._seen[',']}' a decimal comma; write "
                "all numbers of a column in one way."
            )
        if COMMA in self._seen and not {".", ","} & set(self._seen):
            raise self.either(COMMA)
        return "," if "," in self._seen else "."

    def either(self, shape: str) -> CinemaError:
        """What to say of a column with numbers of a shape that can be read in two ways."""
        cell = self._seen[shape]
        return CinemaError(
            f"{self.what}: '{cell}' can be {re.sub('[.,]', '', cell)} or {cell.replace(',', '.')}, and no other cell "
            "of the column tells; write its numbers with a decimal point and without thousands separators."
        )

    @property
    def only_points(self) -> bool:
        """Whether all marks are as in 1.234: a decimal point, unless the table has decimal commas elsewhere."""
        return set(self._seen) == {POINT}


def decimal_marks(columns: Sequence[Notation]) -> list[str]:
    """Decimal marks of a table's columns of numbers.

    Raises:
        CinemaError: If the cells of a column contradict each other, or may be read in two ways.
    """
    marks = [column.mark for column in columns]
    for column in columns:
        if "," in marks and column.only_points:
            raise column.either(POINT)
    return marks


def _decimal_mark(cell: str) -> str | None:
    """The decimal mark that a number shows, COMMA or POINT where it can be either, None where it has no mark."""
    dots, commas = cell.count("."), cell.count(",")
    if dots and commas:
        return max(".,", key=cell.rfind)
    if dots > 1 or commas > 1:  # they group thousands, so the other one is the decimal mark
        return "," if dots else "."
    if commas:
        return COMMA if _EITHER.fullmatch(cell) else ","
    return None if not dots else POINT if _EITHER.fullmatch(cell) else "."


def _parts(cell: str, mark: str) -> re.Match[str] | None:
    """Sign, whole part, decimals and exponent of a number that is written with this decimal mark."""
    parts = _PARTS[mark].fullmatch(cell)
    return parts if parts is not None and (parts[2] or parts[3]) else None


def plain_number(cell: str, mark: str) -> str:
    """A number with a decimal point and without thousands separators; another cell as it is.

    Args:
        cell: The cell.
        mark: The decimal mark of its column.

    Returns:
        What ``float`` reads, or the cell.
    """
    parts = _parts(cell.strip(), mark)
    if parts is None:
        return cell
    whole = re.sub(r"\D", "", parts[2])
    return f"{parts[1]}{whole}{f'.{parts[3]}' if parts[3] else ''}{parts[4]}"


def plain_numbers(cells: Sequence[str], what: str) -> list[str]:
    """The cells of a column with their numbers written plainly; the column decides together how they are read.

    Args:
        cells: The column.
        what: What to call it in a message.

    Returns:
        The cells; what is no number stays as it is.

    Raises:
        CinemaError: If the numbers contradict each other, or can be read in two ways.
    """
    mark = Notation(what).of(cells).mark
    return [plain_number(cell, mark) for cell in cells]


def column_numbers(cells: Iterable[object], what: str) -> list[float | None]:
    """A column as finite numbers; None where a cell is empty or something else. See :func:`plain_numbers`."""
    return [finite(cell) for cell in plain_numbers([str(cell) for cell in cells], what)]


def finite(cell: str) -> float | None:
    """A cell that is written plainly as a finite number; None where it is empty or something else."""
    try:
        value = float(cell)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
