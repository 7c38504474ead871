"""What the benchmark cost: time, device, memory, speed and energy, from each cell's record."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pandas as pd

from cinema_lightning.benchmark.report.index import CellKey
from cinema_lightning.benchmark.report.study import BenchmarkStudy
from cinema_lightning.benchmark.report.table import ReportCell, ReportColumn, Row, Section, Table, count, decimal, tidy

JOULES_PER_KWH = 3.6e6
GIB = 2**30


def cost_record(key: CellKey, record: dict[str, Any]) -> dict[str, Any]:
    """One cell's cost as a row; NaN where the platform did not tell.

    Args:
        key: The cell.
        record: Content of its ``cell.json``: ``state``, ``device``, ``devices`` (GPUs), ``samples_per_s``,
            ``attempts``, and ``steps``, each with ``seconds``, ``max_rss_bytes``, ``gpu_memory_bytes``,
            ``gpu_joules``, ``cpu_joules``.

    Returns:
        The row.
    """
    steps = [step for step in (record.get("steps") or {}).values() if isinstance(step, dict)]
    seconds = sum(_number(step.get("seconds"), 0.0) for step in steps)
    gpus = int(_number(record.get("devices"), 0))
    hours = seconds / 3600
    return {
        "task": key.task,
        "arm": key.arm,
        "fraction": key.fraction,
        "seed": key.seed,
        "state": str(record.get("state", "")),
        "device": str(record.get("device", "")),
        "gpus": gpus,
        "attempts": int(_number(record.get("attempts"), 0)),
        "wall_hours": tidy(hours),
        "gpu_hours": tidy(hours * gpus),
        "cpu_hours": 0.0 if gpus else tidy(hours),
        "samples_per_s": tidy(_number(record.get("samples_per_s"), math.nan)),
        "peak_gpu_gib": tidy(_largest(steps, "gpu_memory_bytes") / GIB),
        "peak_memory_gib": tidy(_largest(steps, "max_rss_bytes") / GIB),
        "gpu_kwh": tidy(_sum(steps, "gpu_joules") / JOULES_PER_KWH),
        "cpu_kwh": tidy(_sum(steps, "cpu_joules") / JOULES_PER_KWH),
    }


def _number(value: Any, otherwise: float) -> float:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else otherwise


def _known(steps: list[dict[str, Any]], name: str) -> list[float]:
    return [value for step in steps if math.isfinite(value := _number(step.get(name), math.nan))]


def _sum(steps: list[dict[str, Any]], name: str) -> float:
    known = _known(steps, name)
    return sum(known) if known else math.nan


def _largest(steps: list[dict[str, Any]], name: str) -> float:
    return max(_known(steps, name), default=math.nan)


def cost(study: BenchmarkStudy) -> Section:
    """Sums per task and arm, and the total of GPU hours (CPU hours apart)."""
    records = [cost_record(key, record) for key, record in sorted(study.index.records.items())]
    section = Section("cost", "Cost", "No cell has a record of what it cost.")
    if not records:
        return section
    data = pd.DataFrame(records)
    order = {arm: place for place, arm in enumerate(study.order)}
    tasks = list(dict.fromkeys([*(key.task for key in study.index.expected), *data["task"]]))
    ranks = {"task": lambda names: names.map(tasks.index), "arm": lambda names: names.map(order).fillna(len(order))}
    ordered = data.sort_values(["task", "arm"], key=lambda names: ranks[str(names.name)](names), kind="stable")
    rows = [
        {"task_name": study.task_name(str(task)), "arm_name": study.arm_name(str(arm))} | _sums(some)
        for (task, arm), some in ordered.groupby(["task", "arm"], sort=False)
    ]
    rows.append({"task_name": "Total", "arm_name": ""} | _sums(data))
    devices = "; ".join(
        f"{name or 'not known'} ({count} cells)" for name, count in data["device"].value_counts(sort=False).items()
    )
    notes = [f"Devices: {devices}."]
    notes.append("Samples/s is the median over cells; energy is GPU and CPU packages, where the platform tells it.")
    caption = "Wall time and resources of the cells, all attempts."
    table = Table("cost", caption, pd.DataFrame(rows), _COLUMNS, notes=notes)
    gpu, cpu = (hours(float(data[name].sum())) for name in ("gpu_hours", "cpu_hours"))
    text = f"{len(data)} cells took {gpu} GPU hours, and {cpu} hours of cells without a GPU."
    return replace(section, text=text, tables=[table], data=data)


def hours(value: float) -> str:
    """Hours with enough digits for short ones."""
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}" if value >= 0.1 or value == 0 else f"{value:.4f}"


def _hours(row: Row, name: str) -> ReportCell:
    return ReportCell(hours(row[name]), row[name])


def _sums(rows: pd.DataFrame) -> dict[str, float]:
    return {
        "cells": len(rows),
        "gpu_hours": rows["gpu_hours"].sum(),
        "cpu_hours": rows["cpu_hours"].sum(),
        "samples_per_s": rows["samples_per_s"].median(),
        "peak_gpu_gib": rows["peak_gpu_gib"].max(),
        "peak_memory_gib": rows["peak_memory_gib"].max(),
        "kwh": rows[["gpu_kwh", "cpu_kwh"]].sum(min_count=1).sum(min_count=1),
    }


_COLUMNS = (
    ReportColumn("task_name", "Task"),
    ReportColumn("arm_name", "Arm"),
    ReportColumn("cells", "Cells", count),
    ReportColumn("gpu_hours", "GPU hours", _hours),
    ReportColumn("cpu_hours", "CPU-only hours", _hours),
    ReportColumn("samples_per_s", "Samples/s", decimal(1)),
    ReportColumn("peak_gpu_gib", "Peak GPU, GiB", decimal(1)),
    ReportColumn("peak_memory_gib", "Peak memory, GiB", decimal(1)),
    ReportColumn("kwh", "Energy, kWh", decimal(3)),
)
