import csv
import shutil
from pathlib import Path

import numpy as np
import pydicom
import pytest

from cinema_lightning.data.store import open_series, series_path
from cinema_lightning.errors import CinemaError
from cinema_lightning.imaging.dicom import DicomFile, read_cine
from cinema_lightning.prepare.command import prepare


def _study(raw: Path, name: str, write_cine, part="train", slices=4) -> Path:
    study = raw / "second-annual-data-science-bowl" / part / part / name / "study"
    for index in range(slices):
        write_cine(study / f"sax_{index + 5}", "sax", z=30.0 + 10 * index, seed=index)
    write_cine(study / "2ch_21", "2ch", seed=50)
    write_cine(study / "4ch_22", "4ch", seed=51)
    return study


def _tables(raw: Path) -> None:
    root = raw / "second-annual-data-science-bowl"
    root.mkdir(parents=True, exist_ok=True)
    (root / "train.csv").write_text("Id,Systole,Diastole\n1,60.5,150\n2,50,100\n")
    (root / "validate.csv").write_text("Id,Systole,Diastole\n501,50,100\n")
    (root / "solution.csv").write_text("Id,Volume\n701_Diastole,120\n701_Systole,48\n")


def _rows(path: Path) -> dict[str, dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return {row["id"]: row for row in csv.DictReader(file)}


def _cine(folder: Path):
    return read_cine([DicomFile.from_path(path) for path in sorted(folder.glob("*.dcm"))], folder.name)


def test_parts_volumes_and_geometry(tmp_path, write_cine):
    _tables(tmp_path)
    _study(tmp_path, "1", write_cine)
    _study(tmp_path, "701", write_cine, part="test")
    _study(tmp_path, "761", write_cine, part="test")
    out = tmp_path / "out"
    assert prepare("kaggle", tmp_path, out) == 0
    rows = _rows(out / "cohort.csv")
    assert rows.keys() == {"1", "701"}
    assert {row["split"] for row in rows.values()} == {"test"}
    assert (rows["1"]["lv_edv"], rows["1"]["lv_esv"], rows["701"]["lv_ef"]) == ("150.0", "60.5", "60.0")
    assert (rows["701"]["part"], rows["1"]["n_frames"], rows["1"]["n_slices"]) == ("test", "4", "4")
    with (out / "warnings.csv").open() as file:
        assert [(row["id"], row["reason"]) for row in csv.DictReader(file)] == [
            ("761", "left out: its images are all black")
        ]
    # The three planes meet in (10, 20, 30) LPS, which is in the middle of each window.
    for view in ("sax", "lax_2c", "lax_4c"):
        series = open_series(series_path(out, "1", view))
        size = 192 if view == "sax" else 256
        assert series.shape[:2] == (size, size)
        index = np.linalg.solve(series.info.affine, [-10, -20, 30, 1])[:2]
        np.testing.assert_allclose(index, [(size - 1) / 2] * 2, atol=0.51)
        # The image lies in the window: what is not padding is as large as the slice was.
        assert [
            np.ptp(where) + 1
            for where in np.nonzero(series.read([0])[0].max(axis=2) if view == "sax" else series.read([0])[0])
        ] == pytest.approx([20, 24], abs=1)


def test_spacing_x_is_the_second_number(tmp_path, write_cine):
    cine = _cine(write_cine(tmp_path / "sax_5", "sax", PixelSpacing=[2.0, 1.5], frames=2))
    assert cine.spacing == (1.5, 2.0)
    assert cine.frames.shape == (2, 20, 24)


def test_quirks_of_one_folder(tmp_path, write_cine, write_dicom):
    # A missing frame in the middle: the one before it stands in, by the trigger times.
    whole = _cine(write_cine(tmp_path / "whole", "sax", frames=6)).frames
    cine = _cine(write_cine(tmp_path / "sax_1", "sax", frames=6, skip=(2,)))
    np.testing.assert_array_equal(cine.frames, whole[[0, 1, 1, 3, 4, 5]])
    assert "5 of 6 frames" in cine.warnings[0]
    # An unreadable file is a missing frame.
    folder = write_cine(tmp_path / "sax_2", "sax", frames=6)
    (folder / "IM-0005.dcm").write_bytes(b"nothing")
    np.testing.assert_array_equal(_cine(folder).frames, whole[[0, 1, 2, 3, 3, 5]])
    # So is a truncated one.
    data = (folder / "IM-0002.dcm").read_bytes()
    (folder / "IM-0002.dcm").write_bytes(data[: len(data) // 2])
    np.testing.assert_array_equal(_cine(folder).frames, whole[[0, 0, 2, 3, 3, 5]])
    # Of two series the last by UID counts.
    folder = write_cine(tmp_path / "sax_3", "sax", frames=4, seed=7, SeriesInstanceUID="1.2.3.2")
    expected = _cine(folder).frames
    for frame in range(4):
        write_dicom(folder / f"A-{frame}.dcm", np.ones((20, 24)), SeriesInstanceUID="1.2.3.1", TriggerTime=30.0 * frame)
    cine = _cine(folder)
    np.testing.assert_array_equal(cine.frames, expected)
    assert "2 acquisitions: left out sax_3/A-0.dcm" in cine.warnings[0]
    # Without a UID, or without trigger times, file names decide.
    cine = _cine(write_cine(tmp_path / "sax_4", "sax", frames=6, SeriesInstanceUID=None, TriggerTime=None))
    np.testing.assert_array_equal(cine.frames, whole)
    assert not cine.warnings


def test_nothing_is_made_up_from_a_few_frames(tmp_path, write_cine):
    folder = write_cine(tmp_path / "sax_1", "sax", frames=10, skip=range(3, 10))
    with pytest.raises(CinemaError, match="3 readable frames of 10"):
        _cine(folder)
    with pytest.raises(CinemaError, match="no readable DICOM image"):
        read_cine([], "sax_9")


@pytest.mark.parametrize("missing", ["ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"])
def test_missing_geometry_is_named(tmp_path, write_cine, missing):
    folder = write_cine(tmp_path / "sax_1", "sax", frames=2)
    for path in folder.glob("*.dcm"):
        header = pydicom.dcmread(path)
        delattr(header, missing)
        header.save_as(path)
    with pytest.raises(CinemaError, match=missing):
        _cine(folder)


def test_odd_slices_are_left_out(tmp_path, write_cine):
    _tables(tmp_path)
    study = _study(tmp_path, "1", write_cine, slices=5)
    write_cine(study / "sax_20", "sax", z=30.0, seed=9)  # the first slice again, later
    write_cine(study / "sax_21", "sax", z=80.0, size=(22, 24))  # in line, but of another size
    write_cine(study / "sax_22", "2ch")  # not parallel
    (study / "sax_23").mkdir()
    assert prepare("kaggle", tmp_path, tmp_path / "out") == 0
    series = open_series(series_path(tmp_path / "out", "1", "sax"))
    assert series.shape[2] == 5
    with (tmp_path / "out" / "warnings.csv").open() as file:
        reasons = {row["reason"].split(" is left out")[0] for row in csv.DictReader(file)}
    assert {"sax_5", "sax_21", "sax_22", "sax_23"} <= reasons
    row = _rows(tmp_path / "out" / "cohort.csv")["1"]
    assert [row[f"n_slices_{name}"] for name in ("read", "left_out", "filled")] == ["8", "3", "0"]


def test_slices_that_run_the_other_way(tmp_path, write_cine):
    """Folder numbers decide the order; the affine's z follows them."""
    _tables(tmp_path)
    study = _study(tmp_path, "1", write_cine, slices=0)
    for index in range(4):
        write_cine(study / f"sax_{index + 9}", "sax", z=30.0 - 8 * index, seed=index, SpacingBetweenSlices=8.0)
    assert prepare("kaggle", tmp_path, tmp_path / "out") == 0
    series = open_series(series_path(tmp_path / "out", "1", "sax"))
    np.testing.assert_allclose(series.info.affine[:3, 2], [0, 0, -10], atol=1e-9)
    # Four slices of 8 mm end where three of 10 mm do: the edge at 34 stays.
    assert series.shape[2] == 3
    assert series.info.affine[2, 3] == pytest.approx(34 - 5)


def test_failures(tmp_path, write_cine):
    _tables(tmp_path)
    _study(tmp_path, "1", write_cine)
    study = _study(tmp_path, "2", write_cine, slices=6)
    for number in (7, 8):
        shutil.rmtree(study / f"sax_{number}")
    parallel = _study(tmp_path, "501", write_cine, part="validate")
    for path in parallel.glob("4ch_22/*"):
        path.unlink()
    write_cine(parallel / "4ch_22", "2ch")
    far = _study(tmp_path, "502", write_cine, part="validate")
    for path in far.glob("2ch_21/*"):
        header = pydicom.dcmread(path)
        header.ImagePositionPatient = [10.0, 900.0, 0.0]  # in the same plane, but elsewhere
        header.save_as(path)
    assert prepare("kaggle", tmp_path, tmp_path / "out") == 1
    failures = _rows(tmp_path / "out" / "failures.csv")
    assert "the SAX stack is incomplete: 4 usable slices" in failures["2"]["reason"]
    assert failures["501"]["step"] == "crop"
    assert "parallel" in failures["501"]["reason"]
    assert "lax_2c: the planes meet so far outside" in failures["502"]["reason"]
    assert list(_rows(tmp_path / "out" / "cohort.csv")) == ["1"]


def test_a_missing_column_is_named(tmp_path, write_cine):
    _tables(tmp_path)
    _study(tmp_path, "1", write_cine)
    (tmp_path / "second-annual-data-science-bowl" / "train.csv").write_text("Id,Systole\n1,60\n")
    with pytest.raises(CinemaError, match=r"train\.csv lacks the column 'Diastole'; it has Id, Systole"):
        prepare("kaggle", tmp_path, tmp_path / "out")
