"""Compressed DICOM pixels by SimpleITK, where pydicom has no decoder of its own.

pydicom takes plug-ins: this module is one. It hands each compressed frame to SimpleITK (GDCM) in a DICOM file of its
own that says nothing but how the pixels are packed, so that place, rescaling and the number of frames stay pydicom's.
"""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

# Transfer syntaxes that GDCM reads; the names that pydicom has for them.
SYNTAXES = (
    *("JPEGBaseline8Bit", "JPEGExtended12Bit", "JPEGLossless", "JPEGLosslessSV1", "JPEGLSLossless"),
    *("JPEGLSNearLossless", "JPEG2000Lossless", "JPEG2000"),
)
# pydicom asks for this mapping where a plug-in cannot be used.
DECODER_DEPENDENCIES: dict[str, tuple[str, ...]] = {}


@cache
def register() -> None:
    """Makes the decoder known to pydicom, behind the others; once for each process."""
    from pydicom import uid
    from pydicom.pixels import get_decoder

    for name in SYNTAXES:
        get_decoder(getattr(uid, name)).add_plugin("simpleitk", (__name__, "_decode_frame"))


def is_available(uid: str) -> bool:
    """Whether a transfer syntax can be decoded; pydicom asks this of a plug-in."""
    from pydicom import uid as uids

    return uid in [getattr(uids, name) for name in SYNTAXES]


def _decode_frame(src: bytes, runner: Any) -> bytes:
    """One compressed frame to bytes of ``bits_allocated`` a sample; pydicom calls it."""
    import SimpleITK

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "frame.dcm"
        _packed(src, runner).save_as(path, enforce_file_format=True)
        SimpleITK.ProcessObject.SetGlobalWarningDisplay(False)
        pixels = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path), imageIO="GDCMImageIO"))
    sign = "i" if runner.pixel_representation else "u"
    return pixels.astype(np.dtype(f"<{sign}{runner.bits_allocated // 8}")).tobytes()


def _packed(src: bytes, runner: Any) -> Any:
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.encaps import encapsulate
    from pydicom.uid import MRImageStorage, generate_uid

    out = Dataset()
    out.file_meta = FileMetaDataset()
    out.file_meta.TransferSyntaxUID = runner.transfer_syntax
    out.SOPClassUID = out.file_meta.MediaStorageSOPClassUID = MRImageStorage
    out.SOPInstanceUID = out.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    out.Rows, out.Columns = runner.rows, runner.columns
    out.SamplesPerPixel = runner.samples_per_pixel
    out.PhotometricInterpretation = str(runner.photometric_interpretation)
    out.BitsAllocated, out.BitsStored, out.HighBit = runner.bits_allocated, runner.bits_stored, runner.bits_stored - 1
    out.PixelRepresentation = runner.pixel_representation
    out.PixelData = encapsulate([src])
    out["PixelData"].VR = "OB"
    return out
