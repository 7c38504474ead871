"""In which state each cell is, from its own files, its lock and the queue."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cinema_lightning.benchmark.locks import Lock
from cinema_lightning.benchmark.matrix import Cell
from cinema_lightning.benchmark.record import CellFolder, CellRecord, read_record
from cinema_lightning.benchmark.runner import is_complete
from cinema_lightning.benchmark.submissions import Queue, Waiting
from cinema_lightning.cluster import slurm

STATES = ("done", "running", "queued", "stopped", "failed", "missing")


@dataclass(frozen=True)
class CellState:
    """A cell and how it stands.

    Attributes:
        index: Its place in the full matrix.
        cell: The cell.
        state: missing, queued, running, stopped (resumable), failed or done.
        detail: Host, job and time; or the reason.
        log: Where to look; None where there is nothing yet.
        job: SLURM job.
        record: Its record; None before the first start.
    """

    index: int
    cell: Cell
    state: str
    detail: str = ""
    log: Path | None = None
    job: str = ""
    record: CellRecord | None = None


def survey(cells: Sequence[Cell], indices: Sequence[int], root: Path) -> list[CellState]:
    """Looks at cells.

    Args:
        cells: All cells of the matrix.
        indices: Which to look at.
        root: Folder of the results.

    Returns:
        Their states, in the order of ``indices``.

    Raises:
        CinemaError: If a record is damaged.
    """
    queue = Queue.look(root)
    return [_state(index, cells[index], root, queue.places.get(cells[index].name)) for index in indices]


def _state(index: int, cell: Cell, root: Path, place: Waiting | None) -> CellState:
    folder = CellFolder.of(root, cell)
    record = read_record(folder)
    log = folder.log if folder.log.is_file() else None
    if is_complete(cell, record):
        assert record is not None
        changed = "" if record.digest == cell.digest else "; made with other options: remove its folder to run it anew"
        return CellState(index, cell, "done", f"{_hours(record.seconds)} on {record.device}{changed}", log, "", record)
    holder = Lock(folder.lock, slurm.job_alive).holder()
    if holder is not None:
        job = f", job {holder.job}" if holder.job else ""
        detail = f"{holder.host}{job}, since {_when(holder.since)}"
        return CellState(index, cell, "running", detail, log, holder.job, record)
    if place is not None and place.queued:
        return CellState(index, cell, "queued", _queued(place), log, place.job, record)
    if record is None:
        return _never_started(index, cell, place)
    if record.state == "failed":
        return CellState(index, cell, "failed", record.reason, log, "", record)
    reason = record.reason
    if record.state == "running":
        reason = f"its process on {record.host} vanished"
    elif record.state == "done":
        missing = [test.name for test in cell.tests if f"test {test.name}" not in record.steps]
        reason = f"not tested yet: {', '.join(missing)}"
    return CellState(index, cell, "stopped", f"{reason}; resumable", log, "", record)


def _queued(place: Waiting) -> str:
    if place.entry is None:
        return f"job {place.job}, as submitted; no squeue here to ask"
    state = place.entry.state.lower()
    reason = f", {place.entry.reason}" if place.entry.reason not in ("", "None") else ""
    return f"job {place.job}, {state}{reason}"


def _never_started(index: int, cell: Cell, place: Waiting | None) -> CellState:
    """A cell without a record, whose job, if there was one, has left the queue."""
    if place is None:
        return CellState(index, cell, "missing")
    log = place.submission.log(place.index)
    code = place.submission.exit_code(place.index)
    if code in (0, 75):
        return CellState(index, cell, "missing")
    if code is not None:
        detail = f"job {place.job} ended with code {code} before the cell began"
        return CellState(index, cell, "failed", detail, log, place.job)
    word = slurm.last_word(place.job)
    detail = f"job {place.job} left the queue before the cell began{f': {word}' if word else ''}"
    return CellState(index, cell, "missing", detail, log if log.is_file() else None, place.job)


def _when(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).strftime("%Y-%m-%d %H:%M")


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:.2f} h" if seconds >= 360 else f"{seconds:.0f} s"
