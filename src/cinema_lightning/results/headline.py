"""The one place that says which figures matter for a kind of task."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from cinema_lightning.columns import Column, look_up, quantities
from cinema_lightning.errors import CinemaError
from cinema_lightning.metrics import agreement, classification
from cinema_lightning.metrics.censoring import auc_at
from cinema_lightning.metrics.function import ef_class
from cinema_lightning.metrics.survival import concordance
from cinema_lightning.metrics.weighted import Statistic, complete, mean

Facts = Mapping[str, Any]
Columns = Callable[[pd.DataFrame, Facts], tuple[np.ndarray, ...] | None]


@dataclass(frozen=True)
class Headline:
    """A figure that a paper would report.

    Attributes:
        name: Short name, also the ``metric`` of the summary.
        display: Name in prose.
        unit: Unit, empty for shares.
        higher_is_better: Whether larger is better.
        source: The table it is made of.
        statistic: Takes the columns and ``weights`` (see :mod:`cinema_lightning.metrics.weighted`).
        columns: Takes the table and the facts of the test; None where the table lacks something.
        per_person: Whether a person is one case however many rows there are, which decides how many are missing.
    """

    name: str
    display: str
    unit: str
    higher_is_better: bool
    source: Literal["cases", "function"]
    statistic: Statistic
    columns: Columns
    per_person: bool = False


def headlines(kind: str, facts: Facts) -> list[Headline]:
    """Headline figures of a kind of task.

    Args:
        kind: segmentation, classification, regression, landmarks or survival.
        facts: Facts of the test (test.json).

    Returns:
        The figures; the first one is the primary one.
    """
    makers = {
        "segmentation": _segmentation,
        "classification": _classification,
        "regression": _regression,
        "landmarks": _landmarks,
        "survival": _survival,
    }
    return makers[kind](facts) if kind in makers else []


def numbers(*names: str) -> Columns:
    """Numeric columns of a table."""

    def take(table: pd.DataFrame, facts: Facts) -> tuple[np.ndarray, ...] | None:
        del facts
        if any(name not in table.columns for name in names):
            return None
        return tuple(pd.to_numeric(table[name], errors="coerce").to_numpy(dtype=np.float64) for name in names)

    return take


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


def _ef_classes(table: pd.DataFrame, facts: Facts) -> tuple[np.ndarray, ...] | None:
    """Classes of the predicted and the true LVEF, as certain probabilities and class numbers."""
    pair = numbers("lv_ef_pred", "lv_ef_true")(table, facts)
    if pair is None:
        return None
    guess, truth = ef_class(pair[0]), ef_class(pair[1])
    scores = np.eye(3)[np.maximum(guess, 0)]
    scores[(guess < 0) | (truth < 0)] = np.nan
    return scores, truth


def scan_pairs(table: pd.DataFrame, side: str) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """LVEF of scan and rescan of the same persons.

    Scans that are called by a letter and a number (B1, B2) are readings of one visit (B), whose first one counts.

    Args:
        table: function.csv, with the columns ``subject`` and ``scan``.
        side: pred or true.

    Returns:
        (first, second, subjects); None where there are no pairs.
    """
    column = f"lv_ef_{side}"
    if not {"subject", "scan", column} <= set(table.columns):
        return None
    known = table[["subject", "scan"]].astype({"subject": str}).assign(value=numbers(column)(table, {})[0])  # type: ignore[index]
    known = known.dropna()
    known["scan"] = known["scan"].astype(str)
    known = known[known["scan"] != ""].sort_values("scan", kind="stable")
    known["visit"] = [name[0] if re.fullmatch(r"[A-Za-z]\d", name) else name for name in known["scan"]]
    wide = known.pivot_table(index="subject", columns="visit", values="value", aggfunc="first")
    pairs = [row.dropna().to_numpy()[:2] for _, row in wide.iterrows() if row.notna().sum() >= 2]
    if not pairs:
        return None
    first, second = np.array(pairs, dtype=np.float64).T
    return first, second, wide.index[wide.notna().sum(axis=1) >= 2].to_numpy(dtype=str)


def repeatability(table: pd.DataFrame, facts: Facts) -> tuple[np.ndarray, ...] | None:
    """First and second LVEF at the row of each person's first scan, NaN in the other rows."""
    del facts
    pairs = scan_pairs(table, "pred")
    if pairs is None:
        return None
    first, second, people = pairs
    values = np.full((2, len(table)), np.nan)
    subjects = table["subject"].astype(str).to_numpy()
    for person, a, b in zip(people, first, second, strict=True):
        values[:, int(np.flatnonzero(subjects == person)[0])] = a, b
    return values[0], values[1]


def percent_variation(first: Any, second: Any, *, weights: Any = None) -> Any:
    """Coefficient of variation of scan and rescan, percent."""
    return 100 * agreement.coefficient_of_variation(first, second, weights=weights)


def mean_error(column: Column) -> Headline:
    """Mean absolute error of a quantity of function.csv."""
    pair = numbers(f"{column.name}_pred", f"{column.name}_true")
    name, display = f"{column.name}_mae", f"{column.display} MAE"
    return Headline(name, display, column.unit, False, "function", agreement.mae, pair)


def _segmentation(facts: Facts) -> list[Headline]:
    found = [
        Headline("mean_dice", "Dice", "", True, "cases", mean, numbers("mean_dice")),
        Headline("mean_hd95", "HD95", "mm", False, "cases", mean, numbers("mean_hd95")),
    ]
    found += [mean_error(look_up(name)) for name in ("lv_ef", "rv_ef", "lv_edv", "lv_esv", "lv_mass")]
    for name, statistic in (("accuracy", classification.accuracy), ("mcc", classification.mcc)):
        display = f"EF class {name if name == 'accuracy' else 'MCC'}"
        found.append(Headline(f"ef_class_{name}", display, "", True, "function", statistic, _ef_classes))
    if facts.get("dataset") == "rescan":
        name = "LVEF scan-rescan variation"
        found.append(Headline("lv_ef_variation", name, "%", False, "function", percent_variation, repeatability, True))
    return found


def _classification(facts: Facts) -> list[Headline]:
    classes = list(facts.get("classes", []))
    names = {"mcc": "MCC", "auroc": "AUROC", "accuracy": "Accuracy", "f1_macro": "F1 (macro)", "f1_micro": "F1 (micro)"}
    found = [
        Headline(name, display, "", True, "cases", classification.STATISTICS[name], probabilities)
        for name, display in names.items()
    ]
    found.append(Headline("brier", "Brier score", "", False, "cases", classification.brier, probabilities))
    if len(classes) == 2:
        for name, statistic in (
            ("sensitivity", classification.sensitivity),
            ("specificity", classification.specificity),
        ):
            found.append(Headline(name, name.capitalize(), "", True, "cases", statistic, probabilities))
    elif "NOR" in classes:
        for name, statistic in (
            ("sensitivity", classification.sensitivity),
            ("specificity", classification.specificity),
        ):
            found.append(Headline(f"disease_{name}", f"Disease {name}", "", True, "cases", statistic, _detection))
    return found


def _regression(facts: Facts) -> list[Headline]:
    unit, pair = str(facts.get("unit", "")), numbers("predicted", "true")
    return [
        Headline("mae", "MAE", unit, False, "cases", agreement.mae, pair),
        Headline("rmse", "RMSE", unit, False, "cases", agreement.rmse, pair),
        Headline("pearson", "Pearson's r", "", True, "cases", agreement.pearson, pair),
        Headline("ccc", "Concordance correlation", "", True, "cases", agreement.concordance_correlation, pair),
        Headline("icc", "Intraclass correlation", "", True, "cases", agreement.intraclass_correlation, pair),
    ]


def _landmarks(facts: Facts) -> list[Headline]:
    unit = "mm" if facts.get("spacing_known", True) else "px"
    found = [Headline("mean_distance", "Distance", unit, False, "cases", mean, numbers(f"mean_distance_{unit}"))]
    return found + [mean_error(column) for column in quantities("landmarks")]


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


def _survival(facts: Facts) -> list[Headline]:
    del facts
    outcome = numbers("risk", "time", "event")
    return [
        Headline("c_index", "C-index", "", True, "cases", concordance, outcome),
        Headline("auc_at_median_time", "AUC at the median time", "", True, "cases", _auc_at, _auc),
    ]
