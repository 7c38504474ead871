"""How training paces: the steps that batches make, the learning rate's course, and what changes them on the way."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from lightning import LightningModule
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch.optim.lr_scheduler import LambdaLR

from cinema_lightning.data.protocol import TaskData, planned_data
from cinema_lightning.data.resume import limited
from cinema_lightning.errors import CinemaError
from cinema_lightning.tasks.optim import (
    Optimisation,
    Pace,
    adamw,
    divided,
    fitting_global_batch,
    learning_rate,
    parameter_groups,
)


class Paced(LightningModule):
    """Steps of the global batch on any devices, and the schedule over them.

    Lightning's BatchSizeFinder and LearningRateFinder work: what they find is planned with, said, and kept by a resumed
    run.

    Args:
        optim: Optimiser and schedule.

    Raises:
        CinemaError: If a step is to be of no samples.
    """

    def __init__(self, optim: Optimisation) -> None:
        super().__init__()
        if optim.global_batch is not None and optim.global_batch < 1:
            raise CinemaError(
                f"optim.global_batch is {optim.global_batch}; write how many samples make a step, or null for one "
                "batch per device."
            )
        self.optim = optim
        self._configured_lr = optim.lr
        self._begun_with: tuple[int, int | float] = (1, 1.0)
        self._planned_batch = 0
        self._pace = Pace(1.0, 1.0, optim.lr)
        self._fresh: list[dict[str, Any]] = []

    def setup(self, stage: str) -> None:
        """Chooses the accumulation that reaches the global batch."""
        planned = planned_data(self._trainer)
        if stage != "fit" or planned is None:
            return
        data, _ = planned
        if self.optim.global_batch:
            self._begun_with = self.trainer.accumulate_grad_batches, self.trainer.limit_train_batches
            self._set_accumulation(data, self.optim.global_batch)
        self._planned_batch = data.batch_size

    def _set_accumulation(self, data: TaskData, wanted: int) -> None:
        """Makes steps of the global batch: smaller batches on many devices, several on few.

        An epoch's incomplete tail is dropped.
        """
        if self.trainer.accumulate_grad_batches != 1:
            return  # trainer.accumulate_grad_batches, where set, is the user's word
        world = self.trainer.world_size
        wanted = fitting_global_batch(wanted, data.n_train)
        size, count = divided(wanted, data.batch_size, world)
        if size != data.batch_size:
            data.set_batch_size(size)
        assert data.train_sampler is not None
        batches = limited(self.trainer, len(data.train_sampler))
        count = max(min(count, batches), 1)
        self.trainer.accumulate_grad_batches = count
        if batches % count:
            self.trainer.limit_train_batches = batches // count * count
        rank_zero_info(f"{count} batches of {data.batch_size} on {world} device(s) make one step.")

    def _scaled_rate(self) -> float:
        """Factor of the learning rate where a step is not of the samples that the rate is for; said."""
        planned = planned_data(self.trainer)
        if not self.optim.global_batch or planned is None:
            return 1.0
        data, _ = planned
        wanted = fitting_global_batch(self.optim.global_batch, data.n_train)
        taken = data.batch_size * self.trainer.world_size * self.trainer.accumulate_grad_batches
        if taken == wanted:
            return 1.0
        factor = taken / wanted if self.optim.scale_lr else 1.0
        rank_zero_warn(
            f"One step takes {taken} samples instead of optim.global_batch {wanted}: the learning rate "
            f"{f'is multiplied by {factor:.4g}' if self.optim.scale_lr else 'stays as it is'} (optim.scale_lr)."
        )
        return factor

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """AdamW with the warm-up and half-cosine, stepped by fraction of an epoch."""
        # a gradient scaler (16-mixed) has to see the gradients before they are clipped, which fused AdamW prevents
        scaled = getattr(self.trainer.precision_plugin, "scaler", None) is not None
        optimizer = adamw(self.parameter_groups(), self.optim, fused=not scaled)
        epochs = self.trainer.max_epochs or 0
        if epochs < 1:
            raise CinemaError("The schedule needs the length of the run: set trainer.max_epochs in the configuration.")
        self._pace = Pace(self._steps_per_epoch(epochs), self._scaled_rate(), self.optim.lr)

        def factor(step: int) -> float:
            pace = self._pace
            return pace.scale * learning_rate(step / pace.steps, epochs, self.optim) / pace.lr

        scheduler = LambdaLR(optimizer, factor)
        self._fresh = [{k: v for k, v in group.items() if k != "params"} for group in optimizer.param_groups]
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    @property
    def lr(self) -> float:
        """Peak learning rate; Lightning's LearningRateFinder looks for it here, and puts here what it found."""
        return self.optim.lr

    @lr.setter
    def lr(self, value: float) -> None:
        rank_zero_info(f"The peak learning rate is {value:.3g} instead of {self.optim.lr:.3g}.")
        self.optim = replace(self.optim, lr=float(value), min_lr=min(self.optim.min_lr, float(value)))

    def on_fit_start(self) -> None:
        """Plans the steps again where a BatchSizeFinder, a callback, found another batch size."""
        planned = planned_data(self.trainer)
        if planned is None or planned[0].batch_size == self._planned_batch:
            return
        data, _ = planned
        data.set_batch_size(data.batch_size)
        if self.optim.global_batch:
            self.trainer.accumulate_grad_batches, self.trainer.limit_train_batches = self._begun_with
            self._set_accumulation(data, self.optim.global_batch)
        self._planned_batch = data.batch_size
        self._pace = replace(self._pace, steps=self._steps_per_epoch(1), scale=self._scaled_rate())
        self.trainer.fit_loop._combined_loader = None  # what the search for a batch size left there

    def on_train_start(self) -> None:
        """What the configuration says of the optimiser counts, also where a resumed run's state says otherwise."""
        for optimizer, config in zip(self.trainer.optimizers, self.trainer.lr_scheduler_configs, strict=True):
            scheduler = config.scheduler
            if not isinstance(scheduler, LambdaLR):  # a LearningRateFinder is trying rates
                return
            for place, (group, fresh) in enumerate(zip(optimizer.param_groups, self._fresh, strict=True)):
                group |= fresh
                scheduler.base_lrs[place] = fresh["initial_lr"]
                group["lr"] = fresh["initial_lr"] * scheduler.lr_lambdas[place](scheduler.last_epoch)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keeps a learning rate that was found rather than configured."""
        if self.optim.lr != self._configured_lr:
            checkpoint["found_lr"] = self.optim.lr

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Goes on with a learning rate that was found; see :meth:`on_save_checkpoint`."""
        if "found_lr" in checkpoint:
            self.lr = checkpoint["found_lr"]

    def _steps_per_epoch(self, epochs: int) -> float:
        """Optimiser steps of an epoch.

        Not from ``trainer.estimated_stepping_batches`` where it can be helped: that starts the loader's iteration
        before a resumed run knows where it stopped.
        """
        planned = planned_data(self.trainer)
        if planned is None:
            return max(self.trainer.estimated_stepping_batches / epochs, 1.0)
        batches = limited(self.trainer, len(planned[1]))
        return max(math.ceil(batches / self.trainer.accumulate_grad_batches), 1)

    def parameter_groups(self) -> list[dict[str, object]]:
        """Optimiser groups; tasks with layer-wise decay override this."""
        return parameter_groups(self.named_parameters(), self.optim.weight_decay)
