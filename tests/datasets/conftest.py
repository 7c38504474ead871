"""Writers of tiny raw files that several readers' tests share."""

from pathlib import Path

import numpy as np
import pytest


def _dicom(path: Path, pixels: np.ndarray, *, position=(0.0, 0.0, 0.0), orientation=(1, 0, 0, 0, 1, 0), **tags) -> Path:
    """Writes one frame, ``pixels`` as (x, y); ``tags`` replace the usual ones, None leaves a tag out."""
    import pydicom
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid

    header = pydicom.Dataset()
    header.file_meta = FileMetaDataset()
    header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    header.file_meta.MediaStorageSOPClassUID = header.SOPClassUID = MRImageStorage
    header.file_meta.MediaStorageSOPInstanceUID = header.SOPInstanceUID = generate_uid()
    usual = {
        "SeriesInstanceUID": "1.2.3.1",
        "PixelSpacing": [1.0, 1.0],
        "SliceThickness": 8.0,
        "ImagePositionPatient": [float(value) for value in position],
        "ImageOrientationPatient": [float(value) for value in orientation],
    }
    for name, value in {**usual, **tags}.items():
        if value is not None:
            setattr(header, name, value)
    array = np.ascontiguousarray(pixels.T.astype(np.uint16))
    header.Rows, header.Columns = array.shape
    header.SamplesPerPixel, header.PhotometricInterpretation = 1, "MONOCHROME2"
    header.BitsAllocated, header.BitsStored, header.HighBit, header.PixelRepresentation = 16, 16, 15, 0
    header.PixelData = array.tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    header.save_as(path, enforce_file_format=True)
    return path


@pytest.fixture
def write_dicom():
    return _dicom


# Three planes that meet in the point (10, 20, 30), LPS: image axes and the axis along which slices lie.
PLANES = {
    "sax": ((1, 0, 0), (0, 1, 0)),
    "2ch": ((0, 1, 0), (0, 0, 1)),
    "4ch": ((1, 0, 0), (0, 0, 1)),
}


@pytest.fixture
def write_cine(write_dicom):
    """Writes a cine of one slice into a folder: plane name, size, z (SAX) or the meeting point in the middle."""

    def write(folder: Path, plane: str, *, size=(20, 24), frames=4, z=30.0, seed=0, skip=(), **tags) -> Path:
        rng = np.random.default_rng(seed)
        row, column = (np.array(axis, float) for axis in PLANES[plane])
        centre = np.array([10.0, 20.0, z if plane == "sax" else 30.0])
        spacing = tags.get("PixelSpacing", [1.0, 1.0])
        position = centre - row * spacing[1] * (size[0] - 1) / 2 - column * spacing[0] * (size[1] - 1) / 2
        for frame in range(frames):
            pixels = rng.integers(1, 900, size)
            if frame not in skip:
                path = folder / f"IM-{frame + 1:04d}.dcm"
                timed = {"TriggerTime": 30.0 * frame, "CardiacNumberOfImages": frames, **tags}
                write_dicom(path, pixels, position=position, orientation=(*row, *column), **timed)
        return folder

    return write


@pytest.fixture
def write_nifti():
    import nibabel as nib

    def write(path: Path, array: np.ndarray, spacing=(1.25, 1.25, 10.0)) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        nib.save(nib.Nifti1Image(array, np.diag([-spacing[0], -spacing[1], spacing[2], 1.0])), path)
        return path

    return write
