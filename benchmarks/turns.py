"""A run and its network alone, in turns: callbacks for ``--trainer.callbacks``; measures nothing by itself."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from unittest import mock

import torch
from lightning import Callback, LightningModule, Trainer


@dataclass(frozen=True)
class Turn:
    """Seconds of some batches.

    Attributes:
        loop: Of the run.
        alone: Of the network alone on the same batches.
        loop_core: Core seconds of this process in the run; what workers do is not among them.
        alone_core: Core seconds of the network alone.
        waited: Seconds of the run in which it waited for data.
    """

    loop: float
    alone: float
    loop_core: float
    alone_core: float
    waited: float


FOUND: list[Turn] = []
"""What was measured, turn by turn."""
WARM_UP = 3
FILLING_S = 2.0


class Clock:
    """Time, core seconds of this process, and what was waited, from now on.

    Args:
        waited: Seconds waited so far.
    """

    def __init__(self, waited: float) -> None:
        self._from = time.perf_counter(), time.process_time(), waited

    def passed(self, waited: float) -> tuple[float, ...]:
        """How much of each has passed."""
        now = time.perf_counter(), time.process_time(), waited
        return tuple(b - a for a, b in zip(self._from, now, strict=True))


class Turns(Callback):
    """Times some batches of the loop, then the network alone on the same batches, and again.

    What workers had read before a turn began is not counted: they rest while the network is timed alone, and the loop
    is timed from where they have to keep up with it.

    Args:
        batches: Batches of a turn.
        turns: Turns; the run ends after the last.
    """

    def __init__(self, batches: int = 10, turns: int = 3) -> None:
        self.batches = batches
        self.turns = turns
        self._skip = 0
        self._since = Clock(0.0)
        self._kept: list[Any] = []
        FOUND.clear()

    def _begin(self, loader: Any, more: int = 0) -> None:
        self._skip = loader.num_workers * (loader.prefetch_factor or 0) + more
        self._kept = []
        self._since = Clock(loader.waited)

    def _after(self, trainer: Trainer, loader: Any, batch: Any, alone: Callable[[Any], object]) -> None:
        if self._skip:
            self._skip -= 1
            self._since = Clock(loader.waited)
            return
        self._kept.append(batch)
        if len(self._kept) < self.batches:
            return
        loop = self._since.passed(loader.waited)
        time.sleep(FILLING_S if loader.num_workers else 0)  # until the workers have nothing to do
        start = Clock(0.0)
        for one in self._kept:
            alone(one)
        passed = start.passed(0.0)
        FOUND.append(Turn(loop[0], passed[0], loop[1], passed[1], loop[2]))
        if len(FOUND) == self.turns:
            raise Done
        self._begin(loader)


class Done(Exception):  # noqa: N818  (it is no error)
    """All turns were taken."""


class FitTurns(Turns):
    """In a training: forward, loss, backward, clipping and optimiser alone."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leaves out the first batches."""
        self._begin(trainer.train_dataloader, WARM_UP)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Counts a batch, and takes the network's turn when it is due."""
        task: Any = pl_module
        optimiser = trainer.optimizers[0]

        def step(one: Any) -> None:
            task.loss(one, "train").backward()
            torch.nn.utils.clip_grad_norm_(task.parameters(), trainer.gradient_clip_val or 5.0)
            optimiser.step()
            optimiser.zero_grad()

        with mock.patch.object(task, "log"):
            self._after(trainer, trainer.train_dataloader, batch, step)


class PredictTurns(Turns):
    """In a prediction: the network's output alone."""

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leaves out the first batches."""
        self._begin(_loader(trainer), WARM_UP)

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Counts a batch, and takes the network's turn when it is due."""
        task: Any = pl_module
        self._after(trainer, _loader(trainer), batch, task.infer)


def _loader(trainer: Trainer) -> Any:
    loaders = trainer.predict_dataloaders
    return loaders[0] if isinstance(loaders, list) else loaders
