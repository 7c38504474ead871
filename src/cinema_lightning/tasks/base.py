"""What every task shares: optimiser, schedule, accumulation, skipped steps. Subclasses hold what differs."""

from __future__ import annotations

import functools
import inspect
import os
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor, nn
from torch.nn.utils import clip_grad_value_, clip_grads_with_norm_, get_total_norm

from cinema_lightning.data.dataset import Batch
from cinema_lightning.data.draws import generator
from cinema_lightning.data.protocol import planned_data
from cinema_lightning.data.table import mask_of
from cinema_lightning.errors import CinemaError
from cinema_lightning.models.memory import samples_at_once
from cinema_lightning.models.position import PositionTable
from cinema_lightning.models.precision import choose_float32
from cinema_lightning.tasks.optim import Optimisation
from cinema_lightning.tasks.pacing import Paced
from cinema_lightning.tasks.turns import TurnsAs


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


@dataclass(frozen=True)
class Volume:
    """An image of one sample, to be written.

    Attributes:
        voxels: (X, Y[, Z]); whole numbers are label maps.
        affine: (4, 4), voxel to RAS mm.
    """

    voxels: np.ndarray
    affine: np.ndarray


Panels = dict[str, dict[str, Tensor | Marked]]
"""View -> title -> what to see: images in [0, 1], label maps (whole numbers, drawn over the panel ``image``), marks."""


GRAPHS = 128
"""Graphs that a network may be compiled to, far above the sets of views times depths that a cohort has."""

Output = Any
"""What a network gives for a batch: a value, whose type is the kind's own (:meth:`Task.infer`)."""


class Rows(list[dict[str, Any]]):
    """Rows of a batch, and the network's output that they were made from, for whoever writes images and pictures.

    A list, which Lightning copies where it gathers predictions: it gathers the rows, and lets go of the outputs.

    Args:
        rows: One dict of plain values per row.
        output: What :meth:`Task.infer` gave.
    """

    def __init__(self, rows: Iterable[dict[str, Any]] = (), output: Output = None) -> None:
        super().__init__(rows)
        self.output = output


def _of_batch_alone(method: Callable[[Any, Batch], Any]) -> Callable[..., Any]:
    def wrapper(task: Any, batch: Batch, _: Output = None) -> Any:
        return method(task, batch)

    return functools.update_wrapper(wrapper, method)


def run_seed() -> int:
    """The seed that the run was started with (``seed_everything``), 0 where none was set."""
    return int(os.environ.get("PL_GLOBAL_SEED", "0"))


class Task(Paced):
    """Base of all tasks.

    A task builds its network in ``__init__`` from the data's facts (``spec``: views, input sizes, channels, later
    classes and statistics), and answers: the loss of a batch (:meth:`loss`), what the network gives for it
    (:meth:`infer`), and from that what there is to see (:meth:`panels`) and to write (:meth:`rows`, :meth:`volumes`).

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
    compares_samples = False
    """Whether the loss compares the samples of a batch with each other, so that it is not that of its parts."""
    prediction_stem = "predictions"
    """Name of the table that a prediction writes."""
    prediction_grid = ""
    """Whose voxels its numbers count, where they count any: ``scan`` is the image as it was acquired."""
    rows_beside = True
    """Whether rows, panels and volumes follow from the output alone, so that a thread can make them meanwhile."""
    rows_left = False
    """Whether a step leaves the rows to whoever writes them, and gives the output only."""
    turns_as: TurnsAs = "values"
    """How :meth:`scores` turn with the image."""

    def __init_subclass__(cls, **options: Any) -> None:
        """Lets methods that take the batch alone, as plug-ins wrote them before there was :meth:`infer`, go on.

        A step of a class's own finds all rows, as it may add to them; a class whose steps leave them says
        ``rows_beside`` itself.
        """
        super().__init_subclass__(**options)
        if vars(cls).keys() & {"predict_step", "test_step"} and "rows_beside" not in vars(cls):
            cls.rows_beside = False
        for name in ("rows", "cases", "panels", "volumes"):
            method = vars(cls).get(name)
            if method is not None and len(inspect.signature(method).parameters) == 2:
                setattr(cls, name, _of_batch_alone(method))
                cls.rows_beside = False  # they ask the network themselves

    def __init__(self, spec: dict[str, Any], optim: Optimisation | None = None, compile: bool = False) -> None:
        super().__init__(optim or Optimisation())
        self.save_hyperparameters()
        self.spec = spec
        self.compile_network = compile
        self.network: nn.Module
        self._step: list[tuple[Tensor, list[str]]] = []
        self._skipped_in_a_row = 0
        self.questions: dict[str, Callable[[], bool]] = {}
        self.answers: dict[str, bool] = {}
        self.register_buffer("skipped_steps", torch.zeros((), dtype=torch.long))
        self.skipped_steps: Tensor

    # ------------------------------------------------------------------ what subclasses answer
    def loss(self, batch: Batch, stage: str) -> Tensor:
        """Loss of a batch (scalar), logging what the stage calls for (``train`` or ``val``)."""
        raise NotImplementedError(f"{type(self).__name__} does not say what its loss is.")

    def host_steps(self) -> list[Callable[[Batch], Batch]]:
        """What the workers that read a batch add to it: pure functions of the batch, that can be pickled."""
        return []

    def images(self, batch: Batch) -> dict[str, Tensor]:
        """The batch's images by view."""
        return {view: batch[view] for view in self.spec["views"] if view in batch}

    def keys(self, batch: Batch) -> list[dict[str, Any]]:
        """``id`` and ``frame`` of each sample."""
        return [
            {"id": study, "frame": frame} for study, frame in zip(batch["id"], batch["frame"].tolist(), strict=True)
        ]

    def infer(self, batch: Batch) -> Output:
        """What the network gives for a batch, in evaluation mode; rows, panels and volumes are made from it."""
        return None

    def scores(self, output: Output) -> dict[str, Tensor]:
        """What of an output may be averaged over networks and turned images, batch first: by view where it turns."""
        raise CinemaError(f"{type(self).__name__} does not say what of several networks or turned images is averaged.")

    def from_scores(self, batch: Batch, scores: dict[str, Tensor]) -> Output:
        """The output of which these are the :meth:`scores`."""
        raise NotImplementedError(f"{type(self).__name__} does not say what follows from averaged scores.")

    def samples_at_once(self) -> int | None:
        """How many samples to infer together where nobody says it; None where that cannot be told."""
        images = {view: (self.spec["channels"], *size) for view, size in self.spec["input_size"].items()}
        return samples_at_once(self.network, images, self.device)

    @property
    def alone(self) -> Task:
        """The task of one network, of an ensemble the first."""
        return self

    def panels(self, batch: Batch, output: Output) -> Panels:
        """What is worth seeing of a batch, by view and title."""
        return {}

    def rows(self, batch: Batch, output: Output) -> list[dict[str, Any]]:
        """Rows to write when predicting: one dict of plain values per sample, starting with ``id`` and ``frame``."""
        raise NotImplementedError(f"{type(self).__name__} has nothing to predict.")

    def volumes(self, batch: Batch, output: Output) -> dict[str, dict[str, list[Volume]]]:
        """Images worth keeping as NIfTI: view -> title -> one image per sample."""
        return {}

    # ------------------------------------------------------------------ Lightning's hooks, once for all tasks
    def setup(self, stage: str) -> None:
        """See :meth:`Paced.setup`; compiles the network where asked."""
        super().setup(stage)
        strategy = getattr(self._trainer, "strategy", None)
        if strategy is not None and strategy.root_device.type == "cuda":
            choose_float32(training=stage == "fit")
        if stage == "fit" and isinstance(strategy, DDPStrategy):
            self._spare_ddp(strategy)
        if self.compile_network:
            self._compile()

    def _spare_ddp(self, strategy: DDPStrategy) -> None:
        """Leaves out of every step what it need not do: sending what never differs, seeking weights without a gradient.

        Subjects may lack views: a batch then leaves those views' weights without a gradient, on all ranks alike.
        """
        tables = [f"{name}.table" for name, part in self.named_modules() if isinstance(part, PositionTable)]
        self._ddp_params_and_buffers_to_ignore = [*self._buffers, *tables]
        planned = planned_data(self.trainer)
        if planned is None or (planned[1].masks != mask_of(self.spec["views"])).any():
            strategy._ddp_kwargs.setdefault("find_unused_parameters", True)

    def _compile(self) -> None:
        on_cpu = self.trainer.strategy.root_device.type == "cpu"
        if on_cpu and not any(shutil.which(name) for name in (os.environ.get("CXX", "g++"), "g++", "clang++")):
            rank_zero_warn("torch.compile needs a C++ compiler on a CPU and found none: the network runs uncompiled.")
            return
        # shapes change with the set of views and the depth: one graph for each, rather than one with symbolic sizes
        options = torch._dynamo.config
        limit = "recompile_limit" if hasattr(options, "recompile_limit") else "cache_size_limit"  # until torch 2.6
        setattr(options, limit, max(getattr(options, limit), GRAPHS))
        self.network.compile(dynamic=False)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """One micro-batch."""
        self._seed_draws(batch_idx)
        loss = self.loss(batch, "train")
        self._step.append((torch.isfinite(loss.detach()), list(batch.get("id", []))))
        return loss

    def _seed_draws(self, batch_idx: int) -> None:
        """Keys dropout and drop path on seed, step, micro-batch and rank.

        A resumed run then draws what it would have drawn, without a saved state, and ranks draw different masks.
        """
        part = batch_idx % self.trainer.accumulate_grad_batches
        key = ("network", self.global_step, part, self.global_rank)
        seed = int(generator(run_seed(), *key).integers(2**63))
        torch.default_generator.manual_seed(seed)
        if self.device.type != "cpu":
            torch.get_device_module(self.device).manual_seed(seed)  # set on the host: the device is not waited for

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """One validation batch; :meth:`loss` logs."""
        self.loss(batch, "val")

    def predict_step(self, batch: Batch, batch_idx: int) -> Rows:
        """Rows of one batch, with the output that they are made from; the output alone where they are left."""
        output = self.infer(batch)
        return Rows(() if self.rows_left else self.rows(batch, output), output)

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: int | float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clips by the global norm, or drops the step on all ranks alike where loss or gradient is not finite.

        Gradients are set to None, so that AdamW leaves weights and moments as they were. With float16 a gradient that
        overflows while every loss is finite says that the scale was too large: the scaler halves it, and the step is
        dropped without being anybody's fault.
        """
        parameters = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        norm = get_total_norm([p.grad for p in parameters])
        step, self._step = self._step, []
        losses = torch.stack([fine for fine, _ in step]).all() if step else torch.ones_like(norm, dtype=torch.bool)
        finite, finite_losses = self._agree(losses & torch.isfinite(norm), losses)
        if not finite:
            for parameter in parameters:
                parameter.grad = None
            if not (finite_losses and self._scale_can_fall()):
                self._count_skipped(step)
            return
        self._skipped_in_a_row = 0
        self.log("train/grad_norm", norm)
        if gradient_clip_val and gradient_clip_algorithm == "value":
            clip_grad_value_(parameters, float(gradient_clip_val))
        elif gradient_clip_val:
            clip_grads_with_norm_(parameters, float(gradient_clip_val), norm)

    def _scale_can_fall(self) -> bool:
        """Whether there is a gradient scaler (float16) whose scale may have been what overflowed."""
        scaler = getattr(self.trainer.precision_plugin, "scaler", None)
        return scaler is not None and scaler.get_scale() > 1

    def _agree(self, *finite: Tensor) -> list[bool]:
        """Whether each is finite on all ranks, in one reduction; on the way the questions are answered."""
        flags = [~flag for flag in finite]
        flags += [torch.full((), ask(), device=finite[0].device) for ask in self.questions.values()]
        asked = torch.stack(flags).float()
        if self.trainer.world_size > 1:
            reduced = self.trainer.strategy.reduce(asked, reduce_op="max")
            assert isinstance(reduced, Tensor)
            asked = reduced
        values = [value > 0.5 for value in asked.cpu().tolist()]
        self.answers = dict(zip(self.questions, values[len(finite) :], strict=True))
        return [not value for value in values[: len(finite)]]

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
