"""The images of a study that its masks lie on, for what goes back to the archive."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pydicom
from pydicom.dataset import Dataset

from cinema_lightning.analysis.sources import Source
from cinema_lightning.analysis.values import View
from cinema_lightning.imaging.geometry import LPS_TO_RAS, directions_from_cosines

# How far a pixel may lie from the voxel whose mask it gets: pixels in plane, slices along the normal.
IN_PLANE, ALONG = 0.5, 0.3
PARALLEL = 0.998
DATE = re.compile(r"\d{4}(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])")
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
    """

    images: Mapping[tuple[int, int], Dataset]

    def of_frame(self, frame: int) -> list[Dataset]:
        """Images of one moment, along the stack."""
        return [image for (_, t), image in sorted(self.images.items(), key=lambda item: item[0]) if t == frame]

    @property
    def all(self) -> list[Dataset]:
        """All images, each once."""
        return list({str(image.SOPInstanceUID): image for image in self.images.values()}.values())


def find_originals(sources: Iterable[Source], view: View) -> Originals:
    """Finds the images of a view by where their pixels lie, and by their moment in the beat.

    Args:
        sources: Files of the study; those that are no DICOM are passed over.
        view: The view on whose grid the masks lie.

    Returns:
        The images, their headers without pixels; dates that are none are blank, since no writer takes them.
    """
    found: dict[tuple[int, str], list[Dataset]] = defaultdict(list)
    inverse = np.linalg.inv(view.affine)
    for source in sources:
        with source.open() as file:
            try:
                image = pydicom.dcmread(file, stop_before_pixels=True)
            except (pydicom.errors.InvalidDicomError, EOFError, ValueError):
                continue
        place = _slice_of(image, view, inverse)
        if place is not None:
            found[place, str(image.get("SeriesInstanceUID", ""))].append(_complete(image))
    images: dict[tuple[int, int], Dataset] = {}
    for z in {place for place, _ in found}:
        images |= _frames_of([series for (place, _), series in found.items() if place == z], z, view.n_frames)
    return Originals(images)


def _slice_of(image: Dataset, view: View, inverse: np.ndarray) -> int | None:
    """Index along the stack of an image whose pixels are the view's voxels; None of any other."""
    position, cosines, spacing = (
        image.get(name) for name in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing")
    )
    if not (position and cosines and spacing) or (image.get("Columns"), image.get("Rows")) != view.frames.shape[:2]:
        return None
    axes = (LPS_TO_RAS[:3, :3] @ directions_from_cosines(cosines))[:, :2]
    own = view.affine[:3, :2] / np.linalg.norm(view.affine[:3, :2], axis=0)
    if (axes * own).sum(axis=0).min() < PARALLEL:
        return None
    x, y, z = (inverse @ LPS_TO_RAS @ [*map(float, position), 1])[:3]
    place = round(z)
    inside = 0 <= place < view.frames.shape[2]
    return place if inside and max(abs(x), abs(y)) < IN_PLANE and abs(z - place) < ALONG else None


def _frames_of(series: Sequence[list[Dataset]], z: int, n_frames: int) -> dict[tuple[int, int], Dataset]:
    """Frames of the series that has as many as the view, of several the later; frames in the order of their moments."""
    whole = [images for images in series if len(images) == n_frames]
    if not whole:
        return {}
    last = max(whole, key=lambda images: max(_acquired(image) for image in images))
    ordered = sorted(
        last, key=lambda image: (float(image.get("TriggerTime") or 0), int(image.get("InstanceNumber") or 0))
    )
    return {(z, frame): image for frame, image in enumerate(ordered)}


def _acquired(image: Dataset) -> str:
    return "".join(
        str(image.get(f"Acquisition{part}") or image.get(f"Series{part}") or "") for part in ("Date", "Time")
    )


def _complete(image: Dataset) -> Dataset:
    """The headers with blanks in the place of dates that are none, and of what every study has to say."""
    for element in image:
        if element.VR == "DA" and element.value and not DATE.fullmatch(str(element.value)):
            element.value = ""
    for name in ALWAYS:
        if name not in image:
            setattr(image, name, "")
    return image
