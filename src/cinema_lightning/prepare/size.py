"""How large the prepared pictures are: as published, or small for quick trials.

Small pictures show what the full ones show with fewer voxels: 64 x 64, so that SAX voxels are 3 times as long in plane
and long-axis voxels 4 times. Slices stay as they are. Where a dataset keeps the image's own spacing, voxels become
just so much longer that what the full preparation keeps of this image measures 64 at most.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from cinema_lightning.datasets.base import Dataset
from cinema_lightning.imaging.geometry import spacing_of

Size = Literal["full", "small"]
SMALL = 64
"""In-plane size of small pictures, pixels."""


def size_of(about: Mapping[str, Any]) -> Size:
    """The size that a record or a series' provenance names; the full size has no such key."""
    return "small" if about.get("size") == "small" else "full"


def marked(size: Size) -> dict[str, str]:
    """What a record or a series' provenance says of the size, see :func:`size_of`."""
    return {} if size == "full" else {"size": size}


def crop_size(dataset: Dataset, view: str, size: Size) -> tuple[int, int]:
    """In-plane size after the crop.

    Args:
        dataset: The dataset.
        view: View name.
        size: full or small.

    Returns:
        x, y in pixels.
    """
    full = dataset.crop_size(view)
    factor = 1.0 if size == "full" else _factor(full)
    return int(full[0] // factor), int(full[1] // factor)


def target_spacing(
    dataset: Dataset, view: str, spacing: Sequence[float], shape: Sequence[int], size: Size
) -> tuple[float, float, float]:
    """Voxel size after preparation.

    Args:
        dataset: The dataset.
        view: View name.
        spacing: Voxel size of the raw image, mm.
        shape: (X, Y, Z) of the raw image.
        size: full or small.

    Returns:
        x, y, z in mm; z is that of the full size.
    """
    x, y, z = dataset.target_spacing(view, spacing)
    if size == "full":
        return x, y, z
    crop = dataset.crop_size(view)
    if dataset.spacing.get(view, ()) is None:
        kept = shape[:2] if dataset.crop == "none" else [min(pair) for pair in zip(shape[:2], crop, strict=True)]
        factor = _factor(kept)
    else:
        factor = _factor(crop)
    return x * factor, y * factor, z


def _factor(plane: Sequence[int]) -> float:
    """How many times longer voxels get for the larger side of a picture to measure 64; never shorter."""
    return max(1.0, max(plane) / SMALL)


def spacing_wanted(
    dataset: Dataset, view: str, spacing: Sequence[float], provenance: Mapping[str, Any]
) -> tuple[float, float, float]:
    """Voxel size that a stored series should have, to check it against.

    Args:
        dataset: The dataset.
        view: View name.
        spacing: Voxel size that it has, mm.
        provenance: What the file says of its making.

    Returns:
        x, y, z in mm.
    """
    if size_of(provenance) == "full":
        return dataset.target_spacing(view, spacing)
    raw = spacing_of(provenance["orig_affine"]).tolist()
    return target_spacing(dataset, view, raw, provenance["orig_size"], "small")
