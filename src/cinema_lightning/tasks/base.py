"""What every task shares: optimiser, schedule, accumulation, skipped steps. Subclasses hold what differs."""

from __future__ import annotations

import functools
import math
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from lightning import LightningModule
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from cinema_lightning.data.table import mask_of
from cinema_lightning.errors import CinemaError
from cinema_lightning.models.position import PositionTable
from cinema_lightning.models.precision import choose_float32
from cinema_lightning.tasks.optim import (
    Optimisation,
    adamw,
    divided,
    fitting_global_batch,
    learning_rate,
    parameter_groups,
)

Batch = dict[str, Any]


@dataclass(frozen=True)
class Marked:
    """An image with landmarks on it, as something to see.

    Attributes:
        image: (B, X, Y) in [0, 1].
        points: Name of the points (truth, prediction) -> (B, L, 2) voxels, NaN where there is none.
    """

    image: Tensor
    points: dict[str, Tensor]

    def __getitem__(self, cases: slice) -> Marked:
        """The marks of some cases."""
        return Marked(self.image[cases], {name: points[cases] for name, points in self.points.items()})


Panels = dict[str, dict[str, Tensor | Marked]]
"""View -> title -> what to see: images in [0, 1], label maps (whole numbers, drawn over the panel ``image``), marks."""


T = TypeVar("T", bound="Task")
R = TypeVar("R")


def once_per_batch(method: Callable[[T, Batch], R]) -> Callable[[T, Batch], R]:
    """Lets a method run the network once while a batch is tested or predicted.

    Rows, pictures and NIfTI files of a batch all ask for the same output. Outside of Lightning's test and predict
    loops, where weights may change between two calls, nothing is kept.

    Args:
        method: Takes a batch, and must not depend on anything else that changes within it.

    Returns:
        The method, which gives the value of its first call to the later ones with the same batch.
    """

    @functools.wraps(method)
    def wrapper(self: T, batch: Batch) -> R:
        if self.kept is None:
            return method(self, batch)
        name = method.__qualname__
        if name not in self.kept or self.kept[name][0] is not batch:
            self.kept[name] = (batch, method(self, batch))
        value: R = self.kept[name][1]
        return value

    return wrapper


def run_seed() -> int:
    """The seed that the run was started with (``seed_everything``), 0 where none was set."""
    return int(os.environ.get("PL_GLOBAL_SEED", "0"))


class Task(LightningModule):
    """Base of all tasks.

    A task builds its network in ``__init__`` from the data's facts (``spec``: views, input sizes, channels, later
    classes and statistics), and answers three questions: the loss of a batch (:meth:`loss`), what there is to see of a
    batch (:meth:`panels`) and what there is to write about it (:meth:`rows`).

    Args:
        spec: Facts of the data, plain types only, so that a checkpoint can hold them. Linked by the command line.
        optim: Optimiser and schedule.
        compile: Compile the network with ``torch.compile``.

    Attributes:
        questions: What callbacks want to know of all ranks at each step, by name: whether any says yes.
        answers: The answers of the last step. They travel with the flag of finite gradients, in one reduction, which is
            all that a step waits for.
    """

    monitor = "val/loss"
    """Metric that chooses the best checkpoint."""
    monitor_mode = "min"
    prediction_stem = "predictions"
    """Name of the table that a prediction writes."""

    def __init__(self, spec: dict[str, Any], optim: Optimisation | None = None, compile: bool = False) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.spec = spec
        self.optim = optim or Optimisation()
        self.compile_network = compile
        self.network: nn.Module
        self._step: list[tuple[Tensor, list[str]]] = []
        self._skipped_in_a_row = 0
        self.questions: dict[str, Callable[[], bool]] = {}
        self.answers: dict[str, bool] = {}
        self.kept: dict[str, tuple[Batch, Any]] | None = None
        self.register_buffer("skipped_steps", torch.zeros((), dtype=torch.long))
        self.skipped_steps: Tensor

    # ------------------------------------------------------------------ what subclasses answer
    def loss(self, batch: Batch, stage: str) -> Tensor:
        """Loss of a batch (scalar), logging what the stage calls for (``train`` or ``val``)."""
        raise NotImplementedError(f"{type(self).__name__} does not say what its loss is.")

    def host_steps(self) -> list[Callable[[Batch], Batch]]:
        """What the workers that read a batch add to it: pure functions of the batch, that can be pickled."""
        return []

    def panels(self, batch: Batch) -> Panels:
        """What is worth seeing of a batch, by view and title."""
        return {}

    def rows(self, batch: Batch) -> list[dict[str, Any]]:
        """Rows to write when predicting: one dict of plain values per sample, starting with ``id`` and ``frame``."""
        raise NotImplementedError(f"{type(self).__name__} has nothing to predict.")

    def volumes(self, batch: Batch) -> dict[str, dict[str, Tensor]]:
        """Images worth keeping as NIfTI: ``{view: {title: (B, X, Y[, Z])}}``; whole numbers are label maps."""
        return {}

    # ------------------------------------------------------------------ Lightning's hooks, once for all tasks
    def setup(self, stage: str) -> None:
        """Chooses the accumulation that reaches the global batch, and compiles the network where asked."""
        strategy = getattr(self._trainer, "strategy", None)
        if strategy is not None and strategy.root_device.type == "cuda":
            choose_float32(training=stage == "fit")
        if stage == "fit" and self.optim.global_batch:
            self._set_accumulation(self.optim.global_batch)
        if stage == "fit" and isinstance(strategy, DDPStrategy):
            self._spare_ddp(strategy)
        if self.compile_network:
            self._compile()

    def _set_accumulation(self, wanted: int) -> None:
        """Makes steps of the global batch: smaller batches on many devices, several on few.

        An epoch's incomplete tail is dropped.
        """
        datamodule = getattr(self.trainer, "datamodule", None)
        if getattr(datamodule, "train_sampler", None) is None or self.trainer.accumulate_grad_batches != 1:
            return  # trainer.accumulate_grad_batches, where set, is the user's word
        assert datamodule is not None
        world = self.trainer.world_size
        wanted = fitting_global_batch(wanted, datamodule.n_train)
        size, count = divided(wanted, datamodule.batch_size, world)
        if size != datamodule.batch_size:
            datamodule.set_batch_size(size)
        batches = len(datamodule.train_sampler)
        count = min(count, batches)
        self.trainer.accumulate_grad_batches = count
        limit = self.trainer.limit_train_batches
        if isinstance(limit, float) and limit == 1:  # the whole epoch; an integer 1 is one batch
            self.trainer.limit_train_batches = batches // count * count
        rank_zero_info(f"{count} batches of {datamodule.batch_size} on {world} device(s) make one step.")

    def _scaled_rate(self) -> float:
        """Factor of the learning rate where a step is not of the samples that the rate is for; said."""
        datamodule = getattr(self.trainer, "datamodule", None)
        if not self.optim.global_batch or getattr(datamodule, "train_sampler", None) is None:
            return 1.0
        assert datamodule is not None
        wanted = fitting_global_batch(self.optim.global_batch, datamodule.n_train)
        taken = datamodule.batch_size * self.trainer.world_size * self.trainer.accumulate_grad_batches
        if taken == wanted:
            return 1.0
        factor = taken / wanted if self.optim.scale_lr else 1.0
        rank_zero_warn(
            f"One step takes {taken} samples instead of optim.global_batch {wanted}: the learning rate "
            f"{f'is multiplied by {factor:.4g}' if self.optim.scale_lr else 'stays as it is'} (optim.scale_lr)."
        )
        return factor

    def _spare_ddp(self, strategy: DDPStrategy) -> None:
        """Leaves out of every step what it need not do: sending what never differs, seeking weights without a gradient.

        Subjects may lack views: a batch then leaves those views' weights without a gradient, on all ranks alike.
        """
        tables = [f"{name}.table" for name, part in self.named_modules() if isinstance(part, PositionTable)]
        self._ddp_params_and_buffers_to_ignore = [*self._buffers, *tables]
        sampler = getattr(getattr(self.trainer, "datamodule", None), "train_sampler", None)
        if sampler is None or (sampler.masks != mask_of(self.spec["views"])).any():
            strategy._ddp_kwargs.setdefault("find_unused_parameters", True)

    def _compile(self) -> None:
        on_cpu = self.trainer.strategy.root_device.type == "cpu"
        if on_cpu and not any(shutil.which(name) for name in (os.environ.get("CXX", "g++"), "g++", "clang++")):
            rank_zero_warn("torch.compile needs a C++ compiler on a CPU and found none: the network runs uncompiled.")
            return
        # shapes change with the set of views only: one graph for each, rather than one with symbolic sizes
        self.network.compile(dynamic=False)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """One micro-batch."""
        loss = self.loss(batch, "train")
        self._step.append((torch.isfinite(loss.detach()), list(batch.get("id", []))))
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """One validation batch; :meth:`loss` logs."""
        self.loss(batch, "val")

    def predict_step(self, batch: Batch, batch_idx: int) -> list[dict[str, Any]]:
        """Rows of one batch."""
        return self.rows(batch)

    def on_test_batch_start(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Keeps outputs until the callbacks have written what they want of the batch."""
        self.kept = {}

    def on_test_batch_end(self, outputs: Any, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Lets go of what was kept; Lightning calls this after the callbacks."""
        self.kept = None

    def on_predict_batch_start(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> None:
        """As in testing."""
        self.kept = {}

    def on_predict_batch_end(self, outputs: Any, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> None:
        """As in testing."""
        self.kept = None

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """AdamW with the warm-up and half-cosine, stepped by fraction of an epoch."""
        # a gradient scaler (16-mixed) has to see the gradients before they are clipped, which fused AdamW prevents
        scaled = getattr(self.trainer.precision_plugin, "scaler", None) is not None
        optimizer = adamw(self.parameter_groups(), self.optim, fused=not scaled)
        epochs = self.trainer.max_epochs or 0
        if epochs < 1:
            raise CinemaError("The schedule needs the length of the run: set trainer.max_epochs in the configuration.")
        per_epoch = self._steps_per_epoch(epochs)
        scale = self._scaled_rate()

        def factor(step: int) -> float:
            return scale * learning_rate(step / per_epoch, epochs, self.optim) / self.optim.lr

        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def _steps_per_epoch(self, epochs: int) -> float:
        """Optimiser steps of an epoch.

        Not from ``trainer.estimated_stepping_batches`` where it can be helped: that starts the loader's iteration
        before a resumed run knows where it stopped.
        """
        sampler = getattr(getattr(self.trainer, "datamodule", None), "train_sampler", None)
        if sampler is None:
            return max(self.trainer.estimated_stepping_batches / epochs, 1.0)
        limit = self.trainer.limit_train_batches
        batches = int(len(sampler) * limit) if isinstance(limit, float) else min(len(sampler), limit)
        return max(math.ceil(batches / self.trainer.accumulate_grad_batches), 1)

    def parameter_groups(self) -> list[dict[str, object]]:
        """Optimiser groups; tasks with layer-wise decay override this."""
        return parameter_groups(self.named_parameters(), self.optim.weight_decay)

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: int | float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clips by the global norm, or drops the step on all ranks alike where loss or gradient is not finite.

        Gradients are set to None, so that AdamW leaves weights and moments as they were.
        """
        parameters = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        norm = get_total_norm([p.grad for p in parameters])
        step, self._step = self._step, []
        if not self._agree(torch.stack([torch.isfinite(norm), *(fine for fine, _ in step)]).all()):
            for parameter in parameters:
                parameter.grad = None
            self._count_skipped(step)
            return
        self._skipped_in_a_row = 0
        self.log("train/grad_norm", norm)
        if gradient_clip_val:
            clip_grads_with_norm_(parameters, float(gradient_clip_val), norm)

    def _agree(self, finite: Tensor) -> bool:
        """Whether all is finite on all ranks; on the way the questions are answered."""
        flags = [~finite, *(torch.full((), ask(), device=finite.device) for ask in self.questions.values())]
        asked = torch.stack(flags).float()
        if self.trainer.world_size > 1:
            reduced = self.trainer.strategy.reduce(asked, reduce_op="max")
            assert isinstance(reduced, Tensor)
            asked = reduced
        skip, *answers = (value > 0.5 for value in asked.cpu().tolist())
        self.answers = dict(zip(self.questions, answers, strict=True))
        return not skip

    def _count_skipped(self, step: list[tuple[Tensor, list[str]]]) -> None:
        self.skipped_steps += 1
        self._skipped_in_a_row += 1
        guilty = [name for fine, ids in step if not fine for name in ids] or [name for _, ids in step for name in ids]
        where = f"epoch {self.current_epoch}, step {self.global_step}, cases {', '.join(guilty[:4])}"
        rank_zero_warn(f"Step skipped: the loss or its gradient is not finite ({where}).")
        self.log("train/skipped_steps", self.skipped_steps.float())
        if self._skipped_in_a_row >= self.optim.max_skipped:
            raise CinemaError(
                f"The loss or its gradient was not finite in {self._skipped_in_a_row} steps in a row ({where}); the "
                "weights are those before the first of them. Lower model.init_args.optim.lr, train with "
                "trainer.precision 32-true, or look at the images of these cases."
            )
