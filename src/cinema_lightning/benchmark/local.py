"""``cinema benchmark run --local``: all cells on this machine, some at a time."""

from __future__ import annotations

import os
import sys
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from queue import SimpleQueue

from cinema_lightning.benchmark.children import Relay
from cinema_lightning.benchmark.cost import cores, query_gpus
from cinema_lightning.benchmark.matrix import Cell
from cinema_lightning.benchmark.record import CellFolder
from cinema_lightning.benchmark.runner import CellEnd, Workplace, run_cell
from cinema_lightning.progress import ProgressLine, last_progress


def run_local(cells: Sequence[Cell], place: Workplace, jobs: int, stop: Relay) -> list[CellEnd]:
    """Runs cells, ``jobs`` at a time; one that fails does not stop the others.

    Each has one GPU to itself where there are GPUs (taken in turn), and its share of the CPU cores.

    Args:
        cells: What to run, in this order.
        place: Where and how.
        jobs: How many at a time.
        stop: Set by a signal: the cells at work save and stop, no other begins.

    Returns:
        What became of those that were begun, in the order of completion.
    """
    slots: SimpleQueue[Workplace] = SimpleQueue()
    for slot in slot_environments(jobs):
        slots.put(replace(place, environment={**place.environment, **slot}))
    failed = threading.Event()
    watch = Watch(place)

    def work(cell: Cell) -> CellEnd | None:
        if stop.signal is not None or failed.is_set():
            return None
        slot = slots.get()
        try:
            with watch.over(cell):
                return run_cell(cell, slot, stop)
        except BaseException:
            failed.set()  # the folder cannot be written, or worse: no other cell would fare better
            raise
        finally:
            slots.put(slot)

    ends: list[CellEnd] = []
    with ProgressLine("benchmark", len(cells), unit="cells") as bar, ThreadPoolExecutor(jobs) as pool:
        pending: set[Future[CellEnd | None]] = {pool.submit(work, cell) for cell in cells}
        while pending:
            finished, pending = wait(pending, timeout=0.5, return_when=FIRST_COMPLETED)
            for end in filter(None, (future.result() for future in finished)):
                ends.append(end)
                bar.write(line(end), sys.stdout)
            if bar.due:
                share, text = watch.look()
                bar.show(len(ends) + share, text)
    return ends


class Watch:
    """Looks at how far the cells at work are, which their logs say.

    Args:
        place: Where they run.
    """

    def __init__(self, place: Workplace) -> None:
        self._root = place.root
        self._at_work: dict[str, tuple[Path, float]] = {}
        self._changing = threading.Lock()

    @contextmanager
    def over(self, cell: Cell) -> Iterator[None]:
        """The cell is at work as long as the block runs."""
        with self._changing:
            self._at_work[cell.name] = (CellFolder.of(self._root, cell).log, 0.0)
        try:
            yield
        finally:
            with self._changing:
                del self._at_work[cell.name]

    def look(self) -> tuple[float, str]:
        """Parts of cells that are done, in all, and what each cell is at."""
        with self._changing:
            words = [self._look_at(name) for name in self._at_work]
            return sum(share for _, share in self._at_work.values()), "; ".join(words)

    def _look_at(self, name: str) -> str:
        log, before = self._at_work[name]
        if (found := last_progress(log)) is None:
            return f"{name} begins" if not before else f"{name} is tested"
        title, share, text = found
        self._at_work[name] = (log, max(before, share if title == "fit" else before))
        return f"{name}: {title} {100 * share:.0f}%, {text}"


def slot_environments(jobs: int) -> list[dict[str, str]]:
    """What tells the cells that run side by side apart.

    Args:
        jobs: How many run at a time.

    Returns:
        Environment of each slot.
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    count = len(query_gpus("name", visible=visible))
    gpus = [part.strip() for part in visible.split(",")] if visible else [str(i) for i in range(count)]
    threads = max(1, cores() // jobs)
    environments = []
    for slot in range(jobs):
        environment = {"CUDA_VISIBLE_DEVICES": gpus[slot % len(gpus)]} if count else {}
        if jobs > 1 and "OMP_NUM_THREADS" not in os.environ:
            environment["OMP_NUM_THREADS"] = str(threads)
        environments.append(environment)
    return environments


def line(end: CellEnd) -> str:
    """One line for the terminal."""
    state = "skipped" if end.state == "elsewhere" else end.state
    took = f" ({end.seconds:.0f} s)" if end.seconds else ""
    return f"{end.cell}: {state}{took}{f': {end.reason}' if end.reason else ''}"


def summary(ends: Sequence[CellEnd], left: int) -> str:
    """Counts for the end."""
    number = Counter(end.state for end in ends)
    names = {"done": "done", "stopped": "stopped", "failed": "failed", "elsewhere": "being run elsewhere"}
    parts = [f"{number[state]} {name}" for state, name in names.items() if number[state]]
    parts += [f"{left} not begun"] if left else []
    return ", ".join(parts) + "."
