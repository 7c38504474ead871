"""Scans as they came, files or images in memory, brought to the voxels and grey levels that a network knows.

Frames are brought to the voxel size that is asked for and their grey levels scaled, as preparation does it
(:mod:`cinema_lightning.imaging.grid`, :mod:`cinema_lightning.imaging.intensity`). Voxels of eight bits that need no
resampling are taken for prepared ones and left as they are.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np

from cinema_lightning.data.store import SeriesInfo, frame_indices
from cinema_lightning.errors import CinemaError
from cinema_lightning.imaging.alignment import Place, Volume, on_grid
from cinema_lightning.imaging.grid import check_slices_last, network_grid
from cinema_lightning.imaging.intensity import to_uint8
from cinema_lightning.views import get_view


class Scan(Protocol):
    """An image of one or more frames whose header was checked: a NIfTI file, or one in memory."""

    @property
    def path(self) -> Path:
        """The file, or what to call the image in messages."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Its axes, (X, Y[, Z[, T]])."""

    @property
    def affine(self) -> np.ndarray:
        """(4, 4), voxel to RAS mm."""

    @property
    def place(self) -> Place:
        """Whether it is known where in the scanner the voxels lie."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know of the header, sentences."""

    def voxels(self) -> np.ndarray:
        """All voxels, an array of ``shape``."""


class PlainSeries:
    """The scans of one study and view, with the interface of :class:`cinema_lightning.data.store.Series`.

    Args:
        scans: Images of one or more frames, in the order of the frames.
        view: View name.
        spacing: Voxel size that frames are brought to, mm, one number per dimension of the view; None keeps their own.
        names: What the scans are called, ``ed`` or ``es`` where they are one of them.

    Attributes:
        path: The first scan (for messages).
        shape: Shape of one frame as it is handed out, (X, Y, Z) or (X, Y).
        n_frames: Number of frames in all scans.
        phases: Frames that the names call ``ed`` and ``es``.
    """

    def __init__(
        self, scans: Sequence[Scan], view: str, spacing: Sequence[float] | None = None, names: Sequence[str] = ()
    ) -> None:
        self.view = view
        self.path = scans[0].path
        self._scans = list(scans)
        shapes = [_frame_shape(scan.path, scan.shape, view) for scan in scans]
        self._size = shapes[0][0]
        for scan, (shape, _) in zip(scans, shapes, strict=True):
            if shape != self._size:
                raise CinemaError(
                    f"{scan.path} has frames of {shape} voxels but {self.path} has {self._size}; "
                    "the files of one study and view must have one size."
                )
        for scan, name, (_, count) in zip(scans, names, shapes, strict=False):
            if count > 1 and name:
                raise CinemaError(f"{scan.path} is named after one phase but holds {count} frames; rename it.")
        check_slices_last(self._scans[0].affine, str(self.path))
        self._grid = network_grid(self._scans[0].affine, self._size, spacing)
        self.shape: tuple[int, ...] = self._grid.shape[: len(self._size)]
        # Frame number -> (scan, frame in the scan).
        self._where = [(scan, frame) for scan, (_, count) in enumerate(shapes) for frame in range(count)]
        self.phases: Mapping[str, int] = {
            names[scan]: number for number, (scan, _) in enumerate(self._where) if scan < len(names) and names[scan]
        }
        self._voxels: dict[int, np.ndarray] = {}
        self.n_frames: int = len(self._where)

    @cached_property
    def info(self) -> SeriesInfo:
        """Affine and spacing of the frames as they are handed out, and of the first scan as preparation notes them."""
        provenance = {
            "source": str(self.path),
            "orig_affine": self._scans[0].affine.tolist(),
            "orig_size": list(self._grid.size),
        }
        return SeriesInfo(self._grid.network_affine, self._grid.spacing, None, provenance)

    def read(self, frames: Sequence[int] | slice | None = None) -> np.ndarray:
        """Reads frames; each scan is read once at most.

        Args:
            frames: Frame numbers from 0, a slice, or None for all.

        Returns:
            uint8 (n, X, Y) or (n, X, Y, Z), writable.

        Raises:
            CinemaError: If a frame does not exist, its voxels are unreadable, NaN or infinite, or its scan lies
                elsewhere than the first one.
        """
        return np.stack([self._frame(index) for index in frame_indices(self.path, self.n_frames, frames)])

    def _frame(self, index: int) -> np.ndarray:
        scan, frame = self._where[index]
        voxels = self._scan(scan)[..., frame]
        if voxels.dtype == np.uint8 and self._grid.is_own:
            return voxels.reshape(self.shape).copy()
        return to_uint8(self._grid.to_network(voxels)).reshape(self.shape)

    def _scan(self, index: int) -> np.ndarray:
        """All frames of a scan, (X, Y, Z, T), on the grid of the first one."""
        # A compressed file has to be unpacked from its start for any frame, so keep it as long as the series is open.
        if index not in self._voxels:
            scan, first = self._scans[index], self._scans[0]
            voxels = scan.voxels().reshape(*self._grid.size, -1, order="F")
            if index:
                there = Volume(voxels, scan.affine, str(scan.path), scan.place, scan.notes)
                nothing = np.broadcast_to(np.uint8(0), self._grid.size)  # only where it lies counts
                voxels, note = on_grid(there, Volume(nothing, first.affine, str(first.path), first.place))
                if note:
                    warnings.warn(note, stacklevel=2)
            self._voxels[index] = voxels
        return self._voxels[index]


def frames_in(path: Path, shape: tuple[int, ...], view: str) -> int:
    """Number of frames of a scan; CinemaError where its axes are not those of the view."""
    return _frame_shape(path, shape, view)[1]


def _frame_shape(path: Path, shape: tuple[int, ...], view: str) -> tuple[tuple[int, ...], int]:
    """Shape of a frame and number of frames of a scan, without axes of one voxel in the wrong place."""
    dims = get_view(view).dims
    wanted = "(X, Y, Z) or (X, Y, Z, T)" if dims == 3 else "(X, Y), (X, Y, 1) or (X, Y, 1, T)"
    slices = shape[2] if len(shape) > 2 else 1
    fits = 2 <= len(shape) <= 4 and 0 not in shape and (len(shape) > 2 if dims == 3 else slices == 1)
    if not fits:
        raise CinemaError(f"{path} has shape {tuple(shape)}, but a {view} file is {wanted}; convert or rename it.")
    return tuple(shape[:dims]), (shape[3] if len(shape) == 4 else 1)
