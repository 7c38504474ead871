"""A folder of plain NIfTI files, read directly where speed does not matter.

The layout is ``<root>/<id>/<view>[_<suffix>].nii[.gz]``; a root that holds such files itself is one study. A file
with a time axis gives its frames, a file without is one frame; frames are ordered file by file, ``ed`` and ``es``
first, the rest by name. Files that end in ``_label`` or ``_gt`` are label maps and are left out here.

Frames are brought to the voxel size that is asked for and their grey levels scaled, as preparation does it
(:mod:`cinema_lightning.imaging.grid`, :mod:`cinema_lightning.imaging.intensity`). Voxels of eight bits that need no
resampling are taken for prepared ones and left as they are.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from cinema_lightning.data.store import SeriesInfo, frame_indices
from cinema_lightning.errors import CinemaError
from cinema_lightning.imaging.alignment import Volume, on_grid
from cinema_lightning.imaging.grid import check_slices_last, network_grid
from cinema_lightning.imaging.intensity import to_uint8
from cinema_lightning.imaging.nifti import Geometry, NiftiFile, find_nifti, open_nifti
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
    twins: list[Path] = []
    folders = [root, *(path for path in list_paths(root) if path.is_dir())]
    for folder in folders:
        views: dict[str, list[Path]] = {}
        for path in list_paths(folder, "*.nii*"):
            match = _NAME.match(path.name)
            if path.name.startswith("."):
                continue  # what a Mac leaves beside each file
            if match is None:
                ignored.append(path)
            elif (match[2] or "").lower().rsplit("_", 1)[-1] in ("label", "gt"):
                continue
            elif path.name.endswith(".gz") and path.with_suffix("").is_file():
                twins.append(path)  # packed and unpacked are one file, not two frames
            else:
                views.setdefault(match[1].lower(), []).append(path)
        if views:
            files[folder.name] = {view: sorted(paths, key=_frame_order) for view, paths in views.items()}
    if ignored:
        warnings.warn(
            f"{len(ignored)} NIfTI file(s) are ignored because their names start with no view ({', '.join(VIEWS)}), "
            f"the first is {ignored[0]}.",
            stacklevel=2,
        )
    if twins:
        warnings.warn(
            f"{len(twins)} NIfTI file(s) lie there with and without .gz, and the latter are read; the first is "
            f"{twins[0]}.",
            stacklevel=2,
        )
    return files


def phases(paths: Sequence[Path]) -> dict[str, int]:
    """Which frames of a series the file names call ED and ES.

    Args:
        paths: The files of one series, in order; those that are named after a phase hold one frame each.

    Returns:
        ``{"ed": 0, "es": 1}`` or the part of it that the names say.
    """
    found = {_suffix(path): index for index, path in enumerate(paths)}
    return {phase: found[phase] for phase in _PHASES if phase in found}


def study_phases(views: Mapping[str, Sequence[Path]]) -> tuple[dict[str, int], bool]:
    """Which frames of a study are ED and ES, by the names of its files.

    A phase belongs to a view. It is the study's where all views name it that have more than one frame: beside
    ``lax_4c_ed`` and ``lax_4c_es``, frame 1 of a ``sax`` of 30 frames is not ES.

    Args:
        views: View -> files of its series, in order.

    Returns:
        Frames of ``ed`` and ``es``, counted in the SAX series or, without one, in the first that names them; and
        whether all views with more than one frame name them, or none does.
    """
    named = {view: phases(paths) for view, paths in views.items()}
    if not any(named.values()):
        return {}, True
    silent = [view for view, known in named.items() if not known and _moves(views[view], view)]
    known = [named[view] for view in sorted(named, key=lambda view: view != "sax") if named[view]]
    shared = {phase: frame for phase, frame in known[0].items() if all(phase in other for other in known)}
    return ({} if silent else shared), not silent


def _moves(paths: Sequence[Path], view: str) -> bool:
    """Whether a series has more than one frame; one that cannot be read counts as if it had."""
    try:
        return len(paths) > 1 or _frame_shape(paths[0], open_nifti(paths[0], geometry="sform").shape, view)[1] > 1
    except CinemaError:
        return True


def _suffix(path: Path) -> str:
    match = _NAME.match(path.name)
    return (match[2] or "").lower() if match else ""


def _frame_order(path: Path) -> tuple[int, str]:
    return _PHASES.get(_suffix(path), len(_PHASES)), path.name


class NiftiSeries:
    """The NIfTI files of one study and view, with the interface of :class:`cinema_lightning.data.store.Series`.

    Args:
        paths: The files.
        view: View name.
        spacing: Voxel size that frames are brought to, mm, one number per dimension of the view; None keeps their own.
        geometry: What to believe where a header contradicts itself, see
            :func:`~cinema_lightning.imaging.nifti.open_nifti`.

    Attributes:
        path: The first file (for messages).
        shape: Shape of one frame as it is handed out, (X, Y, Z) or (X, Y).
        n_frames: Number of frames in all files.
        phases: Frames that the names of files call ``ed`` and ``es``.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        view: str,
        spacing: Sequence[float] | None = None,
        geometry: Geometry = "refuse",
    ) -> None:
        self.view = view
        self.path = paths[0]
        self._files = [_open(path, geometry) for path in paths]
        shapes = [_frame_shape(path, file.shape, view) for path, file in zip(paths, self._files, strict=True)]
        self._size = shapes[0][0]
        for path, (shape, count) in zip(paths, shapes, strict=True):
            if shape != self._size:
                raise CinemaError(
                    f"{path} has frames of {shape} voxels but {self.path} has {self._size}; "
                    "the files of one study and view must have one size."
                )
            if count > 1 and _suffix(path) in _PHASES:
                raise CinemaError(f"{path} is named after one phase but holds {count} frames; rename it.")
        check_slices_last(self._files[0].affine, str(self.path))
        self._grid = network_grid(self._files[0].affine, self._size, spacing)
        self.shape: tuple[int, ...] = self._grid.shape[: len(self._size)]
        # Frame number -> (file, frame in the file).
        self._where = [(file, frame) for file, (_, count) in enumerate(shapes) for frame in range(count)]
        self.phases: Mapping[str, int] = {
            _suffix(paths[file]): number
            for number, (file, _) in enumerate(self._where)
            if _suffix(paths[file]) in _PHASES
        }
        self._voxels: dict[int, np.ndarray] = {}
        self.n_frames: int = len(self._where)

    @cached_property
    def info(self) -> SeriesInfo:
        """Affine and spacing of the frames as they are handed out, and of the first file as preparation notes them."""
        provenance = {
            "source": str(self.path),
            "orig_affine": self._files[0].affine.tolist(),
            "orig_size": list(self._grid.size),
        }
        return SeriesInfo(self._grid.network_affine, self._grid.spacing, None, provenance)

    def read(self, frames: Sequence[int] | slice | None = None) -> np.ndarray:
        """Reads frames; each file is decompressed once at most.

        Args:
            frames: Frame numbers from 0, a slice, or None for all.

        Returns:
            uint8 (n, X, Y) or (n, X, Y, Z), writable.

        Raises:
            CinemaError: If a frame does not exist, its voxels are unreadable, NaN or infinite, or its file lies
                elsewhere than the first one.
        """
        return np.stack([self._frame(index) for index in frame_indices(self.path, self.n_frames, frames)])

    def _frame(self, index: int) -> np.ndarray:
        file, frame = self._where[index]
        voxels = self._file(file)[..., frame]
        if voxels.dtype == np.uint8 and self._grid.is_own:
            return voxels.reshape(self.shape).copy()
        return to_uint8(self._grid.to_network(voxels)).reshape(self.shape)

    def _file(self, index: int) -> np.ndarray:
        """All frames of a file, (X, Y, Z, T), on the grid of the first one."""
        # A compressed file has to be unpacked from its start for any frame, so keep it as long as the series is open.
        if index not in self._voxels:
            file, first = self._files[index], self._files[0]
            voxels = file.voxels().reshape(*self._grid.size, -1, order="F")
            if index:
                there = Volume(voxels, file.affine, str(file.path), file.place, file.notes)
                nothing = np.broadcast_to(np.uint8(0), self._grid.size)  # only where it lies counts
                voxels, note = on_grid(there, Volume(nothing, first.affine, str(first.path), first.place))
                if note:
                    warnings.warn(note, stacklevel=2)
            self._voxels[index] = voxels
        return self._voxels[index]


def _open(path: Path, geometry: Geometry) -> NiftiFile:
    if not find_nifti(path).is_file():
        raise CinemaError(f"{path} does not exist; mend the folder or start again to scan it anew.")
    file = open_nifti(path, geometry=geometry, option="--data.geometry")
    if geometry == "refuse":  # otherwise they say what the user has decided
        for note in file.notes:
            warnings.warn(note, stacklevel=2)
    return file


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
        spacing: Voxel size that frames are brought to by view, mm; their own where there is none.
        geometry: What to believe where a header contradicts itself, see :class:`NiftiSeries`.
    """

    def __init__(
        self,
        files: Mapping[str, Mapping[str, Sequence[Path]]],
        spacing: Mapping[str, Sequence[float] | None] | None = None,
        geometry: Geometry = "refuse",
    ) -> None:
        self.files = files
        self.spacing = dict(spacing or {})
        self.geometry = geometry

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
        return NiftiSeries(self.files[study][view], view, self.spacing.get(view), self.geometry)
