"""Small pictures for quick trials: less resolution, the same content, and geometry that still leads back."""

import csv
import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cinema_lightning.data.store import open_series, series_path
from cinema_lightning.datasets.base import DATASETS, CaseRef
from cinema_lightning.errors import CinemaError
from cinema_lightning.prepare.command import prepare
from cinema_lightning.prepare.describe import describe
from cinema_lightning.prepare.record import fingerprint
from cinema_lightning.prepare.size import crop_size, target_spacing
from cinema_lightning.prepare.verify import verify

GOLDEN = Path(os.environ.get("CINEMA_GOLDEN", Path(__file__).parents[1] / "golden")) / "prepare"
SIZES = ("full", "small")


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("name", ["acdc", "mnms", "mnms2", "emidec", "myops", "landmark"])
def test_small_stores_are_sound_and_fit_64_pixels(name, tmp_path):
    assert prepare(name, GOLDEN / "raw" / name, tmp_path, size="small") == 0
    assert verify(name, tmp_path, full=True) == 0
    assert describe(name, tmp_path, studies=1) == 0
    for row in _rows(tmp_path / "cohort.csv"):
        for view in row["views"].split():
            series = open_series(series_path(tmp_path, row["id"], view))
            assert max(series.shape[:2]) <= 64
            assert series.read([0]).dtype == np.uint8


def test_voxels_are_3_and_4_times_as_long_in_plane():
    acdc, mnms2, emidec = DATASETS["acdc"], DATASETS["mnms2"], DATASETS["emidec"]
    raw = (1.4, 1.4, 8.0)
    assert target_spacing(acdc, "sax", raw, (256, 216, 10), "small") == (3.0, 3.0, 10.0)
    assert target_spacing(mnms2, "lax_4c", raw, (256, 216, 1), "small") == (4.0, 4.0, 8.0)
    assert target_spacing(emidec, "sax", raw, (256, 216, 10), "small") == pytest.approx((4.374, 4.374, 10.0))
    assert crop_size(acdc, "sax", "small") == crop_size(mnms2, "lax_4c", "small") == (64, 64)
    assert crop_size(acdc, "sax", "full") == (192, 192)


def test_where_the_spacing_is_the_images_own_the_picture_decides():
    myops, landmark = DATASETS["myops"], DATASETS["landmark"]
    raw = (0.75, 0.75, 20.0)
    # What the full preparation keeps, 192 pixels, becomes 64.
    assert target_spacing(myops, "sax", raw, (480, 440, 4), "small") == (2.25, 2.25, 20.0)
    assert target_spacing(myops, "sax", raw, (60, 50, 4), "small") == raw
    assert target_spacing(landmark, "lax_2c", (1.0, 1.0, 1.0), (96, 32, 1), "small") == (1.5, 1.5, 1.0)


def test_a_small_picture_lies_where_the_full_one_does(tmp_path):
    for size in SIZES:
        assert prepare("acdc", GOLDEN / "raw" / "acdc", tmp_path / size, size=size) == 0
    rows = {size: _rows(tmp_path / size / "cohort.csv") for size in SIZES}
    for full, small in zip(rows["full"], rows["small"], strict=True):
        centres = {}
        for size in rows:
            label = open_series(series_path(tmp_path / size, full["id"], "sax", "label"))
            where = np.argwhere(label.read()[0] == 3).mean(axis=0)
            centres[size] = (label.info.affine @ [*where, 1])[:3]
        np.testing.assert_allclose(centres["small"], centres["full"], atol=1.5)
        assert float(small["lv_edv"]) == pytest.approx(float(full["lv_edv"]), rel=0.1)
        assert (small["split"], small["n_slices"]) == (full["split"], full["n_slices"])


def test_provenance_of_a_small_picture_leads_back_to_the_raw_image(tmp_path):
    assert prepare("acdc", GOLDEN / "raw" / "acdc", tmp_path, size="small") == 0
    info = open_series(series_path(tmp_path, "patient001", "sax")).info
    made = info.provenance
    raw, size, spacing = np.array(made["orig_affine"]), made["orig_size"], np.array(info.spacing)
    raw_spacing = np.linalg.norm(raw[:3, :3], axis=0)
    np.testing.assert_array_equal(made["resampled_size"], np.round(np.array(size) * raw_spacing / spacing))
    # The first stored voxel, taken through crop and resampling to the raw image, is the same place in the world.
    first = (np.array([*made["crop_start"], 0]) + 0.5) * spacing / raw_spacing - 0.5
    np.testing.assert_allclose((raw @ [*first, 1])[:3], info.affine[:3, 3], atol=1e-6)


def _landmark_image(root: Path, width: int, height: int) -> None:
    """Raw landmark data of one 4-chamber image: dark but for a bright square around the apex."""
    image, mask = np.zeros((2, height, width), np.uint8)
    for level, (x, y) in {85: (300, 90), 170: (100, 80), 255: (240, 400)}.items():
        mask[y - 2 : y + 3, x - 2 : x + 3] = level
    image[384:417, 224:257] = 255
    for kind, picture in (("images", image), ("masks", mask)):
        folder = root / "raw" / "lax_4c" / kind
        folder.mkdir(parents=True)
        Image.fromarray(picture).save(folder / "0001__00.png")
    (root / "raw" / "lax_4c.csv").write_text("a,0001__00,lax_4c,1,0,0\n")


def test_landmarks_follow_the_picture(tmp_path):
    _landmark_image(tmp_path / "src", 512, 768)  # 128 x 192 after the published quarter, 43 x 64 when small
    for size in SIZES:
        assert prepare("landmark", tmp_path / "src", tmp_path / size, size=size) == 0
    marks = {size: {row["landmark"]: row for row in _rows(tmp_path / size / "landmarks.csv")} for size in SIZES}
    series = open_series(series_path(tmp_path / "small", "0001__00_lax_4c", "lax_4c"))
    assert series.shape == (43, 64)
    for name, row in marks["full"].items():
        small = marks["small"][name]
        for axis in "xy":
            assert float(row[axis]).is_integer()  # as published
            assert float(small[axis]) == pytest.approx((float(row[axis]) + 0.5) / 3 - 0.5, abs=1e-5)
    image = series.read()[0].astype(float)
    centre = (np.argwhere(image > 0) * image[image > 0][:, None]).sum(axis=0) / image.sum()
    apex = [float(marks["small"]["apex"][axis]) for axis in "xy"]
    np.testing.assert_allclose(centre, apex, atol=0.5)


def test_a_store_has_one_size(tmp_path, capsys):
    raw = GOLDEN / "raw" / "acdc"
    assert prepare("acdc", raw, tmp_path, size="small") == 0
    before = (tmp_path / "cohort.csv").read_bytes()
    with pytest.raises(CinemaError, match=r"--size small, and a store has one size: give another --out for --size ful"):
        prepare("acdc", raw, tmp_path)
    assert (tmp_path / "cohort.csv").read_bytes() == before
    capsys.readouterr()
    assert prepare("acdc", raw, tmp_path, size="small") == 0
    assert "0 prepared, 2 already up to date" in capsys.readouterr().out


def test_full_studies_keep_the_fingerprints_that_they_had_before_there_were_sizes(monkeypatch):
    monkeypatch.setattr("cinema_lightning.prepare.record.VERSION", 1)
    case = CaseRef("a", "a", "train", (), args={"ed_frame": 0})
    assert fingerprint(DATASETS["acdc"], case) == "0adbad447a2350ff28692749457907af"
    assert fingerprint(DATASETS["landmark"], case) == "255475ff45f71b128cf704c0c6fbcb2a"
    assert fingerprint(DATASETS["acdc"], case, "small") != fingerprint(DATASETS["acdc"], case)


def test_the_size_is_part_of_the_record_only_where_it_is_not_full(tmp_path):
    raw = GOLDEN / "raw" / "acdc"
    records = {}
    for size in SIZES:
        assert prepare("acdc", raw, tmp_path / size, size=size) == 0
        records[size] = json.loads((tmp_path / size / "patient001" / "record.json").read_text())
    assert records["full"]["fingerprint"] != records["small"]["fingerprint"]
    assert "size" not in records["full"]
    assert records["small"]["size"] == "small"
