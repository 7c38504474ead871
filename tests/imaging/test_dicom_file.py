"""Files that are encoded here in each of the ways that scanners and archives have, read back to the same voxels."""

from io import BytesIO

import numpy as np
import pydicom
import pytest
import SimpleITK
from pydicom import uid
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.pixels import get_decoder
from pydicom.sequence import Sequence

from cinema_lightning.errors import CinemaError
from cinema_lightning.imaging import decoders
from cinema_lightning.imaging.dicom_file import DicomFile, read_files, read_images

RNG = np.random.default_rng(0)
# Smooth with noise, 12 bits, and the extremes; (Y, X).
PIXELS = (np.add.outer(np.arange(30) * 60, np.arange(40) * 40) + RNG.integers(0, 300, (30, 40))).astype(np.uint16)
PIXELS[0, 0], PIXELS[-1, -1] = 4095, 0
SIGNED = PIXELS.astype(np.int16) - 2000


def _header(pixels: np.ndarray, syntax=uid.ExplicitVRLittleEndian, **tags) -> Dataset:
    header = Dataset()
    header.file_meta = FileMetaDataset()
    header.file_meta.TransferSyntaxUID = syntax
    header.file_meta.MediaStorageSOPClassUID = header.SOPClassUID = uid.MRImageStorage
    header.file_meta.MediaStorageSOPInstanceUID = header.SOPInstanceUID = "1.2.3"
    header.Modality, header.SeriesInstanceUID = "MR", "1.2.4"
    header.PixelSpacing, header.ImagePositionPatient = [2.0, 1.5], [1.0, 2.0, 3.0]
    header.ImageOrientationPatient = [0.0, 1.0, 0.0, 0.0, 0.0, 1.0]
    header.Rows, header.Columns = pixels.shape[-2:]
    header.SamplesPerPixel, header.PhotometricInterpretation = 1, "MONOCHROME2"
    header.BitsAllocated, header.BitsStored, header.HighBit = 16, 16, 15
    header.PixelRepresentation = int(pixels.dtype.kind == "i")
    header.PixelData = pixels.tobytes()
    header["PixelData"].VR = "OW"
    for name, value in tags.items():
        setattr(header, name, value)
    return header


def _bytes(header: Dataset, **how) -> bytes:
    buffer = BytesIO()
    header.save_as(buffer, **{"enforce_file_format": True} | how)
    return buffer.getvalue()


def _read(data: bytes | Dataset, name="IM-0001.dcm"):
    data = data if isinstance(data, bytes) else _bytes(data)
    return read_images(DicomFile(name, lambda: data))


def _compressed(pixels: np.ndarray, compressor: str, folder) -> Dataset:
    """The header of the plain file with pixels that another library has compressed."""
    if compressor == "JPEGLS":  # which GDCM reads, but does not write here
        pytest.importorskip("jpeg_ls")
        out = _header(pixels)
        out.compress(uid.JPEGLSLossless)
        return out
    path = str(folder / "itk.dcm")
    writer = SimpleITK.ImageFileWriter()
    writer.SetFileName(path)
    writer.SetUseCompression(True)
    writer.SetCompressor(compressor)
    writer.Execute(SimpleITK.GetImageFromArray(pixels[None]))
    made = pydicom.dcmread(path)
    assert made.file_meta.TransferSyntaxUID.is_compressed
    out = _header(pixels, made.file_meta.TransferSyntaxUID, BitsStored=made.BitsStored, HighBit=made.HighBit)
    out.PixelData = encapsulate([next(generate_frames(made.PixelData, number_of_frames=1))])
    out["PixelData"].VR = "OB"
    return out


@pytest.fixture(params=["first decoder", "ours"])
def decoder(request, monkeypatch):
    """Whichever decoder pydicom finds first on this machine, and the one that is always there."""

    def choose(syntax):
        if request.param == "ours":
            decoders.register()
            known = get_decoder(syntax)._available
            monkeypatch.setattr(get_decoder(syntax), "_available", {"simpleitk": known["simpleitk"]})

    return choose


@pytest.mark.parametrize("pixels", [PIXELS, SIGNED], ids=["unsigned", "signed"])
@pytest.mark.parametrize(
    ("compressor", "syntax"),
    [
        ("JPEG", uid.JPEGLosslessSV1),
        ("JPEG", uid.JPEGLossless),
        ("JPEGLS", uid.JPEGLSLossless),
        ("JPEG2000", uid.JPEG2000Lossless),
    ],
)
def test_compressed_pixels_are_the_plain_ones(tmp_path, decoder, compressor, syntax, pixels):
    decoder(syntax)
    header = _compressed(pixels, compressor, tmp_path)
    header.file_meta.TransferSyntaxUID = syntax
    (image,) = _read(header)
    np.testing.assert_array_equal(image.pixels, pixels.T)
    assert image.spacing == (1.5, 2.0)


@pytest.mark.parametrize("pixels", [PIXELS, SIGNED], ids=["unsigned", "signed"])
@pytest.mark.parametrize(
    "syntax",
    [
        uid.ExplicitVRLittleEndian,
        uid.ImplicitVRLittleEndian,
        uid.ExplicitVRBigEndian,
        uid.DeflatedExplicitVRLittleEndian,
        uid.RLELossless,
    ],
)
def test_other_syntaxes(syntax, pixels):
    header = _header(pixels, syntax)
    if syntax == uid.RLELossless:
        header.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
        header.compress(uid.RLELossless)
    if syntax == uid.ExplicitVRBigEndian:
        header.PixelData = pixels.byteswap().tobytes()
    np.testing.assert_array_equal(_read(header)[0].pixels, pixels.T)


@pytest.mark.parametrize("syntax", [uid.ImplicitVRLittleEndian, uid.ExplicitVRLittleEndian, uid.ExplicitVRBigEndian])
@pytest.mark.parametrize("meta", [True, False])
def test_without_preamble(syntax, meta):
    header = _header(PIXELS, syntax)
    if syntax == uid.ExplicitVRBigEndian:
        header.PixelData = PIXELS.byteswap().tobytes()
    data = _bytes(header)
    start = 132 if meta else 132 + 12 + pydicom.dcmread(BytesIO(data)).file_meta.FileMetaInformationGroupLength
    np.testing.assert_array_equal(_read(data[start:])[0].pixels, PIXELS.T)


def test_bits_beside_the_stored_ones():
    """An overlay in the upper bits, and values that end above the lowest bit."""
    overlay = PIXELS | (RNG.integers(0, 2, PIXELS.shape) << 15).astype(np.uint16)
    header = _header(overlay, BitsStored=12, HighBit=11)
    np.testing.assert_array_equal(_read(header)[0].pixels, PIXELS.T)
    high = (PIXELS << 4) | RNG.integers(0, 16, PIXELS.shape).astype(np.uint16)
    np.testing.assert_array_equal(_read(_header(high, BitsStored=12, HighBit=15))[0].pixels, PIXELS.T)
    signed = (SIGNED << 2).astype(np.int16)
    np.testing.assert_array_equal(_read(_header(signed, BitsStored=14, HighBit=15))[0].pixels, SIGNED.T)


def test_grey_levels_are_what_was_measured():
    header = _header(PIXELS, RescaleSlope="2.5", RescaleIntercept="-7")
    np.testing.assert_allclose(_read(header)[0].pixels, PIXELS.T * 2.5 - 7)
    dark = _header(4095 - PIXELS, PhotometricInterpretation="MONOCHROME1", BitsStored=12, HighBit=11)
    np.testing.assert_array_equal(_read(dark)[0].pixels, PIXELS.T)
    dark = _header(-1 - SIGNED, PhotometricInterpretation="MONOCHROME1")
    np.testing.assert_array_equal(_read(dark)[0].pixels, SIGNED.T)
    with pytest.raises(CinemaError, match="RescaleSlope is 0"):
        _read(_header(PIXELS, RescaleSlope="0"))


def _group(**sequences) -> Dataset:
    out = Dataset()
    for name, values in sequences.items():
        item = Dataset()
        for tag, value in values.items():
            setattr(item, tag, value)
        setattr(out, name, Sequence([item]))
    return out


def _enhanced(cardiac: str) -> Dataset:
    """Two slices of three phases, stored phase by phase; ``cardiac`` says in which group the time stands."""
    frames, groups = [], []
    for phase in range(3):
        for z in range(2):
            frames.append(PIXELS + 10 * phase + z)
            time = {"NominalCardiacTriggerDelayTime": 40.0 * phase}
            if cardiac == "UnassignedPerFrameConvertedAttributesSequence":
                time = {"TriggerTime": 40.0 * phase, "InstanceNumber": 10 * z + phase}
            groups.append(
                _group(
                    PlanePositionSequence={"ImagePositionPatient": [8.0 * z, 2.0, 3.0]},
                    FrameContentSequence={
                        "TemporalPositionIndex": phase + 1,
                        "FrameAcquisitionDateTime": f"2020010210300{z}",
                    },
                    PixelValueTransformationSequence={"RescaleSlope": "2", "RescaleIntercept": str(z)},
                    **{cardiac: time},
                )
            )
    header = _header(np.stack(frames), NumberOfFrames=6, InstanceNumber=9)
    header.SOPClassUID = header.file_meta.MediaStorageSOPClassUID = uid.EnhancedMRImageStorage
    del header.PixelSpacing, header.ImagePositionPatient, header.ImageOrientationPatient
    header.PerFrameFunctionalGroupsSequence = Sequence(groups)
    header.SharedFunctionalGroupsSequence = Sequence(
        [
            _group(
                PixelMeasuresSequence={
                    "PixelSpacing": [2.0, 1.5],
                    "SliceThickness": 7.0,
                    "SpacingBetweenSlices": 8.0,
                },
                PlaneOrientationSequence={"ImageOrientationPatient": [0.0, 1.0, 0.0, 0.0, 0.0, 1.0]},
            )
        ]
    )
    return header


@pytest.mark.parametrize("cardiac", ["CardiacSynchronizationSequence", "UnassignedPerFrameConvertedAttributesSequence"])
def test_enhanced_files_hold_many_frames(cardiac):
    images = _read(_enhanced(cardiac), "XX")
    assert [image.name for image in images] == [f"XX#{number}" for number in range(1, 7)]
    last = images[5]
    np.testing.assert_allclose(last.pixels, (PIXELS.T + 21) * 2.0 + 1)
    np.testing.assert_allclose(last.position, [8, 2, 3])
    np.testing.assert_allclose(last.cosines, [0, 1, 0, 0, 0, 1])
    assert (last.spacing, last.between, last.thickness) == ((1.5, 2.0), 8.0, 7.0)
    assert (last.temporal_position, last.acquired) == (3.0, "20200102103001")
    if cardiac == "CardiacSynchronizationSequence":
        assert [image.trigger_delay for image in images] == [0, 0, 40, 40, 80, 80]
        assert [image.instance for image in images] == [1, 2, 3, 4, 5, 6]
    else:
        assert [image.trigger_time for image in images] == [0, 0, 40, 40, 80, 80]
        assert [image.instance for image in images] == [0, 10, 1, 11, 2, 12]


def test_a_compressed_enhanced_file(tmp_path):
    header, frames = _enhanced("CardiacSynchronizationSequence"), []
    for pixels in np.frombuffer(header.PixelData, np.uint16).reshape(6, *PIXELS.shape):
        made = _compressed(pixels, "JPEGLS", tmp_path)
        frames.append(next(generate_frames(made.PixelData, number_of_frames=1)))
    header.file_meta.TransferSyntaxUID = uid.JPEGLSLossless
    header.PixelData = encapsulate(frames)
    header["PixelData"].VR = "OB"
    np.testing.assert_allclose(_read(header)[5].pixels, (PIXELS.T + 21) * 2.0 + 1)


@pytest.mark.parametrize(
    ("tags", "velocity"),
    [
        ({"ImageType": ["ORIGINAL", "PRIMARY", "M", "RETRO", "NORM", "DIS2D"]}, False),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "M_FFE", "M", "FFE"]}, False),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "OTHER"]}, False),
        ({"ImageType": ["DERIVED", "PRIMARY", "P", "RETRO", "DIS2D"]}, True),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "PHASE CONTRAST M", "P", "PCA"]}, True),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "M"], "ComplexImageComponent": "PHASE"}, True),
        ({"ImageType": "ORIGINAL"}, False),
    ],
)
def test_velocities_are_told_from_pictures(tags, velocity):
    assert _read(_header(PIXELS, **tags))[0].velocity is velocity


@pytest.mark.parametrize(
    ("tags", "acquired"),
    [
        ({"AcquisitionDateTime": "20200102103045.25+0100"}, "20200102103045.25"),
        ({"AcquisitionDate": "20200102", "AcquisitionTime": "103045.5"}, "20200102103045.5"),
        ({"AcquisitionTime": "103045", "ContentDate": "20120000"}, "20120000103045"),
        ({"SeriesDate": "20200102", "SeriesTime": "1030"}, "20200102103000"),
        ({}, ""),
    ],
)
def test_when_it_was_acquired(tags, acquired):
    assert _read(_header(PIXELS, **tags))[0].acquired == acquired


def test_odd_values_are_unknown_values():
    header = _header(PIXELS, TriggerTime="", CardiacNumberOfImages=0, ImagePositionPatient=[1.0, 2.0])
    (image,) = _read(header)
    assert (image.trigger_time, image.n_phases, image.position) == (None, None, None)


def test_what_is_no_image_is_named():
    report = _header(PIXELS)
    report.SOPClassUID = uid.BasicTextSRStorage
    del report.PixelData
    colour = _header(np.zeros((3, 4, 12), np.uint8), SamplesPerPixel=3, PhotometricInterpretation="RGB")
    broken = _header(PIXELS, uid.JPEGLosslessSV1)
    broken.PixelData = encapsulate([b"\xff\xd8\xff\xc3 not what it says"])
    broken["PixelData"].VR = "OB"
    for data, reason in (
        (report, "it holds no image .Basic Text SR Storage."),
        (colour, "it is a colour picture"),
        (b"Thumbs", "it is no DICOM file"),
        (b"", "it is empty"),
        (broken, r"its pixels cannot be decoded \(JPEG Lossless"),
        (_header(PIXELS, Rows=60000, Columns=60000), "60000 x 60000 pixels"),
        (_bytes(_header(PIXELS))[:-100], "it cannot be decoded"),
    ):
        with pytest.raises(CinemaError, match=reason):
            _read(data)


def test_the_first_reason_is_told_where_nothing_can_be_read():
    files = [DicomFile("a", lambda: b"nothing"), DicomFile("b", lambda: b"")]
    with pytest.raises(CinemaError, match=r"sax_1 has no readable DICOM image \(2 files; a: it is no DICOM file\)"):
        read_files(files, "sax_1", [])
    warnings: list[str] = []
    images = read_files([*files, DicomFile("c", lambda: _bytes(_header(PIXELS)))], "sax_1", warnings)
    assert [image.name for image in images] == ["c"]
    assert warnings == ["sax_1/a cannot be read (it is no DICOM file)", "sax_1/b cannot be read (it is empty)"]
