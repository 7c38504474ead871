"""What a step costs: device, memory and energy, as far as the platform tells."""

from __future__ import annotations

import csv
import os
import shutil
import statistics
import subprocess
import threading
import time
from pathlib import Path

POWERCAP = Path("/sys/class/powercap")
PERIOD_SECONDS = 5.0


class Meter:
    """Watches GPUs and CPU packages while a step runs.

    Args:
        period: Seconds between looks.
        visible: CUDA_VISIBLE_DEVICES of the step; None: all.

    Attributes:
        gpu_memory_bytes: Largest memory in use, summed over the visible GPUs; None without one.
        gpu_joules: Power integrated over time; None where the GPUs do not tell.
        cpu_joules: Of all CPU packages of the machine (RAPL); None where they may not be read.
    """

    def __init__(self, period: float = PERIOD_SECONDS, visible: str | None = None) -> None:
        self._period = period
        self._visible = visible
        self.gpu_memory_bytes: int | None = None
        self.gpu_joules: float | None = None
        self.cpu_joules: float | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True, name="meter")

    def __enter__(self) -> Meter:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        before, counters = time.monotonic(), _rapl()
        has_gpu = shutil.which("nvidia-smi") is not None
        while True:
            stopping = self._stop.wait(self._period)
            now, after = time.monotonic(), _rapl()
            self._add_packages(counters, after)
            if has_gpu:
                self._add_gpus(now - before)
            before, counters = now, after
            if stopping:
                return

    def _add_packages(self, before: dict[str, tuple[int, int]], after: dict[str, tuple[int, int]]) -> None:
        for name, (energy, limit) in after.items():
            if name in before:
                used = energy - before[name][0]
                used += limit if used < 0 else 0  # the counter started again from 0
                self.cpu_joules = (self.cpu_joules or 0.0) + used / 1e6

    def _add_gpus(self, seconds: float) -> None:
        rows = query_gpus("memory.used", "power.draw", visible=self._visible)
        memory = [value for value in (_number(row[0]) for row in rows) if value is not None]
        power = [value for value in (_number(row[1]) for row in rows) if value is not None]
        if memory:
            self.gpu_memory_bytes = max(self.gpu_memory_bytes or 0, int(sum(memory) * 2**20))
        if power:
            self.gpu_joules = (self.gpu_joules or 0.0) + sum(power) * seconds


def _rapl() -> dict[str, tuple[int, int]]:
    """Energy counters of the CPU packages in microjoules, and where each starts again from 0."""
    counters = {}
    for zone in sorted(POWERCAP.glob("intel-rapl:*")) if POWERCAP.is_dir() else []:
        if zone.name.count(":") != 1:  # cores and memory are parts of the package
            continue
        try:
            energy = int((zone / "energy_uj").read_text(encoding="ascii"))
            limit = int((zone / "max_energy_range_uj").read_text(encoding="ascii"))
        except (OSError, ValueError):  # mostly root's only
            continue
        counters[zone.name] = (energy, limit)
    return counters


def query_gpus(*fields: str, visible: str | None = None) -> list[list[str]]:
    """Asks nvidia-smi about GPUs.

    Args:
        *fields: Such as ``name`` or ``memory.used`` (MiB).
        visible: CUDA_VISIBLE_DEVICES: indices or ids; None: all.

    Returns:
        One row of cells per GPU; empty without GPUs.
    """
    if shutil.which("nvidia-smi") is None:
        return []
    if visible is not None and not visible.strip():
        return []
    command = ["nvidia-smi", f"--query-gpu=index,uuid,{','.join(fields)}", "--format=csv,noheader,nounits"]
    try:
        output = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    rows = [[cell.strip() for cell in row] for row in csv.reader(output.splitlines()) if row]
    if visible is not None:
        wanted = [part.strip() for part in visible.split(",")]
        rows = [row for row in rows if row[0] in wanted or any(part and row[1].startswith(part) for part in wanted)]
    return [row[2:] for row in rows]


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:  # [N/A]
        return None


def device_of(run: Path | None, visible: str | None = None) -> tuple[str, int]:
    """The device that a run used.

    Args:
        run: Its folder, whose config.yaml says which accelerator was asked for.
        visible: CUDA_VISIBLE_DEVICES of the run; None: all.

    Returns:
        Name for people, and the number of GPUs (0 for a CPU).
    """
    accelerator, devices = _asked_for(run)
    gpus = [] if accelerator == "cpu" else [row[0] for row in query_gpus("name", visible=visible)]
    if not gpus:
        return f"{_cpu_name()} ({cores()} cores)", 0
    count = int(devices) if devices.isdigit() and int(devices) > 0 else len(gpus)
    return gpus[0], min(count, len(gpus))


def _asked_for(run: Path | None) -> tuple[str, str]:
    import yaml

    if run is None or not (run / "config.yaml").is_file():
        return "auto", "auto"
    content = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8")) or {}
    trainer = content.get("trainer") or {}
    return str(trainer.get("accelerator", "auto")), str(trainer.get("devices", "auto"))


def cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _cpu_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    import platform

    return platform.processor() or platform.machine() or "CPU"


def samples_per_second(run: Path | None) -> float | None:
    """Median of ``speed/samples_per_s`` in a run's TensorBoard events; None where it wrote none."""
    if run is None or not any(run.glob("events.out.tfevents.*")):
        return None
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run), size_guidance={"scalars": 0})
    events.Reload()
    if "speed/samples_per_s" not in events.Tags().get("scalars", []):
        return None
    return float(statistics.median(event.value for event in events.Scalars("speed/samples_per_s")))
