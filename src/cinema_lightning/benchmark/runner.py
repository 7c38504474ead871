"""Runs one cell: training, then its tests, each a process of its own, resumable and locked."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from cinema_lightning.benchmark.children import ENDED_BY, Relay, child_environment, run_step
from cinema_lightning.benchmark.cost import device_of, samples_per_second
from cinema_lightning.benchmark.locks import JobAlive, Lock
from cinema_lightning.benchmark.matrix import Cell
from cinema_lightning.benchmark.record import CellFolder, CellRecord, State, StepRecord, read_record
from cinema_lightning.configs import find_config, read_config, unfold
from cinema_lightning.errors import CinemaError
from cinema_lightning.results.summary import in_a_line
from cinema_lightning.runs import STOPPED_EXIT_CODE, software_versions

PROGRAM = (sys.executable, "-m", "cinema_lightning")


@dataclass(frozen=True)
class CellEnd:
    """What became of a cell.

    Attributes:
        cell: Its name.
        state: done, stopped or failed; ``elsewhere`` where another process is at work on it.
        reason: In words.
        seconds: Wall time of this attempt.
    """

    cell: str
    state: str
    reason: str = ""
    seconds: float = 0.0

    @property
    def exit_code(self) -> int:
        """0 done, 75 stopped, 1 otherwise."""
        return {"done": 0, "stopped": STOPPED_EXIT_CODE}.get(self.state, 1)


@dataclass(frozen=True)
class Workplace:
    """Where and how cells are run.

    Attributes:
        root: Folder of the benchmark's results.
        program: What a verb and its arguments are given to.
        environment: Added to the environment of every step.
        job_alive: Asks the scheduler about the job of a lock's holder.
    """

    root: Path
    program: Sequence[str] = PROGRAM
    environment: Mapping[str, str] = field(default_factory=dict)
    job_alive: JobAlive | None = None


def steps_of(cell: Cell, folder: CellFolder) -> dict[str, list[str]]:
    """Commands of a cell by name, in their order: verb and arguments."""
    home = ["--runs", str(folder.path), "--name", "run"]
    steps = {"fit": ["fit", *cell.fit, *home, "--ckpt_path", "auto"]}
    for test in cell.tests:
        output = [
            "--ckpt_path",
            "best",
            f"--seed_everything={cell.seed}",
            "--output.folder",
            str(folder.results(test.name)),
        ]
        steps[f"test {test.name}"] = ["test", *test.arguments, *home, *output]
    return steps


def is_complete(cell: Cell, record: CellRecord | None) -> bool:
    """Whether training and all tests that the matrix now asks for are done."""
    if record is None or record.state != "done":
        return False
    names = ["fit", *(f"test {test.name}" for test in cell.tests)]
    return all(name in record.steps and record.steps[name].state == "done" for name in names)


def run_cell(cell: Cell, place: Workplace, stop: Relay) -> CellEnd:
    """Runs what is left of a cell.

    Args:
        cell: The cell.
        place: Where and how.
        stop: Passes signals on.

    Returns:
        What became of it.

    Raises:
        CinemaError: If its folder cannot be written.
    """
    folder = CellFolder.of(place.root, cell)
    if is_complete(cell, read_record(folder)):
        return CellEnd(cell.name, "done", "was done already")
    lock = Lock(folder.lock, place.job_alive)
    holder = lock.acquire()
    if holder is not None:
        job = f", job {holder.job}" if holder.job else ""
        return CellEnd(cell.name, "elsewhere", f"is being run on {holder.host}{job} (process {holder.pid})")
    try:
        record = read_record(folder)  # anew: another may have finished it before the lock was ours
        if is_complete(cell, record):
            return CellEnd(cell.name, "done", "was done already")
        return _Attempt(cell, folder, place, stop, lock).run(record or CellRecord.new(cell))
    finally:
        lock.release()


class _Attempt:
    """One attempt at a cell, under its lock."""

    def __init__(self, cell: Cell, folder: CellFolder, place: Workplace, stop: Relay, lock: Lock) -> None:
        self.cell, self.folder, self.place, self.stop, self.lock = cell, folder, place, stop, lock
        self.environment = child_environment(place.environment)
        self.began = time.monotonic()

    def run(self, record: CellRecord) -> CellEnd:
        if record.digest != self.cell.digest:
            record = self._start_anew(record)
        record.state, record.reason, record.ended = "running", "", None
        record.attempts += 1
        record.host, record.versions = socket.gethostname(), software_versions()
        record.max_epochs = max_epochs(self.cell)
        job = self.lock.job
        record.jobs += [job] if job and job not in record.jobs[-1:] else []
        record.write(self.folder)
        state, reason = self._steps(record)
        if self.lock.lost.is_set():
            return CellEnd(self.cell.name, "elsewhere", "was taken over while this process seemed dead", self._seconds)
        record.state, record.reason, record.ended = state, reason, time.time()
        record.write(self.folder)
        return CellEnd(self.cell.name, state, reason or found(self.cell, self.folder), self._seconds)

    @property
    def _seconds(self) -> float:
        return time.monotonic() - self.began

    def _start_anew(self, record: CellRecord) -> CellRecord:
        """The matrix gives other options than the cell was begun with: what was made is moved to ``<root>/earlier``."""
        number = 1
        while (aside := self.place.root / "earlier" / self.cell.name / str(number)).exists():
            number += 1
        aside.mkdir(parents=True)
        for name in ("run", "test", "cell.json", "log.txt"):
            if (self.folder.path / name).exists():
                (self.folder.path / name).rename(aside / name)
        return CellRecord.new(self.cell)

    def _steps(self, record: CellRecord) -> tuple[State, str]:
        for name, arguments in steps_of(self.cell, self.folder).items():
            known = record.steps.setdefault(name, StepRecord(state="stopped"))
            if known.state == "done":
                continue
            if self.stop.signal is not None:
                return "stopped", f"{signal.Signals(self.stop.signal).name} before {name}"
            known.state = "running"
            record.write(self.folder)
            command = [*self.place.program, *arguments]
            offset = self._write_header(name, command, record.attempts)
            attempt = run_step(
                command,
                self.folder.log,
                self.environment,
                self.stop,
                lambda pid: self.lock.tell(child=pid),
                self.lock.lost,
            )
            if self.lock.lost.is_set():
                break
            reason = self._judge(name, attempt, offset)
            known.add(attempt)
            if name == "fit":
                run = self.folder.run()
                record.device, record.devices = device_of(run, self.environment.get("CUDA_VISIBLE_DEVICES"))
                record.samples_per_s = samples_per_second(run)
            record.write(self.folder)
            if attempt.state != "done":
                return attempt.state, reason
        return "done", ""

    def _write_header(self, name: str, command: Sequence[str], attempt: int) -> int:
        """Says in the log what follows; returns where it begins."""
        now = datetime.now().astimezone().isoformat(timespec="seconds")
        job = os.environ.get("SLURM_JOB_ID")
        where = f"{socket.gethostname()}{f', job {job}' if job else ''}"
        with self.folder.log.open("a", encoding="utf-8") as log:
            log.write(f"\n=== {name}, attempt {attempt}, {now}, {where}\n=== {shlex.join(command)}\n")
        return self.folder.log.stat().st_size

    def _judge(self, name: str, attempt: StepRecord, offset: int) -> str:
        """Settles the state of an attempt; returns why it is not done."""
        code = attempt.exit_code or 0
        stopping = self.stop.signal is not None
        if code == 0 and name.startswith("test "):
            results = self.folder.results(name.removeprefix("test "))
            if not (results / "test.json").is_file():
                attempt.state = "failed"
                return f"{name} ended well but wrote no {results / 'test.json'}"
        if code == 0:
            return ""
        if code == STOPPED_EXIT_CODE or code in ENDED_BY or (stopping and code != 2):
            attempt.state = "stopped"
            by = signal.Signals(self.stop.signal).name if self.stop.signal else "a signal"
            return f"{by} during {name}"
        if code < 0:
            memory = " (out of memory?)" if code == -signal.SIGKILL else ""
            return f"{name} was killed by {signal.Signals(-code).name}{memory}"
        return f"{name} ended with code {code}: {last_words(self.folder.log, offset)}"


def found(cell: Cell, folder: CellFolder) -> str:
    """What the test on a cell's own data found, in a line; empty where it has no summary."""
    try:
        summary = json.loads((folder.results(cell.tests[0].name) / "summary.json").read_text(encoding="utf-8"))
        return in_a_line(summary["headlines"], summary["facts"])
    except (OSError, ValueError, LookupError, TypeError):
        return ""


def last_words(log: Path, offset: int = 0, limit: int = 400) -> str:
    """What a failed command said last: its error sentence where there is one, else the last line.

    Args:
        log: A log.
        offset: Where the command's output begins.
        limit: Longest answer in characters.

    Returns:
        One line.
    """
    with log.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(offset, size - 20_000))
        text = file.read().decode("utf-8", errors="replace")
    lines = [line.strip() for line in re.split(r"[\r\n]+", text) if line.strip() and not line.startswith("===")]
    sentences = [line for line in lines if re.match(r"cinema \w+: ", line)]
    words = (sentences or lines or ["it said nothing"])[-1]
    return words if len(words) <= limit else words[: limit - 1] + "…"


def max_epochs(cell: Cell) -> int | None:
    """Epochs that a cell's configurations and options ask for; None where they do not say."""
    epochs: int | None = None
    try:
        for flag, value in zip(cell.fit, (*cell.fit[1:], ""), strict=True):
            if flag == "--config":
                for file in unfold(find_config(value)):
                    epochs = (read_config(file).get("trainer") or {}).get("max_epochs", epochs)
            elif flag.startswith("--trainer.max_epochs="):
                epochs = int(flag.partition("=")[2])
    except (CinemaError, OSError, ValueError, AttributeError):
        return None  # `cinema fit` will say what is wrong with it
    return epochs
