"""What the benchmark cost: time, device, memory, speed and energy, from each cell's record."""

from __future__ import annotations

import math
from typing import Any

from cinema_lightning.benchmark.report.blocks import Cell, Paragraph, Section, Table
from cinema_lightning.benchmark.report.index import CellKey
from cinema_lightning.benchmark.report.study import Study

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
        "wall_hours": _tidy(hours),
        "gpu_hours": _tidy(hours * gpus),
        "cpu_hours": 0.0 if gpus else _tidy(hours),
        "samples_per_s": _tidy(_number(record.get("samples_per_s"), math.nan)),
        "peak_gpu_gib": _tidy(_largest(steps, "gpu_memory_bytes") / GIB),
        "peak_memory_gib": _tidy(_largest(steps, "max_rss_bytes") / GIB),
        "gpu_kwh": _tidy(_sum(steps, "gpu_joules") / JOULES_PER_KWH),
        "cpu_kwh": _tidy(_sum(steps, "cpu_joules") / JOULES_PER_KWH),
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


def _tidy(value: float) -> float:
    return float(f"{value:.6g}")


def cost(study: Study) -> Section:
    """Sums per task and arm, and the total of GPU hours (CPU hours apart)."""
    section = Section("cost", "Cost")
    section.records = [cost_record(key, record) for key, record in sorted(study.index.records.items())]
    if not section.records:
        section.blocks.append(Paragraph("No cell has a record of what it cost."))
        return section
    rows: list[list[Cell | str]] = []
    parts: dict[tuple[str, str], list[dict[str, Any]]] = {}
    tasks = list(dict.fromkeys([*(k.task for k in study.index.expected), *(row["task"] for row in section.records)]))
    places = {arm: place for place, arm in enumerate(study.order)}
    for row in sorted(section.records, key=lambda r: (tasks.index(r["task"]), places.get(r["arm"], len(places)))):
        parts.setdefault((row["task"], row["arm"]), []).append(row)
    for (task, arm), some in parts.items():
        rows.append([study.task_name(task), study.arm_name(arm), *_row(some)])
    rows.append(
        [
            Cell("Total", bold=True),
            "",
            *(Cell(text, bold=True) if text != "–" else text for text in _row(section.records)),
        ]
    )
    header = [
        "Task",
        "Arm",
        "Cells",
        "GPU hours",
        "CPU-only hours",
        "Samples/s",
        "Peak GPU, GiB",
        "Peak memory, GiB",
        "Energy, kWh",
    ]
    notes = [f"Devices: {'; '.join(_devices(section.records))}."]
    notes.append("Samples/s is the median over cells; energy is GPU and CPU packages, where the platform tells it.")
    section.blocks = [
        Paragraph(_total(section.records)),
        Table("cost", "Wall time and resources of the cells, all attempts.", header, rows, left=2, notes=notes),
    ]
    return section


def _total(rows: list[dict[str, Any]]) -> str:
    gpu, cpu = (sum(row[name] for row in rows) for name in ("gpu_hours", "cpu_hours"))
    return f"{len(rows)} cells took {hours(gpu)} GPU hours, and {hours(cpu)} hours of cells without a GPU."


def hours(value: float) -> str:
    """Hours with enough digits for short ones."""
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}" if value >= 0.1 or value == 0 else f"{value:.4f}"


def _row(rows: list[dict[str, Any]]) -> list[str]:
    speed = sorted(row["samples_per_s"] for row in rows if math.isfinite(row["samples_per_s"]))
    middle = (speed[(len(speed) - 1) // 2] + speed[len(speed) // 2]) / 2 if speed else math.nan
    energy = [row[name] for row in rows for name in ("gpu_kwh", "cpu_kwh") if math.isfinite(row[name])]
    return [
        str(len(rows)),
        hours(sum(row["gpu_hours"] for row in rows)),
        hours(sum(row["cpu_hours"] for row in rows)),
        f"{middle:.1f}" if speed else "–",
        _peak(rows, "peak_gpu_gib"),
        _peak(rows, "peak_memory_gib"),
        f"{sum(energy):.3g}" if energy else "–",
    ]


def _peak(rows: list[dict[str, Any]], name: str) -> str:
    known = [row[name] for row in rows if math.isfinite(row[name])]
    return f"{max(known):.1f}" if known else "–"


def _devices(rows: list[dict[str, Any]]) -> list[str]:
    counts: dict[str, int] = {}
    for row in rows:
        name = row["device"] or "not known"
        counts[name] = counts.get(name, 0) + 1
    return [f"{name} ({count} cells)" for name, count in counts.items()]
