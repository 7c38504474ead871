"""Memory and energy, with a stand-in for nvidia-smi and for RAPL."""

import os
import time

import pytest

from cinema_lightning.benchmark import cost
from cinema_lightning.benchmark.cost import Meter, device_of, query_gpus, samples_per_second
from cinema_lightning.benchmark.record import StepRecord

SMI = """#!/bin/sh
echo "0, GPU-aaa, $(echo "$1" | grep -q name && echo 'NVIDIA H100' || echo '1000, 250.0')"
echo "1, GPU-bbb, $(echo "$1" | grep -q name && echo 'NVIDIA H100' || echo '500, [N/A]')"
"""


@pytest.fixture
def gpus(tmp_path, monkeypatch):
    smi = tmp_path / "nvidia-smi"
    smi.write_text(SMI)
    smi.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return tmp_path


def test_gpu_memory_and_energy(gpus):
    with Meter(period=0.1) as meter:
        time.sleep(0.45)
    assert meter.gpu_memory_bytes == 1500 * 2**20
    assert 250 * 0.3 < meter.gpu_joules < 250 * 2


def test_only_visible_gpus_count(gpus):
    assert query_gpus("name", visible=None) == [["NVIDIA H100"], ["NVIDIA H100"]]
    assert query_gpus("name", visible="1") == [["NVIDIA H100"]]
    assert query_gpus("name", visible="GPU-a") == [["NVIDIA H100"]]
    assert query_gpus("name", visible="") == []


def test_the_device_is_what_the_run_asked_for(gpus, tmp_path):
    assert device_of(None) == ("NVIDIA H100", 2)
    (tmp_path / "config.yaml").write_text("trainer: {accelerator: auto, devices: 1}\n")
    assert device_of(tmp_path) == ("NVIDIA H100", 1)
    (tmp_path / "config.yaml").write_text("trainer: {accelerator: cpu}\n")
    name, count = device_of(tmp_path)
    assert count == 0
    assert "cores" in name


def test_cpu_energy_counts_on_where_its_counter_starts_again(tmp_path, monkeypatch):
    zone = tmp_path / "intel-rapl:0"
    zone.mkdir()
    (zone / "max_energy_range_uj").write_text("10000000")
    (zone / "energy_uj").write_text("9000000")
    monkeypatch.setattr(cost, "POWERCAP", tmp_path)
    with Meter(period=0.05) as meter:
        time.sleep(0.02)
        (zone / "energy_uj").write_text("1000000")
        time.sleep(0.2)
    assert meter.cpu_joules == pytest.approx(2.0)


def test_a_platform_that_tells_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(cost, "POWERCAP", tmp_path / "none")
    monkeypatch.setenv("PATH", str(tmp_path))
    with Meter(period=0.05) as meter:
        time.sleep(0.1)
    assert (meter.gpu_memory_bytes, meter.gpu_joules, meter.cpu_joules) == (None, None, None)


def test_samples_per_second_from_the_events(tmp_path):
    from torch.utils.tensorboard import SummaryWriter

    assert samples_per_second(tmp_path) is None
    with SummaryWriter(str(tmp_path)) as writer:
        for step, value in enumerate((1.0, 30.0, 20.0)):
            writer.add_scalar("speed/samples_per_s", value, step)
    assert samples_per_second(tmp_path) == 20.0


def test_attempts_add_up():
    total = StepRecord(state="stopped", seconds=5, max_rss_bytes=10, gpu_joules=3)
    total.add(StepRecord(state="done", exit_code=0, seconds=2, max_rss_bytes=7, cpu_joules=1))
    assert total == StepRecord("done", 0, 7, 10, None, 3, 1)
