"""Survival: Harrell's C, Kaplan-Meier by risk group, and Cox models side by side.

Times are in the table's unit (days); ``event`` is 1 where it happened at ``time`` and 0 where the subject was censored;
a higher risk score means an earlier event. Curves, tests and Cox models are lifelines'; Harrell's C is written here so
that its bootstrap interval is a matrix product. Figures at horizons are in :mod:`cinema_lightning.metrics.censoring`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cinema_lightning.errors import CinemaError
from cinema_lightning.metrics.bootstrap import BLOCK, Interval, bootstrap
from cinema_lightning.metrics.weighted import answer, case_weights, column, complete, divide, to_numpy

if TYPE_CHECKING:
    import pandas as pd


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
    right, pairs = np.zeros(len(table)), np.zeros(len(table))
    cases = np.flatnonzero(events)
    size = max(1, BLOCK // max(1, len(times)))
    for start in range(0, len(cases), size):
        part = cases[start : start + size]
        later = (times > times[part, None]) | ((times == times[part, None]) & ~events)
        ahead = (scores[part, None] > scores) + 0.5 * (scores[part, None] == scores)
        mine = table[:, part]
        pairs += (mine * (table @ later.T.astype(np.float64))).sum(axis=1)
        right += (mine * (table @ (later * ahead).T)).sum(axis=1)
    return answer(divide(right, pairs), weights)


def concordance_interval(risk: Any, time: Any, event: Any, subjects: Any = None, **options: Any) -> Interval:
    """Harrell's C with its bootstrap interval over subjects (see :func:`bootstrap`)."""
    return bootstrap(concordance, column(risk), column(time), column(event), subjects=subjects, **options)


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


@dataclass(frozen=True)
class CoxModel:
    """A Cox model on some covariates, fitted on one set and judged on another.

    Attributes:
        name: Name of the model.
        hazard_ratios: Covariate -> hazard ratio, low, high (95%), p; per standard deviation of the training set, or
            M against F for sex.
        concordance: Harrell's C on the test set.
        risk: (N,) log-hazard of each row of the test table, NaN where a covariate is missing.
        log_likelihood: Partial log-likelihood on the training set.
        n_train: Subjects that it was fitted on; ``n_train_missing`` were left out for a missing covariate.
        n_train_missing: See ``n_train``.
        dropped: Covariates that do not vary in the training set.
        problem: Why there is no model, else empty.
    """

    name: str
    hazard_ratios: dict[str, tuple[float, float, float, float]]
    concordance: Interval
    risk: np.ndarray
    log_likelihood: float
    n_train: int
    n_train_missing: int
    dropped: tuple[str, ...] = ()
    problem: str = ""


def cox_models(
    train: pd.DataFrame,
    test: pd.DataFrame,
    models: Mapping[str, Sequence[str]],
    *,
    time: str = "time",
    event: str = "event",
    subject: str | None = None,
    seed: int = 0,
) -> list[CoxModel]:
    """Fits Cox models on several sets of covariates, such as clinical, image score, and both.

    All models are fitted and judged on the same subjects, those with every covariate of any model.

    Args:
        train: One row per subject; ``sex`` may be M and F, other covariates are numbers.
        test: The same columns.
        models: Name -> covariates.
        time: Column of times.
        event: Column of events.
        subject: Column of persons, for the intervals; None counts each row.
        seed: Seed of the intervals.

    Returns:
        The models, in the order given.

    Raises:
        CinemaError: If a column is missing, or outcomes are not possible.
    """
    covariates = list(dict.fromkeys(name for names in models.values() for name in names))
    tables = [_numbers(table, [*covariates, time, event], which) for table, which in ((train, "train"), (test, "test"))]
    missing = tables[0].isna().any(axis=1)
    fit_on = tables[0][~missing]
    check_outcomes(fit_on[time], fit_on[event])
    # Both scaled by the training set; sex stays 0 and 1.
    for name in (name for name in covariates if name != "sex"):
        centre, spread = fit_on[name].mean(), fit_on[name].std()
        for place, table in enumerate(tables):
            tables[place] = table.assign(**{name: (table[name] - centre) / (spread if spread > 0 else 1.0)})
    ready = (tables[0][~missing], tables[1])
    people = None if subject is None else test[subject].to_numpy()
    complete_rows = tables[1].notna().all(axis=1).to_numpy()
    return [
        _cox(name, list(names), ready, (time, event), people, complete_rows, int(missing.sum()), seed)
        for name, names in models.items()
    ]


def _numbers(table: pd.DataFrame, columns: list[str], which: str) -> pd.DataFrame:
    import pandas as pd

    absent = [name for name in columns if name not in table.columns]
    if absent:
        raise CinemaError(f"The {which} table has no column '{absent[0]}' for the Cox models.")
    out = table[columns].copy()
    if "sex" in columns and not pd.api.types.is_numeric_dtype(out["sex"]):
        out["sex"] = out["sex"].map({"F": 0.0, "M": 1.0})
    return out.apply(pd.to_numeric, errors="coerce").astype(float)


def _cox(
    name: str,
    covariates: list[str],
    tables: tuple[pd.DataFrame, pd.DataFrame],
    outcome: tuple[str, str],
    people: np.ndarray | None,
    rows: np.ndarray,
    missing: int,
    seed: int,
) -> CoxModel:
    import warnings

    from lifelines import CoxPHFitter
    from lifelines.exceptions import ConvergenceError, ConvergenceWarning

    train, test = tables
    time, event = outcome
    constant = tuple(column_name for column_name in covariates if train[column_name].nunique() < 2)
    used = [column_name for column_name in covariates if column_name not in constant]
    risk = np.full(len(test), np.nan)
    ratios: dict[str, tuple[float, float, float, float]] = {}
    problem, likelihood = "", float("nan")
    if not used or not train[event].any():
        problem = "no covariate varies" if train[event].any() else "no events in the training set"
    else:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", ConvergenceWarning)
                fit = CoxPHFitter().fit(train[[*used, *outcome]], time, event)
        except (ConvergenceError, ConvergenceWarning, np.linalg.LinAlgError) as error:
            reason = str(error).splitlines()[0].split(". ")[0].rstrip(".")  # lifelines adds advice and links
            problem = f"the fit did not converge ({reason})"
        else:
            risk[rows] = fit.predict_log_partial_hazard(test.loc[rows, used]).to_numpy()
            table = fit.summary[["exp(coef)", "exp(coef) lower 95%", "exp(coef) upper 95%", "p"]]
            for covariate, (ratio, low, high, p) in zip(used, table.loc[used].to_numpy().tolist(), strict=True):
                ratios[covariate] = (ratio, low, high, p)
            likelihood = float(fit.log_likelihood_)
    figure = concordance_interval(risk, test[time], test[event], people, seed=seed)
    return CoxModel(name, ratios, figure, risk, likelihood, len(train), missing, constant, problem)
