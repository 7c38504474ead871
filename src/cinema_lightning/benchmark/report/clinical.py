"""Sections on clinical use: data never trained on, and disease against normal."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from cinema_lightning.benchmark.report.blocks import Cell, Paragraph, Section, Table, arrow, titled
from cinema_lightning.benchmark.report.gather import Group
from cinema_lightning.benchmark.report.study import Study
from cinema_lightning.results.headline import Headline

DETECTION = ("disease_sensitivity", "disease_specificity")


def unseen_data(study: Study) -> Section:
    """Models tested on a dataset that they never saw, such as Kaggle's: ventricular function first."""
    groups = [group for group in study.groups if not group.own]

    def chosen(group: Group) -> list[Headline]:
        function = [headline for headline in group.headlines if headline.name.endswith("_ef_mae")]
        return function or group.headlines[:1]

    text = (
        "Models tested on datasets that they were not trained on. Kaggle's Second Annual Data Science Bowl has volumes "
        "but no masks, so ejection fractions are compared."
    )
    return _section(
        study,
        Section("unseen", "Data never trained on"),
        groups,
        chosen,
        text,
        "No model was tested on a dataset that it was not trained on.",
    )


def disease_detection(study: Study) -> Section:
    """Sensitivity and specificity of disease against normal."""

    def chosen(group: Group) -> list[Headline]:
        return [headline for name in DETECTION if (headline := study.headline(group, name)) is not None]

    text = "A case counts as diseased where its most probable class is a disease, as in the published figures."
    return _section(
        study,
        Section("detection", "Disease detection"),
        study.groups,
        chosen,
        text,
        "No task tells diseases from normal hearts.",
    )


def _section(
    study: Study,
    section: Section,
    groups: list[Group],
    chosen: Callable[[Group], list[Headline]],
    text: str,
    nothing: str,
) -> Section:
    rows: list[list[Cell | str]] = []
    used: set[str] = set()
    found: list[tuple[Group, Headline, list[Cell]]] = []
    for group in groups:
        for headline in chosen(group):
            cells = study.row(group, headline, study.order, group.full)
            if not all(cell.muted for cell in cells):
                found.append((group, headline, cells))
                used.update(arm for arm, cell in zip(study.order, cells, strict=True) if cell.text != "–")
                section.records += _records(study, group, headline)
    if not found:
        section.blocks.append(Paragraph(nothing))
        return section
    arms = [arm for arm in study.order if arm in used]
    for group, headline, cells in found:
        where = group.dataset if group.own else f"{group.dataset} (trained on {group.trained_on})"
        kept = [cell for arm, cell in zip(study.order, cells, strict=True) if arm in used]
        title = f"{titled(headline.display, headline.unit)} {arrow(headline.higher_is_better)}"
        rows.append([study.task_name(group.task), where, title, *kept])
    header = ["Task", "Tested on", "Figure", *map(study.arm_name, arms)]
    section.blocks = [
        Paragraph(text),
        Table(section.key, f"{section.title}, with 95% intervals.", header, rows, left=3),
    ]
    return section


def _records(study: Study, group: Group, headline: Headline) -> list[dict[str, Any]]:
    return [
        study.record(group, headline, arm, group.full) | asdict(found)
        for arm in study.order
        if (found := study.figure(group, headline.name, arm, group.full)) is not None
    ]
