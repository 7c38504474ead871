"""What every fine-tuned task shares: the network and where it starts from, what of it learns, what a test writes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from torch import Tensor
from torchmetrics import MeanMetric

from cinema_lightning.columns import CASE, look_up
from cinema_lightning.data.native import Native
from cinema_lightning.data.protocol import data_of
from cinema_lightning.data.spacing import unlike
from cinema_lightning.errors import CinemaError
from cinema_lightning.models.lora import add_lora
from cinema_lightning.tasks.base import Batch, Output, Rows, Task
from cinema_lightning.tasks.optim import Optimisation, freeze_backbone, layer_decay_groups
from cinema_lightning.weights.transfer import LoadReport, load_weights

if TYPE_CHECKING:
    from cinema_lightning.weights.published import PublishedFile


@dataclass
class Lora:
    """Low-rank adapters on the attention projections; only they and the heads learn.

    Args:
        rank: Rank of the adapters.
        alpha: Their scale is alpha / rank.
        dropout: Rate of dropout on their input.
    """

    rank: int = 8
    alpha: float = 16.0
    dropout: float = 0.0


class Downstream(Task):
    """Base of the fine-tuned tasks.

    Args:
        spec: Facts of the data, see :class:`cinema_lightning.data.labelled.LabelledData`. Linked by the command line.
        weights: Where the network starts: a checkpoint (.ckpt) of a run, safetensors in the published layout (local or
            on the hub), or the name of a run, whose best checkpoint is taken. None: from scratch.
        layer_decay: Factor of the learning rate from transformer block to block, low blocks slowest; acts where
            ``weights`` are given. 1 switches it off.
        freeze: ``backbone`` trains the heads only (a linear probe).
        lora: Low-rank adapters instead of training all weights.
        optim: Optimiser and schedule.
        compile: Compile the network with ``torch.compile``.

    Attributes:
        report: What was taken from ``weights``.
    """

    kind: ClassVar[str]
    """Kind of target that the data has to have."""
    rows_beside = True
    scans: Callable[[str, str], Native] | None = None
    """Says how the image of a study and view came, where that is no data module's to say."""

    def __init__(
        self,
        spec: dict[str, Any],
        weights: str | None = None,
        layer_decay: float = 0.75,
        freeze: Literal["none", "backbone"] = "none",
        lora: Lora | None = None,
        optim: Optimisation | None = None,
        compile: bool = False,
    ) -> None:
        super().__init__(spec, optim, compile)
        if spec.get("kind") != self.kind:
            raise CinemaError(
                f"{type(self).__name__} learns {self.kind}, but the data is for {spec.get('kind', 'pretraining')}: set "
                "data.class_path to the data class of this task."
            )
        if lora is not None and freeze != "none":
            raise CinemaError("lora freezes the backbone's weights itself; leave model.init_args.freeze at none.")
        self.weights = weights
        self.layer_decay = layer_decay
        self.freeze_what = freeze
        self.lora = lora
        self.report: LoadReport | None = None
        self.val_loss = MeanMetric()

    def build(self, network: Callable[..., Any], **outputs: int) -> Any:
        """Builds the network for the data's facts, and starts it where ``weights`` says.

        Args:
            network: Constructor of a backbone.
            outputs: ``classes`` or ``outputs``.

        Returns:
            The network.

        Raises:
            CinemaError: If the network is of the wrong kind, or the weights do not fit.
        """
        spec = self.spec
        try:
            built = network(views=spec["views"], input_size=spec["input_size"], channels=spec["channels"], **outputs)
        except TypeError as error:
            raise CinemaError(
                f"The network of model.init_args.network cannot do this task ({error}); choose a "
                f"{'dense' if 'classes' in outputs else 'pooled'} one, such as "
                f"{'ConvUNetR or UNet' if 'classes' in outputs else 'ConvViT or ResNet50'}."
            ) from error
        if self.weights is not None:
            self.report = load_weights(self.weights, built, other_heads=self._other_heads)
            rank_zero_info(str(self.report))
            if caution := self.report.facts.get("caution"):
                rank_zero_warn(str(caution))
            if what := unlike(spec.get("spacing") or {}, self.report.facts.get("spacing") or {}):
                rank_zero_warn(f"The data has {what} ({self.weights}): it has to learn another scale first.")
        if self.lora is not None:
            add_lora(built, **asdict(self.lora))
        if self.freeze_what == "backbone":
            freeze_backbone(built)
        return built

    def _other_heads(self, facts: dict[str, Any]) -> str:
        """Why heads of other weights answer another question than this task's; empty where nothing says so."""
        theirs = facts | ({"classes": facts["class_names"]} if "class_names" in facts else {})
        for name in ("kind", "target", "classes", "landmarks"):
            given, wanted = theirs.get(name), self.spec.get(name)
            if given and wanted and given != wanted:
                given, wanted = (", ".join(x) if isinstance(x, list) else x for x in (given, wanted))
                return f"their heads are for {given}, not for {wanted}"
        return ""

    def setup(self, stage: str) -> None:
        """See :meth:`Task.setup`; a frozen network of random weights is worth a word."""
        super().setup(stage)
        if stage == "fit" and self.weights is None and (self.lora is not None or self.freeze_what != "none"):
            option = "freeze" if self.lora is None else "lora"
            rank_zero_warn(
                f"model.init_args.{option} freezes a backbone of random weights; say with model.init_args.weights "
                "where it starts."
            )

    def parameter_groups(self) -> list[dict[str, object]]:
        """Groups with layer-wise decayed learning rates where the network starts from other weights."""
        network: Any = self.network
        if self.weights is None or self.layer_decay == 1:
            return super().parameter_groups()
        return layer_decay_groups(network, self.optim.lr, self.optim.weight_decay, self.layer_decay)

    def log_training_loss(self, loss: Tensor, batch: Batch) -> Tensor:
        """Logs and returns the loss of a training batch."""
        self.log("train/loss", loss, prog_bar=True, batch_size=len(batch["id"]))
        return loss

    def log_validation(self, loss: Tensor, n: int, **metrics: Any) -> None:
        """Logs the loss of ``n`` real samples and metric objects; the task's own metric shows in the progress bar."""
        if n:
            self.val_loss.update(loss.detach(), n)
        self.log("val/loss", self.val_loss, on_step=False, on_epoch=True)
        for name, metric in metrics.items():
            self.log(f"val/{name}", metric, on_step=False, on_epoch=True, prog_bar=self.monitor == f"val/{name}")

    # ------------------------------------------------------------------ testing
    def cases(self, batch: Batch, output: Output) -> list[dict[str, Any]]:
        """Rows of ``cases.csv``: truth, prediction and metrics of each case, starting with ``id`` and ``frame``."""
        raise NotImplementedError(f"{type(self).__name__} has nothing to test.")

    def facts(self) -> dict[str, Any]:
        """What a reader of the results has to know: classes, regions, target, unit."""
        return {}

    @classmethod
    def published(cls, file: PublishedFile) -> dict[str, Any]:
        """What the outputs of a published network are, as ``spec`` says it; by default one, of no target.

        Args:
            file: The file.

        Returns:
            Classes, target, landmarks, mean and SD, by kind.

        Raises:
            CinemaError: If the file is for something else.
        """
        file.check_outputs(1, f"{cls.kind} has one")
        if target := file.facts.get("target"):
            raise CinemaError(f"{file.path} holds a network for {target}, but the configuration is for {cls.kind}.")
        return {}

    def test_step(self, batch: Batch, batch_idx: int) -> dict[str, Rows]:
        """Cases of one batch and the output that they are made from; the output alone where rows are left."""
        output = self.infer(batch)
        return {"rows": Rows(() if self.rows_left else self.test_rows(batch, output), output)}

    def test_rows(self, batch: Batch, output: Output) -> list[dict[str, Any]]:
        """Cases of one batch, with the studies' fields."""
        data = data_of(self.trainer)
        fields = {study: data.fields(study) for study in dict.fromkeys(batch["id"])}
        return [_with_fields(row, fields[row["id"]]) for row in self.cases(batch, output)]

    def phase(self, study: str, frame: int) -> str:
        """ED or ES where the table calls a frame so, else empty."""
        return data_of(self.trainer).phase_of(study, frame)

    def native(self, study: str, view: str) -> Native:
        """How the image of a study came."""
        return (self.scans or data_of(self.trainer).native)(study, view)


def person(cells: dict[str, Any]) -> dict[str, Any]:
    """The cells of a study's row that describe the person and the scan."""
    return {name: cell for name, cell in cells.items() if not look_up(name).housekeeping}


def _with_fields(row: dict[str, Any], cells: dict[str, Any]) -> dict[str, Any]:
    """Puts the subject after the columns that identify the case, and last what describes the person and the scan."""
    first = {name: row[name] for name in CASE if name in row}
    found = first | {"subject": cells.get("subject")} | row
    return found | {name: cell for name, cell in person(cells).items() if name not in found}


def real(batch: Batch) -> Tensor:
    """(B,) bool, samples that are no repeats filling the last distributed batch."""
    weight: Tensor = batch["weight"]
    return weight > 0


def cropped(values: Tensor, size: Tensor) -> Tensor:
    """Cuts the padding of one sample away: (..., X, Y[, Z]) to its true size."""
    dims = len(size)
    place: list[Any] = [..., *[slice(int(n)) for n in size]]
    return values[tuple(place)] if dims else values


def least_size(spec: dict[str, Any]) -> dict[str, list[int]]:
    """View -> voxels that images of a network are padded to at least; of stacks at their own depth one slice."""
    own = spec.get("depth") == "own"
    return {view: [*size[:2], *(1 if own else n for n in size[2:])] for view, size in spec["input_size"].items()}


def by_own_size(
    batch: Batch, images: dict[str, Tensor], least: dict[str, Any]
) -> list[tuple[list[int], dict[str, Tensor]]]:
    """Parts of a batch whose images are padded alike, so that no result depends on who else is in the batch.

    Args:
        batch: Has the true sizes.
        images: View -> (B, C, X, Y[, Z]), padded to the largest of the batch.
        least: View -> size that an image is padded to at least, see :func:`least_size`.

    Returns:
        (places in the batch, their images padded to that size or, where they are larger, not at all).
    """
    groups: dict[tuple[int, ...], list[int]] = {}
    sizes = {view: batch[f"{view}_size"].tolist() for view in images}
    for i in range(len(batch["id"])):
        own = [max(n, m) for view in images for n, m in zip(sizes[view][i], least[view], strict=True)]
        groups.setdefault(tuple(own), []).append(i)
    out = []
    for size, places in groups.items():
        rest = iter(size)
        cut: dict[str, Any] = {view: (..., *(slice(next(rest)) for _ in sizes[view][0])) for view in images}
        out.append((places, {view: image[places][cut[view]] for view, image in images.items()}))
    return out


def inside(sizes: Tensor, shape: tuple[int, ...]) -> Tensor:
    """(B, X, Y[, Z]) bool, true where a voxel is no padding."""
    mask: Tensor | None = None
    for axis, n in enumerate(shape):
        places = torch.arange(n, device=sizes.device) < sizes[:, axis, None]
        places = places.reshape(len(sizes), *(n if i == axis else 1 for i in range(len(shape))))
        mask = places if mask is None else mask & places
    assert mask is not None
    return mask.expand(len(sizes), *shape)


def mean_over_views(losses: dict[str, Tensor], known: dict[str, Tensor]) -> Tensor:
    """Mean of the views' losses; a view of which the batch has no truth says nothing and does not count.

    Args:
        losses: View -> scalar.
        known: View -> bool tensor of any shape, true where there is truth.

    Returns:
        Scalar; 0 where there is no truth in any view.
    """
    values = torch.stack(list(losses.values()))
    shares = torch.stack([known[view].any() for view in losses]).to(values)
    return (values * shares).sum() / shares.sum().clamp(min=1)
