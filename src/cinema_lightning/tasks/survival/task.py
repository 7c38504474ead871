"""Survival: the log-hazard of each study, learnt with Cox's partial likelihood (Efron's ties)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from cinema_lightning.data.protocol import data_of
from cinema_lightning.errors import CinemaError
from cinema_lightning.losses.survival import cox_loss
from cinema_lightning.metrics.survival import concordance
from cinema_lightning.models.backbone import PooledBackbone
from cinema_lightning.models.convvit import ConvViT
from cinema_lightning.tasks import TASKS
from cinema_lightning.tasks.base import Batch
from cinema_lightning.tasks.downstream import real
from cinema_lightning.tasks.pooled import Pooled


class Outcomes(Metric):
    """Base of the figures that need all subjects at once: risks and outcomes, gathered over the ranks."""

    full_state_update = False

    def __init__(self) -> None:
        super().__init__()
        for name in ("risk", "time", "event"):
            self.add_state(name, default=[], dist_reduce_fx="cat")
        self.risk: list[Tensor]
        self.time: list[Tensor]
        self.event: list[Tensor]

    def update(self, risk: Tensor, time: Tensor, event: Tensor) -> None:
        """Adds some subjects, (B,) each."""
        self.risk.append(risk.float())
        self.time.append(time.float())
        self.event.append(event.float())

    def gathered(self) -> tuple[Tensor, Tensor, Tensor]:
        """Risks, times and events of all subjects, (N,) each."""
        risk, time, event = (dim_zero_cat(state) for state in (self.risk, self.time, self.event))
        return risk, time, event


class Concordance(Outcomes):
    """Harrell's C of a validation set; NaN without a pair whose order is known."""

    def compute(self) -> Tensor:
        """0 to 1."""
        risk, time, event = (values.cpu().numpy() for values in self.gathered())
        return torch.tensor(float(concordance(risk, time, event)))


class PartialLikelihood(Outcomes):
    """Negative log partial likelihood per event of a whole validation set."""

    def compute(self) -> Tensor:
        """The loss; NaN without events."""
        loss, any_event = cox_loss(*self.gathered())
        return torch.where(any_event, loss, torch.nan)


@contextmanager
def _statistics_kept(network: nn.Module) -> Iterator[None]:
    """While a chunk is computed a second time, its batch statistics are not averaged in once more."""
    norms = [part for part in network.modules() if isinstance(part, _BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum


@TASKS.register
class Survival(Pooled):
    """Risk of an event, from ED and ES.

    The partial likelihood compares each event with everybody still under observation, so a step's subjects have to be
    seen together. Under several devices the scores of all ranks are gathered, with their gradients, and the loss is
    exactly that of one large batch; a batch is never split by gradient accumulation. Where it does not fit into
    memory, ``chunk`` computes it some subjects at a time and again in the backward pass, to the same numbers, but for
    networks with batch normalisation (ResNet50): they normalise over a chunk, as they would on a device of its own.

    Args:
        spec: Facts of the data. Linked by the command line.
        network: A pooled backbone and its options.
        horizons: Years at which a test takes AUC and Brier score; those that nobody is followed beyond are left out.
        chunk: Subjects whose activations are in memory at once in training; None is the whole batch.
        **options: See :class:`~cinema_lightning.tasks.downstream.Downstream`.
    """

    kind = "survival"
    monitor = "val/c_index"
    monitor_mode = "max"
    compares_samples = True

    def __init__(
        self,
        spec: dict[str, Any],
        network: Callable[..., PooledBackbone] = ConvViT,
        chunk: int | None = None,
        horizons: Sequence[float] = (1, 3, 5),
        **options: Any,
    ) -> None:
        super().__init__(spec, **options)
        if chunk is not None and chunk < 1:
            raise CinemaError(f"chunk is {chunk}; give a number of subjects, or null for the whole batch.")
        if not horizons or min(horizons) <= 0:
            raise CinemaError(f"horizons are {list(horizons)}; give years above 0, such as [1, 3, 5].")
        self.horizons = [float(years) for years in horizons]
        self.chunk = chunk
        self.network: PooledBackbone = self.build(network, outputs=1)
        self.c_index = Concordance()
        self.partial_likelihood = PartialLikelihood()

    def setup(self, stage: str) -> None:
        """Refuses what would split the risk sets.

        Raises:
            CinemaError: For gradient accumulation.
        """
        if stage == "fit":
            if self.trainer.accumulate_grad_batches != 1:
                raise CinemaError(
                    "Survival cannot accumulate batches: risk sets would be split. Set trainer.accumulate_grad_batches "
                    "to 1 and data.batch_size to the subjects of a step; model.init_args.chunk saves memory."
                )
            if self.optim.global_batch:
                raise CinemaError(
                    "Survival takes one batch per step, so that risk sets stay whole: set model.init_args.optim."
                    "global_batch to null and data.batch_size to the subjects of a step and device."
                )
            if self.chunk is not None and any(isinstance(part, _BatchNorm) for part in self.network.modules()):
                rank_zero_warn(
                    f"{type(self.network).__name__} normalises over the {self.chunk} subjects of a chunk; set "
                    "model.init_args.chunk to null for the whole batch, or choose a chunk of 16 or more."
                )
        super().setup(stage)

    def loss(self, batch: Batch, stage: str) -> Tensor:
        """Cox's partial likelihood over the subjects of all ranks."""
        if stage == "train":
            risk = self._scores(self.images(batch))
            loss, any_event = cox_loss(*(self._gathered(v) for v in (risk, batch["time"], batch["event"])))
            self.log("train/batches_without_event", (~any_event).float(), on_step=False, on_epoch=True, batch_size=1)
            return self.log_training_loss(loss, batch)
        chosen = real(batch)
        risk = self.infer(batch)[chosen, 0]
        if len(risk):
            for metric in (self.c_index, self.partial_likelihood):
                metric.update(risk, batch["time"][chosen], batch["event"][chosen])
        self.log("val/loss", self.partial_likelihood, on_step=False, on_epoch=True)
        self.log(self.monitor, self.c_index, on_step=False, on_epoch=True, prog_bar=True)
        return risk.sum()

    def _scores(self, images: dict[str, Tensor]) -> Tensor:
        """(B,) log-hazards, some subjects at a time where asked."""
        count = len(next(iter(images.values())))
        size = self.chunk or count
        if size >= count:
            scores: Tensor = self.network(images)[:, 0]
            return scores
        parts = [
            checkpoint(
                self.network,
                {v: image[i : i + size] for v, image in images.items()},
                use_reentrant=False,
                context_fn=lambda: (nullcontext(), _statistics_kept(self.network)),
            )
            for i in range(0, count, size)
        ]
        return torch.cat(parts)[:, 0]

    def _gathered(self, values: Tensor) -> Tensor:
        """Values of all ranks, with gradients; DDP's mean over ranks makes their gradient that of the whole loss."""
        if self.trainer.world_size == 1:
            return values
        gathered = self.all_gather(values.float(), sync_grads=values.requires_grad)
        assert isinstance(gathered, Tensor)
        return gathered.flatten()

    def rows(self, batch: Batch, output: Tensor) -> list[dict[str, Any]]:
        """The log-hazard; higher is worse."""
        values = output[:, 0].cpu().tolist()
        return [row | {"risk": value} for row, value in zip(self.keys(batch), values, strict=True)]

    def facts(self) -> dict[str, Any]:
        """The horizons, in years."""
        return {"horizons": self.horizons}

    def cases(self, batch: Batch, output: Tensor) -> list[dict[str, Any]]:
        """Time (days), event and risk, and the split, since the cut between risk groups is the validation subjects'."""
        data, out = data_of(self.trainer), []
        outcomes = zip(batch["time"].tolist(), batch["event"].tolist(), strict=True)
        for row, (time, event) in zip(self.rows(batch, output), outcomes, strict=True):
            risk = row.pop("risk")
            row |= {"split": data.split_of(row["id"]), "time": time, "event": int(event), "risk": risk}
            out.append(row)
        return out
