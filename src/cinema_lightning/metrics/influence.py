"""What each subject contributes to a figure: values per subject whose mean is the figure.

Of a mean they are the subjects' own values. Of any other statistic they are the figure plus the influence of the
subject, found by leaving it out (the jackknife's pseudo-values, centred: Efron and Tibshirani 1993, chapter 11). So one
theory of means serves for all (:mod:`cinema_lightning.metrics.inference`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from cinema_lightning.metrics import agreement, classification
from cinema_lightning.metrics.inference import CORRELATION, MEAN, POSITIVE, SHARE, UNIT, Scale
from cinema_lightning.metrics.samples import Sample, numbered
from cinema_lightning.metrics.survival import concordance, concordance_slopes
from cinema_lightning.metrics.weighted import BLOCK, Statistic, column, mean

MOST_UNITS = 200
"""More subjects than this are left out in groups, of a figure that is no mean."""


def _right(probabilities: Any, true: Any) -> np.ndarray:
    return (np.asarray(probabilities).argmax(axis=1) == np.asarray(true)).astype(np.float64)


def _squared(probabilities: Any, true: Any) -> np.ndarray:
    scores = np.asarray(probabilities, dtype=np.float64)
    error = (scores - np.eye(scores.shape[1])[np.asarray(true, dtype=np.int64)]) ** 2
    return error[:, 1] if scores.shape[1] == 2 else error.sum(axis=1)


PER_CASE: dict[Statistic, Callable[..., np.ndarray]] = {
    mean: lambda values: column(values),
    agreement.mae: lambda predicted, true: np.abs(column(predicted) - column(true)),
    agreement.bias: lambda predicted, true: column(predicted) - column(true),
    classification.accuracy: _right,
    classification.brier: _squared,
}
"""Statistics that are means over cases, and the values that they are means of."""
SLOPES: dict[Statistic, Callable[..., np.ndarray]] = {concordance: concordance_slopes}
"""What changes a statistic with the weight of each case, where that is quicker than leaving out many subjects."""
SCALES: dict[Statistic, Scale] = {
    classification.accuracy: SHARE,
    classification.sensitivity: SHARE,
    classification.specificity: SHARE,
    classification.auroc: UNIT,
    classification.f1_macro: UNIT,
    concordance: UNIT,
    classification.mcc: CORRELATION,
    agreement.pearson: CORRELATION,
    agreement.concordance_correlation: CORRELATION,
    agreement.intraclass_correlation: CORRELATION,
    agreement.rmse: POSITIVE,
    agreement.difference_sd: POSITIVE,
    agreement.coefficient_of_variation: POSITIVE,
}
"""How the interval of a statistic is made, where it is not that of a mean."""


def scale_of(statistic: Statistic) -> Scale:
    """How the interval of a statistic is made; that of a mean where nothing is said."""
    return SCALES.get(statistic, MEAN)


@dataclass(frozen=True)
class Contributions:
    """A figure and what each subject contributes.

    Attributes:
        value: The figure of all cases; NaN where it is not defined.
        subjects: (N,) names, sorted.
        values: (N,) whose mean is the figure; NaN where the figure is not defined without one of the subjects.
    """

    value: float
    subjects: np.ndarray
    values: np.ndarray


def contributions(statistic: Statistic, sample: Sample) -> Contributions:
    """What each subject of a sample contributes to a figure.

    Args:
        statistic: Takes the columns and ``weights`` (see :mod:`cinema_lightning.metrics.weighted`).
        sample: The cases; those without a value are left out.

    Returns:
        The figure and the subjects' values.
    """
    known = sample.take(sample.mask)
    codes, subjects = numbered(known.subjects)
    if not len(subjects):
        return Contributions(float("nan"), subjects, np.array([]))
    if (per_case := PER_CASE.get(statistic)) is not None:
        return _of_a_mean(per_case(*known.columns), codes, subjects)
    value = float(statistic(*known.columns))
    if len(subjects) > MOST_UNITS and (slopes := SLOPES.get(statistic)) is not None:
        influence = np.bincount(codes, weights=slopes(*known.columns)) * len(subjects)
    else:
        influence = _left_out(statistic, known, codes, len(subjects), value)
    return Contributions(value, subjects, value + influence - influence.mean())


def _of_a_mean(values: np.ndarray, codes: np.ndarray, subjects: np.ndarray) -> Contributions:
    """A mean over cases is a ratio where subjects have different numbers of them."""
    sums, counts = np.bincount(codes, weights=values), np.bincount(codes)
    value = float(sums.sum() / counts.sum())
    return Contributions(value, subjects, value + (sums - value * counts) / counts.mean())


def _left_out(statistic: Statistic, known: Sample, codes: np.ndarray, count: int, value: float) -> np.ndarray:
    """(count,) influence of each subject: what the figure loses without it, times the others."""
    units = min(count, MOST_UNITS)
    unit_of = np.random.default_rng(0).permutation(count) % units if units < count else np.arange(count)
    mine = unit_of[codes]
    size = max(1, BLOCK // len(codes))
    if units < 2:
        return np.full(count, np.nan)
    without = np.concatenate(
        [
            np.atleast_1d(statistic(*known.columns, weights=(mine != block[:, None]).astype(np.float64)))
            for block in (np.arange(start, min(start + size, units)) for start in range(0, units, size))
        ]
    )
    # The members of a group share its influence so that the variance of the mean over subjects is that over groups.
    per_unit = (units - 1) * (value - without)
    return per_unit[unit_of] * (count / units) ** 0.5
