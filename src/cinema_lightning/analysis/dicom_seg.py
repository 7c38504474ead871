"""Masks as DICOM segmentations: ED and ES as ordinary 3D objects, the whole beat as one object on request.

highdicom refuses repeated plane positions and sources of several series, which a cine of one slice a series has; so an
object is made for each moment on a volume of its own (that references its images), and those of a beat are merged.
Viewers show the first overlay of a cine only (OHIF #4789), hence ED and ES by default.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any

import highdicom
import numpy as np
from highdicom.seg import SegmentAlgorithmTypeValues, Segmentation, SegmentationTypeValues, SegmentDescription
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.uid import MRImageStorage, generate_uid

from cinema_lightning.analysis.originals import Originals, each_once, is_enhanced
from cinema_lightning.analysis.values import LV, MYOCARDIUM, RV, View
from cinema_lightning.errors import CinemaError
from cinema_lightning.imaging.dicom_file import number_of, places_of, vector_of
from cinema_lightning.imaging.geometry import LPS_TO_RAS

MAKER = "cinema-lightning"
CATEGORY = Code("91723000", "SCT", "Anatomical Structure")
STRUCTURES = {
    RV: ("RV blood pool", Code("53085002", "SCT", "Right ventricle")),
    MYOCARDIUM: ("LV myocardium", Code("49848007", "SCT", "Myocardium of left ventricle")),
    LV: ("LV blood pool", Code("87878005", "SCT", "Left ventricle")),
}
SERIES_NUMBERS = {"ED": 9001, "ES": 9002, "cine": 9003, "report": 9010}
SEGMENTED_FROM = Code("113076", "DCM", "Segmentation")
SOURCE_OF_PROCESSING = Code("121322", "DCM", "Source image for image processing operation")


@dataclass(frozen=True)
class Whole:
    """What an object says of more than its own moment.

    Attributes:
        labels: (X, Y, Z, T), all masks of the object: other masks are another object.
        structures: Codes that it lists, though a moment may lack one.
    """

    labels: np.ndarray
    structures: tuple[int, ...]


def segmentation(
    labels: np.ndarray,
    view: View,
    sources: Sequence[Dataset],
    name: str,
    version: str,
    *,
    edited: bool = False,
    whole: Whole | None = None,
) -> Segmentation:
    """One moment's masks.

    Args:
        labels: (X, Y, Z) on the view's grid.
        view: The view.
        sources: The images that they lie on, of one moment.
        name: ED, ES, or what else to call it.
        version: Version of this program and digests of the weights, as text.
        edited: Whether a person corrected them.
        whole: Of what they are a part; None where they are all.

    Returns:
        The object, with the patient and study of its images.

    Raises:
        CinemaError: If no image is known, one says in no frame of reference where it lies, or there is nothing in the
            masks.
    """
    if not sources:
        raise CinemaError(
            "none of the study's images lie on the grid of the masks, so that no DICOM can point to them."
        )
    if any(not image.get("FrameOfReferenceUID") for image in sources):
        raise CinemaError(
            "its images have no FrameOfReferenceUID, by which DICOM masks say where they lie: leave --dicom out."
        )
    whole = whole or Whole(labels, tuple(code for code in STRUCTURES if (labels == code).any()))
    present = whole.structures
    if not present:
        raise CinemaError(f"there is nothing in the masks at {name}, so that there is no DICOM of them.")
    numbered = np.zeros(labels.shape, dtype=np.uint8)
    for number, code in enumerate(present, start=1):
        numbered[labels == code] = number
    # DICOM counts slice, row, column; rows go along the second axis of ours.
    affine = (LPS_TO_RAS @ view.affine)[:, [2, 1, 0, 3]]
    first = sources[0]
    volume = highdicom.Volume(numbered.transpose(2, 1, 0), affine, "PATIENT", first.get("FrameOfReferenceUID"))
    masks = hashlib.sha256(np.ascontiguousarray(whole.labels).tobytes()).hexdigest()
    # What a person corrected is another object, also where its masks stayed as they were.
    entropy = [str(first.SOPInstanceUID), name, version, masks, *["corrected"] * edited]
    made = Segmentation(
        source_images=[_single(first)],
        further_source_images=[_single(image) for image in sources[1:]],
        pixel_array=volume,
        segmentation_type=SegmentationTypeValues.BINARY,
        segment_descriptions=[
            _described(number, code, version, edited) for number, code in enumerate(present, start=1)
        ],
        series_instance_uid=generate_uid(entropy_srcs=[*entropy, "series"]),
        series_number=SERIES_NUMBERS.get(name, 9003),
        sop_instance_uid=generate_uid(entropy_srcs=[*entropy, "instance"]),
        instance_number=1,
        manufacturer=MAKER,
        manufacturer_model_name=MAKER,
        software_versions=version.split()[0],
        device_serial_number="0",
        content_label="SEGMENTATION",
        content_description=f"Ventricles at {name}, for research",
        series_description=f"Ventricles, {name} ({'automatic, corrected' if edited else 'automatic'}, research)",
    )
    made.SourceImageSequence = [_reference(image) for image in sources]
    made.ReferencedSeriesSequence = _referenced(sources)
    return made


def _single(image: Dataset) -> Dataset:
    """An image as the plain one that highdicom takes: of many frames the first, as scanners leave groups out."""
    if not is_enhanced(image) and "SliceThickness" in image:
        return image
    out, places = Dataset(), list(places_of(image, 0))
    for element in image:
        if not element.keyword.endswith("FunctionalGroupsSequence"):
            out.add(copy(element))
    if is_enhanced(image):
        out.SOPClassUID = MRImageStorage
    for name, size in (("ImagePositionPatient", 3), ("ImageOrientationPatient", 6), ("PixelSpacing", 2)):
        value = vector_of(places, name, size)
        setattr(out, name, None if value is None else value.tolist())
    out.SliceThickness = number_of(places, "SliceThickness")
    return out


def _described(number: int, code: int, version: str, edited: bool) -> SegmentDescription:
    label, kind = STRUCTURES[code]
    family = codes.cid7162.ArtificialIntelligence
    return SegmentDescription(
        segment_number=number,
        segment_label=label,
        segmented_property_category=CATEGORY,
        segmented_property_type=kind,
        algorithm_type=(SegmentAlgorithmTypeValues.SEMIAUTOMATIC if edited else SegmentAlgorithmTypeValues.AUTOMATIC),
        algorithm_identification=highdicom.AlgorithmIdentificationSequence(MAKER, family, version[:64]),
    )


def phase_segmentation(
    labels: np.ndarray,
    view: View,
    originals: Originals,
    frame: int,
    name: str,
    version: str,
    *,
    edited: bool = False,
) -> Segmentation:
    """The masks of one moment of a beat, each of its frames with the image that it lies on.

    Args:
        labels: (X, Y, Z, T) on the view's grid.
        view: The view.
        originals: The images.
        frame: The moment.
        name: Of :func:`segmentation`.
        version: Of :func:`segmentation`.
        edited: Of :func:`segmentation`.

    Returns:
        The object.

    Raises:
        CinemaError: See :func:`segmentation`.
    """
    made = segmentation(labels[..., frame], view, originals.of_frame(frame), name, version, edited=edited)
    inverse = np.linalg.inv(LPS_TO_RAS @ view.affine)
    for item in made.PerFrameFunctionalGroupsSequence:
        _point_to(item, (_slice(item, inverse), frame), originals)
    return made


def cine_segmentation(
    labels: np.ndarray,
    view: View,
    originals: Originals,
    frames: Sequence[int],
    version: str,
    *,
    edited: bool = False,
) -> Dataset:
    """The masks of a beat in one object, each of its frames with slice, moment and the image that it lies on.

    Args:
        labels: (X, Y, Z, T) on the view's grid.
        view: The view.
        originals: The images.
        frames: Moments that were segmented.
        version: Of :func:`segmentation`.
        edited: Of :func:`segmentation`.

    Returns:
        The merged object.

    Raises:
        CinemaError: See :func:`segmentation`.
    """
    kept = [frame for frame in frames if originals.of_frame(frame) and (labels[..., frame] > 0).any()]
    if not kept:
        raise CinemaError("there is nothing in the masks, so that there is no DICOM of them.")
    # All moments have all structures under the same numbers, also where one is not to be seen.
    whole = Whole(labels[..., kept], tuple(code for code in STRUCTURES if (labels[..., kept] == code).any()))
    parts = [
        segmentation(labels[..., frame], view, originals.of_frame(frame), "cine", version, edited=edited, whole=whole)
        for frame in kept
    ]
    return _merged(parts, kept, originals, view)


def _merged(parts: Sequence[Segmentation], moments: Sequence[int], originals: Originals, view: View) -> Dataset:
    out: Any = parts[0]
    pixels, items = [], []
    inverse = np.linalg.inv(LPS_TO_RAS @ view.affine)
    for moment, part in zip(moments, parts, strict=True):
        pixels.append(part.pixel_array.reshape(-1, part.Rows, part.Columns))
        for item in part.PerFrameFunctionalGroupsSequence:
            _place(item, _slice(item, inverse), moment)
            _point_to(item, (_slice(item, inverse), moment), originals)
            items.append(item)
    out.PerFrameFunctionalGroupsSequence = Items(items)
    frames = np.concatenate(pixels)
    out.NumberOfFrames = len(frames)
    packed = np.packbits(frames.astype(bool).ravel(), bitorder="little").tobytes()
    out.PixelData = packed + b"\0" * (len(packed) % 2)
    out.DimensionIndexSequence = Items([_index(out, *pointer) for pointer in _POINTERS])
    used = each_once(image for place, image in originals.images.items() if place[1] in set(moments))
    out.ReferencedSeriesSequence = Items(_referenced(used))
    return out


_POINTERS = (
    (0x0062000B, 0x0062000A, "Segment Number"),
    (0x00209057, 0x00209111, "In-Stack Position Number"),
    (0x00209128, 0x00209111, "Temporal Position Index"),
)


def _index(whole: Dataset, pointer: int, group: int, label: str) -> Dataset:
    item = Dataset()
    item.DimensionIndexPointer = pointer
    item.FunctionalGroupPointer = group
    item.DimensionOrganizationUID = whole.DimensionOrganizationSequence[0].DimensionOrganizationUID
    item.DimensionDescriptionLabel = label
    return item


def _slice(item: Dataset, inverse: np.ndarray) -> int:
    """Index along the stack of a frame."""
    return round(float((inverse @ [*map(float, item.PlanePositionSequence[0].ImagePositionPatient), 1])[2]))


def _place(item: Dataset, z: int, moment: int) -> None:
    """Says of a frame which slice and moment it is."""
    content, number = item.FrameContentSequence[0], item.SegmentIdentificationSequence[0].ReferencedSegmentNumber
    content.StackID = "1"
    content.InStackPositionNumber = z + 1
    content.TemporalPositionIndex = moment + 1
    content.DimensionIndexValues = [int(number), z + 1, moment + 1]


def _point_to(item: Dataset, place: tuple[int, int], originals: Originals) -> None:
    """Says of a frame on which image it lies."""
    source = originals.images.get(place)
    if source is None:
        return
    image = _reference(source)
    if place in originals.frames:
        image.ReferencedFrameNumber = originals.frames[place]
    image.PurposeOfReferenceCodeSequence = Items([_coded(SOURCE_OF_PROCESSING)])
    image.SpatialLocationsPreserved = "YES"
    derivation = Dataset()
    derivation.SourceImageSequence = Items([image])
    derivation.DerivationCodeSequence = Items([_coded(SEGMENTED_FROM)])
    item.DerivationImageSequence = Items([derivation])


def _referenced(images: Sequence[Dataset]) -> list[Dataset]:
    """Each series with its images."""
    series: dict[str, list[Dataset]] = {}
    for image in images:
        series.setdefault(str(image.SeriesInstanceUID), []).append(_reference(image))
    out = []
    for uid, members in series.items():
        item = Dataset()
        item.SeriesInstanceUID = uid
        item.ReferencedInstanceSequence = Items(members)
        out.append(item)
    return out


def _reference(image: Dataset) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = image.SOPClassUID
    item.ReferencedSOPInstanceUID = image.SOPInstanceUID
    return item


def _coded(code: Any) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = code.value, code.scheme_designator, code.meaning
    return item
