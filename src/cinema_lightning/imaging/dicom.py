"""DICOM files to cine series, with geometry from the headers.

One slice's cine is a set of files, one per frame. Files are missing, unreadable, of two series, or of another size
often enough in practice that each of these has a rule here, and each repair leaves a sentence.
"""

from __future__ import annotations

import warnings as python_warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

import numpy as np

from cinema_lightning.errors import CinemaError
from cinema_lightning.imaging.dicom_file import DicomFile
from cinema_lightning.imaging.geometry import directions_from_cosines

TAGS = (
    *("SeriesInstanceUID", "TriggerTime", "CardiacNumberOfImages", "ImagePositionPatient", "ImageOrientationPatient"),
    *("PixelSpacing", "SpacingBetweenSlices", "SliceThickness", "Rows", "Columns", "BitsAllocated", "BitsStored"),
    *("HighBit", "PixelRepresentation", "SamplesPerPixel", "PhotometricInterpretation", "NumberOfFrames"),
    *("PlanarConfiguration", "RescaleSlope", "RescaleIntercept", "PixelData", "SeriesDescription"),
)
# Positions of one slice's frames may wander this far, mm.
SAME_PLACE = 1.0
# With fewer readable frames than this share of the series, repeating frames would make up a heart beat.
MOST_MISSING = 0.5


@dataclass
class _Frame:
    name: str
    header: Any
    pixels: np.ndarray
    time: float | None


@dataclass
class Cine:
    """The frames of one slice.

    Attributes:
        frames: (T, X, Y).
        position: Centre of the first pixel, LPS mm.
        directions: (3, 3) direction columns (row, column, normal), LPS.
        spacing: Pixel size along x and y, mm.
        between: SpacingBetweenSlices, mm, where the header has it.
        thickness: SliceThickness, mm, where the header has it.
        warnings: What was repaired or left out.
    """

    frames: np.ndarray
    position: np.ndarray
    directions: np.ndarray
    spacing: tuple[float, float]
    between: float | None
    thickness: float | None
    warnings: list[str] = field(default_factory=list)


def read_cine(files: Sequence[DicomFile], name: str) -> Cine:
    """Reads one slice's frames.

    Frames are sorted by TriggerTime, then by file name. Of several series the last by UID is taken. Where
    CardiacNumberOfImages asks for more frames than can be read, the previous frame is repeated: in the gaps of the
    trigger times first, then at the end.

    Args:
        files: The files.
        name: What to call the slice in messages.

    Returns:
        The slice's cine.

    Raises:
        CinemaError: If no file can be read, or geometry is missing or differs between the frames.
    """
    warnings: list[str] = []
    with python_warnings.catch_warnings():
        # pydicom remarks on every odd value of every file; what matters is said once, by the sentences here.
        python_warnings.simplefilter("ignore")
        frames = [frame for frame in (_read(file, name, warnings) for file in files) if frame is not None]
    if not frames:
        raise CinemaError(f"{name} has no readable DICOM image ({len(files)} files)")
    frames = _one_size(_one_series(frames, name, warnings), name, warnings)
    if all(frame.time is not None for frame in frames):
        frames.sort(key=lambda frame: (frame.time or 0.0, frame.name))
    else:
        frames.sort(key=lambda frame: frame.name)
    expected = _number(frames[0].header, "CardiacNumberOfImages")
    if expected and len(frames) < MOST_MISSING * expected:
        raise CinemaError(f"{name} has {len(frames)} readable frames of {expected:.0f}: it may be half downloaded")
    frames = _as_many(frames, int(expected) if expected else len(frames), name, warnings)
    position, directions, spacing = _geometry(frames[0], name)
    for frame in frames:
        other = _vector(frame.header, "ImagePositionPatient", 3)
        if other is not None and np.linalg.norm(other - position) > SAME_PLACE:
            raise CinemaError(f"{name} holds frames of several places ({frames[0].name} and {frame.name})")
    return Cine(
        np.stack([frame.pixels for frame in frames]),
        position,
        directions,
        spacing,
        _number(frames[0].header, "SpacingBetweenSlices"),
        _number(frames[0].header, "SliceThickness"),
        warnings,
    )


def _read(file: DicomFile, name: str, warnings: list[str]) -> _Frame | None:
    import pydicom

    try:
        header = pydicom.dcmread(BytesIO(file.open()), specific_tags=list(TAGS))
        pixels = header.pixel_array
        if pixels.ndim != 2 or pixels.size == 0:
            raise ValueError(f"an image of shape {pixels.shape}")
    except CinemaError:  # a name that points outside its folder is no frame that may be missing
        raise
    except Exception as error:  # pydicom raises many kinds, and so do its decoders
        warnings.append(f"{name}/{file.name} cannot be read ({' '.join(str(error).split())[:120]})")
        return None
    slope, intercept = _number(header, "RescaleSlope"), _number(header, "RescaleIntercept")
    if slope not in (None, 1.0) or intercept not in (None, 0.0):
        pixels = pixels * (1.0 if slope is None else slope) + (intercept or 0.0)
    # DICOM rows run down the image: (row, column) is (y, x).
    return _Frame(file.name, header, pixels.T, _number(header, "TriggerTime"))


def _number(header: Any, tag: str) -> float | None:
    try:
        value = float(header.get(tag))
    except (TypeError, ValueError):
        return None
    return value if np.isfinite(value) else None


def _vector(header: Any, tag: str, size: int) -> np.ndarray | None:
    try:
        value = np.asarray([float(number) for number in header.get(tag)])
    except (TypeError, ValueError):
        return None
    return value if value.shape == (size,) and np.isfinite(value).all() else None


def _geometry(frame: _Frame, name: str) -> tuple[np.ndarray, np.ndarray, tuple[float, float]]:
    position = _vector(frame.header, "ImagePositionPatient", 3)
    cosines = _vector(frame.header, "ImageOrientationPatient", 6)
    pixel = _vector(frame.header, "PixelSpacing", 2)
    tags = {"ImagePositionPatient": position, "ImageOrientationPatient": cosines, "PixelSpacing": pixel}
    missing = [tag for tag, value in tags.items() if value is None]
    if missing or position is None or cosines is None or pixel is None:
        raise CinemaError(f"{name}/{frame.name} has no usable {missing[0]}")
    if (pixel <= 0).any():
        raise CinemaError(f"{name}/{frame.name} has the PixelSpacing {pixel.tolist()}")
    # PixelSpacing is the distance between rows (y) first.
    return position, directions_from_cosines(cosines.tolist(), name=f"{name}/{frame.name}"), (pixel[1], pixel[0])


def _one_series(frames: list[_Frame], name: str, warnings: list[str]) -> list[_Frame]:
    """The last series by UID; files without a UID belong to the series if there is only one."""
    uids = sorted({uid for frame in frames if (uid := _uid(frame))})
    if len(uids) < 2:
        return frames
    kept = [frame for frame in frames if _uid(frame) == uids[-1]]
    warnings.append(f"{name} holds {len(uids)} series; the last by UID is used ({len(kept)} of {len(frames)} files)")
    return kept


def _uid(frame: _Frame) -> str:
    return str(frame.header.get("SeriesInstanceUID") or "")


def _one_size(frames: list[_Frame], name: str, warnings: list[str]) -> list[_Frame]:
    size = Counter(frame.pixels.shape for frame in frames).most_common(1)[0][0]
    for frame in frames:
        if frame.pixels.shape != size:
            warnings.append(f"{name}/{frame.name} is {frame.pixels.shape} pixels, the others {size}: left out")
    return [frame for frame in frames if frame.pixels.shape == size]


def _as_many(frames: list[_Frame], expected: int, name: str, warnings: list[str]) -> list[_Frame]:
    if len(frames) > expected:
        # Two acquisitions under one UID: of frames with one trigger time the later file counts.
        unique = {(frame.time, None if frame.time is not None else frame.name): frame for frame in frames}
        kept = list(unique.values()) if len(unique) >= expected else frames
        warnings.append(f"{name} has {len(frames)} frames for {expected}: {len(kept)} are used")
        return kept
    missing = expected - len(frames)
    if missing == 0:
        return frames
    warnings.append(f"{name} has {len(frames)} of {expected} frames: the previous one stands in for each missing one")
    out: list[_Frame] = []
    for frame, gap in zip(frames, _gaps(frames, expected), strict=True):
        repeats = min(gap, missing)
        out += [frame] * (1 + repeats)
        missing -= repeats
    return out + [frames[-1]] * missing


def _gaps(frames: list[_Frame], expected: int) -> list[int]:
    """How many frames are missing after each one, by the trigger times."""
    times = [frame.time for frame in frames if frame.time is not None]
    if len(times) < len(frames) or len(times) < 2:
        return [0] * len(frames)
    steps = np.diff(times)
    # The shortest step, unless jitter made it shorter than the whole beat allows.
    usual = max(float(steps.min()), (times[-1] - times[0]) / (expected - 1))
    if usual <= 0:
        return [0] * len(frames)
    return [*(max(0, round(step / usual) - 1) for step in steps.tolist()), 0]
