"""Scan and rescan of the same persons: pairs of their LVEF, and how much it varies."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pandas as pd

from cinema_lightning.metrics import agreement
from cinema_lightning.results.headline import Columns, Facts, numbers


def scan_pairs(table: pd.DataFrame, side: str) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """LVEF of scan and rescan of the same persons.

    Scans that are called by a letter and a number (B1, B2) are readings of one visit (B), whose first one counts.

    Args:
        table: function.csv, with the columns ``subject`` and ``scan``.
        side: pred or true.

    Returns:
        (first, second, subjects); None where there are no pairs.
    """
    column = f"lv_ef_{side}"
    if not {"subject", "scan", column} <= set(table.columns):
        return None
    known = table[["subject", "scan"]].astype({"subject": str}).assign(value=numbers(column)(table, {})[0])  # type: ignore[index]
    known = known.dropna()
    known["scan"] = known["scan"].astype(str)
    known = known[known["scan"] != ""].sort_values("scan", kind="stable")
    known["visit"] = [name[0] if re.fullmatch(r"[A-Za-z]\d", name) else name for name in known["scan"]]
    wide = known.pivot_table(index="subject", columns="visit", values="value", aggfunc="first")
    pairs = [row.dropna().to_numpy()[:2] for _, row in wide.iterrows() if row.notna().sum() >= 2]
    if not pairs:
        return None
    first, second = np.array(pairs, dtype=np.float64).T
    return first, second, wide.index[wide.notna().sum(axis=1) >= 2].to_numpy(dtype=str)


def repeatability(side: str) -> Columns:
    """First and second LVEF at the row of each person's first scan, NaN in the other rows; side is pred or true."""

    def take(table: pd.DataFrame, facts: Facts) -> tuple[np.ndarray, ...] | None:
        del facts
        pairs = scan_pairs(table, side)
        if pairs is None:
            return None
        first, second, people = pairs
        values = np.full((2, len(table)), np.nan)
        subjects = table["subject"].astype(str).to_numpy()
        for person, a, b in zip(people, first, second, strict=True):
            values[:, int(np.flatnonzero(subjects == person)[0])] = a, b
        return values[0], values[1]

    return take


def percent_variation(first: Any, second: Any, *, weights: Any = None) -> Any:
    """Coefficient of variation of scan and rescan, percent."""
    return 100 * agreement.coefficient_of_variation(first, second, weights=weights)
