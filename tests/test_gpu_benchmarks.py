"""The benchmarks that wait for a GPU compute what they say, and say so where there is none."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from cinema_lightning.models.blocks import DepthwiseConv

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(scope="module")
def depthwise():
    sys.path.insert(0, str(BENCHMARKS))
    try:
        spec = importlib.util.spec_from_file_location("depthwise", BENCHMARKS / "depthwise.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(BENCHMARKS))
    return module


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
