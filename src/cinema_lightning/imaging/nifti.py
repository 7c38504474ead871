"""NIfTI files as arrays that keep their type, with the message that a broken one deserves."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np

from cinema_lightning.errors import CinemaError
from cinema_lightning.imaging.geometry import spacing_of


def read_nifti(path: Path, *, dims: int) -> tuple[np.ndarray, np.ndarray]:
    """Reads a NIfTI file whole.

    Args:
        path: The .nii or .nii.gz file.
        dims: 3 for one frame, 4 for a series; a missing trailing axis of a 3D image is added, a single frame may
            stand for a series.

    Returns:
        The array, (X, Y, Z) or (X, Y, Z, T), in the type it is stored in (floating where the header scales it), and
        its (4, 4) RAS affine.

    Raises:
        CinemaError: If it is missing, cut short, not NIfTI, or has another number of axes or no geometry.
    """
    import nibabel as nib

    if not Path(path).is_file():
        raise CinemaError(f"{path} is missing.")
    try:
        image = nib.load(path)
        array = np.asanyarray(image.dataobj)  # type: ignore[attr-defined]
        affine = np.array(image.affine, dtype=np.float64)  # type: ignore[attr-defined]
    except (OSError, EOFError, ValueError, zlib.error, nib.filebasedimages.ImageFileError) as error:
        raise CinemaError(f"{path} cannot be read ({error}): it may be half downloaded.") from None
    while array.ndim > dims and array.shape[-1] == 1:
        array = array[..., 0]
    while array.ndim < dims:
        array = array[..., None]
    if array.ndim != dims:
        raise CinemaError(f"{path} has the shape {array.shape}; an image of {dims} axes was expected.")
    if not np.isfinite(affine).all() or (spacing_of(affine) <= 0).any():
        raise CinemaError(f"{path} has no usable geometry (affine {affine.tolist()}).")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise CinemaError(f"{path} holds values that are not numbers.")
    # nibabel gives big-endian arrays for big-endian files; SimpleITK wants the machine's own order.
    return array.astype(array.dtype.newbyteorder("="), copy=False), affine


def read_frame(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Reads one frame as a series of one: (1, X, Y, Z) and its affine."""
    array, affine = read_nifti(path, dims=3)
    return array[None], affine


def read_series(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Reads a 4D file time first: (T, X, Y, Z) and its affine."""
    array, affine = read_nifti(path, dims=4)
    return np.moveaxis(array, -1, 0), affine
