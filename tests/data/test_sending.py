"""Workers that have no room in shared memory end with a sentence instead of being waited for."""

import shutil
import time
from types import SimpleNamespace

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from cinema_lightning.cli import main
from cinema_lightning.data import sending
from cinema_lightning.data.loader import BatchLoader
from cinema_lightning.data.sending import RoomToSend, end_if_unsent, explained
from cinema_lightning.errors import CinemaError


class Batches(Dataset):
    """Batches of 1 MB in two tensors; or of something that cannot be sent."""

    def __init__(self, content=None):
        self.content = content

    def __len__(self):
        return 8

    def __getitem__(self, index):
        return self.content or {"sax": torch.zeros(999_000, dtype=torch.uint8), "id": ["a"], "n": torch.zeros(1)}


class Unsendable:
    def __reduce__(self):
        raise OSError(28, "No space left on device")


def loader(dataset: Dataset, workers: int = 2) -> DataLoader:
    options = {"collate_fn": RoomToSend(workers, 2), "worker_init_fn": end_if_unsent}
    options |= {"prefetch_factor": 2} if workers else {}
    return BatchLoader(dataset, batch_size=None, num_workers=workers, **options)


def room(monkeypatch, total: int, free: int) -> None:
    monkeypatch.setattr(
        sending, "shutil", SimpleNamespace(disk_usage=lambda _: shutil._ntuple_diskusage(total, 0, free))
    )


@pytest.mark.parametrize(
    ("total", "free", "said"),
    [
        (4_000_000, 4_000_000, "holds 4 MB, but the 4 batches that the workers read ahead are 4.01 MB"),
        (5_000_000, 500_000, "has 0.5 MB left for a batch of 1 MB"),
    ],
)
def test_too_small_a_shared_memory_is_said_before_it_is_used(monkeypatch, total, free, said):
    room(monkeypatch, total, free)
    with pytest.raises(CinemaError, match=f"{said}.*data.num_workers"):
        list(loader(Batches()))
    assert len(list(loader(Batches(), workers=0))) == 8, "without workers nothing is sent"


def test_enough_shared_memory_is_used(monkeypatch):
    room(monkeypatch, 5_000_000, 5_000_000)
    assert len(list(loader(Batches()))) == 8


def test_a_worker_that_cannot_send_is_not_waited_for():
    began = time.monotonic()
    with pytest.raises(RuntimeError, match="DataLoader worker") as caught:
        list(loader(Batches(Unsendable())))
    assert time.monotonic() - began < 60, "it hung"
    said = str(explained(caught.value))
    assert "data.num_workers" in said
    assert "/dev/shm" in said
    assert explained(RuntimeError("anything else")) is None


def test_a_training_without_room_ends_with_the_sentence(phantom_cohort, tmp_path, monkeypatch, capsys):
    room(monkeypatch, 131_072, 131_072)
    command = ["fit", "--config", "pretrain.yaml", "--config", "phantom.yaml", "--data.root", str(phantom_cohort)]
    command += ["--runs", str(tmp_path), "--data.num_workers=2", "--trainer.max_epochs=1"]
    assert main(command) == 2
    assert "/dev/shm holds 0.131 MB" in capsys.readouterr().err
