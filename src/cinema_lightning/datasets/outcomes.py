"""Outcomes and covariates of UK Biobank's participants: a table of half a million rows, of which some are wanted."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from cinema_lightning.columns import COHORT, texts
from cinema_lightning.datasets.files import sex, tidy
from cinema_lightning.errors import CinemaError
from cinema_lightning.tables import Notation, Table, decimal_marks, finite, open_table, plain_number

# What exports call the participant's id, without capitals and all that is no letter: Participant ID, participant.eid,
# f.eid, n_eid, ...
PARTICIPANT = ("eid", "participantid", "participanteid", "feid", "neid", "xeid", "ukbeid", "ukbid")
SEXES = {"0": "F", "1": "M"}
# What preparation itself says of a study.
TAKEN = tuple(
    column.name
    for column in COHORT
    if column.housekeeping and (column.kind != "number" or column.name.startswith(("n_frames", "n_slices")))
)
SHOWN = 5
# How R, Stata and pandas write that there is nothing.
ABSENT = ("NA", "NaN", "nan", ".")
# A row without these marks has no number that is written otherwise than Python writes it.
_MARKED = re.compile(r",|\.\d+\.|\d['\s\N{RIGHT SINGLE QUOTATION MARK}]\d")


def read_outcomes(path: Path, wanted: Collection[str]) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """Reads the rows of some participants; others are only counted, so that the table may be of any length.

    Args:
        path: The table.
        wanted: EIDs.

    Returns:
        EID -> lower-case column -> number or text, None where the cell is empty; and sentences about the rest.

    Raises:
        CinemaError: If the table cannot be read, has no column of participants or two, a column of a name that is
            taken, a participant twice, or a column whose numbers can be read in two ways.
    """
    table = open_table(path)
    names = [name.lower() for name in table.columns]
    key = _key(table, names)
    found: dict[str, list[str]] = {}
    others: list[str] = []
    count = 0
    marked = False
    for row, cells in table.rows():
        marked = marked or _MARKED.search(";".join(cells)) is not None
        eid = cells[key].removesuffix(".0")
        if eid in found:
            raise CinemaError(f"{path}, row {row}: lists the EID {eid} twice; keep one row per participant.")
        if eid in wanted:
            found[eid] = cells
        elif eid:
            count += 1
            others += [eid] if len(others) < SHOWN else []
    as_text = {*texts()}
    marks = _decimal_marks(table, names, as_text) if marked else {}
    places = [(place, name) for place, name in enumerate(names) if name and place != key]
    rows = {
        eid: {name: _cell(name, cells[place], marks.get(place), as_text) for place, name in places}
        for eid, cells in found.items()
    }
    return rows, [f"{path.name}: {count} EIDs have no images, e.g. {', '.join(others)}"] if count else []


def _key(table: Table, names: Sequence[str]) -> int:
    """Place of the participants' column."""
    keys = [place for place, name in enumerate(names) if re.sub(r"[\W_]", "", name) in PARTICIPANT]
    if not keys:
        raise CinemaError(
            f"{table.path} lacks the column 'eid'; it has {', '.join(filter(None, table.columns)) or 'none'} "
            "(Participant ID, participant.eid, f.eid and n_eid would do, too)."
        )
    if len(keys) > 1:
        both = " and ".join(f"'{table.columns[place]}'" for place in keys)
        raise CinemaError(f"{table.path} names participants in {both}; leave one of these columns.")
    for name in set(names) - {""}:
        if names.count(name) > 1:
            raise CinemaError(f"{table.path} has more than one column '{name}'; rename or remove all but one.")
        if name in TAKEN:
            raise CinemaError(f"The outcome table may not have a column '{name}': rename it.")
    return keys[0]


def _decimal_marks(table: Table, names: Sequence[str], as_text: Collection[str]) -> dict[int, str]:
    """Decimal mark of each column that holds nothing but numbers, from all rows of the table."""
    notations = {
        place: Notation(f"{table.path}, column '{table.columns[place]}'")
        for place, name in enumerate(names)
        if name and name not in as_text
    }
    for _, cells in table.rows():
        for place, notation in notations.items():
            notation.add(cells[place])
    numeric = {place: notation for place, notation in notations.items() if not notation.text}
    return dict(zip(numeric, decimal_marks(list(numeric.values())), strict=True))


def _cell(column: str, text: str, mark: str | None, as_text: Collection[str]) -> Any:
    if column == "sex":
        return SEXES.get(text.removesuffix(".0")) or sex(text)
    if text in ABSENT and column not in as_text:
        return None
    value = tidy(finite(plain_number(text, mark) if mark else text))
    return value if value is not None and column not in as_text else text or None
