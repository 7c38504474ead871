"""From tables of cases to what :mod:`cinema_lightning.metrics.inference` takes: values per subject, one row per seed.

An arm's figure is the mean of its seeds' figures. Cases become subjects here, once, before anything is said of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from cinema_lightning.metrics import inference
from cinema_lightning.metrics.inference import Inference, Ranks
from cinema_lightning.metrics.influence import contributions, per_case, scale_of
from cinema_lightning.metrics.weighted import Statistic, complete


@dataclass(frozen=True)
class Sample:
    """One seed's columns of one figure.

    Attributes:
        keys: (N,) names of the cases, unique.
        subjects: (N,) subject of each case.
        studies: (N,) study of each case.
        columns: Columns of the statistic, one row per case; the last of several is the truth.
    """

    keys: np.ndarray
    subjects: np.ndarray
    studies: np.ndarray
    columns: tuple[np.ndarray, ...]

    @property
    def mask(self) -> np.ndarray:
        """(N,) cases that have every value; a class number below 0 is none."""
        known = complete(*self.columns)
        for part in self.columns:
            if part.dtype.kind == "i" and part.ndim == 1:
                known &= part >= 0
        return known

    @property
    def failed(self) -> np.ndarray:
        """(N,) cases without a value though there is a truth: the method failed."""
        if len(self.columns) == 1:
            return ~self.mask
        return ~self.mask & replace(self, columns=self.columns[1:]).mask

    def take(self, places: np.ndarray) -> Sample:
        """Some cases, by place or mask."""
        parts = tuple(part[places] for part in self.columns)
        return Sample(self.keys[places], self.subjects[places], self.studies[places], parts)


@dataclass(frozen=True)
class Estimate:
    """A figure of one arm.

    Attributes:
        found: Value and interval over seeds and subjects.
        n_cases: Cases of the tables.
        n_missing: Cases without a value, in the seed that has most of them.
        failed: Share of the cases with a truth for which the method gave no value, over all seeds.
    """

    found: Inference
    n_cases: int
    n_missing: int
    failed: float


@dataclass(frozen=True)
class Difference:
    """A figure of one arm less that of another, on the cases that both have a value for.

    Attributes:
        found: Value, interval and p.
        ranks: The comparison in which a failure is the worst, where either arm failed in some case.
        n_cases: Common cases with a value.
        n_left_out: Cases that only one arm has a value for.
    """

    found: Inference
    ranks: Ranks | None
    n_cases: int
    n_left_out: int

    @property
    def p(self) -> float:
        """The p that counts: that of the ranks where there are failures, else that of the difference."""
        return self.found.p if self.ranks is None else self.ranks.better.p

    @property
    def in_favour(self) -> float:
        """Above 0 where the first arm's ranks are better, NaN where there are no failures."""
        return float("nan") if self.ranks is None else self.ranks.better.value


def estimate(statistic: Statistic, samples: Sequence[Sample], level: float = 0.95) -> Estimate:
    """Figure of one arm from its seeds."""
    known = [sample.take(sample.mask) for sample in samples]
    subjects = np.unique(np.concatenate([sample.subjects for sample in known]))
    return Estimate(
        inference.interval(table(statistic, known, subjects), scale_of(statistic), level=level),
        n_cases=max(len(sample.keys) for sample in samples),
        n_missing=max(int((~sample.mask).sum()) for sample in samples),
        failed=failed_share(samples),
    )


def failed_share(samples: Sequence[Sample]) -> float:
    """Share of the cases with a truth, of all seeds, for which the method gave no value."""
    failed, known = (sum(int(part.sum()) for part in parts) for parts in zip(*((s.failed, s.mask) for s in samples), strict=True))
    return failed / (failed + known) if failed else 0.0


def difference(
    statistic: Statistic, first: Sequence[Sample], second: Sequence[Sample], higher_is_better: bool
) -> Difference:
    """Paired difference of two arms, first less second; each may have its own number of seeds."""
    aligned = align([*first, *second])
    subjects = np.unique(aligned[0].subjects)
    tables = [table(statistic, part, subjects) for part in (aligned[: len(first)], aligned[len(first) :])]
    union = np.unique(np.concatenate([sample.keys[sample.mask] for sample in (*first, *second)]))
    count = len(aligned[0].keys)
    ranks = _ranks(statistic, first, second, higher_is_better)
    return Difference(inference.difference(*tables, scale_of(statistic)), ranks, count, len(union) - count)


def table(statistic: Statistic, samples: Sequence[Sample], subjects: np.ndarray) -> np.ndarray:
    """(S, N) what each subject contributes to the figure, one row per seed; NaN where a seed lacks the subject."""
    out = np.full((len(samples), len(subjects)), np.nan)
    for row, sample in zip(out, samples, strict=True):
        if len(sample.keys):
            names, codes = np.unique(sample.subjects, return_inverse=True)
            row[np.searchsorted(subjects, names)] = contributions(statistic, *sample.columns, subjects=codes)
    return out


def _ranks(
    statistic: Statistic, first: Sequence[Sample], second: Sequence[Sample], higher_is_better: bool
) -> Ranks | None:
    """On the cases that all seeds of both have a value for or failed in."""
    values = per_case(statistic)
    if values is None or not any(sample.failed.any() for sample in (*first, *second)):
        return None
    judged = [sample.take(sample.mask | sample.failed) for sample in (*first, *second)]
    aligned = _common(judged)
    names, codes = np.unique(aligned[0].subjects, return_inverse=True)
    rows = [_of_subjects(np.asarray(values(*sample.columns)), codes, len(names)) for sample in aligned]
    ours, theirs = np.stack(rows[: len(first)]), np.stack(rows[len(first) :])
    return inference.compare_ranks(ours, theirs, higher_is_better=higher_is_better)


def _of_subjects(values: np.ndarray, codes: np.ndarray, count: int) -> np.ndarray:
    """(N,) means over the cases of each subject; NaN where one of them failed."""
    return np.bincount(codes, weights=values, minlength=count) / np.bincount(codes, minlength=count)


def align(samples: Sequence[Sample]) -> list[Sample]:
    """The cases that all samples have a value for, in one order."""
    return _common([sample.take(sample.mask) for sample in samples])


def _common(samples: Sequence[Sample]) -> list[Sample]:
    common = samples[0].keys
    for sample in samples[1:]:
        common = np.intersect1d(common, sample.keys)
    common = np.sort(common)
    out = []
    for sample in samples:
        order = np.argsort(sample.keys, kind="stable")
        out.append(sample.take(order[np.searchsorted(sample.keys[order], common)]))
    # One case belongs to one subject, whatever another tool's table calls it.
    return [replace(sample, subjects=out[0].subjects, studies=out[0].studies) for sample in out]
