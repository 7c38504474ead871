"""The DICOM of a study, from the command line: in a folder of its own, with the identity that the results lack."""

import re
import shutil
from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import EnhancedMRImageStorage

from cinema_lightning.cli import main

ED, ES = 11, 4
"""Frames of the formulas' heart at ED and ES."""


def pointed(path: Path) -> set[tuple[str, int | None]]:
    """Images, and frames of them, that the masks of an object lie on."""
    items = pydicom.dcmread(path).PerFrameFunctionalGroupsSequence
    sources = [source for item in items for source in item.DerivationImageSequence[0].SourceImageSequence]
    return {(str(one.ReferencedSOPInstanceUID), one.get("ReferencedFrameNumber")) for one in sources}


def analysed(folder: Path, out: Path, *options: str) -> Path:
    """Where the DICOM of an analysed study lies."""
    assert main(["analyse", str(folder), "--out", str(out), "--dicom", *options]) == 0
    (where,) = Path(f"{out}.dicom").iterdir()
    return where


def item(**values) -> Dataset:
    one = Dataset()
    for name, value in values.items():
        setattr(one, name, value)
    return one


def as_enhanced(folder: Path) -> None:
    """All files of a study as one of many frames, the last slice first."""
    paths = sorted(folder.iterdir(), key=lambda path: (-int(path.name[:3]), path.name))
    files = [pydicom.dcmread(path) for path in paths]
    whole, groups = files[0], []
    for file in files:
        clock = {"NominalCardiacTriggerDelayTime": float(file.TriggerTime), "RRIntervalTimeNominal": 900.0}
        groups.append(
            item(
                PlanePositionSequence=[item(ImagePositionPatient=file.ImagePositionPatient)],
                PlaneOrientationSequence=[item(ImageOrientationPatient=file.ImageOrientationPatient)],
                PixelMeasuresSequence=[item(PixelSpacing=file.PixelSpacing, SliceThickness=file.SliceThickness)],
                CardiacSynchronizationSequence=[item(**clock)],
            )
        )
    whole.PixelData = b"".join(file.PixelData for file in files)
    whole.NumberOfFrames, whole.PerFrameFunctionalGroupsSequence = len(files), groups
    whole.file_meta.MediaStorageSOPClassUID = whole.SOPClassUID = EnhancedMRImageStorage
    for name in ("TriggerTime", "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness"):
        del whole[name]
    shutil.rmtree(folder)
    folder.mkdir()
    whole.save_as(folder / "whole")


def test_masks_of_an_enhanced_file_point_to_its_frames(study, network, tmp_path):
    made = study()
    as_enhanced(made.write(tmp_path / "s", ("SAX",)))
    where = analysed(tmp_path / "s", tmp_path / "out", "--dicom_cine")
    assert {path.name for path in where.iterdir()} == {"ed.dcm", "es.dcm", "cine.dcm", "report.dcm"}
    uid = str(pydicom.dcmread(tmp_path / "s" / "whole").SOPInstanceUID)
    for name, frame in (("ed", ED), ("es", ES)):
        found = pointed(where / f"{name}.dcm")
        assert {one for one, _ in found} == {uid}
        assert {(number - 1) % made.frames for _, number in found} == {frame}
    (series,) = pydicom.dcmread(where / "cine.dcm").ReferencedSeriesSequence
    assert [one.ReferencedSOPClassUID for one in series.ReferencedInstanceSequence] == [EnhancedMRImageStorage]


def as_multi_frame(folder: Path) -> None:
    """A file for each slice, whose frames are in order and have no groups of their own."""
    for z in sorted({path.name[:3] for path in folder.iterdir()}):
        files = [pydicom.dcmread(path) for path in sorted(folder.glob(f"{z}*"))]
        files.sort(key=lambda file: float(file.TriggerTime))
        whole = files[0]
        whole.PixelData = b"".join(file.PixelData for file in files)
        whole.NumberOfFrames = len(files)
        del whole.TriggerTime
        for path in folder.glob(f"{z}*"):
            path.unlink()
        whole.save_as(folder / f"{z}_whole")


def test_masks_of_files_of_many_frames_without_groups_point_to_their_frames(study, network, tmp_path):
    folder = study().write(tmp_path / "s", ("SAX",))
    as_multi_frame(folder)
    where = analysed(folder, tmp_path / "out", "--dicom_cine")
    for name, frame in (("ed", ED), ("es", ES)):
        assert {number for _, number in pointed(where / f"{name}.dcm")} == {frame + 1}


def test_masks_point_to_the_images_that_were_read_whatever_else_lies_there(study, network, tmp_path):
    """A derived series of later, copies of files, and a header without thickness."""
    folder = study().write(tmp_path / "s", ("SAX",))
    for path in sorted(folder.iterdir()):
        file = pydicom.dcmread(path)
        del file.SliceThickness
        file.save_as(path)
        shutil.copy(path, folder / f"{path.name}_copy")
        file.ImageType, file.SeriesTime = ["DERIVED", "SECONDARY", "M"], "235959"
        file.SeriesInstanceUID, file.SOPInstanceUID = f"{file.SeriesInstanceUID}.9", f"{file.SOPInstanceUID}.9"
        file.save_as(folder / f"{path.name}_derived")
    found = pointed(analysed(folder, tmp_path / "out") / "es.dcm")
    assert found
    assert {uid.rpartition(".")[2] for uid, _ in found} == {str(ES + 1)}


@pytest.mark.parametrize(("choice", "uid"), [("earliest", "1.2.826.0.1.77"), ("latest", "1.2.826.0.1.78")])
def test_masks_belong_to_the_study_that_was_chosen(study, network, tmp_path, choice, uid):
    folder = study(tags={"StudyDate": "20230102"}).write(tmp_path / "s", ("SAX",))
    for path in study(uid="1.2.826.0.1.78").write(tmp_path / "t", ("SAX",)).iterdir():
        shutil.move(path, folder / f"{path.name}_later")
    where = analysed(folder, tmp_path / "out", "--choose", choice)
    assert {pydicom.dcmread(path).StudyInstanceUID for path in where.iterdir()} == {uid}
    assert all(image.startswith(f"{uid}.") for image, _ in pointed(where / "ed.dcm"))


def test_masks_need_a_frame_of_reference(study, network, tmp_path, capsys):
    folder = study(tags={"FrameOfReferenceUID": ""}).write(tmp_path / "s", ("SAX",))
    assert main(["analyse", str(folder), "--out", str(tmp_path / "out"), "--dicom"]) == 2
    assert "have no FrameOfReferenceUID" in capsys.readouterr().err


def test_dicom_lies_beside_the_results(study, network, tmp_path, capsys, caplog, recwarn):
    # A name of one part and dates that are none: libraries would remark upon them, and quote them.
    odd = {"PatientID": "SENTINEL7", "PatientName": "SENTINEL", "StudyDate": "20120000"}
    folder = study(tags=odd).write(tmp_path / "s", ("SAX",))
    caplog.clear()
    recwarn.clear()
    out = tmp_path / "out"
    assert main(["analyse", str(folder), "--out", str(out), "--dicom", "--dicom_cine"]) == 0
    (where,) = (tmp_path / "out.dicom").iterdir()
    assert {path.name for path in where.iterdir()} == {"ed.dcm", "es.dcm", "cine.dcm", "report.dcm"}
    for path in where.iterdir():
        assert pydicom.dcmread(path).PatientID == "SENTINEL7"
    assert all(b"SENTINEL7" not in path.read_bytes() for path in out.rglob("*") if path.is_file())
    assert (out / where.name / "report.html").is_file()
    said = capsys.readouterr()
    remarks = [str(warning.message) for warning in recwarn]
    assert not re.search("SENTINEL|20120000", "".join([said.out, said.err, caplog.text, *remarks]))


def test_a_refused_study_has_masks_and_no_report(study, network, tmp_path):
    folder = study(gap=18.0, slices=6).write(tmp_path / "s", ("SAX",))
    assert main(["analyse", str(folder), "--out", str(tmp_path / "out"), "--dicom"]) == 0
    (where,) = (tmp_path / "out.dicom").iterdir()
    assert {path.name for path in where.iterdir()} == {"ed.dcm", "es.dcm"}
