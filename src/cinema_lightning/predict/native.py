"""Predictions in the geometry and the codes that the images came in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cinema_lightning.datasets.base import DATASETS
from cinema_lightning.errors import CinemaError
from cinema_lightning.files import replacing


@dataclass(frozen=True)
class Geometry:
    """The grid of a study's image as it was acquired.

    Attributes:
        affine: (4, 4) voxel to RAS mm.
        size: Voxels, (X, Y, Z).
        dataset: The dataset, whose own codes are used and whose rules for predictions are followed; empty for none.
    """

    affine: np.ndarray
    size: tuple[int, int, int]
    dataset: str = ""
    _codes: dict[int, int] = field(default_factory=dict, repr=False)

    def labels(self, labels: np.ndarray, affine: np.ndarray) -> np.ndarray:
        """Brings a label map to this grid, by the nearest voxel; outside it is background.

        Args:
            labels: (X, Y[, Z]) class codes of the store.
            affine: (4, 4) of their grid.

        Returns:
            int16 (X, Y, Z) in the provider's codes.
        """
        volume = labels[..., None] if labels.ndim == 2 else labels
        matrix = np.linalg.inv(affine) @ self.affine
        places = np.indices(self.size, dtype=np.float64).reshape(3, -1)
        found = np.floor(matrix[:3, :3] @ places + matrix[:3, 3:] + 0.5).astype(int)
        if labels.ndim == 2:  # a single plane: where along its normal it lies is rounding only
            found[2] = 0
        inside = ((found >= 0) & (found < np.array(volume.shape)[:, None])).all(axis=0)
        out = np.zeros(places.shape[1], np.int16)
        out[inside] = volume[tuple(found[:, inside])]
        return self._in_own_codes(out.reshape(self.size))

    def _in_own_codes(self, volume: np.ndarray) -> np.ndarray:
        if not self.dataset:
            return volume
        reader = DATASETS[self.dataset]
        volume = reader.clean_prediction(volume)
        back = {code: raw for raw, code in reader.label_map.items()}
        table = np.zeros(256, np.int16)
        for code, raw in back.items():
            table[code] = raw
        return table[volume]

    def write_labels(self, path: Path, labels: np.ndarray, affine: np.ndarray) -> None:
        """Writes a label map as NIfTI on this grid; arguments as of :meth:`labels`."""
        write_nifti(path, self.labels(labels, affine), self.affine)


def native_geometry(datamodule: Any, study: str, view: str, affine: np.ndarray, size: Sequence[int]) -> Geometry:
    """The acquired grid of a study's view, as preparation noted it; the stored grid where it did not.

    Args:
        datamodule: The data.
        study: The id.
        view: View name.
        affine: (4, 4) of the stored grid.
        size: Voxels of the stored grid.
    """
    info = datamodule.cohort.reader.open(study, view).info
    known = info.provenance
    dataset = str(known.get("dataset", ""))
    if "orig_affine" not in known or "orig_size" not in known:
        return Geometry(affine, (int(size[0]), int(size[1]), int(size[2]) if len(size) == 3 else 1))
    original = np.asarray(known["orig_affine"], dtype=np.float64)
    x, y, z = (int(n) for n in known["orig_size"])
    return Geometry(original, (x, y, z), dataset if dataset in DATASETS and DATASETS[dataset].label_map else "")


def write_nifti(path: Path, image: np.ndarray, affine: np.ndarray) -> None:
    """Writes an image (X, Y[, Z]) as NIfTI, atomically; a plane gets a third axis of length 1.

    Raises:
        CinemaError: If it cannot be written.
    """
    import nibabel

    volume = image[..., None] if image.ndim == 2 else image
    if volume.ndim != 3:
        raise CinemaError(f"{path}: an image of {volume.ndim} axes cannot be written.")
    kind = np.int16 if np.issubdtype(volume.dtype, np.integer) else np.float32
    with replacing(path) as temporary:
        nibabel.save(nibabel.Nifti1Image(volume.astype(kind), affine), temporary)
