"""Survival figures at horizons, with inverse probability of censoring weights: time-dependent AUC and Brier score.

A subject whose event was seen stands for those like it who were censored before: its weight is 1 / G(t-), G being the
Kaplan-Meier estimate of staying uncensored. Subjects censored before the horizon count through those weights only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cinema_lightning.errors import CinemaError
from cinema_lightning.metrics.classification import area_under_curve
from cinema_lightning.metrics.weighted import answer, case_weights, column, complete, divide


@dataclass(frozen=True)
class StepFunction:
    """A function that changes at certain times only, continuous from the right.

    Attributes:
        time: (K,) rising times of the steps.
        value: (K,) value from each step on.
        start: Value before the first step.
    """

    time: np.ndarray
    value: np.ndarray
    start: float

    def __call__(self, time: Any, *, before: bool = False) -> np.ndarray:
        """Value at each time, or just before it."""
        place = np.searchsorted(self.time, np.asarray(time, dtype=np.float64), side="left" if before else "right")
        return np.concatenate([[self.start], self.value])[place]


def uncensored_probability(time: Any, event: Any) -> StepFunction:
    """G: Kaplan-Meier estimate of not being censored until a time; events come before censorings of the same time.

    Args:
        time: (N,) times.
        event: (N,) 0 or 1.

    Returns:
        The step function.
    """
    times, events = column(time), column(event)
    mask = complete(times, events)
    times, events = times[mask], events[mask] > 0
    steps = np.unique(times)
    at_risk = len(times) - np.searchsorted(np.sort(times), steps, side="left")
    here = np.searchsorted(steps, times)
    died = np.bincount(here, weights=events, minlength=len(steps))
    censored = np.bincount(here, weights=~events, minlength=len(steps))
    share = divide(censored, at_risk - died)
    return StepFunction(steps, np.cumprod(1 - np.where(np.isfinite(share), share, 0.0)), 1.0)


def _at_horizon(
    time: Any, event: Any, horizon: float, censoring: StepFunction | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Which cases have had the event by the horizon, which are still free of it, and each case's weight."""
    times, events = column(time), column(event)
    law = censoring if censoring is not None else uncensored_probability(times, events)
    late = float(law(horizon))
    if late <= 0:
        raise CinemaError(f"Nobody is followed beyond {horizon:g}; choose an earlier horizon.")
    had = (times <= horizon) & (events > 0)
    free = times > horizon
    weight = np.where(had, divide(np.ones(len(times)), law(times, before=True)), np.where(free, 1 / late, 0.0))
    return had, free, np.where(np.isfinite(weight), weight, 0.0)


def auc_at(
    risk: Any,
    time: Any,
    event: Any,
    horizon: float,
    *,
    censoring: StepFunction | None = None,
    weights: Any = None,
) -> Any:
    """Time-dependent AUC: events up to the horizon against those free of it (cumulative/dynamic; Uno et al. 2007).

    Args:
        risk: (N,) score.
        time: (N,) times.
        event: (N,) 0 or 1.
        horizon: The time asked about.
        censoring: G; estimated on these subjects, each once, where it is not given.
        weights: None, (N,) or (D, N).

    Returns:
        0 to 1, NaN without both kinds.

    Raises:
        CinemaError: If nobody is followed beyond the horizon.
    """
    scores = column(risk)
    mask = complete(scores, column(time), column(event))
    table = case_weights(weights, mask)
    had, free, weight = _at_horizon(column(time)[mask], column(event)[mask], horizon, censoring)
    return answer(area_under_curve(scores[mask], table * (weight * had), table * (weight * free)), weights)


def brier_at(
    survival: Any,
    time: Any,
    event: Any,
    horizon: float,
    *,
    censoring: StepFunction | None = None,
    weights: Any = None,
) -> Any:
    """Brier score of predicted survival at a horizon (Graf et al., Statistics in Medicine 1999).

    Args:
        survival: (N,) predicted probability of no event until the horizon.
        time: (N,) times.
        event: (N,) 0 or 1.
        horizon: The time asked about.
        censoring: G; estimated on these subjects where it is not given.
        weights: None, (N,) or (D, N).

    Returns:
        Mean squared error, 0 is perfect.

    Raises:
        CinemaError: If nobody is followed beyond the horizon.
    """
    chance = column(survival)
    mask = complete(chance, column(time), column(event))
    table = case_weights(weights, mask)
    had, free, weight = _at_horizon(column(time)[mask], column(event)[mask], horizon, censoring)
    error = weight * np.where(had, chance[mask] ** 2, np.where(free, (1 - chance[mask]) ** 2, 0.0))
    return answer(divide(table @ error, table.sum(axis=1)), weights)


def baseline_hazard(log_risk: Any, time: Any, event: Any) -> StepFunction:
    """Breslow's cumulative baseline hazard of a Cox model, as a rule from the training set.

    Args:
        log_risk: (N,) log-hazard of each subject.
        time: (N,) times.
        event: (N,) 0 or 1.

    Returns:
        H0; survival of a subject is exp(-H0(t) exp(log_risk)).
    """
    scores, times, events = column(log_risk), column(time), column(event)
    mask = complete(scores, times, events)
    scores, times, events = scores[mask], times[mask], events[mask] > 0
    order = np.argsort(times, kind="stable")
    ahead = np.cumsum(np.exp(scores[order])[::-1])[::-1]
    steps, first = np.unique(times[order], return_index=True)
    deaths = np.bincount(np.searchsorted(steps, times), weights=events, minlength=len(steps))
    return StepFunction(steps, np.cumsum(deaths / ahead[first]), 0.0)


def predicted_survival(baseline: StepFunction, log_risk: Any, horizons: Sequence[float]) -> np.ndarray:
    """Probability of no event until each horizon, (N, H), of a Cox model with this baseline."""
    return np.exp(-np.exp(column(log_risk))[:, None] * baseline(horizons)[None])
