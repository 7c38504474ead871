"""The published preparation of small synthetic raw cases: images to one grey level, labels and points exactly."""

import csv
import json
import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from cinema_lightning.data.store import open_series, series_path
from cinema_lightning.prepare.command import prepare

GOLDEN = Path(os.environ.get("CINEMA_GOLDEN", Path(__file__).parents[1] / "golden")) / "prepare"
TABLES = json.loads((GOLDEN / "tables.json").read_text())
# The published tables' names for what the contract calls otherwise.
RENAMED = {f"original_sax_spacing_{axis}": f"orig_sax_spacing_{axis}" for axis in "xyz"} | {
    f"orig_spacing_{axis}": f"orig_sax_spacing_{axis}" for axis in "xyz"
}
RENAMED["ef"] = "lv_ef"
FILES = {  # id -> published file -> (view, entry of the series or of the label maps)
    "acdc": {
        "{id}_sax_ed": ("sax", 0),
        "{id}_sax_es": ("sax", 2),
        "{id}_sax_ed_gt": ("sax", 0),
        "{id}_sax_es_gt": ("sax", 1),
    },
    "mnms2": {
        f"{{id}}_{view}_{phase}{kind}": (view, entry)
        for view in ("sax", "lax_4c")
        for entry, phase in enumerate(("ed", "es"))
        for kind in ("", "_gt")
    },
    "emidec": {"{id}": ("sax", 0), "{id}_gt": ("sax", 0)},
    "myops": {"{id}_c0": ("sax", 0), "{id}_de": ("sax", 1), "{id}_t2": ("sax", 2), "{id}_gt": ("sax", 0)},
}
FILES["mnms"] = FILES["acdc"]


def _rows(path: Path) -> dict[str, dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return {row["id"]: row for row in csv.DictReader(file)}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    root = tmp_path_factory.mktemp("golden")

    def store(name: str) -> Path:
        out = root / name
        if not out.exists():
            assert prepare(name, GOLDEN / "raw" / name, out) == 0
        return out

    return store


@pytest.mark.parametrize("name", FILES)
def test_images_and_labels(name, prepared):
    out = prepared(name)
    for row in TABLES[name]:
        study = row["pid"]
        (folder,) = (GOLDEN / "expected" / name).glob(f"*/{study}")
        for pattern, (view, entry) in FILES[name].items():
            published = nib.load(folder / f"{pattern.format(id=study)}.nii.gz")
            expected = np.asanyarray(published.dataobj)
            is_label = pattern.endswith("_gt")
            series = open_series(series_path(out, study, view, "label" if is_label else "image"))
            got = series.read([entry])[0]
            expected = expected[..., 0] if view != "sax" else expected
            assert got.shape == expected.shape
            difference = np.abs(got.astype(int) - expected.astype(int)).max()
            assert difference <= (0 if is_label else 1), pattern
            np.testing.assert_allclose(series.info.affine, published.affine, atol=1e-4)
            np.testing.assert_allclose(series.info.spacing, published.header.get_zooms()[:3], rtol=1e-6)


def test_whole_series_of_acdc(prepared):
    out = prepared("acdc")
    expected = np.asanyarray(nib.load(next(GOLDEN.glob("expected/acdc/*/patient001/patient001_sax_t.nii.gz"))).dataobj)
    got = open_series(series_path(out, "patient001", "sax")).read()
    assert np.abs(got.astype(int) - np.moveaxis(expected, -1, 0)).max() <= 1
    assert open_series(series_path(out, "patient001", "sax", "label")).info.frames == [0, 2]


@pytest.mark.parametrize("name", FILES)
def test_tables(name, prepared):
    rows = _rows(prepared(name) / "cohort.csv")
    for expected in TABLES[name]:
        got = rows[expected["pid"]]
        for column, value in expected.items():
            if column == "pid":
                continue
            cell = got[RENAMED.get(column, column)]
            if isinstance(value, str):
                assert cell == value, column
            else:
                # Ours count frames from 0.
                value = value - 1 if column in ("ed_frame", "es_frame") else value
                assert float(cell) == pytest.approx(value, rel=1e-9), column


def test_folders_of_the_published_splits(prepared):
    for name in FILES:
        rows = _rows(prepared(name) / "cohort.csv")
        for row in TABLES[name]:
            (folder,) = (GOLDEN / "expected" / name).glob(f"*/{row['pid']}")
            assert rows[row["pid"]]["split"] == folder.parent.name


def test_landmarks(prepared):
    from PIL import Image

    out = prepared("landmark")
    with (out / "landmarks.csv").open(newline="") as file:
        marks = {(row["id"], row["landmark"]): (float(row["x"]), float(row["y"])) for row in csv.DictReader(file)}
    for view in ("lax_2c", "lax_4c"):
        with (GOLDEN / "expected" / "landmark" / f"{view}.csv").open(newline="") as file:
            for row in csv.DictReader(file):
                study = f"{row['uid']}_{view}"
                for number, name in enumerate(("hinge_1", "hinge_2", "apex"), start=1):
                    assert marks[study, name] == (float(row[f"x{number}"]), float(row[f"y{number}"]))
                path = GOLDEN / "expected" / "landmark" / view / "images" / f"{row['uid']}.png"
                expected = np.asarray(Image.open(path)).T.astype(int)
                got = open_series(series_path(out, study, view)).read()[0]
                assert np.abs(got - expected).max() <= 1
