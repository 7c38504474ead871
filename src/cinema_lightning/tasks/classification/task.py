"""Classification of a study from ED and ES: disease, sex, vendor, any declared column."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor
from torch.nn import functional as F
from torchmetrics import Metric
from torchmetrics.classification import MulticlassAccuracy, MulticlassMatthewsCorrCoef
from torchmetrics.utilities import dim_zero_cat

from cinema_lightning.data.protocol import planned_data
from cinema_lightning.errors import CinemaError
from cinema_lightning.metrics.classification import auroc
from cinema_lightning.models.backbone import PooledBackbone
from cinema_lightning.models.convvit import ConvViT
from cinema_lightning.tasks import TASKS
from cinema_lightning.tasks.base import Batch
from cinema_lightning.tasks.classification.data import ClassificationData
from cinema_lightning.tasks.downstream import real
from cinema_lightning.tasks.pooled import Pooled

if TYPE_CHECKING:
    from cinema_lightning.weights.published import PublishedFile

REPEAT = -1
"""Label of a sample that is in no figure, since it only fills the last distributed batch."""


class Correlation(MulticlassMatthewsCorrCoef):
    """MCC of a validation set; NaN where the set knows one class only, which cannot be confused with another.

    torchmetrics' own is 0 then, as for a network that is no better than chance.
    """

    def compute(self) -> Tensor:
        """-1 to 1."""
        several = (self.confmat.sum(dim=1) > 0).sum() > 1
        return torch.where(several, super().compute(), torch.nan)


class Separation(Metric):
    """AUROC of a validation set as ``cinema test`` reports it; NaN without two classes.

    torchmetrics' own counts a class that the set lacks as 0.
    """

    full_state_update = False

    def __init__(self) -> None:
        super().__init__()
        for name in ("scores", "labels"):
            self.add_state(name, default=[], dist_reduce_fx="cat")
        self.scores: list[Tensor]
        self.labels: list[Tensor]

    def update(self, scores: Tensor, labels: Tensor) -> None:
        """Adds some samples, (B, C) probabilities and (B,) labels, of which ``REPEAT`` do not count."""
        self.scores.append(scores)
        self.labels.append(labels)

    def compute(self) -> Tensor:
        """0 to 1."""
        scores, labels = (dim_zero_cat(state).cpu() for state in (self.scores, self.labels))
        kept = labels != REPEAT
        return torch.tensor(float(auroc(scores[kept].numpy(), labels[kept].numpy())))


@TASKS.register
class Classification(Pooled):
    """One of two or more classes per study.

    Args:
        spec: Facts of the data. Linked by the command line.
        network: A pooled backbone and its options.
        label_smoothing: Share of the target that is spread over all classes.
        class_weights: ``none``; ``balanced`` weighs each class by the inverse of its number of training studies; or
            one weight per class, in the order of the classes.
        **options: See :class:`~cinema_lightning.tasks.downstream.Downstream`.
    """

    kind = "classification"
    monitor = "val/mcc"
    monitor_mode = "max"

    def __init__(
        self,
        spec: dict[str, Any],
        network: Callable[..., PooledBackbone] = ConvViT,
        label_smoothing: float = 0.1,
        class_weights: Literal["none", "balanced"] | list[float] = "none",
        **options: Any,
    ) -> None:
        super().__init__(spec, **options)
        self.label_smoothing = label_smoothing
        self.network: PooledBackbone = self.build(network, outputs=len(spec["classes"]))
        weights = _weights(class_weights, spec)
        self.register_buffer("class_weights", weights, persistent=False)
        self.class_weights: Tensor | None
        count = len(spec["classes"])
        self.mcc = Correlation(count)
        self.accuracy = MulticlassAccuracy(count, average="micro")
        self.auroc = Separation()

    def setup(self, stage: str) -> None:
        """See :meth:`Task.setup`; a validation set of one class is worth a word."""
        super().setup(stage)
        planned = planned_data(self._trainer)
        if stage != "fit" or planned is None:  # data to predict has no classes
            return
        data, sampler = planned
        if self.class_weights is not None and sampler.classes is not None:
            raise CinemaError(
                "Classes would be balanced twice, by data.sampling and by model.init_args.class_weights; leave one out."
            )
        there: list[str] = data.validation_classes if isinstance(data, ClassificationData) else []
        if len(there) == 1:
            rank_zero_warn(
                f"All validation studies are of the class {there[0]}, so neither val/mcc nor val/auroc is defined: the "
                "last epoch is kept, and nothing stops early; validate on more subjects (data.val_fraction)."
            )

    def loss(self, batch: Batch, stage: str) -> Tensor:
        """Cross-entropy with label smoothing."""
        if stage == "train":
            return self.log_training_loss(self._cross_entropy(self.network(self.images(batch)), batch["label"]), batch)
        chosen, outputs = real(batch), self.infer(batch)
        logits, label = outputs[chosen], batch["label"][chosen]
        n = len(label)
        loss = self._cross_entropy(logits, label) if n else logits.sum()
        for metric in (self.mcc, self.accuracy):
            if n:
                metric.update(logits.softmax(dim=1), label)
        # each rank needs some to gather, be they left out
        self.auroc.update(outputs.float().softmax(dim=1), torch.where(chosen, batch["label"], REPEAT))
        self.log_validation(loss, n, mcc=self.mcc, accuracy=self.accuracy, auroc=self.auroc)
        return loss

    def _cross_entropy(self, logits: Tensor, label: Tensor) -> Tensor:
        return F.cross_entropy(logits.float(), label, self.class_weights, label_smoothing=self.label_smoothing)

    def scores(self, output: Tensor) -> dict[str, Tensor]:
        """Probabilities of the classes."""
        return {"probabilities": output.float().softmax(dim=1)}

    def from_scores(self, batch: Batch, scores: dict[str, Tensor]) -> Tensor:
        """Logits of these probabilities."""
        found = scores["probabilities"]
        return found.clamp(min=torch.finfo(found.dtype).tiny).log()

    def rows(self, batch: Batch, output: Tensor) -> list[dict[str, Any]]:
        """The most probable class, and the probability of each."""
        names = self.spec["classes"]
        out = []
        for row, values in zip(self.keys(batch), output.softmax(dim=1).cpu().tolist(), strict=True):
            best = names[max(range(len(names)), key=values.__getitem__)]
            row |= {"predicted": best, **{f"prob_{name}": p for name, p in zip(names, values, strict=True)}}
            out.append(row)
        return out

    def cases(self, batch: Batch, output: Tensor) -> list[dict[str, Any]]:
        """True class, and the columns of :meth:`rows`."""
        names = self.spec["classes"]
        out = []
        for row, label in zip(self.rows(batch, output), batch["label"].tolist(), strict=True):
            first = {name: row.pop(name) for name in ("id", "frame")}
            out.append(first | {"true": names[label]} | row)
        return out

    def facts(self) -> dict[str, Any]:
        """Target and classes."""
        return {"target": self.spec["target"], "classes": list(self.spec["classes"])}

    @classmethod
    def published(cls, file: PublishedFile) -> dict[str, Any]:
        """See :meth:`Downstream.published`."""
        target = file.option("target", "pathology")
        if file.facts.get("target", target) != target:
            raise CinemaError(
                f"{file.path} holds a network for {file.facts['target']}, but data.target is {target}: give the "
                "configuration of the task that it was trained for."
            )
        classes = file.class_names(target)
        file.check_outputs(len(classes), f"{target} has {len(classes)} classes")
        return {"target": target, "classes": classes}


def _weights(given: str | list[float], spec: dict[str, Any]) -> Tensor | None:
    """(C,) weights with mean 1 over the training studies, or None."""
    classes, counts = spec["classes"], spec.get("class_counts")
    if given == "none":
        return None
    if given == "balanced":
        if not counts or not all(counts):
            raise CinemaError("class_weights is balanced, but the classes of the training studies were not counted.")
        return torch.tensor([sum(counts) / (len(counts) * n) for n in counts], dtype=torch.float32)
    if len(given) != len(classes) or not all(float(w) > 0 for w in given):
        raise CinemaError(
            f"class_weights is {given}; give one number above 0 for each class ({', '.join(classes)}), or balanced, or "
            "none."
        )
    return torch.tensor([float(w) for w in given], dtype=torch.float32)
