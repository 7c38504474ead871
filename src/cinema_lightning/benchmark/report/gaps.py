"""What is missing, what failed, and what a reader should be warned of."""

from __future__ import annotations

import math
from typing import Any

from cinema_lightning.benchmark.report.blocks import Block, Cell, Paragraph, Section, Table
from cinema_lightning.benchmark.report.index import CellKey
from cinema_lightning.benchmark.report.study import Study

_STATES = {
    "failed": "failed",
    "stopped": "stopped; the next run goes on with it",
    "running": "started, not finished",
    "done": "done",
}


def cell_records(study: Study) -> list[dict[str, Any]]:
    """Every cell that the matrix asks for or that left a trace: state, datasets tested on, reason."""
    index = study.index
    keys = dict.fromkeys([*index.expected, *sorted({*index.records, *index.tested})])
    tested: dict[CellKey, list[str]] = {}
    for entry in index.entries:
        tested.setdefault(entry.key, []).append(entry.dataset)
    return [
        {
            "task": key.task,
            "arm": key.arm,
            "fraction": key.fraction,
            "seed": key.seed,
            "state": _state(study, key),
            "tested_on": " ".join(tested.get(key, [])),
            "reason": str(index.records.get(key, {}).get("reason") or ""),
        }
        for key in keys
    ]


def _state(study: Study, key: CellKey) -> str:
    record = study.index.records.get(key)
    if record is not None:
        return str(record.get("state") or "running")
    return (
        "external"
        if any(e.external and e.key == key for e in study.index.entries)
        else ("done" if key in study.index.tested else "missing")
    )


def gaps(study: Study) -> Section:
    """Counts of cells by state, tables of those that are missing or failed, and warnings."""
    section = Section("gaps", "Missing, failed, and warnings", records=cell_records(study))
    rows = section.records
    counts: dict[str, int] = {}
    for row in rows:
        counts[row["state"]] = counts.get(row["state"], 0) + 1
    known = (
        ""
        if study.index.expected
        else " The full list of cells is not known (no matrix was given), so cells that never started are not counted."
    )
    parts = ", ".join(f"{count} {state}" for state, count in counts.items())
    blocks: list[Block] = [Paragraph(f"{len(rows)} cells: {parts}.{known}")]
    blocks += _missing_table(study, rows)
    blocks += _unfinished_table(study, rows)
    warnings = [*study.index.warnings, *study.warnings, *_small_draws(study)]
    blocks += [Paragraph(text, warning=True) for text in dict.fromkeys(warnings)]
    if len(blocks) == 1 and not warnings:
        blocks.append(Paragraph("Nothing is missing and nothing failed."))
    section.blocks = blocks
    return section


def _missing_table(study: Study, rows: list[dict[str, Any]]) -> list[Table]:
    """Missing cells, one row per task and arm, since they come in crowds."""
    places: dict[tuple[str, str], dict[float, list[int]]] = {}
    for row in rows:
        if row["state"] == "missing":
            places.setdefault((row["task"], row["arm"]), {}).setdefault(row["fraction"], []).append(row["seed"])
    lines: list[list[Cell | str]] = [
        [
            study.task_name(task),
            study.arm_name(arm),
            _crowd(fractions),
        ]
        for (task, arm), fractions in places.items()
    ]
    header = ["Task", "Arm", "Labels and seeds"]
    return [Table("missing", "Cells that never ran.", header, lines, left=3)] if lines else []


def _crowd(fractions: dict[float, list[int]]) -> str:
    """``100%, 50%: seeds 0, 1; 25%: seed 1``."""
    alike: dict[tuple[int, ...], list[str]] = {}
    for fraction, seeds in fractions.items():
        alike.setdefault(tuple(seeds), []).append(f"{fraction:g}%")
    return "; ".join(
        f"{', '.join(some)}: seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"
        for seeds, some in alike.items()
    )


def _unfinished_table(study: Study, rows: list[dict[str, Any]]) -> list[Table]:
    lines: list[list[Cell | str]] = [
        [
            study.task_name(row["task"]),
            study.arm_name(row["arm"]),
            f"{row['fraction']:g}%",
            str(row["seed"]),
            _STATES.get(row["state"], row["state"]),
            row["reason"] or "–",
            row["tested_on"] or "nothing",
        ]
        for row in rows
        if row["state"] not in ("done", "external", "missing")
    ]
    header = ["Task", "Arm", "Labels", "Seed", "State", "Reason", "Results for"]
    return [Table("unfinished", "Cells that failed or have not finished.", header, lines, left=7)] if lines else []


def _small_draws(study: Study) -> list[str]:
    """Says so where the bootstrap has too few draws for any difference to stand out."""
    tests = [difference for difference in study.differences.values() if difference.test == "bootstrap"]
    total = sum(math.isfinite(difference.p) for difference in study.differences.values())
    smallest = 2 / (study.estimator.draws * 10 + 1)
    if not tests or smallest * total < 0.05:
        return []
    return [
        f"With {total} comparisons and {study.estimator.draws} draws, a p from the bootstrap cannot fall below "
        f"{smallest:.2g}, which is too large to stand out after Holm's correction: take at least "
        f"--draws {math.ceil(total * 4 / 1000) * 1000}."
    ]
