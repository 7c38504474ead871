"""The benchmarks that wait for a GPU compute what they say, and say so where there is none."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from cinema_lightning.models.blocks import DepthwiseConv

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def script(name):
    sys.path.insert(0, str(BENCHMARKS))
    try:
        spec = importlib.util.spec_from_file_location(name, BENCHMARKS / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(BENCHMARKS))
    return module


@pytest.fixture(scope="module")
def depthwise():
    return script("depthwise")


def test_all_ways_of_a_depthwise_convolution_give_the_same(depthwise):
    maps, weight, bias = depthwise.parts((9, 8, 6, 4), 2, torch.device("cpu"))
    conv = DepthwiseConv(4, 3)
    with torch.no_grad():
        conv.weight.copy_(weight)
        conv.bias.copy_(bias)
    wanted = conv(maps)
    slopes = torch.randn_like(wanted)
    gradients = torch.autograd.grad(wanted, (maps, conv.weight, conv.bias), slopes)
    assert len(depthwise.WAYS) == 4
    for way in depthwise.WAYS.values():
        out = way(maps, weight, bias)
        torch.testing.assert_close(out, wanted, atol=1e-4, rtol=1e-4)
        found = torch.autograd.grad(out, (maps, weight, bias), slopes)
        torch.testing.assert_close(found, gradients, atol=1e-4, rtol=1e-4)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_a_gpu_it_says_so_and_ends(tmp_path):
    script = [sys.executable, str(BENCHMARKS / "gpu.py"), "--json", str(tmp_path / "gpu.json")]
    result = subprocess.run(script, capture_output=True, text=True, check=False)
    assert result.returncode == 0
    assert result.stdout == (
        "There is no CUDA device here, so nothing was measured; run `make gpu` on a machine that has one.\n"
    )
    assert not (tmp_path / "gpu.json").exists()


TESTS = """import time, pytest
pytestmark = pytest.mark.some
def test_passes(record_property): record_property("apart", 0.5)
def test_fails(): assert 0, "it is wrong"
def test_skips(): pytest.skip("no")
def test_never_ends(): time.sleep(1000)
"""


@pytest.mark.slow
@pytest.mark.parametrize("several", [[], ["-n", "2"]])
def test_tests_that_were_over_before_the_time_was_are_kept(several, tmp_path, monkeypatch):
    gpu = script("gpu")
    monkeypatch.setattr(gpu, "_several", lambda: several)
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = some\n", encoding="utf-8")
    (tmp_path / "test_some.py").write_text(TESTS, encoding="utf-8")
    found = gpu.run_tests(gpu.TO_END + 25, [str(tmp_path)], "some")
    assert found["ended"] == "no time left"
    assert list(found["seconds"]) == ["test_some.test_passes"]
    assert found["figures"] == {"test_some.test_passes": {"apart": "0.5"}}
    assert found["skipped"] == ["test_some.test_skips"]
    assert list(found["failed"]) == ["test_some.test_fails"]
    assert "it is wrong" in found["failed"]["test_some.test_fails"]


def test_a_benchmark_that_fails_or_is_late_is_named_and_loses_nothing(tmp_path, monkeypatch):
    gpu = script("gpu")
    monkeypatch.setattr(gpu, "HERE", tmp_path)
    write = "import sys, pathlib\npathlib.Path(sys.argv[-1]).write_text('{\"rows\": 1}')\n"
    (tmp_path / "fails.py").write_text(write + "sys.exit('no such kernel')", encoding="utf-8")
    (tmp_path / "late.py").write_text(write + "import time\ntime.sleep(1000)", encoding="utf-8")
    failed = gpu.measure("fails", [], 60)
    assert failed == {"rows": 1, "ended": "failed", "printed": "no such kernel\n", "took": failed["took"]}
    late = gpu.measure("late", [], gpu.TO_END + 1)
    assert (late["rows"], late["ended"]) == (1, "no time left")
    report = {
        "tests": {"ended": "done", "failed": {}},
        "benchmarks": {"good": {"rows": 1}, "fails": failed, "late": late},
    }
    gpu.keep(report, 0, tmp_path / "new" / "gpu.json")
    assert json.loads((tmp_path / "new" / "gpu.json").read_text(encoding="utf-8"))["benchmarks"]["late"]["rows"] == 1
    assert gpu.problems(report) == ["fails: failed", "late: no time left"]
