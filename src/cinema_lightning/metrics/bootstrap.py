"""Bootstrap intervals over subjects, paired comparisons of two methods, and correction for many comparisons.

Subjects are drawn, not cases: the ED and ES images of a person, or their two scans, come and go together.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy import stats

from cinema_lightning.errors import CinemaError
from cinema_lightning.metrics.weighted import BLOCK, Statistic, complete, deviation, mean, median, to_numpy

DRAWS = 2000


@dataclass(frozen=True)
class Interval:
    """A figure with its bootstrap percentile interval.

    Attributes:
        value: The statistic of all complete cases.
        low: Lower end; NaN with fewer than two subjects.
        high: Upper end.
        n: Complete cases.
        n_subjects: Subjects among them.
        n_missing: Cases left out because a value is missing or not defined.
        n_draws: Draws in which the statistic was defined.
    """

    value: float
    low: float
    high: float
    n: int
    n_subjects: int
    n_missing: int
    n_draws: int

    def as_dict(self) -> dict[str, float]:
        """Plain values, for a row of a table."""
        return asdict(self)


@dataclass(frozen=True)
class Comparison:
    """Difference of two methods on the same cases.

    Attributes:
        difference: Statistic of the first less that of the second; ``low`` and ``high`` are its interval's ends.
        p_bootstrap: Two-sided, from the share of draws beyond 0.
        p_wilcoxon: Signed-rank test of the subjects' mean differences; NaN where the statistic is not a mean per case.
    """

    difference: Interval
    p_bootstrap: float
    p_wilcoxon: float


def subject_codes(subjects: Any, n: int) -> np.ndarray:
    """Number of each case's subject, from 0; every case is its own subject where none are given.

    Args:
        subjects: (N,) names or numbers, or None.
        n: Number of cases.

    Returns:
        (N,) int64.
    """
    if subjects is None:
        return np.arange(n)
    names = to_numpy(subjects).astype(str)
    if len(names) != n:
        raise CinemaError(f"There are {len(names)} subjects' names for {n} cases.")
    return np.unique(names, return_inverse=True)[1].reshape(-1)


def _blocks(codes: np.ndarray, draws: int, seed: int | Sequence[int]) -> Iterator[np.ndarray]:
    """Case weights of the draws, some rows at a time; the same numbers whatever the size of a block."""
    rng = np.random.default_rng(seed)
    count = int(codes.max()) + 1
    size = max(1, BLOCK // len(codes))
    for start in range(0, draws, size):
        picks = rng.integers(0, count, size=(min(size, draws - start), count))
        rows = np.arange(len(picks))[:, None] * count
        times = np.bincount((picks + rows).ravel(), minlength=len(picks) * count).reshape(len(picks), count)
        yield times[:, codes].astype(np.float64)


def bootstrap_draws(
    statistic: Statistic, *columns: Any, subjects: Any = None, draws: int = DRAWS, seed: int | Sequence[int] = 0
) -> np.ndarray:
    """Values of a statistic over bootstrap draws of subjects.

    Args:
        statistic: Takes the columns and ``weights`` (see :mod:`cinema_lightning.metrics.weighted`).
        columns: Arrays with one row per case.
        subjects: (N,) subject of each case.
        draws: Number of draws.
        seed: Seed; the same seed gives the same draws of the same subjects.

    Returns:
        (draws,), NaN where the statistic is not defined (all NaN with fewer than two subjects).
    """
    arrays = [to_numpy(values) for values in columns]
    mask = complete(*arrays)
    codes = subject_codes(subjects, len(mask))[mask]
    codes = np.unique(codes, return_inverse=True)[1].reshape(-1)
    if not codes.size or codes.max() < 1:
        return np.full(draws, np.nan)
    kept = [array[mask] for array in arrays]
    return np.concatenate([statistic(*kept, weights=block) for block in _blocks(codes, draws, seed)])


def percentile_interval(values: np.ndarray, level: float = 0.95) -> tuple[float, float]:
    """The middle share of some draws, NaN left out."""
    known = values[np.isfinite(values)]
    if not known.size:
        return float("nan"), float("nan")
    tail = (1 - level) / 2
    low, high = np.quantile(known, [tail, 1 - tail])
    return float(low), float(high)


def bootstrap_with_draws(
    statistic: Statistic,
    *columns: Any,
    subjects: Any = None,
    draws: int = DRAWS,
    seed: int | Sequence[int] = 0,
    level: float = 0.95,
) -> tuple[Interval, np.ndarray]:
    """Like :func:`bootstrap`, and the draws themselves: the interval, (draws,)."""
    arrays = [to_numpy(values) for values in columns]
    mask = complete(*arrays)
    value = float(statistic(*(array[mask] for array in arrays))) if mask.any() else float("nan")
    drawn = bootstrap_draws(statistic, *arrays, subjects=subjects, draws=draws, seed=seed)
    people = len(np.unique(subject_codes(subjects, len(mask))[mask]))
    counts = (int(mask.sum()), people, int((~mask).sum()), int(np.isfinite(drawn).sum()))
    return Interval(value, *percentile_interval(drawn, level), *counts), drawn


def bootstrap(
    statistic: Statistic,
    *columns: Any,
    subjects: Any = None,
    draws: int = DRAWS,
    seed: int | Sequence[int] = 0,
    level: float = 0.95,
) -> Interval:
    """A statistic with its bootstrap percentile interval over subjects.

    Args:
        statistic: Takes the columns and ``weights``, such as ``mean``, ``mae`` or ``auroc``.
        columns: Arrays with one row per case.
        subjects: (N,) subject of each case; None counts every case as a subject.
        draws: Number of draws.
        seed: Seed.
        level: Coverage.

    Returns:
        The interval; all NaN without complete cases.
    """
    options: dict[str, Any] = {"subjects": subjects, "draws": draws, "seed": seed, "level": level}
    return bootstrap_with_draws(statistic, *columns, **options)[0]


def summarise(values: Any, subjects: Any = None, **options: Any) -> dict[str, float]:
    """One metric over cases: a row of the summary.

    Args:
        values: (N,) numbers, NaN where not defined.
        subjects: (N,) subject of each case.
        options: Passed on to :func:`bootstrap`.

    Returns:
        ``mean``, ``sd`` (n - 1), ``median``, ``low``, ``high`` (95% interval of the mean), ``n``, ``n_subjects``,
        ``n_missing``.
    """
    interval = bootstrap(mean, values, subjects=subjects, **options)
    return {
        "mean": interval.value,
        "sd": deviation(values),
        "median": median(values),
        "low": interval.low,
        "high": interval.high,
        "n": interval.n,
        "n_subjects": interval.n_subjects,
        "n_missing": interval.n_missing,
    }


def compare(
    first: Any,
    second: Any,
    statistic: Statistic = mean,
    *,
    subjects: Any = None,
    draws: int = DRAWS,
    seed: int | Sequence[int] = 0,
    level: float = 0.95,
) -> Comparison:
    """Compares two methods on the same cases.

    Args:
        first: (N,) values of the first method, or a tuple of the statistic's columns.
        second: The same of the second method, in the same order of cases.
        statistic: What is compared; the mean where values are given per case.
        subjects: (N,) subject of each case.
        draws: Number of draws; both methods see the same.
        seed: Seed.
        level: Coverage.

    Returns:
        The comparison. Cases that either method lacks are left out and counted.
    """
    columns_a = first if isinstance(first, tuple) else (first,)
    columns_b = second if isinstance(second, tuple) else (second,)
    count = len(columns_a)

    def difference(*columns: Any, weights: Any = None) -> Any:
        return statistic(*columns[:count], weights=weights) - statistic(*columns[count:], weights=weights)

    options: dict[str, Any] = {"subjects": subjects, "draws": draws, "seed": seed, "level": level}
    interval, drawn = bootstrap_with_draws(difference, *columns_a, *columns_b, **options)
    single = statistic is mean and count == len(columns_b) == 1
    p_wilcoxon = wilcoxon(columns_a[0], columns_b[0], subjects) if single else float("nan")
    return Comparison(interval, bootstrap_p(drawn), p_wilcoxon)


def bootstrap_p(differences: np.ndarray) -> float:
    """Two-sided p of no difference, from bootstrap draws of the difference; never below 2 / (draws + 1)."""
    known = differences[np.isfinite(differences)]
    if not known.size:
        return float("nan")
    tail = min(int((known <= 0).sum()), int((known >= 0).sum()))
    return min(1.0, 2 * (tail + 1) / (len(known) + 1))


def wilcoxon(first: Any, second: Any, subjects: Any = None) -> float:
    """Wilcoxon's signed-rank test of the subjects' mean differences.

    Args:
        first: (N,) values of one method.
        second: (N,) values of the other.
        subjects: (N,) subject of each case.

    Returns:
        Two-sided p; 1 where no subject differs, NaN without cases.
    """
    arrays = [to_numpy(values).astype(np.float64) for values in (first, second)]
    mask = complete(*arrays)
    if not mask.any():
        return float("nan")
    codes = np.unique(subject_codes(subjects, len(mask))[mask], return_inverse=True)[1].reshape(-1)
    difference = (arrays[0] - arrays[1])[mask]
    means = np.bincount(codes, weights=difference) / np.bincount(codes)
    return float(stats.wilcoxon(means).pvalue) if np.any(means != 0) else 1.0


def holm(p_values: Any) -> np.ndarray:
    """Holm's step-down correction (Holm, Scandinavian Journal of Statistics 1979).

    Args:
        p_values: (M,); NaN for tests that were not possible, which do not count.

    Returns:
        (M,) adjusted p, at most 1.
    """
    values = np.asarray(to_numpy(p_values), dtype=np.float64)
    out = np.full(values.shape, np.nan)
    known = np.flatnonzero(np.isfinite(values))
    order = known[np.argsort(values[known], kind="stable")]
    factors = np.arange(len(order), 0, -1)
    out[order] = np.minimum(np.maximum.accumulate(values[order] * factors), 1.0)
    return out
