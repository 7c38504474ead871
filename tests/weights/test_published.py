"""Published fine-tuned files on data that they were not trained on."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from safetensors.torch import save_file

from cinema_lightning.cli import main
from cinema_lightning.errors import CinemaError
from cinema_lightning.models.convunetr import ConvUNetR
from cinema_lightning.phantom.command import phantom
from cinema_lightning.prepare.command import prepare
from cinema_lightning.weights.layout import to_published
from cinema_lightning.weights.published import published_network

SMALL = {"conv_channels": [8, 16], "enc_dim": 48, "enc_depth": 1, "enc_heads": 12, "dec_channels": [4, 8, 16, 24, 32]}
CLASSES = ["background", "RV blood pool", "myocardium", "LV blood pool"]


def published_segmentation(folder: Path, file: str | None = None, classes: int = 4, plane: float = 1.0, **data) -> Path:
    """A small network in the published layout that calls every voxel left ventricle."""
    torch.manual_seed(0)
    network = ConvUNetR(["sax"], input_size={"sax": [64, 64, 8]}, classes=classes, **SMALL)
    with torch.no_grad():
        network.heads["sax"].weight.zero_()
        network.heads["sax"].bias.copy_(torch.tensor([0.0, 0.0, 0.0, 9.0, 0.0])[:classes])
    folder.mkdir(parents=True)
    path = folder / f"{file or folder.name + '_0'}.safetensors"
    save_file(to_published(network), path)
    block = {"sax": {"patch_size": [64, 64, 8], "spacing": [plane, plane, 10.0], "in_chans": 1}, **data}
    (folder / "config.yaml").write_text(yaml.safe_dump({"data": block, "model": {"name": "convunetr"}}))
    return path


@pytest.fixture(scope="module")
def kaggle(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kaggle")
    phantom(2, folder / "raw", seed=1, size="small", frames=2, dataset="kaggle")
    prepare("kaggle", folder / "raw", folder / "store", size="small")
    return folder / "store"


def test_a_published_file_tests_on_kaggle(kaggle, tmp_path):
    path = published_segmentation(tmp_path / "finetuned" / "segmentation" / "acdc_sax", plane=3.0)
    command = ["test", "--config", "kaggle_seg.yaml", "--config", "phantom.yaml", "--data.root", str(kaggle)]
    command += ["--ckpt_path", str(path), "--output.folder", str(tmp_path / "out"), "--output.overlays", "0"]
    assert main([*command, "--trainer.enable_progress_bar", "false"]) == 0
    cohort = pd.read_csv(kaggle / "cohort.csv").set_index("id")
    found = pd.read_csv(tmp_path / "out" / "function.csv").set_index("id")
    cases = pd.read_csv(tmp_path / "out" / "cases.csv")
    whole = cases.groupby("id")["lv_volume_pred"].first()
    assert (found["lv_edv_true"] - cohort["lv_edv"]).abs().max() < 1e-6
    assert found["lv_edv_pred"].tolist() == pytest.approx(whole.loc[found.index].tolist())
    assert (found["lv_ef_pred"] == 0).all(), "the same volume in every frame"
    summary = pd.read_csv(tmp_path / "out" / "summary.csv").set_index(["metric", "statistic"])["value"]
    assert summary["lv_ef", "mae"] == pytest.approx(cohort["lv_ef"].mean(), abs=1e-4)
    assert summary["lv_edv", "mae"] == pytest.approx((whole - cohort["lv_edv"]).abs().mean(), rel=1e-5)
    facts = json.loads((tmp_path / "out" / "summary.json").read_text())["facts"]
    assert (facts["classes"], facts["dataset"], facts["trained_on"]) == (CLASSES, "kaggle", "acdc")


def test_a_published_file_predicts_plain_images(tmp_path):
    path = published_segmentation(tmp_path / "finetuned" / "segmentation" / "mnms_sax")
    (tmp_path / "images" / "a").mkdir(parents=True)
    voxels = np.random.default_rng(0).integers(0, 255, (64, 64, 8)).astype(np.uint8)
    nibabel.save(nibabel.Nifti1Image(voxels, np.diag([1.0, 1.0, 10.0, 1.0])), tmp_path / "images/a/sax_ed.nii.gz")
    command = [
        "predict",
        "--config",
        "acdc_seg.yaml",
        "--data.root",
        str(tmp_path / "images"),
        "--ckpt_path",
        str(path),
    ]
    command += ["--ckpt_path", str(path), "--output.folder", str(tmp_path / "out"), "--trainer.accelerator", "cpu"]
    assert main([*command, "--trainer.enable_progress_bar", "false", "--data.num_workers", "0"]) == 0
    table = pd.read_csv(tmp_path / "out" / "predictions.csv")
    assert table["sax_lv_volume"].tolist() == pytest.approx([64 * 64 * 80 / 1000])


def segmentation(dataset):
    return {"model": {"class_path": "Segmentation"}, "data": {"init_args": {"dataset": dataset}}}


def test_classes_are_the_files_own(tmp_path):
    own = {0: "background", 1: "LV blood pool", 2: "myocardium", 3: "RV blood pool"}
    path = published_segmentation(tmp_path / "a", labels=own)
    spec = published_network(path, segmentation("kaggle"))[0]["spec"]
    assert (spec["classes"], spec["label_codes"]) == (list(own.values()), [0, 1, 2, 3])
    spec = published_network(path, segmentation("acdc"))[0]["spec"]  # its store has other codes for the same classes
    assert (spec["classes"], spec["label_codes"]) == (list(own.values()), [0, 3, 2, 1])


@pytest.mark.parametrize(
    ("folder", "file", "data"),
    [("segmentation/acdc_sax", None, {}), ("downloads", "acdc_sax_2", {}), ("x", "weights", {"name": "acdc"})],
)
def test_a_file_is_known_by_its_place_its_name_or_its_configuration(folder, file, data, tmp_path):
    spec = published_network(published_segmentation(tmp_path / folder, file, **data), segmentation("kaggle"))[0]["spec"]
    assert (spec["classes"], spec["dataset"]) == (CLASSES, "acdc")


def test_classes_that_nothing_names(tmp_path):
    with pytest.warns(UserWarning, match="does not say its classes; they are taken to be background, RV blood pool"):
        spec = published_network(published_segmentation(tmp_path / "a" / "b"), segmentation("kaggle"))[0]["spec"]
    assert (spec["classes"], spec["dataset"]) == (CLASSES, "kaggle")
    path = published_segmentation(tmp_path / "c" / "d", classes=5)
    with pytest.raises(CinemaError, match="has 5 outputs, but Kaggle DSB 2 has no classes of voxels"):
        published_network(path, segmentation("kaggle"))
    path = published_segmentation(tmp_path / "e" / "f", classes=5, name="emidec")
    with pytest.warns(UserWarning, match="taken to be background, cavity, myocardium, infarct, no-reflow"):
        spec = published_network(path, segmentation("acdc"))[0]["spec"]  # whose test then refuses these classes
    assert (len(spec["classes"]), spec["dataset"]) == (5, "emidec")
