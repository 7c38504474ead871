"""Ranks of subjects: who is better, and by how much, without a mean."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import stats


def hodges_lehmann(gap: Any) -> tuple[float, float]:
    """Hodges and Lehmann's shift, the median of all pairs' means, and Wilcoxon's signed-rank p of its being 0.

    Args:
        gap: (N,) differences of the subjects.

    Returns:
        Shift and p; NaN without subjects, p 1 where no subject differs.
    """
    values = np.sort(np.asarray(gap, dtype=np.float64))
    if not len(values):
        return float("nan"), float("nan")
    part = values[:: max(1, len(values) // 2000)]  # order statistics of many stand for all
    upper = np.triu_indices(len(part))
    shift = float(np.median((part[:, None] + part[None])[upper]) / 2)
    if not np.any(values != 0):
        return shift, 1.0
    tied = len(np.unique(np.abs(values))) < len(values) or bool(np.any(values == 0))
    # With ties SciPy would permute the signs of a few subjects in full, which takes a second.
    return shift, float(stats.wilcoxon(values, method="asymptotic" if tied else "auto").pvalue)


def worst_first(values: Any, higher_is_better: bool) -> np.ndarray:
    """(S, N) numbers of which the larger is better, a failure below all."""
    table = np.atleast_2d(np.asarray(values, dtype=np.float64))
    return np.where(np.isfinite(table), table if higher_is_better else -table, -np.inf)


def placements(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(N,) contributions of the subjects to the chance that a first value is above a second less that it is below.

    A subject takes part with both of its values, so that it moves the chance twice (Hajek's projection).
    """
    won = _below(second, first) - _below(first, second)
    return 2 * won - won.mean()


def _below(values: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Share of values below each, ties counting half."""
    ordered = np.sort(values)
    low, high = (np.searchsorted(ordered, at, side=side) for side in ("left", "right"))
    return (low + high) / 2 / max(1, len(values))
