"""Sections on the main figures: all tasks at a glance, beside the published ones, and each task in full."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from cinema_lightning.benchmark.report.blocks import (
    MISSING,
    NOTHING,
    Cell,
    Paragraph,
    Section,
    Table,
    arrow,
    interval,
    listed,
    p_value,
    titled,
)
from cinema_lightning.benchmark.report.gather import Group
from cinema_lightning.benchmark.report.published import PUBLISHED, SOURCE, Published, published
from cinema_lightning.benchmark.report.study import Study
from cinema_lightning.results.headline import Headline


def at_a_glance(study: Study) -> Section:
    """The primary figure of every task and dataset, one column per arm."""
    rows: list[list[Cell | str]] = []
    for group in study.groups:
        headline = group.headlines[0]
        cells = dict(zip(study.order, study.row(group, headline, study.order, group.full), strict=True))
        wanted = study.arms_of(group)
        rows.append(
            [
                study.task_name(group.task),
                group.dataset if group.own else f"{group.dataset} (trained on {group.trained_on})",
                f"{titled(headline.display, headline.unit)} {arrow(headline.higher_is_better)}",
                _subjects(study, group, headline),
                *(cells[arm] if arm in wanted else NOTHING for arm in study.order),
            ]
        )
    tested = {(group.task) for group in study.groups}
    for task in dict.fromkeys(key.task for key in study.index.expected if key.task not in tested):
        arms = {key.arm for key in study.index.expected if key.task == task}
        rows.append([study.task_name(task), "–", "–", "–", *(MISSING if a in arms else NOTHING for a in study.order)])
    caption = "The primary figure of each task with all labels, with 95% intervals over subjects; the best in bold."
    header = ["Task", "Tested on", "Figure", "Subjects", *(study.arm_name(arm) for arm in study.order)]
    return Section("glance", "All tasks at a glance", [Table("glance", caption, header, rows, left=3)])


def _subjects(study: Study, group: Group, headline: Headline) -> str:
    counts = {
        entry.n_subjects
        for arm in study.order
        if (entry := study.figure(group, headline.name, arm, group.full)) is not None
    }
    return "–".join(str(count) for count in sorted(counts)[:: max(1, len(counts) - 1)]) if counts else "–"


# ---------------------------------------------------------------------- published figures
def beside_the_paper(study: Study) -> Section:
    """The six figures that the paper's abstract reports, and what they are here."""
    rows: list[list[Cell | str]] = []
    records: list[dict[str, Any]] = []
    for entry in PUBLISHED:
        matches = [group for group in study.groups if entry.applies(group.kind, group.dataset, group.trained_on)]
        matches = [group for group in matches if study.headline(group, entry.figure) is not None]
        first = [
            titled(entry.display, entry.unit),
            *(_published_cell(entry, side, entry.unit) for side in ("ours", "baseline")),
        ]
        for group in matches:
            headline = study.headline(group, entry.figure)
            assert headline is not None
            cells = study.row(group, headline, study.order, group.full)
            if all(cell.muted for cell in cells):
                continue
            rows.append([*first, study.task_name(group.task), _here(headline), *cells])
            records += _beside_records(study, group, headline, entry)
            first = ["", "", ""]
        if first[0]:
            rows.append([*first, "–", "–", *(Cell("no results", muted=True) for _ in study.order)])
    arms = [study.arm_name(arm) for arm in study.order]
    table = Table(
        "published",
        "Published figures beside those of this benchmark, with 95% intervals.",
        ["Figure", "Published: CineMA", "Published: CNN", "Task here", "Unit here", *arms],
        rows,
        left=1,
        notes=[
            f"Published: {SOURCE}. The abstract does not say which datasets a figure was measured on, so every "
            "task that could be meant is listed."
        ],
    )
    return Section("published", "Beside the published figures", [table], records)


def _here(headline: Headline) -> str:
    return headline.unit or "share"


def scaled(values: Iterable[float], unit: str, entry: Published) -> tuple[float, ...]:
    """Published values in the unit of ours: 60.06% is 0.6006 where ours is a share."""
    factor = 0.01 if entry.unit == "%" and not unit else 1.0
    return tuple(float(f"{value * factor:.6g}") for value in values)


def _published_cell(entry: Published, side: str, unit: str) -> str:
    value, low, high = scaled(getattr(entry, side), unit, entry)
    return interval(value, low, high, unit)


def _beside_records(study: Study, group: Group, headline: Headline, entry: Published) -> list[dict[str, Any]]:
    ours, cnn = (scaled(values, headline.unit, entry) for values in (entry.ours, entry.baseline))
    return [
        study.record(group, headline, arm, group.full)
        | {name: getattr(found, name) for name in ("value", "low", "high")}
        | dict(zip(("published_cinema", "published_cinema_low", "published_cinema_high"), ours, strict=True))
        | dict(zip(("published_cnn", "published_cnn_low", "published_cnn_high"), cnn, strict=True))
        for arm in study.order
        if (found := study.figure(group, headline.name, arm, group.full)) is not None
    ]


# ---------------------------------------------------------------------- each task in full
def each_task(study: Study) -> Section:
    """All headline figures of each task and dataset, and the paired differences."""
    section = Section("tasks", "Each task in full", [Paragraph(_HOW_TO_READ)])
    for group in study.groups:
        key = slug(group)
        part = Section(f"task-{key}", study.title(group), [_figures(study, group, key)])
        if differences := _differences(study, group, key):
            part.blocks.append(differences)
        elif len(study.arms_of(group)) > 1:
            part.blocks.append(Paragraph(f"No baseline has results to compare {study.arm_name(study.ours)} with."))
        section.parts.append(part)
    return section


_HOW_TO_READ = (
    "Values are means over seeds with 95% bootstrap intervals over subjects. An arrow says which way is better; "
    "the best value is bold. Differences are ours less the baseline's, on the cases that both have a value for; p "
    "is Wilcoxon's signed-rank test over subjects for means over cases, else the bootstrap's, corrected by Holm "
    "over all comparisons of this report."
)


def slug(group: Group) -> str:
    """A group as part of a file's name."""
    text = f"{group.task}-{group.dataset}"
    return "".join(letter if letter.isalnum() or letter in "._-" else "_" for letter in text)


def _figures(study: Study, group: Group, key: str) -> Table:
    arms = study.arms_of(group)
    entries = {
        headline.name: published(headline.name, group.kind, group.dataset, group.trained_on)
        for headline in group.headlines
    }
    with_paper = any(entries.values())
    rows: list[list[Cell | str]] = []
    for headline in group.headlines:
        cells = study.row(group, headline, arms, group.full)
        if all(cell.muted and cell.text == "–" for cell in cells):
            continue
        row: list[Cell | str] = [_title(headline), *cells, _counts(study, group, headline, arms)]
        if with_paper:
            entry = entries[headline.name]
            row += (
                [NOTHING, NOTHING]
                if entry is None
                else [_published_cell(entry, side, headline.unit) for side in ("ours", "baseline")]
            )
        rows.append(row)
    header = ["Figure", *(study.arm_name(arm) for arm in arms), "Subjects (cases)"]
    header += ["Published: CineMA", "Published: CNN"] if with_paper else []
    caption = f"{study.title(group)}, {group.full:g}% of the labels."
    return Table(f"figures-{key}", caption, header, rows, notes=_missing_notes(study, group, arms))


def _title(headline: Headline) -> str:
    return f"{titled(headline.display, headline.unit)} {arrow(headline.higher_is_better)}"


def _counts(study: Study, group: Group, headline: Headline, arms: list[str]) -> str:
    found = [entry for arm in arms if (entry := study.figure(group, headline.name, arm, group.full)) is not None]
    people = sorted({entry.n_subjects for entry in found})
    cases = sorted({entry.n_cases - entry.n_missing for entry in found})
    if not found:
        return "–"
    return f"{_span(people)} ({_span(cases)})"


def _span(numbers: list[int]) -> str:
    return str(numbers[0]) if len(numbers) == 1 else f"{numbers[0]}–{numbers[-1]}"


def _missing_notes(study: Study, group: Group, arms: list[str]) -> list[str]:
    """Where cases have no value, since leaving out failures flatters."""
    parts = []
    for headline in group.headlines:
        counts = {
            study.arm_name(arm): entry.n_missing
            for arm in arms
            if (entry := study.figure(group, headline.name, arm, group.full)) is not None and entry.n_missing
        }
        if counts:
            parts.append(f"{headline.display} {listed([f'{count} ({arm})' for arm, count in counts.items()])}")
    return [f"Cases without a value: {'; '.join(parts)}."] if parts else []


def _differences(study: Study, group: Group, key: str) -> Table | None:
    baselines = [arm for arm in study.arms_of(group) if arm != study.ours]
    rows: list[list[Cell | str]] = []
    for headline in group.headlines:
        cells = [_difference_cell(study, group, headline, arm) for arm in baselines]
        if not all(cell.muted for cell in cells):
            rows.append([_title(headline), *cells])
    if not rows:
        return None
    ours = study.arm_name(study.ours)
    header = ["Figure", *(f"{ours} − {study.arm_name(arm)}" for arm in baselines)]
    caption = f"{study.title(group)}: paired differences. Bold: corrected p below 0.05 in favour of {ours}."
    return Table(f"differences-{key}", caption, header, rows)


def _difference_cell(study: Study, group: Group, headline: Headline, arm: str) -> Cell:
    key = (group.task, group.dataset, headline.name, arm, group.full)
    found = study.differences.get(key)
    if found is None:
        return (
            MISSING
            if study.seeds_wanted(group.task, arm, group.full) and (arm, group.full) not in group.arms
            else NOTHING
        )
    if found.value != found.value:
        return NOTHING
    better = found.value > 0 if headline.higher_is_better else found.value < 0
    text = interval(found.value, found.low, found.high, headline.unit, sign=True)
    p, corrected = p_value(found.p), p_value(study.corrected[key])
    small = f"p {p}, Holm {corrected}; n {found.n_subjects}" if p != "–" else f"n {found.n_subjects}"
    return Cell(text, bold=better and study.corrected[key] < 0.05, small=small)


# ---------------------------------------------------------------------- records of the CSVs
def figure_records(study: Study) -> list[dict[str, Any]]:
    """One row per task, dataset, figure, arm and label fraction."""
    rows = []
    for group in study.groups:
        for place, headline in enumerate(group.headlines):
            for arm, fraction in group.arms:
                found = study.figure(group, headline.name, arm, fraction)
                if found is not None:
                    record = study.record(group, headline, arm, fraction) | {"primary": place == 0}
                    rows.append(record | asdict(found))
    return rows


def difference_records(study: Study) -> list[dict[str, Any]]:
    """One row per comparison."""
    rows = []
    for group in study.groups:
        for headline in group.headlines:
            for arm, fraction in group.arms:
                key = (group.task, group.dataset, headline.name, arm, fraction)
                if (found := study.differences.get(key)) is not None:
                    record = study.record(group, headline, study.ours, fraction) | {"baseline": arm}
                    rows.append(
                        record | asdict(found) | {"test": found.test, "p": found.p, "p_holm": study.corrected[key]}
                    )
    return rows
