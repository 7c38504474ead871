"""What the speed benchmarks share; this file measures nothing by itself."""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence

import torch

WARM_UPS = 2


def clock(cpu_time: bool) -> Callable[[], float]:
    """What seconds are read from: the wall's, or those that the cores spent on this process."""
    return time.process_time if cpu_time else time.perf_counter


def take_turns(
    runs: Mapping[str, Callable[[], object]], turns: int, now: Callable[[], float] = time.perf_counter
) -> dict[str, list[float]]:
    """Seconds of each run; they take turns (A B A B ...), because a busy machine's speed swings."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(WARM_UPS + turns):
        for name, run in runs.items():
            start = now()
            run()
            if turn >= WARM_UPS:
                seconds[name].append(now() - start)
    return seconds


def median_ratio(seconds: Sequence[float], reference: Sequence[float]) -> float:
    """Ratio of the medians."""
    return statistics.median(seconds) / statistics.median(reference)


def measure_peak(run: Callable[[], object], device: torch.device) -> float:
    """Peak memory of two runs in this process, GB (1e9 bytes): resident on a CPU, allocated on a GPU."""
    run()
    run()
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    scale = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale / 1e9


def peak_in_own_process(script: str, name: str, size: str, device: str, threads: int, *more: str) -> float:
    """Lets a script measure one variant's peak (``--peak NAME``) in a process of its own.

    Call it while this process is small: on Linux a child's peak starts at its parent's size.
    """
    command = [sys.executable, script, "--peak", name, "--size", size, "--device", device, "--threads", str(threads)]
    command += more
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def synchronise(device: torch.device) -> None:
    """Waits for a GPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
