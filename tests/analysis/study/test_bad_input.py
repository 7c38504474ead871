"""Whatever cannot be analysed is one sentence each, through the command, and stops nothing else."""

import csv
import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pydicom
import pytest

from cinema_lightning import listing
from cinema_lightning.cli import main
from cinema_lightning.phantom.raw.dicom import frame_bytes

X, Y = np.eye(3)[:2]
SAID = {
    "empty.zip": "holds no files: give the folder or zip",
    "up.zip": r"leads out of the archive (.. or absolute): it was not opened; pack the study again",
    "bomb.zip": "that is no study's archive, and it was not opened",
    "cut.zip": "cut short",
    "locked.zip": "locked with a password: unpack it and give the folder",
    "folder": "holds no files: give the folder or zip",
    "text": "none of its 1 files is readable DICOM: give the export",
    "report": "hold no images (reports and the like): export images too",
    "two": "no cine of a view of the heart (series 1: there is no short axis to compare it with",
    "localisers": "no cine of a view of the heart (series 1: it is a localiser): export its cine series too",
    "ct": "its images are CT, none is MR: give a study of cardiac MR",
    "colour": "colour pictures only (screen saves): export the original images",
    "burnt": "no cine of a view of the heart",
    "cut": "cannot be read (cut short or damaged); copy the study again",
    "persons": "its files are of 2 persons (PatientName differs): nothing was analysed; put the files of each",
    "studies": "its files are of 2 studies of one person: choose with --choose latest or --choose earliest",
}


@pytest.fixture
def places(study, tmp_path, monkeypatch) -> list[Path]:
    """Everything that the sentences are about, and one good study."""
    root = tmp_path / "in"
    made = study(frames=4)
    good = made.write(root / "good", ("SAX",))
    codes, tags = made.plane(X, Y, np.zeros(3))
    for name in ("folder", "text", "report", "localisers", "ct", "colour"):
        (root / name).mkdir()
    (root / "text" / "a.txt").write_text("no")
    made.put(root / "localisers", 1, codes, tags | {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, "")
    made.put(root / "ct", 1, codes[:1], tags | {"Modality": "CT"}, "")
    shot = frame_bytes(np.zeros((20, 20, 3), np.uint8), {"SOPInstanceUID": "1.9", "Modality": "OT"})
    (root / "colour" / "a").write_bytes(shot)
    made.put(root / "report", 1, codes[:1], tags | {"Modality": "SR"}, "")
    for path in (root / "report").iterdir():
        header = pydicom.dcmread(path)
        del header.PixelData, header.Rows, header.Columns
        header.save_as(path)
    study(slices=2, frames=4).write(root / "two", ("SAX",))
    for name in ("cut", "persons", "studies", "burnt"):
        shutil.copytree(good, root / name)
    for path in (root / "cut").iterdir():
        path.write_bytes(path.read_bytes()[:1500])
    first = min((root / "persons").iterdir())
    for name, changes in (("persons", {"PatientName": "Roe^Ann"}), ("studies", {"StudyInstanceUID": "1.2.3"})):
        header = pydicom.dcmread(root / name / first.name)
        for keyword, value in {**changes, "StudyDate": "20250102"}.items():
            setattr(header, keyword, value)
        header.save_as(root / name / first.name)
    for number, path in enumerate(sorted((root / "burnt").iterdir())):  # text in single pictures of each slice
        header = pydicom.dcmread(path)
        header.BurnedInAnnotation = "YES" if number % 4 else "NO"
        header.save_as(path)
    monkeypatch.setattr(listing, "SMALL", 2**20)
    for name, member, content in (("up", "../x", b"x"), ("bomb", "x", bytes(2**22)), ("cut", "x", b"x" * 9000)):
        with zipfile.ZipFile(root / f"{name}.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(member, content)
    zipfile.ZipFile(root / "empty.zip", "w").close()
    (root / "cut.zip").write_bytes((root / "cut.zip").read_bytes()[:60])
    with zipfile.ZipFile(root / "locked.zip", "w") as archive:
        archive.writestr("x", b"x")
    data = bytearray((root / "locked.zip").read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1  # the flag of a password
    (root / "locked.zip").write_bytes(data)
    return [root / "good", *(root / name for name in SAID)]


def test_a_sentence_each(places, network, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["analyse", *map(str, places), "--out", str(out)]) == 1
    with (out / "failures.csv").open(newline="", encoding="utf-8") as file:
        reasons = {row["id"]: row["reason"] for row in csv.DictReader(file)}
    sources = [json.loads(path.read_text()) for path in (tmp_path / "out.private" / "studies").iterdir()]
    found = {Path(one["source"]).name: reasons.pop(one["failure"], None) for one in sources if "failure" in one}
    assert found.keys() == SAID.keys()
    for name, sentence in SAID.items():
        assert sentence in found[name], name
        assert str(tmp_path) not in found[name]
        assert "\n" not in found[name]
    assert not reasons
    assert "study 17 failed" in capsys.readouterr().err
    with (out / "results.csv").open(newline="", encoding="utf-8") as file:
        assert len(list(csv.DictReader(file))) == 1


def test_one_study_of_two(places, network, tmp_path):
    """The one file of the later study is no cine; of the earlier one a frame is missing."""
    studies = tmp_path / "in" / "studies"
    assert main(["analyse", str(studies), "--out", str(tmp_path / "out"), "--choose", "latest"]) == 2
    assert main(["analyse", str(studies), "--out", str(tmp_path / "out"), "--choose", "earliest"]) == 0


@pytest.mark.parametrize("what", ["out", "in"])
def test_no_access(study, network, tmp_path, monkeypatch, capsys, what):
    place = study().write(tmp_path / "s", ("SAX",))

    def refused(*arguments, **options):
        raise PermissionError(13, "Permission denied")

    if what == "out":
        monkeypatch.setattr(Path, "touch", refused)
    else:
        monkeypatch.setattr("cinema_lightning.analysis.sources.os.access", lambda *_: False)
    assert main(["analyse", str(place), "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert "(Permission denied)" in error
    assert "mend its permissions" in error
    assert network.seen == 0
