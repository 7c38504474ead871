"""What goes back to the archive: read again it lies where it was, points to its images, and no validator objects."""

import io
import shutil
import subprocess
from contextlib import contextmanager
from dataclasses import replace

import highdicom
import numpy as np
import pydicom
import pytest
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid

from cinema_lightning.analysis.archive import write_back
from cinema_lightning.analysis.dicom_seg import cine_segmentation, segmentation
from cinema_lightning.analysis.dicom_sr import CONCEPTS, _is_reported, own_code, report
from cinema_lightning.analysis.originals import find_originals
from cinema_lightning.analysis.sources import Source, sources_of
from cinema_lightning.analysis.study import read_study
from cinema_lightning.analysis.values import Check, Interval, Measured, Reference, Result, Study, View
from cinema_lightning.columns import ANALYSIS, quantities
from cinema_lightning.errors import CinemaError
from cinema_lightning.imaging.geometry import LPS_TO_RAS

N_SLICES, N_FRAMES, SIZE = 5, 6, (40, 32)
ROW, COLUMN = np.array([0.8, 0.6, 0.0]), np.array([0.0, 0.0, -1.0])
STEP = np.cross(ROW, COLUMN) * 9


def _image(z: int, t: int, study: str, frame_of_reference: str, series: str) -> bytes:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID = MRImageStorage, ExplicitVRLittleEndian
    meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[study, str(z), str(t)])
    image = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    image.SOPClassUID, image.SOPInstanceUID = MRImageStorage, meta.MediaStorageSOPInstanceUID
    image.PatientName, image.PatientID, image.PatientBirthDate, image.PatientSex = "Doe^Jane", "P1", "00000000", "F"
    image.StudyInstanceUID, image.SeriesInstanceUID, image.FrameOfReferenceUID = study, series, frame_of_reference
    image.StudyDate, image.StudyTime, image.AccessionNumber, image.StudyID = "20120000", "101010", "7", "1"
    image.ReferringPhysicianName, image.Modality, image.Manufacturer = "", "MR", "Made up"
    image.SeriesNumber, image.InstanceNumber, image.TriggerTime = z + 1, N_FRAMES - t, 40.0 * t
    image.Rows, image.Columns, image.PixelSpacing = SIZE[1], SIZE[0], [2.0, 2.0]
    image.ImageOrientationPatient = [*ROW, *COLUMN]
    image.ImagePositionPatient = [f"{value:.6g}" for value in np.array([-30.0, 20, 50]) + z * STEP]
    image.SliceThickness, image.BitsAllocated, image.BitsStored, image.HighBit = 8, 16, 12, 11
    image.SamplesPerPixel, image.PixelRepresentation, image.PhotometricInterpretation = 1, 0, "MONOCHROME2"
    image.PixelData = np.zeros(SIZE[::-1], np.uint16).tobytes()
    out = io.BytesIO()
    image.save_as(out, enforce_file_format=True)
    return out.getvalue()


@pytest.fixture(scope="module")
def sources():
    study, place = generate_uid(), generate_uid()
    series = [generate_uid() for _ in range(N_SLICES)]
    files = [_image(z, t, study, place, series[z]) for t in range(N_FRAMES) for z in range(N_SLICES)]

    def opened(content: bytes):
        @contextmanager
        def block():
            yield io.BytesIO(content)

        return block

    return [Source(i, "", opened(content)) for i, content in enumerate([*files, b"no DICOM at all"], start=1)]


@pytest.fixture(scope="module")
def view():
    lps = np.eye(4)
    lps[:3, :3] = np.stack([ROW * 2, COLUMN * 2, STEP], axis=1)
    lps[:3, 3] = [-30, 20, 50]
    files = {(z, t): (t * N_SLICES + z + 1, 1) for z in range(N_SLICES) for t in range(N_FRAMES)}
    return View("sax", np.zeros((*SIZE, N_SLICES, N_FRAMES)), LPS_TO_RAS @ lps, files=files)


@pytest.fixture(scope="module")
def labels():
    """A beating ring that is not symmetric in any axis."""
    out = np.zeros((*SIZE, N_SLICES, N_FRAMES), np.uint8)
    x, y = np.meshgrid(np.arange(SIZE[0]), np.arange(SIZE[1]), indexing="ij")
    for z in range(1, N_SLICES):
        for t in range(N_FRAMES):
            apart = np.hypot(x - 14 - z, y - 12)
            out[..., z, t][np.hypot(x - 24, y - 15) < 6] = 1
            out[..., z, t][apart < 9] = 2
            out[..., z, t][apart < 6 - z / 2 - t / 4] = 3
    return out


def _no_errors(path) -> None:
    if shutil.which("dciodvfy"):
        said = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True).stderr
        assert [line for line in said.splitlines() if line.startswith("Error")] == []


def _voxels(made, view, shape) -> np.ndarray:
    """A segmentation read again, frame by frame, by the positions that it says."""
    out = np.zeros(shape, np.uint8)
    inverse = np.linalg.inv(LPS_TO_RAS @ view.affine)
    for frame, item in zip(made.pixel_array, made.PerFrameFunctionalGroupsSequence, strict=True):
        z = round((inverse @ [*item.PlanePositionSequence[0].ImagePositionPatient, 1])[2])
        number = item.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        t = item.FrameContentSequence[0].get("TemporalPositionIndex", 1) - 1
        out[..., z, t][frame.T > 0] = number
    return out


def test_images_are_found_by_place_and_moment(sources, view):
    originals = find_originals(sources, view)
    assert len(originals.images) == len(originals.all) == N_SLICES * N_FRAMES
    for (z, t), image in originals.images.items():
        assert image.SeriesNumber == z + 1
        assert image.TriggerTime == 40 * t
        assert image.StudyDate == image.PatientBirthDate == ""


def test_images_on_another_grid_are_not_taken(sources, view):
    moved = view.affine.copy()
    moved[:3, 3] += moved[:3, 0] * 3
    assert find_originals(sources, replace(view, affine=moved)).images == {}
    with pytest.raises(CinemaError, match="none of the study's images"):
        segmentation(np.ones((*SIZE, N_SLICES)), view, [], "ED", "1")


def test_masks_of_a_moment_come_back(sources, view, labels, tmp_path):
    originals = find_originals(sources, view)
    write_back(tmp_path, {"ed": segmentation(labels[..., 2], view, originals.of_frame(2), "ED", "1.0")})
    made = highdicom.seg.segread(tmp_path / "ed.dcm")
    np.testing.assert_array_equal(_voxels(made, view, (*SIZE, N_SLICES, 1))[..., 0], labels[..., 2])
    assert (made.PatientName, made.PatientID, made.StudyID) == ("Doe^Jane", "P1", "1")
    wanted = {image.SOPInstanceUID for image in originals.of_frame(2)}
    told = {instance for _, _, instance in made.get_source_image_uids()}
    assert told == wanted
    _no_errors(tmp_path / "ed.dcm")


def test_masks_of_a_beat_come_back_and_point_to_their_images(sources, view, labels, tmp_path):
    originals = find_originals(sources, view)
    write_back(tmp_path, {"cine": cine_segmentation(labels, view, originals, range(N_FRAMES), "1.0")})
    made = pydicom.dcmread(tmp_path / "cine.dcm")
    np.testing.assert_array_equal(_voxels(made, view, labels.shape), labels)
    for item in made.PerFrameFunctionalGroupsSequence:
        content = item.FrameContentSequence[0]
        place = content.InStackPositionNumber - 1, content.TemporalPositionIndex - 1
        source = item.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID
        assert source == originals.images[place].SOPInstanceUID
    assert len(made.ReferencedSeriesSequence) == N_SLICES
    _no_errors(tmp_path / "cine.dcm")


def test_the_same_study_gives_the_same_object(sources, view, labels):
    one, two = (segmentation(labels[..., 0], view, find_originals(sources, view).of_frame(0), "ED", "1") for _ in "ab")
    assert one.SOPInstanceUID == two.SOPInstanceUID


def test_other_masks_of_the_same_images_are_another_object(sources, view, labels, result):
    """As after a correction: an archive would keep the first of two objects with one UID."""
    originals = find_originals(sources, view)
    edited = np.where(labels == 3, 2, labels)
    for make in (
        lambda masks, **how: segmentation(masks[..., 0], view, originals.of_frame(0), "ED", "1", **how),
        lambda masks, **how: cine_segmentation(masks, view, originals, range(N_FRAMES), "1", **how),
    ):
        one, two = make(labels), make(edited, edited=True)
        assert one.SOPInstanceUID != two.SOPInstanceUID
        assert one.SeriesInstanceUID != two.SeriesInstanceUID
        assert (one.SegmentSequence[0].SegmentAlgorithmType, two.SegmentSequence[0].SegmentAlgorithmType) == (
            "AUTOMATIC",
            "SEMIAUTOMATIC",
        )
    as_it_was, kept = (segmentation(labels[..., 0], view, originals.of_frame(0), "ED", "1", edited=by) for by in (0, 1))
    assert as_it_was.SOPInstanceUID != kept.SOPInstanceUID  # only another moment was corrected, and this says so
    evidence = [as_it_was]
    assert (
        report(result, evidence, "1").SOPInstanceUID
        != report(replace(result, corrections=("ED of the LV: frame 0 instead of 0",)), evidence, "1").SOPInstanceUID
    )
    smaller = replace(result, measured=Measured({**result.measured.numbers, "lv_edv": 149.0}))
    assert report(result, evidence, "1").SOPInstanceUID != report(smaller, evidence, "1").SOPInstanceUID


@pytest.mark.parametrize(
    ("encoding", "name"),
    [
        (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎=やまだ^たろう"),
        ("ISO_IR 6", "Doe^Jane"),
        ("ISO_IR 100", "Müller^Jürgen"),
    ],
)
def test_names_and_odd_headers_go_back_as_they_came(view, labels, tmp_path, encoding, name):
    odd = {"StudyTime": "256199", "StudyDate": "20150230", "PatientSex": "X", "AccessionNumber": "7"}
    content = pydicom.dcmread(io.BytesIO(_image(1, 0, generate_uid(), generate_uid(), generate_uid())))
    content.SpecificCharacterSet, content.PatientName, content.NumberOfFrames = encoding, name, 1
    for tag, value in odd.items():
        setattr(content, tag, value)
    content.save_as(tmp_path / "image")
    originals = find_originals([Source(2, "", lambda: (tmp_path / "image").open("rb"))], view)
    assert originals.frames == {}  # it is no enhanced image
    write_back(tmp_path, {"ed": segmentation(labels[..., 0], view, originals.of_frame(0), "ED", "1.0")})
    made = pydicom.dcmread(tmp_path / "ed.dcm")
    assert str(made.PatientName) == name
    assert (made.PatientID, made.AccessionNumber) == ("P1", "7")
    assert made.StudyTime == made.StudyDate == made.PatientSex == ""
    _no_errors(tmp_path / "ed.dcm")


def test_a_structure_that_one_moment_lacks_stays_in_the_others(sources, view, labels, tmp_path):
    some = labels.copy()
    some[..., 0][some[..., 0] == 1] = 0  # no RV in the first frame
    write_back(tmp_path, {"cine": cine_segmentation(some, view, find_originals(sources, view), range(N_FRAMES), "1.0")})
    np.testing.assert_array_equal(_voxels(highdicom.seg.segread(tmp_path / "cine.dcm"), view, labels.shape), some)
    _no_errors(tmp_path / "cine.dcm")


def test_every_number_has_a_code_of_its_own():
    names = [column.name for column in (*quantities("segmentation"), *ANALYSIS) if _is_reported(column.name)]
    codes = [CONCEPTS[name].value if name in CONCEPTS else own_code(name) for name in names]
    assert len(codes) == 30
    assert len(set(codes)) == len(codes)
    assert all(len(code) <= 16 for code in codes)


@pytest.fixture(scope="module")
def result():
    numbers = {"lv_edv": 150.0, "lv_ef": 61.5, "rv_edv": 170.0, "heart_rate": 70.0, "lv_edv_index": 75.0, "height": 1.8}
    references = (Reference("lv_edv", 103.3, 228.7, -0.5, "Petersen 2017: a long citation " * 4),)
    measured = Measured({**numbers, "lv_mass": None, "wall_thickness_ed_01": 8.0})
    return Result(Study("one", {}), {}, measured, references=references, intervals=(Interval("lv_ef", 58, 64, 0.9),))


def test_numbers_come_back(sources, view, labels, result, tmp_path):
    originals = find_originals(sources, view)
    made = segmentation(labels[..., 0], view, originals.of_frame(0), "ED", "1.0")
    write_back(tmp_path, {"report": report(result, [made, *originals.of_frame(0)], "1.0")})
    read = highdicom.sr.srread(tmp_path / "report.dcm")
    assert (read.VerificationFlag, read.PreliminaryFlag) == ("UNVERIFIED", "PRELIMINARY")
    assert read.PatientID == "P1"
    found = {}
    for group in read.content.get_image_measurement_groups():
        for measurement in group.get_measurements():
            found[measurement.name.value] = (measurement.value, measurement.unit.value)
    expected = {"8821-1": (150, "ml"), "8811-2": (61.5, "%"), "8822-9": (170, "ml"), "8867-4": (70, "{H.B.}/min")}
    assert found == {**expected, "LV_EDV_INDEX": (75, "ml/m2")}
    _no_errors(tmp_path / "report.dcm")


def test_warnings_go_with_the_numbers(sources, view, labels, result, tmp_path):
    originals = find_originals(sources, view).of_frame(0)
    evidence = [segmentation(labels[..., 0], view, originals, "ED", "1.0"), *originals]
    checks = (Check("frames", "warn", "12 frames over the beat: few."), Check("gap", "pass", "No gap."))
    write_back(tmp_path, {"report": report(replace(result, checks=checks), evidence, "1.0")})
    read = highdicom.sr.srread(tmp_path / "report.dcm")
    texts = [item for item in read.ContentSequence if item.ValueType == "TEXT"]
    comments = [item.TextValue for item in texts if item.ConceptNameCodeSequence[0].CodeMeaning == "Comment"]
    assert comments == [checks[0].sentence]
    assert len(read.content.get_image_measurement_groups()) == 2
    assert "with warnings" in read.SeriesDescription
    _no_errors(tmp_path / "report.dcm")
    plain = report(result, evidence, "1.0")
    assert "warnings" not in plain.SeriesDescription
    assert plain.SOPInstanceUID != read.SOPInstanceUID


def test_no_report_of_a_refused_study(sources, view, result):
    refused = Result(result.study, {}, result.measured, checks=(Check("frames", "refuse", "Too few."),))
    with pytest.raises(CinemaError, match="no numbers"):
        report(refused, find_originals(sources, view).of_frame(0), "1.0")


@pytest.mark.parametrize("name", ["ge_301", "siemens_study"])
def test_real_studies(real, name, tmp_path):
    path = real / "dicom" / f"{name}.zip"
    view = read_study(path, lambda _: "one").views["sax"]
    with sources_of(path) as files:
        originals = find_originals(files, view)
    assert len(originals.images) == view.frames.shape[2] * view.n_frames
    labels = np.zeros(view.frames.shape[:3], np.uint8)
    labels[90:120, 95:130, 1:4], labels[100:110, 100:120, 1:4] = 2, 3
    write_back(tmp_path, {"ed": segmentation(labels, view, originals.of_frame(3), "ED", "1.0")})
    _no_errors(tmp_path / "ed.dcm")
