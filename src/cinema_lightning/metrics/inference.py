"""What can be said of a figure: its interval, a difference of two methods, the largest gap between groups.

Everything here takes values per subject, one row per seed (training): what a subject contributes to the figure
(:mod:`cinema_lightning.metrics.influence`), so that a mean, an AUROC and a C-index are treated alike. Seeds and
subjects are both drawn from many: the variance of a figure is that of the subjects plus that of the trainings, each by
its mean square, with Satterthwaite's degrees of freedom (Biometrics Bulletin 1946). With one seed nothing is known of
other trainings, and :attr:`Inference.one_training` says so.

``benchmarks/statistics.py`` measures the coverage and the rejection rates of all of it; docs/statistics.md shows them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any, Literal

import numpy as np
from scipy import special, stats

from cinema_lightning.metrics import studentised
from cinema_lightning.metrics.ranks import hodges_lehmann, placements, worst_first
from cinema_lightning.metrics.variance import Error, error_of, filled, known_subjects

LEAST = 10
"""Fewer subjects have no interval and no p."""
FEW = 20
"""Fewer subjects are warned of."""


@dataclass(frozen=True)
class Scale:
    """How the interval of a figure is made.

    Attributes:
        kind: ``mean``: Student's t, and with the skewness of the subjects taken into account (Hall, JRSS B 1992),
            of which the wider one counts on each side;
            ``share``: Wilson's score interval at the effective number of subjects, for shares of yes and no;
            ``bounded``: t on the logit scale between ``low`` and ``high``.
        low: Smallest possible figure.
        high: Largest possible figure.
    """

    kind: Literal["mean", "share", "bounded"] = "mean"
    low: float = -np.inf
    high: float = np.inf


MEAN = Scale()
POSITIVE = Scale(low=0.0)
SHARE = Scale("share", 0.0, 1.0)
UNIT = Scale("bounded", 0.0, 1.0)
CORRELATION = Scale("bounded", -1.0, 1.0)


@dataclass(frozen=True)
class Inference:
    """A figure and how sure it is.

    Attributes:
        value: Mean over seeds of the figure.
        low: End of the interval; NaN with fewer than ``LEAST`` subjects, or where nothing varies at a bound.
        high: The other end.
        p: Two-sided, of the value being 0, by the same statistic as the interval; NaN where it is no difference.
        se: Standard error.
        df: Degrees of freedom.
        n_subjects: Subjects.
        n_seeds: Trainings; of a difference, those of the method with fewer.
        sd_seeds: Standard deviation (n - 1) of the seeds' figures; NaN with one, and of a difference.
        shift: Hodges-Lehmann shift of a difference with ``shift_p`` of Wilcoxon's signed-rank test, which is about that
            shift and not about the mean; NaN elsewhere.
        shift_p: See ``shift``.
    """

    value: float
    low: float
    high: float
    p: float
    se: float
    df: float
    n_subjects: int
    n_seeds: int
    sd_seeds: float = float("nan")
    shift: float = float("nan")
    shift_p: float = float("nan")

    @property
    def few(self) -> bool:
        """Whether there are so few subjects that the interval says little, or is none."""
        return self.n_subjects < FEW

    @property
    def one_training(self) -> bool:
        """Whether it speaks of these trainings only, because a method has one seed; then nothing is set in bold."""
        return self.n_seeds < 2


@dataclass(frozen=True)
class Gap:
    """The largest gap between groups of subjects.

    Attributes:
        between: The groups, the one with the larger figure first.
        gap: Their difference; interval and p allow for the choice among all pairs of groups.
        n_groups: Groups that were compared; those of fewer than ``LEAST`` subjects are not.
    """

    between: tuple[str, str]
    gap: Inference
    n_groups: int


@dataclass(frozen=True)
class Ranks:
    """Two methods compared on ranks in which a failure is the worst.

    Attributes:
        failed: Share of (subject, seed) of either method for which there is no value, because the method failed.
        better: Chance that the first method's value of a subject is better than the second's of another, less the
            chance that it is worse, from -1 to 1 (Brunner and Munzel's relative effect, paired: Munzel 1999).
    """

    failed: tuple[float, float]
    better: Inference


def interval(values: Any, scale: Scale = MEAN, *, level: float = 0.95, n_subjects: int | None = None) -> Inference:
    """A figure with its interval over subjects and seeds.

    Args:
        values: (S, N) or (N,) values per subject, one row per seed; NaN where a seed lacks a subject.
        scale: How the interval is made.
        level: Coverage.
        n_subjects: Subjects, where the columns are more or fewer; None counts them.

    Returns:
        The figure: the mean over seeds of the rows' means. All NaN without a subject.
    """
    table = known_subjects(values)
    return _inference(table, None, scale, level, n_subjects)


def difference(
    first: Any,
    second: Any,
    scale: Scale = MEAN,
    *,
    level: float = 0.95,
    n_subjects: int | None = None,
    shift: bool = True,
) -> Inference:
    """The mean difference of two methods on the same subjects, its interval and its p: one estimand, one statistic.

    Subjects are paired. Seeds are not: equal numbers do not make two trainings alike, and with three seeds four degrees
    of freedom instead of two are worth more; where they are alike, the interval is too wide rather than too narrow.

    Args:
        first: (S, N) or (N,) values per subject of the first method, one row per seed.
        second: (R, N) or (N,) values of the second, the same subjects in the same order.
        scale: That of the figure. A difference of shares gets one subject more on each side (Bonett and Price 2012).
        level: Coverage.
        n_subjects: Subjects, where the columns are more or fewer.
        shift: Whether Hodges and Lehmann's shift is wanted beside.

    Returns:
        First less second. Subjects that either method lacks in all its seeds are left out.
    """
    one, two = known_subjects(first), known_subjects(second)
    both = np.isfinite(one).any(axis=0) & np.isfinite(two).any(axis=0)
    one, two = one[:, both], two[:, both]
    found = _inference(one, two, scale, level, n_subjects)
    if not shift or found.n_subjects < LEAST or not one.shape[1]:
        return found
    middle, p = hodges_lehmann(np.nanmean(one, axis=0) - np.nanmean(two, axis=0))
    return replace(found, shift=middle, shift_p=p)


def largest_gap(groups: Mapping[str, Any], *, level: float = 0.95) -> Gap | None:
    """The largest gap between the figures of groups of subjects, corrected for being the largest.

    Interval and p are those of Games and Howell (Journal of Educational Statistics 1976): the studentised range of as
    many groups, each pair with a standard error and degrees of freedom of its own, so that spreads may differ.

    Args:
        groups: Group -> (S, N) or (N,) values of its subjects, the same seeds in the same rows in every group.
        level: Coverage of all pairs at once.

    Returns:
        The pair that is the furthest apart; None with fewer than two groups of ``LEAST`` subjects.
    """
    tables = {name: known_subjects(values) for name, values in groups.items()}
    tables = {name: table for name, table in tables.items() if table.shape[1] >= LEAST}
    if len(tables) < 2:
        return None
    figures = {name: float(np.nanmean(np.nanmean(table, axis=1))) for name, table in tables.items()}
    high, low = max(combinations(tables, 2), key=lambda pair: abs(figures[pair[0]] - figures[pair[1]]))
    if figures[high] < figures[low]:
        high, low = low, high
    return Gap((high, low), _gap(tables[high], tables[low], len(tables), level), len(tables))


def failures(values: Any, *, level: float = 0.95) -> Inference:
    """Share of the subjects in whom a method failed.

    Args:
        values: (S, N) or (N,) values per subject, NaN where the method failed; or whether it failed.
        level: Coverage.

    Returns:
        The share, with Wilson's interval.
    """
    table = np.atleast_2d(np.asarray(values))
    failed = table if table.dtype == bool else ~np.isfinite(table.astype(np.float64))
    return interval(failed.astype(np.float64), SHARE, level=level)


def compare_ranks(first: Any, second: Any, *, higher_is_better: bool, level: float = 0.95) -> Ranks:
    """Compares two methods where a failure counts as the worst value that there is.

    Args:
        first: (S, N) or (N,) values per subject of the first method; NaN where it failed.
        second: (R, N) or (N,) values of the second, the same subjects in the same order.
        higher_is_better: Whether larger values are better.
        level: Coverage.

    Returns:
        The shares of failures, and which method is better of two subjects.
    """
    one, two = (worst_first(values, higher_is_better) for values in (first, second))
    won = np.stack([[placements(ours, theirs) for theirs in two] for ours in one])
    found = _inference(won.mean(axis=1), -won.mean(axis=0), MEAN, level, None, total=won.mean(axis=(0, 1)))
    shares = tuple(float((values == -np.inf).mean()) if values.size else float("nan") for values in (one, two))
    return Ranks((shares[0], shares[1]), found)


def holm(p_values: Any) -> np.ndarray:
    """Holm's step-down correction (Holm, Scandinavian Journal of Statistics 1979).

    Args:
        p_values: (M,); NaN for tests that were not possible, which do not count.

    Returns:
        (M,) adjusted p, at most 1.
    """
    values = np.asarray(p_values, dtype=np.float64)
    out = np.full(values.shape, np.nan)
    known = np.flatnonzero(np.isfinite(values))
    order = known[np.argsort(values[known], kind="stable")]
    factors = np.arange(len(order), 0, -1)
    out[order] = np.minimum(np.maximum.accumulate(values[order] * factors), 1.0)
    return out


# ---------------------------------------------------------------------- intervals
def _inference(
    one: np.ndarray,
    two: np.ndarray | None,
    scale: Scale,
    level: float,
    n_subjects: int | None,
    total: np.ndarray | None = None,
) -> Inference:
    """Of one method, or of a difference; ``total`` is the subjects' own part where the rows do not give it."""
    tables = [filled(table) for table in (one, two) if table is not None]
    subjects = one.shape[1] if n_subjects is None else n_subjects
    seeds = min(len(table) for table in tables)
    if not one.shape[1]:
        return Inference(*(float("nan"),) * 6, n_subjects=subjects, n_seeds=seeds)
    rows = np.nanmean(one, axis=1)
    if total is None:
        total = tables[0].mean(axis=0) - (tables[1].mean(axis=0) if two is not None else 0.0)
        value = float(rows.mean()) - (float(np.nanmean(two, axis=1).mean()) if two is not None else 0.0)
    else:
        value = float(total.mean())
    spread = float(rows.std(ddof=1)) if two is None and len(rows) > 1 else float("nan")
    rows_of = [table.mean(axis=1) for table in tables]
    error = error_of([total], rows_of, tables)
    found = Inference(value, *(float("nan"),) * 3, error.variance**0.5, error.df, subjects, seeds, spread)
    if subjects < LEAST:
        return found
    if two is not None:
        if scale.kind == "share":
            total = np.concatenate([total, [1.0, -1.0]])
            error = error_of([total], rows_of, tables)
        low, high = _cautious_ends(float(total.mean()), error, level)
        return replace(found, low=low, high=high, p=_p(float(total.mean()), error))
    low, high = _ends(value, error, scale, level, subjects)
    return replace(found, low=low, high=high)


def _ends(value: float, error: Error, scale: Scale, level: float, subjects: int) -> tuple[float, float]:
    nothing = (float("nan"), float("nan"))
    if scale.kind == "mean":
        low, high = _cautious_ends(value, error, level)
        return max(low, scale.low), min(high, scale.high)
    t = float(stats.t.ppf((1 + level) / 2, error.df))
    if scale.kind == "share":
        return _wilson(value, error, t, subjects)
    width = t * error.variance**0.5
    share = (value - scale.low) / (scale.high - scale.low)
    if not 0 < share < 1:
        return nothing
    width /= (scale.high - scale.low) * share * (1 - share)
    ends = special.expit(special.logit(share) + np.array([-width, width]))
    low, high = scale.low + (scale.high - scale.low) * ends
    return float(low), float(high)


def _wilson(share: float, error: Error, t: float, subjects: int) -> tuple[float, float]:
    effective = share * (1 - share) / error.variance if error.variance > 0 else float(subjects)
    centre = (share + t**2 / (2 * effective)) / (1 + t**2 / effective)
    width = t / (1 + t**2 / effective) * (share * (1 - share) / effective + t**2 / (4 * effective**2)) ** 0.5
    return max(0.0, centre - width), min(1.0, centre + width)


def _cautious_ends(value: float, error: Error, level: float) -> tuple[float, float]:
    """Ends of the interval: of each side the further one of Student's and of that by Hall's transformation.

    Student's alone misses the mean of skewed values. Hall's alone takes the skewness of a few cases for that of all:
    of two methods that differ in four of sixty cases, by chance all in one direction, it is sure.
    """
    if not error.variance > 0:
        return (value, value) if error.variance == 0 else (float("nan"), float("nan"))
    t = float(stats.t.ppf((1 + level) / 2, error.df))
    ends = [max(t, _untransformed(t, error.skewness)), min(-t, _untransformed(-t, error.skewness))]
    low, high = (value - error.variance**0.5 * end for end in ends)
    return low, high


def _untransformed(x: float, skewness: float) -> float:
    if abs(skewness) < 1e-6:
        return x
    return 3 / skewness * (float(np.cbrt(1 + skewness * (x - skewness / 6))) - 1)


def _p(value: float, error: Error) -> float:
    """Two-sided p of 0, the larger of Student's and of that by Hall's transformation, as the interval is."""
    if not error.variance > 0:
        return float(value == 0) if error.variance == 0 else float("nan")
    t = value / error.variance**0.5
    skew = error.skewness
    transformed = t + skew * t**2 / 3 + skew**2 * t**3 / 27 + skew / 6
    return float(2 * stats.t.sf(min(abs(t), abs(transformed)), error.df))


def _gap(high: np.ndarray, low: np.ndarray, groups: int, level: float) -> Inference:
    tables = [filled(high), filled(low)]
    parts = [table.mean(axis=0) for table in tables]
    seeds = min(len(table) for table in tables)
    # A training is the same for both groups: what counts is how the gap differs between trainings.
    error = error_of(parts, [tables[0].mean(axis=1) - tables[1].mean(axis=1)], tables)
    value = float(parts[0].mean() - parts[1].mean())
    subjects = sum(len(part) for part in parts)
    if not error.variance > 0:
        return Inference(value, value, value, float(value == 0), 0.0, error.df, subjects, seeds)
    se = error.variance**0.5
    width = studentised.quantile(level, groups, error.df) / 2**0.5 * se
    p = studentised.survival(abs(value) / se * 2**0.5, groups, error.df)
    return Inference(value, value - width, value + width, p, se, error.df, subjects, seeds)


# ---------------------------------------------------------------------- ranks
