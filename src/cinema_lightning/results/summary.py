"""The summary of a test: every metric with its mean, SD, median, interval and count."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from cinema_lightning.columns import SCORES, quantities
from cinema_lightning.metrics import agreement
from cinema_lightning.metrics.estimates import estimate
from cinema_lightning.metrics.inference import FEW, LEAST, Scale
from cinema_lightning.metrics.samples import Sample, sample_of
from cinema_lightning.metrics.weighted import Statistic, deviation, mean, median
from cinema_lightning.results.figures import numeric
from cinema_lightning.results.headline import Headline, nowhere
from cinema_lightning.results.kind import KINDS, Pair, Results
from cinema_lightning.results.kind import headlines as headlines_of

PAIRED: dict[str, Statistic] = {
    "mae": agreement.mae,
    "rmse": agreement.rmse,
    "bias": agreement.bias,
    "sd_of_differences": agreement.difference_sd,
    "loa_low": agreement.lower_limit,
    "loa_high": agreement.upper_limit,
    "pearson": agreement.pearson,
    "ccc": agreement.concordance_correlation,
    "icc": agreement.intraclass_correlation,
}
COLUMNS = (
    "metric", "group", "statistic", "value", "sd", "median", "low", "high", "n", "n_subjects", "n_missing", "n_failed",
    "note",
)  # fmt: skip


def summary_rows(
    results: Results, seed: int = 0, headlines: Sequence[Mapping[str, Any]] | None = None
) -> list[dict[str, Any]]:
    """Rows of summary.csv.

    Args:
        results: The tables.
        seed: Seed of what a kind draws.
        headlines: What :func:`headline_rows` gave, so that nothing is computed twice.

    Returns:
        One row per metric and group; per-case metrics by mean, pairs of truth and prediction by error and correlation,
        statistics of the whole table by their value.
    """
    rows = [*_case_rows(results), *_paired_rows(results), *_statistic_rows(results, seed, headlines)]
    return [{name: row.get(name) for name in COLUMNS} for row in rows]


def headline_rows(results: Results, seed: int = 0) -> list[dict[str, Any]]:
    """The headline figures with their intervals; those that the tables cannot give are left out.

    Args:
        results: The tables.
        seed: Nothing is drawn.

    Returns:
        Rows with ``metric``, ``display``, ``unit``, ``higher_is_better``, ``value``, ``low``, ``high``, ``n``,
        ``n_subjects``, ``n_missing``, ``n_failed``, ``note``, and ``reference`` and ``reference_value`` of what takes
        no network.
    """
    del seed
    out = []
    for headline in headlines_of(results.kind, results.facts):
        table = _counted(results, headline)
        sample = None if table is None else headline.sample(table, results.facts)
        if table is None or sample is None:
            continue
        row = sample_row(headline.statistic, headline.known(sample), headline.scale)
        if not row["n"]:
            continue
        if headline.per_person:
            row["n_missing"] = int(table["subject"].nunique()) - row["n"]
        about = {"display": headline.display, "unit": headline.unit, "higher_is_better": headline.higher_is_better}
        out.append({"metric": headline.name, **about, **row, **_reference(headline, table, results)})
    return out


def in_a_line(rows: Sequence[Mapping[str, Any]], facts: Mapping[str, Any]) -> str:
    """What a test found, in a line: the first headline figure of each of its tables.

    Args:
        rows: Of :func:`headline_rows`.
        facts: Facts of the test.

    Returns:
        Such as ``segmentation: Dice 0.912 [0.905, 0.918], LVEF MAE 4.1 [3.2, 5.1] %, 10 subjects``.
    """
    known = {row["metric"]: row for row in rows if row.get("value") is not None and row["value"] == row["value"]}
    first: dict[str, str] = {}
    for headline in headlines_of(str(facts["kind"]), facts):
        if headline.name in known:
            first.setdefault(headline.source, headline.name)
    told = [in_words(known[name]) for name in first.values()]
    subjects = max((int(known[name].get("n_subjects") or 0) for name in first.values()), default=0)
    return f"{facts['kind']}: {', '.join([*told, f'{subjects} subjects'])}"


def in_words(row: Mapping[str, Any], width: int = 0) -> str:
    """A figure with its interval and unit; the name as wide as said."""
    low, high, unit = row.get("low"), row.get("high"), row.get("unit") or ""
    interval = "" if low is None or low != low else f" [{low:.3g}, {high:.3g}]"
    return f"{row.get('display') or row['metric']!s:<{width}} {row['value']:.3g}{interval} {unit}".rstrip()


def _counted(results: Results, headline: Headline) -> pd.DataFrame | None:
    """The rows that a headline figure is made of."""
    table = results.table(headline.source)
    return KINDS[results.kind].counted(table) if headline.source == "cases" and table is not None else table


def _reference(headline: Headline, table: pd.DataFrame, results: Results) -> dict[str, Any]:
    """What takes no network, on the same cases."""
    if headline.reference is None or (columns := headline.reference.columns(table, results.facts)) is None:
        return {}
    sample = sample_of(*columns, subjects=table["subject"].astype(str).to_numpy())
    sample = sample.take(sample.mask)
    value = float(headline.statistic(*sample.columns)) if len(sample.keys) else float("nan")
    return {"reference": headline.reference.name, "reference_value": value}


def sample_row(statistic: Statistic, sample: Sample, scale: Scale | None = None) -> dict[str, Any]:
    """A figure of one training as cells of a row: value, interval and counts.

    Args:
        statistic: Takes the columns and ``weights``.
        sample: The cases.
        scale: How the interval is made; None takes the statistic's own.

    Returns:
        ``value``, ``low``, ``high``, ``n`` (cases with a value), ``n_subjects``, ``n_missing``, ``n_failed`` (those of
        the missing in which the method failed) and ``note`` where there are few subjects.
    """
    found, known = estimate(statistic, [sample], scale), sample.mask
    failed = 0 if sample.failed is None else int(sample.failed.sum())
    counts = {"n": int(known.sum()), "n_subjects": found.n_subjects, "n_missing": int((~known).sum())}
    note = f"fewer than {LEAST} subjects: no interval" if found.n_subjects < LEAST else ""
    note = note or (f"fewer than {FEW} subjects" if found.few else "")
    return {"value": found.value, "low": found.low, "high": found.high, **counts, "n_failed": failed, "note": note}


def figure_row(statistic: Statistic, *columns: Any, subjects: Any, scale: Scale | None = None) -> dict[str, Any]:
    """:func:`sample_row` of columns with one row per case."""
    return sample_row(statistic, sample_of(*columns, subjects=subjects), scale)


def undefined_figures(results: Results, rows: list[dict[str, Any]]) -> str | None:
    """What to say of the headline figures that no case of these results defines.

    Args:
        results: The tables.
        rows: What :func:`headline_rows` gives of them.

    Returns:
        A sentence or two, or None where all are defined.
    """
    defined = {row["metric"] for row in rows if np.isfinite(row["value"])}
    lacking = []
    for headline in headlines_of(results.kind, results.facts):
        table = results.table(headline.source)
        known = table is not None and len(table) and headline.columns(table, results.facts) is not None
        if known and headline.name not in defined:
            lacking.append(headline.display)
    kind = KINDS[results.kind]
    why = kind.why_undefined(results) or "these cases lack what they need"
    undefined = f"{', '.join(lacking)}: not defined, {why}" if lacking else None
    return ". ".join(each for each in (undefined, kind.left_out(results)) if each) or None


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


def _case_rows(results: Results) -> Iterator[dict[str, Any]]:
    kind = KINDS[results.kind]
    names = [str(n) for n in results.cases.columns if str(n).endswith((*SCORES, *kind.metrics))]
    failing = {each.name: each.failed for each in headlines_of(results.kind, results.facts) if each.source == "cases"}
    for group, part in groups_of(kind.counted(results.cases)):
        for name in names:
            failed = failing.get(name, nowhere)(part, results.facts)
            sample = sample_of(numeric(part, name), subjects=part["subject"].to_numpy(), failed=failed)
            yield {"metric": name, "group": group, "statistic": "mean", **_mean_row(sample)}


def _mean_row(sample: Sample) -> dict[str, Any]:
    """Mean with interval, SD and median of one column."""
    values = sample.columns[0][sample.mask]
    return sample_row(mean, sample) | {"sd": deviation(values), "median": median(values)}


def _pairs(results: Results) -> Iterator[Pair]:
    """Everything that was measured and predicted."""
    yield from KINDS[results.kind].pairs(results)
    if results.function is not None:
        table = results.function
        for name in (quantity.name for quantity in quantities()):
            if {f"{name}_pred", f"{name}_true"} <= set(table.columns):
                pair = (numeric(table, f"{name}_pred"), numeric(table, f"{name}_true"))
                yield name, "all", *pair, table["subject"].to_numpy()


def _paired_rows(results: Results) -> Iterator[dict[str, Any]]:
    for metric, group, predicted, true, subjects in _pairs(results):
        failed = np.isfinite(true) & ~np.isfinite(predicted)
        sample = sample_of(predicted, true, subjects=subjects, failed=failed)
        for name, statistic in PAIRED.items():
            yield {"metric": metric, "group": group, "statistic": name, **sample_row(statistic, sample)}
        errors = sample_of(np.abs(predicted - true), subjects=subjects, failed=failed)
        yield {"metric": f"{metric}_absolute_error", "group": group, "statistic": "mean", **_mean_row(errors)}


def _statistic_rows(
    results: Results, seed: int, headlines: Sequence[Mapping[str, Any]] | None
) -> Iterator[dict[str, Any]]:
    found = headline_rows(results, seed) if headlines is None else headlines
    own = {headline.name for headline in headlines_of(results.kind, results.facts) if headline.own_row}
    for row in (row for row in found if row["metric"] in own):
        yield {"group": "all", "statistic": row["metric"], **row}
    for row in (row for row in found if row.get("reference")):
        name = {"metric": row["metric"], "group": "all", "statistic": row["reference"]}
        yield name | {"value": row["reference_value"], "n": row["n"], "n_subjects": row["n_subjects"]}
    yield from KINDS[results.kind].rows(results, seed)
