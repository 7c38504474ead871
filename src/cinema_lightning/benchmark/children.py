"""Child processes of a runner: signals passed on, output in a log, memory and energy measured."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

from cinema_lightning.benchmark.cost import Meter
from cinema_lightning.benchmark.record import StepRecord

PASSED_ON = {
    signal.SIGTERM: signal.SIGTERM,
    signal.SIGUSR2: signal.SIGUSR2,
    signal.SIGUSR1: signal.SIGUSR2,  # NCCL uses SIGUSR1 itself
    signal.SIGINT: signal.SIGUSR2,
    signal.SIGHUP: signal.SIGUSR2,  # the terminal was closed
}
"""Signals to the runner, and what its children get: what makes ``cinema fit`` save and stop."""
ENDED_BY = tuple(-number for number in PASSED_ON)
POLL_SECONDS = 0.1


class Relay:
    """Whether a signal asked the runner to stop; passes it on to the children at work."""

    def __init__(self) -> None:
        self.signal: int | None = None
        self._children: set[int] = set()
        # re-entrant: the handler may come while this very thread adds a child
        self._changing = threading.RLock()

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Signal handler. The second Ctrl-C kills the children."""
        again = self.signal == signal.SIGINT == number
        self.signal = self.signal or number
        name = signal.Signals(number).name
        what = "killing what runs" if again else "what runs saves its state and stops; the same command goes on"
        sys.stderr.write(f"\n{name} received: {what}.\n")
        with self._changing:
            for child in self._children:
                with suppress(ProcessLookupError):
                    os.kill(child, signal.SIGKILL if again else PASSED_ON[signal.Signals(number)])

    def add(self, child: int) -> None:
        """From now on the child gets the signals; also one that came while it was started."""
        with self._changing:
            self._children.add(child)
            if self.signal is not None:
                os.kill(child, PASSED_ON[signal.Signals(self.signal)])

    def remove(self, child: int) -> None:
        """The child has ended."""
        with self._changing:
            self._children.discard(child)


@contextmanager
def relay_signals() -> Iterator[Relay]:
    """Signals are passed on to the children instead of ending this process; what ``nohup`` ignores stays ignored."""
    stop = Relay()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    numbers = [number for number in PASSED_ON if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, stop) for number in numbers}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def child_environment(extra: Mapping[str, str]) -> dict[str, str]:
    """Environment of a step: this process's, without what would tie it to another run or to SLURM's tasks.

    A cell is one process tree on one node. Without SLURM_NTASKS Lightning starts the processes of a multi-GPU cell
    itself, instead of expecting srun to have done so.
    """
    slurm = ("NTASKS", "NPROCS", "NTASKS_PER_NODE", "STEP_NUM_TASKS", "PROCID", "LOCALID", "NODEID")
    left_out = ("CINEMA_RUN_DIR", *(f"SLURM_{name}" for name in slurm))
    return {key: value for key, value in os.environ.items() if key not in left_out} | dict(extra)


def run_step(
    command: Sequence[str],
    log: Path,
    environment: Mapping[str, str],
    stop: Relay,
    started: Callable[[int], None],
    abandoned: threading.Event,
) -> StepRecord:
    """Runs one command to its end.

    Args:
        command: Program and arguments.
        log: Its output is appended here.
        environment: Of the child.
        stop: Gets the child's process id.
        started: Called with the child's process id.
        abandoned: When set, the child is killed: another runner has taken its place.

    Returns:
        Exit code and cost; the state is ``done`` for exit code 0 and ``failed`` otherwise.
    """
    began = time.monotonic()
    with log.open("ab") as output, Meter(visible=environment.get("CUDA_VISIBLE_DEVICES")) as meter:
        # a process group of its own: Ctrl-C reaches the runner, which decides what the child gets
        child = subprocess.Popen(
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=dict(environment),
            process_group=0,
        )
        started(child.pid)
        stop.add(child.pid)
        try:
            code, kilobytes = _wait(child, abandoned)
        finally:
            stop.remove(child.pid)
        if code < 0:  # nothing of a killed child lives on
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(child.pid, signal.SIGKILL)
    return StepRecord(
        state="failed" if code else "done",
        exit_code=code,
        seconds=round(time.monotonic() - began, 3),
        max_rss_bytes=kilobytes * 1024,
        gpu_memory_bytes=meter.gpu_memory_bytes,
        gpu_joules=meter.gpu_joules,
        cpu_joules=meter.cpu_joules,
    )


def _wait(child: subprocess.Popen[bytes], abandoned: threading.Event) -> tuple[int, int]:
    """Exit code, and the largest resident memory (kB) of the child and what it waited for."""
    waiting = os.WNOHANG
    while True:
        pid, status, usage = os.wait4(child.pid, waiting)
        if pid:
            child.returncode = os.waitstatus_to_exitcode(status)
            return child.returncode, usage.ru_maxrss
        if abandoned.wait(POLL_SECONDS):
            # not child.send_signal: it may reap the child itself, and with it what wait4 is to tell
            os.kill(child.pid, signal.SIGKILL)
            waiting = 0
