"""Fairness: every headline figure by sex, age band, BMI band, vendor, centre and what else has groups."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from cinema_lightning.benchmark.report.charts import Line, Panel, Point, forest
from cinema_lightning.benchmark.report.gather import Group, numbered
from cinema_lightning.benchmark.report.study import FIGURES, SIGNIFICANT, BenchmarkStudy
from cinema_lightning.benchmark.report.table import (
    NOTHING,
    Across,
    Picture,
    ReportCell,
    ReportColumn,
    Row,
    Section,
    Table,
    interval,
    listed,
    p_value,
    records,
    subjects,
    tidy,
    titled,
)
from cinema_lightning.columns import Column, factors
from cinema_lightning.files import natural_key
from cinema_lightning.metrics import inference
from cinema_lightning.metrics.estimates import by_group
from cinema_lightning.metrics.inference import FEW, Gap, holm
from cinema_lightning.metrics.samples import Sample, align
from cinema_lightning.metrics.subgroups import band
from cinema_lightning.results.headline import Headline

_TEXT = (
    "Figures by group with all labels, with 95% intervals over the subjects of the group and the trainings. A gap is "
    "the largest difference between two groups; its interval and its p allow for the choice of those two among all "
    "pairs, and p is corrected by Holm over all gaps of this section (bold: below 0.05, with more than one training). "
    "Gaps are differences between groups, not evidence of their cause."
)
_OWN = [name for name in FIGURES if name not in ("n_seeds_wanted", "n_missing", "best", "n_cases", "failed")]
_COLUMNS = [*_OWN, "factor", "group", "is_gap", "n_groups", "p", "p_holm", "sure", "n_unknown", "warning"]


def fairness(study: BenchmarkStudy) -> Section:
    """Figures by group, gaps with intervals and p, and warnings about small groups."""
    nothing = f"No table of cases has two groups of subjects by {listed([each.display for each in factors()])}."
    section = Section("fairness", "Fairness", nothing, _TEXT, claim="Gaps between groups of subjects")
    found = {group.slug: list(_rows(study, group)) for group in study.groups}
    data = pd.DataFrame([row for rows in found.values() for row in rows], columns=_COLUMNS)
    if not len(data):
        return section
    corrected = [tidy(p) for p in holm(data["p"].to_numpy(dtype=float)).tolist()]
    data = data.assign(p_holm=corrected, sure=(np.array(corrected) < SIGNIFICANT) & (data["n_seeds"] > 1))
    parts = [_part(study, group, _of(data, group)) for group in study.groups if found[group.slug]]
    return replace(section, parts=parts, data=data.drop(columns="sure"), claims=_claims(study, data))


# ---------------------------------------------------------------------- figures
def _rows(study: BenchmarkStudy, group: Group) -> Iterator[dict[str, Any]]:
    """Rows of the groups and of the gap, of each figure, factor and arm."""
    for factor in factors():
        names = _group_names([cells.get(factor.name) for cells in group.fields.values()], factor.bands or ())
        order = _order(names, factor)
        if len(order) < 2:
            continue
        studies = numbered(pd.Series(list(group.fields), dtype=object))
        groups = pd.Series(names, index=studies)
        for place, headline in enumerate(group.headlines):
            for arm in group.at(group.full):
                parts = group.samples(headline, (arm, group.full))
                row = study.identity(group, headline, arm, group.full) | {"factor": factor.name, "primary": place == 0}
                if parts:
                    aligned = align(parts)
                    of_case = group.studies[headline.source].reindex(aligned[0].keys).map(groups).fillna("")
                    yield from _of_factor(row, headline, aligned, of_case.to_numpy(dtype=object), order)


def _group_names(cells: Sequence[Any], bands: Sequence[float]) -> list[str]:
    if bands:
        return [str(name) for name in band(pd.to_numeric(pd.Series(cells), errors="coerce").to_numpy(float), bands)]
    return ["" if cell is None or cell != cell else str(cell).strip() for cell in cells]


def _order(names: Sequence[str], factor: Column) -> list[str]:
    """Groups that there are: bands by their ends, others by name."""
    if factor.bands:
        bands = band([factor.bands[0] - 1, *factor.bands], factor.bands)
        return [str(name) for name in bands if name in set(names)]
    return sorted(set(names) - {""}, key=natural_key)


def _of_factor(
    row: Mapping[str, Any], headline: Headline, parts: Sequence[Sample], of_case: np.ndarray, order: Sequence[str]
) -> Iterator[dict[str, Any]]:
    names = [name for name in order if (of_case == name).any()]
    if len(names) < 2:
        return
    row = dict(row) | {"n_unknown": int((of_case == "").sum())}
    found = by_group(headline.statistic, parts, {name: of_case == name for name in names}, headline.scale)
    for name, figure in found.figures.items():
        warning = f"only {figure.n_subjects} subjects" if figure.few else ""
        yield row | _numbers(figure) | {"group": name, "is_gap": False, "warning": warning, "p": math.nan}
    if found.largest is not None:
        yield row | _numbers(found.largest.gap) | _gap(found.largest)


def _numbers(found: inference.Inference) -> dict[str, Any]:
    numbers = {name: tidy(getattr(found, name)) for name in ("value", "low", "high", "sd_seeds", "p")}
    return numbers | {"n_subjects": found.n_subjects, "n_seeds": found.n_seeds}


def _gap(gap: Gap) -> dict[str, Any]:
    return {"group": " − ".join(gap.between), "is_gap": True, "n_groups": gap.n_groups, "warning": ""}


def _of(data: pd.DataFrame, group: Group) -> pd.DataFrame:
    return data[(data["task"] == group.task) & (data["dataset"] == group.dataset)]


# ---------------------------------------------------------------------- tables and pictures
def _part(study: BenchmarkStudy, group: Group, data: pd.DataFrame) -> Section:
    titles = {factor.name: factor.title for factor in factors()}
    figures = {headline.name: titled(headline.display, headline.unit) for headline in group.headlines}
    data = data.assign(factor_title=data["factor"].map(titles), title=data["figure"].map(figures))
    arms = study.arm_names([arm for arm in study.order if arm in set(data["arm"])])
    primary = group.headlines[0]
    groups = data[~data["is_gap"].astype(bool) & (data["figure"] == primary.name)]
    gaps = data[data["is_gap"].astype(bool)]
    name = f"{study.title(group)}: {figures[primary.name]} by group."
    notes = _notes(groups, titles)
    first = [ReportColumn("factor_title", "Groups by"), ReportColumn("group", "Group")]
    tables = [Table(f"fairness-groups-{group.slug}", name, groups, first, Across("arm", arms, _figure), notes)]
    if len(gaps):
        caption = f"{study.title(group)}: the largest gap of every headline figure."
        first = [ReportColumn("title", "Figure"), ReportColumn("factor_title", "Groups by")]
        tables.append(Table(f"fairness-gaps-{group.slug}", caption, gaps, first, Across("arm", arms, _gap_cell)))
    pictures = [_dots(study, group, groups, titled(primary.display, primary.unit))] if len(groups) else []
    return Section(f"fairness-{group.slug}", study.title(group), pictures=pictures, tables=tables)


def _figure(row: Row, name: str) -> ReportCell:
    del name
    value = float(row["value"])
    if not math.isfinite(value):
        return NOTHING
    return ReportCell(interval(value, row["low"], row["high"], row["unit"]), value, small=subjects(row["n_subjects"]))


def _gap_cell(row: Row, name: str) -> ReportCell:
    del name
    value = float(row["value"])
    text = interval(value, row["low"], row["high"], row["unit"])
    small = f"{row['group']}; p {p_value(row['p'])}, Holm {p_value(row['p_holm'])}; n {int(row['n_subjects']):,}"
    return ReportCell(text, value, bool(row["sure"]), small)


def _notes(groups: pd.DataFrame, titles: Mapping[str, str]) -> list[str]:
    notes = []
    if (groups["n_subjects"] < FEW).any():
        least = inference.LEAST
        notes.append(
            f"† Fewer than {FEW} subjects: the figure of this group says little; with fewer than {least} it has no "
            "interval and is no part of a gap."
        )
    unknown = groups.groupby("factor", sort=False)["n_unknown"].max()
    notes += [
        f"{titles[str(name)]}: not known for {n} cases, which are in no group." for name, n in unknown.items() if n
    ]
    return notes


def _dots(study: BenchmarkStudy, group: Group, data: pd.DataFrame, label: str) -> Picture:
    """The primary figure by group, one mark per arm."""
    lines: list[Line] = []
    for factor, rows in data.groupby("factor_title", sort=False):
        lines.append(Line(str(factor)))
        for name, some in rows.groupby("group", sort=False):
            known = records(some[some["value"].notna()])
            points = [Point(row["value"], row["low"], row["high"], study.place(row["arm"])) for row in known]
            counts = sorted({int(n) for n in some["n_subjects"]})
            lines.append(Line(str(name), points, f"n {'–'.join(map(str, counts[:: max(1, len(counts) - 1)]))}"))
    names = {study.arm_name(arm): study.place(arm) for arm in study.order if arm in set(data["arm"])}
    title = study.title(group)
    return Picture(
        forest([Panel(label, lines)], names, f"fairness-{group.slug}"),
        f"{title}: {label} by group, with 95% intervals.",
        f"{label} of {title} by group of subjects; the numbers are in the table.",
    )


def _claims(study: BenchmarkStudy, data: pd.DataFrame) -> list[Picture]:
    """The largest gaps of our primary figures, over all tasks."""
    titles = {factor.name: factor.display for factor in factors()}
    panels: dict[str, list[Line]] = {}
    for group in study.groups:
        mine = _of(data, group)
        mine = mine[mine["is_gap"].astype(bool) & mine["primary"].astype(bool) & (mine["arm"] == study.ours)]
        lines = [
            Line(
                f"{titles[str(row['factor'])]}: {row['group']}",
                [Point(row["value"], row["low"], row["high"], 0, sure=bool(row["sure"]))],
                f"{interval(row['value'], row['low'], row['high'], row['unit'])}; p {p_value(row['p_holm'])}; "
                f"n {int(row['n_subjects']):,}",
            )
            for row in records(mine)
        ]
        if lines:
            headline = group.headlines[0]
            title = f"{study.task_name(group.task)} → {study.tested_on(group)}: {headline.display}"
            panels.setdefault(headline.unit, []).extend([Line(title), *lines])
    if not panels:
        return []
    ours = study.arm_name(study.ours)
    found = [Panel(f"largest gap{f' ({unit})' if unit else ''}", lines, zero=True) for unit, lines in panels.items()]
    caption = (
        f"Fairness of {ours}: the largest gap of the primary figure between groups, with 95% intervals that allow for "
        "the choice of the largest; filled marks and bold numbers have Holm's p below 0.05 with more than one training."
    )
    return [Picture(forest(found, {ours: 0}, "gaps-of-groups"), caption, f"Gaps between groups of {ours}.")]
