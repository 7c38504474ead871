"""Checkpoints and configurations of before modules moved go on working: a run of an earlier version, kept as it was."""

import shutil
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml

from cinema_lightning.cli import main
from cinema_lightning.configs import unfold_arguments
from cinema_lightning.errors import CinemaError
from cinema_lightning.models.convunetr import ConvUNetR
from cinema_lightning.registry import BACKBONES, DATA, TASKS, class_path, up_to_date
from cinema_lightning.runs import check_same_experiment
from cinema_lightning.weights.compatibility import refuse_foreign_classes
from cinema_lightning.weights.files import load_checkpoint
from cinema_lightning.weights.restore import load_task
from cinema_lightning.weights.transfer import load_weights

NAME = "acdc_seg+phantom"
QUIET = ["--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false"]


@pytest.fixture
def runs(golden, tmp_path) -> Path:
    """A folder of runs that holds the old one."""
    shutil.copytree(golden / "before" / NAME, tmp_path / "runs" / NAME)
    return tmp_path / "runs"


@pytest.fixture
def cinema(runs, phantom_cohort):
    """Runs a verb with the old run's own configuration."""

    def run(verb: str, *more: str) -> int:
        saved = str(runs / NAME / "0" / "config.yaml")
        return main([verb, "--config", saved, "--data.root", str(phantom_cohort), "--runs", str(runs), *QUIET, *more])

    return run


def test_the_old_run_names_classes_where_they_no_longer_are(golden):
    old = golden / "before" / NAME / "0"
    hparams = torch.load(old / "checkpoints" / "last.ckpt", weights_only=True)["hyper_parameters"]
    assert hparams["_class_path"] == "cinema_lightning.tasks.segmentation.Segmentation"
    assert class_path(TASKS["Segmentation"]) != hparams["_class_path"]
    saved = yaml.safe_load((old / "config.yaml").read_text())
    assert saved["data"]["class_path"] == "cinema_lightning.data.labelled_dense.SegmentationData"
    read = load_checkpoint(old / "checkpoints" / "last.ckpt")["hyper_parameters"]
    assert read == hparams | {"_class_path": class_path(TASKS["Segmentation"])}


def test_it_is_tested_and_predicts(cinema, runs):
    assert cinema("test", "--ckpt_path", "last") == 0
    (out,) = (runs / NAME / "0" / "test").iterdir()
    cases = pd.read_csv(out / "cases.csv")
    # what the version that trained it found: ED and ES of two subjects
    assert list(cases["myocardium_dice"].round(6)) == [0.076185, 0.066663, 0.071999, 0.066651]
    function = pd.read_csv(out / "function.csv")
    assert list(function["lv_edv_true"].round(3)) == [260.838, 224.046]  # ml
    assert list(function["lv_mass_pred"].round(2)) == [3228.04, 2731.81]  # g: three steps of training see it everywhere
    assert cinema("predict", "--ckpt_path", "last") == 0
    assert (runs / NAME / "0" / "predictions").is_dir()


def test_it_is_resumed_as_the_same_experiment(cinema, runs):
    last = runs / NAME / "0" / "checkpoints" / "last.ckpt"
    before = load_checkpoint(last)
    assert cinema("fit", "--ckpt_path", "last", "--trainer.max_epochs", "3") == 0
    after = load_checkpoint(last)
    assert (before["epoch"], after["epoch"]) == (1, 2)
    assert after["global_step"] == before["global_step"] * 3 // 2
    assert after["hyper_parameters"]["_class_path"] == class_path(TASKS["Segmentation"])


def test_a_class_is_the_same_by_whichever_path_it_is_named(runs):
    run = runs / NAME / "0"
    here = yaml.safe_load((run / "config.yaml").read_text())
    for path in ("cinema_lightning.tasks.segmentation.Segmentation", class_path(TASKS["Segmentation"])):
        here["model"]["class_path"] = path
        check_same_experiment(run, here, allowed=False)
    here["model"]["class_path"] = class_path(TASKS["Survival"])
    with pytest.raises(CinemaError, match=r"differs .* in model\.class_path"):
        check_same_experiment(run, here, allowed=False)


def test_another_experiment_is_still_told_apart(cinema, capsys):
    assert cinema("fit", "--ckpt_path", "last", "--model.network.enc_dim", "16") == 2
    assert "model.network.enc_dim" in capsys.readouterr().err


def test_one_that_lacks_a_part_of_todays_network_is_refused_with_what_to_do(golden, tmp_path):
    (path,) = (golden / "before" / NAME).rglob("last.ckpt")
    content = load_checkpoint(path)
    lacking = next(key for key in content["state_dict"] if ".decoders." in key)
    content["state_dict"].pop(lacking)
    torch.save(content, tmp_path / "old.ckpt")
    with pytest.raises(CinemaError, match=f"1 weights differ, first {lacking} .* train one of an earlier version anew"):
        load_task(tmp_path / "old.ckpt")


def test_a_network_starts_from_it(golden):
    options = {"conv_channels": [2, 2], "conv_blocks": 1, "enc_dim": 8, "enc_depth": 1, "enc_heads": 2}
    network = ConvUNetR(["sax"], {"sax": [64, 64, 4]}, **options, dec_channels=[2] * 5, size="mini")
    report = load_weights(golden / "before" / NAME / "0" / "checkpoints" / "last.ckpt", network)
    assert not report.left_out
    assert report.complete
    assert report.facts["classes"] == ["background", "RV blood pool", "myocardium", "LV blood pool"]


@pytest.mark.parametrize(
    ("old", "registry"),
    [
        ("cinema_lightning.tasks.classification.Classification", TASKS),
        ("cinema_lightning.tasks.regression.Regression", TASKS),
        ("cinema_lightning.tasks.survival.Survival", TASKS),
        ("cinema_lightning.tasks.landmarks.LandmarkHeatmap", TASKS),
        ("cinema_lightning.tasks.landmarks.LandmarkCoordinate", TASKS),
        ("cinema_lightning.tasks.pretrain.Pretrain", TASKS),
        ("cinema_lightning.data.datamodule.PretrainData", DATA),
        ("cinema_lightning.data.labelled_dense.SegmentationData", DATA),
        ("cinema_lightning.data.labelled_dense.LandmarkData", DATA),
        ("cinema_lightning.data.labelled_pooled.ClassificationData", DATA),
        ("cinema_lightning.data.labelled_pooled.RegressionData", DATA),
        ("cinema_lightning.data.labelled_pooled.SurvivalData", DATA),
        ("cinema_lightning.models.baselines.UNet", BACKBONES),
        ("cinema_lightning.models.convvit.ConvViT", BACKBONES),
    ],
)
def test_every_class_of_before_is_found_where_it_is(old, registry, tmp_path):
    now = class_path(registry[old.rsplit(".", 1)[-1]])
    assert up_to_date({"model": [{"class_path": old}]}) == {"model": [{"class_path": now}]}
    refuse_foreign_classes(up_to_date({"_class_path": old}), None)
    (tmp_path / "old.yaml").write_text(f"model:\n  class_path: {old}\n")
    arguments, _ = unfold_arguments(["--config", str(tmp_path / "old.yaml"), f"--model={old}"])
    assert yaml.safe_load(arguments[1]) == {"model": {"class_path": now}}
    assert arguments[2] == f"--model={now}"


def test_plug_ins_find_classes_where_they_were():
    from cinema_lightning.data.datamodule import PretrainData
    from cinema_lightning.data.labelled_dense import LandmarkData, SegmentationData
    from cinema_lightning.data.labelled_pooled import ClassificationData, RegressionData, SurvivalData
    from cinema_lightning.tasks.pretrain import Pretrain

    found = [PretrainData, LandmarkData, SegmentationData, ClassificationData, RegressionData, SurvivalData, Pretrain]
    assert found == [(DATA if cls in DATA.values() else TASKS)[cls.__name__] for cls in found]
    with pytest.raises(ImportError, match="cannot import name 'UltrasoundData'"):
        from cinema_lightning.data.labelled_dense import UltrasoundData  # noqa: F401


@pytest.mark.parametrize("name", ["os.system", "cinema_lightning.files.replacing", "evil.Segmentation"])
def test_what_is_registered_nowhere_keeps_its_name_and_is_refused(name):
    assert up_to_date(name) == name
    with pytest.raises(CinemaError, match="refused"):
        refuse_foreign_classes({"_class_path": name}, Path("x.ckpt"))
