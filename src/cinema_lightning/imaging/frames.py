"""Frames of DICOM files: where each lies, which are of one acquisition, and in which order they beat."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np

from cinema_lightning.errors import CinemaError
from cinema_lightning.files import natural_key
from cinema_lightning.imaging.dicom_file import DicomImage
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
class Frame:
    """A frame whose place is known."""

    image: DicomImage
    position: np.ndarray
    directions: np.ndarray
    spacing: tuple[float, float]

    @property
    def folder(self) -> str:
        """Folder of the file."""
        return str(PurePosixPath(self.image.name).parent)


Frames = list[Frame]


def placed(images: Sequence[DicomImage]) -> tuple[Frames, list[str]]:
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


def without_copies(frames: Frames) -> tuple[Frames, list[str]]:
    """Frames without those that a folder holds again under another name."""
    found: dict[Hashable, Frame] = {}
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


def _place(image: DicomImage) -> Frame:
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
    return Frame(image, image.position, directions_from_cosines(image.cosines.tolist()), image.spacing)


def planes_of(frames: Frames) -> list[Frames]:
    """Frames by where they lie: position within 1 mm, same direction, pixel size and number of pixels."""
    planes: list[Frames] = []
    for frame in frames:
        # Files come mostly slice by slice, so the last plane is the likeliest.
        plane = next((plane for plane in reversed(planes) if _same_plane(frame, plane[0])), None)
        if plane is None:
            planes.append([frame])
        else:
            plane.append(frame)
    return planes


def _same_plane(one: Frame, other: Frame) -> bool:
    return bool(
        one.image.pixels.shape == other.image.pixels.shape
        and np.linalg.norm(one.position - other.position) <= SAME_PLACE
        and np.abs(one.directions - other.directions).max() < SAME_COSINES
        and np.abs(np.subtract(one.spacing, other.spacing)).max() < 1e-3
    )


def takes_of(plane: Frames) -> list[Frames]:
    """The acquisitions of one place."""
    expected, series = phases_asked(plane), _by_series(plane)
    # A series for each phase: none of them is a beat, but together they are one.
    longest = max(map(len, series))
    apart = longest < MOST_MISSING * expected if expected else longest == 1 and len(series) > MOST_REPEATS
    if apart and _one_beat(plane, expected):
        return [plane]
    return [take for part in series for take in _split(part, expected)]


def phases_asked(frames: Frames) -> int | None:
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
    ways: tuple[Callable[[Frame], Hashable], ...] = (
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


def _grouped(frames: Frames, key: Callable[[Frame], Hashable]) -> list[Frames]:
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


def in_time(frames: Frames) -> tuple[Frames, list[float]]:
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


def as_many(frames: Frames, times: list[float], expected: int, start: float | None) -> tuple[Frames, str]:
    """As many frames as there should be, and what was done."""
    if len(frames) > expected:
        # Of frames at one moment the later file counts.
        unique = list(dict(zip(times, frames, strict=False)).values())
        kept = unique if len(unique) >= expected else frames
        return kept, f"{len(frames)} frames for {expected}: {len(kept)} are used"
    missing = expected - len(frames)
    first, *gaps = gaps_between(frames, times, expected, start)
    # Before the first frame of a beat comes the last.
    out = [frames[-1]] * min(first, missing)
    missing -= len(out)
    for frame, gap in zip(frames, gaps, strict=True):
        repeats = min(gap, missing)
        out += [frame] * (1 + repeats)
        missing -= repeats
    said = f"{len(frames)} of {expected} frames: the previous one stands in for each missing one"
    return out + [frames[-1]] * missing, said


def gaps_between(frames: Frames, times: list[float], expected: int, start: float | None) -> list[int]:
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
