"""The summary of a test: every metric with its mean, SD, median, interval and count."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from cinema_lightning.columns import SCORES, quantities
from cinema_lightning.errors import CinemaError
from cinema_lightning.metrics import agreement
from cinema_lightning.metrics.bootstrap import bootstrap, summarise
from cinema_lightning.metrics.censoring import baseline_hazard, brier_at, predicted_survival
from cinema_lightning.metrics.classification import reliability
from cinema_lightning.metrics.weighted import Statistic, complete
from cinema_lightning.results.folder import Results
from cinema_lightning.results.headline import headlines as headlines_of
from cinema_lightning.results.headline import (
    horizon_of,
    numbers,
    percent_variation,
    probabilities,
    scan_pairs,
)


def loa_low(predicted: Any, true: Any, *, weights: Any = None) -> Any:
    """Lower 95% limit of agreement (Bland and Altman 1986)."""
    spread = agreement.difference_sd(predicted, true, weights=weights)
    return agreement.bias(predicted, true, weights=weights) - 1.96 * spread


def loa_high(predicted: Any, true: Any, *, weights: Any = None) -> Any:
    """Upper 95% limit of agreement."""
    spread = agreement.difference_sd(predicted, true, weights=weights)
    return agreement.bias(predicted, true, weights=weights) + 1.96 * spread


PAIRED: dict[str, Statistic] = {
    "mae": agreement.mae,
    "rmse": agreement.rmse,
    "bias": agreement.bias,
    "sd_of_differences": agreement.difference_sd,
    "loa_low": loa_low,
    "loa_high": loa_high,
    "pearson": agreement.pearson,
    "ccc": agreement.concordance_correlation,
    "icc": agreement.intraclass_correlation,
}
COLUMNS = (
    "metric", "group", "statistic", "value", "sd", "median", "low", "high", "n", "n_subjects", "n_missing",
)  # fmt: skip


def summary_rows(
    results: Results, seed: int = 0, headlines: Sequence[Mapping[str, Any]] | None = None
) -> list[dict[str, Any]]:
    """Rows of summary.csv.

    Args:
        results: The tables.
        seed: Seed of the bootstrap over subjects.
        headlines: What :func:`headline_rows` gave, so that nothing is computed twice.

    Returns:
        One row per metric and group; per-case metrics by mean, pairs of truth and prediction by error and correlation,
        statistics of the whole table by their value.
    """
    rows = [*_case_rows(results, seed), *_paired_rows(results, seed), *_statistic_rows(results, seed, headlines)]
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
    for headline in headlines_of(results.kind, results.facts):
        table = results.table(headline.source)
        if headline.source == "cases" and table is not None:
            table = with_truth(table)
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
        row = {"metric": headline.name, **about, **figure.as_dict()}
        if headline.per_person:
            row["n_missing"] = int(table["subject"].nunique()) - figure.n
        out.append(row)
    return out


def undefined_figures(results: Results, rows: list[dict[str, Any]]) -> str | None:
    """A sentence on the headline figures that no case of these results defines.

    Args:
        results: The tables.
        rows: What :func:`headline_rows` gives of them.

    Returns:
        The sentence, or None where all are defined.
    """
    defined = {row["metric"] for row in rows if np.isfinite(row["value"])}
    lacking = []
    for headline in headlines_of(results.kind, results.facts):
        table = results.table(headline.source)
        known = table is not None and len(table) and headline.columns(table, results.facts) is not None
        if known and headline.name not in defined:
            lacking.append(headline.display)
    if not lacking:
        return None
    why = "these cases lack what they need"
    if results.kind == "survival" and not pd.to_numeric(results.cases["event"], errors="coerce").sum():
        why = f"none of the {len(results.cases)} studies has an event"
    return f"{', '.join(lacking)}: not defined, {why}"


def with_truth(cases: pd.DataFrame) -> pd.DataFrame:
    """The cases of a segmentation that have a label map; all cases where none has, or of another task.

    What is not defined in a frame that nobody has labelled is no failure, and is not counted as one.
    """
    true = [name for name in cases.columns if str(name).endswith("_volume_true")]
    if "mean_dice" not in cases.columns or not true:
        return cases
    known = cases[true].apply(pd.to_numeric, errors="coerce").notna().any(axis=1)
    return cases[known] if known.any() else cases


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
    names = [str(n) for n in results.cases.columns if str(n).endswith(SCORES)]
    for group, part in groups_of(with_truth(results.cases)):
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
        ends = ("_volume_pred", "_area_pred")
        names = [str(name).removesuffix("_pred") for name in results.cases if str(name).endswith(ends)]
        for group, part in groups_of(results.cases):
            for name in (name for name in names if f"{name}_true" in part):
                predicted, true = (column(part, f"{name}_{side}") for side in ("pred", "true"))
                yield name, group, predicted, true, part["subject"].to_numpy()
    if results.function is not None:
        table = results.function
        for name in (quantity.name for quantity in quantities()):
            if {f"{name}_pred", f"{name}_true"} <= set(table.columns):
                pair = (column(table, f"{name}_pred"), column(table, f"{name}_true"))
                yield name, "all", *pair, table["subject"].to_numpy()


def _paired_rows(results: Results, seed: int) -> Iterator[dict[str, Any]]:
    for metric, group, predicted, true, subjects in _pairs(results):
        for name, statistic in PAIRED.items():
            figure = bootstrap(statistic, predicted, true, subjects=subjects, seed=seed).as_dict()
            yield {"metric": metric, "group": group, "statistic": name, **figure}
        found = summarise(np.abs(predicted - true), subjects, seed=seed)
        about = {"metric": f"{metric}_absolute_error", "group": group, "statistic": "mean"}
        yield about | found | {"value": found["mean"]}


def _statistic_rows(
    results: Results, seed: int, headlines: Sequence[Mapping[str, Any]] | None
) -> Iterator[dict[str, Any]]:
    found = headline_rows(results, seed) if headlines is None else headlines
    # The other kinds' figures are among the rows of cases and pairs already.
    starts = {"classification": "", "survival": "", "segmentation": "ef_class"}
    start = starts.get(results.kind)
    for row in (row for row in found if start is not None and row["metric"].startswith(start)):
        yield {"group": "all", "statistic": row["metric"], **row}
    if results.kind == "classification" and (pair := probabilities(results.cases, results.facts)) is not None:
        known = complete(pair[0]) & (pair[1] >= 0)
        counts = {"n": int(known.sum()), "n_missing": int((~known).sum())}
        counts["n_subjects"] = results.cases["subject"][known].nunique()
        # Without an interval: resampled cases are less well calibrated than the sample itself, so that a bootstrap
        # interval lies above the value.
        yield {
            "metric": "ece",
            "group": "all",
            "statistic": "ece",
            "value": reliability(pair[0], pair[1]).ece,
            **counts,
        }
    if results.kind == "survival":
        yield from _survival_rows(results, seed)
    if results.facts.get("dataset") == "rescan" and results.function is not None:
        for side in ("pred", "true"):
            if (pairs := scan_pairs(results.function, side)) is not None:
                figure = bootstrap(percent_variation, *pairs[:2], subjects=pairs[2], seed=seed)
                about = {"metric": f"lv_ef_{side}_scan_rescan", "group": "all"}
                yield about | {"statistic": "coefficient_of_variation", **figure.as_dict()}


def _survival_rows(results: Results, seed: int) -> Iterator[dict[str, Any]]:
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
