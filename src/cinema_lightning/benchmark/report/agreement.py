"""Agreement: two scans of the same people, and predictions beside the truth."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from cinema_lightning.benchmark.report.charts import bland_altman
from cinema_lightning.benchmark.report.gather import Group
from cinema_lightning.benchmark.report.study import BenchmarkStudy
from cinema_lightning.benchmark.report.table import (
    NOTHING,
    Picture,
    ReportCell,
    ReportColumn,
    Row,
    Section,
    Table,
    count,
    difference,
    ranged,
    records,
    text,
    tidy,
)
from cinema_lightning.columns import look_up
from cinema_lightning.metrics import estimates
from cinema_lightning.metrics.agreement import bias, limits_of_agreement, lower_limit, mae, upper_limit
from cinema_lightning.metrics.samples import Sample
from cinema_lightning.results.headline import Headline

REFERENCE = "reference"


def repeatability(study: BenchmarkStudy) -> Section:
    """Two measurements of the same people: variation, bias and limits of agreement of each arm and the reference."""
    nothing = "No task has results of scans and rescans of the same people."
    text = (
        "The same people measured twice. The variation is sqrt(mean(s²/m²)) over people, averaged over trainings; bias "
        "and limits of agreement (bias ± 1.96 SD) are of the first training, the second scan less the first, each with "
        "a 95% interval."
    )
    section = Section("repeatability", "Scan and rescan", nothing, text)
    tables, pictures, frames = [], [], []
    for group in study.groups:
        for headline in (headline for headline in group.headlines if headline.per_person):
            found = dict(_pairs(group, headline))
            data = pd.DataFrame([_row(study, group, headline, *of, sample) for of, sample in found.items()])
            tables.append(_table(study, group, headline, data))
            pictures += _pictures(study, group, headline, found)
            frames.append(data)
    if not frames:
        return section
    data = pd.concat(frames, ignore_index=True)
    kept = data.drop(columns=["arm_name", *(name for name in data if str(name).startswith("difference_"))])
    return replace(section, tables=tables, pictures=pictures, data=kept)


def _pairs(group: Group, headline: Headline) -> Iterator[tuple[tuple[str, int | None], Sample]]:
    """(arm, seed) -> both measurements: each arm's first training, then the reference's where a table has it."""
    runs = group.first_runs()
    for arm, (seed, run) in runs.items():
        if headline.name in run.samples:
            yield (arm, seed), run.samples[headline.name]
    truths = [run.truths[headline.name] for _, run in runs.values() if headline.name in run.truths]
    if truths:
        yield (REFERENCE, None), truths[0]


def _row(
    study: BenchmarkStudy, group: Group, headline: Headline, arm: str, seed: int | None, sample: Sample
) -> dict[str, Any]:
    first, second = (np.asarray(part, dtype=float) for part in sample.columns)
    if seed is None:
        found = estimates.estimate(headline.statistic, [sample], headline.scale)
        value: dict[str, Any] = {name: tidy(getattr(found, name)) for name in ("value", "low", "high", "n_subjects")}
    else:
        value = next(row for row in records(study.figures_of(group, headline.name)) if row["arm"] == arm)
    middle = estimates.figure(bias, second, first, subjects=sample.subjects)
    low, high = (
        estimates.figure(limit, second, first, subjects=sample.subjects) for limit in (lower_limit, upper_limit)
    )
    compared = {row["baseline"]: row for row in records(study.comparisons_of(group, headline.name))}
    numbers = {"cv": value["value"], "cv_low": value["low"], "cv_high": value["high"]}
    for name, part in (("bias", middle), ("loa_low", low), ("loa_high", high)):
        numbers |= {name: tidy(part.value), f"{name}_low": tidy(part.low), f"{name}_high": tidy(part.high)}
    name = "Reference" if seed is None else study.arm_name(arm)
    row: dict[str, Any] = {
        "task": group.task,
        "dataset": group.dataset,
        "figure": headline.name,
        "arm": arm,
        "arm_name": name,
    }
    row |= {"fraction": group.full, "seed": seed, "n_subjects": value["n_subjects"]} | numbers
    return row | {f"difference_{name}": part for name, part in compared.get(arm, {}).items()}


def _table(study: BenchmarkStudy, group: Group, headline: Headline, data: pd.DataFrame) -> Table:
    unit, sided = headline.unit, ranged(headline.unit, sign=True)
    columns = [
        ReportColumn("arm_name", "Arm", text),
        ReportColumn("cv", f"Variation, {unit}", ranged(unit)),
        ReportColumn("bias", "Bias", sided),
        ReportColumn("loa_low", "Lower limit", sided),
        ReportColumn("loa_high", "Upper limit", sided),
        ReportColumn("n_subjects", "People", count),
        ReportColumn("difference_value", f"{study.arm_name(study.ours)} − arm", _difference),
    ]
    caption = f"{study.title(group)}: {headline.display}."
    if "difference_value" not in data:
        columns = columns[:-1]
    return Table(f"repeatability-{group.slug}", caption, data, columns)


def _difference(row: Row, name: str) -> ReportCell:
    if row[name] != row[name]:
        return NOTHING
    return difference(
        {key.removeprefix("difference_"): value for key, value in row.items() if key.startswith("difference_")}, name
    )


def _pictures(
    study: BenchmarkStudy, group: Group, headline: Headline, found: dict[tuple[str, int | None], Sample]
) -> list[Picture]:
    """All with the same vertical axis."""
    reach = 0.0
    for sample in found.values():
        first, second = sample.columns
        ends = [*np.abs(first - second), *np.abs(limits_of_agreement(second, first))]
        reach = max(reach, float(np.nanmax(ends)))
    out = []
    for (arm, seed), sample in found.items():
        name = "Reference" if seed is None else f"{study.arm_name(arm)}, seed {seed}"
        svg = bland_altman(
            np.asarray(sample.columns[1]),
            np.asarray(sample.columns[0]),
            name,
            ("of both", headline.unit),
            "Second − first",
            f"bland-altman-{group.slug}-{headline.name}-{arm}",
            reach=1.1 * reach,
        )
        people = len(sample.keys)
        out.append(
            Picture(
                svg,
                f"{name}: {people} people. Solid: bias; dashed: bias ± 1.96 SD.",
                f"Bland-Altman plot of two measurements of the same people, {name}.",
            )
        )
    return out


def agreement(study: BenchmarkStudy) -> Section:
    """Our predictions beside the truth, of the first error of each task: Bland-Altman plots, which open the page."""
    pictures = []
    for group in study.groups:
        headline = next((headline for headline in group.headlines if headline.statistic is mae), None)
        ours = group.first_runs().get(study.ours)
        sample = None if headline is None or ours is None else ours[1].samples.get(headline.name)
        if headline is None or ours is None or sample is None or not sample.mask.any():
            continue
        known = sample.take(sample.mask)
        target = look_up(str(group.facts.get("target", "target"))).display
        name = headline.display.removesuffix("MAE").strip() or f"{target[:1].upper()}{target[1:]}"
        title = f"{study.task_name(group.task)} → {study.tested_on(group)}"
        svg = bland_altman(
            np.asarray(known.columns[0]),
            np.asarray(known.columns[1]),
            title,
            (name, headline.unit),
            "Predicted − true",
            f"agreement-{group.slug}",
        )
        people = len(np.unique(known.subjects))
        pictures.append(
            Picture(
                svg,
                f"{title}: {name} of {study.arm_name(study.ours)}, seed {ours[0]}, against the truth, n {people:,}.",
                f"Bland-Altman plot of {name}, {title}.",
            )
        )
    return Section("agreement", "Agreement", claim="Agreement with the truth", claims=pictures)
