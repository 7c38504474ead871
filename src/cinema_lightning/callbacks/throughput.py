"""Samples per second, share of time spent waiting for data, and peak memory, in TensorBoard."""

from __future__ import annotations

import time
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer


class Throughput(Callback):
    """Logs ``speed/samples_per_s``, ``speed/data_wait_share`` and, on a GPU, ``speed/peak_memory_gb``.

    Waiting is the time from the end of one batch to the start of the next: reading, collating and transfer.
    """

    def __init__(self) -> None:
        self._reset()
        self._batch_end: float | None = None

    def _reset(self) -> None:
        self._samples = 0
        self._waited = 0.0
        self._since = time.perf_counter()

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Starts counting anew, so that validation between epochs counts as neither work nor waiting."""
        self._reset()
        self._batch_end = time.perf_counter()

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Adds the wait for this batch."""
        if self._batch_end is not None:
            self._waited += time.perf_counter() - self._batch_end

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Counts the samples; logs every ``trainer.log_every_n_steps`` batches and at the end of an epoch."""
        self._samples += len(batch["id"])
        self._batch_end = time.perf_counter()
        interval = getattr(trainer, "log_every_n_steps", 50)
        if (batch_idx + 1) % interval and batch_idx + 1 != trainer.num_training_batches:
            return
        seconds = max(self._batch_end - self._since, 1e-9)
        pl_module.log("speed/samples_per_s", self._samples * trainer.world_size / seconds, batch_size=1)
        pl_module.log("speed/data_wait_share", min(self._waited / seconds, 1.0), batch_size=1)
        if pl_module.device.type == "cuda":
            pl_module.log("speed/peak_memory_gb", torch.cuda.max_memory_allocated(pl_module.device) / 1e9, batch_size=1)
        self._reset()
