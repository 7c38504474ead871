"""The views of one DICOM study: from series that say which they are, and from those that do not."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath, PurePosixPath

import numpy as np

from cinema_lightning.datasets.base import RawCase, RawSeries
from cinema_lightning.errors import CinemaError
from cinema_lightning.files import natural_key
from cinema_lightning.imaging.dicom import (
    SAME_PLACE,
    Cine,
    check_one_study,
    latest,
    read_cine,
    read_folder,
    sort_slices,
)
from cinema_lightning.imaging.dicom_file import DicomFile
from cinema_lightning.imaging.geometry import LPS_TO_RAS
from cinema_lightning.imaging.motion import motion_centre
from cinema_lightning.imaging.planes import Plane, belongs_to, find_short_axis, is_called_no_cine, name_long_axes
from cinema_lightning.imaging.stack import Stack, read_slices, single, stack
from cinema_lightning.listing import archived, list_paths

Files = Mapping[str, Sequence[DicomFile]]
# What folders of one view are called.
FOLDER = re.compile(r"(sax|2ch|3ch|4ch)(?:_.*)?", re.IGNORECASE)
CALLED = {"sax": "sax", "2ch": "lax_2c", "3ch": "lax_3c", "4ch": "lax_4c"}


@dataclass
class StudyFiles:
    """A study's files, sorted by what they are called.

    Attributes:
        named: View -> name of a folder or series -> its files.
        unnamed: The same for those whose names say no view, or several.
    """

    named: dict[str, dict[str, list[DicomFile]]] = field(default_factory=dict)
    unnamed: dict[str, list[DicomFile]] = field(default_factory=dict)

    def add(self, view: str | None, name: str, files: Sequence[DicomFile]) -> None:
        """Adds files of one folder or series; without a view they go to those whose view is not said."""
        place = self.unnamed if view is None else self.named.setdefault(view, {})
        place.setdefault(name, []).extend(files)


def study_of(files: Iterable[tuple[PurePosixPath, DicomFile | None]], name: str) -> StudyFiles:
    """Sorts files by the folder that they lie in, whose name says the view where it is ``sax_1``, ``2ch`` or the like.

    Args:
        files: (path below the study, file); None for a folder, which may be empty.
        name: What to call those that lie in no folder.

    Returns:
        The files, in natural order of their paths.
    """
    study = StudyFiles()
    for path, file in sorted(files, key=lambda pair: natural_key(pair[0].as_posix())):
        folder = name if file and len(path.parts) == 1 else path.parts[0]
        match = FOLDER.fullmatch(folder)
        study.add(CALLED[match[1].lower()] if match else None, folder, [file] if file else [])
    return study


def study_files(top: Path) -> StudyFiles:
    """All files below a folder, by what the folders in it are called; others are sorted by where their images lie."""
    found = list_paths(top, "**/*")
    files = ((path.relative_to(top), DicomFile.from_path(path) if path.is_file() else None) for path in found)
    return study_of(((PurePosixPath(name.as_posix()), file) for name, file in files), top.name)


def read_dicom(path: Path, views: Sequence[str]) -> RawCase:
    """Reads the views of one study from a folder, a zip (which is not unpacked) or one DICOM file.

    Args:
        path: Of the study.
        views: Views that are wanted.

    Returns:
        See :func:`read_study`.

    Raises:
        CinemaError: If it cannot be opened, or see :func:`read_study`.
    """
    if path.is_dir():
        found = [file for file in list_paths(path, "**/*") if file.is_file()]
        return read_study(_below(((file.relative_to(path), DicomFile.from_path(file)) for file in found), path), views)
    if not zipfile.is_zipfile(path):
        return read_study(study_of([(PurePosixPath(path.name), DicomFile.from_path(path))], path.name), views)
    with zipfile.ZipFile(path) as archive:
        names = (
            (PurePosixPath(one.filename.replace("\\", "/")), _packed(archive, one)) for one in archived(archive, path)
        )
        return read_study(_below(names, path), views)


def _below(files: Iterable[tuple[PurePath, DicomFile]], path: Path) -> StudyFiles:
    """The study of some files, of which folders that hold all the others say nothing."""
    pairs = [(PurePosixPath(name.as_posix()), file) for name, file in files]
    if not pairs:
        raise CinemaError(f"{path} holds no files: give the folder or zip of a study.")
    while len({name.parts[0] for name, _ in pairs}) == 1 and all(len(name.parts) > 2 for name, _ in pairs):
        pairs = [(PurePosixPath(*name.parts[1:]), file) for name, file in pairs]
    return study_of(pairs, path.name)


def _packed(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> DicomFile:
    return DicomFile(PurePosixPath(member.filename).name, lambda: archive.read(member))


def read_study(study: StudyFiles, views: Sequence[str]) -> RawCase:
    """Reads the views of one study.

    A short axis is stacked from all folders that are called one, and from all slices that lie with them whatever they
    are called. Of several series of a long-axis view the last by name counts. Files whose names say no view are sorted
    by place and direction where a view is still missing.

    Args:
        study: The files.
        views: Views that are wanted.

    Returns:
        The views that were found, what was left out, and the counts of the stack's slices.

    Raises:
        CinemaError: If there is no view, a short axis that cannot be used, or files of several persons or studies; the
            first cause is told.
    """
    warnings: list[str] = []
    called = read_slices(study.named.get("sax", {}))
    cines = {view: cine for view in study.named if view != "sax" if (cine := _long_axis(study, view, warnings))}
    others = _unnamed(study.unnamed, warnings)
    stacked = short_axis_of(called.cines, others, warnings)
    sax = stack([*called.cines, *stacked], called) if stacked or "sax" in study.named else None
    check_one_study([*cines.values(), *called.cines, *others])
    warnings += _doubts(cines, sax)
    if others and set(views) - set(cines) - {"sax"}:
        cines = {**long_axes_of([cine for cine in others if cine not in stacked], sax, warnings), **cines}
    series = {"sax": RawSeries(sax.frames, sax.affine)} if sax else {}
    series |= {view: RawSeries(*single(cine)) for view, cine in cines.items()}
    warnings = [*(sax.warnings if sax else ()), *(said for cine in cines.values() for said in cine.warnings), *warnings]
    series = {view: series[view] for view in views if view in series}
    if not series:
        raise CinemaError(f"no view of the heart was found{f': {warnings[0]}' if warnings else ''}")
    return RawCase(series, dict(sax.counts) if sax else {}, warnings=warnings)


def _long_axis(study: StudyFiles, view: str, warnings: list[str]) -> Cine | None:
    """The last series of a view that can be read."""
    for name, files in reversed(study.named[view].items()):
        try:
            return read_cine(files, name)
        except CinemaError as error:
            warnings.append(f"{view}: {name} is left out: {error}")
    return None


def _doubts(cines: dict[str, Cine], sax: Stack | None) -> list[str]:
    """Sentences about planes that are called one view and lie like another; a provider's word is kept."""
    called = list(cines)
    named = name_long_axes([plane_of(cine, view) for view, cine in cines.items()], normal_of(sax)).planes
    return [
        f"{cines[called[index]].name} is called {called[index]}, but lies like {view}: look which it is"
        for view, (index,) in named.items()
        if called[index] != view
    ]


def _unnamed(folders: Files, warnings: list[str]) -> list[Cine]:
    """Cines from files whose names do not say the view."""
    images = []
    for name, files in folders.items():
        try:
            images += read_folder(files, name, warnings)
        except CinemaError as error:
            warnings.append(f"{name} is left out: {error}")
    pictures = [image for image in images if not is_called_no_cine(f"{image.name} {image.description}")]
    if len(pictures) < len(images):
        warnings.append(
            f"{len(images) - len(pictures)} frames are left out: their series are called no cines of the heart"
        )
    cines, said = sort_slices(pictures)
    warnings += said
    return cines


def short_axis_of(called: Sequence[Cine], cines: Sequence[Cine], warnings: list[str]) -> list[Cine]:
    """Of cines whose names do not say the view those that lie in the short axis.

    Args:
        called: Slices that are called short axis; those that lie with them are sought.
        cines: The cines.
        warnings: Takes sentences.

    Returns:
        Some of the cines, each acquisition.
    """
    planes = [plane_of(cine) for cine in cines]
    if called:
        stack_planes = [plane_of(cine) for cine in called]
    else:
        found = find_short_axis(planes)
        warnings += found.notes
        stack_planes = [planes[index] for index in found.planes.get("sax", [])]
    return [
        cine
        for cine, plane in zip(cines, planes, strict=True)
        if belongs_to(plane, stack_planes, broken=bool(cine.problem))
    ]


def long_axes_of(cines: Sequence[Cine], sax: Stack | None, warnings: list[str]) -> dict[str, Cine]:
    """Names the long axes by where they lie.

    Args:
        cines: The cines that are not of the short axis.
        sax: The short axis, where there is one.
        warnings: Takes sentences about what cannot be told, or cannot be used.

    Returns:
        View -> its best acquisition.
    """
    views = name_long_axes([plane_of(cine) for cine in cines], normal_of(sax), centre_of(sax))
    warnings += views.notes
    found = {view: _latest_there(cines, number) for view, (number, *_) in views.planes.items()}
    warnings += [f"{view} is left out: {cine.problem}" for view, cine in found.items() if cine.problem]
    return {view: cine for view, cine in found.items() if not cine.problem}


def normal_of(sax: Stack | None) -> np.ndarray | None:
    """Normal of the stack's plane, LPS."""
    if sax is None:
        return None
    columns = (LPS_TO_RAS @ sax.affine)[:3, :2]
    normal = np.cross(columns[:, 0], columns[:, 1])
    return normal / np.linalg.norm(normal)


def centre_of(sax: Stack | None) -> np.ndarray | None:
    """A point of the left ventricle, LPS mm, where one can be found."""
    if sax is None:
        return None
    try:
        return LPS_TO_RAS[:3, :3] @ motion_centre(sax.frames, sax.affine)
    except CinemaError:
        return None


def plane_of(cine: Cine, words: str = "") -> Plane:
    """What the sorting of views looks at; ``words`` replace the cine's own."""
    size = (cine.frames.shape[1], cine.frames.shape[2])
    said = words or f"{cine.name} {cine.description}"
    return Plane(cine.name, cine.position, cine.directions, cine.spacing, size, cine.found, said)


def _latest_there(cines: Sequence[Cine], index: int) -> Cine:
    """The best acquisition of a plane."""
    one = cines[index]
    repeats = [
        cine
        for cine in cines
        if np.linalg.norm(cine.position - one.position) <= SAME_PLACE
        and np.allclose(cine.directions, one.directions, atol=0.01)
    ]
    return latest(repeats)[0]
