"""Headline figures of survival, and events, follow-up and the Brier score."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from cinema_lightning.errors import CinemaError
from cinema_lightning.metrics.censoring import (
    auc_at,
    baseline_hazard,
    brier_at,
    predicted_survival,
    uncensored_probability,
)
from cinema_lightning.metrics.cox import FOLDS, folds_of
from cinema_lightning.metrics.inference import UNIT
from cinema_lightning.metrics.survival import concordance
from cinema_lightning.metrics.weighted import Statistic, column, complete
from cinema_lightning.results.headline import Columns, Facts, Headline, lacking, numbers
from cinema_lightning.results.kind import Results
from cinema_lightning.results.summary import figure_row

HORIZONS = (1.0, 3.0, 5.0)
"""Years at which figures are taken where the facts of a test do not say."""
DAYS_PER_YEAR = 365.25
OUTCOME = numbers("risk", "time", "event")


def horizons_of(facts: Facts) -> Sequence[float]:
    """Years at which figures are taken."""
    return [float(years) for years in facts.get("horizons") or HORIZONS]


def followed(time: Any, years: float) -> bool:
    """Whether anybody is followed for longer."""
    times = column(time)
    return bool((times[np.isfinite(times)] > years * DAYS_PER_YEAR).any())


def _at(years: float, what: Callable[..., Any]) -> Statistic:
    """A statistic at a horizon; NaN where nobody is followed so long, as may be among some of the cases."""

    def statistic(score: Any, time: Any, event: Any, *, weights: Any = None) -> Any:
        try:
            law = uncensored_probability(time, event)
            return what(score, time, event, years * DAYS_PER_YEAR, censoring=law, weights=weights)
        except CinemaError:
            return np.full(len(weights), np.nan) if weights is not None and np.ndim(weights) == 2 else float("nan")

    return statistic


def _if_followed(years: float) -> Columns:
    def take(table: pd.DataFrame, facts: Facts) -> tuple[np.ndarray, ...] | None:
        found = OUTCOME(table, facts)
        return found if found is not None and followed(found[1], years) else None

    return take


def headlines(facts: Facts) -> list[Headline]:
    """Discrimination over the whole follow-up, and at each horizon that somebody is followed beyond."""
    found = [Headline("c_index", "C-index", "", True, "cases", concordance, OUTCOME)]
    for years in horizons_of(facts):
        name, display = f"auc_{years:g}y", f"AUC at {years:g} year{'s' if years != 1 else ''}"
        area = Headline(name, display, "", True, "cases", _at(years, auc_at), _if_followed(years), scale=UNIT)
        found.append(area)
    return [replace(each, failed=lacking("risk", "time", "event")) for each in found]


def rows(results: Results, seed: int) -> Iterator[dict[str, Any]]:
    """Events and follow-up; the Brier score at each horizon, and that of the same chance for everybody."""
    risk, time, event = outcome = _outcome(results.cases)
    people, known = results.cases["subject"].to_numpy(), complete(*outcome)
    counts = {"n": int(known.sum()), "n_subjects": len(set(people[known])), "n_missing": int((~known).sum())}
    yield {"metric": "event", "group": "all", "statistic": "count", "value": float(event[known].sum()), **counts}
    if not known.any():
        return
    middle = {"metric": "time", "group": "all", "statistic": "median", "value": float(np.median(time[known]))}
    yield middle | counts
    for years in (years for years in horizons_of(results.facts) if followed(time[known], years)):
        name = f"brier_{years:g}y"
        for label, score in ((name, risk[known]), ("the same chance for all", np.zeros(known.sum()))):
            chance = cross_fitted_chance(score, time[known], event[known], people[known], years, seed)
            row = figure_row(_at(years, brier_at), chance, time[known], event[known], subjects=people[known])
            yield {"metric": name, "group": "all", "statistic": label, **row}


def cross_fitted_chance(
    risk: np.ndarray, time: np.ndarray, event: np.ndarray, people: np.ndarray, years: float, seed: int
) -> np.ndarray:
    """(N,) predicted chance of no event until a horizon, by the baseline hazard of subjects in other folds."""
    fold = folds_of(people, event, FOLDS, seed)
    chance = np.full(len(risk), np.nan)
    for number in np.unique(fold):
        here = fold == number
        if not here.all():
            baseline = baseline_hazard(risk[~here], time[~here], event[~here])
            chance[here] = predicted_survival(baseline, risk[here], [years * DAYS_PER_YEAR])[:, 0]
    return chance


def _outcome(table: pd.DataFrame) -> tuple[np.ndarray, ...]:
    columns = OUTCOME(table, {})
    assert columns is not None  # read_results refuses such tables
    return columns
