"""A folder of plain NIfTI files, read directly where speed does not matter.

The layout is ``<root>/<id>/<view>[_<suffix>].nii[.gz]``; a root that holds such files itself is one study. A file
with a time axis gives its frames, a file without is one frame; frames are ordered file by file, ``ed`` and ``es``
first, the rest by name. Files that end in ``_label`` or ``_gt`` are label maps and are left out here.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from cinema_lightning.data.store import SeriesInfo, frame_indices
from cinema_lightning.errors import CinemaError
from cinema_lightning.imaging.intensity import to_uint8
from cinema_lightning.listing import list_paths
from cinema_lightning.views import VIEWS, get_view

_VIEW = "|".join(sorted(VIEWS, key=len, reverse=True))
_NAME = re.compile(rf"^({_VIEW})(?:_(.+?))?\.nii(?:\.gz)?$", re.IGNORECASE)
_PHASES = {"ed": 0, "es": 1}

Files = dict[str, dict[str, list[Path]]]


def is_series(path: Path) -> bool:
    """Whether a file is named like a series of a view."""
    return _NAME.match(path.name) is not None


def scan(root: Path) -> Files:
    """Finds the image files of a NIfTI folder, by name only.

    Args:
        root: The folder.

    Returns:
        id -> view -> files in the order of their frames. Studies are sorted by id.
    """
    root = Path(root)
    files: Files = {}
    ignored: list[Path] = []
    folders = [root, *(path for path in list_paths(root) if path.is_dir())]
    for folder in folders:
        views: dict[str, list[Path]] = {}
        for path in list_paths(folder, "*.nii*"):
            match = _NAME.match(path.name)
            if match is None:
                ignored.append(path)
            elif (match[2] or "").lower().rsplit("_", 1)[-1] not in ("label", "gt"):
                views.setdefault(match[1].lower(), []).append(path)
        if views:
            files[folder.name] = {view: sorted(paths, key=_frame_order) for view, paths in views.items()}
    if ignored:
        warnings.warn(
            f"{len(ignored)} NIfTI file(s) are ignored because their names start with no view ({', '.join(VIEWS)}), "
            f"the first is {ignored[0]}.",
            stacklevel=2,
        )
    return files


def phases(paths: Sequence[Path]) -> dict[str, int]:
    """Which frames the file names call ED and ES.

    Args:
        paths: The files of one series, one frame each, in order.

    Returns:
        ``{"ed": 0, "es": 1}`` or the part of it that the names say.
    """
    found = {_suffix(path): index for index, path in enumerate(paths)}
    return {phase: found[phase] for phase in _PHASES if phase in found}


def _suffix(path: Path) -> str:
    match = _NAME.match(path.name)
    return (match[2] or "").lower() if match else ""


def _frame_order(path: Path) -> tuple[int, str]:
    return _PHASES.get(_suffix(path), len(_PHASES)), path.name


class NiftiSeries:
    """The NIfTI files of one study and view, with the interface of :class:`cinema_lightning.data.store.Series`.

    Voxels that are not uint8 are scaled frame by frame as in preparation (percentiles, see ``imaging.intensity``).

    Attributes:
        path: The first file (for messages).
        shape: Shape of one frame, (X, Y, Z) or (X, Y).
        n_frames: Number of frames in all files.
    """

    def __init__(self, paths: Sequence[Path], view: str) -> None:
        self.view = view
        self.path = paths[0]
        self._images = [_load(path) for path in paths]
        shapes = [_frame_shape(path, image.shape, view) for path, image in zip(paths, self._images, strict=True)]
        self.shape: tuple[int, ...] = shapes[0][0]
        for path, (shape, _) in zip(paths, shapes, strict=True):
            if shape != self.shape:
                raise CinemaError(
                    f"{path} has frames of {shape} voxels but {self.path} has {self.shape}; "
                    "the files of one study and view must have one size."
                )
        # Frame number -> (file, frame in the file).
        self._where = [(file, frame) for file, (_, count) in enumerate(shapes) for frame in range(count)]
        self._paths = list(paths)
        self._voxels: dict[int, np.ndarray] = {}
        self.n_frames: int = len(self._where)

    @cached_property
    def info(self) -> SeriesInfo:
        """Affine and spacing of the first file.

        Raises:
            CinemaError: If the header's affine is not finite.
        """
        image = self._images[0]
        affine = np.asarray(image.affine, dtype=np.float64)
        if not np.isfinite(affine).all():
            raise CinemaError(f"{self.path} has an affine that is not finite; mend its header.")
        zooms = [float(zoom) for zoom in image.header.get_zooms()[:3]] + [1.0]
        return SeriesInfo(affine, (zooms[0], zooms[1], zooms[2]), None, {"source": str(self.path)})

    def read(self, frames: Sequence[int] | slice | None = None) -> np.ndarray:
        """Reads frames; each file is decompressed once at most.

        Args:
            frames: Frame numbers from 0, a slice, or None for all.

        Returns:
            uint8 (n, X, Y) or (n, X, Y, Z), writable.

        Raises:
            CinemaError: If a frame does not exist, or its voxels are unreadable, NaN or infinite.
        """
        return np.stack([self._frame(index) for index in frame_indices(self.path, self.n_frames, frames)])

    def _frame(self, index: int) -> np.ndarray:
        file, frame = self._where[index]
        voxels = self._file(file).reshape(*self.shape, -1, order="F")[..., frame]
        path = self._paths[file]
        if voxels.dtype == np.uint8:
            return voxels.copy()
        if voxels.dtype.kind not in "iufb":
            raise CinemaError(f"{path} holds voxels of type {voxels.dtype}; convert it to grey levels.")
        if not np.isfinite(voxels).all():
            raise CinemaError(f"{path} holds NaN or infinite voxels in frame {frame}; export it again without them.")
        return to_uint8(voxels)

    def _file(self, file: int) -> np.ndarray:
        # A compressed file has to be unpacked from its start for any frame, so keep it as long as the series is open.
        if file not in self._voxels:
            try:
                self._voxels[file] = np.asanyarray(self._images[file].dataobj)
            except Exception as error:
                raise CinemaError(f"{self._paths[file]} is cut short or damaged; copy it again.") from error
        return self._voxels[file]


def _load(path: Path) -> Any:
    import nibabel as nib

    try:
        return nib.load(path, mmap=False)
    except FileNotFoundError:
        raise CinemaError(f"{path} does not exist; mend the folder or start again to scan it anew.") from None
    except Exception as error:
        raise CinemaError(f"{path} is not a readable NIfTI file; copy or export it again.") from error


def _frame_shape(path: Path, shape: tuple[int, ...], view: str) -> tuple[tuple[int, ...], int]:
    """Shape of a frame and number of frames of a file, without axes of one voxel in the wrong place."""
    dims = get_view(view).dims
    wanted = "(X, Y, Z) or (X, Y, Z, T)" if dims == 3 else "(X, Y), (X, Y, 1) or (X, Y, 1, T)"
    slices = shape[2] if len(shape) > 2 else 1
    fits = 2 <= len(shape) <= 4 and 0 not in shape and (len(shape) > 2 if dims == 3 else slices == 1)
    if not fits:
        raise CinemaError(f"{path} has shape {tuple(shape)}, but a {view} file is {wanted}; convert or rename it.")
    return tuple(shape[:dims]), (shape[3] if len(shape) == 4 else 1)


class NiftiReader:
    """Opens the series of a NIfTI folder by id and view.

    Args:
        files: What :func:`scan` found.
    """

    def __init__(self, files: Mapping[str, Mapping[str, Sequence[Path]]]) -> None:
        self.files = files

    def open(self, study: str, view: str) -> NiftiSeries:
        """Opens one series; reads headers only.

        Args:
            study: The id.
            view: A view name.

        Returns:
            The series.

        Raises:
            CinemaError: If a file is missing or unsuitable.
        """
        return NiftiSeries(self.files[study][view], view)
