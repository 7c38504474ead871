"""How long the rest of a benchmark takes, from what is done."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

from cinema_lightning.benchmark.matrix import Cell
from cinema_lightning.benchmark.record import CellRecord
from cinema_lightning.benchmark.runner import max_epochs
from cinema_lightning.benchmark.state import CellState


@dataclass(frozen=True)
class Guess:
    """Time of one cell.

    Attributes:
        seconds: Wall time of training and tests.
        devices: GPUs; 0 for a CPU.
        basis: What it rests on.
    """

    seconds: float
    devices: int
    basis: str


@dataclass
class Forecast:
    """Time of all cells that are not done.

    Attributes:
        gpu_hours: Of the cells whose like ran on GPUs.
        cpu_hours: Wall time of the cells whose like ran without.
        by_basis: Number of cells by what their guess rests on.
        unknown: Tasks that there is nothing to go on for, and how many cells each has left.
    """

    gpu_hours: float = 0.0
    cpu_hours: float = 0.0
    by_basis: dict[str, int] = field(default_factory=dict)
    unknown: dict[str, int] = field(default_factory=dict)

    def lines(self) -> list[str]:
        """For the terminal."""
        guessed = sum(self.by_basis.values())
        if not guessed and not self.unknown:
            return ["Estimate: nothing is left to do."]
        lines = [
            f"Estimate for what is left: {self.gpu_hours:.2f} GPU hours and {self.cpu_hours:.2f} hours without GPU."
        ]
        lines += [f"  {count} cells from {basis}" for basis, count in self.by_basis.items()]
        if self.unknown:
            tasks = ", ".join(f"{task} ({count})" for task, count in self.unknown.items())
            lines.append(f"  not counted, since no cell of the task is done: {tasks}")
        return lines


def estimate(states: Sequence[CellState], everything: Sequence[CellState]) -> Forecast:
    """Adds up what is left.

    Args:
        states: The cells asked about.
        everything: All cells, whose finished ones are gone by.

    Returns:
        The estimate. What a cell has already worked counts as done, as far as its guess reaches.
    """
    finished = [state for state in everything if state.state == "done" and state.record is not None]
    total = Forecast()
    for state in states:
        if state.state == "done":
            continue
        guess = guess_cell(state.cell, finished)
        if guess is None:
            total.unknown[state.cell.task] = total.unknown.get(state.cell.task, 0) + 1
            continue
        spent = state.record.seconds if state.record is not None and state.state != "failed" else 0.0
        hours = max(guess.seconds - spent, 0.0) / 3600
        if guess.devices:
            total.gpu_hours += hours * guess.devices
        else:
            total.cpu_hours += hours
        total.by_basis[guess.basis] = total.by_basis.get(guess.basis, 0) + 1
    return total


def guess_cell(cell: Cell, finished: Sequence[CellState]) -> Guess | None:
    """Time of a cell from those most like it.

    Args:
        cell: The cell.
        finished: Cells that are done.

    Returns:
        The mean over the nearest finished cells: of the same task, arm and fraction; else of the same task and arm,
        training time in proportion to fraction and epochs; else of the task's other arms, likewise. None without any.
    """
    of_task = [state for state in finished if state.cell.task == cell.task]
    of_arm = [state for state in of_task if state.cell.arm == cell.arm]
    epochs = max_epochs(cell)
    exact = [state for state in of_arm if state.cell.fraction == cell.fraction and _epochs(state) in (epochs, None)]
    for basis, likes in (
        ("other seeds of the same cell", exact),
        ("other fractions or epochs of the same task and arm, scaled", of_arm),
        ("other arms of the same task, scaled", of_task),
    ):
        if likes:
            seconds = statistics.fmean(_scaled(cell, epochs, state) for state in likes)
            return Guess(seconds, round(statistics.fmean(_record(state).devices for state in likes)), basis)
    return None


def _scaled(cell: Cell, epochs: int | None, like: CellState) -> float:
    """Training time in proportion to fraction and epochs; tests take what they take."""
    record = _record(like)
    factor = cell.fraction / like.cell.fraction
    if epochs and record.max_epochs and epochs > 0 and record.max_epochs > 0:
        factor *= epochs / record.max_epochs
    return sum(step.seconds * (factor if name == "fit" else 1.0) for name, step in record.steps.items())


def _record(state: CellState) -> CellRecord:
    assert state.record is not None
    return state.record


def _epochs(state: CellState) -> int | None:
    return _record(state).max_epochs
