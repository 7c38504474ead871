"""Whether the arms of a group speak of the same cases, and of the same truth: else they cannot be compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cinema_lightning.columns import CASE
from cinema_lightning.errors import CinemaError

SHOWN = 3
SAME = 0.01
"""Share of the larger one by which truths may be apart: what is closer differs by the rounding."""
FAR = {"true": SAME, "time": SAME}
"""Column -> share by which they may be apart in the median of the cases; of the others, ``FAR_MEASURED``."""
FAR_MEASURED = 0.1
"""Volumes of other voxels differ by a few percent."""


@dataclass(frozen=True)
class Cases:
    """The cases of one table of results.

    Attributes:
        path: The file.
        keys: (N,) number of each case, unique.
        names: (N,) ids.
        truths: Column -> (N,) what it says of the truth: numbers, NaN where nothing is said, or names.
        alone: Columns of ``CASE`` by id, of those ids that have one row.
    """

    path: Path
    keys: np.ndarray
    names: np.ndarray
    truths: dict[str, np.ndarray]
    alone: pd.DataFrame


def completed(table: pd.DataFrame, others: Cases | None) -> pd.DataFrame:
    """A table whose cases are named as others name them: frame and view, where a study has one case and lacks them."""
    lacking = [] if others is None else [name for name in others.alone.columns if name not in table.columns]
    if others is None or not lacking or table["id"].duplicated().any():
        return table
    return table.assign(**{name: table["id"].astype(str).map(others.alone[name]) for name in lacking})


def cases_of(path: Path, table: pd.DataFrame, keys: np.ndarray, texts: Sequence[str]) -> Cases:
    """What is kept of a table to compare others with it.

    Args:
        path: The file.
        table: The table.
        keys: (N,) number of each case.
        texts: Columns that hold names.

    Returns:
        Its cases.
    """
    truths: dict[str, np.ndarray] = {}
    for name in map(str, table.columns):
        if name in texts and name == "true":
            truths[name] = table[name].fillna("").astype(str).to_numpy(dtype=object)
        elif (name.endswith("_true") or name in (*FAR, "event")) and not name.endswith(("_x_true", "_y_true")):
            truths[name] = pd.to_numeric(table[name], errors="coerce").to_numpy(dtype=np.float64)
    names = table["id"].astype(str)
    parts = [name for name in CASE if name in table.columns and name != "id"]
    alone = table[parts].set_axis(names.to_numpy(), axis="index")[~names.duplicated(keep=False).to_numpy()]
    return Cases(path, keys, names.to_numpy(dtype=object), truths, alone)


def compare(first: Cases, other: Cases, *, drawn: bool = False) -> list[str]:
    """Compares the truths of two arms.

    Args:
        first: Of the arm that was read first.
        other: Of another one.
        drawn: The cases may be others altogether, as those of another seed, which draws who is tested.

    Returns:
        Sentences on truths that differ in some cases.

    Raises:
        CinemaError: If they share no case, or their truths are of other classes, units or people.
    """
    shared, here, there = np.intersect1d(other.keys, first.keys, assume_unique=True, return_indices=True)
    if not len(other.keys) or not len(first.keys) or (drawn and not len(shared)):
        return []
    if not len(shared):
        raise CinemaError(
            f"{other.path} has none of the cases of {first.path} (ids {_some(other.names)} and {_some(first.names)}): "
            "give both the same id, frame and view for the same case, or the results a dataset of their own in "
            "test.json."
        )
    order = np.argsort(here)  # as the table has them
    here, there = here[order], there[order]
    notes = [_compare(name, first, other, here, there) for name in other.truths if name in first.truths]
    return [note for note in notes if note]


def _compare(name: str, first: Cases, other: Cases, here: np.ndarray, there: np.ndarray) -> str:
    mine, theirs = other.truths[name][here], first.truths[name][there]
    if mine.dtype == object:
        apart = ((mine != theirs) & (mine != "") & (theirs != "")).astype(float)
    else:
        larger = np.maximum(np.abs(mine), np.abs(theirs))
        apart = np.divide(np.abs(mine - theirs), larger, out=np.abs(mine - theirs), where=larger > 0)
    known = apart[np.isfinite(apart)]
    wrong = np.flatnonzero(apart > SAME)
    if not len(wrong):
        return ""
    at = wrong[0]
    example = f"'{other.names[here[at]]}' has {_shown(mine[at])} there and {_shown(theirs[at])} in {first.path}"
    exact = mine.dtype == object or name == "event"
    if exact or float(np.median(known)) > FAR.get(name, FAR_MEASURED):
        raise CinemaError(
            f"{other.path}: column {name} is another truth than that of the other results: {example} ({len(wrong)} of "
            f"{len(known)} cases differ); are the ids, the unit and the classes the same?"
        )
    return f"{other.path}: column {name} differs from that of the other results in {len(wrong)} cases ({example})"


def _some(names: np.ndarray) -> str:
    return ", ".join(map(str, names[:SHOWN])) + (", ..." if len(names) > SHOWN else "")


def _shown(value: Any) -> str:
    return f"'{value}'" if isinstance(value, str) else f"{value:g}"
