"""What a network's encoder makes of a scan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cinema_lightning.errors import CinemaError
from cinema_lightning.imaging.nifti import Geometry
from cinema_lightning.inference.model import Model
from cinema_lightning.inference.pipe import Frames
from cinema_lightning.inference.scans import Scans
from cinema_lightning.models.encoder import MultiViewEncoder
from cinema_lightning.models.mae import MaskedAutoencoder


@dataclass(frozen=True, eq=False)
class Features:
    """Features of the frames of a scan.

    Attributes:
        frames: Frames of the scan that were seen, T of them.
        cls: float32 (T, D), the class token.
        views: View -> float32 (T, D), the mean of its tokens.
        tokens: View -> float32 (T, x, y[, z], D), its tokens on the grid of patches; None where not asked for.
    """

    frames: tuple[int, ...]
    cls: np.ndarray
    views: Mapping[str, np.ndarray]
    tokens: Mapping[str, np.ndarray] | None = None


def features(
    scan: Scans,
    model: Model,
    *,
    tokens: bool = False,
    spacing: Sequence[float] | None = None,
    affine: np.ndarray | None = None,
    frames: Frames = "all",
    ed: int | None = None,
    es: int | None = None,
    batch_size: int | None = None,
    geometry: Geometry = "refuse",
) -> Features:
    """Features of a scan, those that `cinema predict` writes after pretraining.

    As there, a scan that is larger than the network's input is seen through a window in its middle.

    Args:
        scan: See :meth:`cinema_lightning.inference.model.Model.__call__`, as the other options.
        model: A pretrained network, or one fine-tuned from it (ConvUNetR, ConvViT).
        tokens: Also give the tokens of each view on their grid.
        spacing: Voxel size of an array.
        affine: Affine of an array.
        frames: Frames to do.
        ed: Frame of end-diastole.
        es: Frame of end-systole.
        batch_size: Frames in one pass of the network; by default as many as are of use and memory holds.
        geometry: What to believe where a NIfTI header contradicts itself.

    Returns:
        The features.

    Raises:
        CinemaError: If the network has no such encoder, or the scan cannot be used.
    """
    network = model.network
    encoder = getattr(network, "encoder", None)
    if not isinstance(encoder, MultiViewEncoder):
        raise CinemaError(f"{model.spec.source[0]} is a {model.spec.network}, which has no tokens to give as features.")
    scanned = model.scanned(scan, spacing, affine, frames, ed, es, batch_size, geometry)
    found: list[dict[str, Tensor]] = []
    sizes: dict[str, Sequence[int]] = {}
    for batch in model.batches(scanned, whole=False):
        images = {view: batch[view] for view in scanned.study.views}
        sizes = {view: image.shape[2:] for view, image in images.items()}
        with model.computing():
            found.append({name: values.float().cpu() for name, values in _encoded(network, encoder, images).items()})
    joined: dict[str, Any] = {name: torch.cat([part[name] for part in found]) for name in found[0]}
    return Features(
        tuple(scanned.frames),
        joined["cls"][:, 0].numpy(),
        {view: joined[view].mean(dim=1).numpy() for view in scanned.study.views},
        {view: _gridded(joined[view], encoder, view, size) for view, size in sizes.items()} if tokens else None,
    )


def _encoded(network: nn.Module, encoder: MultiViewEncoder, images: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tokens, fused with the stems' where the network does so: ``cls`` (B, 1, D) and by view (B, N, D)."""
    if isinstance(network, MaskedAutoencoder):
        return network.encode(images)
    encoded = encoder(images)
    fusion = getattr(network, "fusion", None)
    if fusion is None:
        return {"cls": encoded.cls, **encoded.tokens}
    return {"cls": encoded.cls, **{view: fusion[view](t, encoded.stems[view]) for view, t in encoded.tokens.items()}}


def _gridded(tokens: Tensor, encoder: MultiViewEncoder, view: str, size: Sequence[int]) -> np.ndarray:
    geometry = encoder.geometries[view]
    values: np.ndarray = tokens.unflatten(1, geometry.grid_of(geometry.padded(size))).numpy()
    return values
