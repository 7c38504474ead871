"""Cox models side by side, cross-fitted: each subject is judged by a model that was fitted without it.

All of it is done on subjects that chose nothing, those of the test: subjects that chose the checkpoint make a score
look better than it is. Fits are lifelines'.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from cinema_lightning.errors import CinemaError
from cinema_lightning.metrics.estimates import compare, estimate
from cinema_lightning.metrics.inference import UNIT, Inference, difference
from cinema_lightning.metrics.influence import MOST_UNITS
from cinema_lightning.metrics.samples import Sample, numbered
from cinema_lightning.metrics.survival import check_outcomes, concordance

if TYPE_CHECKING:
    import pandas as pd

FOLDS = 5


@dataclass(frozen=True)
class CoxModel:
    """A Cox model on some covariates.

    Attributes:
        name: Name of the model.
        covariates: Those that it was given.
        hazard_ratios: Covariate -> hazard ratio, low, high (95%), p, of all subjects; per standard deviation, or M
            against F for sex. With several seeds, those of the first.
        concordance: Harrell's C out of fold.
        gain: C less that of the first model, on the same subjects; None for the first model.
        risk: (N,) log-hazard out of fold of each row of the first table, NaN where a covariate is missing.
        n_missing: Subjects left out for a missing covariate.
        n_events: Events among the others.
        dropped: Covariates that do not vary.
        problem: Why there is no model, else empty.
    """

    name: str
    covariates: tuple[str, ...]
    hazard_ratios: dict[str, tuple[float, float, float, float]]
    concordance: Inference
    gain: Inference | None
    risk: np.ndarray
    n_missing: int
    n_events: int
    dropped: tuple[str, ...] = ()
    problem: str = ""


def cox_models(
    tables: Sequence[pd.DataFrame],
    models: Mapping[str, Sequence[str]],
    *,
    time: str = "time",
    event: str = "event",
    subject: str = "subject",
    folds: int = FOLDS,
    seed: int = 0,
) -> list[CoxModel]:
    """Fits Cox models on several sets of covariates, such as clinical, and clinical and image.

    All models are fitted and judged on the same subjects, those with every covariate of any model. Subjects are parted
    into folds at random, those with and without an event evenly; C is that of each subject's own fold's model.

    Args:
        tables: One per seed, with one row per study; ``sex`` may be M and F, other covariates are numbers.
        models: Name -> covariates; the first is what the others are compared with.
        time: Column of times.
        event: Column of events.
        subject: Column of persons, who stay in one fold.
        folds: Number of folds; no more than there are persons with an event.
        seed: Seed of the folds.

    Returns:
        The models, in the order given.

    Raises:
        CinemaError: If a column is missing, or outcomes are not possible.
    """
    covariates = list(dict.fromkeys(name for names in models.values() for name in names))
    numbers = [_numbers(table, [*covariates, time, event]) for table in tables]
    missing = [table.isna().any(axis=1).to_numpy() for table in numbers]
    for table, absent in zip(numbers, missing, strict=True):
        check_outcomes(table[time][~absent], table[event][~absent])
    people = [table[subject].astype(str).to_numpy() for table in tables]
    parts = [
        (table[~absent], who[~absent], folds_of(who[~absent], table[event][~absent].to_numpy(), folds, seed))
        for table, absent, who in zip(numbers, missing, people, strict=True)
    ]
    outcome = (time, event)
    fits = {
        name: [_cross_fit(part, who, fold, list(names), outcome) for part, who, fold in parts]
        for name, names in models.items()
    }
    samples = {
        name: [
            _sample(table, who, absent, fit.risk, outcome)
            for table, who, absent, fit in zip(numbers, people, missing, found, strict=True)
        ]
        for name, found in fits.items()
    }
    first = next(iter(models))
    out = []
    for name, names in models.items():
        ratios, dropped, problem = _ratios(parts[0][0], list(names), outcome)
        risk = np.full(len(tables[0]), np.nan)
        risk[~missing[0]] = fits[name][0].risk
        why = problem or next((fit.problem for fit in fits[name] if fit.problem), "")
        gain = None if name == first else _gain(*((samples[which], fits[which]) for which in (name, first)))
        figure = estimate(concordance, samples[name])
        events = int(parts[0][0][event].sum())
        out.append(
            CoxModel(name, tuple(names), ratios, figure, gain, risk, int(missing[0].sum()), events, dropped, why)
        )
    return out


_Fitted = tuple[Sequence[Sample], "Sequence[_CrossFit]"]


def _gain(ours: _Fitted, first: _Fitted) -> Inference:
    """Difference of two C without a p: a covariate that says nothing makes a model worse, which is no chance finding.

    Whether a covariate says something is the p of its hazard ratio. Of few subjects each is part of most of the fits,
    too: without that the interval holds 88% at 50 subjects. With more than ``MOST_UNITS`` it makes no difference.
    """
    found = compare(concordance, ours[0], first[0])
    samples = [*ours[0], *first[0]]
    alike = all(np.array_equal(sample.keys, samples[0].keys) and sample.mask.all() for sample in samples)
    if alike and found.n_subjects <= MOST_UNITS:
        tables = [np.stack([_refitted(*each) for each in zip(*side, strict=True)]) for side in (ours, first)]
        found = replace(difference(tables[0], tables[1], UNIT), value=found.value)
    return replace(found, p=float("nan"), shift=float("nan"), shift_p=float("nan"))


def _refitted(sample: Sample, fit: _CrossFit) -> np.ndarray:
    """(N,) contributions of the persons to C where the models are fitted without the one that is left out, too."""
    codes, people = numbered(sample.subjects)
    risk, time, event = sample.columns
    value = float(concordance(risk, time, event))
    without = [
        float(concordance(risk - moved, time, event, weights=(codes != person).astype(float)))
        for person, moved in enumerate(fit.moved)
    ]
    influence = (len(people) - 1) * (value - np.array(without))
    return value + influence - influence.mean()


def _numbers(table: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    import pandas as pd

    absent = [name for name in columns if name not in table.columns]
    if absent:
        raise CinemaError(f"The table has no column '{absent[0]}' for the Cox models.")
    out = table[columns].copy()
    if "sex" in columns and not pd.api.types.is_numeric_dtype(out["sex"]):
        out["sex"] = out["sex"].map({"F": 0.0, "M": 1.0})
    return out.apply(pd.to_numeric, errors="coerce").astype(float)


def folds_of(people: np.ndarray, event: np.ndarray, folds: int, seed: int) -> np.ndarray:
    """Parts subjects at random, those with and without an event evenly.

    Args:
        people: (N,) person of each row; one stays in one fold.
        event: (N,) 0 or 1.
        folds: Number of folds; no more than there are persons with an event, but two.
        seed: Seed.

    Returns:
        (N,) fold of each row, from 0.
    """
    names, codes = np.unique(people, return_inverse=True)
    had = np.bincount(codes.reshape(-1), weights=event) > 0 if len(names) else np.zeros(0, dtype=bool)
    order = np.random.default_rng((seed, len(names))).permutation(len(names))
    order = order[np.argsort(had[order], kind="stable")]
    fold = np.empty(len(names), dtype=int)
    fold[order] = np.arange(len(names)) % max(2, min(folds, int(had.sum())))
    return fold[codes.reshape(-1)]


def _scaled(table: pd.DataFrame, names: Sequence[str], by: pd.DataFrame) -> pd.DataFrame:
    """Covariates in standard deviations of another table; sex stays 0 and 1."""
    out = table.copy()
    for name in (name for name in names if name != "sex"):
        spread = by[name].std()
        out[name] = (table[name] - by[name].mean()) / (spread if spread > 0 else 1.0)
    return out


@dataclass(frozen=True)
class _CrossFit:
    """Log-hazards by the models of the other folds.

    Attributes:
        risk: (N,) of each row.
        moved: (P, N) by how much each person, in order of their names, moves them through the fits that it is part of;
            of no more than ``MOST_UNITS`` persons.
        problem: Why there are none.
    """

    risk: np.ndarray
    moved: np.ndarray
    problem: str = ""


def _cross_fit(
    table: pd.DataFrame, people: np.ndarray, fold: np.ndarray, names: list[str], outcome: tuple[str, str]
) -> _CrossFit:
    codes, found = numbered(people)
    risk, moved = np.full(len(table), np.nan), np.zeros((len(found) if len(found) <= MOST_UNITS else 0, len(table)))
    for number in np.unique(fold):
        here = fold == number
        training, held = (_scaled(table[rows], names, table[~here]) for rows in (~here, here))
        fit, used, problem = _fit(training, names, outcome)
        if fit is None:
            return _CrossFit(np.full(len(table), np.nan), moved, f"without fold {number + 1}, {problem}")
        risk[here] = fit.predict_log_partial_hazard(held[used]).to_numpy()
        if len(moved):
            by_row = _delta_beta(fit, training, used, outcome) @ held[used].to_numpy().T
            of_person = np.zeros((len(moved), int(here.sum())))
            np.add.at(of_person, codes[~here], by_row)
            moved[:, here] = of_person
    return _CrossFit(risk, moved)


def _delta_beta(fit: Any, table: pd.DataFrame, used: Sequence[str], outcome: tuple[str, str]) -> np.ndarray:
    """(N, K) what each row adds to the coefficients: score residuals times their variance.

    Lifelines' own are wrong for covariates whose spread is not 1 (sex).
    """
    order = np.argsort(table[outcome[0]].to_numpy(), kind="stable")
    x, (time, event) = table[used].to_numpy()[order], table[list(outcome)].to_numpy()[order].T
    hazard = np.exp((x - x.mean(axis=0)) @ fit.params_[used].to_numpy())
    start, end = (np.searchsorted(time, time, side=side) for side in ("left", "right"))
    at_risk = np.cumsum(hazard[::-1])[::-1][start]
    mean = np.cumsum((hazard[:, None] * x)[::-1], axis=0)[::-1][start] / at_risk[:, None]
    steps = np.cumsum(event / at_risk)[end - 1]
    weighted = np.cumsum((event / at_risk)[:, None] * mean, axis=0)[end - 1]
    score = event[:, None] * (x - mean) - hazard[:, None] * (x * steps[:, None] - weighted)
    out = np.empty_like(score)
    out[order] = score @ fit.variance_matrix_.loc[used, used].to_numpy()
    return out


def _ratios(
    table: pd.DataFrame, names: list[str], outcome: tuple[str, str]
) -> tuple[dict[str, tuple[float, float, float, float]], tuple[str, ...], str]:
    fit, used, problem = _fit(_scaled(table, names, table), names, outcome)
    dropped = tuple(name for name in names if name not in used)
    if fit is None:
        return {}, dropped, problem
    found = fit.summary[["exp(coef)", "exp(coef) lower 95%", "exp(coef) upper 95%", "p"]].loc[used].to_numpy()
    ratios = {name: (row[0], row[1], row[2], row[3]) for name, row in zip(used, found.tolist(), strict=True)}
    return ratios, dropped, ""


def _fit(table: pd.DataFrame, names: list[str], outcome: tuple[str, str]) -> tuple[Any, list[str], str]:
    """The fit of lifelines or None, the covariates that vary, and why there is no fit."""
    import warnings

    from lifelines import CoxPHFitter
    from lifelines.exceptions import ConvergenceError, ConvergenceWarning

    used = [name for name in names if table[name].nunique() > 1]
    if not table[outcome[1]].any():
        return None, used, "there are no events"
    if not used:
        return None, used, "no covariate varies"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", ConvergenceWarning)
            return CoxPHFitter().fit(table[[*used, *outcome]], *outcome), used, ""
    except (ConvergenceError, ConvergenceWarning, np.linalg.LinAlgError) as error:
        reason = str(error).splitlines()[0].split(". ")[0].rstrip(".")  # lifelines adds advice and links
        return None, used, f"the fit did not converge ({reason})"


def _sample(
    table: pd.DataFrame, people: np.ndarray, absent: np.ndarray, risk: np.ndarray, outcome: tuple[str, str]
) -> Sample:
    columns = (risk, *(table[name].to_numpy()[~absent] for name in outcome))
    return Sample(np.flatnonzero(~absent), people[~absent], columns)
