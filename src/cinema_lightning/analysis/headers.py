"""What may be taken from the headers of a study: an allow-list, and identity only to be compared, never handed on.

Free text (descriptions, names of persons and places, comments) is looked at here and turned into recognised words; it
reaches no value that is written.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import date
from typing import Any

import numpy as np

from cinema_lightning.analysis.sources import Source, unquoted
from cinema_lightning.analysis.values import Person, Scanner
from cinema_lightning.columns import look_up

TAGS = (
    *("SOPClassUID", "Modality", "PatientID", "PatientName", "PatientBirthDate", "StudyInstanceUID", "StudyDate"),
    *("StudyTime", "SeriesInstanceUID", "SeriesNumber", "SeriesDescription", "ImageType", "SequenceName"),
    *("PatientSex", "PatientAge", "PatientSize", "PatientWeight", "Manufacturer", "MagneticFieldStrength"),
    "QualityControlSubject",
    *(
        "Rows",
        "Columns",
        "NumberOfFrames",
        "FrameOfReferenceUID",
        "SamplesPerPixel",
        "BurnedInAnnotation",
        "InversionTime",
        "SeriesTime",
    ),
    *("SeriesDate", "PixelSpacing", "SliceThickness", "ImagePositionPatient", "ImageOrientationPatient"),
)
VENDORS = {"siemens": "Siemens", "ge": "GE", "philips": "Philips", "canon": "Canon", "toshiba": "Canon"}
MODALITIES = ("CT", "US", "XA", "PT", "NM", "CR", "DX", "MG", "RF", "ECG", "SR", "SEG", "PR", "KO", "OT", "SC", "DOC")
OLDEST = 89
KNOWN = tuple(part.name for part in fields(Person) if part.name != "aged")
"""Cells of a person."""
STAND_IN = 105
"""Years above which a birth date counts as a stand-in for an unknown one, such as 1 January 1900."""
BY_DATES = "age by dates"
"""Cell of an age that no header states, and that the birth date and the study's date give."""


@dataclass(frozen=True)
class Header:
    """One file of a study, as far as sorting needs it.

    Attributes:
        source: The file.
        series: SeriesInstanceUID, or the number of the file's folder where it has none.
        study: StudyInstanceUID.
        reference: FrameOfReferenceUID.
        moment: Date and time of the study as text that sorts.
        identity: PatientID, name and birth date, made alike; only compared.
        order: Sort key of its series: number, then time.
        words: Description; words are recognised in it.
        modality: One of ``MR``, :data:`MODALITIES` or ``an unknown kind``.
        kind: Parts of ImageType in capitals.
        sequence: SequenceName in small letters.
        coloured: Whether it is a colour picture, or text was burnt into it.
        has_image: Whether it holds rows and columns at all.
        size: Pixels along x and y.
        frames: Number of frames.
        inversion: InversionTime, ms.
        cells: Sex, age, height, weight, vendor and field strength as text and numbers.
        spacing: Pixel size along x and y, mm.
        thickness: Slice thickness, mm.
        place: Position and orientation, rounded, to count the places of a series.
        phantom: Whether it says that it is of a phantom.
    """

    source: Source
    series: str
    study: str
    reference: str
    moment: str
    identity: tuple[str, str, str]
    order: tuple[float, str]
    words: str
    modality: str
    kind: tuple[str, ...]
    sequence: str
    coloured: bool
    has_image: bool
    size: tuple[int, int]
    frames: int
    inversion: float | None
    cells: tuple[tuple[str, str | float], ...]
    spacing: tuple[float, float] | None
    thickness: float | None
    place: tuple[float, ...]
    phantom: bool


def read_headers(sources: Sequence[Source]) -> tuple[list[Header], int]:
    """Reads the headers of a study's files.

    Args:
        sources: The files.

    Returns:
        The headers, and how many files are no readable DICOM.
    """
    found = [_read(source) for source in sources]
    headers = [header for header in found if header is not None]
    return headers, len(found) - len(headers)


def _read(source: Source) -> Header | None:
    import pydicom

    with unquoted():
        try:
            with source.open() as file:
                start = file.read(132)
                file.seek(0)
                bare = start[128:] != b"DICM"
                if bare and start[:2] not in (b"\x02\x00", b"\x08\x00", b"\x00\x08"):
                    return None
                header = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=list(TAGS), force=bare)
                return _header(source, header)
        except Exception:  # whatever pydicom or an archive raises: what it is does not matter, that it is counted does
            return None


def _header(source: Source, header: Any) -> Header:
    def text(tag: str) -> str:
        return str(header.get(tag) or "").strip()

    modality = text("Modality").upper()
    position = [*_numbers(header, "ImagePositionPatient", 3), *_numbers(header, "ImageOrientationPatient", 6)]
    spacing = _numbers(header, "PixelSpacing", 2)
    kind = header.get("ImageType") or ()
    return Header(
        source=source,
        series=text("SeriesInstanceUID") or f"folder {source.folder}",
        study=text("StudyInstanceUID"),
        reference=text("FrameOfReferenceUID"),
        moment=re.sub(r"\D", "", text("StudyDate")).ljust(8, "0") + re.sub(r"\D", "", text("StudyTime")),
        identity=(text("PatientID"), _plain(text("PatientName")), re.sub(r"\D", "", text("PatientBirthDate"))),
        order=(_number(header.get("SeriesNumber")) or 0.0, text("SeriesDate") + text("SeriesTime")),
        words=text("SeriesDescription") or source.folder,
        modality=modality if modality in ("MR", *MODALITIES) else "an unknown kind",
        kind=tuple(str(part).upper() for part in ([kind] if isinstance(kind, str) else kind)),
        sequence=text("SequenceName").lower(),
        coloured=int(_number(header.get("SamplesPerPixel")) or 1) > 1 or text("BurnedInAnnotation").upper() == "YES",
        has_image=bool(header.get("Rows") and header.get("Columns")),
        size=(int(header.get("Columns") or 0), int(header.get("Rows") or 0)),
        frames=int(_number(header.get("NumberOfFrames")) or 1),
        inversion=_number(header.get("InversionTime")),
        cells=tuple(_cells(header, text)),
        spacing=(spacing[1], spacing[0]) if spacing else None,
        thickness=_number(header.get("SliceThickness")),
        place=tuple(round(value, 1) for value in position),
        phantom=text("QualityControlSubject").upper() == "YES",
    )


def _plain(name: str) -> str:
    """A name without what two systems write differently: case, carets, spaces."""
    return re.sub(r"[\W_]+", "", name).casefold()


def _number(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if np.isfinite(number) else None


def _numbers(header: Any, tag: str, count: int) -> list[float]:
    try:
        values = [float(value) for value in header.get(tag)]
    except (TypeError, ValueError):
        return []
    return values if len(values) == count and np.isfinite(values).all() else []


def _cells(header: Any, text: Any) -> list[tuple[str, str | float]]:
    """Values on the allow-list, each of a fixed form."""
    cells: list[tuple[str, str | float]] = []
    if (sex := text("PatientSex").upper()) in ("M", "F"):
        cells.append(("sex", sex))
    if match := re.fullmatch(r"(\d{1,3})([DWMY]?)", text("PatientAge").upper()):
        days = {"D": 1.0, "W": 7.0, "M": 30.4375}.get(match[2], 365.25)
        cells.append(("age", float(match[1]) * days / 365.25 // 1))
    elif (born := text("PatientBirthDate")) and (day := text("StudyDate") or text("SeriesDate")):
        cells.append((BY_DATES, _years(born, day)))
    for name, tag in (
        ("height", "PatientSize"),
        ("weight", "PatientWeight"),
        ("field_strength", "MagneticFieldStrength"),
    ):
        if (number := _number(header.get(tag))) is not None:
            cells.append((name, number))
    vendor = vendor_of(text("Manufacturer"))
    return [*cells, ("vendor", vendor)] if vendor else cells


def _years(born: str, day: str) -> float:
    """Whole years from a birth date to another date; -1 where they cannot be, or nobody is so old."""
    try:
        first, last = (date.fromisoformat(re.sub(r"\D", "", text)) for text in (born, day))
    except ValueError:
        return -1.0
    years = last.year - first.year - ((last.month, last.day) < (first.month, first.day))
    return float(years) if 0 <= years <= STAND_IN else -1.0


def vendor_of(text: str) -> str | None:
    """The maker of a scanner, of those that are known by name; None of any other text."""
    words = re.split(r"\W+", text.lower())
    vendor = next((name for word, name in VENDORS.items() if word in words), None)
    return "United Imaging" if vendor is None and {"united", "uih"} & set(words) else vendor


def identity_of(headers: Sequence[Header]) -> str:
    """What tells a study from all others; some of its files, such as a DICOMDIR, say nothing of it.

    Args:
        headers: Headers of one study.

    Returns:
        Text that a name is keyed with, and that is never written.
    """
    patients = {header.identity[0] for header in headers} - {""} or {header.identity[1] for header in headers}
    studies = {header.study for header in headers} - {""} or {header.series for header in headers}
    return f"{min(patients - {''}, default='')}|{min(studies)}"


def of_phantom(headers: Sequence[Header]) -> bool:
    """Whether all images of a study say that they are of a phantom."""
    images = [header for header in headers if header.has_image]
    return bool(images) and all(header.phantom for header in images)


def person_of(headers: Sequence[Header]) -> tuple[Person, list[str]]:
    """What may be known of the person; what cannot be right, or differs between files, is left out and said.

    Args:
        headers: Headers of one study.

    Returns:
        The person, and sentences.
    """
    said: list[str] = []
    found: dict[str, Any] = {name: _agreed(headers, name, said) for name in KNOWN}
    if not any(key == "age" for header in headers for key, _ in header.cells):
        found["age"] = _agreed(headers, "age", said, BY_DATES)
    aged = found["age"] is not None and found["age"] > OLDEST
    return Person(**{**found, "age": float(OLDEST + 1) if aged else found["age"]}, aged=aged), said


def scanner_of(headers: Sequence[Header]) -> Scanner:
    """What may be known of the scanner, by most files."""
    vendor, field = _commonest(headers, "vendor"), _commonest(headers, "field_strength")
    strength = float(field) if isinstance(field, float) and 0.1 <= field <= 12 else None
    return Scanner(vendor if isinstance(vendor, str) else None, strength)


def _agreed(headers: Sequence[Header], name: str, said: list[str], by: str | None = None) -> str | float | None:
    values = {value for header in headers for key, value in header.cells if key == (by or name)}
    limits = look_up(name).range
    usable = {cell for cell in values if isinstance(cell, str) or limits is None or limits[0] <= cell <= limits[1]}
    if limits and values - usable - {0.0}:
        wrong = f"the {name} in the headers is not between {limits[0]:g} and {limits[1]:g}"
        dates = "the birth date and the date of the study in the headers cannot both be right, nor the age by them"
        said.append(f"{dates if by == BY_DATES else wrong}: it is not used")
    if len(usable) > 1:
        said.append(f"the files disagree about the {name}: it is not used")
    return usable.pop() if len(usable) == 1 else None


def _commonest(headers: Sequence[Header], name: str) -> str | float | None:
    counts = Counter(cell for header in headers for key, cell in header.cells if key == name)
    return counts.most_common(1)[0][0] if counts else None
