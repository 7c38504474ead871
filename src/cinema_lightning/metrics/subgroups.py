"""Fairness: any statistic by sex, age band, BMI band, vendor or centre, with the gap between groups."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from cinema_lightning.errors import CinemaError
from cinema_lightning.metrics.bootstrap import (
    BLOCK,
    DRAWS,
    Interval,
    bootstrap_with_draws,
    percentile_interval,
    subject_codes,
)
from cinema_lightning.metrics.weighted import Statistic, column, complete, to_numpy

SMALL_GROUP = 20


@dataclass(frozen=True)
class Subgroups:
    """A statistic by group.

    Attributes:
        groups: Group -> figure and interval, in the order of the names.
        gap: Largest less smallest figure, with a bootstrap interval of the difference of those two groups; None with
            fewer than two groups.
        gap_between: The groups with the largest and the smallest figure.
        p: Permutation test of no difference between the groups: how often groups of the same sizes, made by chance,
            are as far apart. Unlike the gap's interval it allows for the choice of the two extreme groups.
        n_unknown: Cases whose group is not known; they are in no group.
        warnings: Sentences about groups that are too small to say much.
    """

    groups: dict[str, Interval]
    gap: Interval | None
    gap_between: tuple[str, str] | None
    p: float
    n_unknown: int
    warnings: tuple[str, ...]

    def rows(self) -> list[dict[str, Any]]:
        """One row per group, then the gap."""
        out: list[dict[str, Any]] = [{"group": name, **figure.as_dict()} for name, figure in self.groups.items()]
        if self.gap is not None and self.gap_between is not None:
            out.append({"group": " - ".join(self.gap_between), **self.gap.as_dict(), "p": self.p})
        return out


def band(values: Any, edges: Sequence[float]) -> np.ndarray:
    """Names of the bands that numbers fall in.

    Args:
        values: (N,) numbers, NaN where unknown.
        edges: Rising lower ends of all bands but the first.

    Returns:
        (N,) texts such as ``<45``, ``45-55`` (45 and above, below 55) and ``>=75``; empty where unknown.
    """
    marks = [f"{edge:g}" for edge in edges]
    to = "-" if edges[0] >= 0 else " to "
    names = [f"<{marks[0]}", *(f"{low}{to}{high}" for low, high in pairwise(marks)), f">={marks[-1]}"]
    numbers = column(values)
    places = np.searchsorted(np.asarray(edges), numbers, side="right")
    return np.where(np.isfinite(numbers), np.asarray(names)[np.minimum(places, len(edges))], "")


def subgroups(
    statistic: Statistic,
    *columns: Any,
    groups: Any,
    subjects: Any = None,
    small: int = SMALL_GROUP,
    draws: int = DRAWS,
    seed: int = 0,
    level: float = 0.95,
) -> Subgroups:
    """A statistic by group, the gap and whether it is more than chance.

    Args:
        statistic: Takes the columns and ``weights``.
        columns: Arrays with one row per case.
        groups: (N,) group of each case; empty, None or NaN where unknown.
        subjects: (N,) subject of each case.
        small: Groups of fewer subjects than this are warned of.
        draws: Bootstrap draws, and permutations.
        seed: Seed.
        level: Coverage of the intervals.

    Returns:
        The groups.

    Raises:
        CinemaError: If the columns differ in length.
    """
    arrays = [to_numpy(values) for values in columns]
    names = _names(groups)
    if len(names) != len(arrays[0]):
        raise CinemaError(f"There are {len(names)} groups' names for {len(arrays[0])} cases.")
    people = subject_codes(subjects, len(names))
    present = [name for name in _sorted(names) if name]
    figures: dict[str, Interval] = {}
    drawn: dict[str, np.ndarray] = {}
    for number, name in enumerate(present):
        part = [array[names == name] for array in arrays]
        options: dict[str, Any] = {"subjects": people[names == name], "draws": draws, "seed": (seed, number)}
        figures[name], drawn[name] = bootstrap_with_draws(statistic, *part, level=level, **options)
    gap, between = _gap(figures, drawn, level)
    usable = complete(*arrays) & (names != "")
    p = float("nan")
    if gap is not None:
        p = _permutation_p(
            statistic, [array[usable] for array in arrays], names[usable], people[usable], draws=draws, seed=seed
        )
    return Subgroups(figures, gap, between, p, int((names == "").sum()), _warnings(figures, small))


def _names(groups: Any) -> np.ndarray:
    values = to_numpy(groups)
    return np.array(["" if value is None or value != value else str(value) for value in values.tolist()], dtype=str)


def _sorted(names: np.ndarray) -> list[str]:
    """Bands in the order of their numbers, other names by alphabet."""

    def key(name: str) -> tuple[float, str]:
        number = re.sub(r"(?<=[\d.])(-| to ).*", "", name.lstrip("<>="))
        try:
            return (float(number) - (0.5 if name.startswith("<") else 0.0), name)
        except ValueError:
            return (float("inf"), name)

    return sorted(set(names.tolist()), key=key)


def _gap(
    figures: dict[str, Interval], drawn: dict[str, np.ndarray], level: float
) -> tuple[Interval | None, tuple[str, str] | None]:
    known = {name: figure.value for name, figure in figures.items() if np.isfinite(figure.value)}
    if len(known) < 2:
        return None, None
    high, low = max(known, key=lambda name: known[name]), min(known, key=lambda name: known[name])
    if high == low:  # all groups are equal
        high, low = list(known)[:2]
    difference = drawn[high] - drawn[low]
    first, second = figures[high], figures[low]
    interval = Interval(
        first.value - second.value,
        *percentile_interval(difference, level),
        first.n + second.n,
        first.n_subjects + second.n_subjects,
        first.n_missing + second.n_missing,
        int(np.isfinite(difference).sum()),
    )
    return interval, (high, low)


def _permutation_p(
    statistic: Statistic, arrays: list[np.ndarray], names: np.ndarray, people: np.ndarray, *, draws: int, seed: int
) -> float:
    """Share of random groupings of the subjects whose figures range as widely as the real ones."""
    # A person who changes group (two visits at two centres) counts as one unit in each.
    units, first, unit = np.unique(
        np.char.add(np.char.add(people.astype(str), "\0"), names), return_index=True, return_inverse=True
    )
    codes = np.unique(names, return_inverse=True)[1].reshape(-1)[first]
    rng = np.random.default_rng((seed, len(units)))
    observed = _spread(statistic, arrays, codes[unit.reshape(-1)][None])[0]
    size = max(1, BLOCK // len(names))
    blocks = []
    for start in range(0, draws, size):
        shuffled = rng.permuted(np.tile(codes, (min(size, draws - start), 1)), axis=1)
        blocks.append(_spread(statistic, arrays, shuffled[:, unit.reshape(-1)]))
    spread = np.concatenate(blocks)
    known = spread[np.isfinite(spread)]
    # Ties count as at least as wide; rounding must not undo that.
    return float((1 + (known >= observed - 1e-12 * abs(observed)).sum()) / (1 + len(known)))


def _spread(statistic: Statistic, arrays: list[np.ndarray], codes: np.ndarray) -> np.ndarray:
    """Largest less smallest figure over the groups, for (D, N) numbers of the cases' groups."""
    figures = [statistic(*arrays, weights=(codes == group).astype(np.float64)) for group in range(int(codes.max()) + 1)]
    low = np.min([np.where(np.isfinite(figure), figure, np.inf) for figure in figures], axis=0)
    high = np.max([np.where(np.isfinite(figure), figure, -np.inf) for figure in figures], axis=0)
    return high - low


def _warnings(figures: dict[str, Interval], small: int) -> tuple[str, ...]:
    out = []
    for name, figure in figures.items():
        if not np.isfinite(figure.value):
            out.append(f"Group '{name}' has no case for which the metric is defined.")
        elif figure.n_subjects < small:
            out.append(f"Group '{name}' has only {figure.n_subjects} subjects; its figure says little.")
    return tuple(out)
