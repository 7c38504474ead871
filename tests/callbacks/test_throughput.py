"""Waiting for data is told from waiting for a device; how much of a training is validation."""

import time
from types import SimpleNamespace

import lightning
import pytest
import torch
from torch.utils.data import Dataset

from cinema_lightning.callbacks import throughput
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


class Validated(lightning.LightningModule):
    """Lets a clock go on in training and validation batches."""

    def __init__(self, training: float, validating: float) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.seconds = training, validating
        self.now = 0.0
        self.shares: list[float] = []

    def training_step(self, batch, _):
        self.now += self.seconds[0]
        return self.weight.sum()

    def validation_step(self, batch, _):
        self.now += self.seconds[1]

    def on_train_epoch_end(self) -> None:
        if "speed/validation_share" in self.trainer.callback_metrics:
            self.shares.append(self.trainer.callback_metrics["speed/validation_share"].item())

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters())


@pytest.mark.parametrize(
    ("training", "validating", "share", "sentences"),
    [(30.0, 10.0, 0.25, 1), (30.0, 3.0, 1 / 11, 0), (3.0, 1.0, 0.25, 0)],
    ids=["much", "little", "much of a minute"],
)
def test_share_of_validation_is_logged_and_said_where_it_is_large(
    training, validating, share, sentences, tmp_path, monkeypatch
):
    said: list[str] = []
    task, loader = Validated(training, validating), torch.utils.data.DataLoader([{"id": ["a"]}] * 2, batch_size=None)
    monkeypatch.setattr(throughput, "rank_zero_info", said.append)
    monkeypatch.setattr(throughput, "time", SimpleNamespace(perf_counter=lambda: task.now))
    quiet = {"logger": False, "enable_progress_bar": False, "enable_checkpointing": False, "accelerator": "cpu"}
    trainer = lightning.Trainer(max_epochs=3, callbacks=[Throughput()], default_root_dir=tmp_path, **quiet)
    trainer.fit(task, loader, loader)
    assert task.shares == pytest.approx([share] * 2), "of the first epoch none is known when it starts"
    assert [("25%" in one, "check_val_every_n_epoch than 1 " in one) for one in said] == [(True, True)] * sentences
