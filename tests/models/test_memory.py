"""What a pass takes is found out without computing, and batches are as large as memory holds."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from cinema_lightning.models import memory
from cinema_lightning.models.convunetr import ConvUNetR
from cinema_lightning.models.convvit import ConvViT
from cinema_lightning.models.memory import AT_ONCE, KEPT_OUTPUTS, Room, pass_bytes, samples_at_once

CPU = torch.device("cpu")
SIZE = {"sax": [32, 32, 4]}


class Squares(nn.Module):
    """Holds the image, two maps of it at a time, and gives one."""

    def forward(self, images):
        return {"sax": (images["sax"] * 2).exp().square()}


def test_bytes_are_those_that_are_there_at_a_time():
    image = 4 * 8 * 8 * 4
    assert pass_bytes(Squares(), {"sax": (1, 1, 8, 8, 4)}, CPU) == (1 + 2 + KEPT_OUTPUTS) * image


@pytest.mark.parametrize("network", [ConvUNetR, ConvViT])
def test_a_pass_takes_more_with_every_sample_and_touches_no_weight(network):
    torch.manual_seed(0)
    built = network(["sax"], SIZE, size="tiny").eval()
    before = {name: value.clone() for name, value in built.state_dict().items()}
    one, four = (pass_bytes(built, {"sax": (n, 1, *SIZE["sax"])}, CPU) for n in (1, 4))
    assert 3.5 * one < four <= 4 * one
    assert all(torch.equal(value, before[name]) for name, value in built.state_dict().items())
    assert all(type(value) is nn.Parameter for value in built.parameters())
    with torch.no_grad():
        built({"sax": torch.rand(1, 1, *SIZE["sax"])})


@pytest.mark.parametrize(("passes", "wanted"), [(1000, AT_ONCE["cpu"]), (2.5, 2), (0.1, 1)])
def test_as_many_as_a_share_of_the_memory_holds(monkeypatch, passes, wanted):
    """What is free changes nothing as long as it is enough, so that numbers are the same in the next run."""
    network = ConvUNetR(["sax"], SIZE, size="tiny").eval()
    one = pass_bytes(network, {"sax": (1, 1, *SIZE["sax"])}, CPU)
    whole = int(passes * one / memory.SHARE)
    for free in (1.0, 0.7, 0.55):
        monkeypatch.setattr(memory, "room_of", lambda device, free=free: Room(whole, int(free * whole)))
        assert samples_at_once(network, {"sax": (1, *SIZE["sax"])}, CPU) == wanted


def test_no_more_than_what_is_free_holds(monkeypatch):
    network = ConvUNetR(["sax"], SIZE, size="tiny").eval()
    one = pass_bytes(network, {"sax": (1, 1, *SIZE["sax"])}, CPU)
    monkeypatch.setattr(memory, "room_of", lambda device: Room(1000 * one, int(2.5 * one / memory.FREE_SHARE)))
    assert samples_at_once(network, {"sax": (1, *SIZE["sax"])}, CPU) == 2


def test_nothing_is_said_where_nothing_is_known(monkeypatch):
    class Asking(nn.Module):
        def forward(self, images):
            return images["sax"] if images["sax"].mean() > 0 else None

    monkeypatch.setattr(memory, "room_of", lambda device: Room(1000, 1000))
    assert samples_at_once(Asking(), {"sax": (1, 8, 8, 4)}, CPU) is None
    monkeypatch.setattr(memory, "room_of", lambda device: None)
    assert samples_at_once(Squares(), {"sax": (1, 8, 8, 4)}, CPU) is None


@pytest.mark.parametrize("own", ["", "system.slice/slurm/job_7/step_0"])
def test_the_limit_of_a_container_or_a_job_counts(monkeypatch, tmp_path, own):
    """Of 2500 bytes in use, 500 are files that are only cached."""
    group = tmp_path / "cgroup" / own
    group.mkdir(parents=True)
    monkeypatch.setattr(memory, "_CGROUP", tmp_path / "cgroup")
    monkeypatch.setattr(memory, "_OWN_GROUP", tmp_path / "own")
    (tmp_path / "own").write_text(f"0::/{own}\n")
    limited = group if not own else group.parent  # SLURM limits the job, not the step in it
    (limited / "memory.current").write_text("2500\n")
    (limited / "memory.max").write_text("3000\n")
    (limited / "memory.stat").write_text("anon 2000\ninactive_file 500\n")
    assert memory.room_of(CPU) == Room(3000, 1000)
    (limited / "memory.max").write_text("max\n")
    assert memory.room_of(CPU).free > 3000
