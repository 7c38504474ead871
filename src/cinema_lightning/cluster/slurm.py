"""What SLURM's own commands say and do. Each question has the answer None where nobody can tell."""

from __future__ import annotations

import functools
import re
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cinema_lightning.errors import CinemaError

TIMEOUT_SECONDS = 60


@dataclass(frozen=True)
class QueueEntry:
    """A job, or an element of an array, in the queue.

    Attributes:
        job: Such as ``12_3``.
        state: As of squeue: PENDING, RUNNING, COMPLETING, ...
        reason: Why it waits.
    """

    job: str
    state: str
    reason: str = ""


def _ask(command: Sequence[str]) -> subprocess.CompletedProcess[str] | None:
    """Runs a command; None where it is missing or does not answer."""
    if shutil.which(command[0]) is None:
        return None
    try:
        return subprocess.run(list(command), capture_output=True, text=True, timeout=TIMEOUT_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None


def queue(names: Iterable[str]) -> dict[str, dict[int, QueueEntry]] | None:
    """Jobs in the queue.

    Args:
        names: Job names.

    Returns:
        ``{name: {array index: entry}}`` (index 0 for a job without array); None where squeue does not answer.
    """
    wanted = sorted(set(names))
    if not wanted:
        return {}
    answer = _ask(["squeue", "--noheader", "--array", f"--name={','.join(wanted)}", "--format=%i|%j|%T|%r"])
    if answer is None or answer.returncode:
        return None
    found: dict[str, dict[int, QueueEntry]] = {}
    for line in answer.stdout.splitlines():
        job, name, state, reason = (*line.split("|"), "", "", "")[:4]
        index = job.partition("_")[2]
        found.setdefault(name, {})[int(index) if index.isdigit() else 0] = QueueEntry(job, state, reason)
    return found


@functools.cache
def cluster_name() -> str | None:
    """Name of the cluster that this machine's commands talk to."""
    answer = _ask(["scontrol", "show", "config"])
    match = re.search(r"^ClusterName\s*=\s*(\S+)", answer.stdout, re.MULTILINE) if answer is not None else None
    return match[1] if match else None


def job_alive(facts: dict[str, Any]) -> bool | None:
    """Whether the job of a lock's holder still runs; see :data:`cinema_lightning.benchmark.locks.JobAlive`."""
    # the element's name: its job id may be that of the whole array
    cluster, job = facts.get("cluster"), facts.get("job")
    if not job or not cluster or cluster != cluster_name():
        return None
    answer = _ask(["squeue", "--noheader", f"--jobs={job}", "--format=%T"])
    if answer is None:
        return None
    if answer.returncode:
        return False if "Invalid job id" in answer.stderr else None
    states = answer.stdout.split()
    # a job that waits again was requeued: what held the lock has ended
    return bool(states) and any(state != "PENDING" for state in states)


def last_word(job: str) -> str | None:
    """How a job ended, by the accounting; None where there is none."""
    answer = _ask(["sacct", "--noheader", "--parsable2", "--allocations", f"--jobs={job}", "--format=State,ExitCode"])
    if answer is None or answer.returncode or not answer.stdout.strip():
        return None
    state, _, code = answer.stdout.strip().splitlines()[-1].partition("|")
    return f"{state} ({code})" if code not in ("", "0:0") else state


def sbatch(script: Path) -> str:
    """Submits a batch script.

    Returns:
        The job's id.

    Raises:
        CinemaError: If there is no sbatch or it refuses.
    """
    if shutil.which("sbatch") is None:
        raise CinemaError(
            "there is no sbatch on this machine: submit from a login node of the cluster, look at the script with "
            "--dry-run, or run the cells here with `cinema benchmark run --local`."
        )
    answer = _ask(["sbatch", "--parsable", str(script)])
    if answer is None:
        raise CinemaError(f"sbatch did not answer within {TIMEOUT_SECONDS} s; see whether the job is in squeue.")
    if answer.returncode:
        words = " ".join(answer.stderr.split()).removeprefix("sbatch: error: ")
        raise CinemaError(f"sbatch refused {script}: {words}; mend the site's YAML.")
    return answer.stdout.strip().partition(";")[0]
