"""The summary of a test: every metric with its mean, SD, median, interval and count."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from cinema_lightning.errors import CinemaError
from cinema_lightning.metrics import agreement
from cinema_lightning.metrics.bootstrap import bootstrap, summarise
from cinema_lightning.metrics.classification import reliability
from cinema_lightning.metrics.weighted import Statistic
from cinema_lightning.results.folder import Results
from cinema_lightning.results.headline import QUANTITIES, headlines, probabilities, scan_pairs

METRIC_ENDS = ("_dice", "_iou", "_hd95", "_stability", "_distance_px", "_distance_mm")
PAIRED: dict[str, Statistic] = {
    "mae": agreement.mae,
    "rmse": agreement.rmse,
    "bias": agreement.bias,
    "sd_of_differences": agreement.difference_sd,
    "pearson": agreement.pearson,
    "icc": agreement.intraclass_correlation,
}
COLUMNS = (
    "metric", "group", "statistic", "value", "sd", "median", "low", "high", "n", "n_subjects", "n_missing",
)  # fmt: skip


def summary_rows(results: Results, seed: int = 0) -> list[dict[str, Any]]:
    """Rows of summary.csv.

    Args:
        results: The tables.
        seed: Seed of the bootstrap over subjects.

    Returns:
        One row per metric and group; per-case metrics by mean, pairs of truth and prediction by error and correlation,
        statistics of the whole table by their value.
    """
    rows = [*_case_rows(results, seed), *_paired_rows(results, seed), *_statistic_rows(results, seed)]
    return [{name: row.get(name) for name in COLUMNS} for row in rows]


def headline_rows(results: Results, seed: int = 0) -> list[dict[str, Any]]:
    """The headline figures with their intervals; those that the tables cannot give are left out.

    Args:
        results: The tables.
        seed: Seed of the bootstrap.

    Returns:
        Rows with ``metric``, ``display``, ``unit``, ``higher_is_better``, ``value``, ``low``, ``high``, ``n``,
        ``n_subjects`` and ``n_missing``.
    """
    out = []
    for headline in headlines(results.kind, results.facts):
        table = results.table(headline.source)
        columns = headline.columns(table, results.facts) if table is not None and len(table) else None
        if table is None or columns is None:
            continue
        try:
            figure = bootstrap(headline.statistic, *columns, subjects=table["subject"].to_numpy(), seed=seed)
        except CinemaError:  # such as a horizon beyond which nobody is followed
            continue
        if not figure.n:
            continue
        about = {"display": headline.display, "unit": headline.unit, "higher_is_better": headline.higher_is_better}
        out.append({"metric": headline.name, **about, **figure.as_dict()})
    return out


def groups_of(cases: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """All cases, then those of ED and of ES, and of each view where there are several."""
    yield "all", cases
    if "phase" in cases.columns:
        for phase in ("ED", "ES"):
            if (part := cases[cases["phase"] == phase]).shape[0]:
                yield phase, part
    if "view" in cases.columns and cases["view"].nunique() > 1:
        for view, part in cases.groupby("view", sort=True):
            yield str(view), part


def _case_rows(results: Results, seed: int) -> Iterator[dict[str, Any]]:
    names = [str(n) for n in results.cases.columns if str(n).endswith(METRIC_ENDS)]
    for group, part in groups_of(results.cases):
        for name in names:
            values = pd.to_numeric(part[name], errors="coerce").to_numpy(dtype=np.float64)
            found = summarise(values, part["subject"].to_numpy(), seed=seed)
            yield {"metric": name, "group": group, "statistic": "mean", **found, "value": found["mean"]}


def _pairs(results: Results) -> Iterator[tuple[str, str, np.ndarray, np.ndarray, np.ndarray]]:
    """(metric, group, predicted, true, subjects) of everything that was measured and predicted."""

    def column(table: pd.DataFrame, name: str) -> np.ndarray:
        return pd.to_numeric(table[name], errors="coerce").to_numpy(dtype=np.float64)

    if results.kind == "regression":
        cases = results.cases
        target = str(results.facts.get("target", "target"))
        yield target, "all", column(cases, "predicted"), column(cases, "true"), cases["subject"].to_numpy()
    if results.kind == "segmentation":
        regions = [
            str(name).removesuffix("_volume_pred") for name in results.cases if str(name).endswith("_volume_pred")
        ]
        for group, part in groups_of(results.cases):
            for region in regions:
                names = (f"{region}_volume_pred", f"{region}_volume_true")
                if names[1] in part:
                    predicted, true = (column(part, name) for name in names)
                    yield f"{region}_volume", group, predicted, true, part["subject"].to_numpy()
    if results.function is not None:
        table = results.function
        for name in QUANTITIES:
            if {f"{name}_pred", f"{name}_true"} <= set(table.columns):
                pair = (column(table, f"{name}_pred"), column(table, f"{name}_true"))
                yield name, "all", *pair, table["subject"].to_numpy()


def _paired_rows(results: Results, seed: int) -> Iterator[dict[str, Any]]:
    for metric, group, predicted, true, subjects in _pairs(results):
        if not np.isfinite(predicted - true).any():
            continue
        for name, statistic in PAIRED.items():
            figure = bootstrap(statistic, predicted, true, subjects=subjects, seed=seed).as_dict()
            yield {"metric": metric, "group": group, "statistic": name, **figure}
        errors = np.abs(predicted - true)
        found = summarise(errors, subjects, seed=seed)
        yield {
            "metric": f"{metric}_absolute_error", "group": group, "statistic": "mean", **found, "value": found["mean"],
        }  # fmt: skip


def _statistic_rows(results: Results, seed: int) -> Iterator[dict[str, Any]]:
    if results.kind in ("classification", "survival"):
        for row in headline_rows(results, seed):
            yield {"group": "all", "statistic": row["metric"], **row}
    if results.kind == "classification" and (pair := probabilities(results.cases, results.facts)) is not None:
        known = int((pair[1] >= 0).sum())
        error = reliability(pair[0], pair[1]).ece
        yield {"metric": "ece", "group": "all", "statistic": "ece", "value": error, "n": known}
    if results.facts.get("dataset") == "rescan" and results.function is not None:
        for side in ("pred", "true"):
            pairs = scan_pairs(results.function, side)
            if pairs is not None:
                figure = bootstrap(agreement.coefficient_of_variation, *pairs[:2], subjects=pairs[2], seed=seed)
                name = f"lv_ef_{side}_scan_rescan"
                yield {
                    "metric": name, "group": "all", "statistic": "coefficient_of_variation", **figure.as_dict(),
                }  # fmt: skip
