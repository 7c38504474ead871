"""The promise of the README: own NIfTI, one description, and every verb works by name."""

import csv
import json
import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from cinema_lightning.cli import main
from cinema_lightning.data.store import open_series, series_path

TRAIN = ["--config", "laptop.yaml", "--trainer.max_epochs=1", "--trainer.limit_train_batches=1", "--data.num_workers=0"]
TRAIN += ["--trainer.check_val_every_n_epoch=1", "--model.network.size=tiny"]
TRAIN += ["--data.input_size={sax: [64, 64, 8]}"]


def _rows(path: Path) -> dict[str, dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return {row["id"]: row for row in csv.DictReader(file)}


@pytest.fixture(scope="module")
def place(tmp_path_factory, own):
    """A folder with own data, prepared (small pictures, for time)."""
    place = own.make(tmp_path_factory.mktemp("own"))
    before = Path.cwd()
    os.chdir(place)
    try:
        assert main(["prepare", "mine.yaml", "--raw", ".", "--out", "data/mine", "--size", "small"]) == 0
        yield place
    finally:
        os.chdir(before)


def test_the_table_holds_what_the_files_and_people_say(place, own):
    rows = _rows(place / "data/mine/cohort.csv")
    assert len(rows) == 12
    row = rows["P03"]
    assert (row["ed_frame"], row["es_frame"], row["n_frames"]) == ("1", "3", "4")  # the table counts from 1
    assert (row["age"], row["sex"], row["diagnosis"]) == ("43", "F", "DCM")
    maps = [own.label_map(radius) for radius in own.radii(3, 4)]
    edv, esv = (own.millilitres(maps[frame], own.CODES["LV"]) for frame in (1, 3))
    assert float(row["lvef"]) == pytest.approx((edv - esv) / edv * 100, abs=0.006)  # a decimal comma
    # 8 slices of 8 mm become 6 of 10 mm, voxels of 3 mm in plane: what is measured is near the scan's own volume
    assert float(row["lv_edv"]) == pytest.approx(edv * 60 / 64, rel=0.06)
    assert float(row["lv_ef"]) == pytest.approx(float(row["lvef"]), abs=4)
    assert row["crop_centre"] == "motion"
    splits = [one["split"] for one in rows.values()]
    assert [splits.count(name) for name in ("train", "val", "test")] == [6, 3, 3]


def test_verify_and_describe_know_it_by_name(place, capsys):
    assert main(["verify", "mine", "--root", "data/mine"]) == 0
    assert main(["describe", "mine", "--root", "data/mine"]) == 0
    said = capsys.readouterr().out
    assert "12 studies, 0 errors" in said
    assert "diagnosis DCM" in said
    assert "lvef" in said
    assert main(["verify", "yours", "--root", "data/mine"]) == 2
    assert "made of 'mine'" in capsys.readouterr().err


def test_a_second_run_keeps_what_is_up_to_date_and_makes_what_changed(place, capsys):
    command = ["prepare", "mine.yaml", "--raw", ".", "--out", "data/mine", "--size", "small"]
    cohort = (place / "data/mine/cohort.csv").read_bytes()
    assert main(command) == 0
    assert "0 prepared, 12 already up to date" in capsys.readouterr().out
    os.utime(place / "masks/P05_ES.nii.gz", (1, 1))
    assert main(command) == 0
    assert "1 prepared, 11 already up to date" in capsys.readouterr().out
    assert (place / "data/mine/cohort.csv").read_bytes() == cohort


def test_shards_and_workers_give_the_same_store(place, tmp_path):
    out = tmp_path / "store"
    for part in ("1/2", "2/2"):
        command = ["prepare", "mine.yaml", "--raw", ".", "--out", str(out), "--size", "small", "--shard", part]
        assert main([*command, "--workers", "2" if part == "1/2" else "1"]) == 0
    for name in ("cohort.csv", "dataset.yaml", "P01/sax.b2nd", "P12/sax_label.b2nd"):
        assert (out / name).read_bytes() == (place / "data/mine" / name).read_bytes(), name


def test_masks_come_back_in_their_codes_on_the_scans_grids(place):
    assert main(["fit", "--config", "seg.yaml", *TRAIN, "--data.root", "data/mine"]) == 0
    assert main(["test", "--config", "seg.yaml", "--config", "laptop.yaml", "--output.nifti", "true"]) == 0
    folder = place / "runs/seg+laptop/0/test/mine"
    found = sorted((folder / "nifti").rglob("*.nii.gz"))
    assert len(found) == 6  # three test subjects, ED and ES
    for path in found:
        mask = nib.load(path)
        scan = nib.load(place / "scans" / path.parent.name / "cine.nii.gz")
        assert mask.shape == scan.shape[:3]
        np.testing.assert_allclose(mask.affine, scan.affine, atol=1e-5)
        assert set(np.unique(np.asarray(mask.dataobj)).tolist()) <= {0, 10, 20, 30}
    cases = _rows(folder / "cases.csv")
    assert cases
    assert {"lv_dice", "rv_dice", "myocardium_dice"} <= set(next(iter(cases.values())))
    assert main(["predict", "--config", "seg.yaml", "--config", "laptop.yaml", "--data.predict_split", "test"]) == 0
    assert (place / "runs/seg+laptop/0/predictions").is_dir()


def test_a_perfect_prediction_comes_back_as_the_label_map(place):
    """The way back of :class:`Native`, without a network: probabilities of 1 for the true class."""
    from cinema_lightning.data.native import native_of

    series = open_series(series_path(place / "data/mine", "P02", "sax"))
    label = open_series(series_path(place / "data/mine", "P02", "sax", "label")).read([0])[0]
    native = native_of(series.info, label.shape)
    codes = [0, 1, 2, 3]
    back = native.own_codes(native.label_map(np.stack([label == code for code in codes]).astype(np.float32), codes))
    truth = np.asarray(nib.load(place / "masks/P02_ED.nii.gz").dataobj)
    assert set(np.unique(back).tolist()) == {0, 10, 20, 30}
    for code in (10, 20, 30):
        overlap = 2 * ((back == code) & (truth == code)).sum() / ((back == code).sum() + (truth == code).sum())
        assert overlap > 0.85, code


@pytest.mark.parametrize(("config", "target", "words"), [("regress", "lvef", ""), ("classify", "diagnosis", "DCM ")])
def test_any_column_is_a_target(place, config, target, words, capsys, caplog):
    task = ["--config", f"{config}.yaml", *TRAIN]
    assert main(["fit", *task, "--data.root", "data/mine", "--data.target", target]) == 0, capsys.readouterr().err
    assert words in "\n".join(caplog.messages)  # the classes that were found
    # root and target are the run's
    assert main(["test", "--config", f"{config}.yaml", "--config", "laptop.yaml"]) == 0, capsys.readouterr().err
    facts = json.loads((place / f"runs/{config}+laptop/0/test/mine/test.json").read_text())
    assert facts["target"] == target
    assert facts["dataset"] == "mine"


def test_general_configurations_say_what_they_need(place, capsys):
    assert main(["fit", "--config", "seg.yaml"]) == 2
    assert "data.root is empty" in capsys.readouterr().err
    assert main(["fit", "--config", "classify.yaml", *TRAIN, "--data.root", "data/mine"]) == 2
    message = capsys.readouterr().err
    assert "data.target" in message
    assert "diagnosis" in message
    assert not (place / "runs/classify+laptop/1").exists()
    wrong = ["fit", "--config", "acdc_seg.yaml", *TRAIN, "--data.root", "data/mine"]
    assert main(wrong) == 2
    assert "made of 'mine'" in capsys.readouterr().err


@pytest.mark.slow
def test_benchmark_runs_on_it(place):
    (place / "bench.yaml").write_text(
        "name: bench\nroot: bench\nseeds: [0]\nfractions: [100]\noverlays: [laptop.yaml]\n"
        "arguments: {data.init_args.root: data/mine, data.init_args.num_workers: 0, trainer.max_epochs: 1, "
        "trainer.limit_train_batches: 1, model.init_args.network.init_args.size: tiny, "
        "data.init_args.input_size: {sax: [64, 64, 8]}}\n"
        "test_arguments: {data.init_args.root: data/mine, data.init_args.num_workers: 0}\n"
        "arms: {dense: {scratch: {display: scratch}}}\n"
        "tasks: {seg: {kind: dense}}\n"
    )
    assert main(["benchmark", "run", "--config", "bench.yaml", "--local"]) == 0
    assert main(["benchmark", "report", "--config", "bench.yaml"]) == 0
    assert list((place / "bench/cells").rglob("mine/cases.csv")) or list((place / "bench/cells").rglob("cases.csv"))
