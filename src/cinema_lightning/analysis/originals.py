"""The images of a study that its masks lie on, for what goes back to the archive."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pydicom
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.valuerep import DA, TM

from cinema_lightning.analysis.sources import Source
from cinema_lightning.analysis.values import View
from cinema_lightning.imaging.dicom_file import places_of, vector_of
from cinema_lightning.imaging.geometry import LPS_TO_RAS, directions_from_cosines

# How far a pixel may lie from the voxel whose mask it gets: pixels in plane, slices along the normal.
IN_PLANE, ALONG = 0.5, 0.3
PARALLEL = 0.998
MOMENTS = {"DA": DA, "TM": TM}
ENCODINGS = re.compile(r"|ISO_IR (100|101|109|110|144|127|126|138|148|203|13|166|192)|GB18030|GBK")
"""How writers take text: in one set of characters, without the code extensions of Japan and Korea."""
ALWAYS = (
    *(
        "PatientName",
        "PatientID",
        "PatientBirthDate",
        "PatientSex",
        "AccessionNumber",
        "StudyID",
        "StudyDate",
        "StudyTime",
    ),
    "ReferringPhysicianName",
)
"""Attributes that DICOM asks of every object, if only empty."""


@dataclass(frozen=True)
class Originals:
    """Which image shows which slice at which moment.

    Attributes:
        images: (slice, frame) -> headers of the image; slices that were filled or resampled have none.
        frames: (slice, frame) -> number of the frame, from 1, where the image holds several.
    """

    images: Mapping[tuple[int, int], Dataset]
    frames: Mapping[tuple[int, int], int] = field(default_factory=dict)

    def of_frame(self, frame: int) -> list[Dataset]:
        """Images of one moment, along the stack, each once."""
        return each_once(image for (_, t), image in sorted(self.images.items(), key=lambda item: item[0]) if t == frame)

    @property
    def all(self) -> list[Dataset]:
        """All images, each once."""
        return each_once(self.images.values())


def each_once(images: Iterable[Dataset]) -> list[Dataset]:
    """Images by what they are called, in their order."""
    return list({str(image.SOPInstanceUID): image for image in images}.values())


def find_originals(sources: Iterable[Source], view: View) -> Originals:
    """Finds the images that a view was read from: the very ones, whatever else lies at their place.

    Args:
        sources: Files of the study.
        view: The view on whose grid the masks lie.

    Returns:
        The images whose pixels are the view's voxels, their headers without pixels; dates and times that are none
        are blank, since no writer takes them.
    """
    wanted = {number for number, _ in view.files.values()}
    headers = {source.number: _read(source) for source in sources if source.number in wanted}
    inverse = np.linalg.inv(view.affine)
    images, frames = {}, {}
    for place, (number, frame) in view.files.items():
        image = headers.get(number)
        if image is None or not _is_at(place[0], list(places_of(image, frame - 1)), view, inverse):
            continue
        images[place] = image
        if int(image.get("NumberOfFrames") or 1) > 1:
            frames[place] = frame
    return Originals(images, frames)


def is_enhanced(image: Dataset) -> bool:
    """Whether an image holds frames with functional groups of their own."""
    return "PerFrameFunctionalGroupsSequence" in image or "SharedFunctionalGroupsSequence" in image


def _read(source: Source) -> Dataset:
    with source.open() as file:
        return _complete(pydicom.dcmread(file, stop_before_pixels=True, force=True))


def _is_at(z: int, places: list[Any], view: View, inverse: np.ndarray) -> bool:
    """Whether the pixels of an image are the view's voxels of a slice."""
    position, cosines = vector_of(places, "ImagePositionPatient", 3), vector_of(places, "ImageOrientationPatient", 6)
    size = tuple(places[-1].get(name) for name in ("Columns", "Rows"))
    if position is None or cosines is None or size != view.frames.shape[:2]:
        return False
    axes = (LPS_TO_RAS[:3, :3] @ directions_from_cosines(cosines.tolist()))[:, :2]
    own = view.affine[:3, :2] / np.linalg.norm(view.affine[:3, :2], axis=0)
    if (axes * own).sum(axis=0).min() < PARALLEL:
        return False
    x, y, there = (inverse @ LPS_TO_RAS @ [*position, 1])[:3]
    return bool(max(abs(x), abs(y)) < IN_PLANE and abs(there - z) < ALONG)


def _complete(image: Dataset) -> Dataset:
    """The headers as writers take them: blanks for values that are none of their kind, and what every study says."""
    for element in image:
        if element.VR in MOMENTS and element.value and not _is_moment(element):
            element.value = ""
    for name in ALWAYS:
        if name not in image:
            setattr(image, name, "")
    if image.PatientSex not in ("M", "F", "O"):
        image.PatientSex = ""
    encoding = image.get("SpecificCharacterSet") or ""
    if not (isinstance(encoding, str) and ENCODINGS.fullmatch(encoding)):  # text was decoded, and is encoded anew
        image.SpecificCharacterSet = "ISO_IR 192"
    return image


def _is_moment(element: DataElement) -> bool:
    try:
        return MOMENTS[element.VR](str(element.value)) is not None
    except ValueError:
        return False
