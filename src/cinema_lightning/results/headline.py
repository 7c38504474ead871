"""What a headline figure is; which ones matter is said by the kinds of task, in their folders."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pandas as pd

from cinema_lightning.columns import Column
from cinema_lightning.metrics import agreement
from cinema_lightning.metrics.inference import Scale
from cinema_lightning.metrics.samples import Sample
from cinema_lightning.metrics.weighted import Statistic

Facts = Mapping[str, Any]
Columns = Callable[[pd.DataFrame, Facts], tuple[np.ndarray, ...] | None]
Cases = Callable[[pd.DataFrame, Facts], np.ndarray]
"""Takes the table and the facts; (N,) bool."""


def nowhere(table: pd.DataFrame, facts: Facts) -> np.ndarray:
    """No case of a table."""
    del facts
    return np.zeros(len(table), dtype=bool)


@dataclass(frozen=True)
class Reference:
    """What takes no network, beside which a figure is shown.

    Attributes:
        name: What it does, such as ``predicting the mean``.
        columns: The figure's columns with such predictions, made of the truths of the table.
    """

    name: str
    columns: Columns


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
        failed: Cases without a value because the method failed, not because nobody knows the truth.
        reference: What takes no network; None where the figure of that is not defined.
        scale: How the interval is made; None takes the statistic's own
            (:data:`cinema_lightning.metrics.influence.SCALES`).
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
    failed: Cases = nowhere
    reference: Reference | None = None
    scale: Scale | None = None
    truth: Columns | None = None

    def sample(self, table: pd.DataFrame, facts: Facts, keys: np.ndarray | None = None) -> Sample | None:
        """The cases of a table.

        Args:
            table: The table that the figure is made of, with the column ``subject``.
            facts: Facts of the test.
            keys: (N,) names of the cases; their places where not given.

        Returns:
            The sample; None where the table lacks something.
        """
        columns = self.columns(table, facts) if len(table) else None
        if columns is None:
            return None
        arrays = tuple(np.asarray(values) for values in columns)
        subjects = table["subject"].astype(str).to_numpy()
        names = np.arange(len(table)) if keys is None else keys
        return Sample(names, subjects, arrays, self.failed(table, facts))

    def known(self, sample: Sample) -> Sample:
        """The cases that count: all, or of a figure per person the rows that hold one."""
        return sample.take(sample.mask) if self.per_person else sample


def numbers(*names: str) -> Columns:
    """Numeric columns of a table."""

    def take(table: pd.DataFrame, facts: Facts) -> tuple[np.ndarray, ...] | None:
        del facts
        if any(name not in table.columns for name in names):
            return None
        return tuple(pd.to_numeric(table[name], errors="coerce").to_numpy(dtype=np.float64) for name in names)

    return take


def lacking(predicted: str, *true: str) -> Cases:
    """Cases whose truth is known and whose prediction is not a number."""

    def find(table: pd.DataFrame, facts: Facts) -> np.ndarray:
        known = [numbers(name)(table, facts) for name in (predicted, *true)]
        if any(values is None for values in known):
            return nowhere(table, facts)
        guess, *truth = (np.isfinite(values[0]) for values in known if values is not None)
        return ~guess & np.all(truth, axis=0)

    return find


def predicting_the_mean(pair: Columns) -> Reference:
    """The mean of the truths for everybody; ``pair`` gives predictions and truths."""

    def columns(table: pd.DataFrame, facts: Facts) -> tuple[np.ndarray, ...] | None:
        found = pair(table, facts)
        if found is None or not np.isfinite(found[1]).any():
            return None
        return np.full(len(found[1]), np.nanmean(found[1])), found[1]

    return Reference("predicting the mean", columns)


def mean_error(column: Column) -> Headline:
    """Mean absolute error of a quantity of function.csv."""
    names = (f"{column.name}_pred", f"{column.name}_true")
    pair = numbers(*names)
    name, display = f"{column.name}_mae", f"{column.display} MAE"
    found = Headline(name, display, column.unit, False, "function", agreement.mae, pair, own_row=False)
    return replace(found, failed=lacking(*names), reference=predicting_the_mean(pair))
