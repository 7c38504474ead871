"""Which benchmarks `make bench` runs, and that nnU-Net's absence is said."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(scope="module")
def bench():
    spec = importlib.util.spec_from_file_location("bench", BENCHMARKS / "bench.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_script_is_run_or_said_to_run_elsewhere(bench):
    found = bench.benchmarks()
    assert {"pretrain_step", "dense_inference", "end_to_end", "prepare", "statistics"} <= set(found)
    assert not [name for name in found if name.startswith("reference_") or name in ("common", "turns", "simulation")]
    assert not set(bench.OPTIONS) & set(bench.ELSEWHERE), "options of scripts that are not run"


@pytest.mark.slow
def test_without_nnunet_one_sentence_says_what_to_give(tmp_path):
    script = [sys.executable, str(BENCHMARKS / "nnunet.py"), "--nnunet", str(tmp_path / "python")]
    result = subprocess.run(script, capture_output=True, text=True, check=False)
    assert result.returncode == 0
    assert result.stdout.startswith("nnU-Net is not here, so nothing was compared: give --nnunet")
    assert result.stdout.count("\n") == 1
