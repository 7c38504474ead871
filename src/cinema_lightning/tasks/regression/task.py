"""Regression of one number per study from ED and ES: ejection fraction, BMI, age, any numeric column."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from torch import Tensor
from torch.nn import functional as F
from torchmetrics import MeanAbsoluteError

from cinema_lightning.columns import look_up
from cinema_lightning.errors import CinemaError
from cinema_lightning.models.backbone import PooledBackbone
from cinema_lightning.models.convvit import ConvViT
from cinema_lightning.tasks import TASKS
from cinema_lightning.tasks.base import Batch
from cinema_lightning.tasks.downstream import real
from cinema_lightning.tasks.pooled import Pooled

if TYPE_CHECKING:
    from cinema_lightning.weights.published import PublishedFile


@TASKS.register
class Regression(Pooled):
    """One number per study, learnt standardised and reported in its unit.

    Args:
        spec: Facts of the data. Linked by the command line.
        network: A pooled backbone and its options.
        **options: See :class:`~cinema_lightning.tasks.downstream.Downstream`.
    """

    kind = "regression"
    monitor = "val/mae_standardised"

    def __init__(self, spec: dict[str, Any], network: Callable[..., PooledBackbone] = ConvViT, **options: Any) -> None:
        super().__init__(spec, **options)
        self.network: PooledBackbone = self.build(network, outputs=1)
        self.mae_standardised = MeanAbsoluteError()
        self.mae = MeanAbsoluteError()

    def restored(self, values: Tensor) -> Tensor:
        """Standardised numbers in the target's unit."""
        return values * float(self.spec["std"]) + float(self.spec["mean"])

    def scores(self, output: Tensor) -> dict[str, Tensor]:
        """Numbers in the target's unit, since networks of other subjects are standardised by another mean and SD."""
        return {"values": self.restored(output)}

    def from_scores(self, batch: Batch, scores: dict[str, Tensor]) -> Tensor:
        """See :meth:`scores`."""
        return (scores["values"] - float(self.spec["mean"])) / float(self.spec["std"])

    def loss(self, batch: Batch, stage: str) -> Tensor:
        """Squared error of the standardised target."""
        if stage == "train":
            predicted = self.network(self.images(batch))[:, 0].float()
            return self.log_training_loss(F.mse_loss(predicted, batch["label"]), batch)
        chosen = real(batch)
        predicted, label = self.infer(batch)[chosen, 0], batch["label"][chosen]
        n = len(label)
        loss = F.mse_loss(predicted, label) if n else predicted.sum()
        if n:
            self.mae_standardised.update(predicted, label)
            self.mae.update(self.restored(predicted), self.restored(label))
        self.log_validation(loss, n, mae_standardised=self.mae_standardised, mae=self.mae)
        return loss

    def rows(self, batch: Batch, output: Tensor) -> list[dict[str, Any]]:
        """The prediction in the target's unit."""
        values = self.restored(output[:, 0]).cpu().tolist()
        return [row | {"predicted": value} for row, value in zip(self.keys(batch), values, strict=True)]

    def cases(self, batch: Batch, output: Tensor) -> list[dict[str, Any]]:
        """Truth, prediction and their difference, in the target's unit."""
        truth = self.restored(batch["label"].double()).cpu().tolist()
        out = []
        for row, true in zip(self.rows(batch, output), truth, strict=True):
            predicted = row.pop("predicted")
            error = predicted - true
            row |= {"true": true, "predicted": predicted, "error": error, "absolute_error": abs(error)}
            out.append(row)
        return out

    def facts(self) -> dict[str, Any]:
        """Target, its unit, and what it was standardised with."""
        target = self.spec["target"]
        return {
            "target": target,
            "unit": look_up(target).unit,
            "mean": self.spec["mean"],
            "std": self.spec["std"],
        }

    @classmethod
    def published(cls, file: PublishedFile) -> dict[str, Any]:
        """See :meth:`Downstream.published`."""
        facts = file.facts
        if "mean" not in facts:
            raise CinemaError(f"{file.path} does not say the mean and SD of its target; put its config.yaml beside it.")
        file.check_outputs(1, "a regression has one")
        target, own = file.option("target", "lv_ef"), str(facts["target"])
        if own not in (target, target.removeprefix("lv_")):  # the published column of the ejection fraction is ef
            raise CinemaError(
                f"{file.path} holds a network for {own}, but data.target is {target}: give the configuration of the "
                "task that it was trained for."
            )
        # what that column held is not known (the figures are too low for LVEF), so it is nobody's lv_ef
        return {"target": own if own == "ef" else target, "mean": facts["mean"], "std": facts["std"]}
