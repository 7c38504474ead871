"""The benchmark on phantoms of all eight datasets, through a real SLURM of one node, with kills on the way.

    python benchmarks/slurm_phantom_benchmark.py [--folder DIR] [--select ...] [--json FILE]

Pretrains on phantoms, submits configs/benchmark_phantom.yaml, warns one cell, cancels another, kills a third with
SIGKILL, submits again until all are done, and writes the report. Needs root and Debian's SLURM packages (see
docs/cluster.md). A second call in the same folder goes on.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from cinema_lightning.benchmark.matrix import Matrix, read_matrix, select
from cinema_lightning.benchmark.state import CellState, survey

START = Path(__file__).resolve().parents[1] / "tests" / "slurm" / "start_slurm.py"
CONFIG = "benchmark_phantom.yaml"
SITE = """\
partition: main
gpus: 0
cpus: 1
throttle: {jobs}
environment: {{OMP_NUM_THREADS: "1"}}
"""


def cinema(*arguments: str, check: bool = True) -> int:
    """Runs the command line."""
    return subprocess.run([sys.executable, "-m", "cinema_lightning", *arguments], check=check).returncode


def start_slurm(folder: Path) -> bool:
    """Starts SLURM and lets this process's commands talk to it; False, with the reason, where it cannot."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "start.out").open("w+") as out:  # a file: the daemons keep what they inherit open
        code = subprocess.run([sys.executable, START, "start", folder], stdout=out, stderr=subprocess.STDOUT).returncode
        out.seek(0)
        said = out.read()
    if code:
        print(said.strip())
        return False
    os.environ.update(re.findall(r"export (\w+)=(.*)", said))
    return True


class Watch:
    """Looks at the cells until something is the case."""

    def __init__(self, matrix: Matrix, indices: list[int]) -> None:
        self.matrix, self.indices = matrix, indices

    def states(self) -> list[CellState]:
        """How all cells stand."""
        return survey(self.matrix.cells, self.indices, self.matrix.root)

    def having(self, *names: str) -> list[CellState]:
        """Those in one of some states."""
        return [state for state in self.states() if state.state in names]

    def until(self, condition: Callable[[], object], seconds: float) -> bool:
        """Waits for a condition; False if it did not come true in time."""
        end = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > end:
                return False
            time.sleep(2)
        return True


def disturb(watch: Watch) -> dict[str, str]:
    """Warns, cancels and kills cells while they run.

    Returns:
        What was done to which cell.
    """
    done: dict[str, str] = {}
    for how in (["--signal=USR2", "--batch"], [], ["--signal=KILL", "--full"]):
        fresh: list[CellState] = []

        def found(fresh: list[CellState] = fresh) -> bool:
            fresh[:] = [state for state in watch.having("running") if state.job and state.cell.name not in done]
            return bool(fresh)

        if not watch.until(found, 300):
            break
        time.sleep(10)  # into its training
        subprocess.run(["scancel", *how, fresh[0].job], check=False)
        done[fresh[0].cell.name] = f"scancel {' '.join(how)}".strip()
        print(f"{done[fresh[0].cell.name]}: {fresh[0].cell.name}", flush=True)
    return done


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="where to work; a temporary one by default")
    parser.add_argument("--select", help="cells, as of `cinema benchmark plan --select`")
    parser.add_argument("--jobs", type=int, default=2, help="cells at a time")
    parser.add_argument("--hours", type=float, default=3.0, help="give up after")
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args()
    out = options.json.resolve() if options.json else None
    folder = (options.folder or Path(tempfile.mkdtemp(prefix="slurm_benchmark_"))).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    os.chdir(folder)
    if not start_slurm(Path(tempfile.mkdtemp(prefix="slurm_"))):
        return 0
    try:
        figures = work(options)
    finally:
        subprocess.run([sys.executable, START, "stop", Path(os.environ["SLURM_CONF"]).parent], check=False)
    print(json.dumps(figures, indent=1))
    if out:
        out.write_text(json.dumps(figures, indent=1) + "\n")
    return 0 if figures["done"] == figures["cells"] else 1


def work(options: argparse.Namespace) -> dict[str, object]:
    """All of it, in the current folder."""
    if not Path("runs/pretrain+phantom/0/checkpoints/best.ckpt").exists():
        cinema("fit", "--config", "pretrain.yaml", "--config", "phantom.yaml", "--trainer.max_epochs=5")
    Path("site.yaml").write_text(SITE.format(jobs=options.jobs))
    matrix = read_matrix(CONFIG)
    watch = Watch(matrix, select(matrix.cells, options.select))
    submit = ["benchmark", "submit", "--site", "site.yaml", "--config", CONFIG]
    submit += ["--select", options.select] if options.select else []
    began = time.monotonic()
    submissions, disturbed = 0, {}
    while watch.having("missing", "stopped", "failed", "queued", "running") and submissions < 4:
        cinema(*submit)
        cinema(*submit)  # a second submit doubles nothing
        submissions += 1
        disturbed |= disturb(watch) if submissions == 1 else {}
        if not watch.until(lambda: not watch.having("queued", "running"), options.hours * 3600):
            break
    cinema("benchmark", "plan", "--config", CONFIG, "--estimate")
    cinema("benchmark", "report", "--config", CONFIG, check=False)
    states = watch.states()
    records = [state.record for state in states if state.record is not None]
    return {
        "cells": len(states),
        "done": sum(state.state == "done" for state in states),
        "submissions": submissions,
        "disturbed": disturbed,
        "attempts": sum(record.attempts for record in records),
        "wall_seconds": round(time.monotonic() - began, 1),
        "cell_seconds": round(sum(record.seconds for record in records), 1),
    }


if __name__ == "__main__":
    sys.exit(main())
