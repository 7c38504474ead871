"""A folder of plain NIfTI files, read directly where speed does not matter.

The layout is ``<root>/<id>/<view>[_<suffix>].nii[.gz]``; a root that holds such files itself is one study. A file
with a time axis gives its frames, a file without is one frame; frames are ordered file by file, ``ed`` and ``es``
first, the rest by name. Files that end in ``_label`` or ``_gt`` are label maps and are left out here.

What becomes of a frame is said in :mod:`cinema_lightning.data.plain`.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import numpy as np

from cinema_lightning.data.plain import PlainSeries, frames_in
from cinema_lightning.errors import CinemaError
from cinema_lightning.imaging.nifti import Geometry, NiftiFile, find_nifti, open_nifti
from cinema_lightning.listing import list_paths
from cinema_lightning.views import VIEWS

_VIEW = "|".join(sorted(VIEWS, key=len, reverse=True))
_NAME = re.compile(rf"^({_VIEW})(?:_(.+?))?\.nii(?:\.gz)?$", re.IGNORECASE)
_PHASES = {"ed": 0, "es": 1}

Files = dict[str, dict[str, list[Path]]]


def is_series(path: Path) -> bool:
    """Whether a file is named like a series of a view."""
    return _NAME.match(path.name) is not None


def view_of(path: Path) -> str | None:
    """The view that a file is named after; None where it is not named so."""
    match = _NAME.match(path.name)
    return match[1].lower() if match else None


def phase_of(path: str | Path) -> str:
    """The phase that a file is named after, ``ed`` or ``es``; empty for none."""
    name = _suffix(Path(path))
    return name if name in _PHASES else ""


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
    return shared_phases({view: phases(paths) for view, paths in views.items()}, lambda view: _moves(views[view], view))


def shared_phases(named: Mapping[str, Mapping[str, int]], moves: Callable[[str], bool]) -> tuple[dict[str, int], bool]:
    """What :func:`study_phases` says, of views whose phases are known.

    Args:
        named: View -> frames that it calls ``ed`` and ``es``.
        moves: Whether a view has more than one frame; asked of those that name none.

    Returns:
        See :func:`study_phases`.
    """
    if not any(named.values()):
        return {}, True
    silent = [view for view, known in named.items() if not known and moves(view)]
    known = [named[view] for view in sorted(named, key=lambda view: view != "sax") if named[view]]
    shared = {phase: frame for phase, frame in known[0].items() if all(phase in other for other in known)}
    return ({} if silent else shared), not silent


def _moves(paths: Sequence[Path], view: str) -> bool:
    """Whether a series has more than one frame; one that cannot be read counts as if it had."""
    try:
        return len(paths) > 1 or frames_in(paths[0], open_nifti(paths[0], geometry="sform").shape, view) > 1
    except CinemaError:
        return True


def _suffix(path: Path) -> str:
    match = _NAME.match(path.name)
    return (match[2] or "").lower() if match else ""


def _frame_order(path: Path) -> tuple[int, str]:
    return _PHASES.get(_suffix(path), len(_PHASES)), path.name


class NiftiSeries(PlainSeries):
    """The NIfTI files of one study and view.

    Args:
        paths: The files.
        view: View name.
        spacing: Voxel size that frames are brought to, see :class:`PlainSeries`.
        geometry: What to believe where a header contradicts itself, see
            :func:`~cinema_lightning.imaging.nifti.open_nifti`.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        view: str,
        spacing: Sequence[float] | None = None,
        geometry: Geometry = "refuse",
    ) -> None:
        scans = [open_scan(path, geometry) for path in paths]
        super().__init__(scans, view, spacing, [phase_of(path) for path in paths])


def open_scan(path: Path, geometry: Geometry, option: str = "--data.geometry") -> NiftiFile:
    """Opens a file that a folder or a person named, and says what is odd about its header."""
    if not find_nifti(path).is_file():
        raise CinemaError(f"{path} does not exist; mend the folder or start again to scan it anew.")
    file = open_nifti(path, geometry=geometry, option=option)
    if geometry == "refuse":  # otherwise they say what the user has decided
        for note in file.notes:
            warnings.warn(note, stacklevel=2)
    return file


class NiftiReader:
    """Opens the series of a NIfTI folder by id and view.

    Args:
        files: What :func:`scan` found.
        spacing: Voxel size that frames are brought to by view, mm; their own where there is none.
        geometry: What to believe where a header contradicts itself, see :class:`NiftiSeries`.

    Attributes:
        frames: Nothing: no table counts them.
    """

    frames: Mapping[str, np.ndarray] = MappingProxyType({})

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
