"""Images as NIfTI files."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cinema_lightning.errors import CinemaError
from cinema_lightning.files import replacing


def write_nifti(path: Path, image: np.ndarray, affine: np.ndarray) -> None:
    """Writes an image (X, Y[, Z[, T]]) as NIfTI, atomically; a plane gets a third axis of length 1.

    Raises:
        CinemaError: If it cannot be written.
    """
    import nibabel

    volume = image[..., None] if image.ndim == 2 else image
    if volume.ndim not in (3, 4):
        raise CinemaError(f"{path}: an image of {volume.ndim} axes cannot be written.")
    kind = np.int16 if np.issubdtype(volume.dtype, np.integer) else np.float32
    with replacing(path) as temporary:
        nibabel.save(nibabel.Nifti1Image(volume.astype(kind), affine), temporary)
