"""All that needs a GPU to be believed, in one command and under ten minutes: tests and timings, one JSON.

    make gpu        # or: python benchmarks/gpu.py --seconds 230 --json benchmarks/results/gpu.json

Runs the tests marked ``gpu`` (every task in bf16-mixed and 16-mixed, torch.compile, stacks at their own depth,
prediction, two GPUs where there are two), several at a time where pytest-xdist is installed, then the benchmarks one
after the other with the published-style reference beside, each in a process of its own. What is measured is written
after each; whatever does not fit into the time is named in the JSON. Without a GPU it says so and ends.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import IO, Any
from xml.etree import ElementTree

import torch

HERE = Path(__file__).parent
BENCHMARKS: dict[str, list[str]] = {
    "pretrain_step": ["--batch", "16", "--steps", "10", "--no-memory"],
    "frames_at_once": ["--turns", "5"],
    "step_memory": ["--gb", "24", "--only", "pretraining, four views, SAX of 16 slices", "ConvUNetR, SAX of 11 slices"],
    "depthwise": ["--batch", "16", "--turns", "10"],
    "dense_inference": ["--pairs", "7", "--no-memory"],
    "finetune_step": ["--steps", "5", "--no-memory"],
}
"""What to run, with which options; what matters most comes first, since time may end."""
TESTS_SHARE = 0.5
"""Share of the time that tests may take; benchmarks get what is left."""
AT_ONCE = 8
"""Tests that run at a time at most; they share the GPU."""
TO_END = 15
"""Seconds that a command gets to write what it has, once its time is over."""


def run(command: list[str], limit: float, **options: Any) -> tuple[str, str]:
    """Runs a command; gives how it ended (done, failed, no time left) and what it printed.

    When its time is over it is interrupted as by Ctrl-C, and killed with all that it started if that does not end it.
    """
    if limit <= TO_END:
        return "no time left", ""
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(command, stdout=said, stderr=subprocess.STDOUT, start_new_session=True, **options)
        try:
            code = process.wait(limit - TO_END)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                process.wait(TO_END - 5)
            return "no time left", _read(said)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        return ("done" if code == 0 else "failed"), _read(said)


def _read(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode("utf-8", "replace")


def run_tests(limit: float, places: list[str], marked: str = "gpu") -> dict[str, Any]:
    """Runs the tests of a mark; gives the seconds of those that passed, and those that failed or were skipped."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "tests.xml"
        command = [sys.executable, "-m", "pytest", "-v", "-m", marked, f"--junitxml={report}", *_several(), *places]
        command += ["-o", "junit_family=xunit1"]  # which has room for the figures that tests note
        # one thread each, and a few to compile with: there are several processes
        own = {"CINEMA_TEST_GPU": "1", "OMP_NUM_THREADS": "1", "TORCHINDUCTOR_COMPILE_THREADS": "4"}
        ended, printed = run(command, limit, env=os.environ | own, cwd=HERE.parent)
        print(printed, flush=True)
        found: dict[str, Any] = {"ended": ended, "seconds": {}, "figures": {}, "skipped": [], "failed": {}}
        if ended != "done":
            found["printed"] = printed[-8000:]
        if report.is_file():
            for case in ElementTree.parse(report).getroot().iter("testcase"):
                if case.get("name"):  # those that were interrupted have none
                    _note(case, found)
    return found


def _several() -> list[str]:
    """Options that run tests side by side, where that is possible."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if importlib.util.find_spec("xdist") is None or cores < 4:
        return []
    return ["-n", str(min(AT_ONCE, cores // 2)), "--dist", "worksteal"]


def _note(case: ElementTree.Element, found: dict[str, Any]) -> None:
    """Adds what a test case of a JUnit report says."""
    name = f"{case.get('classname')}.{case.get('name')}"
    figures = {str(one.get("name")): one.get("value") for one in case.iter("property")}
    if figures:
        found["figures"][name] = figures
    problem = next((one for one in case if one.tag in ("failure", "error")), None)
    if problem is not None:
        found["failed"][name] = str(problem.get("message"))[:400]
    elif case.find("skipped") is not None:
        found["skipped"].append(name)
    else:
        found["seconds"][name] = round(float(case.get("time", 0)), 1)


def measure(name: str, options: list[str], limit: float, device: str = "cuda") -> dict[str, Any]:
    """Runs a benchmark; gives its figures, those that it had written where it did not end well, and how it ended."""
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        command = [sys.executable, str(HERE / f"{name}.py"), "--device", device, *options, "--json", str(report)]
        ended, printed = run(command, limit)
        print(printed, flush=True)
        figures: dict[str, Any] = {}
        with suppress(OSError, json.JSONDecodeError):
            figures = json.loads(report.read_text(encoding="utf-8"))
    if ended != "done":
        figures |= {"ended": ended, "printed": printed[-2000:]}
    return figures | {"took": round(time.monotonic() - start, 1)}


def devices() -> list[dict[str, Any]]:
    """The GPUs here."""
    found = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
    return [
        {"name": one.name, "memory_gb": one.total_memory / 1e9, "capability": f"{one.major}.{one.minor}"}
        for one in found
    ]


def keep(report: dict[str, Any], start: float, file: Path) -> None:
    """Writes what there is so far."""
    report["seconds"] = round(time.monotonic() - start, 1)
    file.parent.mkdir(parents=True, exist_ok=True)
    beside = file.with_name(f".{file.name}.part")
    beside.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    beside.replace(file)


def problems(report: dict[str, Any]) -> list[str]:
    """What failed or did not fit into the time, a line each."""
    tests = report["tests"]
    out = [f"{name}: {why}" for name, why in tests["failed"].items()]
    if tests["ended"] != "done" and not out:
        out = [f"tests: {tests['ended']}"]
    return out + [f"{name}: {row['ended']}" for name, row in report["benchmarks"].items() if "ended" in row]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, default=HERE / "results" / "gpu.json", help="file to write all to")
    parser.add_argument("--seconds", type=float, default=570, help="time for everything")
    args = parser.parse_args()
    if not torch.cuda.is_available():
        print("There is no CUDA device here, so nothing was measured; run `make gpu` on a machine that has one.")
        return 0
    start = time.monotonic()
    report: dict[str, Any] = {"devices": devices(), "torch": torch.__version__, "cuda": torch.version.cuda}
    report |= {"tests": {"ended": "killed while they ran", "failed": {}}, "benchmarks": {}}
    keep(report, start, args.json)
    report["tests"] = run_tests(TESTS_SHARE * args.seconds, [str(HERE.parent / "tests")])
    keep(report, start, args.json)
    for name, options in BENCHMARKS.items():
        left = args.seconds - (time.monotonic() - start)
        print(f"== {name}, {left:.0f} seconds left", flush=True)
        report["benchmarks"][name] = measure(name, options, left)
        keep(report, start, args.json)
    print("\n".join([*problems(report), f"All figures are in {args.json}."]))
    return 1 if problems(report) else 0


if __name__ == "__main__":
    sys.exit(main())
