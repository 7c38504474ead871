"""What the published preparation wrote arrives in the store voxel for voxel, with its table."""

import csv
import gzip
import json
import os
import shutil
import struct
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from cinema_lightning.cli import main
from cinema_lightning.data.store import open_series, series_path
from cinema_lightning.datasets.base import DATASETS
from cinema_lightning.datasets.published_layout import layout_of
from cinema_lightning.errors import CinemaError
from cinema_lightning.prepare.command import prepare
from cinema_lightning.prepare.verify import verify

GOLDEN = Path(os.environ.get("CINEMA_GOLDEN", Path(__file__).parents[1] / "golden")) / "prepare"
TABLES = json.loads((GOLDEN / "tables.json").read_text())
RENAMED = {f"{name}_spacing_{axis}": f"orig_sax_spacing_{axis}" for name in ("original_sax", "orig") for axis in "xyz"}
RENAMED["ef"] = "lv_ef"
CINE = {f"_sax_{phase}{kind}": ("sax", entry) for entry, phase in enumerate(("ed", "es")) for kind in ("", "_gt")}
LAX = {f"_lax_4c_{phase}{kind}": ("lax_4c", entry) for entry, phase in enumerate(("ed", "es")) for kind in ("", "_gt")}
FILES = {  # end of the published file -> (view, entry of the series or of the label maps)
    "acdc": CINE | {"_sax_es": ("sax", 2)},
    "mnms": CINE,
    "mnms2": CINE | LAX,
    "emidec": {"": ("sax", 0), "_gt": ("sax", 0)},
    "myops": {"_c0": ("sax", 0), "_de": ("sax", 1), "_t2": ("sax", 2), "_gt": ("sax", 0)},
}


def _copy(name: str, to: Path, table: str = "{split}.csv", **changes) -> Path:
    """The published folder of a dataset with its tables; ``changes`` replace cells of all rows."""
    shutil.copytree(GOLDEN / "expected" / name, to)
    for split in {path.parent.name for path in to.glob("*/*")}:
        rows = [row | changes for row in TABLES[name] if (to / split / row["pid"]).is_dir()]
        with (to / table.format(split=split)).open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    return to


def _rows(path: Path) -> dict[str, dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return {row["id"]: row for row in csv.DictReader(file)}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    root = tmp_path_factory.mktemp("published")

    def store(name: str) -> Path:
        if not (root / name).exists():
            assert prepare(name, _copy(name, root / f"{name}_raw"), root / name) == 0
        return root / name

    return store


@pytest.mark.parametrize("name", FILES)
def test_voxels_arrive_as_they_are(name, prepared):
    out = prepared(name)
    for row in TABLES[name]:
        (folder,) = (GOLDEN / "expected" / name).glob(f"*/{row['pid']}")
        for end, (view, entry) in FILES[name].items():
            published = nib.load(folder / f"{row['pid']}{end}.nii.gz")
            series = open_series(series_path(out, row["pid"], view, "label" if end.endswith("_gt") else "image"))
            expected = np.asanyarray(published.dataobj)
            np.testing.assert_array_equal(series.read([entry])[0], expected if view == "sax" else expected[..., 0])
            np.testing.assert_allclose(series.info.affine, published.affine, atol=1e-4)
    assert verify(name, out) == 0


def test_the_whole_cine_arrives(prepared):
    expected = np.asanyarray(nib.load(next(GOLDEN.glob("expected/acdc/*/patient001/patient001_sax_t.nii.gz"))).dataobj)
    series = open_series(series_path(prepared("acdc"), "patient001", "sax"))
    np.testing.assert_array_equal(series.read(), np.moveaxis(expected, -1, 0))
    assert open_series(series_path(prepared("acdc"), "patient001", "sax", "label")).info.frames == [0, 2]


@pytest.mark.parametrize("name", FILES)
def test_tables_and_splits_arrive(name, prepared):
    rows = _rows(prepared(name) / "cohort.csv")
    assert rows.keys() == {row["pid"] for row in TABLES[name]}
    for expected in TABLES[name]:
        got = rows[expected["pid"]]
        (folder,) = (GOLDEN / "expected" / name).glob(f"*/{expected['pid']}")
        assert got["split"] == folder.parent.name
        for column, value in expected.items():
            cell = got[RENAMED.get(column, column)] if column != "pid" else got["id"]
            if isinstance(value, str):
                assert cell == value, column
            else:
                value = value - 1 if column in ("ed_frame", "es_frame") else value  # ours count from 0
                assert float(cell) == pytest.approx(value, rel=1e-9), column


def test_it_is_the_store_that_the_raw_data_gives(prepared, tmp_path):
    assert prepare("acdc", GOLDEN / "raw" / "acdc", tmp_path / "out") == 0
    ours, theirs = _rows(tmp_path / "out" / "cohort.csv"), _rows(prepared("acdc") / "cohort.csv")
    assert ours == theirs
    for study in ours:
        one, other = (open_series(series_path(root, study, "sax")) for root in (tmp_path / "out", prepared("acdc")))
        assert np.abs(one.read().astype(int) - other.read()).max() <= 1


def test_small_pictures(tmp_path):
    assert prepare("acdc", _copy("acdc", tmp_path / "raw"), tmp_path / "out", size="small") == 0
    assert open_series(series_path(tmp_path / "out", "patient001", "sax")).info.spacing == (3.0, 3.0, 10.0)
    assert verify("acdc", tmp_path / "out") == 0


@pytest.mark.parametrize("name", FILES)
def test_without_tables_the_images_still_arrive(name, tmp_path):
    assert prepare(name, GOLDEN / "expected" / name, tmp_path) == 0
    rows = _rows(tmp_path / "cohort.csv")
    for row in TABLES[name]:
        for column in ("lv_edv", "lv_esv", "rv_ef", "n_slices"):
            if column in row:
                assert float(rows[row["pid"]][column]) == pytest.approx(row[column])
        assert rows[row["pid"]]["orig_sax_spacing_x"] == ""  # 1 mm is not what it was acquired with
    assert "no table beside it" in (tmp_path / "warnings.csv").read_text()


def test_landmarks(tmp_path):
    from PIL import Image

    assert prepare("landmark", GOLDEN / "expected" / "landmark", tmp_path) == 0
    with (tmp_path / "landmarks.csv").open(newline="") as file:
        marks = {(row["id"], row["landmark"]): (float(row["x"]), float(row["y"])) for row in csv.DictReader(file)}
    for view in ("lax_2c", "lax_4c"):
        with (GOLDEN / "expected" / "landmark" / f"{view}.csv").open(newline="") as file:
            for row in csv.DictReader(file):
                study = f"{row['uid']}_{view}"
                for number, name in enumerate(("hinge_1", "hinge_2", "apex"), start=1):
                    assert marks[study, name] == (float(row[f"x{number}"]), float(row[f"y{number}"]))
                path = GOLDEN / "expected" / "landmark" / view / "images" / f"{row['uid']}.png"
                got = open_series(series_path(tmp_path, study, view)).read()[0]
                np.testing.assert_array_equal(got, np.asarray(Image.open(path)).T)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lv_edv": 100.0}, "its row says lv_edv 100, its images 31.46; do they belong together?"),
        ({"n_slices": 9}, "its row says n_slices 9, its images 3"),
        ({"ed_frame": 2}, "its row says ed_frame 1, its images 0"),
        ({"ed_frame": "first"}, "ed_frame in train.csv is 'first', not a whole number"),
    ],
)
def test_a_row_of_other_images_is_refused(changes, message, tmp_path):
    raw = _copy("acdc", tmp_path / "raw", **changes)
    assert prepare("acdc", raw, tmp_path / "out") == 1
    assert message in _rows(tmp_path / "out" / "failures.csv")["patient001"]["reason"]


def test_sums_of_class_codes_are_no_volumes(tmp_path):
    """An earlier release wrote ``edv`` and ``ef`` from the sum of the codes of all classes."""
    raw = _copy("acdc", tmp_path / "raw", edv=250.0, esv=150.0, ef=40.0)
    assert prepare("acdc", raw, tmp_path / "out") == 0
    row = _rows(tmp_path / "out" / "cohort.csv")["patient001"]
    assert (float(row["lv_edv"]), float(row["lv_esv"])) == (31.46, 13.45)
    assert "edv" not in row


def test_images_that_were_not_preprocessed(tmp_path):
    raw = _copy("acdc", tmp_path / "raw")
    for path in (raw / "train" / "patient001").glob("*.nii.gz"):
        image = nib.load(path)
        nib.save(nib.Nifti1Image(np.asanyarray(image.dataobj), np.diag([1.5, 1.5, 0.8, 1]) @ image.affine), path)
    assert prepare("acdc", raw, tmp_path / "out") == 1
    reason = _rows(tmp_path / "out" / "failures.csv")["patient001"]["reason"]
    assert (
        "192 x 192 pixels of 1.5, 1.5, 8 mm; the published preparation leaves at most 192 x 192 of 1, 1, 10" in reason
    )


def test_a_label_map_that_lies_elsewhere(tmp_path):
    raw = _copy("mnms", tmp_path / "raw")
    path = raw / "train" / "A1B2C3" / "A1B2C3_sax_es_gt.nii.gz"
    image = nib.load(path)
    nib.save(nib.Nifti1Image(np.asanyarray(image.dataobj)[::-1], image.affine @ np.diag([-1, 1, 1, 1])), path)
    assert prepare("mnms", raw, tmp_path / "out") == 1
    assert "but its header places it 191.0 mm away" in _rows(tmp_path / "out" / "failures.csv")["A1B2C3"]["reason"]


def test_a_label_map_that_is_stored_backwards_comes_back_to_its_image(prepared, tmp_path):
    raw = _copy("mnms", tmp_path / "raw")
    path = raw / "train" / "A1B2C3" / "A1B2C3_sax_es_gt.nii.gz"
    image = nib.load(path)
    back = image.affine @ np.diag([1, -1, 1, 1])
    back[:3, 3] = (image.affine @ [0, image.shape[1] - 1, 0, 1])[:3]
    nib.save(nib.Nifti1Image(np.asanyarray(image.dataobj)[:, ::-1], back), path)
    assert prepare("mnms", raw, tmp_path / "out") == 0
    got, true = (
        open_series(series_path(root, "A1B2C3", "sax", "label")) for root in (tmp_path / "out", prepared("mnms"))
    )
    np.testing.assert_array_equal(got.read(), true.read())
    assert "was stored backwards along y" in (tmp_path / "out" / "warnings.csv").read_text()


def test_the_choice_between_sform_and_pixdim(tmp_path):
    raw = _copy("acdc", tmp_path / "raw")
    for path in (raw / "train" / "patient001").glob("*.nii.gz"):
        data = bytearray(gzip.decompress(path.read_bytes()))
        struct.pack_into("<f", data, 88, 1.0)  # pixdim along z; its sform says 10 mm
        path.write_bytes(gzip.compress(data))
    assert prepare("acdc", raw, tmp_path / "out") == 1
    assert "--geometry sform or --geometry pixdim" in _rows(tmp_path / "out" / "failures.csv")["patient001"]["reason"]
    assert prepare("acdc", raw, tmp_path / "out", geometry="sform") == 0
    assert float(_rows(tmp_path / "out" / "cohort.csv")["patient001"]["lv_edv"]) == 31.46


def test_files_that_are_not_packed(tmp_path):
    raw = _copy("acdc", tmp_path / "raw")
    for path in raw.rglob("*.nii.gz"):
        path.with_suffix("").write_bytes(gzip.decompress(path.read_bytes()))
        path.unlink()
    assert prepare("acdc", raw, tmp_path / "out") == 0
    row = _rows(tmp_path / "out" / "cohort.csv")["patient001"]
    assert (float(row["lv_edv"]), row["n_frames"], row["es_frame"]) == (31.46, "3", "2")


def test_tables_say_the_split_where_all_cases_lie_in_one_folder(tmp_path):
    raw = _copy("emidec", tmp_path / "raw", table="test_metadata.csv")
    assert prepare("emidec", raw, tmp_path / "out") == 0
    assert _rows(tmp_path / "out" / "cohort.csv")["P006"]["split"] == "test"


def test_rows_and_folders_that_have_no_partner(tmp_path):
    raw = _copy("acdc", tmp_path / "raw")
    (raw / "train" / "patient001").rename(raw / "test" / "patient001")
    shutil.copytree(GOLDEN / "expected" / "acdc" / "train" / "patient001", raw / "train" / "patient002")
    for path in (raw / "train" / "patient002").iterdir():
        path.rename(path.with_name(path.name.replace("001", "002")))
    text = (raw / "test.csv").read_text()
    (raw / "test.csv").write_text(text + text.splitlines()[1].replace("patient101", "patient102") + "\n")
    assert prepare("acdc", raw, tmp_path / "out") == 1
    reasons = {name: row["reason"] for name, row in _rows(tmp_path / "out" / "failures.csv").items()}
    assert reasons["patient001"] == "it lies in test, but train.csv lists it"
    assert "test.csv lists it, but" in reasons["patient102"]
    assert _rows(tmp_path / "out" / "cohort.csv").keys() == {"patient002", "patient101"}
    assert "no table of" in (tmp_path / "out" / "warnings.csv").read_text()


def test_a_case_in_two_splits(tmp_path):
    raw = _copy("acdc", tmp_path / "raw")
    shutil.copytree(raw / "train" / "patient001", raw / "test" / "patient001")
    assert prepare("acdc", raw, tmp_path / "out") == 1
    reason = _rows(tmp_path / "out" / "failures.csv")["patient001"]["reason"]
    assert reason == "the id is listed 2 times; ids must be unique"


def test_validation_is_drawn_as_from_the_raw_data(tmp_path):
    raw, groups = tmp_path / "raw", ("DCM", "HCM", "MINF", "NOR", "RV")
    (raw / "train").mkdir(parents=True)
    names = [f"patient{number:03d}" for number in range(1, 101)]
    for name in names:
        (raw / "train" / name).mkdir()
        (raw / "train" / name / f"{name}_sax_ed.nii.gz").touch()
    rows = "".join(f"{name},{groups[index // 20]}\n" for index, name in enumerate(names))
    (raw / "train_metadata.csv").write_text(f"pid,pathology\n{rows}")
    cases = layout_of(DATASETS["acdc"], raw).cases(raw)
    drawn = [int(case.id[-3:]) for case in cases if case.split == "val"]
    assert drawn == [2, 19, 22, 32, 54, 56, 61, 79, 82, 88]


def test_what_the_folder_is_has_to_be_clear(tmp_path):
    raw = _copy("acdc", tmp_path / "raw")
    with pytest.raises(CinemaError, match=r"holds preprocessed data, but 'patient101' is no id of M&Ms-2|'patient001'"):
        prepare("mnms2", raw, tmp_path / "out")
    shutil.copytree(GOLDEN / "raw" / "acdc" / "database", raw / "database")
    with pytest.raises(CinemaError, match="holds ACDC as its provider ships it and as the published preparation"):
        prepare("acdc", raw, tmp_path / "out")
    shutil.rmtree(raw / "database")
    shutil.copy(raw / "train.csv", raw / "train_metadata.csv")
    with pytest.raises(CinemaError, match=r"has train\.csv and train_metadata\.csv; keep the one"):
        prepare("acdc", raw, tmp_path / "out")


def test_from_the_hub(tmp_path, monkeypatch, capsys):
    import huggingface_hub

    asked = []

    def download(repo, *, repo_type, allow_patterns):
        asked.append((repo, repo_type, allow_patterns))
        return str(_copy("acdc", tmp_path / "snapshot"))

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert main(["prepare", "acdc", "--raw", "mathpluscode/ACDC", "--out", "store"]) == 0
    assert asked == [("mathpluscode/ACDC", "dataset", ["*.nii.gz", "*.csv"])]
    assert float(_rows(tmp_path / "store" / "cohort.csv")["patient101"]["lv_edv"]) == 55.95

    def offline(*_args, **_options):
        raise ConnectionError("no route to the host\nand a long story")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", offline)
    assert main(["prepare", "acdc", "--raw", "mathpluscode/ACDC", "--out", "other"]) == 2
    said = capsys.readouterr().err
    assert "no data set of that name could be fetched from the Hugging Face hub (no route to the host)" in said
    assert not (tmp_path / "other").exists()
