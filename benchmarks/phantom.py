"""Seconds per phantom subject and core: python benchmarks/phantom.py [--subjects 3] [--json FILE]."""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from cinema_lightning.phantom.cohort import Settings, make_subject

LIMIT = {"full": 10.0, "small": 1.0}
TARGET = {"full": 5.0, "small": 0.5}


def measure(settings: Settings, subjects: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        make_subject(root, 1000, Settings(size="small", frames=1))  # imports are paid once per process
        times, cpu, size = [], [], 0
        for index in range(subjects):
            wall, busy = time.perf_counter(), time.process_time()
            name = make_subject(root, index, settings)
            times.append(time.perf_counter() - wall)
            cpu.append(time.process_time() - busy)
            size += sum(path.stat().st_size for path in (root / name).iterdir())
    return {
        "wall_s": min(times),
        "cpu_s": min(cpu),
        "cpu_mean_s": sum(cpu) / subjects,
        "mb_per_subject": size / subjects / 1e6,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--subjects", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows = {}
    print(
        f"{'size':8}{'frames':>8}{'wall s':>9}{'cpu s':>8}{'mean cpu s':>12}{'MB':>7}{'target s':>10}{'target/cpu':>12}"
    )
    for size, frames in (("full", 50), ("small", 8)):
        row = measure(Settings(size=size, frames=frames), options.subjects)
        row |= {
            "frames": frames,
            "target_s": TARGET[size],
            "limit_s": LIMIT[size],
            "ratio": TARGET[size] / row["cpu_s"],
        }
        rows[size] = row
        print(
            f"{size:8}{frames:8d}{row['wall_s']:9.2f}{row['cpu_s']:8.2f}{row['cpu_mean_s']:12.2f}"
            f"{row['mb_per_subject']:7.1f}{row['target_s']:10.1f}{row['ratio']:12.2f}"
        )
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
