"""Cine series as DICOM files, one frame each, with the geometry in the header."""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO
from typing import Any

import numpy as np

from cinema_lightning.data.draws import generator
from cinema_lightning.imaging.geometry import LPS_TO_RAS
from cinema_lightning.phantom.subject import Subject

BEAT = 960.0  # ms
UID_ROOT = "1.2.826.0.1.3680043.8.498."  # the root that pydicom lends to anyone


def uid(seed: int, *key: str | int) -> str:
    """A DICOM UID that depends on nothing but its key."""
    return UID_ROOT + str(int(generator(seed, "phantom", "uid", *key).integers(10**17, 10**18)))


def geometry(affine: np.ndarray, z: int = 0) -> dict[str, list[float]]:
    """Position, orientation and pixel size of one slice as header fields.

    Args:
        affine: (4, 4), voxel to RAS mm.
        z: Slice.

    Returns:
        ImagePositionPatient, ImageOrientationPatient (LPS, row first) and PixelSpacing (distance of rows first).
    """
    lps = LPS_TO_RAS @ affine
    spacing = np.linalg.norm(lps[:3, :2], axis=0)
    cosines = (lps[:3, :2] / spacing).T.ravel()
    position = lps[:3, 3] + z * lps[:3, 2]
    return {
        "ImagePositionPatient": _decimals(position),
        "ImageOrientationPatient": _decimals(cosines),
        "PixelSpacing": _decimals(spacing[::-1]),
    }


def _decimals(values: np.ndarray) -> list[float]:
    # A decimal string has 16 characters.
    return [float(f"{value:.9f}") for value in values]


def patient(subject: Subject, name: str, study: str, vendor: str) -> dict[str, Any]:
    """Header fields of a person and an examination.

    Args:
        subject: The subject.
        name: Patient id.
        study: StudyInstanceUID.
        vendor: Manufacturer.
    """
    return {
        "PatientID": name,
        "PatientName": name,
        "PatientSex": subject.sex,
        "PatientAge": f"{int(subject.age):03d}Y",
        "PatientSize": subject.height,
        "PatientWeight": subject.weight,
        "QualityControlSubject": "YES",  # how DICOM says that it is a phantom
        "StudyInstanceUID": study,
        "StudyDate": "20150830",
        "Manufacturer": vendor,
        "Modality": "MR",
    }


def frame_bytes(pixels: np.ndarray, tags: dict[str, Any], *, compressed: bool = False) -> bytes:
    """One DICOM file.

    Args:
        pixels: (X, Y) uint16, or (X, Y, 3) uint8 for a coloured picture.
        tags: Header fields by keyword; SOPInstanceUID must be among them. None leaves a field out.
        compressed: Run-length encoding instead of plain values.

    Returns:
        The file's bytes.
    """
    import pydicom
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, RLELossless, SecondaryCaptureImageStorage

    coloured = pixels.ndim == 3
    header = pydicom.Dataset()
    header.file_meta = FileMetaDataset()
    header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    header.SOPClassUID = SecondaryCaptureImageStorage if coloured else MRImageStorage
    for name, value in tags.items():
        if value is not None:
            setattr(header, name, value)
    header.file_meta.MediaStorageSOPClassUID = header.SOPClassUID
    header.file_meta.MediaStorageSOPInstanceUID = header.SOPInstanceUID
    rows = np.ascontiguousarray(np.swapaxes(pixels, 0, 1))
    header.Rows, header.Columns = rows.shape[:2]
    header.SamplesPerPixel, header.PhotometricInterpretation = (3, "RGB") if coloured else (1, "MONOCHROME2")
    if coloured:
        header.PlanarConfiguration = 0
    bits = 8 if coloured else 16
    header.BitsAllocated, header.PixelRepresentation = bits, 0
    header.BitsStored = 8 if coloured else 12
    header.HighBit = header.BitsStored - 1
    header.PixelData = rows.tobytes()
    if compressed:
        header.compress(RLELossless, generate_instance_uid=False)
    buffer = BytesIO()
    header.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def cine_files(frames: np.ndarray, tags: dict[str, Any], *, compressed: bool = False) -> Iterator[bytes]:
    """One slice's cine as DICOM files.

    Args:
        frames: (T, X, Y) uint16.
        tags: Header fields of the series, with SeriesInstanceUID; one with the value None is left out. Frames get
            SOPInstanceUID, InstanceNumber, TriggerTime and CardiacNumberOfImages.
        compressed: Run-length encoding instead of plain values.

    Yields:
        Bytes of each frame.
    """
    series = tags.get("SeriesInstanceUID") or f"{tags['StudyInstanceUID']}.{tags.get('SeriesNumber', 0)}"
    for number, frame in enumerate(frames, start=1):
        own = {
            "SOPInstanceUID": f"{series}.{number}",
            "InstanceNumber": number,
            "TriggerTime": round(BEAT / len(frames) * (number - 1), 3),
            "CardiacNumberOfImages": len(frames),
            "NominalInterval": BEAT,
        }
        yield frame_bytes(frame, own | tags, compressed=compressed)
