"""Variance of a figure over subjects and trainings, for :mod:`cinema_lightning.metrics.inference`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats


@dataclass(frozen=True)
class Error:
    """Variance of a figure, its degrees of freedom, and the skewness of its distribution."""

    variance: float
    df: float
    skewness: float


def known_subjects(values: Any) -> np.ndarray:
    """(S, N) values of the subjects that any seed knows; gaps stay NaN."""
    table = np.atleast_2d(np.asarray(values, dtype=np.float64))
    return table[:, np.isfinite(table).any(axis=0)]


def filled(table: np.ndarray) -> np.ndarray:
    """(S, N) values without gaps: one is what its row and its column make expect."""
    known = np.isfinite(table)
    if known.all():
        return table
    rows, columns = np.nanmean(table, axis=1, keepdims=True), np.nanmean(table, axis=0, keepdims=True)
    return np.where(known, table, rows + columns - np.nanmean(table))


def _noise(table: np.ndarray) -> tuple[float, float]:
    """Variance of a mean over seeds and subjects that is neither a seed's nor a subject's own, and its degrees."""
    seeds, subjects = table.shape
    residual = table - table.mean(axis=1, keepdims=True) - table.mean(axis=0) + table.mean()
    degrees = (seeds - 1) * (subjects - 1)
    return float((residual**2).sum()) / degrees / (seeds * subjects), degrees


def _of_rows(rows: np.ndarray) -> tuple[float, float]:
    """Variance of the mean of the seeds' figures, and its degrees of freedom."""
    return float(rows.var(ddof=1)) / len(rows), len(rows) - 1.0


def error_of(parts: Sequence[np.ndarray], rows: Sequence[np.ndarray], tables: Sequence[np.ndarray]) -> Error:
    """Of the sum of means over ``parts`` (different subjects, the second subtracted).

    The seeds' ``rows`` vary by the trainings and by the residuals, of which the subjects' variance has its share
    already; what is left of it, but never less than nothing, is added.
    """
    if min(len(part) for part in parts) < 3:
        return Error(float("nan"), float("nan"), 0.0)
    subjects = [(float(part.var(ddof=1)) / len(part), len(part) - 1.0) for part in parts]
    trainings = [_of_rows(row) for row in rows if len(row) > 1]
    noise = [_noise(table) for table in tables if len(table) > 1]
    base = sum(value for value, _ in subjects)
    added = sum(value for value, _ in trainings) - sum(value for value, _ in noise)
    third = sum(sign * _third(part) for sign, part in zip((1.0, -1.0), parts, strict=False))
    if added <= 0:
        return Error(base, _satterthwaite(base, subjects), third / base**1.5 if base > 0 else 0.0)
    variance = base + added
    df = _cautious(variance, subjects, trainings, noise)
    return Error(variance, df, third / variance**1.5)


def _third(values: np.ndarray) -> float:
    """Third cumulant of a mean, unbiased."""
    count = len(values)
    return float(((values - values.mean()) ** 3).sum()) / ((count - 1) * (count - 2) * count)


def _satterthwaite(total: float, terms: Sequence[tuple[float, float]]) -> float:
    spread = sum(value**2 / df for value, df in terms)
    return max(1.0, total**2 / spread) if spread > 0 else min(df for _, df in terms)


def _cautious(variance: float, *terms: Sequence[tuple[float, float]]) -> float:
    """Degrees of freedom of subjects and few trainings together.

    Satterthwaite's are too many where both count alike and seeds are three, since they are estimated themselves.
    Cochran's quantile is the mean of the parts' own, weighed by their variances (Biometrics 1964); the degrees are
    those of the larger quantile.
    """
    subjects, trainings, noise = terms
    base, seeds = (sum(value for value, _ in part) for part in (subjects, trainings))
    degrees = np.array([_satterthwaite(base, subjects), _satterthwaite(seeds, trainings)])
    weights = np.array([base, variance - base]) / variance
    cochran = float(weights @ stats.t.ppf(0.975, degrees))
    grid = np.geomspace(1.0, 1e6, 400)
    by_cochran = float(np.interp(-cochran, -stats.t.ppf(0.975, grid), grid))
    return min(_satterthwaite(variance, [*subjects, *trainings, *noise]), by_cochran)
