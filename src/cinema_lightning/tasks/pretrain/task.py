"""Masked-autoencoder pretraining on any subset of the four cine views (arXiv 2506.00679)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torchmetrics import MeanMetric

from cinema_lightning.data.draws import Key, generator
from cinema_lightning.data.transforms import KEYS, PLAN, sample_keys
from cinema_lightning.models.mae import MaeOutput, MaskedAutoencoder
from cinema_lightning.models.memory import samples_at_once
from cinema_lightning.models.patches import Selection, select
from cinema_lightning.tasks import TASKS
from cinema_lightning.tasks.base import Batch, Panels, Task, Volume, run_seed
from cinema_lightning.tasks.optim import Optimisation


def draw_masks(keys: Sequence[Key], view: str, n_patches: int, n_visible: int, seed: int) -> Selection:
    """Draws which patches of one view are hidden, for each sample by itself.

    A draw depends on the seed, the sample's key and the view only, so that resuming, the number of workers and the
    number of devices do not change it.

    Args:
        keys: Epoch, id and frame of each sample, B of them; epoch 0 for validation, whose masks are fixed.
        view: View name.
        n_patches: Patches of the view, N.
        n_visible: Patches that stay visible.
        seed: Seed of the run.

    Returns:
        The selection, on the CPU.
    """
    masks = np.ones((len(keys), n_patches), dtype=bool)
    for row, key in zip(masks, keys, strict=True):
        row[generator(seed, *key, view, "mask").permutation(n_patches)[:n_visible]] = False
    return select(view, torch.from_numpy(masks), *masks.shape)


@dataclass(frozen=True)
class MaskDraws:
    """Adds to a batch which patches are hidden: ``V_mask`` (B, N), ``V_visible`` and ``V_masked``, see ``Selection``.

    Attributes:
        counts: View -> slices of its images (0 of a plane) -> patches, and how many of them stay visible.
        seed: Seed of the run.
    """

    counts: dict[str, dict[int, tuple[int, int]]]
    seed: int

    def __call__(self, batch: Batch) -> Batch:
        """A batch with the masks of its views, on the CPU."""
        drawn: Batch = {}
        for view in (view for view in self.counts if view in batch):
            size = batch[PLAN]["views"][view]["target"] if PLAN in batch else batch[view].shape[2:]
            chosen = draw_masks(sample_keys(batch), view, *self.counts[view][sum(size[2:])], self.seed)
            drawn |= {f"{view}_{name}": getattr(chosen, name) for name in ("mask", "visible", "masked")}
        return batch | drawn


@dataclass(frozen=True)
class Encoded:
    """What the autoencoder makes of a batch; each pass through it is made when it is first asked for.

    Attributes:
        network: The autoencoder.
        images: View -> (B, C, X, Y[, Z]).
        masks: Gives the hidden patches by view.
    """

    network: MaskedAutoencoder
    images: dict[str, Tensor]
    masks: Callable[[], dict[str, Selection]]

    @cached_property
    def features(self) -> dict[str, Tensor]:
        """Tokens of the whole images: ``cls`` and by view, (B, N, width)."""
        return self.network.encode(self.images)

    @cached_property
    def masked(self) -> tuple[dict[str, Selection], MaeOutput]:
        """The hidden patches, and what the network makes of the visible ones."""
        masks = self.masks()
        return masks, self.network(self.images, masks)


class _Whole(nn.Module):
    """The autoencoder's way with images of which nothing is hidden."""

    def __init__(self, network: MaskedAutoencoder) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: dict[str, Tensor]) -> dict[str, Tensor]:
        return self.network.encode(images)


@TASKS.register
class Pretrain(Task):
    """Reconstructs hidden patches of short- and long-axis frames from the visible ones of all views.

    Args:
        spec: Facts of the data: ``views``, ``input_size`` and ``channels``. Linked by the command line.
        network: The masked autoencoder and its options.
        optim: Optimiser and schedule.
        compile: Compile the network with ``torch.compile``.
    """

    prediction_stem = "features"
    rows_beside = False

    def __init__(
        self,
        spec: dict[str, Any],
        network: Callable[..., MaskedAutoencoder] = MaskedAutoencoder,
        optim: Optimisation | None = None,
        compile: bool = False,
    ) -> None:
        super().__init__(spec, optim, compile)
        self.network: MaskedAutoencoder = network(
            views=spec["views"], input_size=spec["input_size"], channels=spec["channels"]
        )
        self.view_losses = nn.ModuleDict({view: MeanMetric() for view in spec["views"]})
        self.mean_loss = MeanMetric()

    def host_steps(self) -> list[Callable[[Batch], Batch]]:
        """See :meth:`Task.host_steps`: the masks."""
        network, counts = self.network, {}
        for view, (x, y, *depth) in self.spec["input_size"].items():
            sizes = [(x, y, z) for z in range(1, depth[0] + 1)] if depth else [(x, y)]
            counts[view] = {sum(s[2:]): (network.n_patches(view, s), network.n_visible(view, s)) for s in sizes}
        return [MaskDraws(counts, run_seed())]

    def masks(self, batch: Batch, images: dict[str, Tensor]) -> dict[str, Selection]:
        """Masks of a batch, on its device; fixed over epochs except in training."""
        if any(f"{view}_mask" not in batch for view in images):  # of a loader that is not the data module's
            (draw,) = self.host_steps()
            keys = [(epoch if self.training else 0, *sample) for epoch, *sample in sample_keys(batch)]
            drawn = draw(batch | {KEYS: keys})
            batch = {k: v.to(self.device, non_blocking=True) if isinstance(v, Tensor) else v for k, v in drawn.items()}
        return {
            view: Selection(*(batch[f"{view}_{name}"] for name in ("mask", "visible", "masked"))) for view in images
        }

    def loss(self, batch: Batch, stage: str) -> Tensor:
        """Mean over views of the squared error at hidden patches; logged as a whole and per view."""
        images = self.images(batch)
        output = self.network(images, self.masks(batch, images))
        if stage == "train":
            n = len(batch["id"])
            self.log("train/loss", output.loss, prog_bar=True, batch_size=n)
            for view, loss in output.losses.items():
                self.log(f"train/loss_{view}", loss.detach().mean(), batch_size=n)
            return output.loss
        weight = batch["weight"]
        per_view = torch.stack(list(output.losses.values()))
        self.mean_loss.update(per_view.mean(dim=0), weight)
        self.log("val/loss", self.mean_loss, on_step=False, on_epoch=True, prog_bar=True)
        for view, loss in output.losses.items():
            metric = cast(MeanMetric, self.view_losses[view])
            metric.update(loss, weight)
            self.log(f"val/loss_{view}", metric, on_step=False, on_epoch=True)
        return output.loss

    def samples_at_once(self) -> int | None:
        """See :meth:`Task.samples_at_once`, of whole images."""
        images = {view: (self.spec["channels"], *size) for view, size in self.spec["input_size"].items()}
        return samples_at_once(_Whole(self.network), images, self.device)

    def infer(self, batch: Batch) -> Encoded:
        """What the autoencoder makes of the images, whole and with hidden patches."""
        images = self.images(batch)
        return Encoded(self.network, images, partial(self.masks, batch, images))

    def panels(self, batch: Batch, output: Encoded) -> Panels:
        """Image, what the network saw of it, its reconstruction, and the absolute error, per view."""
        masks, found = output.masked
        panels: Panels = {}
        for view, image in output.images.items():
            filled = self.network.reconstruct(view, image, masks[view].mask, found.predictions[view])
            panels[view] = {
                "image": image[:, 0],
                "masked": self.network.hide(view, image, masks[view].mask)[:, 0],
                "reconstruction": filled[:, 0].clamp(0, 1),
                "error": (filled - image)[:, 0].abs(),
            }
        return panels

    def volumes(self, batch: Batch, output: Encoded) -> dict[str, dict[str, list[Volume]]]:
        """The panels, as images on the network's grid."""
        return {
            view: {
                title: [_volume(batch, view, image, i) for i in range(len(batch["id"]))]
                for title, image in panels.items()
                if isinstance(image, Tensor)
            }
            for view, panels in self.panels(batch, output).items()
        }

    def rows(self, batch: Batch, output: Encoded) -> list[dict[str, Any]]:
        """Features of unmasked frames: the class token and each view's mean token, one row per subject and frame."""
        width = output.features["cls"].shape[-1]
        pooled = {name: tokens.mean(dim=1).float().cpu().tolist() for name, tokens in output.features.items()}
        rows = self.keys(batch)
        for i, row in enumerate(rows):
            for name in ("cls", *self.spec["views"]):
                values = pooled[name][i] if name in pooled else [""] * width  # a missing view leaves its cells empty
                row |= {f"{name}_{k}": value for k, value in enumerate(values)}
        return rows


def _volume(batch: Batch, view: str, images: Tensor, i: int) -> Volume:
    size = batch[f"{view}_size"][i].tolist()
    voxels = images[i][tuple(slice(n) for n in size)].float().cpu().numpy()
    return Volume(voxels, batch[f"{view}_affine"][i].double().cpu().numpy())
