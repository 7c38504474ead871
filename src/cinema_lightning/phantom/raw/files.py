"""Files of the raw layouts with the same bytes for the same content: NIfTI, CSV, PNG, pickles, zips."""

from __future__ import annotations

import csv
import gzip
import io
import pickle
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cinema_lightning.files import write_text

ZIP_DATE = (1980, 1, 1, 0, 0, 0)


def put(path: Path, data: bytes) -> None:
    """Writes a file and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def put_nifti(path: Path, array: np.ndarray, affine: np.ndarray, seconds: float = 0.0) -> None:
    """Writes ``.nii.gz``.

    Args:
        path: The file.
        array: (X, Y, Z) or time first (T, X, Y, Z); stored in its own type.
        affine: (4, 4), voxel to RAS mm.
        seconds: Time between frames of a series.
    """
    import nibabel as nib

    image = nib.Nifti1Image(np.moveaxis(array, 0, -1) if array.ndim == 4 else array, affine)
    image.header.set_xyzt_units("mm", "sec")
    if array.ndim == 4:
        image.header.set_zooms((*image.header.get_zooms()[:3], seconds))
    # The time in gzip's header would make two runs differ.
    put(path, gzip.compress(image.to_bytes(), compresslevel=4, mtime=0))


def plain_affine(spacing: Sequence[float], offset: Sequence[float] = (0.0, 0.0, 0.0)) -> np.ndarray:
    """Affine without orientation: the identity in LPS, as files have whose directions got lost in conversion."""
    affine = np.diag([-spacing[0], -spacing[1], spacing[2], 1.0])
    affine[:3, 3] = offset
    return affine


def csv_text(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], *, header: bool = True) -> str:
    """Rows as CSV; None is an empty cell."""
    out = io.StringIO()
    writer = csv.DictWriter(out, columns, lineterminator="\n", restval="", extrasaction="ignore")
    if header:
        writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def put_csv(path: Path, rows: Sequence[Mapping[str, Any]], columns: Sequence[str], *, header: bool = True) -> None:
    """Writes a table whole or not at all."""
    write_text(path, csv_text(rows, columns, header=header))


def put_png(path: Path, image: np.ndarray) -> None:
    """Writes a grey PNG from (X, Y) uint8: x is the column."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(image.T)).save(buffer, "png")
    put(path, buffer.getvalue())


def put_pickle(path: Path, content: dict[str, Any]) -> None:
    """Writes a plain pickle of numpy arrays and numbers."""
    arrays = {key: np.ascontiguousarray(value) if np.ndim(value) else value for key, value in content.items()}
    put(path, pickle.dumps(arrays, protocol=4))


def put_zip(path: Path, members: Iterable[tuple[str, bytes]]) -> None:
    """Writes a zip without dates of its own."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, data in members:
            info = zipfile.ZipInfo(name, ZIP_DATE)
            info.compress_type, info.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
            archive.writestr(info, data, compresslevel=1)
