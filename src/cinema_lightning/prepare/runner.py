"""Makes many studies, of raw data or of formulas: parallel, resumable, each study whole or not at all.

A study is made in a scratch folder inside the store and moved into place, so that whatever ends the run (a signal,
a full disk, the power) leaves finished studies and nothing else. A second run makes what is missing or out of date.
Workers take one study at a time and share nothing, so that neither their number nor their order changes a byte.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Literal, Protocol

from cinema_lightning.datasets.base import CaseRef, Dataset
from cinema_lightning.prepare.failures import Problem, StepError, step
from cinema_lightning.prepare.record import fingerprint, read_record, write_record
from cinema_lightning.prepare.scratch import move_folder, scratch_folder
from cinema_lightning.prepare.size import Size
from cinema_lightning.prepare.steps import prepare_case
from cinema_lightning.progress import ProgressLine

KILLED = "the worker process was killed (out of memory?); try again with fewer workers"


class Work(Protocol):
    """What is to be done for each study; it travels to the worker processes."""

    @property
    def scratch(self) -> Path:
        """Folder for unfinished studies, on the same file system as the finished ones."""

    def make(self, case: CaseRef) -> bool:
        """Makes one study, unless it is up to date.

        Args:
            case: The study.

        Returns:
            Whether it had to be made.

        Raises:
            StepError: If it cannot be made.
        """


@dataclass(frozen=True)
class Plan:
    """Prepares the studies of a raw dataset; each carries a record of what it was made from.

    Attributes:
        dataset: The dataset.
        out: Folder of the store.
        scratch: Folder for unfinished studies, on the same file system.
        size: Size of the pictures.
    """

    dataset: Dataset
    out: Path
    scratch: Path
    size: Size = "full"

    def make(self, case: CaseRef) -> bool:
        """See :meth:`Work.make`."""
        if case.problem is not None:
            raise StepError("list", case.problem)
        with step("list"):
            mark = fingerprint(self.dataset, case, self.size)
        record = read_record(self.out / case.id)
        if record is not None and record["fingerprint"] == mark:
            return False
        with scratch_folder(self.scratch / case.id) as made:
            content = prepare_case(self.dataset, case, self.scratch, self.size)
            with step("write"):
                write_record(made, mark, content, self.size)
                move_folder(made, self.out / case.id)
        return True


@dataclass(frozen=True)
class Outcome:
    """What became of one study: made, kept (it was up to date) or failed."""

    id: str
    status: Literal["made", "kept", "failed"]
    problem: Problem | None = None


class Stop:
    """Whether a signal asked the run to stop."""

    def __init__(self) -> None:
        self.signal: int | None = None

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Signal handler: takes note, and lets the next signal do what it always did."""
        self.signal = number
        signal.signal(number, signal.SIG_DFL if number == signal.SIGTERM else signal.default_int_handler)


@contextmanager
def stop_on_signals() -> Iterator[Stop]:
    """SIGTERM and SIGINT stop the run after the studies at work, instead of in their middle."""
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def run_one(work: Work, case: CaseRef) -> Outcome:
    """Makes one study unless it is up to date.

    Args:
        work: What is to be done.
        case: The study.

    Returns:
        What became of it, also where a step of its making did not work.
    """
    try:
        return Outcome(case.id, "made" if work.make(case) else "kept")
    except StepError as error:
        return Outcome(case.id, "failed", Problem(case.id, error.step, error.reason))


def run(
    work: Work,
    cases: Sequence[CaseRef],
    workers: int,
    stop: Stop,
    *,
    strict: bool,
    title: str,
    unit: str = "studies",
) -> dict[str, Outcome]:
    """Makes studies with a progress bar until all are done or a signal came.

    Args:
        work: What is to be done.
        cases: The studies.
        workers: Processes; 1 works in this one.
        stop: Set by a signal.
        strict: End at the first failure, of which the caller speaks; other failures are printed as they come.
        title: What the bar says.
        unit: What the bar counts.

    Returns:
        Id -> what became of it; of those that were reached.
    """
    outcomes: dict[str, Outcome] = {}
    with ProgressLine(title, len(cases), unit=unit) as bar:

        def done(outcome: Outcome) -> bool:
            outcomes[outcome.id] = outcome
            bar.update()
            problem = outcome.problem
            if problem is not None and not strict:
                bar.write(f"{problem.id} failed at step '{problem.step}': {problem.reason}")
            return problem is None or not strict

        run_all(work, cases, workers, stop, done)
    return outcomes


def run_all(work: Work, cases: Sequence[CaseRef], workers: int, stop: Stop, done: Callable[[Outcome], bool]) -> None:
    """Makes studies until all are done, a signal came or ``done`` says that it is enough.

    Args:
        work: What is to be done.
        cases: The studies.
        workers: Processes; 1 works in this one.
        stop: Set by a signal.
        done: Called with each outcome in the order of completion; false ends the run.
    """
    if workers == 1:
        _single_threaded()
        for case in cases:
            if stop.signal is not None or not done(run_one(work, case)):
                return
        return
    queue = list(cases)[::-1]
    while queue and stop.signal is None:
        suspects = _run_pool(work, queue, workers, stop, done)
        if suspects is None:
            return
        # One of the studies at work killed its process. Each is tried again alone, which also tells who did it.
        for case in suspects:
            if stop.signal is not None or not done(_run_alone(work, case, stop)):
                return


def _run_pool(
    work: Work, queue: list[CaseRef], workers: int, stop: Stop, done: Callable[[Outcome], bool]
) -> list[CaseRef] | None:
    """Works the queue off from its end; returns the studies at work when a process died, None when the run is over."""
    running: dict[Future[Outcome], CaseRef] = {}
    with _pool(work, workers) as pool:
        try:
            while (queue or running) and stop.signal is None:
                while queue and len(running) < workers + 1:
                    running[pool.submit(_work, queue[-1])] = queue[-1]
                    queue.pop()
                finished, _ = wait(running, timeout=0.5, return_when=FIRST_COMPLETED)
                for future in finished:
                    # Looked at before it is taken off, so that the study of a dead process stays among the suspects.
                    outcome = future.result()
                    del running[future]
                    if not done(outcome):
                        return None
            return None if stop.signal is not None else []
        except BrokenProcessPool:
            time.sleep(0.2)  # a signal to the whole process group may have reached the worker first
            return None if stop.signal is not None else _unfinished(running, done)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _unfinished(running: dict[Future[Outcome], CaseRef], done: Callable[[Outcome], bool]) -> list[CaseRef]:
    suspects = []
    for future, case in running.items():
        if future.done() and future.exception() is None:
            done(future.result())
        else:
            suspects.append(case)
    return suspects


def _run_alone(work: Work, case: CaseRef, stop: Stop) -> Outcome:
    with _pool(work, 1) as pool:
        try:
            return pool.submit(_work, case).result()
        except BrokenProcessPool:
            reason = KILLED if stop.signal is None else "the run was stopped"
            shutil.rmtree(work.scratch / case.id, ignore_errors=True)
            return Outcome(case.id, "failed", Problem(case.id, "worker", reason))


def _pool(work: Work, workers: int) -> ProcessPoolExecutor:
    # Fresh interpreters: a fork of a process with threads (SimpleITK, Blosc2, torch) can hang.
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker, initargs=(work,))


_at_work: Work | None = None


def _start_worker(work: Work) -> None:
    global _at_work
    _at_work = work
    start_worker()
    _single_threaded()


def start_worker() -> None:
    """What every worker process begins with: it leaves with its parent, which alone decides about signals."""
    # Ctrl-C reaches the whole process group; the parent decides, and the study at work is finished.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_leave_with_parent, daemon=True).start()


def _leave_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)


def _single_threaded() -> None:
    """One thread per worker: frames are small, and the workers are what runs in parallel."""
    import SimpleITK as sitk  # noqa: N813

    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)


def _work(case: CaseRef) -> Outcome:
    assert _at_work is not None
    return run_one(_at_work, case)
