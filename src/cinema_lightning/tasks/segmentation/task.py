"""Segmentation of any subset of the views, with ventricular volumes (arXiv 2506.00679)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torchmetrics import MeanMetric

from cinema_lightning.data.labels import IGNORE
from cinema_lightning.data.native import Native
from cinema_lightning.losses.segmentation import IGNORED as UNKNOWN
from cinema_lightning.losses.segmentation import DiceOver, deep_supervision, segmentation_loss
from cinema_lightning.metrics.segmentation import Regions, case_metrics, regions_of
from cinema_lightning.models.backbone import DenseBackbone, crop_to, pad_to_multiple
from cinema_lightning.models.convunetr import ConvUNetR
from cinema_lightning.models.tiling import predict_tiled
from cinema_lightning.tasks import TASKS
from cinema_lightning.tasks.base import Batch, Panels, Volume
from cinema_lightning.tasks.downstream import Downstream, by_own_size, cropped, inside, mean_over_views, real
from cinema_lightning.views import get_view

if TYPE_CHECKING:
    from cinema_lightning.weights.published import PublishedFile

PLANE_MULTIPLE = 32
"""In-plane sizes that every dense backbone takes are multiples of this."""


def dense_probabilities(
    network: Any, batch: Batch, images: dict[str, Tensor], input_size: dict[str, Any], activation: Any, tiles: int = 4
) -> dict[str, Tensor]:
    """Probabilities of whole images: deep stacks in tiles along z, larger planes as they are.

    Args:
        network: A dense backbone in evaluation mode.
        batch: Has the true sizes.
        images: View -> (B, C, X, Y[, Z]).
        input_size: View -> size that the network was built for.
        activation: softmax or sigmoid.
        tiles: Tiles in one pass.

    Returns:
        View -> (B, classes, X, Y[, Z]) float32; 0 in padding that other images of the batch needed.
    """
    depth = {view: size[2] for view, size in input_size.items() if len(size) == 3}
    out: dict[str, Tensor] = {}
    for places, part in by_own_size(batch, images, input_size):
        padded = {view: _whole_steps(image, input_size[view]) for view, image in part.items()}
        found = predict_tiled(network, padded, depth, activation, tiles)
        assert isinstance(found, dict)
        for view, values in found.items():
            size = part[view].shape[2:]
            if view not in out:
                out[view] = values.new_zeros(len(batch["id"]), values.shape[1], *images[view].shape[2:])
            target: Any = (places, slice(None), *(slice(n) for n in size))
            out[view][target] = crop_to(values, size)
    return out


def _whole_steps(image: Tensor, input_size: Sequence[int]) -> Tensor:
    """Pads a plane that is larger than the input so that every backbone can halve it as often as it wants."""
    larger = any(n > m for n, m in zip(image.shape[2:4], input_size[:2], strict=True))
    steps = [PLANE_MULTIPLE, PLANE_MULTIPLE, *[1] * (image.dim() - 4)]
    return pad_to_multiple(image, steps) if larger else image


def batch_dice(predicted: Tensor, true: Tensor, members: list[list[int]], score_absent: bool) -> Tensor:
    """Dice of each sample and region.

    Args:
        predicted: (B, X, Y[, Z]) class indices.
        true: The same; 255 where a voxel does not count.
        members: Class indices that make each region, R of them.
        score_absent: Where the truth lacks a region: 1 if the prediction does too, else 0; otherwise NaN.

    Returns:
        (B, R) float32.
    """
    counts = true != IGNORE
    out = []
    for codes in members:
        wanted = torch.tensor(codes, device=true.device)
        guess = (torch.isin(predicted, wanted) & counts).flatten(1)
        truth = (torch.isin(true, wanted) & counts).flatten(1)
        total = guess.sum(1) + truth.sum(1)
        dice = 2.0 * (guess & truth).sum(1) / total.clamp(min=1)
        absent = ~truth.any(1)
        value = (total == 0).float() if score_absent else torch.full_like(dice, torch.nan)
        out.append(torch.where(absent, value, dice))
    return torch.stack(out, dim=1)


@dataclass(frozen=True)
class Segmented:
    """What a network says of the voxels of a batch; label maps are made when they are first asked for.

    Attributes:
        batch: The batch: ids and true sizes.
        probabilities: View -> (B, classes, X, Y[, Z]) float32.
        codes: Code of the dataset of each class.
        native: Says how the image of a study and view came.
    """

    batch: Batch
    probabilities: dict[str, Tensor]
    codes: tuple[int, ...]
    native: Callable[[str, str], Native]

    @cached_property
    def label_maps(self) -> dict[str, Tensor]:
        """View -> class codes of the dataset, uint8 (B, X, Y[, Z])."""
        table = torch.tensor(self.codes, dtype=torch.uint8)
        return {view: table.to(values.device)[values.argmax(1)] for view, values in self.probabilities.items()}

    @cached_property
    def native_maps(self) -> dict[str, list[tuple[Native, np.ndarray]]]:
        """Per view and sample how its scan came, and the label map on the scan's own grid, uint8 codes (X, Y, Z).

        The probabilities are resampled, not the label map, see :meth:`cinema_lightning.imaging.grid.Grid.to_scan`.
        """
        return {view: [*self._natives(view, scores)] for view, scores in self.probabilities.items()}

    def _natives(self, view: str, scores: Tensor) -> Iterator[tuple[Native, np.ndarray]]:
        for study, one, size in zip(self.batch["id"], scores, self.batch[f"{view}_size"], strict=True):
            native = self.native(study, view)
            yield native, native.label_map(cropped(one, size).cpu().numpy(), self.codes)


@TASKS.register
class Segmentation(Downstream):
    """Labels every voxel of each view; ventricular volumes, mass and ejection fraction follow from the label maps.

    Args:
        spec: Facts of the data. Linked by the command line.
        network: A dense backbone and its options.
        tile_batch: Tiles of a deep stack that go through the network together.
        dice_over: What the Dice loss sums over in training: the voxels of each sample (published), or of all samples of
            a batch, as nnU-Net may.
        **options: See :class:`~cinema_lightning.tasks.downstream.Downstream`.
    """

    kind = "segmentation"
    monitor = "val/dice"
    monitor_mode = "max"
    prediction_grid = "scan"
    turns_as = "maps"

    def __init__(
        self,
        spec: dict[str, Any],
        network: Callable[..., DenseBackbone] = ConvUNetR,
        tile_batch: int = 4,
        dice_over: DiceOver = "sample",
        **options: Any,
    ) -> None:
        super().__init__(spec, **options)
        self.tile_batch = tile_batch
        self.training_loss = partial(segmentation_loss, over=dice_over)
        self.compares_samples = dice_over == "batch"
        self.network: DenseBackbone = self.build(network, classes=len(spec["classes"]))
        self.codes = [int(code) for code in spec["label_codes"]]
        self.regions: Regions = regions_of(spec["dataset"], dict(zip(self.codes, spec["classes"], strict=True)))
        self.members = [[self.codes.index(code) for code in codes] for codes in self.regions.labels.values()]
        self.dice = MeanMetric()
        self.region_dice = nn.ModuleDict({name: MeanMetric() for name in self.regions.labels})

    def loss(self, batch: Batch, stage: str) -> Tensor:
        """Cross-entropy + Dice, per view, averaged over the views."""
        images = self.images(batch)
        labels = {view: _ignored(batch[f"{view}_label"]) for view in images}
        if stage == "train":
            outputs = self.network(images)
            losses = {view: deep_supervision(self.training_loss, outputs[view], labels[view]) for view in images}
            return self.log_training_loss(mean_over_views(losses, _known(labels)), batch)
        chosen = real(batch)
        scores = self.infer(batch).probabilities
        for view, values in labels.items():  # padding that other images of the batch needed is nobody's background
            own = batch[f"{view}_size"].clamp(min=torch.tensor(self.spec["input_size"][view], device=values.device))
            labels[view] = torch.where(inside(own, values.shape[1:]), values, UNKNOWN)
        labels = {view: values[chosen] for view, values in labels.items()}
        losses = {view: segmentation_loss(_logs(scores[view])[chosen], labels[view]) for view in images}
        loss = mean_over_views(losses, _known(labels))
        self._update_dice(batch, scores, chosen)
        named = {f"dice_{name}": metric for name, metric in self.region_dice.items()}
        self.log_validation(loss, int(chosen.sum()), dice=self.dice, **named)
        return loss

    def _update_dice(self, batch: Batch, scores: dict[str, Tensor], chosen: Tensor) -> None:
        """Means over cases, views pooled; what is not defined is left out."""
        for view, values in scores.items():
            true = batch[f"{view}_label"]
            true = torch.where(inside(batch[f"{view}_size"], true.shape[1:]), true, IGNORE)
            labelled = chosen & batch[f"{view}_labelled"]
            dice = batch_dice(values.argmax(1), true, self.members, self.regions.score_absent)[labelled]
            for metric, column in zip(self.region_dice.values(), dice.unbind(1), strict=True):
                cast(MeanMetric, metric).update(column, column.isfinite().float())
            means = dice.nanmean(dim=1)
            self.dice.update(means, means.isfinite().float())

    def infer(self, batch: Batch) -> Segmented:
        """Softmax probabilities of whole images, and what follows from them."""
        images, sizes = self.images(batch), self.spec["input_size"]
        scores = dense_probabilities(self.network, batch, images, sizes, "softmax", self.tile_batch)
        return self.from_scores(batch, scores)

    def scores(self, output: Segmented) -> dict[str, Tensor]:
        """Probabilities of the classes, by view."""
        return output.probabilities

    def from_scores(self, batch: Batch, scores: dict[str, Tensor]) -> Segmented:
        """What follows from the probabilities."""
        return Segmented(batch, scores, tuple(self.codes), self.native)

    def panels(self, batch: Batch, output: Segmented) -> Panels:
        """Image, truth where there is one, and prediction, per view."""
        table = torch.zeros(256, dtype=torch.uint8, device=self.device)
        table[: len(self.codes)] = torch.tensor(self.codes, dtype=torch.uint8, device=self.device)
        out: Panels = {}
        for view, labels in output.label_maps.items():
            out[view] = {"image": batch[view][:, 0]}
            if f"{view}_label" in batch and bool(batch[f"{view}_labelled"].any()):
                out[view]["truth"] = table[batch[f"{view}_label"].long()]
            out[view]["prediction"] = labels
        return out

    def volumes(self, batch: Batch, output: Segmented) -> dict[str, dict[str, list[Volume]]]:
        """The predicted label maps, on the grid and in the codes in which the images came."""
        return {
            view: {"label": [Volume(native.own_codes(labels), native.grid.affine) for native, labels in maps]}
            for view, maps in output.native_maps.items()
        }

    def rows(self, batch: Batch, output: Segmented) -> list[dict[str, Any]]:
        """Volume (ml) or area (cm2) of each region, per view, counted in the scan's own voxels."""
        maps, rows = output.native_maps, self.keys(batch)
        for i, row in enumerate(rows):
            for view in self.spec["views"]:
                measure = "area" if get_view(view).is_long_axis else "volume"
                found = self._measured(view, *maps[view][i]) if view in maps else {}
                row |= {f"{view}_{name}_{measure}": found.get(f"{name}_{measure}_pred") for name in self.regions.labels}
        return rows

    def _measured(self, view: str, native: Native, labels: np.ndarray) -> dict[str, float]:
        plane = labels[..., 0] if get_view(view).is_long_axis else labels
        return case_metrics(plane.astype(int), None, native.grid.scan_spacing, self.regions)

    def cases(self, batch: Batch, output: Segmented) -> list[dict[str, Any]]:
        """One row per sample and view: overlap, distance, volumes, stability."""
        rows = []
        for i, key in enumerate(self.keys(batch)):
            phase = self.phase(key["id"], key["frame"])
            for view in output.probabilities:
                found = self._case(batch, view, i, output)
                rows.append(key | {"view": view, "phase": phase} | self._same_columns(found))
        return rows

    def _case(self, batch: Batch, view: str, i: int, output: Segmented) -> dict[str, float]:
        size = batch[f"{view}_size"][i]
        predicted = cropped(output.label_maps[view][i], size).cpu().numpy()
        true = None
        if f"{view}_label" in batch and bool(batch[f"{view}_labelled"][i]):
            index = cropped(batch[f"{view}_label"][i], size).cpu().numpy()
            true = np.asarray(self.codes)[index]
        spacing = batch[f"{view}_spacing"][i].tolist()
        logits = cropped(_logs(output.probabilities[view][i]), size)
        return case_metrics(predicted.astype(int), true, spacing, self.regions, logits)

    def _same_columns(self, found: dict[str, float]) -> dict[str, float | None]:
        """A table has one set of columns: where stacks and planes are mixed, both volumes and areas."""
        kinds = {"area" if get_view(view).is_long_axis else "volume" for view in self.spec["views"]}
        extra = [
            f"{name}_{kind}_{side}"
            for name in self.regions.labels
            for kind in sorted(kinds)
            for side in ("true", "pred")
        ]
        means = [name for name in found if name.startswith("mean_")]
        order = [*[name for name in found if name not in means], *extra, *means]
        return {name: found.get(name) for name in dict.fromkeys(order)}

    def facts(self) -> dict[str, Any]:
        """Classes and regions."""
        return {
            "classes": list(self.spec["classes"]),
            "regions": {name: list(codes) for name, codes in self.regions.labels.items()},
        }

    @classmethod
    def published(cls, file: PublishedFile) -> dict[str, Any]:
        """See :meth:`Downstream.published`."""
        labels = file.labels()
        return {"classes": list(labels.values()), "label_codes": list(labels), "frames": file.option("frames", "ed_es")}


def _ignored(labels: Tensor) -> Tensor:
    """Class indices with -1 where nothing is known, as the losses take them."""
    values = labels.long()
    return torch.where(values == IGNORE, UNKNOWN, values)


def _logs(scores: Tensor) -> Tensor:
    return scores.clamp(min=torch.finfo(scores.dtype).tiny).log()


def _known(labels: dict[str, Tensor]) -> dict[str, Tensor]:
    return {view: values != UNKNOWN for view, values in labels.items()}
