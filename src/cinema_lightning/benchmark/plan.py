"""``cinema benchmark plan``: every cell and its state."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from cinema_lightning.benchmark.estimate import estimate as estimate_rest
from cinema_lightning.benchmark.matrix import percent, read_matrix, select
from cinema_lightning.benchmark.state import STATES, CellState, survey
from cinema_lightning.files import replacing

DEFAULT = "benchmark.yaml"
COLUMNS = (
    *("index", "cell", "task", "kind", "arm", "fraction", "seed", "state", "detail", "job", "log", "attempts"),
    *("seconds", "device", "devices", "gpu_hours", "max_rss_bytes", "gpu_memory_bytes", "gpu_joules", "cpu_joules"),
    *("samples_per_s",),
)


def plan(config: str = DEFAULT, root: Path | None = None, select: str | None = None, estimate: bool = False) -> int:
    """Lists the cells of a benchmark with their states, and writes them into plan.csv beside the results.

    States: missing; queued (SLURM job); running (host, since when); stopped (resumable); failed (reason, log); done.

    Args:
        config: The benchmark's YAML, by path or packaged name.
        root: Folder of the results, in place of the YAML's own.
        select: Cells to list, such as task=*_seg,arm=cinema,unet,fraction=100,seed=0.
        estimate: Predict the time of what is left from the cells that are done.

    Returns:
        0.

    Raises:
        CinemaError: If the YAML or the filter is malformed.
    """
    matrix = read_matrix(config, root)
    chosen = _select(matrix.cells, select)
    everything = survey(matrix.cells, range(len(matrix.cells)), matrix.root)
    states = [everything[index] for index in chosen]
    print(table(states))
    print(counts(states))
    if estimate:
        print("\n".join(estimate_rest(states, everything).lines()))
    write_csv(matrix.root / "plan.csv", everything)
    print(f"All {len(everything)} cells as a table: {matrix.root / 'plan.csv'}.")
    return 0


_select = select


def table(states: Sequence[CellState]) -> str:
    """The cells as text, one line each; a failed cell has its log on the next."""
    width = max((len(state.cell.name) for state in states), default=4)
    lines = [f"{'#':>5}  {'cell':<{width}}  {'state':<8}  detail"]
    for state in states:
        lines.append(f"{state.index:>5}  {state.cell.name:<{width}}  {state.state:<8}  {state.detail}".rstrip())
        if state.state == "failed" and state.log is not None:
            lines.append(f"{'':>5}  {'':<{width}}  {'':<8}  log: {state.log}")
    return "\n".join(lines)


def counts(states: Sequence[CellState]) -> str:
    """One line: how many cells are in which state."""
    number = Counter(state.state for state in states)
    return f"{len(states)} cells: " + ", ".join(f"{number[name]} {name}" for name in STATES if number[name]) + "."


def write_csv(path: Path, states: Sequence[CellState]) -> None:
    """Writes the plan with what each cell cost so far; an empty cell is not known."""
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(_row(state) for state in states)


def _row(state: CellState) -> dict[str, object]:
    cell, record = state.cell, state.record
    row: dict[str, object] = {
        "index": state.index,
        "cell": cell.name,
        "task": cell.task,
        "kind": cell.kind,
        "arm": cell.arm,
        "fraction": percent(cell.fraction),
        "seed": cell.seed,
        "state": state.state,
        "detail": state.detail,
        "job": state.job,
        "log": state.log or "",
    }
    if record is not None:
        row |= {
            "attempts": record.attempts,
            "seconds": round(record.seconds, 1),
            "device": record.device,
            "devices": record.devices,
            "gpu_hours": round(record.gpu_hours, 4),
            "samples_per_s": record.samples_per_s,
        }
        for name in ("max_rss_bytes", "gpu_memory_bytes", "gpu_joules", "cpu_joules"):
            known = [value for step in record.steps.values() if (value := getattr(step, name)) is not None]
            if known:
                row[name] = max(known) if name.endswith("bytes") else round(sum(known), 1)
    return row
