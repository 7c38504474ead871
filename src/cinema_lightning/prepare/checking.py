"""Checks many studies side by side, in shards and over several starts: what was checked is kept until all is.

A run's unfinished results lie in one JSON file beside its report, one file for each shard. A result counts again only
while the study's files are unchanged (their sizes and times), and shards are joined only where they checked the same
table in the same way.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import TypeAlias

from cinema_lightning.errors import CinemaError
from cinema_lightning.files import write_text
from cinema_lightning.prepare.runner import Stop, start_worker
from cinema_lightning.progress import ProgressLine
from cinema_lightning.shards import Shard

CHUNK = 16
SAVE_EVERY = 60.0
"""Seconds between saves of what was checked."""

Result: TypeAlias = tuple[str, list[list[str]]]
"""What the study's files looked like, and the findings."""
Check: TypeAlias = Callable[[int, Result | None], Result]
"""Checks the study of a row; given the row's number and its earlier result, which is returned if nothing changed."""


@dataclass
class Progress:
    """What a run, or a shard of one, has checked.

    Attributes:
        path: File in which it is kept.
        digest: Of the table and the way of checking; results of another one do not count.
        done: Row number -> result.
    """

    path: Path
    digest: str
    done: dict[int, Result] = field(default_factory=dict)

    @classmethod
    def of(cls, report: Path, shard: Shard, digest: str) -> Progress:
        """The progress of an earlier start, or none."""
        progress = cls(_file(report, shard.index, shard.count), digest)
        try:
            kept = json.loads(progress.path.read_text(encoding="utf-8"))
            if kept["digest"] == digest:
                progress.done = {int(row): (mark, findings) for row, (mark, findings) in kept["done"].items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            pass  # none there, or no file of ours
        return progress

    def save(self) -> None:
        """Writes it, whole or not at all."""
        write_text(self.path, json.dumps({"digest": self.digest, "done": self.done}))


def check_all(check: Check, rows: Sequence[int], progress: Progress, workers: int, stop: Stop, title: str) -> None:
    """Checks studies until all are done or a signal came; ``progress`` gets the results, and is saved now and then.

    Args:
        check: Has to travel to spawned processes where there are several workers.
        rows: Numbers of the rows to check.
        progress: Changed in place.
        workers: Processes; 1 works in this one.
        stop: Set by a signal.
        title: What the bar says.

    Raises:
        CinemaError: If a worker was killed; what was checked is kept.
    """
    chunks = [rows[start : start + CHUNK] for start in range(0, len(rows), CHUNK)]
    saved = time.monotonic()
    with ProgressLine(title, len(rows), unit="studies") as bar:
        try:
            for found in _results(check, chunks, progress.done, workers, stop):
                progress.done |= found
                bar.update(len(found))
                if time.monotonic() - saved > SAVE_EVERY:
                    progress.save()
                    saved = time.monotonic()
        except BrokenProcessPool:
            progress.save()
            time.sleep(0.2)  # a signal to the whole process group may have reached the worker first
            if stop.signal is not None:
                return
            raise CinemaError(
                "a worker process was killed (out of memory?); what was checked is kept: run the same command again "
                "with fewer --workers."
            ) from None


def join(progress: Progress, report: Path, shard: Shard, total: int) -> dict[int, Result] | None:
    """Joins the results of all shards; every shard calls this when it is done, and the last one finds all.

    Args:
        progress: Of this shard.
        report: The report that they are for.
        shard: This shard.
        total: Rows of the table.

    Returns:
        Row number -> result; None while some are missing, or were made of another table.
    """
    out = dict(progress.done)
    for index in range(1, shard.count + 1):
        out |= Progress.of(report, Shard(index, shard.count), progress.digest).done
    return out if len(out) == total else None


def forget(report: Path, shard: Shard) -> None:
    """Removes what was kept of a run that is complete."""
    for index in range(1, shard.count + 1):
        _file(report, index, shard.count).unlink(missing_ok=True)


def _file(report: Path, index: int, count: int) -> Path:
    name = "unfinished" if count == 1 else f"{index}-of-{count}"
    return report.with_name(f"{report.stem}.{name}.json")


def _results(
    check: Check, chunks: Sequence[Sequence[int]], known: dict[int, Result], workers: int, stop: Stop
) -> Iterator[dict[int, Result]]:
    if workers == 1:
        for chunk in chunks:
            if stop.signal is not None:
                return
            yield {row: check(row, known.get(row)) for row in chunk}
        return
    queue = list(chunks)[::-1]
    running: set[Future[dict[int, Result]]] = set()
    # fresh interpreters: a fork of a process with threads (Blosc2) can hang
    spawn = get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=spawn, initializer=_start, initargs=(check,)) as pool:
        try:
            while (queue or running) and stop.signal is None:
                while queue and len(running) < 2 * workers:
                    running.add(pool.submit(_check_some, [(row, known.get(row)) for row in queue.pop()]))
                finished, running = wait(running, timeout=0.5, return_when=FIRST_COMPLETED)
                for future in finished:
                    yield future.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


_check: Check | None = None


def _start(check: Check) -> None:
    global _check
    _check = check
    start_worker()


def _check_some(tasks: Sequence[tuple[int, Result | None]]) -> dict[int, Result]:
    assert _check is not None
    return {row: _check(row, before) for row, before in tasks}
