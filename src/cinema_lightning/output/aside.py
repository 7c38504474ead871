"""Work that is done beside the network, in one thread and in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

WAITING = 2
"""Jobs that may be unfinished: each holds a batch and what the network said of it."""


class Aside:
    """Does jobs one after the other in a thread, so that the network need not wait for files.

    Jobs are done in the order in which they are given. After one that failed none is begun, and the error is raised by
    the next call.

    Args:
        waiting: Jobs that may be unfinished; giving one more waits.
    """

    def __init__(self, waiting: int = WAITING) -> None:
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="writing")
        self._jobs: deque[Future[None]] = deque()
        self._waiting = waiting
        self._failed = False

    def __call__(self, job: Callable[[], None]) -> None:
        """Gives a job.

        Args:
            job: What is to be done.

        Raises:
            Exception: Whatever an earlier job raised.
        """
        while self._jobs and (self._jobs[0].done() or len(self._jobs) >= self._waiting):
            self._jobs.popleft().result()
        self._jobs.append(self._pool.submit(self._do, job))

    def close(self) -> None:
        """Waits until all jobs are done.

        Raises:
            Exception: Whatever one of them raised.
        """
        try:
            while self._jobs:
                self._jobs.popleft().result()
        finally:
            self._pool.shutdown()

    def _do(self, job: Callable[[], None]) -> None:
        if self._failed:
            return
        try:
            job()
        except BaseException:
            self._failed = True
            raise
