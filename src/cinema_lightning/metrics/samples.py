"""Cases of one figure, as a table of results gives them for one seed, and what is common to several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cinema_lightning.errors import CinemaError
from cinema_lightning.metrics.weighted import complete, to_numpy


@dataclass(frozen=True)
class Sample:
    """One seed's columns of one figure.

    Attributes:
        keys: (N,) names of the cases, unique.
        subjects: (N,) subject of each case.
        columns: Columns of the statistic, one row per case.
        failed: (N,) cases without a value because the method failed, not because nobody knows; None where none did.
    """

    keys: np.ndarray
    subjects: np.ndarray
    columns: tuple[np.ndarray, ...]
    failed: np.ndarray | None = None

    @property
    def mask(self) -> np.ndarray:
        """(N,) cases that have every value and did not fail; a class number below 0 is none."""
        known = complete(*self.columns)
        for part in self.columns:
            if part.dtype.kind == "i" and part.ndim == 1:
                known &= part >= 0
        return known if self.failed is None else known & ~self.failed

    def take(self, places: np.ndarray) -> Sample:
        """Some cases, by place or mask."""
        failed = None if self.failed is None else self.failed[places]
        return Sample(self.keys[places], self.subjects[places], tuple(part[places] for part in self.columns), failed)


def sample_of(*columns: Any, subjects: Any = None, failed: Any = None) -> Sample:
    """A sample of columns whose cases have no names but their places.

    Args:
        columns: Arrays with one row per case.
        subjects: (N,) subject of each case; None counts every case as a subject.
        failed: (N,) bool, see :class:`Sample`.

    Returns:
        The sample.

    Raises:
        CinemaError: If the columns differ in length.
    """
    arrays = tuple(np.asarray(to_numpy(values)) for values in columns)
    count = len(arrays[0])
    who = np.arange(count) if subjects is None else to_numpy(subjects)
    if len(who) != count or any(len(array) != count for array in arrays):
        raise CinemaError(f"There are {len(who)} subjects' names for {[len(array) for array in arrays]} cases.")
    return Sample(np.arange(count), who, arrays, None if failed is None else np.asarray(failed, dtype=bool))


def numbered(subjects: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Number of each case's subject, (N,) from 0, and the subjects in order; quick for millions of names."""
    import pandas as pd

    codes, names = pd.factorize(subjects, sort=True)
    return codes, np.asarray(names)


def align(samples: Sequence[Sample]) -> list[Sample]:
    """The cases that all samples have a value for, in one order."""
    return _in_order([sample.take(sample.mask) for sample in samples])


def align_with_failures(samples: Sequence[Sample]) -> list[Sample]:
    """The cases that every sample has a value for or failed at, in one order."""
    return _in_order([sample.take(sample.mask | _failed(sample)) for sample in samples])


def _failed(sample: Sample) -> np.ndarray:
    return np.zeros(len(sample.keys), dtype=bool) if sample.failed is None else sample.failed


def _in_order(known: Sequence[Sample]) -> list[Sample]:
    common = known[0].keys
    for sample in known[1:]:
        common = np.intersect1d(common, sample.keys)
    out = []
    for sample in known:
        order = np.argsort(sample.keys, kind="stable")
        out.append(sample.take(order[np.searchsorted(sample.keys[order], np.sort(common))]))
    # One case belongs to one subject, whatever another tool's table calls it.
    return [Sample(sample.keys, out[0].subjects, sample.columns, sample.failed) for sample in out]
