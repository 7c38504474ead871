"""Sections on the main figures: all tasks at a glance, beside the published ones, and each task in full."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

import pandas as pd

from cinema_lightning.benchmark.report.charts import Line, Panel, Point, forest
from cinema_lightning.benchmark.report.gather import Group
from cinema_lightning.benchmark.report.published import PUBLISHED, SOURCE, Published, published
from cinema_lightning.benchmark.report.study import BenchmarkStudy, heading, known
from cinema_lightning.benchmark.report.table import (
    Across,
    Picture,
    ReportCell,
    ReportColumn,
    Row,
    Section,
    Table,
    difference,
    estimate,
    interval,
    listed,
    p_value,
    records,
    subjects,
    text,
    titled,
)
from cinema_lightning.results.headline import Headline

DETECTION = ("disease_sensitivity", "disease_specificity")
BOLD = "Bold: better than every other arm, each with Holm's p below 0.05 and more than one training."


def at_a_glance(study: BenchmarkStudy, sections: Iterable[Section]) -> Section:
    """What opens the page: a picture per claim, and the primary figure of every task and dataset."""
    rows = [_rows(study, group, group.headlines[0]) for group in study.groups]
    tested = {group.task for group in study.groups}
    for task in dict.fromkeys(key.task for key in study.index.expected if key.task not in tested):
        arms = dict.fromkeys(key.arm for key in study.index.expected if key.task == task)
        about = {"task_name": study.task_name(task), "tested_on": "", "title": "", "n_seeds": 0}
        rows.append(pd.DataFrame([about | {"arm": arm} for arm in arms]))
    caption = "The primary figure of each task with all labels, with 95% intervals over subjects and trainings."
    table = _across_tasks(study, "glance", f"{caption} {BOLD}", pd.concat(rows, ignore_index=True))
    claims = [
        Section(f"claim-{section.key}", section.claim, pictures=section.claims)
        for section in sections
        if section.claims
    ]
    return Section("glance", "At a glance", parts=[*claims, Section("primary", "Primary figures", tables=[table])])


def _rows(study: BenchmarkStudy, group: Group, headline: Headline) -> pd.DataFrame:
    """A figure of a group with all labels, and what its rows are called."""
    return study.figures_of(group, headline.name).assign(**study.about(group), title=heading(headline))


def _across_tasks(
    study: BenchmarkStudy, name: str, caption: str, data: pd.DataFrame, first: Iterable[ReportColumn] = ()
) -> Table:
    """A table of figures of several tasks, arms side by side."""
    columns = [
        *first,
        ReportColumn("task_name", "Task"),
        ReportColumn("tested_on", "Tested on"),
        ReportColumn("title", "Figure"),
    ]
    arms = [arm for arm in study.order if arm in set(data["arm"])]
    return Table(name, caption, data, columns, Across("arm", study.arm_names(arms), estimate))


# ---------------------------------------------------------------------- figures of one kind over all tasks
def unseen_data(study: BenchmarkStudy) -> Section:
    """Models tested on a dataset that they never saw, such as Kaggle's: ventricular function first."""

    def chosen(group: Group) -> list[Headline]:
        function = [headline for headline in group.headlines if headline.name.endswith("_ef_mae")]
        return [] if group.own else function or group.headlines[:1]

    text = (
        "Models tested on datasets that they were not trained on. Kaggle's Second Annual Data Science Bowl has volumes "
        "but no masks, so ejection fractions are compared."
    )
    nothing = "No model was tested on a dataset that it was not trained on."
    return _chosen(study, Section("unseen", "Data never trained on", nothing, text), chosen)


def disease_detection(study: BenchmarkStudy) -> Section:
    """Sensitivity and specificity of disease against normal."""

    def chosen(group: Group) -> list[Headline]:
        return [found for name in DETECTION if (found := group.headline(name)) is not None]

    text = "A case counts as diseased where its most probable class is a disease, as in the published figures."
    nothing = "No task tells diseases from normal hearts."
    return _chosen(study, Section("detection", "Disease detection", nothing, text), chosen)


def _chosen(study: BenchmarkStudy, section: Section, chosen: Callable[[Group], list[Headline]]) -> Section:
    rows = [_rows(study, group, headline) for group in study.groups for headline in chosen(group)]
    if not rows:
        return section
    data = pd.concat(rows, ignore_index=True)
    table = _across_tasks(study, section.key, f"{section.title}, with 95% intervals. {BOLD}", data)
    return replace(section, tables=[table], data=known(data)[study.figures.columns])


# ---------------------------------------------------------------------- published figures
def beside_the_paper(study: BenchmarkStudy) -> Section:
    """The six figures that the paper's abstract reports, and what they are here."""
    rows: list[pd.DataFrame] = []
    for entry in PUBLISHED:
        for group in study.groups:
            headline = group.headline(entry.figure)
            if headline is not None and entry.applies(group.kind, group.dataset, group.trained_on):
                columns: dict[str, Any] = {"paper": titled(entry.display, entry.unit), **_scaled(entry, headline.unit)}
                rows.append(_rows(study, group, headline).assign(**columns, **_written(entry)))
    section = Section("published", "Beside the published figures", "No task here is one of the published ones.")
    if not rows:
        return section
    data = pd.concat(rows, ignore_index=True)
    first = [
        ReportColumn("paper", "Figure of the paper"),
        ReportColumn("cinema", "Published: CineMA"),
        ReportColumn("cnn", "Published: CNN"),
    ]
    table = _across_tasks(
        study, "published", "Published figures beside those of this benchmark, with 95% intervals.", data, first
    )
    note = (
        f"Published: {SOURCE}. The abstract does not say which datasets a figure was measured on, so every task that "
        "could be meant is listed."
    )
    kept = [name for name in data if name in study.figures.columns or str(name).startswith("published_")]
    return replace(section, tables=[replace(table, notes=[note])], data=known(data)[kept])


def _scaled(entry: Published, unit: str) -> dict[str, float]:
    """Published values in the unit of ours: 60.06% is 0.6006 where ours is a share."""
    factor = 0.01 if entry.unit == "%" and not unit else 1.0
    names = [f"published_{side}{end}" for side in ("cinema", "cnn") for end in ("", "_low", "_high")]
    values = [float(f"{value * factor:.6g}") for value in (*entry.ours, *entry.baseline)]
    return dict(zip(names, values, strict=True))


def _written(entry: Published, unit: str | None = None) -> dict[str, str]:
    """Published values as the page writes them, in their own unit or in ours."""
    found = _scaled(entry, entry.unit if unit is None else unit)
    written = entry.unit if unit is None else unit
    ends = {side: [found[f"published_{side}{end}"] for end in ("", "_low", "_high")] for side in ("cinema", "cnn")}
    return {side: interval(value, low, high, written) for side, (value, low, high) in ends.items()}


# ---------------------------------------------------------------------- each task in full
def each_task(study: BenchmarkStudy) -> Section:
    """All headline figures of each task and dataset, and the paired differences."""
    parts = [_task(study, group) for group in study.groups]
    claim = f"{study.arm_name(study.ours)} against the other arms"
    return Section("tasks", "Each task in full", text=_HOW_TO_READ, parts=parts, claim=claim, claims=_forest(study))


_HOW_TO_READ = (
    "Values are means over trainings (seeds) with 95% intervals over subjects and trainings; n is the number of "
    "subjects. An arrow says which way is better. Differences are ours less the other arm's, on the cases that both "
    "have a value for; interval and p are of that mean difference, and Holm's p is corrected over all comparisons of "
    "this report. Where an arm gives no value though there is a truth, that counts: the share of subjects with a "
    "failure stands beside, and p is of ranks in which a failure is the worst. Bold: Holm's p below 0.05, with more "
    "than one training of each arm; a figure is bold where that holds in favour of it against every other arm."
)


def _task(study: BenchmarkStudy, group: Group) -> Section:
    headings = {headline.name: heading(headline) for headline in group.headlines}
    tables = [_figures(study, group, headings)]
    compared = study.comparisons_of(group)
    lone = (
        f"No other arm has results to compare {study.arm_name(study.ours)} with."
        if len(group.at(group.full)) > 1
        else ""
    )
    if len(compared):
        ours = study.arm_name(study.ours)
        baselines = [arm for arm in study.order if arm in set(compared["baseline"])]
        titles = {arm: f"{ours} − {study.arm_name(arm)}" for arm in baselines}
        data = compared.assign(title=compared["figure"].map(headings))
        across = Across("baseline", titles, difference)
        caption = f"{study.title(group)}: paired differences."
        tables.append(Table(f"differences-{group.slug}", caption, data, [ReportColumn("title", "Figure")], across))
    text = "" if len(compared) else lone
    return Section(f"task-{group.slug}", study.title(group), text=text, tables=tables)


def _figures(study: BenchmarkStudy, group: Group, headings: Mapping[str, str]) -> Table:
    data = study.figures_of(group)
    data = data[data["figure"].isin(list(headings))]
    entries = {
        headline.name: (found, headline.unit)
        for headline in group.headlines
        if (found := published(headline.name, group.kind, group.dataset, group.trained_on)) is not None
    }
    data = data.assign(title=data["figure"].map(headings))
    columns = [ReportColumn("title", "Figure")]
    if entries:
        written = {name: _written(*entry) for name, entry in entries.items()}
        for side, title in (("cinema", "Published: CineMA"), ("cnn", "Published: CNN")):
            data[side] = [written.get(name, {}).get(side, "") for name in data["figure"]]
            columns.append(ReportColumn(side, title, text))
    caption = f"{study.title(group)}, {group.full:g}% of the labels."
    # What takes no network has one column, whatever it is for each figure.
    data["side"] = data["arm"].where(data["arm"].isin(study.order), "")
    titles = study.arm_names(study.arms_of(group)) | ({"": "Without a network"} if (data["side"] == "").any() else {})
    across = Across("side", titles, _with_name)
    return Table(f"figures-{group.slug}", caption, data, columns, across, _missing_notes(study, group, data))


def _with_name(row: Row, name: str) -> ReportCell:
    cell = estimate(row, name)
    return cell if row[name] else replace(cell, small=f"{row['arm']}; {cell.small}")


def _missing_notes(study: BenchmarkStudy, group: Group, data: pd.DataFrame) -> list[str]:
    """Where cases have no value, since leaving out failures flatters."""
    parts = []
    for headline in group.headlines:
        some = data[(data["figure"] == headline.name) & (data["n_missing"] > 0)]
        counts = [f"{row.n_missing} ({study.arm_name(str(row.arm))})" for row in some.itertuples()]
        if counts:
            parts.append(f"{headline.display} {listed(counts)}")
    return [f"Cases without a value: {'; '.join(parts)}."] if parts else []


# ---------------------------------------------------------------------- the forest of all tasks
def _forest(study: BenchmarkStudy) -> list[Picture]:
    """Differences of the primary figure, turned so that right is better for ours; a panel for each unit."""
    panels: dict[str, list[Line]] = {}
    arms: set[str] = set()
    for group in study.groups:
        compared = study.comparisons_of(group, group.headlines[0].name)
        lines = [_line(study, row) for row in records(compared) if row["value"] == row["value"]]
        if lines:
            arms |= set(compared["baseline"])
            title = f"{study.task_name(group.task)} → {study.tested_on(group)}: {group.headlines[0].display}"
            panels.setdefault(group.headlines[0].unit, []).extend([Line(title), *lines])
    if not panels:
        return []
    ours = study.arm_name(study.ours)
    found = [
        Panel(f"difference in favour of {ours} →{f' ({unit})' if unit else ''}", lines, zero=True)
        for unit, lines in panels.items()
    ]
    names = {study.arm_name(arm): study.place(arm) for arm in study.order if arm in arms}
    caption = (
        f"Differences of the primary figures with 95% intervals: {ours} against each other arm, all labels. Right of "
        "the line is better, whichever way the figure points; filled marks and bold numbers have Holm's p below 0.05 "
        "with more than one training of each arm."
    )
    alternative = f"Forest plot of the differences of {ours} to each other arm; the numbers are in the tables below."
    return [Picture(forest(found, names, "forest"), caption, alternative)]


def _line(study: BenchmarkStudy, row: Mapping[str, Any]) -> Line:
    turn = 1.0 if row["higher_is_better"] else -1.0
    value, *ends = (turn * float(row[name]) for name in ("value", "low", "high"))
    point = Point(value, min(ends), max(ends), study.place(row["baseline"]), sure=bool(row["better"]))
    remark = f"{interval(value, min(ends), max(ends), row['unit'], sign=True)}; p {p_value(row['p_holm'])}"
    failed = f"; by rank, failed {row['failed']:.0%}, {row['failed_baseline']:.0%}" if row["test"] == "ranks" else ""
    return Line(f"less {study.arm_name(row['baseline'])}", [point], f"{remark}; {subjects(row['n_subjects'])}{failed}")
