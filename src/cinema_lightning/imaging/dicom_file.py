"""One DICOM file to its frames: pixels as they were measured, and what the header says of place and time.

Classic files hold one frame; enhanced ones hold many, with what differs between them in functional groups. Every value
is looked up in the frame's own groups first, then in those that all frames share, then at the top. That order also
reads files converted from classic ones, whose odd attributes stand in groups of their own.
"""

from __future__ import annotations

import warnings as python_warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from cinema_lightning.errors import CinemaError
from cinema_lightning.imaging import decoders

TAGS = (
    *("SOPClassUID", "SOPInstanceUID", "PatientID", "StudyInstanceUID", "FrameOfReferenceUID", "Modality"),
    *("SeriesInstanceUID", "SeriesDescription", "InstanceNumber", "ImageType"),
    *("TriggerTime", "NominalCardiacTriggerDelayTime", "TemporalPositionIdentifier", "CardiacNumberOfImages"),
    *("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SpacingBetweenSlices", "SliceThickness"),
    *("NominalInterval", "HeartRate", "RRIntervalTimeNominal"),
    *("AcquisitionDateTime", "AcquisitionDate", "AcquisitionTime", "SeriesDate", "SeriesTime", "ContentDate"),
    *("ContentTime", "ComplexImageComponent"),
    *("Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "SamplesPerPixel"),
    *("PhotometricInterpretation", "PlanarConfiguration", "NumberOfFrames", "RescaleSlope", "RescaleIntercept"),
    *("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence", "PixelData"),
)
# What begins a file without preamble: the file meta group, or an early group of either byte order.
STARTS = (b"\x02\x00", b"\x08\x00", b"\x00\x08")
# Larger pictures are no cine frames, and a damaged header may claim any size.
LARGEST_SIDE = 4096
# Times from beat to beat that a heart can have, ms.
LIVING = (250.0, 3000.0)


@dataclass(frozen=True)
class DicomFile:
    """One file that may hold frames.

    Attributes:
        name: File name, by which frames are sorted where nothing else tells them apart.
        open: Gives its bytes; called once, so that a cohort in archives is never unpacked.
    """

    name: str
    open: Callable[[], bytes]

    @classmethod
    def from_path(cls, path: Path) -> DicomFile:
        """A file on disk."""
        return cls(path.name, path.read_bytes)


@dataclass(frozen=True)
class DicomImage:
    """One frame.

    Attributes:
        name: File name; with ``#3`` for frame 3 of a file that holds several.
        pixels: (X, Y), rescaled as the header says; bright is bright also where the file stores it inverted.
        position: (3,), centre of the first pixel, LPS mm; None where unknown, as below.
        cosines: (6,), directions of a row and of a column, LPS.
        spacing: Pixel size along x and y, mm.
        series: SeriesInstanceUID, empty where unknown.
        description: SeriesDescription, empty where unknown.
        trigger_time: Time since the R wave, ms.
        trigger_delay: The same by the tags of enhanced files, ms.
        temporal_position: Number (or share) of the phase in the cycle.
        instance: InstanceNumber, or the number of the frame in its file.
        acquired: Date and time of acquisition as text that sorts, empty where unknown.
        n_phases: CardiacNumberOfImages.
        between: SpacingBetweenSlices, mm.
        thickness: SliceThickness, mm.
        velocity: True for the phase part of a complex image (velocities), which is no picture of the heart.
        patient: PatientID, by which two persons in one folder are told apart; never written anywhere.
        study: StudyInstanceUID.
        reference: FrameOfReferenceUID: positions of another one cannot be compared.
        uid: What no other frame is called, empty where unknown: SOPInstanceUID, with the number of the frame.
        rr: Time from one R wave to the next, ms.
    """

    name: str
    pixels: np.ndarray
    position: np.ndarray | None
    cosines: np.ndarray | None
    spacing: tuple[float, float] | None
    series: str = ""
    description: str = ""
    trigger_time: float | None = None
    trigger_delay: float | None = None
    temporal_position: float | None = None
    instance: float | None = None
    acquired: str = ""
    n_phases: int | None = None
    between: float | None = None
    thickness: float | None = None
    velocity: bool = False
    patient: str = ""
    study: str = ""
    reference: str = ""
    uid: str = ""
    rr: float | None = None

    @property
    def is_placed(self) -> bool:
        """Whether its header says where it lies."""
        return self.position is not None and self.cosines is not None and self.spacing is not None


def read_images(file: DicomFile) -> list[DicomImage]:
    """Reads the frames of one file.

    Args:
        file: The file.

    Returns:
        Its frames in the file's order; one for a classic file.

    Raises:
        CinemaError: If it is no DICOM file, holds no grey image, or cannot be decoded, with the reason.
    """
    with python_warnings.catch_warnings():
        # pydicom remarks on every odd value of every file; what matters is said by the sentences here.
        python_warnings.simplefilter("ignore")
        try:
            header = _header(_content(file))
            _check(header)
            return _images(header, file.name)
        except CinemaError:
            raise
        except Exception as error:  # pydicom raises many kinds, and so do its decoders
            reason = " ".join(str(error).split()) or type(error).__name__
            raise CinemaError(f"it cannot be decoded ({reason[:160]})") from None


def read_files(files: Sequence[DicomFile], name: str, warnings: list[str]) -> list[DicomImage]:
    """Reads the frames of several files; those that cannot be read leave a sentence.

    Args:
        files: The files.
        name: What to call them together in messages.
        warnings: Takes the sentences.

    Returns:
        The frames of all readable files.

    Raises:
        CinemaError: If none can be read; the first file's reason is told.
    """
    images: list[DicomImage] = []
    reasons: dict[str, list[str]] = {}
    for file in files:
        try:
            images += read_images(file)
        except CinemaError as error:
            reasons.setdefault(str(error), []).append(file.name)
    if not images:
        first = next((f"; {names[0]}: {reason}" for reason, names in reasons.items()), "")
        raise CinemaError(f"{name} has no readable DICOM image ({len(files)} files{first}): give the files of a cine")
    for reason, names in reasons.items():
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        warnings.append(f"{name}/{names[0]}{more} cannot be read ({reason})")
    return images


def _content(file: DicomFile) -> bytes:
    try:
        return file.open()
    except CinemaError:
        raise
    except Exception as error:  # archives raise many kinds: damaged, locked, or without the file
        reason = getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__
        raise CinemaError(f"it cannot be opened: {reason[:160]}") from None


def _header(data: bytes) -> Any:
    import pydicom
    from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

    bare = data[128:132] != b"DICM"
    if bare and data[:2] not in STARTS:
        raise CinemaError("it is no DICOM file" if data else "it is empty")
    header = pydicom.dcmread(BytesIO(data), specific_tags=list(TAGS), force=bare)
    if not header.file_meta.get("TransferSyntaxUID"):
        implicit, little = header.original_encoding
        explicit = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
        header.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else explicit
    return header


def _check(header: Any) -> None:
    """Refuses what holds no grey picture."""
    if "PixelData" not in header:
        kind = getattr(header.get("SOPClassUID"), "name", "") or header.file_meta.get("MediaStorageSOPClassUID", "")
        raise CinemaError(f"it holds no image ({getattr(kind, 'name', kind) or 'no pixel data'})")
    if header.get("SamplesPerPixel", 1) != 1 or header.get("PhotometricInterpretation") == "PALETTE COLOR":
        raise CinemaError("it is a colour picture")
    if header.get("BitsAllocated") == 1 or header.get("Modality") == "SEG":
        raise CinemaError("it is a mask, no image")
    rows, columns = int(header.Rows), int(header.Columns)
    if not 0 < min(rows, columns) <= max(rows, columns) <= LARGEST_SIDE:
        raise CinemaError(f"it has {columns} x {rows} pixels, and up to {LARGEST_SIDE} are possible")


def _images(header: Any, name: str) -> list[DicomImage]:
    stored = _stored(header)
    count = int(header.get("NumberOfFrames") or 1)
    frames = stored.reshape(count, *stored.shape[-2:])
    names = [f"{name}#{number}" for number in range(1, count + 1)] if count > 1 else [name]
    return [_image(names[index], frames[index], list(places_of(header, index)), index + 1) for index in range(count)]


def _stored(header: Any) -> np.ndarray:
    """Stored values, ([frames,] Y, X). Bits beside them (old overlays) are dropped, whichever end they stand at."""
    from pydicom.uid import RLELossless

    allocated, bits = int(header.BitsAllocated), int(header.get("BitsStored") or header.BitsAllocated)
    below = int(header.get("HighBit", bits - 1)) + 1 - bits
    syntax = header.file_meta.TransferSyntaxUID
    if below <= 0 or below + bits > allocated or (syntax.is_encapsulated and syntax != RLELossless):
        return _decoded(header)
    # Up and down again, so that the sign of signed values is kept.
    above = allocated - bits - below
    return (_decoded(header, correct_unused_bits=False) << above) >> (above + below)


def _decoded(header: Any, **options: Any) -> np.ndarray:
    from pydicom.pixels import pixel_array

    decoders.register()
    syntax = header.file_meta.TransferSyntaxUID
    try:
        return pixel_array(header, **options)
    except Exception as error:  # decoders raise many kinds
        if not syntax.is_encapsulated:
            raise
        raise CinemaError(
            f"its pixels cannot be decoded ({syntax.name}): the file is damaged or has to be decompressed first"
        ) from error


def places_of(header: Any, index: int) -> Iterator[Any]:
    """Where a frame's values may stand, nearest first.

    Args:
        header: The file's.
        index: Of the frame in the file, from 0.
    """
    own, shared = header.get("PerFrameFunctionalGroupsSequence"), header.get("SharedFunctionalGroupsSequence")
    for group in (own[index] if own and index < len(own) else None, shared[0] if shared else None):
        for element in group or ():
            if element.VR == "SQ" and element.value:
                yield element.value[0]
    yield header


def _find(places: list[Any], *tags: str) -> Any:
    for tag in tags:
        for place in places:
            value = place.get(tag)
            if value not in (None, "", b""):
                return value
    return None


def number_of(places: list[Any], *tags: str) -> float | None:
    """The number of the first of some tags that one of the places has; None where it is no number."""
    try:
        value = float(_find(places, *tags))
    except (TypeError, ValueError):
        return None
    return value if np.isfinite(value) else None


def vector_of(places: list[Any], tag: str, size: int) -> np.ndarray | None:
    """(size,) numbers of a tag at the first of the places that has it; None where it holds no such numbers."""
    try:
        value = np.asarray([float(number) for number in _find(places, tag)])
    except (TypeError, ValueError):
        return None
    return value if value.shape == (size,) and np.isfinite(value).all() else None


def _image(name: str, stored: np.ndarray, places: list[Any], number: int) -> DicomImage:
    pixel = vector_of(places, "PixelSpacing", 2)
    phases = number_of(places, "CardiacNumberOfImages")
    own = number_of(places[:-1], "InstanceNumber") if "#" in name else number_of(places, "InstanceNumber")
    return DicomImage(
        name=name,
        # DICOM rows run down the image: (row, column) is (y, x).
        pixels=_rescaled(_upright(stored, places[-1]), places).T,
        position=vector_of(places, "ImagePositionPatient", 3),
        cosines=vector_of(places, "ImageOrientationPatient", 6),
        # PixelSpacing is the distance between rows (y) first.
        spacing=None if pixel is None else (float(pixel[1]), float(pixel[0])),
        series=str(_find(places, "SeriesInstanceUID") or ""),
        description=str(_find(places, "SeriesDescription") or "").strip(),
        trigger_time=number_of(places, "TriggerTime"),
        trigger_delay=number_of(places, "NominalCardiacTriggerDelayTime", "ActualCardiacTriggerDelayTime"),
        temporal_position=number_of(
            places, "TemporalPositionIndex", "TemporalPositionIdentifier", "NominalPercentageOfCardiacPhase"
        ),
        instance=own if own is not None else (float(number) if "#" in name else None),
        acquired=_acquired(places),
        n_phases=int(phases) if phases and phases > 0 else None,
        between=number_of(places, "SpacingBetweenSlices"),
        thickness=number_of(places, "SliceThickness"),
        velocity=_is_velocity(places),
        patient=str(_find(places, "PatientID") or "").strip(),
        study=str(_find(places, "StudyInstanceUID") or ""),
        reference=str(_find(places, "FrameOfReferenceUID") or ""),
        uid=f"{uid}#{number}" if (uid := _find(places[-1:], "SOPInstanceUID")) else "",
        rr=_beat(places),
    )


def _beat(places: list[Any]) -> float | None:
    """RR by the interval, else by the heart rate; what no heart keeps up is none."""
    rate = number_of(places, "HeartRate")
    values = (number_of(places, "RRIntervalTimeNominal", "NominalInterval"), 60_000 / rate if rate else None)
    return next((value for value in values if value is not None and LIVING[0] <= value <= LIVING[1]), None)


def _upright(stored: np.ndarray, header: Any) -> np.ndarray:
    """MONOCHROME1 shows low values bright: turned within the range of the stored bits."""
    if header.get("PhotometricInterpretation") != "MONOCHROME1":
        return stored
    bits = int(header.get("BitsStored") or header.BitsAllocated)
    top = -1 if header.get("PixelRepresentation") else 2**bits - 1
    return top - stored.astype(np.int64)


def _rescaled(stored: np.ndarray, places: list[Any]) -> np.ndarray:
    slope, intercept = number_of(places, "RescaleSlope"), number_of(places, "RescaleIntercept")
    if slope == 0:
        raise CinemaError("its RescaleSlope is 0, so that nothing is left of the image")
    if slope in (None, 1.0) and intercept in (None, 0.0):
        return stored
    return stored * (1.0 if slope is None else slope) + (intercept or 0.0)


def _acquired(places: list[Any]) -> str:
    moment = _find(places, "FrameAcquisitionDateTime", "AcquisitionDateTime")
    if moment is not None:
        return _digits(moment, 14)
    for kind in ("Acquisition", "Series", "Content"):
        time = _find(places, f"{kind}Time")
        if time is not None:
            return _digits(_find(places, f"{kind}Date", "SeriesDate", "ContentDate") or "0" * 8, 8) + _digits(time, 6)
    return ""


def _digits(value: Any, size: int) -> str:
    """A date or time with all of its whole part, so that texts of different lengths sort; a time zone is dropped."""
    text = str(value).strip().replace(":", "").replace("-", "+").split("+")[0]
    whole, _, part = text.partition(".")
    return whole.ljust(size, "0") + (f".{part}" if part else "")


def _is_velocity(places: list[Any]) -> bool:
    component = str(_find(places, "ComplexImageComponent") or "").upper()
    if component:
        return component == "PHASE"
    kind = _find(places, "FrameType", "ImageType") or ()
    parts = [str(part).upper() for part in ([kind] if isinstance(kind, str) else kind)][2:]
    # Siemens ...\P\..., Philips ...\PHASE CONTRAST M\P\PCA and ...\PHASE MAP\P\FFE.
    return "P" in parts or "PHASE" in parts
