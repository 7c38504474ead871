"""Landmarks of long-axis images: from heatmaps, or as coordinates (arXiv 2506.00679)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn
from torchmetrics import MeanMetric

from cinema_lightning.errors import CinemaError
from cinema_lightning.losses.landmarks import gaussian_heatmaps, heatmap_loss, wing_loss
from cinema_lightning.metrics.landmarks import distances, refined_points
from cinema_lightning.models.backbone import DenseBackbone, PooledBackbone
from cinema_lightning.models.convunetr import ConvUNetR
from cinema_lightning.models.convvit import ConvViT
from cinema_lightning.tasks import TASKS
from cinema_lightning.tasks.base import Batch, Marked, Panels
from cinema_lightning.tasks.downstream import Downstream, cropped, mean_over_views, real
from cinema_lightning.tasks.segmentation.task import dense_probabilities

if TYPE_CHECKING:
    from cinema_lightning.weights.published import PublishedFile

PUBLISHED = ["hinge_1", "hinge_2", "apex"]
"""Landmarks of the published networks."""


class Peaks(dict[str, Tensor]):
    """View -> (B, L, 2) voxels of the image as it is, float32: the peaks of heatmaps, which are kept beside.

    Args:
        points: The peaks.
        heatmaps: View -> (B, L, X, Y) in [0, 1].
    """

    def __init__(self, points: dict[str, Tensor], heatmaps: dict[str, Tensor]) -> None:
        super().__init__(points)
        self.heatmaps = heatmaps


class Landmarks(Downstream):
    """Base of both: distances, rows, pictures. A subclass says its loss and where the points are.

    Distances are in mm where the images' voxel size is known, else in pixels.
    """

    kind = "landmarks"
    monitor = "val/mean_distance"
    prediction_grid = "scan"

    def __init__(self, spec: dict[str, Any], **options: Any) -> None:
        super().__init__(spec, **options)
        self.names: list[str] = list(spec["landmarks"])
        self.mean_distance = MeanMetric()
        self.each_distance = nn.ModuleDict({name: MeanMetric() for name in self.names})

    @property
    def spacing_known(self) -> bool:
        """Whether the voxel size of the data in use is known, which need not be the data that was trained on."""
        data = getattr(self._trainer, "datamodule", None)
        return bool(getattr(data, "spacing_known", self.spec["spacing_known"]))

    def infer(self, batch: Batch) -> dict[str, Tensor]:
        """View -> (B, L, 2) voxels of the image as it is, float32."""
        raise NotImplementedError

    def update_distances(self, batch: Batch, found_points: dict[str, Tensor]) -> None:
        """Means over cases and views; landmarks that are not marked are left out."""
        chosen = real(batch).cpu()
        for view, points in found_points.items():
            pixels, millimetres = self._distances(batch, view, points)
            found = torch.from_numpy(millimetres if self.spacing_known else pixels)[chosen].float()
            for metric, column in zip(self.each_distance.values(), found.unbind(1), strict=True):
                column = column.to(self.device)
                cast(MeanMetric, metric).update(column, column.isfinite().float())
            means = found.nanmean(dim=1).to(self.device)
            self.mean_distance.update(means, means.isfinite().float())

    def log_distances(self, loss: Tensor, n: int) -> None:
        """Logs the validation loss and distances."""
        named = {f"distance_{name}": metric for name, metric in self.each_distance.items()}
        self.log_validation(loss, n, mean_distance=self.mean_distance, **named)

    def _truth(self, batch: Batch, view: str) -> Tensor:
        """(B, L, 2), NaN where not marked."""
        valid = batch[f"{view}_points_valid"][..., None]
        return torch.where(valid, batch[f"{view}_points"], torch.nan)

    def _distances(self, batch: Batch, view: str, points: Tensor) -> tuple[Any, Any]:
        spacing = batch[f"{view}_spacing"].cpu().numpy() if self.spacing_known else None
        return distances(points.cpu().numpy(), self._truth(batch, view).cpu().numpy(), spacing)

    def panels(self, batch: Batch, output: dict[str, Tensor]) -> Panels:
        """The image with true and predicted points."""
        out: Panels = {}
        for view, points in output.items():
            marks = {"prediction": points}
            if f"{view}_points" in batch:
                marks = {"truth": self._truth(batch, view), **marks}
            out[view] = {"image": batch[view][:, 0], "landmarks": Marked(batch[view][:, 0], marks)}
        return out

    def rows(self, batch: Batch, output: dict[str, Tensor]) -> list[dict[str, Any]]:
        """Coordinates in the scan's own voxels, per view and landmark."""
        rows = self.keys(batch)
        for i, row in enumerate(rows):
            for view in self.spec["views"]:
                places: list[Any] = [(None, None)] * len(self.names)
                if view in output:
                    grid = self.native(row["id"], view).grid
                    places = [grid.point_to_scan(x, y) for x, y in output[view][i].tolist()]
                for name, (x, y) in zip(self.names, places, strict=True):
                    row |= {f"{view}_{name}_x": x, f"{view}_{name}_y": y}
        return rows

    def cases(self, batch: Batch, output: dict[str, Tensor]) -> list[dict[str, Any]]:
        """One row per sample and view: true and predicted places and their distances."""
        rows = []
        for view, points in output.items():
            true = self._truth(batch, view)
            pixels, millimetres = self._distances(batch, view, points)
            for i, row in enumerate(self.keys(batch)):
                row |= {"view": view, "phase": self.phase(row["id"], row["frame"])}
                for k, name in enumerate(self.names):
                    row |= {f"{name}_x_true": float(true[i, k, 0]), f"{name}_y_true": float(true[i, k, 1])}
                    row |= {f"{name}_x_pred": float(points[i, k, 0]), f"{name}_y_pred": float(points[i, k, 1])}
                    row |= {f"{name}_distance_px": float(pixels[i, k]), f"{name}_distance_mm": float(millimetres[i, k])}
                means = {"px": pixels[i], "mm": millimetres[i]}
                row |= {f"mean_distance_{u}": float(torch.tensor(v).nanmean()) for u, v in means.items()}
                spacing = batch[f"{view}_spacing"][i].tolist() if self.spacing_known else [None, None]
                row |= {"spacing_x": spacing[0], "spacing_y": spacing[1]}
                rows.append(row)
        return rows

    def facts(self) -> dict[str, Any]:
        """Landmarks in the order of the outputs."""
        return {"landmarks": self.names, "unit": "mm" if self.spacing_known else "px"}

    @classmethod
    def published(cls, file: PublishedFile) -> dict[str, Any]:
        """See :meth:`Downstream.published`."""
        names = list(file.facts.get("landmarks") or file.options.get("landmarks") or PUBLISHED)
        wanted = len(names) * (1 if file.facts["network"] == "ConvUNetR" else 2)
        file.check_outputs(wanted, f"{len(names)} landmarks need {wanted} outputs")
        return {"landmarks": names, "frames": file.option("frames", "ed_es"), "spacing_known": False}


@TASKS.register
class LandmarkHeatmap(Landmarks):
    """One heatmap per landmark; the point is the peak of a quadratic fitted around the largest pixel.

    Args:
        spec: Facts of the data. Linked by the command line.
        network: A dense backbone and its options.
        sigma: Standard deviation of the target's Gaussians, pixels.
        **options: See :class:`~cinema_lightning.tasks.downstream.Downstream`.
    """

    turns_as = "maps"

    def __init__(
        self,
        spec: dict[str, Any],
        network: Callable[..., DenseBackbone] = ConvUNetR,
        sigma: float = 3.0,
        **options: Any,
    ) -> None:
        super().__init__(spec, **options)
        if sigma <= 0:
            raise CinemaError(f"sigma is {sigma}; give the width of the heatmaps' Gaussians in pixels, above 0.")
        self.sigma = sigma
        self.network: DenseBackbone = self.build(network, classes=len(self.names))

    def loss(self, batch: Batch, stage: str) -> Tensor:
        """Binary cross-entropy + Dice of the heatmaps, averaged over the views."""
        images = self.images(batch)
        if stage == "train":
            outputs = self.network(images)
            levels = {v: out if isinstance(out, list) else [out] for v, out in outputs.items()}
            losses = {
                v: torch.stack([self._heatmap_loss(batch, v, level) for level in found]).mean()
                for v, found in levels.items()
            }
            marked = {view: batch[f"{view}_points_valid"] for view in losses}
            return self.log_training_loss(mean_over_views(losses, marked), batch)
        chosen = real(batch)
        scores = self.probabilities(batch)
        logits = {view: found.clamp(1e-7, 1 - 1e-7).logit() for view, found in scores.items()}
        losses = {view: self._heatmap_loss(batch, view, values, chosen) for view, values in logits.items()}
        loss = mean_over_views(losses, {view: batch[f"{view}_points_valid"][chosen] for view in losses})
        self.update_distances(batch, self._peaks(batch, scores))
        self.log_distances(loss, int(chosen.sum()))
        return loss

    def _heatmap_loss(self, batch: Batch, view: str, logits: Tensor, chosen: Tensor | None = None) -> Tensor:
        points, valid = batch[f"{view}_points"], batch[f"{view}_points_valid"]
        targets = gaussian_heatmaps(points, logits.shape[2:], self.sigma)
        if chosen is not None:
            valid = valid & chosen[:, None]
        return heatmap_loss(logits, targets, valid)

    def probabilities(self, batch: Batch) -> dict[str, Tensor]:
        """Heatmaps in [0, 1], (B, L, X, Y) float32 per view."""
        return dense_probabilities(self.network, batch, self.images(batch), self.spec, "sigmoid")

    def infer(self, batch: Batch) -> Peaks:
        """Peaks inside the true image."""
        return self._peaks(batch, self.probabilities(batch))

    def scores(self, output: Peaks) -> dict[str, Tensor]:
        """The heatmaps."""
        return output.heatmaps

    def from_scores(self, batch: Batch, scores: dict[str, Tensor]) -> Peaks:
        """The peaks of the heatmaps."""
        return self._peaks(batch, scores)

    def _peaks(self, batch: Batch, scores: dict[str, Tensor]) -> Peaks:
        out = {}
        for view, maps in scores.items():
            sizes = batch[f"{view}_size"]
            places = [refined_points(cropped(one, size)[None])[0] for one, size in zip(maps, sizes, strict=True)]
            out[view] = torch.stack(places).float()
        return Peaks(out, scores)


@TASKS.register
class LandmarkCoordinate(Landmarks):
    """Coordinates of three landmarks of one view, as shares of the input's width and height.

    Args:
        spec: Facts of the data. Linked by the command line.
        network: A pooled backbone and its options.
        **options: See :class:`~cinema_lightning.tasks.downstream.Downstream`.
    """

    turns_as = "points"

    def __init__(self, spec: dict[str, Any], network: Callable[..., PooledBackbone] = ConvViT, **options: Any) -> None:
        super().__init__(spec, **options)
        if len(self.names) != 3 or len(spec["views"]) != 1:
            raise CinemaError(
                f"LandmarkCoordinate finds three landmarks in one view, but there are {len(self.names)} "
                f"({', '.join(self.names)}) in {', '.join(spec['views'])}: set data.landmarks and data.views, or use "
                "LandmarkHeatmap."
            )
        self.view = str(spec["views"][0])
        self.register_buffer("input_extent", torch.tensor(spec["input_size"][self.view]), persistent=False)
        self.input_extent: Tensor
        self.network: PooledBackbone = self.build(network, outputs=6)

    def _coordinates(self, batch: Batch) -> Tensor:
        """(B, 3, 2) pixels. An image that is larger than the input is seen through a window in its middle."""
        image, size = batch[self.view], self.input_extent
        start = (batch[f"{self.view}_size"].to(image.device) - size).clamp(min=0) // 2
        across, down = self.spec["input_size"][self.view]
        if image.shape[2:] != (across, down):
            corners = start.tolist()
            windows = [one[:, x : x + across, y : y + down] for one, (x, y) in zip(image, corners, strict=True)]
            image = torch.stack(windows)
        shares = self.network({self.view: image}).float().reshape(len(image), 3, 2)
        return shares * size + start[:, None]

    def loss(self, batch: Batch, stage: str) -> Tensor:
        """Wing loss of the points and of their offsets from each other's midpoints."""
        points, valid = batch[f"{self.view}_points"], batch[f"{self.view}_points_valid"]
        if stage == "train":
            return self.log_training_loss(wing_loss(self._coordinates(batch), points, valid), batch)
        chosen = real(batch)
        found = self._coordinates(batch)
        loss = wing_loss(found, points, valid & chosen[:, None])
        self.update_distances(batch, {self.view: found})
        self.log_distances(loss, int(chosen.sum()))
        return loss

    def infer(self, batch: Batch) -> dict[str, Tensor]:
        """The network's points."""
        return {self.view: self._coordinates(batch)}

    def scores(self, output: dict[str, Tensor]) -> dict[str, Tensor]:
        """The points."""
        return dict(output)

    def from_scores(self, batch: Batch, scores: dict[str, Tensor]) -> dict[str, Tensor]:
        """See :meth:`scores`."""
        return scores
