"""Makes phantoms side by side, with a progress bar; the result does not depend on the number of processes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context


def make_each(make: Callable[[int], object], missing: Sequence[int], total: int, workers: int, title: str) -> None:
    """Calls ``make`` for every subject that is missing.

    Args:
        make: Makes one subject from its number; has to travel to spawned processes where there are several workers.
        missing: Numbers of the subjects to make.
        total: Number of subjects with those that are there already, for the bar.
        workers: Processes.
        title: What the bar says.

    Raises:
        Exception: The first one that ``make`` raises; subjects that were begun are finished, no others begun.
    """
    from tqdm import tqdm

    with tqdm(total=total, initial=total - len(missing), unit="subject", desc=title) as bar:
        if workers <= 1:
            for index in missing:
                make(index)
                bar.update()
            return
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            jobs = [pool.submit(make, index) for index in missing]
            try:
                for job in as_completed(jobs):
                    job.result()
                    bar.update()
            except BaseException:
                pool.shutdown(wait=True, cancel_futures=True)
                raise
