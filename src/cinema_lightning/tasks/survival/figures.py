"""Headline figures of survival, and events, follow-up and the Brier score."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from cinema_lightning.errors import CinemaError
from cinema_lightning.metrics.bootstrap import bootstrap
from cinema_lightning.metrics.censoring import auc_at, baseline_hazard, brier_at, predicted_survival
from cinema_lightning.metrics.survival import concordance
from cinema_lightning.metrics.weighted import complete
from cinema_lightning.results.headline import Facts, Headline, numbers
from cinema_lightning.results.kind import Results


def horizon_of(table: pd.DataFrame) -> float | None:
    """Where time-dependent figures are taken: the median of the times, if somebody is followed for longer.

    Args:
        table: Cases with ``time``, ``event`` and ``risk``.

    Returns:
        Days; None without times.
    """
    columns = numbers("risk", "time", "event")(table, {})
    if columns is None:
        return None
    times = columns[1][complete(*columns)]
    return float(np.median(times)) if len(times) and (times > np.median(times)).any() else None


def _auc(table: pd.DataFrame, facts: Facts) -> tuple[np.ndarray, ...] | None:
    columns, horizon = numbers("risk", "time", "event")(table, facts), horizon_of(table)
    if columns is None or horizon is None:
        return None
    return (*columns, np.full(len(table), horizon))


def _auc_at(risk: Any, time: Any, event: Any, horizon: Any, *, weights: Any = None) -> Any:
    try:
        return auc_at(risk, time, event, float(np.asarray(horizon)[0]), weights=weights)
    except CinemaError:  # among some of the cases nobody may be followed for so long
        return np.full(len(weights), np.nan) if weights is not None and np.ndim(weights) == 2 else float("nan")


def headlines(facts: Facts) -> list[Headline]:
    """Discrimination over the whole follow-up, and at its median."""
    del facts
    outcome = numbers("risk", "time", "event")
    return [
        Headline("c_index", "C-index", "", True, "cases", concordance, outcome),
        Headline("auc_at_median_time", "AUC at the median time", "", True, "cases", _auc_at, _auc),
    ]


def rows(results: Results, seed: int) -> Iterator[dict[str, Any]]:
    """Events and follow-up; the Brier score, whose baseline hazard is that of the validation subjects."""
    risk, time, event = outcome = _outcome(results.cases)
    people, known = results.cases["subject"].to_numpy(), complete(*outcome)
    counts = {"n": int(known.sum()), "n_subjects": len(set(people[known])), "n_missing": int((~known).sum())}
    yield {"metric": "event", "group": "all", "statistic": "count", "value": float(event[known].sum()), **counts}
    if not known.any():
        return
    horizon = horizon_of(results.cases)
    middle = {"metric": "time", "group": "all", "statistic": "median", "value": float(np.median(time[known]))}
    yield middle | counts
    if results.validation is None or horizon is None or not complete(*_outcome(results.validation)).any():
        return
    chance = predicted_survival(baseline_hazard(*_outcome(results.validation)), risk, [horizon])[:, 0]

    def statistic(chance: Any, time: Any, event: Any, *, weights: Any = None) -> Any:
        return brier_at(chance, time, event, horizon, weights=weights)

    figure = bootstrap(statistic, chance, time, event, subjects=people, seed=seed)
    yield {"metric": "brier_at_median_time", "group": "all", "statistic": "brier_at_median_time", **figure.as_dict()}


def _outcome(table: pd.DataFrame) -> tuple[np.ndarray, ...]:
    columns = numbers("risk", "time", "event")(table, {})
    assert columns is not None  # read_results refuses such tables
    return columns
