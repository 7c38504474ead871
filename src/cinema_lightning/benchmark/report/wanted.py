"""Which columns of cases.csv the figures of a kind take, found by asking them with a table without rows.

A cine of every participant of a biobank makes millions of rows, and most columns say what the report does not show.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cinema_lightning.benchmark.report.index import read_json
from cinema_lightning.columns import factors
from cinema_lightning.results.kind import KINDS, headlines


class _Asked(pd.DataFrame):
    """A table that notes which columns are taken from it."""

    _metadata: list[str] = ["asked"]  # noqa: RUF012  (pandas names it so)
    asked: set[str]

    def __getitem__(self, key: Any) -> Any:
        keys = [key] if isinstance(key, str) else key
        if isinstance(keys, list | pd.Index | np.ndarray):
            self.asked.update(each for each in keys if isinstance(each, str))
        return super().__getitem__(key)


def wanted(folder: Path) -> Callable[[str], bool] | None:
    """Says which columns of a folder's cases.csv are wanted.

    Args:
        folder: A folder of results.

    Returns:
        Takes the name of a column; None where all have to be read, because a figure cannot do without rows or a file
        cannot be read (which reading it will say).
    """
    facts = read_json(folder / "test.json")
    kind = str(facts.get("kind", ""))
    if kind not in KINDS:
        return None
    try:
        table = _Asked(pd.read_csv(folder / "cases.csv", nrows=0, encoding="utf-8-sig"))
        table.asked = {factor.name for factor in factors()}
        KINDS[kind].counted(table)
        for headline in headlines(kind, facts):
            if headline.source == "cases":
                headline.failed(table, facts)
                trivial = None if headline.reference is None else headline.reference.columns
                for columns in (headline.columns, headline.truth, trivial):
                    if columns is not None:
                        columns(table, facts)
    except Exception:  # whatever a plug-in's figure does with no rows
        return None
    names = set(table.asked)
    return lambda name: name in names
