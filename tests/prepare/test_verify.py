"""Checks of a store that is sound, and of one in which one thing at a time is broken."""

import csv
import os
from pathlib import Path

import numpy as np
import pytest

from cinema_lightning.data.store import open_series, series_path, write_series
from cinema_lightning.errors import CinemaError
from cinema_lightning.prepare.command import prepare
from cinema_lightning.prepare.describe import describe, even_rows
from cinema_lightning.prepare.verify import verify

GOLDEN = Path(os.environ.get("CINEMA_GOLDEN", Path(__file__).parents[1] / "golden")) / "prepare"


@pytest.fixture
def store(tmp_path):
    prepare("acdc", GOLDEN / "raw" / "acdc", tmp_path)
    return tmp_path


def _findings(root: Path) -> list[dict[str, str]]:
    with (root / "verify.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _errors(root: Path, name: str = "acdc", **options) -> list[str]:
    code = verify(name, root, **options)
    errors = [row["message"] for row in _findings(root) if row["level"] == "error"]
    assert code == (1 if errors else 0)
    return errors


def _change(root: Path, study: str, **cells: str) -> None:
    with (root / "cohort.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        if row["id"] == study:
            row.update(cells)
    with (root / "cohort.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def _rewrite(path: Path, change, **options) -> None:
    series = open_series(path)
    frames, info = series.read().copy(), series.info
    frames = change(frames)
    about = {"affine": info.affine, "spacing": info.spacing, "frames_index": info.frames} | options
    write_series(path, frames, **about)


@pytest.mark.parametrize("name", ["acdc", "mnms", "mnms2", "emidec", "myops", "landmark"])
def test_golden_stores_are_sound(name, tmp_path, capsys):
    prepare(name, GOLDEN / "raw" / name, tmp_path)
    assert verify(name, tmp_path, full=True) == 0
    assert "0 errors" in capsys.readouterr().out
    assert all(row["check"] in ("classes", "clinical") for row in _findings(tmp_path))


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ({"id": "patient101"}, "is in 2 rows"),
        ({"subject": "patient101"}, "in several splits: test, train"),
        ({"split": "training"}, "the split 'training'"),
        ({"es_frame": "7"}, "ES is frame 7"),
        ({"es_frame": "0"}, "the same frame"),
        ({"n_frames": "9"}, "says 9 frames"),
        ({"n_frames_sax": "9"}, "sax: the table says 9 frames"),
        ({"n_slices": "99"}, "sax: the table says 99 slices, the file "),
        ({"lv_edv": "5", "lv_esv": "10"}, "LV EDV 5 ml is less than ESV 10 ml"),
        ({"sex": "W"}, "sex is 'W'"),
        ({"height": "tall"}, "height is 'tall'"),
        ({"views": "sax lax_2c"}, "does not exist"),
        ({"views": ""}, "names no view"),
        ({"views": "lax"}, "no view 'lax'"),
    ],
)
def test_broken_rows(store, cells, message):
    with (store / "cohort.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        row.setdefault("sex", "")
    with (store / "cohort.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    _change(store, "patient001", **cells)
    assert any(message in error for error in _errors(store)), _errors(store)


def test_impossible_values_are_warnings(store):
    _change(store, "patient001", bmi="2.5", lv_edv="4000", pathology="XYZ")
    assert not _errors(store)
    warnings = [row["message"] for row in _findings(store)]
    assert any("bmi is 2.5 kg/m2" in message for message in warnings)
    assert any("lv_edv is 4000 ml" in message for message in warnings)
    assert any("pathology 'XYZ' (1 studies) is left out" in message for message in warnings)


def test_broken_files(store):
    image, label = (series_path(store, "patient001", "sax", kind) for kind in ("image", "label"))
    _rewrite(label, lambda maps: np.where(maps == 3, 9, maps).astype(np.uint8))
    assert any("label maps hold [9]" in error for error in _errors(store))
    _rewrite(label, lambda maps: maps[:, :100])
    assert any("label maps are (100, 192, 3)" in error for error in _errors(store))
    _rewrite(label, lambda maps: maps, frames_index=[0, 5])
    label.unlink()
    _rewrite(image, lambda frames: frames, spacing=(1.0, 1.0, 8.0))
    errors = _errors(store)
    assert any("affine contradict" in error for error in errors)
    assert any("not (1.0, 1.0, 10.0) mm" in error for error in errors)
    _rewrite(image, lambda frames: np.zeros_like(frames))
    verify("acdc", store, full=True)
    assert any("frame 0 is black (3 such frames)" in row["message"] for row in _findings(store))
    image.write_bytes(image.read_bytes()[:50])
    assert any("cut short" in error for error in _errors(store))


@pytest.mark.parametrize(
    ("cells", "level"),
    [({"subject": "a", "split": "train"}, "error"), ({"subject": "a"}, "warning"), ({"subject": "patient101"}, "")],
)
def test_one_image_under_two_names(store, cells, level):
    """A person listed twice, who would train and test."""
    with (store / "cohort.csv").open("a", newline="") as file, (store / "cohort.csv").open(newline="") as table:
        rows = {row["id"]: row for row in csv.DictReader(table)}
        csv.DictWriter(file, rows["patient101"]).writerow(rows["patient101"] | {"id": "a"} | cells)
    (store / "a").symlink_to(store / "patient101")
    assert verify("acdc", store) == (1 if level == "error" else 0)
    found = [(row["level"], row["id"], row["message"]) for row in _findings(store) if "same image" in row["message"]]
    split = cells.get("split", "test")
    said = f"(test) sax begins with the same image as that of a ({split}): one person under two names?"
    assert found == ([(level, "patient101", said)] if level else [])


def test_labels_of_frames_that_do_not_exist(store):
    label = series_path(store, "patient001", "sax", "label")
    _rewrite(label, lambda maps: maps, frames_index=[0, 5])
    assert any("belong to frames [0, 5] of 3" in error for error in _errors(store))


def test_landmarks_outside(tmp_path):
    prepare("landmark", GOLDEN / "raw" / "landmark", tmp_path)
    with (tmp_path / "landmarks.csv").open("a") as file:
        file.write("0000__07_lax_2c,lax_2c,0,apex,400,3\n")
    assert any("outside of (175, 160)" in error for error in _errors(tmp_path, "landmark"))


def test_strays_and_failures_are_mentioned(store):
    (store / "leftover").mkdir()
    (store / "failures.csv").write_text("id,step,reason\npatient007,read,gone\n")
    assert not _errors(store)
    messages = [row["message"] for row in _findings(store)]
    assert "1 folders have no row in the table, e.g. leftover" in messages
    assert "1 studies could not be prepared, see failures.csv" in messages


def test_no_table(tmp_path):
    with pytest.raises(CinemaError, match="run cinema prepare first"):
        verify("acdc", tmp_path)


@pytest.mark.parametrize("name", ["acdc", "mnms2", "landmark", "myops"])
def test_describe(name, tmp_path, capsys):
    from PIL import Image

    prepare(name, GOLDEN / "raw" / name, tmp_path)
    assert describe(name, tmp_path, studies=2) == 0
    printed = capsys.readouterr().out
    assert "studies" in printed
    with (tmp_path / "description.csv").open(newline="") as file:
        rows = {(row["split"], row["column"], row["value"]): row for row in csv.DictReader(file)}
    with Image.open(tmp_path / "contact_sheet.png") as sheet:
        assert np.asarray(sheet.convert("L")).std() > 10
    if name == "acdc":
        assert (rows["all", "lv_edv", ""]["n"], float(rows["all", "lv_edv", ""]["mean"])) == ("2", (31.46 + 55.95) / 2)
        assert rows["train", "pathology", "DCM"]["n"] == "1"


def test_rows_of_the_sheet_are_spread_evenly():
    assert even_rows(100, 5) == [0, 25, 50, 74, 99]
    assert even_rows(2, 12) == [0, 1]
