"""Cox models on what is known of the subjects, on the image score, and on both, side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from cinema_lightning.columns import COVARIATES
from cinema_lightning.errors import CinemaError
from cinema_lightning.files import replacing
from cinema_lightning.metrics.survival import CoxModel, cox_models
from cinema_lightning.results.kind import Results

LEAST_KNOWN = 0.5
"""All models are on the subjects with every covariate, so one that most lack is left out."""


def fit_cox(results: Results, seed: int = 0) -> list[CoxModel]:
    """Fits the models on the validation subjects and judges them on the test subjects.

    Args:
        results: The tables.
        seed: Seed of the intervals.

    Returns:
        The models called clinical, image, and clinical and image; only the second where no covariate is known.

    Raises:
        CinemaError: If there are no validation subjects, or nothing can be fitted.
    """
    train, test = results.validation, results.cases
    if train is None:
        raise CinemaError("there is no validation.csv to fit on")
    clinical = [name for name in COVARIATES if min(_known(train, name), _known(test, name)) >= LEAST_KNOWN]
    models = {"clinical": clinical, "image": ["risk"], "clinical and image": [*clinical, "risk"]}
    return cox_models(train, test, models if clinical else {"image": ["risk"]}, subject="subject", seed=seed)


def write_cox(results: Results, path: Path, seed: int = 0) -> str | None:
    """Writes what :func:`fit_cox` gives.

    Args:
        results: The tables.
        path: The CSV file to write: one row per model and covariate. Hazard ratios are per standard deviation, or male
            against female.
        seed: Seed of the intervals.

    Returns:
        Why there is no such table, or None.
    """
    try:
        found = fit_cox(results, seed)
    except CinemaError as error:
        path.unlink(missing_ok=True)
        return str(error)
    with replacing(path) as temporary:
        pd.DataFrame([row for model in found for row in _rows(model)]).to_csv(temporary, index=False)
    return None


def _known(table: pd.DataFrame, name: str) -> float:
    """Share of the subjects whose covariate is a number, or M or F."""
    if name not in table.columns or not len(table):
        return 0.0
    known = pd.to_numeric(table[name], errors="coerce").notna()
    if name == "sex" and not pd.api.types.is_numeric_dtype(table[name]):
        known = table[name].isin(["F", "M"])
    return float(known.mean())


def _rows(model: CoxModel) -> list[dict[str, Any]]:
    figure = model.concordance
    about = {
        "c_index": figure.value,
        "c_low": figure.low,
        "c_high": figure.high,
        "n_test": figure.n,
        "n_train": model.n_train,
        "n_train_missing": model.n_train_missing,
        "dropped": " ".join(model.dropped),
        "problem": model.problem,
    }
    nothing = (float("nan"),) * 4
    ratios = model.hazard_ratios or {"": nothing}
    names = ("hazard_ratio", "low", "high", "p")
    return [
        {"model": model.name, "covariate": covariate, **dict(zip(names, values, strict=True)), **about}
        for covariate, values in ratios.items()
    ]
