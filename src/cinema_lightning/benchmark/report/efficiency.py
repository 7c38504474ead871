"""Label efficiency: the primary figure against the share of training subjects with labels."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd

from cinema_lightning.benchmark.report.charts import Point, label_efficiency
from cinema_lightning.benchmark.report.gather import Group
from cinema_lightning.benchmark.report.study import BenchmarkStudy, known
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
    records,
    titled,
)

_KEYS = ["task", "dataset", "figure", "arm", "fraction"]
_DIFFERENCE = {
    "value": "difference", "low": "difference_low", "high": "difference_high", "n_subjects": "difference_n_subjects",
    "p": "p", "p_holm": "p_holm", "better": "better", "test": "test", "failed": "difference_failed",
    "failed_baseline": "failed_baseline", "rank_better": "rank_better", "rank_low": "rank_low",
    "rank_high": "rank_high",
}  # fmt: skip


def label_efficiency_section(study: BenchmarkStudy) -> Section:
    """Curves and tables of the tasks with several label fractions, each tested on its own dataset."""
    nothing = "No task has results at more than one label fraction."
    text = (
        "The primary figure of each task when only some training subjects have labels. Small print: ours less that "
        "arm, and Holm's p."
    )
    section = Section("labels", "Fewer labels", nothing, text, claim="With fewer labels")
    groups = [group for group in study.groups if group.own and len({fraction for _, fraction in group.arms}) > 1]
    if not groups:
        return section
    data = {group.slug: _rows(study, group) for group in groups}
    pictures = [_picture(study, group, data[group.slug]) for group in groups]
    tables = [_table(study, group, data[group.slug]) for group in groups]
    found = pd.concat(data.values(), ignore_index=True)
    return replace(section, tables=tables, claims=pictures, data=known(found))


def _rows(study: BenchmarkStudy, group: Group) -> pd.DataFrame:
    """The primary figure at every fraction, and ours less the arm of each row."""
    of = study.figures
    mask = (of["task"] == group.task) & (of["dataset"] == group.dataset) & (of["figure"] == group.headlines[0].name)
    mask &= of["arm"].isin(study.order)
    compared = study.comparisons.drop(columns="arm").rename(columns={"baseline": "arm", **_DIFFERENCE})
    return of[mask].merge(compared[[*_KEYS, *_DIFFERENCE.values()]], on=_KEYS, how="left")


def _picture(study: BenchmarkStudy, group: Group, data: pd.DataFrame) -> Picture:
    headline = group.headlines[0]
    curves: dict[str, list[Point]] = {}
    for row in records(data[data["value"].notna()]):
        point = Point(row["value"], row["low"], row["high"], study.place(row["arm"]), x=row["fraction"])
        curves.setdefault(study.arm_name(row["arm"]), []).append(point)
    name, title = titled(headline.display, headline.unit), study.task_name(group.task)
    counts = sorted({int(count) for count in data["n_subjects"] if count})
    return Picture(
        label_efficiency(curves, title, name, f"labels-{group.slug}"),
        f"{title}: {name} by labelled share, with 95% intervals over {counts[-1]:,} test subjects and the trainings.",
        f"{name} of {title} against the share of labelled training subjects; the numbers are in the table.",
    )


def _table(study: BenchmarkStudy, group: Group, data: pd.DataFrame) -> Table:
    headline = group.headlines[0]
    caption = f"{study.task_name(group.task)}: {titled(headline.display, headline.unit)} by labelled share."
    rows = data.assign(labels=[f"{fraction:g}%" for fraction in data["fraction"]])
    rows = rows.sort_values("fraction", ascending=False, kind="stable")
    across = Across("arm", study.arm_names(study.arms_of(group)), _with_difference)
    return Table(f"labels-{group.slug}", caption, rows, [ReportColumn("labels", "Labels")], across)


def _with_difference(row: Row, name: str) -> ReportCell:
    """The figure, and below it ours less it."""
    cell = estimate(row, name)
    if row["difference"] != row["difference"]:
        return cell
    found = difference({**row, **{old: row[new] for old, new in _DIFFERENCE.items()}}, name)
    tests = found.small.rpartition("n ")[0].removesuffix("; ")  # the subjects are the same
    return replace(cell, small=f"{cell.small}; Δ {found.text}; {tests}")
