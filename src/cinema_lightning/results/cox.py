"""Cox models on what is known of the subjects, on the image score, and on both, side by side."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from cinema_lightning.errors import CinemaError
from cinema_lightning.files import replacing
from cinema_lightning.metrics.survival import cox_models
from cinema_lightning.results.folder import Results

CLINICAL = ("age", "sex", "bmi", "lv_ef")


def write_cox(results: Results, path: Path, seed: int = 0) -> str | None:
    """Fits the models on the validation subjects and judges them on the test subjects.

    Args:
        results: The tables.
        path: The CSV file to write: one row per model and covariate.
        seed: Seed of the intervals.

    Returns:
        Why there is no such table, or None.
    """
    train, test = results.validation, results.cases
    if train is None:
        return "there is no validation.csv to fit on"
    known = [name for name in CLINICAL if name in train and name in test and train[name].notna().any()]
    models = {"clinical": known, "image": ["risk"], "clinical and image": [*known, "risk"]}
    models = {name: covariates for name, covariates in models.items() if covariates}
    try:
        found = cox_models(train, test, models, subject="subject", seed=seed)
    except CinemaError as error:
        return str(error)
    rows = []
    for model in found:
        figure = {"c_index": model.concordance.value, "c_low": model.concordance.low, "c_high": model.concordance.high}
        about = {**figure, "n_test": model.concordance.n, "n_train": model.n_train, "problem": model.problem}
        ratios = model.hazard_ratios or {"": (float("nan"),) * 4}
        for covariate, (ratio, low, high, p) in ratios.items():
            cells = {
                "model": model.name,
                "covariate": covariate,
                "hazard_ratio": ratio,
                "low": low,
                "high": high,
                "p": p,
            }
            rows.append({**cells, **about})
    with replacing(path) as temporary:
        pd.DataFrame(rows).to_csv(temporary, index=False)
    return None
