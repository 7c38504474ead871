"""What a cell keeps of itself: ``cell.json``, whole at all times, and where its files lie."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from cinema_lightning.benchmark.matrix import Cell
from cinema_lightning.errors import CinemaError
from cinema_lightning.files import write_text

State = Literal["running", "stopped", "failed", "done"]


@dataclass(frozen=True)
class CellFolder:
    """Where a cell's files lie.

    Attributes:
        path: ``<root>/cells/<task>/<arm>/f<percent>/s<seed>``.
    """

    path: Path

    @classmethod
    def of(cls, root: Path, cell: Cell) -> CellFolder:
        """The folder of a cell under a benchmark's root."""
        return cls(Path(root) / "cells" / cell.name)

    @property
    def record(self) -> Path:
        """State and cost."""
        return self.path / "cell.json"

    @property
    def log(self) -> Path:
        """Output of all steps and attempts."""
        return self.path / "log.txt"

    @property
    def lock(self) -> Path:
        """See :mod:`cinema_lightning.benchmark.locks`."""
        return self.path / "lock"

    def run(self) -> Path | None:
        """The newest run folder of ``cinema fit``."""
        from cinema_lightning.runs import versions

        found = versions(self.path / "run")
        return found[-1] if found else None

    def results(self, test: str) -> Path:
        """Where a test's tables are written."""
        return self.path / "test" / test


@dataclass
class StepRecord:
    """One command of a cell.

    Attributes:
        state: As of the cell.
        exit_code: Of the last attempt; negative for a signal that killed it.
        seconds: Wall time of all attempts together.
        max_rss_bytes: Largest resident memory of a process of it.
        gpu_memory_bytes: Largest memory in use on its GPUs; None without one.
        gpu_joules: Energy of its GPUs, from their power over time; None where they do not tell.
        cpu_joules: Energy of the machine's CPU packages meanwhile, shared jobs included; None where it does not tell.
    """

    state: State = "running"
    exit_code: int | None = None
    seconds: float = 0.0
    max_rss_bytes: int | None = None
    gpu_memory_bytes: int | None = None
    gpu_joules: float | None = None
    cpu_joules: float | None = None

    def add(self, other: StepRecord) -> None:
        """Adds another attempt: times and energies add up, the larger memory counts."""
        self.state, self.exit_code = other.state, other.exit_code
        self.seconds += other.seconds
        for name in ("max_rss_bytes", "gpu_memory_bytes"):
            known = [value for value in (getattr(self, name), getattr(other, name)) if value is not None]
            setattr(self, name, max(known, default=None))
        for name in ("gpu_joules", "cpu_joules"):
            known = [value for value in (getattr(self, name), getattr(other, name)) if value is not None]
            setattr(self, name, sum(known) if known else None)


@dataclass
class CellRecord:
    """State and cost of a cell.

    Attributes:
        cell: Its name.
        digest: Of the options it ran with.
        state: running, stopped, failed or done.
        reason: Why it failed or stopped.
        axes: task, kind, arm, fraction, seed.
        steps: By name: ``fit``, ``test <configuration>``.
        device: Name of the device.
        devices: How many GPUs; 0 for a CPU.
        samples_per_s: Median of what the training measured, all ranks together.
        max_epochs: Epochs that it was to train.
        attempts: Times that it was started.
        jobs: SLURM jobs that worked on it.
        host: Of the last attempt.
        started: Unix time of the first attempt.
        ended: Unix time of the last end.
        versions: Software.
    """

    cell: str
    digest: str
    state: State = "running"
    reason: str = ""
    axes: dict[str, Any] = field(default_factory=dict)
    steps: dict[str, StepRecord] = field(default_factory=dict)
    device: str = ""
    devices: int = 0
    samples_per_s: float | None = None
    max_epochs: int | None = None
    attempts: int = 0
    jobs: list[str] = field(default_factory=list)
    host: str = ""
    started: float | None = None
    ended: float | None = None
    versions: dict[str, str] = field(default_factory=dict)

    @classmethod
    def new(cls, cell: Cell) -> CellRecord:
        """The record of a cell that was never started."""
        axes = {"task": cell.task, "kind": cell.kind, "arm": cell.arm, "fraction": cell.fraction, "seed": cell.seed}
        axes |= {"fold": cell.fold} if cell.fold else {}
        return cls(cell.name, cell.digest, axes=axes, started=time.time())

    @property
    def seconds(self) -> float:
        """Wall time of all steps and attempts."""
        return sum(step.seconds for step in self.steps.values())

    @property
    def gpu_hours(self) -> float:
        """Wall time times GPUs."""
        return self.seconds * self.devices / 3600

    def write(self, folder: CellFolder) -> None:
        """Replaces the cell's record."""
        write_text(folder.record, json.dumps(asdict(self), indent=1) + "\n")


def read_record(folder: CellFolder) -> CellRecord | None:
    """Reads a cell's record.

    Returns:
        None where the cell was never started.

    Raises:
        CinemaError: If the file is damaged.
    """
    try:
        content = json.loads(folder.record.read_text(encoding="utf-8"))
        known = {entry.name for entry in fields(CellRecord)}
        record = CellRecord(**{key: value for key, value in content.items() if key in known})
        record.steps = {name: _step(step) for name, step in content.get("steps", {}).items()}
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, TypeError, AttributeError) as error:
        raise CinemaError(
            f"{folder.record} is no record of a cell ({error}); move it away and run the cell again."
        ) from error
    return record


def _step(content: Mapping[str, Any]) -> StepRecord:
    known = {entry.name for entry in fields(StepRecord)}
    return StepRecord(**{key: value for key, value in content.items() if key in known})
