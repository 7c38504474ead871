"""Every downstream task from its configuration to its results, on phantoms of its dataset; and what users get wrong."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import pytest

from cinema_lightning.cli import main
from cinema_lightning.configs import list_configs, read_config
from cinema_lightning.data.store import open_series, series_path
from cinema_lightning.tasks.segmentation import task as segmentation
from cinema_lightning.tasks.segmentation.task import dense_probabilities

OVERLAYS = {"phantom.yaml", "laptop.yaml", "cinema.yaml", "domain.yaml", "strong.yaml", "upright.yaml"}
TASKS = [name for name, _ in list_configs() if name not in OVERLAYS | {"pretrain.yaml"} and "benchmark" not in name]
# phantoms of no dataset have no landmarks marked; tests/datasets/described learns landmarks of own data
TASKS = [name for name in TASKS if "site" not in name and name != "landmarks.yaml"]
TARGETS = {"classify.yaml": "pathology", "regress.yaml": "lv_ef"}
SMALL = [
    "--config",
    "phantom.yaml",
    "--phantom.subjects",
    "24",
    "--phantom.workers",
    "1",
    "--model.network.size",
    "tiny",
]
SHORT = ["--trainer.max_epochs", "1", "--trainer.limit_train_batches", "2", "--data.batch_size", "2"]
FAST = ("acdc_seg.yaml", "acdc_cvd.yaml", "acdc_ef.yaml", "landmark_heatmap_2ch.yaml", "landmark_coordinate_4ch.yaml")


@pytest.fixture(scope="session")
def root(tmp_path_factory) -> Path:
    """Folder of all phantom cohorts, each made by the first test that needs it."""
    return tmp_path_factory.mktemp("phantoms")


@pytest.fixture(scope="session")
def run(root, tmp_path_factory):
    """Fits and tests a configuration once; gives the run's folder."""
    runs = tmp_path_factory.mktemp("runs")
    done: dict[str, Path] = {}

    def fit_and_test(config: str) -> Path:
        if config not in done:
            options = [*SMALL, "--phantom.root", str(root), "--runs", str(runs)]
            target = [f"--data.target={TARGETS[config]}"] if config in TARGETS else []
            assert main(["fit", "--config", config, *options, *SHORT, *target]) == 0
            assert main(["test", "--config", config, *options, "--output.nifti", "true"]) == 0
            done[config] = runs / f"{Path(config).stem}+phantom" / "0"
        return done[config]

    return fit_and_test


def results_of(folder: Path) -> tuple[Path, pd.DataFrame, dict]:
    (out,) = (folder / "test").iterdir()
    cases = pd.read_csv(out / "cases.csv", dtype={"id": str, "subject": str})
    return out, cases, json.loads((out / "summary.json").read_text())


def check(out: Path, cases: pd.DataFrame, summary: dict, config: str) -> None:
    facts = json.loads((out / "test.json").read_text())
    assert len(cases)
    assert cases["subject"].notna().all()
    assert not cases.duplicated([name for name in ("id", "frame", "view") if name in cases]).any()
    table = pd.read_csv(out / "summary.csv")
    assert {"metric", "value", "sd", "median", "low", "high", "n", "n_missing"} <= set(table.columns)
    assert (table["n"] <= len(cases)).all()
    assert summary["facts"]["kind"] == facts["kind"]
    assert list((out / "pictures").glob("*.png")), "no picture"
    assert summary["headlines"], config


@pytest.mark.parametrize("config", [c if c in FAST else pytest.param(c, marks=pytest.mark.slow) for c in TASKS])
def test_every_configuration_fits_and_tests(config, run, root, tmp_path):
    if config == "kaggle_seg.yaml":  # tests what was trained elsewhere
        trained = run("acdc_seg.yaml")
        options = [*SMALL, "--phantom.root", str(root), "--output.folder", str(tmp_path / "kaggle")]
        checkpoint = str(trained / "checkpoints" / "best.ckpt")
        assert main(["test", "--config", config, *options, "--ckpt_path", checkpoint]) == 0
        function = pd.read_csv(tmp_path / "kaggle" / "function.csv")
        assert function["lv_edv_true"].notna().all()
        assert main(["fit", "--config", config, *SMALL, "--phantom.root", str(root), "--runs", str(tmp_path)]) == 2
        return
    out, cases, summary = results_of(run(config))
    check(out, cases, summary, config)
    kind = read_config_kind(config)
    assert json.loads((out / "test.json").read_text())["kind"] == kind
    if kind == "survival":
        assert len(pd.read_csv(out / "validation.csv"))
        assert (cases["split"] == "test").all()


def read_config_kind(config: str) -> str:
    names = {
        "seg": "segmentation",
        "cvd": "classification",
        "ef": "regression",
        "regress": "regression",
        "bmi": "regression",
        "age": "regression",
    }
    stem = Path(config).stem
    if stem.startswith("landmark"):
        return "landmarks"
    return names.get(stem.rsplit("_", 1)[-1], "survival" if stem.endswith("survival") else "classification")


def test_segmentation_results_are_the_images_own(run, root):
    folder = run("acdc_seg.yaml")
    out, cases, _ = results_of(folder)
    store = root / "acdc"
    table = pd.read_csv(store / "cohort.csv", dtype={"id": str}).set_index("id")
    assert set(cases["id"]) == set(table.index[table["split"] == "test"])
    for row in cases.to_dict("records"):
        study = table.loc[row["id"]]
        assert row["frame"] == study[f"{row['phase'].lower()}_frame"]
        labels = open_series(series_path(store, row["id"], "sax", "label"))
        true = labels.read([labels.info.frames.index(row["frame"])])[0]
        ml = np.prod(labels.info.spacing) / 1000
        assert row["lv_volume_true"] == pytest.approx((true == 3).sum() * ml, rel=1e-5)
        series = open_series(series_path(store, row["id"], "sax"))
        written = nibabel.load(out / "nifti" / row["id"] / f"sax_frame{row['frame']:02d}_label.nii.gz")
        assert list(written.shape) == series.info.provenance["orig_size"]
        assert np.allclose(written.affine, series.info.provenance["orig_affine"], atol=1e-4)
    function = pd.read_csv(out / "function.csv", dtype={"id": str}).set_index("id")
    for study in function.index:
        assert function.loc[study, "lv_ef_true"] == pytest.approx(table.loc[study, "lv_ef"], abs=0.01)
        assert function.loc[study, "lv_mass_true"] == pytest.approx(table.loc[study, "lv_mass"], rel=1e-3)


def test_testing_again_changes_nothing_and_shards_merge_to_the_same(run, root, tmp_path, caplog, capsys, monkeypatch):
    folder = run("acdc_seg.yaml")
    options = ["--config", "acdc_seg.yaml", *SMALL, "--phantom.root", str(root), "--runs", str(folder.parents[1])]
    before = (folder / "test" / "acdc" / "cases.csv").stat().st_mtime_ns
    assert main(["test", *options, "--output.nifti", "true"]) == 0
    assert "Already there" in caplog.text
    assert (folder / "test" / "acdc" / "cases.csv").stat().st_mtime_ns == before
    for part in ("2/2", "1/2"):
        assert not (tmp_path / "parts" / "cases.csv").exists()
        assert main(["test", *options, "--output.folder", str(tmp_path / "parts"), "--shard", part]) == 0
    whole = (folder / "test" / "acdc" / "cases.csv").read_text()
    assert (tmp_path / "parts" / "cases.csv").read_text() == whole
    assert (tmp_path / "parts" / "summary.csv").is_file()
    # another precision gives other last digits: not into the same folder
    monkeypatch.setattr("cinema_lightning.trainer_options.has_fast_bf16", lambda device: True)
    assert main(["test", *options, "--output.nifti", "true", "--trainer.precision", "bf16-mixed"]) == 2
    assert "holds results of another checkpoint, other data or other options" in capsys.readouterr().err


@pytest.mark.slow
def test_tables_and_images_come_from_one_pass_through_the_network(run, root, tmp_path, monkeypatch):
    folder = run("acdc_seg.yaml")
    options = ["--config", "acdc_seg.yaml", *SMALL, "--phantom.root", str(root), "--runs", str(folder.parents[1])]
    passes = []

    def counted(network, batch, *arguments):
        passes.append(batch["id"])
        return dense_probabilities(network, batch, *arguments)

    monkeypatch.setattr(segmentation, "dense_probabilities", counted)
    for verb, more in (("test", ["--output.overlays", "0"]), ("predict", ["--output.pictures", "true"])):
        passes.clear()
        place = ["--output.folder", str(tmp_path / verb), "--data.batch_size", "1"]
        assert main([verb, *options, *place, "--output.nifti", "true", *more]) == 0
        rows = pd.read_csv(tmp_path / verb / {"test": "cases.csv", "predict": "predictions.csv"}[verb])
        assert len(passes) == len(rows), verb


def test_landmarks_that_the_data_does_not_mark_are_named_and_left_out(run, root, tmp_path):
    folder = run("landmark_heatmap_2ch.yaml")
    shutil.copytree(root / "landmark", tmp_path / "landmark")
    table = pd.read_csv(tmp_path / "landmark" / "landmarks.csv", dtype=str)
    gone = table["landmark"].iloc[0]
    table[table["landmark"] != gone].to_csv(tmp_path / "landmark" / "landmarks.csv", index=False)
    command = ["test", "--config", "landmark_heatmap_2ch.yaml", "--data.root", str(tmp_path / "landmark")]
    command += ["--ckpt_path", str(folder / "checkpoints" / "best.ckpt"), "--output.folder", str(tmp_path / "out")]
    with pytest.warns(UserWarning, match=f"does not mark {gone}"):
        assert main([*command, "--trainer.accelerator", "cpu", "--data.num_workers", "0"]) == 0
    cases = pd.read_csv(tmp_path / "out" / "cases.csv")
    assert cases[f"{gone}_distance_px"].isna().all()
    assert cases["mean_distance_px"].notna().all()


def test_a_limit_on_the_batches_makes_no_whole_result(run, root, tmp_path, caplog):
    folder = run("acdc_seg.yaml")
    options = ["--config", "acdc_seg.yaml", *SMALL, "--phantom.root", str(root), "--runs", str(folder.parents[1])]
    options += ["--output.folder", str(tmp_path / "limited"), "--data.batch_size", "2"]
    with pytest.warns(UserWarning, match=r"^1 of \d+ batches were done \(trainer.limit_test_batches"):
        assert main(["test", *options, "--trainer.limit_test_batches", "1"]) == 0
    assert not list((tmp_path / "limited").glob("*.csv"))
    assert main(["test", *options]) == 0
    whole = (folder / "test" / "acdc" / "cases.csv").read_text()
    assert (tmp_path / "limited" / "cases.csv").read_text() == whole


def test_regression_follows_the_statistics_of_its_training(run, root):
    folder = run("acdc_ef.yaml")
    out, cases, _ = results_of(folder)
    facts = json.loads((out / "test.json").read_text())
    table = pd.read_csv(root / "acdc" / "cohort.csv", dtype={"id": str}).set_index("id")
    train = table.loc[table["split"] == "train", "lv_ef"]
    assert facts["mean"] == pytest.approx(train.mean())
    assert facts["std"] == pytest.approx(train.std())
    assert facts["unit"] == "%"
    assert np.allclose(cases["true"], table.loc[cases["id"], "lv_ef"], atol=1e-3)
    assert np.allclose(cases["absolute_error"], (cases["predicted"] - cases["true"]).abs(), atol=1e-3)


def test_classification_rows_are_probabilities(run):
    _, cases, _ = results_of(run("acdc_cvd.yaml"))
    columns = ["prob_DCM", "prob_HCM", "prob_MINF", "prob_NOR", "prob_RV"]
    assert np.allclose(cases[columns].sum(axis=1), 1, atol=1e-5)
    assert (cases["predicted"] == cases[columns].idxmax(axis=1).str.removeprefix("prob_")).all()


def test_landmark_distances_are_those_of_the_points(run):
    _, cases, _ = results_of(run("landmark_heatmap_2ch.yaml"))
    for name in ("hinge_1", "hinge_2", "apex"):
        offset = [cases[f"{name}_{axis}_pred"] - cases[f"{name}_{axis}_true"] for axis in "xy"]
        assert np.allclose(np.hypot(*offset), cases[f"{name}_distance_px"], atol=1e-3)
    assert cases["mean_distance_mm"].isna().all(), "the voxel size of these images is not known"


@pytest.fixture(scope="module")
def survivors(phantom_cohort, tmp_path_factory) -> Path:
    runs = tmp_path_factory.mktemp("survival")
    options = ["--config", "ukb_survival.yaml", "--config", "phantom.yaml", "--data.dataset", "phantom"]
    options += ["--data.root", str(phantom_cohort), "--model.network.size", "tiny", "--runs", str(runs)]
    options += ["--data.val_fraction", "0.3"]
    assert main(["fit", *options, "--trainer.max_epochs", "1", "--data.batch_size", "4"]) == 0
    assert main(["test", *options]) == 0
    return runs / "ukb_survival+phantom" / "0"


def test_survival_keeps_validation_subjects_apart(survivors, phantom_cohort):
    out = survivors / "test" / "phantom"
    cases = pd.read_csv(out / "cases.csv", dtype={"id": str})
    validation = pd.read_csv(out / "validation.csv", dtype={"id": str})
    assert not set(cases["id"]) & set(validation["id"])
    table = pd.read_csv(phantom_cohort / "cohort.csv", dtype={"id": str}).set_index("id")
    assert np.allclose(cases["time"], table.loc[cases["id"], "time"], rtol=1e-5)
    assert (cases["event"].to_numpy() == table.loc[cases["id"], "event"].to_numpy()).all()


def test_weights_are_reported_and_those_of_another_size_refused(run, root, tmp_path, capfd, caplog):
    weights = str(run("acdc_seg.yaml") / "checkpoints" / "best.ckpt")
    options = ["fit", "--config", "acdc_seg.yaml", *SMALL, "--phantom.root", str(root), "--runs", str(tmp_path), *SHORT]
    assert main([*options, "--model.weights", weights]) == 0
    assert "Loaded" in caplog.text
    assert main([*options, "--model.weights", weights, "--model.network.size", "mini"]) == 2
    assert "does not fit" in capfd.readouterr().err
    assert main([*options, "--model.weights", str(tmp_path / "absent.ckpt")]) == 2
    assert "absent.ckpt" in capfd.readouterr().err


def test_a_run_by_name_is_its_best_checkpoint(run, root, caplog):
    folder = run("acdc_seg.yaml")
    runs = folder.parents[1]
    options = ["fit", "--config", "acdc_ef.yaml", *SMALL, "--phantom.root", str(root), "--runs", str(runs), *SHORT]
    assert main([*options, "--name", "from_name", "--model.weights", "acdc_seg+phantom"]) == 0
    assert str(folder / "checkpoints" / "best.ckpt") in caplog.text
    kept = read_config(runs / "from_name" / "0" / "config.yaml")
    assert kept["model"]["init_args"]["weights"] == str(folder / "checkpoints" / "best.ckpt")


@pytest.mark.parametrize(
    ("config", "options", "words"),
    [
        ("acdc_seg.yaml", ["--model.network", "ConvViT"], "another kind than is needed here; try ConvUNetR"),
        ("acdc_cvd.yaml", ["--model.network", "UNet"], "another kind than is needed here; try ConvViT"),
        ("acdc_cvd.yaml", ["--data.target", "colour"], "no column 'colour'"),
        ("acdc_cvd.yaml", ["--data.classes", "[DCM,HCM,XYZ]"], "XYZ"),
        ("acdc_seg.yaml", ["--data", "RegressionData"], "data.class_path"),
        ("acdc_seg.yaml", ["--model.lora.rank", "4", "--model.freeze", "backbone"], "freeze"),
        ("acdc_seg.yaml", ["--data.dataset", "emidec"], "made of ACDC"),
        ("ukb_survival.yaml", ["--data.dataset", "acdc", "--data.assumed_phases", "null"], "time"),
    ],
)
def test_mistakes_are_one_sentence(config, options, words, run, root, tmp_path, capfd):
    run("acdc_seg.yaml")
    store = str(root / "acdc")
    command = ["fit", "--config", config, *SMALL, "--data.root", store, "--runs", str(tmp_path), *SHORT, *options]
    assert main(command) == 2
    message = capfd.readouterr().err
    assert words in message.splitlines()[-1], message
    assert "Traceback" not in message


def test_testing_what_was_never_trained_stops(root, tmp_path, capfd):
    command = ["test", "--config", "acdc_seg.yaml", *SMALL, "--phantom.root", str(root), "--runs", str(tmp_path)]
    assert main(command) == 2
    assert "random weights" in capfd.readouterr().err
