"""Figures, differences and gaps of any statistic, from the cases of one or several seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from cinema_lightning.metrics import inference
from cinema_lightning.metrics.inference import Gap, Inference, Ranks, Scale
from cinema_lightning.metrics.influence import PER_CASE, Contributions, contributions, scale_of
from cinema_lightning.metrics.samples import Sample, align, align_with_failures, numbered, sample_of
from cinema_lightning.metrics.weighted import Statistic


@dataclass(frozen=True)
class Groups:
    """A figure by group of subjects.

    Attributes:
        figures: Group -> figure and interval.
        largest: The largest gap; None with fewer than two groups that are large enough.
    """

    figures: dict[str, Inference]
    largest: Gap | None


def estimate(
    statistic: Statistic, samples: Sequence[Sample], scale: Scale | None = None, *, level: float = 0.95
) -> Inference:
    """A figure of one method: the mean of its seeds' figures, with the interval over subjects and seeds.

    Args:
        statistic: Takes the columns and ``weights``.
        samples: One per seed; each with the cases that it has.
        scale: How the interval is made; None takes the statistic's own.
        level: Coverage.

    Returns:
        The figure. Its interval is NaN where leaving out one subject leaves the statistic undefined.
    """
    parts = [contributions(statistic, sample) for sample in samples]
    return _with_value(inference.interval(_table(parts), scale or scale_of(statistic), level=level), parts)


def compare(
    statistic: Statistic,
    first: Sequence[Sample],
    second: Sequence[Sample],
    scale: Scale | None = None,
    *,
    level: float = 0.95,
) -> Inference:
    """The difference of two methods, first less second, on the cases that every seed of both has a value for.

    Args:
        statistic: Takes the columns and ``weights``.
        first: One sample per seed.
        second: The same of the other method; it may have another number of seeds.
        scale: That of the statistic, where it is not its own.
        level: Coverage.

    Returns:
        The difference; see :func:`cinema_lightning.metrics.inference.difference`.
    """
    aligned = align([*first, *second])
    parts = [contributions(statistic, sample) for sample in aligned]
    ours, theirs = parts[: len(first)], parts[len(first) :]
    found = inference.difference(_table(ours), _table(theirs), scale or scale_of(statistic), level=level)
    value = float(np.mean([part.value for part in ours]) - np.mean([part.value for part in theirs]))
    return replace(found, value=value, n_subjects=len(parts[0].subjects))


def compare_failing(
    statistic: Statistic, first: Sequence[Sample], second: Sequence[Sample], *, higher_is_better: bool
) -> Ranks | None:
    """Two methods on ranks in which a failure is the worst; None of a statistic that is no mean over cases.

    Args:
        statistic: The figure.
        first: One sample per seed, with the cases that failed.
        second: The same of the other method.
        higher_is_better: Whether larger values are better.

    Returns:
        Shares of failures and the comparison, over the subjects' means; a subject of whom a case failed is a failure.
    """
    if statistic not in PER_CASE:
        return None
    aligned = align_with_failures([*first, *second])
    if not len(aligned[0].keys):
        return None
    rows = np.stack([_subject_means(statistic, sample) for sample in aligned])
    return inference.compare_ranks(rows[: len(first)], rows[len(first) :], higher_is_better=higher_is_better)


def share_failed(samples: Sequence[Sample], *, level: float = 0.95) -> Inference:
    """Share of the subjects in whom a method failed in at least one case, of those in whom it was asked for a value.

    Args:
        samples: One per seed.
        level: Coverage.

    Returns:
        The share with Wilson's interval; 0 where nothing failed.
    """
    parts = []
    for sample in samples:
        failed = np.zeros(len(sample.keys), dtype=bool) if sample.failed is None else sample.failed
        asked = sample.mask | failed
        codes, subjects = numbered(sample.subjects[asked])
        share = np.bincount(codes, weights=failed[asked], minlength=len(subjects)) > 0
        parts.append(Contributions(float(share.mean()) if len(share) else float("nan"), subjects, share.astype(float)))
    return inference.interval(_table(parts), inference.SHARE, level=level)


def by_group(
    statistic: Statistic, samples: Sequence[Sample], groups: Mapping[str, Any], scale: Scale | None = None
) -> Groups:
    """A figure by group of cases, and the largest gap.

    Args:
        statistic: Takes the columns and ``weights``.
        samples: One per seed, of the same cases (see :func:`cinema_lightning.metrics.samples.align`).
        groups: Group -> (N,) bool, its cases.
        scale: How the intervals are made; None takes the statistic's own.

    Returns:
        Figures of the groups. A person with cases in two groups counts in both.
    """
    figures, tables = {}, {}
    for name, members in groups.items():
        parts = [contributions(statistic, sample.take(np.asarray(members))) for sample in samples]
        table = _table(parts)
        figures[name] = _with_value(inference.interval(table, scale or scale_of(statistic)), parts)
        tables[name] = table
    known = {name: table for name, table in tables.items() if table.size and np.isfinite(table).all()}
    return Groups(figures, inference.largest_gap(known))


def figure(statistic: Statistic, *columns: Any, subjects: Any = None, scale: Scale | None = None) -> Inference:
    """A figure of one training, of columns with one row per case.

    Args:
        statistic: Takes the columns and ``weights``.
        columns: Arrays with one row per case.
        subjects: (N,) subject of each case; None counts every case as a subject.
        scale: How the interval is made; None takes the statistic's own.

    Returns:
        The figure.
    """
    return estimate(statistic, [sample_of(*columns, subjects=subjects)], scale)


def _with_value(found: Inference, parts: Sequence[Contributions]) -> Inference:
    """The seeds' figures stand even where the subjects' contributions are not defined."""
    values = np.array([part.value for part in parts])
    values = values[np.isfinite(values)]
    if not len(values):
        return found
    subjects = len(np.unique(np.concatenate([part.subjects for part in parts])))
    spread = float(values.std(ddof=1)) if len(values) > 1 else float("nan")
    return replace(found, value=float(values.mean()), n_subjects=subjects, sd_seeds=spread)


def _table(parts: Sequence[Contributions]) -> np.ndarray:
    """(S, N) contributions of all subjects that a seed has, NaN where another lacks one."""
    subjects = np.unique(np.concatenate([part.subjects for part in parts]))
    table = np.full((len(parts), len(subjects)), np.nan)
    for row, part in zip(table, parts, strict=True):
        row[np.searchsorted(subjects, part.subjects)] = part.values
    return table


def _subject_means(statistic: Statistic, sample: Sample) -> np.ndarray:
    failed = np.zeros(len(sample.keys), dtype=bool) if sample.failed is None else sample.failed
    values = np.full(len(sample.keys), np.nan)
    values[~failed] = PER_CASE[statistic](*(part[~failed] for part in sample.columns))
    codes = numbered(sample.subjects)[0]
    # A case that failed is NaN and makes its subject one.
    return np.bincount(codes, weights=values) / np.bincount(codes)
