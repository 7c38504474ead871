"""Cox models on what is known of the subjects, on the image score, and on both, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from cinema_lightning.columns import COVARIATES
from cinema_lightning.errors import CinemaError
from cinema_lightning.files import replacing
from cinema_lightning.metrics.cox import CoxModel, cox_models
from cinema_lightning.results.kind import Results

LEAST_KNOWN = 0.8
"""All models are on the subjects with every covariate, so that one that many lack is left out."""


def fit_cox(results: Results | Sequence[Results], seed: int = 0) -> list[CoxModel]:
    """Fits and judges the models on the test subjects, cross-fitted: they have chosen neither network nor checkpoint.

    Args:
        results: The tables of a test, or of the tests of several seeds on the same subjects.
        seed: Seed of the folds.

    Returns:
        The models called clinical, clinical and image, and image; only the last where no covariate is known.

    Raises:
        CinemaError: If nothing can be fitted.
    """
    several = [results] if isinstance(results, Results) else list(results)
    tables = [each.cases for each in several]
    clinical = known_covariates(tables[0])
    image = {"image": ["risk"]}
    both = {"clinical": clinical, "clinical and image": [*clinical, "risk"]}
    return cox_models(tables, both | image if clinical else image, seed=seed)


def known_covariates(table: pd.DataFrame) -> list[str]:
    """Covariates that enough subjects have, all of them together; the least known is left out first."""
    known = {name: _known(table, name) for name in COVARIATES if name in table.columns}
    chosen = [name for name, cells in known.items() if cells.any()]
    while chosen and pd.concat([known[name] for name in chosen], axis=1).all(axis=1).mean() < LEAST_KNOWN:
        chosen.remove(min(chosen, key=lambda name: known[name].mean()))
    return chosen


def write_cox(results: Results, path: Path, seed: int = 0) -> str | None:
    """Writes what :func:`fit_cox` gives.

    Args:
        results: The tables.
        path: The CSV file to write: one row per model and covariate. Hazard ratios are per standard deviation, or male
            against female, of all subjects; C and its gain over the clinical model are out of fold.
        seed: Seed of the folds.

    Returns:
        Why there is no such table, or None.
    """
    try:
        found = cox_table([results], seed)
    except CinemaError as error:
        path.unlink(missing_ok=True)
        return str(error)
    with replacing(path) as temporary:
        found.to_csv(temporary, index=False)
    return None


def cox_table(results: Sequence[Results], seed: int = 0) -> pd.DataFrame:
    """What :func:`fit_cox` gives, one row per model and covariate."""
    return pd.DataFrame([row for model in fit_cox(results, seed) for row in _rows(model)])


def _known(table: pd.DataFrame, name: str) -> pd.Series:
    """Whose covariate is a number, or M or F."""
    if name == "sex" and not pd.api.types.is_numeric_dtype(table[name]):
        return table[name].isin(["F", "M"])
    return pd.to_numeric(table[name], errors="coerce").notna()


def _rows(model: CoxModel) -> list[dict[str, Any]]:
    figure, gain = model.concordance, model.gain
    nothing = float("nan")
    about = {
        "c_index": figure.value,
        "c_low": figure.low,
        "c_high": figure.high,
        "gain": nothing if gain is None else gain.value,
        "gain_low": nothing if gain is None else gain.low,
        "gain_high": nothing if gain is None else gain.high,
        "n": figure.n_subjects,
        "n_events": model.n_events,
        "n_missing": model.n_missing,
        "dropped": " ".join(model.dropped),
        "problem": model.problem,
    }
    ratios = model.hazard_ratios or {"": (nothing,) * 4}
    names = ("hazard_ratio", "low", "high", "p")
    return [
        {"model": model.name, "covariate": covariate, **dict(zip(names, values, strict=True)), **about}
        for covariate, values in ratios.items()
    ]
