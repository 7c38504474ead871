"""Waiting for data is told from waiting for a device."""

import time
from types import SimpleNamespace

import pytest
import torch
from torch.utils.data import Dataset

from cinema_lightning.callbacks.throughput import Throughput
from cinema_lightning.data.loader import BatchLoader


class Slow(Dataset):
    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def __len__(self) -> int:
        return 6

    def __getitem__(self, index: int) -> dict:
        time.sleep(self.seconds)
        return {"id": ["a"]}


@pytest.mark.parametrize(("reading", "transfer", "low", "high"), [(0.02, 0.0, 0.8, 1.0), (0.0, 0.02, 0.0, 0.2)])
def test_only_the_loader_is_waited_for(reading, transfer, low, high):
    """A device that is waited for between two batches, as in a copy to it, is not counted."""
    loader = BatchLoader(Slow(reading), batch_size=None)
    trainer = SimpleNamespace(train_dataloader=loader, world_size=1, num_training_batches=6, log_every_n_steps=3)
    logged: dict[str, list[float]] = {}
    module = SimpleNamespace(
        log=lambda name, value, batch_size: logged.setdefault(name, []).append(value), device=torch.device("cpu")
    )
    callback = Throughput()
    callback.on_train_epoch_start(trainer, module)
    for index, batch in enumerate(loader):
        time.sleep(transfer)
        callback.on_train_batch_start(trainer, module, batch, index)
        callback.on_train_batch_end(trainer, module, None, batch, index)
    shares = logged["speed/data_wait_share"]
    assert len(shares) == 2
    assert all(low <= share <= high for share in shares)
