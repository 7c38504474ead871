"""The DICOM of a study, from the command line: in a folder of its own, with the identity that the results lack."""

import re

import pydicom

from cinema_lightning.cli import main


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
