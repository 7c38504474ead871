"""Samples per second, shares of time spent waiting for data and validating, and peak memory, in TensorBoard."""

from __future__ import annotations

import time
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info

from cinema_lightning.data.loader import BatchLoader

VALIDATION_SHARE = 0.1
"""Share of a training's time beyond which validation is worth a word."""
TOO_SHORT_S = 60.0
"""Trainings of fewer seconds are not worth it."""


class Throughput(Callback):
    """Logs ``speed/samples_per_s``, ``speed/data_wait_share`` and, on a GPU, ``speed/peak_memory_gb``.

    At the start of each epoch ``speed/validation_share`` says how much of the training's time went into validation so
    far, pictures and figures of features included; if that is more than a tenth at the end, a sentence says so.

    Waiting is the time that the loop spent in the loader, for workers that are not done (without workers: reading). The
    time until a device has done what it was given is no waiting for data, wherever the program waits for it.
    """

    def __init__(self) -> None:
        self._started = self._validating_since = time.perf_counter()
        self._validated = 0.0
        self._reset(0.0)

    def _reset(self, waited: float) -> None:
        self._samples = 0
        self._waited = waited
        self._since = time.perf_counter()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Starts the clock of the training."""
        self._started, self._validated = time.perf_counter(), 0.0

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Starts counting anew, so that validation between epochs counts as neither work nor waiting."""
        if self._validated:
            pl_module.log("speed/validation_share", self._validation_share(), batch_size=1)
        self._reset(_waited(trainer))

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Looks at the clock."""
        self._validating_since = time.perf_counter()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Adds the time of a validation."""
        if not trainer.sanity_checking:
            self._validated += time.perf_counter() - self._validating_since

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Says so where validation took much of the time."""
        share, long = self._validation_share(), time.perf_counter() - self._started > TOO_SHORT_S
        if long and share > VALIDATION_SHARE:
            rank_zero_info(
                f"Validation took {share:.0%} of the training's time: a larger trainer.check_val_every_n_epoch than "
                f"{trainer.check_val_every_n_epoch} saves most of it."
            )

    def _validation_share(self) -> float:
        return self._validated / max(time.perf_counter() - self._started, 1e-9)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Counts the samples; logs every ``trainer.log_every_n_steps`` batches and at the end of an epoch."""
        self._samples += len(batch["id"])
        interval = getattr(trainer, "log_every_n_steps", 50)
        if (batch_idx + 1) % interval and batch_idx + 1 != trainer.num_training_batches:
            return
        seconds, waited = max(time.perf_counter() - self._since, 1e-9), _waited(trainer)
        pl_module.log("speed/samples_per_s", self._samples * trainer.world_size / seconds, batch_size=1)
        pl_module.log("speed/data_wait_share", min((waited - self._waited) / seconds, 1.0), batch_size=1)
        if pl_module.device.type == "cuda":
            pl_module.log("speed/peak_memory_gb", torch.cuda.max_memory_allocated(pl_module.device) / 1e9, batch_size=1)
        self._reset(waited)


def _waited(trainer: Trainer) -> float:
    """Seconds that the training loader was waited for so far."""
    loader = trainer.train_dataloader
    return loader.waited if isinstance(loader, BatchLoader) else 0.0
