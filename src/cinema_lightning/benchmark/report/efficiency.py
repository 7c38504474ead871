"""Label efficiency: the primary figure against the share of training subjects with labels."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from cinema_lightning.benchmark.report.blocks import Cell, Paragraph, Picture, Pictures, Section, Table, p_value, titled
from cinema_lightning.benchmark.report.blocks import interval as interval_text
from cinema_lightning.benchmark.report.charts import Point, label_efficiency
from cinema_lightning.benchmark.report.gather import Group
from cinema_lightning.benchmark.report.study import Study
from cinema_lightning.benchmark.report.tasks import slug


def label_efficiency_section(study: Study) -> Section:
    """Curves and tables of the tasks with several label fractions, each tested on its own dataset."""
    section = Section("labels", "Fewer labels")
    pictures: list[Picture] = []
    tables: list[Table] = []
    for group in (group for group in study.groups if group.own):
        fractions = sorted({fraction for _, fraction in group.arms} | _wanted(study, group))
        if len({fraction for _, fraction in group.arms}) < 2:
            continue
        pictures.append(_picture(study, group))
        tables.append(_table(study, group, fractions))
        section.records += _records(study, group)
    if not pictures:
        section.blocks.append(Paragraph("No task has results at more than one label fraction."))
        return section
    section.blocks = [
        Paragraph(
            "The primary figure of each task when only some training subjects have labels; bars are 95% intervals."
        ),
        Pictures(pictures),
        *tables,
    ]
    return section


def _wanted(study: Study, group: Group) -> set[float]:
    return {key.fraction for key in study.index.expected if key.task == group.task}


def _picture(study: Study, group: Group) -> Picture:
    headline = group.headlines[0]
    curves: dict[str, list[Point]] = {}
    for arm, fraction in group.arms:
        found = study.figure(group, headline.name, arm, fraction)
        if found is not None and found.value == found.value:
            curves.setdefault(study.arm_name(arm), []).append(Point(fraction, found.value, found.low, found.high))
    places = {study.arm_name(arm): place for place, arm in enumerate(study.order)}
    name = f"{titled(headline.display, headline.unit)}"
    title = study.task_name(group.task)
    return Picture(
        label_efficiency(curves, places, name),
        f"{title}: {name}.",
        f"{name} of {title} against the share of labelled training subjects; the numbers are in the table.",
    )


def _table(study: Study, group: Group, fractions: list[float]) -> Table:
    headline = group.headlines[0]
    arms = study.arms_of(group)
    rows: list[list[Cell | str]] = []
    for fraction in sorted(fractions, reverse=True):
        cells = study.row(group, headline, arms, fraction)
        rows.append(
            [
                f"{fraction:g}%",
                *(_with_p(study, group, arm, fraction, cell) for arm, cell in zip(arms, cells, strict=True)),
            ]
        )
    caption = (
        f"{study.task_name(group.task)}: {titled(headline.display, headline.unit)} by labelled share; "
        f"small print: {study.arm_name(study.ours)} less that arm, and Holm's p."
    )
    return Table(f"labels-{slug(group)}", caption, ["Labels", *map(study.arm_name, arms)], rows)


def _with_p(study: Study, group: Group, arm: str, fraction: float, cell: Cell) -> Cell:
    headline = group.headlines[0]
    key = (group.task, group.dataset, headline.name, arm, fraction)
    found = study.differences.get(key)
    if found is None or cell.muted:
        return cell
    text = interval_text(found.value, found.low, found.high, headline.unit, sign=True)
    small = f"Δ {text}, p {p_value(study.corrected[key])}"
    return Cell(cell.text, cell.bold, f"{cell.small}; {small}" if cell.small else small)


def _records(study: Study, group: Group) -> list[dict[str, Any]]:
    headline = group.headlines[0]
    rows = []
    for arm, fraction in group.arms:
        found = study.figure(group, headline.name, arm, fraction)
        if found is None:
            continue
        key = (group.task, group.dataset, headline.name, arm, fraction)
        difference = study.differences.get(key)
        row = study.record(group, headline, arm, fraction) | asdict(found)
        row |= {"difference": None, "difference_low": None, "difference_high": None, "p": None, "p_holm": None}
        if difference is not None:
            row |= {
                "difference": difference.value,
                "difference_low": difference.low,
                "difference_high": difference.high,
            }
            row |= {"p": difference.p, "p_holm": study.corrected[key]}
        rows.append(row)
    return rows
