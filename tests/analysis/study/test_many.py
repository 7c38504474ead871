"""Runs that are killed, shared among jobs, or started where the results lie."""

import json
import os
import shutil
from pathlib import Path

import pydicom
import pytest

from cinema_lightning.analysis import write
from cinema_lightning.analysis.keys import secret_folder
from cinema_lightning.analysis.many import places_of
from cinema_lightning.analysis.study import read_study
from cinema_lightning.cli import main


def _run(*arguments) -> int:
    return main(["analyse", *map(str, arguments)])


def _killed_while_writing(*arguments) -> None:
    """The command in a process of its own, which ends in the middle of a study's folder, as by SIGKILL."""
    child = os.fork()
    if child == 0:
        write.page = lambda result: os._exit(9)
        _run(*arguments)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9


def _studies(study, folder: Path, count: int, frames: int = 4) -> list[Path]:
    """Studies; with four frames they are refused, and quickly done."""
    return [
        study(uid=f"1.2.826.0.1.{n}", tags={"PatientID": f"P{n}"}, frames=frames).write(folder / f"s{n}", ("SAX",))
        for n in range(count)
    ]


@pytest.mark.slow
def test_killed_and_shared_runs_give_what_one_run_gives(study, network, tmp_path):
    places = _studies(study, tmp_path / "all", 2, frames=12)
    out, whole = tmp_path / "out", tmp_path / "whole"
    assert _run(*places, "--out", whole) == 0
    shutil.copytree(secret_folder(whole), secret_folder(out), ignore=shutil.ignore_patterns("studies"))
    _killed_while_writing(*places, "--out", out, "--shard", "1/2")
    (left,) = out.iterdir()  # half a folder, hidden
    assert left.name.startswith(".")
    assert not (left / "result.json").exists()
    for part in ("1/2", "2/2"):
        assert _run(*places, "--out", out, "--shard", part) == 0
    assert network.seen == 2 * 24
    assert (out / "results.csv").read_bytes() == (whole / "results.csv").read_bytes()
    assert json.loads((out / "results.json").read_text()) == json.loads((whole / "results.json").read_text())
    assert sorted(path.name for path in out.iterdir()) == sorted(path.name for path in whole.iterdir())
    # Killed between the two renames by which a new result takes the place of an earlier one.
    key = next(path.name for path in out.iterdir() if path.is_dir())
    (out / key).rename(out / f".{key}-00000000.old")
    assert _run(*places, "--out", out) == 0
    assert network.seen == 2 * 24
    assert (out / key / "report.html").is_file()
    assert not list(out.glob(".*"))


def test_results_may_lie_among_the_studies_and_not_in_one(study, network, tmp_path, monkeypatch, capsys):
    places = _studies(study, tmp_path / "all", 2)
    monkeypatch.chdir(tmp_path / "all")
    for seen in (8, 8):  # the second time they are there, and are no studies
        assert _run(".", "--out", "results", "--dicom") == 0
        assert network.seen == seen
    assert not Path("results", "failures.csv").exists()
    (Path.cwd() / "here").mkdir()
    monkeypatch.chdir("here")
    assert _run(places[0], "--out", ".") == 0
    assert Path("..", "here.private", "secret").is_file()
    monkeypatch.chdir(places[0])
    assert _run(".", "--out", "results") == 2
    assert "would lie within a study" in capsys.readouterr().err
    assert not Path("results").exists()


def test_tables_and_notes_may_lie_beside_the_studies(study, network, tmp_path):
    """As `cinema phantom` and scanners leave them; images that lie there make the folder one study."""
    places = _studies(study, tmp_path / "all", 2)
    (tmp_path / "all" / "phantom_truth.csv").write_text("id,lv_edv\n")
    (tmp_path / "all" / ".phantom").mkdir()
    (tmp_path / "all" / ".phantom" / "00000.json").write_text("{}")
    assert [place.path for place in places_of([tmp_path / "all"], tmp_path / "out")] == places
    shutil.copy(next(places[0].iterdir()), tmp_path / "all" / "IM1")
    assert [place.path for place in places_of([tmp_path / "all"], tmp_path / "out")] == [tmp_path / "all"]


def test_lists_and_limits_are_looked_at_before_any_work(study, network, tmp_path, capsys):
    (place,) = _studies(study, tmp_path, 1)
    (tmp_path / "list.txt").write_text(f"# of today\n{place}\nDoe_Jane/study\n")
    assert _run(tmp_path / "list.txt", "--out", tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert "line 3 of" in error
    assert "Doe" not in error
    for text, sentence in ((None, "cannot be read"), ("slice_distnce: {warn_above: 3}", "no check 'slice_distnce'")):
        if text:
            (tmp_path / "limits.yaml").write_text(text)
        assert _run(place, "--out", tmp_path / "out", "--thresholds", tmp_path / "limits.yaml") == 2
        assert sentence in capsys.readouterr().err
    assert network.seen == 0


def test_results_without_their_secret_get_no_second_name(study, network, tmp_path, capsys):
    (place,) = _studies(study, tmp_path, 1)
    (tmp_path / "out" / "0123456789ab").mkdir(parents=True)
    (tmp_path / "out" / "0123456789ab" / "result.json").write_text('{"id": "0123456789ab"}')
    assert _run(place, "--out", tmp_path / "out") == 2
    assert "out.private, by whose secret they are named, is missing" in capsys.readouterr().err
    assert network.seen == 0
    assert not (tmp_path / "out.private").exists()


def test_a_calibration_that_was_made_since_is_used(study, network, tmp_path):
    (place,) = _studies(study, tmp_path, 1)
    weights = tmp_path / "w.ckpt"
    weights.write_bytes(b"1")
    for seen in (4, 8, 8):
        assert _run(place, "--weights", weights, "--out", tmp_path / "out") == 0
        assert network.seen == seen
        (tmp_path / "w.ckpt.calibration.json").touch()  # as `cinema calibrate` leaves it
        os.utime(tmp_path / "w.ckpt.calibration.json", (1, 1))


def test_fast_where_there_are_few_frames(study, network, tmp_path):
    (place,) = _studies(study, tmp_path, 1)
    assert _run(place, "--fast", "--out", tmp_path / "out") == 0
    assert network.seen == 4
    (report,) = (tmp_path / "out").glob("*/report.html")
    assert "all 4 frames of sax were segmented" in report.read_text()


def test_a_file_without_a_person_names_no_study(study, network, tmp_path):
    """A DICOMDIR says nothing of person or study; where it sorts first, studies are told apart all the same."""
    keys = set()
    for place in _studies(study, tmp_path / "all", 2):
        index = pydicom.Dataset()
        index.file_meta = pydicom.dataset.FileMetaDataset()
        index.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
        index.file_meta.MediaStorageSOPClassUID = pydicom.uid.MediaStorageDirectoryStorage
        index.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
        index.FileSetID = "A"
        index.save_as(place / "0000", enforce_file_format=True)
        keys.add(read_study(place, str).key)
    assert keys == {"P0|1.2.826.0.1.0", "P1|1.2.826.0.1.1"}
