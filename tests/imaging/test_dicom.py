import numpy as np
import pydicom
import pytest
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, RLELossless

from cinema_lightning.errors import CinemaError
from cinema_lightning.imaging.dicom import Cine, DicomFile, read_cine
from cinema_lightning.imaging.stack import single, stack


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
    assert "odd.dcm is (5, 9) pixels" in cine.warnings[0]
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
    assert "6 frames for 3" in cine.warnings[0]


def _slice(z: float, shape=(2, 8, 8), between=None, directions=None, x=0.0) -> tuple[str, Cine]:
    cine = Cine(
        np.ones(shape),
        np.array([x, 0.0, z]),
        np.eye(3) if directions is None else directions,
        (1.0, 1.0),
        between,
        None,
    )
    return f"z{z:g}", cine


def test_stack_keeps_the_longest_equidistant_run():
    slices = [_slice(z) for z in (0, 10, 13, 20, 30, 47, 57)]
    frames, affine, warnings = stack(slices)
    assert frames.shape == (2, 8, 8, 4)
    assert affine[2, 2] == pytest.approx(10)
    assert [warning.split()[0] for warning in warnings] == ["z13", "z47", "z57"]


def test_stack_leaves_other_sizes_and_directions_out():
    turned = np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0.0]])
    frames, _, warnings = stack(
        [_slice(0), _slice(10), _slice(20, (2, 9, 8)), _slice(20), _slice(30, directions=turned), _slice(30)]
    )
    assert frames.shape == (2, 8, 8, 4)
    assert len(warnings) == 2


def test_stack_believes_the_header_unless_the_positions_say_otherwise():
    assert stack([_slice(0, between=9.9), _slice(10, between=9.9)])[1][2, 2] == pytest.approx(9.9)
    _, affine, warnings = stack([_slice(0, between=6), _slice(10, between=6)])
    assert affine[2, 2] == pytest.approx(10)
    assert "SpacingBetweenSlices says 6 mm, the positions 10.00 mm" in warnings[0]


def test_stack_of_one_or_none():
    assert stack([_slice(0, between=8.0)])[1][2, 2] == pytest.approx(8)
    with pytest.raises(CinemaError, match="one SAX slice"):
        stack([_slice(0)])
    with pytest.raises(CinemaError, match="no readable SAX slice"):
        stack([])
