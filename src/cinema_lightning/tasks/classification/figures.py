"""Headline figures of a classification, and its calibration error."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from cinema_lightning.metrics import classification
from cinema_lightning.metrics.weighted import complete
from cinema_lightning.results.headline import Facts, Headline, Reference
from cinema_lightning.results.kind import Results


def probabilities(table: pd.DataFrame, facts: Facts) -> tuple[np.ndarray, ...] | None:
    """(N, C) probabilities and (N,) true class numbers.

    Where the true class is unknown its number is -1 and the probabilities are NaN, so that the case counts as missing.
    """
    classes = [str(name) for name in facts.get("classes", [])]
    columns = [f"prob_{name}" for name in classes]
    if "true" not in table.columns or any(name not in table.columns for name in columns) or len(classes) < 2:
        return None
    place = {name: number for number, name in enumerate(classes)}
    label = np.array([place.get(str(name), -1) for name in table["true"]], dtype=np.int64)
    scores = table[columns].apply(pd.to_numeric, errors="coerce").to_numpy(dtype=np.float64)
    return np.where(label[:, None] < 0, np.nan, scores), label


def _detection(table: pd.DataFrame, facts: Facts) -> tuple[np.ndarray, ...] | None:
    pair = probabilities(table, facts)
    if pair is None:
        return None
    return classification.detection(pair[0], pair[1], list(facts["classes"]).index("NOR"))


def _failed(table: pd.DataFrame, facts: Facts) -> np.ndarray:
    """Cases whose class is known, but not all of its probabilities."""
    classes = [str(name) for name in facts.get("classes", [])]
    names = [f"prob_{name}" for name in classes if f"prob_{name}" in table.columns]
    unknown = table[names].apply(pd.to_numeric, errors="coerce").isna().any(axis=1)
    return (table["true"].astype(str).isin(classes) & unknown).to_numpy(dtype=bool)


def _majority(table: pd.DataFrame, facts: Facts) -> tuple[np.ndarray, ...] | None:
    """For every case the shares of the classes among the truths, of which the commonest is the largest."""
    pair = probabilities(table, facts)
    if pair is None or not (pair[1] >= 0).any():
        return None
    shares = np.bincount(pair[1][pair[1] >= 0], minlength=pair[0].shape[1]) / (pair[1] >= 0).sum()
    return np.where(np.isfinite(pair[0]), shares, np.nan), pair[1]


def _majority_detection(table: pd.DataFrame, facts: Facts) -> tuple[np.ndarray, ...] | None:
    pair = _majority(table, facts)
    return pair and classification.detection(pair[0], pair[1], list(facts["classes"]).index("NOR"))


def headlines(facts: Facts) -> list[Headline]:
    """Figures of all classes, and sensitivity and specificity of the second of two or of disease against normal."""
    classes = list(facts.get("classes", []))
    names = {"mcc": "MCC", "auroc": "AUROC", "accuracy": "Accuracy", "f1_macro": "F1 (macro)"}
    found = [
        Headline(name, display, "", True, "cases", classification.STATISTICS[name], probabilities)
        for name, display in names.items()
    ]
    found.append(Headline("brier", "Brier score", "", False, "cases", classification.brier, probabilities))
    two = {"sensitivity": classification.sensitivity, "specificity": classification.specificity}
    for name, statistic in two.items():
        if len(classes) == 2:
            found.append(Headline(name, name.capitalize(), "", True, "cases", statistic, probabilities))
        elif "NOR" in classes:
            found.append(Headline(f"disease_{name}", f"Disease {name}", "", True, "cases", statistic, _detection))
    majority = Reference("majority class", _majority)
    detection = Reference("majority class", _majority_detection)
    return [
        replace(each, failed=_failed, reference=detection if each.columns is _detection else majority) for each in found
    ]


def rows(results: Results, seed: int) -> Iterator[dict[str, Any]]:
    """The calibration error.

    Without an interval: it is biased upwards, the more the fewer cases there are, so that one would miss the truth.
    """
    del seed
    pair = probabilities(results.cases, results.facts)
    if pair is None:
        return
    known = complete(pair[0]) & (pair[1] >= 0)
    counts = {"n": int(known.sum()), "n_missing": int((~known).sum())}
    counts["n_subjects"] = results.cases["subject"][known].nunique()
    value = classification.reliability(pair[0], pair[1]).ece
    yield {"metric": "ece", "group": "all", "statistic": "ece", "value": value, **counts}
