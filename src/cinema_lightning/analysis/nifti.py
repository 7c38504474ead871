"""A study that came as NIfTI: a cine, or ED and ES, of each view."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from cinema_lightning.analysis.sort import nothing
from cinema_lightning.analysis.values import AsScanned, Scanner, Series, Study, View
from cinema_lightning.errors import CinemaError
from cinema_lightning.files import natural_key
from cinema_lightning.imaging.alignment import Volume, on_grid
from cinema_lightning.imaging.nifti import read_volume
from cinema_lightning.views import VIEWS, get_view

_NAME = re.compile(rf"({'|'.join(VIEWS)})(?:_(.*))?\.nii(?:\.gz)?", re.IGNORECASE)
_PHASE = {"ed": 0, "es": 1}
_MASKS = ("label", "gt", "mask", "seg")


def read_nifti_study(files: Sequence[Path], name: Callable[[str], str]) -> Study:
    """Reads a study of NIfTI files.

    Args:
        files: ``<view>.nii.gz`` with all frames, or ``<view>_ed.nii.gz`` and ``<view>_es.nii.gz``; a single file of
            another name is taken for the short axis.
        name: Makes the study's key of its content.

    Returns:
        The study. Directions of NIfTI headers are not trusted, see :class:`~.values.View`.

    Raises:
        CinemaError: If a file cannot be used; files are named by their view, never by their path.
    """
    found = _by_view(files)
    views: dict[str, View] = {}
    lines: list[Series] = []
    for number, (view, paths) in enumerate(found.items(), start=1):
        views[view] = _read(view, paths)
        lines.append(_line(number, views[view], len(paths)))
    if not views:
        raise CinemaError(nothing(lines) if lines else f"no NIfTI file is named after a view ({', '.join(VIEWS)}).")
    content = hashlib.sha256(b"".join(view.frames.tobytes() for view in views.values())).hexdigest()
    middles = {line.number: _middle(views[line.taken_for]) for line in lines}
    return Study(name(content), views, tuple(lines), scanner=Scanner(kind="nifti"), pictures=middles)


def _middle(view: View) -> np.ndarray:
    return view.frames[:, :, view.frames.shape[2] // 2, 0]


def _by_view(files: Sequence[Path]) -> dict[str, list[Path]]:
    named: dict[str, list[Path]] = {}
    for path in sorted(files, key=lambda path: natural_key(path.name)):
        match = _NAME.fullmatch(path.name)
        if match and (match[2] or "").lower().rsplit("_", 1)[-1] not in _MASKS:
            named.setdefault(match[1].lower(), []).append(path)
    if not named and len(files) == 1:
        return {"sax": list(files)}
    return {view: sorted(named[view], key=_order) for view in VIEWS if view in named}


def _suffix(path: Path) -> str:
    match = _NAME.fullmatch(path.name)
    return (match[2] or "").lower() if match else ""


def _order(path: Path) -> tuple[int, list[tuple[int, int | str]]]:
    return _PHASE.get(_suffix(path), len(_PHASE)), natural_key(path.name)


def _read(view: str, paths: Sequence[Path]) -> View:
    """All frames of a view on the grid of its first file."""
    try:
        volumes = [read_volume(path, dims=4) for path in paths]
    except CinemaError as error:
        raise CinemaError(_without(str(error), view, paths)) from None
    counts = [volume.voxels.shape[3] for volume in volumes]
    if len(volumes) > 1 and max(counts) > 1:
        raise CinemaError(
            f"the {get_view(view).display} files hold {' and '.join(map(str, counts))} frames: give one cine, or one "
            f"frame a file ({view}_ed.nii.gz and {view}_es.nii.gz), and leave the others out."
        )
    first = volumes[0]
    warnings: list[str] = []
    frames = [first.voxels]
    for other in volumes[1:]:
        voxels, note = _onto(other, first, view, paths)
        frames.append(voxels)
        warnings += [note] if note else []
    voxels = np.concatenate(frames, axis=3)
    _check(view, voxels)
    notes = [_without(note, view, paths) for volume in volumes for note in volume.notes]
    named = [_PHASE.get(_suffix(path)) for path in paths]
    phases = (0, 1) if named == [0, 1] and voxels.shape[3] == 2 else None
    depth = float(np.linalg.norm(first.affine[:3, 2]))
    slices, count = voxels.shape[2], voxels.shape[3]
    scanned = AsScanned(tuple(depth * place for place in range(slices)), (count,) * slices)
    return View(view, voxels, first.affine, scanned, trusted=False, phases=phases, warnings=(*notes, *warnings))


def _onto(other: Volume, first: Volume, view: str, paths: Sequence[Path]) -> tuple[np.ndarray, str]:
    try:
        voxels, note = on_grid(other, Volume(first.voxels[..., 0], first.affine, first.name, first.place))
    except CinemaError as error:
        raise CinemaError(_without(str(error), view, paths)) from None
    return voxels, _without(note or "", view, paths)


def _without(sentence: str, view: str, paths: Sequence[Path]) -> str:
    """A sentence that names no path: folders and files are often called after a person."""
    for path in paths:
        for name in (str(path), path.name):
            sentence = sentence.replace(name, f"the {get_view(view).display} file")
    return sentence


def _check(view: str, voxels: np.ndarray) -> None:
    if get_view(view).is_long_axis and voxels.shape[2] != 1:
        raise CinemaError(f"the {get_view(view).display} file has {voxels.shape[2]} slices; a long axis has one.")
    if voxels.shape[3] < 2:
        raise CinemaError(
            f"the {get_view(view).display} file holds one frame: give a cine, or {view}_ed.nii.gz and {view}_es.nii.gz."
        )


def _line(number: int, view: View, files: int) -> Series:
    x, y, slices, count = view.frames.shape
    what = "ED and ES" if view.phases else f"{count} frames"
    return Series(
        number,
        view.name,
        f"named so; {files} {'file' if files == 1 else 'files'}, {what}",
        images=slices * count,
        slices=slices,
        phases=count,
        size=(x, y),
        spacing=view.spacing[:2],
    )
