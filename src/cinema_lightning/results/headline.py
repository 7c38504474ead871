"""What a headline figure is; which ones matter is said by the kinds of task, in their folders."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from cinema_lightning.columns import Column
from cinema_lightning.metrics import agreement
from cinema_lightning.metrics.weighted import Statistic

Facts = Mapping[str, Any]
Columns = Callable[[pd.DataFrame, Facts], tuple[np.ndarray, ...] | None]


@dataclass(frozen=True)
class Headline:
    """A figure that a paper would report.

    Attributes:
        name: Short name, also the ``metric`` of the summary.
        display: Name in prose.
        unit: Unit, empty for shares.
        higher_is_better: Whether larger is better.
        source: The table it is made of.
        statistic: Takes the columns and ``weights`` (see :mod:`cinema_lightning.metrics.weighted`).
        columns: Takes the table and the facts of the test; None where the table lacks something.
        per_person: Whether a person is one case however many rows there are, which decides how many are missing; its
            columns are two measurements of each person.
        own_row: Whether it has a row of its own in the summary; else the rows of metrics and pairs hold it already.
        truth: The columns of the reference itself, where the figure can be computed of it.
    """

    name: str
    display: str
    unit: str
    higher_is_better: bool
    source: Literal["cases", "function"]
    statistic: Statistic
    columns: Columns
    per_person: bool = False
    own_row: bool = True
    truth: Columns | None = None


def numbers(*names: str) -> Columns:
    """Numeric columns of a table."""

    def take(table: pd.DataFrame, facts: Facts) -> tuple[np.ndarray, ...] | None:
        del facts
        if any(name not in table.columns for name in names):
            return None
        return tuple(pd.to_numeric(table[name], errors="coerce").to_numpy(dtype=np.float64) for name in names)

    return take


def mean_error(column: Column) -> Headline:
    """Mean absolute error of a quantity of function.csv."""
    pair = numbers(f"{column.name}_pred", f"{column.name}_true")
    name, display = f"{column.name}_mae", f"{column.display} MAE"
    return Headline(name, display, column.unit, False, "function", agreement.mae, pair, own_row=False)
