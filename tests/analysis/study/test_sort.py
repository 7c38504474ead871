"""Sorting: every series is taken for what it shows, whatever it is called, and bad input is one sentence."""

import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pydicom
import pytest

from cinema_lightning import listing
from cinema_lightning.analysis.headers import person_of, read_headers
from cinema_lightning.analysis.sources import sources_of
from cinema_lightning.analysis.study import read_study
from cinema_lightning.errors import CinemaError
from cinema_lightning.phantom.raw.dicom import frame_bytes

VIEWS = ("lax_2c", "lax_3c", "lax_4c", "sax")


def _read(path: Path, **options):
    return read_study(path, lambda identity: identity, **options)


@pytest.mark.parametrize(
    ("tags", "age", "told"),
    [
        ({"PatientAge": "", "PatientBirthDate": "19500102"}, 74, False),  # the study is of 2 January 2024
        ({"PatientAge": "", "PatientBirthDate": "19500103"}, 73, False),
        ({"PatientAge": "", "PatientBirthDate": "20240102"}, 0, False),
        ({"PatientAge": "051Y", "PatientBirthDate": "19500102"}, 51, False),
        ({"PatientAge": "", "PatientBirthDate": ""}, None, False),
        ({"PatientAge": "", "PatientBirthDate": "19500102", "StudyDate": ""}, None, False),
        ({"PatientAge": "", "PatientBirthDate": "00000000"}, None, True),
        ({"PatientAge": "", "PatientBirthDate": "19500231"}, None, True),
        ({"PatientAge": "", "PatientBirthDate": "1950012"}, None, True),
        ({"PatientAge": "", "PatientBirthDate": "20240103"}, None, True),
        ({"PatientAge": "", "PatientBirthDate": "18500101"}, None, True),
        ({"PatientAge": "", "PatientBirthDate": "19000101", "StudyDate": "20090102"}, None, True),  # for an unknown one
        ({"PatientAge": "", "PatientBirthDate": "19060101", "StudyDate": "20090102"}, 90, False),  # 90 and more
        ({"PatientAge": "", "PatientBirthDate": "19500102", "StudyDate": "20120000"}, None, True),
    ],
)
def test_an_age_that_is_not_stated_follows_from_the_dates(tags, age, told, study, tmp_path):
    folder = study(tags=tags).write(tmp_path / "s", ("2CH",))
    with sources_of(folder) as sources:
        person, said = person_of(read_headers(sources)[0])
    assert person.age == age
    assert said == (
        [
            "the birth date and the date of the study in the headers cannot both be right, nor the age by "
            "them: it is not used"
        ]
        if told
        else []
    )
    assert not any(tags["PatientBirthDate"] in sentence for sentence in said)


def _edit(folder: Path, pattern: str, **tags) -> None:
    for path in folder.glob(pattern):
        header = pydicom.dcmread(path)
        for name, value in tags.items():
            setattr(header, name, value)
        header.save_as(path)


def test_one_series_a_slice_with_wrong_names_and_a_right_heart(study, tmp_path):
    made = study()
    folder = made.write(tmp_path / "s")
    _edit(folder, "011x*", SeriesDescription="cine 4CH")  # the 3CH
    found = _read(folder)
    assert sorted(found.views) == sorted(VIEWS)
    taken = [line.taken_for for line in found.series]
    assert taken == ["sax"] * 9 + ["lax_4c", "lax_3c", "lax_2c", "none"]
    wrong = found.series[10]
    assert wrong.words == "4CH"
    assert "geometry contradicts" in wrong.why
    assert "beside the axis of the left ventricle" in found.series[12].why
    sax = found.views["sax"]
    assert sax.frames.shape == (64, 64, 9, 12)
    np.testing.assert_allclose(sax.scanned.gaps, [10.0] * 8, atol=1e-3)
    assert (sax.rr, sax.scanned.beat) == (900.0, pytest.approx(1.0))
    assert (found.person.sex, found.person.age, found.person.height, found.scanner.vendor) == ("F", 50, 1.7, "GE")
    assert set(found.pictures) == set(range(1, 14))


def test_one_series_for_the_stack_and_series_that_are_no_cines(study, tmp_path):
    made = study(single=True)
    folder = made.write(tmp_path / "s", ("SAX", "4CH"))
    codes, tags = made.plane(np.array([1.0, 0, 0]), np.array([0, 1.0, 0]), np.zeros(3))
    made.put(folder, 20, codes[:1], tags | {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, "")
    made.put(folder, 21, codes[:1], tags, "LGE")
    made.put(folder, 22, codes, tags | {"SequenceName": "*fl2d1_v150in"}, "")
    made.put(folder, 23, codes, tags | {"ImageType": ["DERIVED", "SECONDARY", "M"]}, "")
    made.put(folder, 24, codes[:1], tags | {"Modality": "CT"}, "")
    shot = frame_bytes(
        np.zeros((20, 20, 3), np.uint8), {"SOPInstanceUID": "1.9", "SeriesInstanceUID": "1.9", "SeriesNumber": 30}
    )
    (folder / "shot").write_bytes(shot)
    (folder / "report.pdf").write_bytes(b"%PDF")
    found = _read(folder)
    assert {line.number: line.taken_for for line in found.series} == {
        1: "sax", 2: "lax_4c", 3: "none", 4: "none", 5: "none", 6: "none", 7: "none", 8: "none",
    }  # fmt: skip
    why = [line.why for line in found.series[2:]]
    for sentence, word in zip(why, ["localiser", "lge", "flow", "computed", "CT", "colour"], strict=True):
        assert word in sentence
    assert found.views["sax"].frames.shape[2] == 9
    assert "1 files are no DICOM" in found.warnings[0]


def test_perfusion_and_late_frames_are_no_beat(study, tmp_path):
    made = study(single=True)
    folder = made.write(tmp_path / "s", ("SAX",))
    codes, tags = made.plane(np.array([1.0, 0, 0]), np.array([0, 1.0, 0]), np.zeros(3))
    made.put(folder, 20, codes, tags, "")
    for number, path in enumerate(sorted(folder.glob("020x*"))):
        _edit(folder, path.name, TriggerTime=1000.0 * number)
    found = _read(folder)
    assert found.series[1].taken_for == "none"
    assert "longer than a beat" in found.series[1].why


def _item(**values) -> pydicom.Sequence:
    item = pydicom.Dataset()
    for name, value in values.items():
        setattr(item, name, value)
    return pydicom.Sequence([item])


def test_one_enhanced_file_a_series(study, tmp_path):
    """All slices and phases in one object, as newer scanners store; times, RR and places in functional groups."""
    folder = study(single=True).write(tmp_path / "s", ("SAX",))
    headers = [pydicom.dcmread(path) for path in sorted(folder.iterdir())]
    one = headers[0]
    one.file_meta.MediaStorageSOPClassUID = one.SOPClassUID = pydicom.uid.EnhancedMRImageStorage
    one.SharedFunctionalGroupsSequence = _item(
        PlaneOrientationSequence=_item(ImageOrientationPatient=list(one.ImageOrientationPatient)),
        PixelMeasuresSequence=_item(PixelSpacing=list(one.PixelSpacing), SliceThickness=one.SliceThickness),
    )
    one.PerFrameFunctionalGroupsSequence = [
        _item(
            PlanePositionSequence=_item(ImagePositionPatient=list(header.ImagePositionPatient)),
            CardiacSynchronizationSequence=_item(
                NominalCardiacTriggerDelayTime=float(header.TriggerTime), RRIntervalTimeNominal=875.0
            ),
        )[0]
        for header in headers
    ]
    one.NumberOfFrames = len(headers)
    one.PixelData = b"".join(header.PixelData for header in headers)
    for tag in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "TriggerTime", "NominalInterval"):
        delattr(one, tag)
    del one.CardiacNumberOfImages
    (tmp_path / "e").mkdir()
    one.save_as(tmp_path / "e" / "XX_0001")
    found = _read(tmp_path / "e")
    sax, plain = found.views["sax"], _read(folder).views["sax"]
    np.testing.assert_array_equal(sax.frames, plain.frames)
    np.testing.assert_allclose(sax.affine, plain.affine, atol=1e-5)
    assert sax.rr == 875
    assert found.series[0].images == 9 * 12


def test_another_frame_of_reference_is_another_place(study, tmp_path):
    folder = study().write(tmp_path / "s", ("SAX", "4CH"))
    _edit(folder, "010x*", FrameOfReferenceUID="1.2.3")
    found = _read(folder)
    assert list(found.views) == ["sax"]
    assert "moved" in found.series[9].why


def test_a_missing_slice_is_filled_and_said_and_two_are_a_problem(study, tmp_path):
    one = _read(study(skip=(4,)).write(tmp_path / "one", ("SAX",)))
    assert one.views["sax"].scanned.filled == (4,)
    assert max(one.views["sax"].scanned.gaps) == pytest.approx(20, abs=0.01)
    two = _read(study(skip=(3, 4)).write(tmp_path / "two", ("SAX", "4CH")))
    assert "sax" not in two.views
    assert "incomplete" in two.problems["sax"]


def test_series_that_a_person_decided(study, tmp_path):
    folder = study().write(tmp_path / "s")
    found = _read(folder, series={"lax_2c": (13,)})
    assert found.series[12].taken_for == "lax_2c"
    with pytest.raises(CinemaError, match="series 99"):
        _read(folder, series={"sax": (99,)})


@pytest.mark.parametrize(
    ("tag", "value"), [("PatientID", "P2"), ("PatientName", "Roe^Ann"), ("PatientBirthDate", "19800101")]
)
def test_two_persons_are_refused_and_not_named(study, tmp_path, tag, value):
    folder = study(tags={"PatientBirthDate": "19700101"}).write(tmp_path / "s", ("SAX",))
    _edit(folder, "009x*", **{tag: value})
    with pytest.raises(CinemaError, match="2 persons") as error:
        _read(folder)
    assert value not in str(error.value)


def test_two_studies_are_chosen_by_date(study, tmp_path):
    folder = study().write(tmp_path / "s", ("SAX",))
    later = study(uid="1.2.826.0.1.78", tags={"StudyDate": "20250102"}, frames=16).write(tmp_path / "t", ("SAX",))
    for path in later.iterdir():
        shutil.copy(path, folder / f"b{path.name}")
    with pytest.raises(CinemaError, match="2 studies of one person: choose with --choose"):
        _read(folder)
    assert _read(folder, choose="latest").views["sax"].n_frames == 16
    assert _read(folder, choose="earliest").views["sax"].n_frames == 12


def test_bad_input_is_a_sentence_each(study, tmp_path):
    made = study(slices=2)
    two = made.write(tmp_path / "two", ("SAX",))
    codes, tags = made.plane(np.array([1.0, 0, 0]), np.array([0, 1.0, 0]), np.zeros(3))
    cases = {"localisers": {}, "ct": {"Modality": "CT"}}
    for name, more in cases.items():
        (tmp_path / name).mkdir()
        made.put(tmp_path / name, 1, codes[:1], tags | more, "")
    (tmp_path / "colour").mkdir()
    shot = frame_bytes(np.zeros((20, 20, 3), np.uint8), {"SOPInstanceUID": "1.9", "Modality": "OT"})
    (tmp_path / "colour" / "a").write_bytes(shot)
    cut = shutil.copytree(two, tmp_path / "cut")
    for path in cut.iterdir():
        path.write_bytes(path.read_bytes()[:1500])
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "a.txt").write_text("no")
    (tmp_path / "empty").mkdir()
    said = {
        "two": "no cine of a view",
        "localisers": "no cine of a view.*1 image at a place",
        "ct": "CT, none is MR",
        "colour": "colour pictures only",
        "cut": "cannot be read",
        "text": "readable DICOM",
        "empty": "holds no files",
        "nowhere": "does not exist",
    }
    for name, sentence in said.items():
        with pytest.raises(CinemaError, match=sentence):
            _read(tmp_path / name)


def test_zips_that_are_not_opened(study, tmp_path, monkeypatch):
    folder = study(single=True).write(tmp_path / "s", ("SAX",))
    good = tmp_path / "good.zip"
    with zipfile.ZipFile(good, "w") as archive:
        for path in folder.iterdir():
            archive.write(path, f"a/{path.name}")
    assert _read(good).views["sax"].frames.shape == (64, 64, 9, 12)
    for name, member in (("up", "../x"), ("absolute", "/x"), ("drive", "C:\\x")):
        with zipfile.ZipFile(tmp_path / f"{name}.zip", "w") as archive:
            archive.writestr(member, b"x")
        with pytest.raises(CinemaError, match="leads out of the archive"):
            _read(tmp_path / f"{name}.zip")
    with zipfile.ZipFile(tmp_path / "none.zip", "w"):
        pass
    with pytest.raises(CinemaError, match="holds no files"):
        _read(tmp_path / "none.zip")
    bomb = tmp_path / "bomb.zip"
    monkeypatch.setattr(listing, "SMALL", 2**20)
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x", bytes(2**22))
    with pytest.raises(CinemaError, match="no study's archive"):
        _read(bomb)
    (tmp_path / "cut.zip").write_bytes(good.read_bytes()[:2000])
    with pytest.raises(CinemaError, match="cut short"):
        _read(tmp_path / "cut.zip")


def test_the_real_siemens_study(real):
    truth = json.loads((real / "dicom" / "siemens_truth.json").read_text())["series"]
    found = _read(real / "dicom" / "siemens_study.zip")
    expected = [one["view"] for one in sorted(truth, key=lambda one: one["series_number"])]
    lines = [line.taken_for for line in found.series]
    assert lines == [view if view in VIEWS else "none" for view in expected]
    assert found.views["sax"].spacing[2] == pytest.approx(17.7, abs=0.01)
    assert found.views["sax"].rr_range == (776, 863)


@pytest.mark.parametrize(("name", "slices"), [("101", 12), ("301", 10)])
def test_the_real_ge_studies(real, name, slices):
    found = _read(real / "dicom" / f"ge_{name}.zip")
    assert [line.taken_for for line in found.series] == ["sax"]
    assert found.views["sax"].frames.shape[2:] == (slices, 20)
    assert (found.scanner.vendor, found.scanner.field_strength) == ("GE", 1.5)
