"""Fairness: every headline figure by sex, age band, BMI band, vendor, centre and what else has groups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cinema_lightning.benchmark.report.blocks import (
    NOTHING,
    Block,
    Cell,
    Paragraph,
    Section,
    Table,
    interval,
    listed,
    p_value,
    tidy,
    titled,
)
from cinema_lightning.benchmark.report.estimate import PER_CASE, Sample, align
from cinema_lightning.benchmark.report.gather import Group, samples
from cinema_lightning.benchmark.report.study import Study
from cinema_lightning.benchmark.report.tasks import slug
from cinema_lightning.columns import factors
from cinema_lightning.metrics.bootstrap import holm
from cinema_lightning.metrics.subgroups import SMALL_GROUP, Subgroups, band, subgroups
from cinema_lightning.metrics.weighted import Statistic, column, mean
from cinema_lightning.results.headline import Headline

if TYPE_CHECKING:
    import pandas as pd

MOST_DRAWS = 500
"""Draws and permutations of each figure by each factor, of which there are thousands."""


@dataclass(frozen=True)
class _Key:
    """Where one figure by one factor belongs."""

    figure: str
    factor: str
    arm: str


def fairness(study: Study) -> Section:
    """Figures by group, gaps with intervals and permutation p, and warnings about small groups."""
    section = Section("fairness", "Fairness")
    found: dict[str, dict[_Key, Subgroups]] = {}
    for group in study.groups:
        found[slug(group)] = _by_factor(study, group)
    tests = [(name, key) for name, entries in found.items() for key, entry in entries.items() if entry.gap is not None]
    corrected = dict(zip(tests, holm([found[name][key].p for name, key in tests]).tolist(), strict=True))
    for group in study.groups:
        entries = found[slug(group)]
        if not entries:
            continue
        mine = {key: corrected.get((slug(group), key), float("nan")) for key in entries}
        blocks = _blocks(study, group, entries, mine)
        section.parts.append(Section(f"fairness-{slug(group)}", study.title(group), blocks))
        section.records += _records(study, group, entries, mine)
    if not section.parts:
        section.blocks.append(
            Paragraph(
                f"No table of cases has two groups of subjects by {listed([each.display for each in factors()])}."
            )
        )
    else:
        section.blocks.append(Paragraph(_TEXT))
    return section


_TEXT = (
    "Figures by group with all labels, with 95% intervals. A gap is the largest less the smallest group's figure; "
    "its p is a permutation test, which allows for the choice of the two extreme groups, and is corrected by Holm "
    "over all gaps of this section (bold: below 0.05). Gaps are differences between groups, not evidence of their "
    "cause."
)


# ---------------------------------------------------------------------- figures
def _by_factor(study: Study, group: Group) -> dict[_Key, Subgroups]:
    fields = group.fields()
    names = {factor.name: _group_names(fields[factor.name], factor.bands or ()) for factor in factors()}
    usable = {factor: values for factor, values in names.items() if len(set(values.values()) - {""}) > 1}
    out: dict[_Key, Subgroups] = {}
    if not usable:
        return out
    for headline in group.headlines:
        for arm in study.arms_with(group, group.full):
            parts = samples(headline, arm, group.facts)
            if not parts:
                continue
            statistic, columns, sample = averaged(headline.statistic, parts)
            if not len(sample.keys):
                continue
            for factor, values in usable.items():
                of_case = np.array([values.get(key.split("|", 1)[0], "") for key in sample.keys.tolist()])
                if len(set(of_case.tolist()) - {""}) > 1:
                    out[_Key(headline.name, factor, arm.name)] = subgroups(
                        statistic,
                        *columns,
                        groups=of_case,
                        subjects=sample.subjects,
                        draws=min(study.estimator.draws, MOST_DRAWS),
                        seed=study.estimator.seed,
                    )
    return out


def _group_names(cells: pd.Series, bands: Sequence[float]) -> dict[str, str]:
    """Study -> group."""
    import pandas as pd

    if bands:
        values = band(pd.to_numeric(cells, errors="coerce").to_numpy(dtype=np.float64), bands).tolist()
    else:
        values = ["" if cell is None or cell != cell else str(cell).strip() for cell in cells]
    return dict(zip(cells.index.astype(str), values, strict=True))


def averaged(statistic: Statistic, parts: list[Sample]) -> tuple[Statistic, tuple[np.ndarray, ...], Sample]:
    """A statistic that averages over seeds, its columns, and the cases that all seeds have a value for."""
    aligned = align(parts)
    per_case = PER_CASE.get(statistic)
    if per_case is not None:
        values = (
            np.mean([per_case(*sample.columns) for sample in aligned], axis=0) if len(aligned[0].keys) else column([])
        )
        return mean, (values,), aligned[0]
    count = len(aligned[0].columns)
    columns = tuple(part for sample in aligned for part in sample.columns)

    def over_seeds(*given: Any, weights: Any = None) -> Any:
        blocks = [given[start : start + count] for start in range(0, len(given), count)]
        return np.mean([statistic(*block, weights=weights) for block in blocks], axis=0)

    return over_seeds, columns, aligned[0]


# ---------------------------------------------------------------------- blocks
def _blocks(study: Study, group: Group, found: dict[_Key, Subgroups], corrected: Mapping[_Key, float]) -> list[Block]:
    arms = [arm.name for arm in study.arms_with(group, group.full)]
    primary = group.headlines[0]
    blocks: list[Block] = []
    if any(key.figure == primary.name for key in found):
        blocks.append(_groups_table(study, group, primary, arms, found, corrected))
    blocks.append(_gaps_table(study, group, arms, found, corrected))
    return blocks


def _groups_table(
    study: Study,
    group: Group,
    headline: Headline,
    arms: list[str],
    found: dict[_Key, Subgroups],
    corrected: Mapping[_Key, float],
) -> Table:
    rows: list[list[Cell | str]] = []
    notes: list[str] = []
    for factor in factors():
        entries = {arm: found[key] for arm in arms if (key := _Key(headline.name, factor.name, arm)) in found}
        if not entries:
            continue
        rows.append([Cell(factor.title, bold=True)])
        for name in dict.fromkeys(name for entry in entries.values() for name in entry.groups):
            figures = [entries[arm].groups.get(name) if arm in entries else None for arm in arms]
            counts = sorted({figure.n_subjects for figure in figures if figure is not None})
            cells = [
                NOTHING if figure is None else Cell(interval(figure.value, figure.low, figure.high, headline.unit))
                for figure in figures
            ]
            rows.append(
                [
                    f"{name} †" if counts and counts[0] < SMALL_GROUP else name,
                    "–".join(map(str, counts[:: max(1, len(counts) - 1)])),
                    *cells,
                ]
            )
        tests = {arm: corrected.get(_Key(headline.name, factor.name, arm)) for arm in arms}
        rows.append(["gap", "", *(_gap(entries.get(arm), tests[arm], headline) for arm in arms)])
        notes += _notes(factor.title, entries)
    caption = f"{study.title(group)}: {titled(headline.display, headline.unit)} by group."
    header = ["Group", "Subjects", *map(study.arm_name, arms)]
    if any(isinstance(row[0], str) and row[0].endswith("†") for row in rows):
        notes.insert(
            0, f"† Fewer than {SMALL_GROUP} subjects: the figure of this group, and a gap with it, says little."
        )
    return Table(f"fairness-groups-{slug(group)}", caption, header, rows, notes=notes)


def _notes(title: str, entries: Mapping[str, Subgroups]) -> list[str]:
    entry = next(iter(entries.values()))
    undefined = [name for name, figure in entry.groups.items() if not np.isfinite(figure.value)]
    notes = [f"{title}: no case of {listed(undefined)} has a value."] if undefined else []
    if entry.n_unknown:
        notes.append(f"{title}: not known for {entry.n_unknown} cases, which are in no group.")
    return notes


def _gap(entry: Subgroups | None, corrected: float | None, headline: Headline) -> Cell:
    if entry is None or entry.gap is None or entry.gap_between is None:
        return NOTHING
    known = corrected is not None and corrected == corrected
    text = interval(entry.gap.value, entry.gap.low, entry.gap.high, headline.unit)
    small = f"{' − '.join(entry.gap_between)}; p {p_value(entry.p)}" + (
        f", Holm {p_value(corrected or 0)}" if known else ""
    )
    return Cell(text, bold=bool(known and corrected is not None and corrected < 0.05), small=small)


def _gaps_table(
    study: Study, group: Group, arms: list[str], found: dict[_Key, Subgroups], corrected: Mapping[_Key, float]
) -> Table:
    rows: list[list[Cell | str]] = []
    for headline in group.headlines:
        keys = [key for key in found if key.figure == headline.name]
        if not keys:
            continue
        rows.append([Cell(titled(headline.display, headline.unit), bold=True)])
        for factor in factors():
            keys = [_Key(headline.name, factor.name, arm) for arm in arms]
            cells = [_gap(found.get(key), corrected.get(key), headline) for key in keys]
            if not all(cell.muted for cell in cells):
                rows.append([factor.title, *cells])
    caption = f"{study.title(group)}: gaps of all headline figures."
    return Table(f"fairness-gaps-{slug(group)}", caption, ["Gap between groups of", *map(study.arm_name, arms)], rows)


def _records(
    study: Study, group: Group, found: dict[_Key, Subgroups], corrected: Mapping[_Key, float]
) -> list[dict[str, Any]]:
    rows = []
    for key, entry in found.items():
        headline = study.headline(group, key.figure)
        assert headline is not None
        first = study.record(group, headline, key.arm, group.full) | {"factor": key.factor}
        for row in entry.rows():
            is_gap = "p" in row
            numbers = {name: tidy(row[name]) for name in ("value", "low", "high")}
            record = {
                "group": row["group"],
                "is_gap": is_gap,
                **numbers,
                "n": row["n"],
                "n_subjects": row["n_subjects"],
            }
            tests = {"p": tidy(entry.p), "p_holm": tidy(corrected[key])} if is_gap else {"p": None, "p_holm": None}
            warning = "" if is_gap else next((text for text in entry.warnings if f"'{row['group']}'" in text), "")
            rows.append(first | record | tests | {"n_unknown": entry.n_unknown, "warning": warning})
    return rows
