"""Survival: Harrell's C, and Kaplan-Meier by risk group.

Times are in the table's unit (days); ``event`` is 1 where it happened at ``time`` and 0 where the subject was censored;
a higher risk score means an earlier event. Curves and tests are lifelines'; Harrell's C is written here so that it
takes weights and large cohorts. Cox models are in :mod:`cinema_lightning.metrics.cox`, figures at horizons in
:mod:`cinema_lightning.metrics.censoring`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cinema_lightning.errors import CinemaError
from cinema_lightning.metrics.weighted import BLOCK, answer, case_weights, column, complete, divide, to_numpy


def check_outcomes(time: Any, event: Any, ids: Sequence[str] | None = None) -> None:
    """Refuses outcomes that no survival model can take.

    Args:
        time: (N,) times.
        event: (N,) 0 or 1.
        ids: (N,) names of the cases, for the message.

    Raises:
        CinemaError: If a time is missing or not above 0, or an event is neither 0 nor 1.
    """
    times, events = column(time), column(event)
    for wrong, what in (
        (~np.isfinite(times), "no time to event or censoring"),
        (times <= 0, "a time that is not above 0"),
        (~np.isin(events, (0, 1)), "an event that is neither 0 nor 1"),
    ):
        if wrong.any():
            place = int(np.flatnonzero(wrong)[0])
            name = ids[place] if ids is not None else f"number {place + 1}"
            raise CinemaError(f"Case {name} has {what} ({int(wrong.sum())} such cases); mend or remove it.")


def concordance(risk: Any, time: Any, event: Any, *, weights: Any = None) -> Any:
    """Harrell's C: of the pairs whose order is known, how many have the earlier event at the higher risk.

    A pair counts where the first has an event before the second's time, or at the same time as the second is censored.
    Equal risks count half. (Harrell et al., JAMA 1982; the same pairs as lifelines takes.)

    Args:
        risk: (N,) score.
        time: (N,) times.
        event: (N,) 0 or 1.
        weights: None, (N,) or (D, N).

    Returns:
        0 to 1, NaN without a pair.
    """
    scores, times, events = column(risk), column(time), column(event)
    mask = complete(scores, times, events)
    table = case_weights(weights, mask)
    scores, times, events = scores[mask], times[mask], events[mask] > 0
    # In the order of this key an event stands before the censorings of its time, and beside the events of its time.
    key = np.unique(np.stack([times, ~events]), axis=1, return_inverse=True)[1].reshape(-1)
    size = max(1, BLOCK // max(1, len(times)))
    blocks = [table[start : start + size] for start in range(0, len(table), size)]
    found = [_ordered_pairs(scores, key, events, block) for block in blocks]
    right, pairs = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return answer(divide(right, pairs), weights)


def _ordered_pairs(
    scores: np.ndarray, key: np.ndarray, events: np.ndarray, table: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Weight of the pairs in order and of all pairs, (D,) each: an event, and a case whose key is larger.

    The keys' bits part the cases into halves of halves; every pair is met once, where its keys part, and there the
    scores are sorted: N log N comparisons, for all rows of weights at once.
    """
    right, pairs = np.zeros(len(table)), np.zeros(len(table))
    for level in range(int(key.max(initial=0)).bit_length()):
        block, later = key >> (level + 1), (key >> level) & 1 == 1
        order = np.lexsort((scores, block))
        weight = table[:, order]
        behind = np.cumsum(np.where(later[order], weight, 0.0), axis=1)
        behind = np.concatenate([np.zeros((len(table), 1)), behind], axis=1)
        first = np.where((events & ~later)[order])[0]
        mine, ends = weight[:, first], _runs(block[order])
        ties = _runs(block[order], scores[order])
        start, end = ends[0][first], ends[1][first]
        below = (behind[:, ties[0][first]] + behind[:, ties[1][first]]) / 2 - behind[:, start]
        right += (mine * below).sum(axis=1)
        pairs += (mine * (behind[:, end] - behind[:, start])).sum(axis=1)
    return right, pairs


def concordance_slopes(risk: Any, time: Any, event: Any) -> np.ndarray:
    """How much Harrell's C changes with the weight of each case, where all weigh 1.

    Args:
        risk: (N,) score, every one known.
        time: (N,) times.
        event: (N,) 0 or 1.

    Returns:
        (N,), of sum 0; NaN without a pair.
    """
    scores, times, events = column(risk), column(time), column(event) > 0
    key = np.unique(np.stack([times, ~events]), axis=1, return_inverse=True)[1].reshape(-1)
    right, pairs = np.zeros(len(scores)), np.zeros(len(scores))
    for level in range(int(key.max(initial=0)).bit_length()):
        block, later = key >> (level + 1), (key >> level) & 1 == 1
        order = np.lexsort((scores, block))
        ends, ties = _runs(block[order]), _runs(block[order], scores[order])
        later, first = later[order], (events & ~later)[order]
        behind, before = (np.concatenate([[0], np.cumsum(flags)]) for flags in (later, first))
        below = (behind[ties[0]] + behind[ties[1]]) / 2 - behind[ends[0]]
        above = before[ends[1]] - (before[ties[0]] + before[ties[1]]) / 2
        right[order] += np.where(first, below, 0) + np.where(later, above, 0)
        pairs[order] += np.where(first, behind[ends[1]] - behind[ends[0]], 0)
        pairs[order] += np.where(later, before[ends[1]] - before[ends[0]], 0)
    total = pairs.sum() / 2
    if not total:
        return np.full(len(scores), np.nan)
    return (right - right.sum() / 2 / total * pairs) / total


def _runs(*columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Start and end, for each place of sorted columns, of the run of equal entries that it is in."""
    new = np.ones(len(columns[0]), dtype=bool)
    new[1:] = np.any([column[1:] != column[:-1] for column in columns], axis=0)
    starts, run = np.flatnonzero(new), np.cumsum(new) - 1
    return starts[run], np.append(starts[1:], len(new))[run]


def risk_groups(risk: Any, count: int = 2, cuts: Sequence[float] | None = None) -> tuple[np.ndarray, tuple[float, ...]]:
    """Groups of equal size by predicted risk.

    Args:
        risk: (N,) score.
        count: Number of groups.
        cuts: Rising cut points, such as those of the training set; None takes the quantiles of ``risk`` itself.

    Returns:
        (N,) group numbers from 0 (lowest risk), -1 where the score is missing; and the cut points.
    """
    scores = column(risk)
    known = np.isfinite(scores)
    if cuts is None:
        if not known.any():
            raise CinemaError("No case has a risk score, so there are no risk groups.")
        cuts = [float(cut) for cut in np.quantile(scores[known], np.arange(1, count) / count)]
    return np.where(known, np.searchsorted(np.asarray(cuts), scores, side="left"), -1), tuple(cuts)


@dataclass(frozen=True)
class SurvivalCurve:
    """Kaplan-Meier estimate of one group.

    Attributes:
        time: (K,) times at which the curve may step, from 0.
        survival: (K,) share without event from each time on; ``low`` and ``high`` are the 95% band (log-log).
        at_risk: (K,) subjects under observation just before each time.
        n: Subjects.
        events: Events.
    """

    time: np.ndarray
    survival: np.ndarray
    low: np.ndarray
    high: np.ndarray
    at_risk: np.ndarray
    n: int
    events: int


def kaplan_meier(time: Any, event: Any, groups: Any) -> dict[Any, SurvivalCurve]:
    """Kaplan-Meier curve of each group.

    Args:
        time: (N,) times.
        event: (N,) 0 or 1.
        groups: (N,) names or numbers.

    Returns:
        Group -> curve, in the order of the names.
    """
    from lifelines import KaplanMeierFitter

    times, events, names = column(time), column(event), to_numpy(groups)
    mask = complete(times, events)
    out = {}
    for name in np.unique(names[mask]):
        part = mask & (names == name)
        fit = KaplanMeierFitter().fit(times[part], events[part])
        band = fit.confidence_interval_survival_function_.to_numpy()
        out[name.item()] = SurvivalCurve(
            time=fit.survival_function_.index.to_numpy(),
            survival=fit.survival_function_.to_numpy()[:, 0],
            low=band[:, 0],
            high=band[:, 1],
            at_risk=fit.event_table["at_risk"].to_numpy(),
            n=int(part.sum()),
            events=int(events[part].sum()),
        )
    return out


def log_rank(time: Any, event: Any, groups: Any) -> float:
    """The log-rank test's p that all groups have one survival curve; NaN with one group or without events."""
    from lifelines.statistics import multivariate_logrank_test

    times, events, names = column(time), column(event), to_numpy(groups)
    mask = complete(times, events)
    if len(np.unique(names[mask])) < 2 or not events[mask].any():
        return float("nan")
    return float(multivariate_logrank_test(times[mask], names[mask], events[mask]).p_value)
