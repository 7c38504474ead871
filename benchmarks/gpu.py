"""All that needs a GPU to be believed, in one command and under ten minutes: tests and timings, one JSON.

    make gpu        # or: python benchmarks/gpu.py --json benchmarks/results/gpu.json

Runs the tests marked ``gpu`` (every task in bf16-mixed and 16-mixed, torch.compile, prediction, two GPUs where there
are two), then the benchmarks with the published-style reference beside, each in a process of its own. Whatever does
not fit into the time is named in the JSON. Without a GPU it says so and ends.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import torch

HERE = Path(__file__).parent
BENCHMARKS: dict[str, list[str]] = {
    "pretrain_step": ["--batch", "16", "--steps", "10", "--no-memory"],
    "depthwise": ["--batch", "16", "--turns", "10"],
    "dense_inference": ["--pairs", "7"],
    "finetune_step": ["--steps", "5"],
}
RESERVED = 200
"""Seconds that the tests leave to the benchmarks."""


def run(command: list[str], limit: float, **options: Any) -> tuple[str, str]:
    """Runs a command; gives how it ended (done, failed, no time left) and what it printed."""
    if limit <= 1:
        return "no time left", ""
    try:
        result = subprocess.run(command, timeout=limit, text=True, capture_output=True, check=False, **options)
    except subprocess.TimeoutExpired:
        return "no time left", ""
    return ("done" if result.returncode == 0 else "failed"), result.stdout + result.stderr


def run_tests(limit: float) -> dict[str, Any]:
    """Runs the tests that need a GPU."""
    environment = os.environ | {"CINEMA_TEST_GPU": "1"}
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "-q", str(HERE.parent / "tests")]
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "tests.xml"
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-m",
            "gpu",
            "-q",
            f"--junitxml={report}",
            str(HERE.parent / "tests"),
        ]
        ended, printed = run([*command, f"--junitxml={report}"], limit, env=environment, cwd=HERE.parent)
        if not report.is_file():
            return {"ended": ended, "printed": printed[-2000:]}
        cases = ElementTree.parse(report).getroot().iter("testcase")
    found: dict[str, Any] = {"ended": ended, "seconds": {}, "skipped": [], "failed": {}}
    for case in cases:
        name = f"{case.get('classname')}.{case.get('name')}"
        problem = case.find("failure") if case.find("failure") is not None else case.find("error")
        if problem is not None:
            found["failed"][name] = str(problem.get("message"))[:400]
        elif case.find("skipped") is not None:
            found["skipped"].append(name)
        else:
            found["seconds"][name] = round(float(case.get("time", 0)), 1)
    return found


def measure(name: str, options: list[str], limit: float) -> dict[str, Any]:
    """Runs a benchmark; gives its figures, or how it ended."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        command = [sys.executable, str(HERE / f"{name}.py"), "--device", "cuda", *options, "--json", str(report)]
        ended, printed = run(command, limit)
        if ended == "done":
            print(printed, flush=True)
            figures: dict[str, Any] = json.loads(report.read_text(encoding="utf-8"))
            return figures
    return {"ended": ended, "printed": printed[-2000:]}


def devices() -> list[dict[str, Any]]:
    """The GPUs here."""
    found = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
    return [
        {"name": one.name, "memory_gb": one.total_memory / 1e9, "capability": f"{one.major}.{one.minor}"}
        for one in found
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, default=HERE / "results" / "gpu.json", help="file to write all to")
    parser.add_argument("--seconds", type=float, default=570, help="time for everything")
    args = parser.parse_args()
    if not torch.cuda.is_available():
        print("There is no CUDA device here, so nothing was measured; run `make gpu` on a machine that has one.")
        return 0
    start = time.monotonic()
    end = start + args.seconds
    report: dict[str, Any] = {"devices": devices(), "torch": torch.__version__, "cuda": torch.version.cuda}
    report["tests"] = run_tests(args.seconds - RESERVED)
    report["benchmarks"] = {name: measure(name, more, end - time.monotonic()) for name, more in BENCHMARKS.items()}
    report["seconds"] = round(time.monotonic() - start, 1)
    args.json.parent.mkdir(parents=True, exist_ok=True)
    args.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    failed = [f"{name}: {why}" for name, why in report["tests"].get("failed", {}).items()]
    failed += [f"{name}: {row['ended']}" for name, row in report["benchmarks"].items() if "ended" in row]
    if report["tests"]["ended"] != "done" and not failed:
        failed = [f"tests: {report['tests']['ended']}"]
    print("\n".join([*failed, f"All figures are in {args.json}."]))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
