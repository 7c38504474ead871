"""Scan and rescan: coefficient of variation and Bland-Altman plots of the ejection fraction."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from cinema_lightning.benchmark.report.blocks import (
    Cell,
    Paragraph,
    Picture,
    Pictures,
    Section,
    Table,
    interval,
    number,
    p_value,
    tidy,
)
from cinema_lightning.benchmark.report.charts import bland_altman
from cinema_lightning.benchmark.report.gather import Group
from cinema_lightning.benchmark.report.study import Study
from cinema_lightning.benchmark.report.tasks import slug
from cinema_lightning.metrics.agreement import bias, limits_of_agreement
from cinema_lightning.metrics.bootstrap import bootstrap
from cinema_lightning.tasks.segmentation.rescan import scan_pairs

FIGURE = "lv_ef_variation"


@dataclass(frozen=True)
class _Visits:
    """Pairs of one arm's first seed, or of the reference."""

    arm: str
    title: str
    seed: int | None
    first: np.ndarray
    second: np.ndarray

    @property
    def limits(self) -> tuple[float, float, float]:
        """Bias and limits of agreement, second visit less first."""
        low, high = limits_of_agreement(self.second, self.first)
        return tidy(bias(self.second, self.first)), tidy(low), tidy(high)


def repeatability(study: Study) -> Section:
    """Coefficient of variation per arm beside the reference's own, and Bland-Altman plots."""
    section = Section("repeatability", "Scan and rescan")
    for group in (group for group in study.groups if study.headline(group, FIGURE) is not None):
        found = _found(study, group)
        if not found:
            continue
        section.blocks += [_table(study, group, found), Pictures(_pictures(found))]
        section.records += [_record(study, group, entry) for entry in found]
    if not section.blocks:
        section.blocks.append(Paragraph("No task has results of scans and rescans of the same people."))
    else:
        section.blocks.insert(0, Paragraph(_TEXT))
    return section


_TEXT = (
    "LVEF of the same people scanned twice. The coefficient of variation is sqrt(mean(s²/m²)) over people, "
    "averaged over seeds; limits of agreement and plots are of each arm's first seed. Differences are the second "
    "scan less the first."
)


def _found(study: Study, group: Group) -> list[_Visits]:
    """Pairs of each arm's first seed, then those of the reference where a table has them."""
    tables = {
        arm.name: (min(arm.seeds), arm.seeds[min(arm.seeds)].function) for arm in study.arms_with(group, group.full)
    }
    found = []
    for arm, (seed, table) in tables.items():
        pairs = None if table is None else scan_pairs(table, "pred")
        if pairs is not None and study.figure(group, FIGURE, arm, group.full) is not None:
            found.append(_Visits(arm, study.arm_name(arm), seed, *pairs[:2]))
    for _, table in tables.values():
        pairs = None if table is None else scan_pairs(table, "true")
        if found and pairs is not None:
            return [*found, _Visits("reference", "Reference", None, *pairs[:2])]
    return found


def _figure(study: Study, group: Group, entry: _Visits) -> tuple[float, float, float, int]:
    if entry.seed is not None:
        found = study.figure(group, FIGURE, entry.arm, group.full)
        assert found is not None
        return found.value, found.low, found.high, found.n_subjects
    options: dict[str, Any] = {"draws": study.estimator.draws, "seed": study.estimator.seed}
    headline = study.headline(group, FIGURE)
    assert headline is not None
    figure = bootstrap(headline.statistic, entry.first, entry.second, **options)
    return tidy(figure.value), tidy(figure.low), tidy(figure.high), figure.n_subjects


def _table(study: Study, group: Group, found: list[_Visits]) -> Table:
    rows: list[list[Cell | str]] = []
    for entry in found:
        value, low, high, people = _figure(study, group, entry)
        centre, lower, upper = entry.limits
        rows.append(
            [
                entry.title,
                interval(value, low, high, "%"),
                number(centre, "%", sign=True),
                f"{number(lower, '%', sign=True)} to {number(upper, '%', sign=True)}",
                str(people),
                _comparison(study, group, entry.arm),
            ]
        )
    header = [
        "Arm",
        "CV of LVEF, %",
        "Bias, % points",
        "95% limits of agreement",
        "People",
        f"{study.arm_name(study.ours)} − arm",
    ]
    return Table(f"repeatability-{slug(group)}", f"{study.title(group)}: repeatability of LVEF.", header, rows)


def _comparison(study: Study, group: Group, arm: str) -> Cell | str:
    key = (group.task, group.dataset, FIGURE, arm, group.full)
    found = study.differences.get(key)
    if found is None:
        return "–"
    text = interval(found.value, found.low, found.high, "%", sign=True)
    return Cell(text, small=f"p {p_value(found.p)}, Holm {p_value(study.corrected[key])}")


def _pictures(found: list[_Visits]) -> list[Picture]:
    """All with the same vertical axis."""
    widest = max(float(np.abs(entry.second - entry.first).max()) for entry in found)
    widest = max([widest, *(abs(value) for entry in found for value in entry.limits if math.isfinite(value))])
    pictures = []
    for entry in found:
        svg = bland_altman(entry.first, entry.second, "LVEF, %", entry.title, limit=widest * 1.12 or 1.0)
        which = "" if entry.seed is None else f", seed {entry.seed}"
        pictures.append(
            Picture(
                svg,
                f"Bland-Altman plot: {entry.title}{which}. Solid: bias; dashed: bias ± 1.96 SD.",
                f"Bland-Altman plot of LVEF at two scans, {entry.title}.",
            )
        )
    return pictures


def _record(study: Study, group: Group, entry: _Visits) -> dict[str, Any]:
    value, low, high, people = _figure(study, group, entry)
    centre, lower, upper = entry.limits
    return {
        "task": group.task,
        "dataset": group.dataset,
        "arm": entry.arm,
        "fraction": group.full,
        "cv": value,
        "cv_low": low,
        "cv_high": high,
        "n_subjects": people,
        "seed": entry.seed,
        "bias": centre,
        "loa_low": lower,
        "loa_high": upper,
    }
