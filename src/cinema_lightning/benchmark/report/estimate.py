"""Figures of arms with several seeds: bootstrap over subjects, and paired differences of two arms.

An arm's figure is the mean of its seeds' figures. A bootstrap draw takes the same subjects for all seeds and arms and
averages the seeds' figures within the draw, so an interval is about the subjects, not about the seeds. Where a figure
is a mean over cases, a draw is the product of two small matrices: draws by subjects, times the subjects' sums.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from cinema_lightning.benchmark.report.blocks import tidy
from cinema_lightning.metrics.agreement import mae
from cinema_lightning.metrics.bootstrap import BLOCK, DRAWS, bootstrap_p, percentile_interval, wilcoxon
from cinema_lightning.metrics.classification import accuracy, brier, f1_micro
from cinema_lightning.metrics.weighted import Statistic, column, complete, divide, mean


def _right(probabilities: Any, true: Any) -> np.ndarray:
    return (np.asarray(probabilities).argmax(axis=1) == np.asarray(true)).astype(np.float64)


def _squared(probabilities: Any, true: Any) -> np.ndarray:
    scores = np.asarray(probabilities, dtype=np.float64)
    error = (scores - np.eye(scores.shape[1])[np.asarray(true)]) ** 2
    return error[:, 1] if scores.shape[1] == 2 else error.sum(axis=1)


PER_CASE: dict[Statistic, Callable[..., np.ndarray]] = {
    mean: lambda values: column(values),
    mae: lambda predicted, true: np.abs(column(predicted) - column(true)),
    accuracy: _right,
    f1_micro: _right,
    brier: _squared,
}
"""Statistics that are means over cases, and the values that they are means of."""
MORE_DRAWS = 10
"""How many times as many draws are taken where a p is as small as the draws allow."""


@dataclass(frozen=True)
class Sample:
    """One seed's columns of one figure.

    Attributes:
        keys: (N,) names of the cases, unique.
        subjects: (N,) subject of each case.
        columns: Columns of the statistic, one row per case.
    """

    keys: np.ndarray
    subjects: np.ndarray
    columns: tuple[np.ndarray, ...]

    @property
    def mask(self) -> np.ndarray:
        """(N,) cases that have every value; a class number below 0 is none."""
        known = complete(*self.columns)
        for part in self.columns:
            if part.dtype.kind == "i" and part.ndim == 1:
                known &= part >= 0
        return known

    def take(self, places: np.ndarray) -> Sample:
        """Some cases, by place or mask."""
        return Sample(self.keys[places], self.subjects[places], tuple(part[places] for part in self.columns))


@dataclass(frozen=True)
class Estimate:
    """A figure of one arm.

    Attributes:
        value: Mean over seeds.
        low: End of the 95% interval over subjects; NaN with fewer than two.
        high: The other end.
        sd_seeds: Standard deviation (n - 1) of the seeds' figures; NaN with one seed.
        n_seeds: Seeds.
        n_cases: Cases of the tables.
        n_subjects: Subjects with a value.
        n_missing: Cases without a value, in the seed that has most of them.
    """

    value: float
    low: float
    high: float
    sd_seeds: float
    n_seeds: int
    n_cases: int
    n_subjects: int
    n_missing: int


@dataclass(frozen=True)
class Difference:
    """A figure of one arm less that of another, on the cases that both have a value for.

    Attributes:
        value: Difference; ``low`` and ``high`` are its interval's ends.
        low: See ``value``.
        high: See ``value``.
        p_bootstrap: From the share of draws beyond 0.
        p_wilcoxon: Signed-rank test of the subjects' mean differences, for means over cases; else NaN.
        n_cases: Common cases with a value.
        n_subjects: Their subjects.
        n_left_out: Cases that only one arm has a value for.
    """

    value: float
    low: float
    high: float
    p_bootstrap: float
    p_wilcoxon: float
    n_cases: int
    n_subjects: int
    n_left_out: int

    @property
    def test(self) -> str:
        """The test that counts: Wilcoxon's for means over cases, else the bootstrap."""
        return "wilcoxon" if np.isfinite(self.p_wilcoxon) else "bootstrap"

    @property
    def p(self) -> float:
        """The p of that test."""
        return self.p_wilcoxon if np.isfinite(self.p_wilcoxon) else self.p_bootstrap


@dataclass
class Estimator:
    """Makes estimates and differences, all from the same draws.

    Args:
        draws: Bootstrap draws.
        seed: Seed.
        level: Coverage.
    """

    draws: int = DRAWS
    seed: int = 0
    level: float = 0.95
    _counts: dict[tuple[int, int], np.ndarray] = field(default_factory=dict, repr=False)

    def estimate(self, statistic: Statistic, samples: Sequence[Sample]) -> Estimate:
        """Figure of one arm from its seeds."""
        masks = [sample.mask for sample in samples]
        known = [sample.take(mask) for sample, mask in zip(samples, masks, strict=True)]
        values = np.array([_value(statistic, sample) for sample in known])
        subjects = np.unique(np.concatenate([sample.subjects for sample in known]))
        low, high = percentile_interval(self._drawn(statistic, known, subjects, self.draws), self.level)
        finite = values[np.isfinite(values)]
        return Estimate(
            value=tidy(finite.mean()) if finite.size else float("nan"),
            low=tidy(low),
            high=tidy(high),
            sd_seeds=tidy(float(finite.std(ddof=1))) if finite.size > 1 else float("nan"),
            n_seeds=len(samples),
            n_cases=max(len(sample.keys) for sample in samples),
            n_subjects=len(subjects),
            n_missing=max(int((~mask).sum()) for mask in masks),
        )

    def difference(self, statistic: Statistic, first: Sequence[Sample], second: Sequence[Sample]) -> Difference:
        """Paired difference of two arms, first less second; each may have its own number of seeds."""
        aligned = align([*first, *second])
        ours, theirs = aligned[: len(first)], aligned[len(first) :]
        count = len(aligned[0].keys)
        subjects = np.unique(aligned[0].subjects)
        value = _average(statistic, ours) - _average(statistic, theirs)
        drawn = self._difference(statistic, ours, theirs, subjects, self.draws)
        low, high = percentile_interval(drawn, self.level)
        per_case = PER_CASE.get(statistic)
        p_wilcoxon = float("nan")
        if per_case is not None and count:
            means = [np.mean([per_case(*sample.columns) for sample in arm], axis=0) for arm in (ours, theirs)]
            p_wilcoxon = wilcoxon(means[0], means[1], aligned[0].subjects)
        p_bootstrap = bootstrap_p(drawn)
        if not np.isfinite(p_wilcoxon) and p_bootstrap <= 2.5 / (self.draws + 1):
            p_bootstrap = bootstrap_p(self._difference(statistic, ours, theirs, subjects, self.draws * MORE_DRAWS))
        union = {key for sample in (*first, *second) for key in sample.keys[sample.mask].tolist()}
        return Difference(
            tidy(value),
            tidy(low),
            tidy(high),
            tidy(p_bootstrap),
            tidy(p_wilcoxon),
            count,
            len(subjects),
            len(union) - count,
        )

    def _difference(
        self, statistic: Statistic, ours: list[Sample], theirs: list[Sample], subjects: np.ndarray, draws: int
    ) -> np.ndarray:
        return self._drawn(statistic, ours, subjects, draws) - self._drawn(statistic, theirs, subjects, draws)

    def _drawn(self, statistic: Statistic, samples: list[Sample], subjects: np.ndarray, draws: int) -> np.ndarray:
        """(draws,) mean of the seeds' figures in each draw of the subjects."""
        if len(subjects) < 2:
            return np.full(draws, np.nan)
        counts = self._times(len(subjects), draws)
        seeds = np.stack([_draw(statistic, sample, subjects, counts) for sample in samples])
        defined = np.isfinite(seeds)
        return divide(np.where(defined, seeds, 0.0).sum(axis=0), defined.sum(axis=0))

    def _times(self, subjects: int, draws: int) -> np.ndarray:
        """(draws, subjects) how often each subject is drawn; the same for the same number of subjects."""
        if (subjects, draws) not in self._counts:
            rng = np.random.default_rng((self.seed, subjects))
            picks = rng.integers(0, subjects, size=(draws, subjects))
            rows = np.arange(draws)[:, None] * subjects
            times = np.bincount((picks + rows).ravel(), minlength=draws * subjects).reshape(draws, subjects)
            if len(self._counts) > 32:
                self._counts.clear()
            self._counts[subjects, draws] = times.astype(np.uint8 if times.max() < 256 else np.uint16)
        return self._counts[subjects, draws]


def align(samples: Sequence[Sample]) -> list[Sample]:
    """The cases that all samples have a value for, in one order."""
    known = [sample.take(sample.mask) for sample in samples]
    common = known[0].keys
    for sample in known[1:]:
        common = np.intersect1d(common, sample.keys)
    out = []
    for sample in known:
        order = np.argsort(sample.keys, kind="stable")
        out.append(sample.take(order[np.searchsorted(sample.keys[order], np.sort(common))]))
    # One case belongs to one subject, whatever another tool's table calls it.
    return [Sample(sample.keys, out[0].subjects, sample.columns) for sample in out]


def _value(statistic: Statistic, sample: Sample) -> float:
    return float(statistic(*sample.columns)) if len(sample.keys) else float("nan")


def _average(statistic: Statistic, samples: Sequence[Sample]) -> float:
    values = np.array([_value(statistic, sample) for sample in samples])
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if finite.size else float("nan")


def _draw(statistic: Statistic, sample: Sample, subjects: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """(draws,) figures of one seed; all cases of the sample have values."""
    if not len(sample.keys):
        return np.full(len(counts), np.nan)
    codes = np.searchsorted(subjects, sample.subjects)
    per_case = PER_CASE.get(statistic)
    size = max(1, BLOCK // (len(subjects) if per_case else len(codes)))
    blocks = [counts[start : start + size] for start in range(0, len(counts), size)]
    if per_case is None:
        found: list[Any] = [statistic(*sample.columns, weights=block[:, codes].astype(np.float64)) for block in blocks]
        return np.concatenate(found)
    sums = np.bincount(codes, weights=per_case(*sample.columns), minlength=len(subjects))
    both = np.stack([sums, np.bincount(codes, minlength=len(subjects))], axis=1).astype(np.float64)
    totals = np.concatenate([block.astype(np.float64) @ both for block in blocks])
    return divide(totals[:, 0], totals[:, 1])
