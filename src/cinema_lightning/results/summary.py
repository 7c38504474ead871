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
from cinema_lightning.metrics.weighted import Statistic
from cinema_lightning.results.figures import numeric
from cinema_lightning.results.kind import KINDS, Pair, Results
from cinema_lightning.results.kind import headlines as headlines_of


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
            table = KINDS[results.kind].counted(table)
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
    why = KINDS[results.kind].why_undefined(results) or "these cases lack what they need"
    return f"{', '.join(lacking)}: not defined, {why}"


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
    kind = KINDS[results.kind]
    names = [str(n) for n in results.cases.columns if str(n).endswith((*SCORES, *kind.metrics))]
    for group, part in groups_of(kind.counted(results.cases)):
        for name in names:
            found = summarise(numeric(part, name), part["subject"].to_numpy(), seed=seed)
            yield {"metric": name, "group": group, "statistic": "mean", **found, "value": found["mean"]}


def _pairs(results: Results) -> Iterator[Pair]:
    """Everything that was measured and predicted."""
    yield from KINDS[results.kind].pairs(results)
    if results.function is not None:
        table = results.function
        for name in (quantity.name for quantity in quantities()):
            if {f"{name}_pred", f"{name}_true"} <= set(table.columns):
                pair = (numeric(table, f"{name}_pred"), numeric(table, f"{name}_true"))
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
    own = {headline.name for headline in headlines_of(results.kind, results.facts) if headline.own_row}
    for row in (row for row in found if row["metric"] in own):
        yield {"group": "all", "statistic": row["metric"], **row}
    yield from KINDS[results.kind].rows(results, seed)
