"""What is missing, what failed, and what a reader should be warned of."""

from __future__ import annotations

from typing import Any

import pandas as pd

from cinema_lightning.benchmark.report.index import CellKey
from cinema_lightning.benchmark.report.study import BenchmarkStudy
from cinema_lightning.benchmark.report.table import ReportColumn, Section, Table, counted

_STATES = {
    "failed": "failed",
    "stopped": "stopped; the next run goes on with it",
    "running": "started, not finished",
    "done": "done",
}


def cell_records(study: BenchmarkStudy) -> list[dict[str, Any]]:
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


def _state(study: BenchmarkStudy, key: CellKey) -> str:
    record = study.index.records.get(key)
    if record is not None:
        return str(record.get("state") or "running")
    return (
        "external"
        if any(e.external and e.key == key for e in study.index.entries)
        else ("done" if key in study.index.tested else "missing")
    )


def gaps(study: BenchmarkStudy) -> Section:
    """Counts of cells by state, tables of those that are missing or failed, and warnings."""
    rows = cell_records(study)
    counts = pd.Series([row["state"] for row in rows], dtype=object).value_counts(sort=False)
    parts = ", ".join(f"{count} {state}" for state, count in counts.items())
    text = f"{counted(len(rows), 'cell')}: {parts}."
    if not study.index.expected:
        text += " The full list of cells is not known (no matrix was given): cells that never started are not counted."
    tables = [*_missing_table(study, rows), *_unfinished_table(study, rows)]
    warnings = list(dict.fromkeys([*study.index.warnings, *study.warnings]))
    if not tables and not warnings:
        text += " Nothing is missing and nothing failed."
    data = pd.DataFrame(rows)
    return Section("gaps", "Missing, failed, and warnings", text, text, tables=tables, warnings=warnings, data=data)


def _missing_table(study: BenchmarkStudy, rows: list[dict[str, Any]]) -> list[Table]:
    """Missing cells, one row per task and arm, since they come in crowds."""
    places: dict[tuple[str, str], dict[float, list[int]]] = {}
    for row in rows:
        if row["state"] == "missing":
            places.setdefault((row["task"], row["arm"]), {}).setdefault(row["fraction"], []).append(row["seed"])
    lines = [
        {"task": study.task_name(task), "arm": study.arm_name(arm), "which": _crowd(fractions)}
        for (task, arm), fractions in places.items()
    ]
    columns = [ReportColumn("task", "Task"), ReportColumn("arm", "Arm"), ReportColumn("which", "Labels and seeds")]
    return [Table("missing", "Cells that never ran.", pd.DataFrame(lines), columns)] if lines else []


def _crowd(fractions: dict[float, list[int]]) -> str:
    """``100%, 50%: seeds 0, 1; 25%: seed 1``."""
    alike: dict[tuple[int, ...], list[str]] = {}
    for fraction, seeds in fractions.items():
        alike.setdefault(tuple(seeds), []).append(f"{fraction:g}%")
    return "; ".join(
        f"{', '.join(some)}: seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"
        for seeds, some in alike.items()
    )


def _unfinished_table(study: BenchmarkStudy, rows: list[dict[str, Any]]) -> list[Table]:
    lines = [
        row
        | {
            "task": study.task_name(row["task"]),
            "arm": study.arm_name(row["arm"]),
            "labels": f"{row['fraction']:g}%",
            "state": _STATES.get(row["state"], row["state"]),
            "tested_on": row["tested_on"] or "nothing",
        }
        for row in rows
        if row["state"] not in ("done", "external", "missing")
    ]
    titles = {"task": "Task", "arm": "Arm", "labels": "Labels", "seed": "Seed", "state": "State", "reason": "Reason"}
    columns = [ReportColumn(name, title) for name, title in (titles | {"tested_on": "Results for"}).items()]
    caption = "Cells that failed or have not finished."
    return [Table("unfinished", caption, pd.DataFrame(lines), columns)] if lines else []
