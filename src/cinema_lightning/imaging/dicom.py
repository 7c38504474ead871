"""Frames of DICOM files to cines of one slice each.

Frames are told apart by where they lie, never by their folder or series alone: exporters put a whole stack into one
folder, one series or one file as readily as each slice into its own. Frames are missing, unreadable or acquired twice
often enough in practice that each of these has a rule here, and each repair leaves a sentence.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

import numpy as np

from cinema_lightning.errors import CinemaError
from cinema_lightning.files import natural_key
from cinema_lightning.imaging.dicom_file import DicomFile, DicomImage, read_files
from cinema_lightning.imaging.geometry import directions_from_cosines

# Positions of one slice's frames may wander this far, mm, and their direction cosines this much (half a degree).
SAME_PLACE, SAME_COSINES = 1.0, 0.01
# With fewer readable frames than this share of the cycle, repeating frames would make up a heart beat.
MOST_MISSING = 0.5
# Acquisitions of a single slice; more of them are phases, or slices that lack their own positions.
MOST_REPEATS = 3
# What tells the moment of a frame within the beat, best first; names in natural order come last.
CLOCKS = ("trigger_time", "trigger_delay", "temporal_position", "instance")


@dataclass(frozen=True)
class _Frame:
    """A frame whose place is known."""

    image: DicomImage
    position: np.ndarray
    directions: np.ndarray
    spacing: tuple[float, float]

    @property
    def folder(self) -> str:
        return str(PurePosixPath(self.image.name).parent)


Frames = list[_Frame]


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

    @property
    def whole(self) -> bool:
        """Whether as many frames were found as the header asks for."""
        return self.expected is None or self.found >= self.expected

    @property
    def problem(self) -> str | None:
        """Why the slice cannot be used, if so."""
        if self.expected is None or self.found >= MOST_MISSING * self.expected:
            return None
        return f"{self.name} has {self.found} readable frames of {self.expected}: it may be half downloaded"


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
        raise CinemaError(left_out[0])
    best, others = latest(cines)
    for other in others:
        if other.series == best.series and np.linalg.norm(other.position - best.position) > SAME_PLACE:
            raise CinemaError(f"{name} holds frames of several places ({best.name} and {other.name})")
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
    usable, warnings = _placed(images)
    usable, copies = _without_copies(usable)
    warnings += copies
    takes = [take for plane in _planes(usable) for take in _takes(plane)]
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


def _placed(images: Sequence[DicomImage]) -> tuple[Frames, list[str]]:
    """Frames with geometry; of the others a sentence for each folder and reason."""
    frames: Frames = []
    faults: dict[tuple[PurePosixPath, str], list[str]] = defaultdict(list)
    for image in images:
        try:
            frames.append(_place(image))
        except CinemaError as error:
            faults[PurePosixPath(image.name).parent, str(error)].append(image.name)
    more = {key: f" (and {len(names) - 1} more)" if len(names) > 1 else "" for key, names in faults.items()}
    return frames, [f"{names[0]} {key[1]}{more[key]}" for key, names in faults.items()]


def _without_copies(frames: Frames) -> tuple[Frames, list[str]]:
    """Frames without those that a folder holds again under another name."""
    found: dict[Hashable, _Frame] = {}
    copies = []
    for frame in frames:
        image = frame.image
        moment = tuple(getattr(image, clock) for clock in CLOCKS)
        place = (frame.folder, image.series, image.patient, frame.position.tobytes(), frame.directions.tobytes())
        key = (image.uid, *moment, *place, hash(image.pixels.tobytes())) if image.uid else id(frame)
        if found.setdefault(key, frame) is not frame:
            copies.append(image.name)
    more = f" (and {len(copies) - 1} more)" if len(copies) > 1 else ""
    return list(found.values()), [f"{copies[0]}{more} is left out: a copy of another frame"] if copies else []


def _place(image: DicomImage) -> _Frame:
    if image.velocity:
        raise CinemaError("holds velocities, not a picture")
    tags = {
        "ImagePositionPatient": image.position,
        "ImageOrientationPatient": image.cosines,
        "PixelSpacing": image.spacing,
    }
    missing = [tag for tag, value in tags.items() if value is None]
    if image.position is None or image.cosines is None or image.spacing is None:
        raise CinemaError(f"has no usable {missing[0]}")
    if min(image.spacing) <= 0:
        raise CinemaError(f"has the PixelSpacing {[image.spacing[1], image.spacing[0]]}")
    return _Frame(image, image.position, directions_from_cosines(image.cosines.tolist()), image.spacing)


def _planes(frames: Frames) -> list[Frames]:
    planes: list[Frames] = []
    for frame in frames:
        # Files come mostly slice by slice, so the last plane is the likeliest.
        plane = next((plane for plane in reversed(planes) if _same_plane(frame, plane[0])), None)
        if plane is None:
            planes.append([frame])
        else:
            plane.append(frame)
    return planes


def _same_plane(one: _Frame, other: _Frame) -> bool:
    return bool(
        one.image.pixels.shape == other.image.pixels.shape
        and np.linalg.norm(one.position - other.position) <= SAME_PLACE
        and np.abs(one.directions - other.directions).max() < SAME_COSINES
        and np.abs(np.subtract(one.spacing, other.spacing)).max() < 1e-3
    )


def _takes(plane: Frames) -> list[Frames]:
    """The acquisitions of one place."""
    expected, series = _phases(plane), _by_series(plane)
    # A series for each phase: none of them is a beat, but together they are one.
    longest = max(map(len, series))
    apart = longest < MOST_MISSING * expected if expected else longest == 1 and len(series) > MOST_REPEATS
    if apart and _one_beat(plane, expected):
        return [plane]
    return [take for part in series for take in _split(part, expected)]


def _phases(frames: Frames) -> int | None:
    """CardiacNumberOfImages of most frames that have it."""
    known = Counter(frame.image.n_phases for frame in frames if frame.image.n_phases)
    return known.most_common(1)[0][0] if known else None


def _one_beat(frames: Frames, expected: int | None) -> bool:
    """Whether the frames can be one acquisition: no more than there should be, and hardly a moment twice."""
    moments = _moments(frames)
    often = len(moments) / max(1, len(set(moments)))
    return often == 1.0 or not moments if expected is None else often < 1.5 and len(frames) <= expected


def _moments(frames: Frames) -> list[float]:
    """Times in the beat by the first clock that all frames have and that runs; empty without one."""
    for clock in CLOCKS:
        values = [getattr(frame.image, clock) for frame in frames]
        if None not in values and len(set(values)) > 1:
            return values
    return []


def _by_series(frames: Frames) -> list[Frames]:
    """Frames by series; those without a UID belong to the series if there is only one."""
    uids = {frame.image.series for frame in frames} - {""}
    return [frames] if len(uids) < 2 else _grouped(frames, lambda frame: frame.image.series)


def _split(frames: Frames, expected: int | None) -> list[Frames]:
    """Acquisitions under one UID."""
    if _one_beat(frames, expected):
        return [frames]
    starts = _starts(frames)
    ways: tuple[Callable[[_Frame], Hashable], ...] = (
        lambda frame: frame.image.acquired,
        lambda frame: frame.folder,
        lambda frame: starts[frame.image.name],
    )
    for way in ways:
        parts = _grouped(frames, way)
        # One of them has most moments of the beat; the others may have been broken off at once.
        beat = 2 * max(map(len, parts)) > len(set(_moments(frames)))
        if 1 < len(parts) <= len(frames) / 2 and beat and all(_one_beat(part, expected) for part in parts):
            return parts
    return [frames]


def _grouped(frames: Frames, key: Callable[[_Frame], Hashable]) -> list[Frames]:
    groups: dict[Hashable, Frames] = defaultdict(list)
    for frame in frames:
        groups[key(frame)].append(frame)
    return list(groups.values())


def _starts(frames: Frames) -> dict[str, int]:
    """Name -> how often the times of the beat, in the order of instances or names, began again before this frame."""
    numbers = [frame.image.instance for frame in frames]
    numbered = None not in numbers and len(set(numbers)) == len(numbers)
    ordered = sorted(
        frames, key=lambda frame: (frame.image.instance or 0.0 if numbered else 0.0, natural_key(frame.image.name))
    )
    moments = _moments(ordered)
    if not moments:
        return dict.fromkeys((frame.image.name for frame in frames), 0)
    # Two frames may have one time by rounding, but not the first one.
    steps = np.diff(moments)
    again = np.cumsum([False, *((steps < 0) | ((steps == 0) & (np.array(moments[1:]) == min(moments))))])
    return {frame.image.name: int(start) for frame, start in zip(ordered, again, strict=True)}


def _usual(takes: Sequence[Frames]) -> _Usual:
    lengths = Counter(len(take) for take in takes for _ in take)
    starts = [times[0] for take in takes if (times := _in_time(take)[1])]
    asked = _phases([frame for take in takes for frame in take])
    commonest = lengths.most_common(1)[0][0] if lengths else None
    return _Usual(commonest, asked, float(np.median(starts)) if starts else None)


def _cine(frames: Frames, folders: Counter[str], usual: _Usual) -> Cine:
    ordered, times = _in_time(frames)
    first = ordered[0]
    name = first.folder if folders[first.folder] == 1 else first.image.name
    expected, warnings = _phases(ordered), []
    if expected and len(ordered) == usual.asked != expected:
        # As many as the other slices ask for: its own header is wrong.
        warnings = [f"{name} asks for {expected} frames, most for {usual.asked}: its {usual.asked} are the whole beat"]
        expected = usual.asked
    if expected is None and usual.phases and len(ordered) < usual.phases:
        gaps = sum(_gaps(ordered, times, usual.phases, usual.start))
        expected = usual.phases if len(ordered) + gaps == usual.phases else None
    if expected and MOST_MISSING * expected <= len(ordered) != expected:
        ordered, said = _as_many(ordered, times, expected, usual.start)
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
    )


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


def _in_time(frames: Frames) -> tuple[Frames, list[float]]:
    """Frames in the order of the beat, and the numbers by which they were sorted, where there are any."""
    for clock in CLOCKS:
        values = [getattr(frame.image, clock) for frame in frames]
        # A clock that stands still for most frames tells nothing.
        if None not in values and 2 * len(set(values)) > len(values):
            ordered = sorted(frames, key=lambda frame: (getattr(frame.image, clock), natural_key(frame.image.name)))
            # Only times are counted from the beat's start; numbers may run on from slice to slice.
            start = 0.0 if clock in CLOCKS[:2] else min(values)
            return ordered, [value - start for value in sorted(values)]
    return sorted(frames, key=lambda frame: natural_key(frame.image.name)), []


def _as_many(frames: Frames, times: list[float], expected: int, start: float | None) -> tuple[Frames, str]:
    """As many frames as there should be, and what was done."""
    if len(frames) > expected:
        # Of frames at one moment the later file counts.
        unique = list(dict(zip(times, frames, strict=False)).values())
        kept = unique if len(unique) >= expected else frames
        return kept, f"{len(frames)} frames for {expected}: {len(kept)} are used"
    missing = expected - len(frames)
    first, *gaps = _gaps(frames, times, expected, start)
    # Before the first frame of a beat comes the last.
    out = [frames[-1]] * min(first, missing)
    missing -= len(out)
    for frame, gap in zip(frames, gaps, strict=True):
        repeats = min(gap, missing)
        out += [frame] * (1 + repeats)
        missing -= repeats
    said = f"{len(frames)} of {expected} frames: the previous one stands in for each missing one"
    return out + [frames[-1]] * missing, said


def _gaps(frames: Frames, times: list[float], expected: int, start: float | None) -> list[int]:
    """How many frames are missing before the first (usually at ``start``) and after each one, by the times."""
    none = [0] * (len(frames) + 1)
    if len(times) < 2:
        return none
    steps = np.diff(times)
    # The shortest step, unless jitter made it shorter than the whole beat allows.
    usual = max(float(steps.min()), (times[-1] - times[0]) / (expected - 1))
    if usual <= 0:
        return none
    first = 0 if start is None else max(0, round((times[0] - start) / usual))
    return [first, *(max(0, round(step / usual) - 1) for step in steps.tolist()), 0]
