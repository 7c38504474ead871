"""What kinds of task show of their own: tables and pictures that they declare, such as survival by predicted risk."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import pandas as pd

from cinema_lightning.benchmark.report.charts import svg
from cinema_lightning.benchmark.report.gather import Group
from cinema_lightning.benchmark.report.study import BenchmarkStudy
from cinema_lightning.benchmark.report.table import (
    Form,
    Picture,
    ReportColumn,
    Section,
    Table,
    bounded,
    count,
    listed,
    significance,
    text,
)
from cinema_lightning.errors import CinemaError
from cinema_lightning.results.figures import Missing
from cinema_lightning.results.folder import read_results
from cinema_lightning.results.kind import KINDS, Drawer, Exhibit, Results, Shown


def exhibits(study: BenchmarkStudy) -> Section:
    """A part for every table that a kind declares, and the pictures of each arm's first seed."""
    nothing = "No kind of task here, such as survival, has tables or pictures of its own."
    groups = [group for group in study.groups if KINDS[group.kind].exhibits or KINDS[group.kind].shown]
    title = listed(list(dict.fromkeys(group.kind for group in groups))).capitalize() or "Survival"
    section = Section("exhibits", title, nothing, claim=title)
    parts: dict[str, Section] = {}
    pictures: dict[bool, list[Picture]] = {True: [], False: []}  # ours open the page
    for group in groups:
        kind, results = KINDS[group.kind], _read(group)
        for exhibit in kind.exhibits:
            part = _part(study, group, exhibit, results)
            before = parts.get(exhibit.name)
            parts[exhibit.name] = part if before is None else _joined(before, part)
        for arm, several in results.items():
            found = [picture for drawer in kind.shown for picture in _pictures(study, group, arm, several[0], drawer)]
            pictures[arm == study.ours] += found
    shown = [part for part in parts.values() if not part.empty]
    return replace(section, parts=shown, pictures=pictures[False], claims=pictures[True])


def _read(group: Group) -> dict[str, list[Results]]:
    """Tests of each arm's seeds with all labels."""
    runs = group.at(group.full)
    return {arm: [read_results(run.folder) for _, run in sorted(seeds.items())] for arm, seeds in runs.items()}


def _joined(first: Section, second: Section) -> Section:
    frames = [part.data for part in (first, second) if part.data is not None]
    data = pd.concat(frames, ignore_index=True) if frames else None
    return replace(first, tables=[*first.tables, *second.tables], data=data)


def _part(study: BenchmarkStudy, group: Group, exhibit: Exhibit, results: dict[str, list[Results]]) -> Section:
    frames = []
    for arm, several in results.items():
        try:
            found = exhibit.table(several, 0)
        except (CinemaError, Missing) as error:
            study.warnings.append(f"{study.title(group)}, {study.arm_name(arm)}: no {exhibit.title.lower()}. {error}")
            continue
        frames.append(found.assign(task=group.task, dataset=group.dataset, arm=arm, arm_name=study.arm_name(arm)))
    section = Section(exhibit.name, exhibit.title, text=exhibit.text)
    if not frames:
        return section
    data = pd.concat(frames, ignore_index=True)
    columns = [
        ReportColumn("arm_name", "Arm"),
        *(ReportColumn(each.name, each.title, _form(each)) for each in exhibit.columns),
    ]
    columns = [column for column in columns if not _says_nothing(data[column.name])]
    table = Table(
        f"{exhibit.name.replace('_', '-')}-{group.slug}", f"{study.title(group)}: {exhibit.title}.", data, columns
    )
    first = ["task", "dataset", "arm"]
    kept = data[[*first, *(name for name in data if name not in (*first, "arm_name"))]]
    return replace(section, tables=[table], data=kept)


def _says_nothing(cells: pd.Series) -> bool:
    return bool((cells.isna() | (cells.astype(str) == "")).all())


def _form(shown: Shown) -> Form:
    forms: dict[str, Form] = {"text": text, "count": count, "number": partial(bounded, shown.low, shown.high)}
    return forms.get(shown.form, significance)


def _pictures(study: BenchmarkStudy, group: Group, arm: str, results: Results, drawer: Drawer) -> Iterator[Picture]:
    title = f"{study.task_name(group.task)} → {study.tested_on(group)}: {study.arm_name(arm)}"
    try:
        for name, figure in drawer(results, 0):
            text = f"{title}, its first seed."
            yield Picture(
                svg(figure, f"{name}-{group.slug}-{arm}", scale=0.75), text, f"{name.replace('_', ' ')}, {title}"
            )
    except Missing:
        return
