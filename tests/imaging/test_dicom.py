import numpy as np
import pydicom
import pytest
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, RLELossless

from cinema_lightning.errors import CinemaError
from cinema_lightning.imaging.dicom import read_cine
from cinema_lightning.imaging.dicom_file import DicomFile
from cinema_lightning.imaging.stack import single


def _file(path, pixels: np.ndarray, **tags) -> DicomFile:
    header = pydicom.Dataset()
    header.file_meta = FileMetaDataset()
    header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    header.file_meta.MediaStorageSOPClassUID = header.SOPClassUID = MRImageStorage
    header.file_meta.MediaStorageSOPInstanceUID = header.SOPInstanceUID = "1.2.3"
    header.PixelSpacing, header.ImagePositionPatient = [2.0, 1.5], [1.0, 2.0, 3.0]
    header.ImageOrientationPatient = [0.0, 1.0, 0.0, 0.0, 0.0, 1.0]
    for name, value in tags.items():
        setattr(header, name, value)
    header.Rows, header.Columns = pixels.T.shape
    header.SamplesPerPixel, header.PhotometricInterpretation = 1, "MONOCHROME2"
    header.BitsAllocated, header.BitsStored, header.HighBit, header.PixelRepresentation = 16, 16, 15, 0
    header.PixelData = np.ascontiguousarray(pixels.T.astype(np.uint16)).tobytes()
    if path.stem.startswith("rle"):
        header.compress(RLELossless)
    header.save_as(path, enforce_file_format=True)
    return DicomFile.from_path(path)


PIXELS = np.arange(12 * 9).reshape(12, 9)


@pytest.mark.parametrize("kind", ["plain", "rle"])
def test_pixels_and_geometry(tmp_path, kind):
    cine = read_cine([_file(tmp_path / f"{kind} é.dcm", PIXELS, SliceThickness=6.0)], "slice")
    np.testing.assert_array_equal(cine.frames[0], PIXELS)
    assert cine.spacing == (1.5, 2.0)
    frames, affine = single(cine)
    assert frames.shape == (1, 12, 9, 1)
    # LPS columns: x along +y, y along +z, normal along +x; RAS turns the signs of the first two axes.
    np.testing.assert_allclose(affine, [[0, 0, -6, -1], [-1.5, 0, 0, -2], [0, 2, 0, 3], [0, 0, 0, 1]], atol=1e-12)


def test_rescale_slope_is_applied(tmp_path):
    cine = read_cine([_file(tmp_path / "a.dcm", PIXELS, RescaleSlope="2", RescaleIntercept="-5")], "slice")
    np.testing.assert_allclose(cine.frames[0], PIXELS * 2 - 5)


def test_frames_of_other_places_or_sizes(tmp_path):
    files = [_file(tmp_path / f"{n}.dcm", PIXELS, TriggerTime=float(n)) for n in range(3)]
    odd = _file(tmp_path / "odd.dcm", PIXELS[:5], TriggerTime=9.0)
    cine = read_cine([*files, odd], "slice")
    assert cine.frames.shape == (3, 12, 9)
    assert "left out slice/odd.dcm (1 frames of 5 x 9 pixels)" in cine.warnings[0]
    moved = _file(tmp_path / "moved.dcm", PIXELS, TriggerTime=9.0, ImagePositionPatient=[1.0, 2.0, 9.0])
    with pytest.raises(CinemaError, match="several places"):
        read_cine([*files, moved], "slice")


def test_more_frames_than_there_should_be(tmp_path):
    """A repeated acquisition under one UID: the later files count."""
    files = []
    for take in range(2):
        for n in range(3):
            tags = {"TriggerTime": float(n), "CardiacNumberOfImages": 3}
            files.append(_file(tmp_path / f"{take}{n}.dcm", PIXELS + take, **tags))
    cine = read_cine(files, "slice")
    np.testing.assert_array_equal(cine.frames, np.stack([PIXELS + 1] * 3))
    assert "2 acquisitions: left out slice/00.dcm (3 frames of 12 x 9 pixels)" in cine.warnings[0]
