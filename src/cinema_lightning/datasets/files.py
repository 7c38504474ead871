"""What the readers share: finding the raw folder, tables with named columns, published splits, cells."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cinema_lightning.errors import CinemaError
from cinema_lightning.listing import is_litter


def find_folder(raw: Path, pattern: str | Sequence[str], *, folder: str, display: str, looked_for: str) -> Path:
    """Finds the folder that the provider ships, whether the user points at it or at its parent.

    Args:
        raw: What the user gave.
        pattern: Glob that matches inside the right folder, or several of which one does.
        folder: The shipped folder's own name.
        display: The dataset's name.
        looked_for: The files in words, for the message.

    Returns:
        ``raw/folder`` or ``raw``.

    Raises:
        CinemaError: If neither holds anything that matches.
    """
    raw = Path(raw)
    if not raw.is_dir():
        raise CinemaError(f"{raw} is not a folder: point --raw at the folder that holds {display} as downloaded.")
    patterns = [pattern] if isinstance(pattern, str) else pattern
    for candidate in (raw / folder, raw):
        found = (path.relative_to(candidate).as_posix() for glob in patterns for path in candidate.glob(glob))
        if not all(map(is_litter, found)):
            return candidate
    raise CinemaError(
        f"{raw} does not hold {display}: looked for {looked_for} and found none; "
        "point --raw at the folder that holds it as downloaded."
    )


def read_table(path: Path, columns: Sequence[str], *, header: bool = True) -> list[dict[str, str]]:
    """Reads a small CSV as text.

    Args:
        path: The file; UTF-8 (with or without mark) or Latin-1.
        columns: Columns that must be there; without a header, the names of all columns in order.
        header: Whether the first line names the columns.

    Returns:
        One dict of stripped cells per row that is not blank; names of columns are stripped too.

    Raises:
        CinemaError: If the file is missing, lacks a column (it is named), or a row is too short.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise CinemaError(f"{path} cannot be read ({error.strerror or error}).") from None
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = data.decode("latin-1")
    rows = [row for row in csv.reader(text.splitlines()) if any(cell.strip() for cell in row)]
    names = [name.strip() for name in rows.pop(0)] if header and rows else list(columns)
    missing = [name for name in columns if name not in names]
    if missing:
        raise CinemaError(f"{path} lacks the column '{missing[0]}'; it has {', '.join(filter(None, names)) or 'none'}.")
    for number, row in enumerate(rows, start=2 if header else 1):
        if len(row) < len(names):
            raise CinemaError(f"{path}, row {number}: {len(row)} cells for {len(names)} columns; is the file complete?")
    return [dict(zip(names, (cell.strip() for cell in row), strict=False)) for row in rows]


def number(text: Any) -> float | None:
    """A cell as a finite number; None where it is empty or something else. A decimal comma is read too."""
    try:
        value = float(str(text).strip().replace(",", "."))
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def whole(text: Any, what: str) -> int:
    """A cell as a whole number, or a sentence that names it."""
    value = number(text)
    if value is None or value != int(value):
        raise CinemaError(f"{what} is {text!r}, not a whole number.")
    return int(value)


def tidy(value: float | None) -> float | int | None:
    """Whole numbers without a decimal point, so that an age of 61 reads 61 in the table."""
    return int(value) if value is not None and value == int(value) else value


def metres(centimetres: Any) -> float | None:
    """Height in metres from centimetres; None where it is missing or not positive."""
    value = number(centimetres)
    return value / 100 if value is not None and value > 0 else None


def body_mass_index(height: float | None, weight: float | None) -> float | None:
    """BMI in kg/m2 from metres and kilograms; None where one is missing."""
    return weight / height**2 if height and weight else None


def sex(text: Any) -> str | None:
    """M or F from M, F, male, female, any case; None otherwise."""
    letter = str(text).strip()[:1].upper()
    return letter if letter in ("M", "F") else None


def shuffled_split(ids: Iterable[str]) -> dict[str, str]:
    """The published 60/20/20 split: shuffled by a fresh ``default_rng(0)``, train first, then val, then test.

    Args:
        ids: Unique ids in the published order.

    Returns:
        id -> split; val and test get ``int(0.2 n)`` each.
    """
    order = np.array(list(ids), dtype=object)
    np.random.default_rng(0).shuffle(order)
    part = int(len(order) * 0.2)
    names = ["train"] * (len(order) - 2 * part) + ["val"] * part + ["test"] * part
    return dict(zip(order.tolist(), names, strict=True))


def safe_id(text: str) -> str:
    """A folder name from an id that may hold slashes or blanks; letters of any script stay.

    Raises:
        CinemaError: If nothing usable is left.
    """
    name = re.sub(r"[^\w.+-]+", "_", text.strip(), flags=re.UNICODE).strip("_")
    if not name or set(name) <= {"."} or name.startswith("."):
        raise CinemaError(f"The id {text!r} cannot be the name of a folder.")
    return name
