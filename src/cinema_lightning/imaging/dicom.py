"""Frames of DICOM files to cines of one slice each.

Frames are told apart by where they lie, never by their folder or series alone: exporters put a whole stack into one
folder, one series or one file as readily as each slice into its own. Frames are missing, unreadable or acquired twice
often enough in practice that each of these has a rule here, and each repair leaves a sentence.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from cinema_lightning.errors import CinemaError
from cinema_lightning.files import natural_key
from cinema_lightning.imaging.dicom_file import DicomFile, DicomImage, read_files
from cinema_lightning.imaging.frames import (
    CLOCKS,
    MOST_MISSING,
    SAME_PLACE,
    Frames,
    as_many,
    gaps_between,
    in_time,
    phases_asked,
    placed,
    planes_of,
    takes_of,
    without_copies,
)


@dataclass(frozen=True)
class _Usual:
    """What most frames or acquisitions of a study have."""

    phases: int | None
    asked: int | None
    start: float | None


@dataclass(frozen=True, eq=False)
class Cine:
    """The frames of one slice, acquired once.

    Attributes:
        frames: (T, X, Y).
        position: Centre of the first pixel, LPS mm.
        directions: (3, 3) direction columns (row, column, normal), LPS.
        spacing: Pixel size along x and y, mm.
        between: SpacingBetweenSlices, mm, where the header has it.
        thickness: SliceThickness, mm, where the header has it.
        warnings: What was repaired or left out.
        name: What to call it in messages: its folder, or its first file where it shares the folder.
        found: Frames that could be read.
        expected: Frames that the header asks for, where it does.
        series: SeriesInstanceUID.
        description: SeriesDescription.
        acquired: Date and time of acquisition as text that sorts, empty where unknown.
        instance: Lowest InstanceNumber, where known.
        patient: PatientID, where known.
        study: StudyInstanceUID and FrameOfReferenceUID, empty where unknown.
        times: Moments of the frames that were found, ms since the R wave, ascending; empty where headers lack them.
        rr: Median time from beat to beat, ms, where known.
        files: Name of the image that each of the frames is, such as ``series 3/file 00012#7``.
    """

    frames: np.ndarray
    position: np.ndarray
    directions: np.ndarray
    spacing: tuple[float, float]
    between: float | None = None
    thickness: float | None = None
    warnings: tuple[str, ...] = ()
    name: str = "the slice"
    found: int = 0
    expected: int | None = None
    series: str = ""
    description: str = ""
    acquired: str = ""
    instance: float | None = None
    patient: str = ""
    study: tuple[str, str] = ("", "")
    times: tuple[float, ...] = ()
    rr: float | None = None
    files: tuple[str, ...] = ()

    @property
    def whole(self) -> bool:
        """Whether as many frames were found as the header asks for."""
        return self.expected is None or self.found >= self.expected

    @property
    def problem(self) -> str | None:
        """Why the slice cannot be used, if so."""
        if self.expected is None or self.found >= MOST_MISSING * self.expected:
            return None
        return (
            f"{self.name} has {self.found} readable frames of {self.expected}; it may be half downloaded: get it again"
        )


def read_folder(files: Sequence[DicomFile], name: str, warnings: list[str]) -> list[DicomImage]:
    """Reads the frames of a folder or series, whose name is put before theirs.

    Args:
        files: The files.
        name: Name of the folder or series.
        warnings: Takes sentences about unreadable files.

    Returns:
        The frames.

    Raises:
        CinemaError: If no file can be read.
    """
    return [replace(image, name=f"{name}/{image.name}") for image in read_files(files, name, warnings)]


def read_cine(files: Sequence[DicomFile], name: str) -> Cine:
    """Reads the cine of a single plane.

    Args:
        files: The files.
        name: What to call it in messages.

    Returns:
        The plane's cine; of several acquisitions the one by :func:`latest`.

    Raises:
        CinemaError: If no file can be read, geometry is missing, a series lies in several places, or most frames are
            missing.
    """
    warnings: list[str] = []
    cines, left_out = sort_slices(read_folder(files, name, warnings))
    if not cines:
        raise CinemaError(f"{left_out[0]}: give the pictures of a cine, exported with their whole headers")
    best, others = latest(cines)
    for other in others:
        if other.series == best.series and np.linalg.norm(other.position - best.position) > SAME_PLACE:
            raise CinemaError(
                f"{name} holds frames of several places ({best.name} and {other.name}): give each a folder of its own"
            )
    if best.problem:
        raise CinemaError(best.problem)
    told = [
        f"{cine.name} ({cine.found} frames of {' x '.join(map(str, cine.frames.shape[1:]))} pixels)" for cine in others
    ]
    said = [f"{name} holds {len(cines)} acquisitions: left out {', '.join(told)}"] if told else []
    return replace(best, warnings=(*warnings, *left_out, *said, *best.warnings))


def sort_slices(images: Sequence[DicomImage]) -> tuple[list[Cine], list[str]]:
    """Sorts the frames of one or many slices, in any order and of any folders and series.

    Frames at one place (position within 1 mm, same direction, pixel size and number of pixels) belong together. Several
    acquisitions at one place are told apart by series, by their time, by folder, or by where the trigger times start
    again; copies of a frame count once. Frames sort by TriggerTime, else by trigger delay, temporal position or
    InstanceNumber, else by file name in natural order. Where CardiacNumberOfImages asks for more frames than can be
    read, the previous frame is repeated: in the gaps of the times first, then at the end.

    Args:
        images: The frames.

    Returns:
        One cine per place and acquisition, in the order of their first frames; sentences about frames left out.
    """
    usable, warnings = placed(images)
    usable, copies = without_copies(usable)
    warnings += copies
    takes = [take for plane in planes_of(usable) for take in takes_of(plane)]
    folders = Counter(folder for take in takes for folder in {frame.folder for frame in take})
    usual = _usual(takes)
    return [_cine(take, folders, usual) for take in takes], warnings


def latest(cines: Sequence[Cine]) -> tuple[Cine, list[Cine]]:
    """The best of several acquisitions of one slice: the latest of the complete ones, else the longest.

    Where times of acquisition are missing, the series' UID and then the names decide, in natural order.

    Args:
        cines: The acquisitions.

    Returns:
        The best, and the others.
    """
    phases = max(cine.found for cine in cines)
    best = max(cines, key=lambda cine: (min(1.0, cine.found / (cine.expected or phases)), *_moment(cine)))
    return best, [cine for cine in cines if cine is not best]


def _moment(cine: Cine) -> tuple[str, list[tuple[int, int | str]], list[tuple[int, int | str]]]:
    return cine.acquired, natural_key(cine.series), natural_key(cine.name)


def _usual(takes: Sequence[Frames]) -> _Usual:
    lengths = Counter(len(take) for take in takes for _ in take)
    starts = [times[0] for take in takes if (times := in_time(take)[1])]
    asked = phases_asked([frame for take in takes for frame in take])
    commonest = lengths.most_common(1)[0][0] if lengths else None
    return _Usual(commonest, asked, float(np.median(starts)) if starts else None)


def _cine(frames: Frames, folders: Counter[str], usual: _Usual) -> Cine:
    ordered, times = in_time(frames)
    first = ordered[0]
    name = first.folder if folders[first.folder] == 1 else first.image.name
    expected, warnings = phases_asked(ordered), []
    if expected and len(ordered) == usual.asked != expected:
        # As many as the other slices ask for: its own header is wrong.
        warnings = [f"{name} asks for {expected} frames, most for {usual.asked}: its {usual.asked} are the whole beat"]
        expected = usual.asked
    if expected is None and usual.phases and len(ordered) < usual.phases:
        gaps = sum(gaps_between(ordered, times, usual.phases, usual.start))
        expected = usual.phases if len(ordered) + gaps == usual.phases else None
    if expected and MOST_MISSING * expected <= len(ordered) != expected:
        ordered, said = as_many(ordered, times, expected, usual.start)
        warnings = [f"{name} has {said}"]
    instances = [frame.image.instance for frame in frames if frame.image.instance is not None]
    return Cine(
        np.stack([frame.image.pixels for frame in ordered]),
        first.position,
        first.directions,
        first.spacing,
        first.image.between,
        first.image.thickness,
        tuple(warnings),
        name,
        len(frames),
        expected,
        max(frame.image.series for frame in frames),
        first.image.description,
        min(frame.image.acquired for frame in frames),
        min(instances, default=None),
        first.image.patient,
        (first.image.study, first.image.reference),
        _times(frames),
        float(np.median(beats)) if (beats := [frame.image.rr for frame in frames if frame.image.rr]) else None,
        tuple(frame.image.name for frame in ordered),
    )


def _times(frames: Frames) -> tuple[float, ...]:
    """Moments by the first of the two clocks that all frames have."""
    for clock in CLOCKS[:2]:
        values = [getattr(frame.image, clock) for frame in frames]
        if None not in values:
            return tuple(sorted(values))
    return ()


def check_one_study(cines: Sequence[Cine]) -> None:
    """Refuses slices of several persons or examinations, which no position tells apart.

    Args:
        cines: The slices.

    Raises:
        CinemaError: If there is more than one PatientID; or more than one StudyInstanceUID, unless they all have the
            same FrameOfReferenceUID. What they are is not said.
    """
    patients = {cine.patient for cine in cines} - {""}
    studies = {cine.study[0] for cine in cines} - {""}
    one_place = len({cine.study[1] for cine in cines} - {""}) == 1
    found = f"{len(patients)} persons (PatientID)" if len(patients) > 1 else f"{len(studies)} StudyInstanceUIDs"
    if len(patients) > 1 or (len(studies) > 1 and not one_place):
        raise CinemaError(f"its files are of {found}: put those of each study into a folder of its own")
