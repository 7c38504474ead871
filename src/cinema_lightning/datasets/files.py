"""What the readers share: finding the raw folder, published splits, cells."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cinema_lightning.errors import CinemaError
from cinema_lightning.listing import is_litter
from cinema_lightning.tables import column_numbers, finite


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


def number(text: Any, what: str = "A value") -> float | None:
    """A cell that stands by itself as a finite number; None where it is empty or something else.

    Args:
        text: The cell; a decimal comma is read too. Columns of tables are read by :mod:`cinema_lightning.tables`.
        what: What to call it in a message.

    Raises:
        CinemaError: If it can be read in two ways, such as 1,234.
    """
    value = finite(str(text))
    return column_numbers([text], what)[0] if value is None else value


def whole(text: Any, what: str) -> int:
    """A cell as a whole number, or a sentence that names it."""
    value = number(text, what)
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


_SEXES = dict.fromkeys(("m", "male", "man"), "M") | dict.fromkeys(("f", "female", "woman"), "F")


def sex(text: Any) -> str | None:
    """M or F from M, F, male, female, man, woman, any case; None otherwise ("missing" is nobody's sex)."""
    return _SEXES.get(str(text).strip().lower())


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
