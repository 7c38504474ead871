"""Published files in Python: the masks and features of `cinema predict`, without saying what task they are for."""

from __future__ import annotations

import shutil

import nibabel
import numpy as np
import pandas as pd
import pytest
import yaml

import cinema_lightning as cinema
from cinema_lightning.cli import main
from cinema_lightning.errors import CinemaError
from cinema_lightning.models.mae import MaskedAutoencoder
from cinema_lightning.weights.files import save_published
from cinema_lightning.weights.purpose import purpose_of

SAX = {"patch_size": [64, 64, 4], "spacing": [2.0, 2.0, 10.0], "in_chans": 1}
LAX = {"patch_size": [64, 64], "spacing": [2.0, 2.0], "in_chans": 1}


def published(golden, name, folder, **data):
    """A golden network where the hub would have it, `config.yaml` beside it."""
    folder.mkdir(parents=True)
    shutil.copy(golden / name / "weights.safetensors", folder / f"{folder.name}_0.safetensors")
    model = {"model": {"name": "convunetr", "convunetr": {"size": "tiny"}, "convvit": {"size": "tiny"}}}
    (folder / "config.yaml").write_text(yaml.safe_dump(model | {"data": {"sax": SAX, "lax": LAX, **data}}))
    return folder / f"{folder.name}_0.safetensors"


def predicted(root, path, out, config, *more):
    command = ["predict", "--config", config, "--data.root", str(root), "--ckpt_path", str(path)]
    command += ["--output.folder", str(out), "--data.num_workers", "0", "--trainer.accelerator", "cpu"]
    assert main([*command, "--trainer.enable_progress_bar", "false", *more]) == 0
    return out


def test_masks_of_a_published_network(golden, scan, tmp_path):
    path = published(golden, "convunetr_sax", tmp_path / "finetuned" / "segmentation" / "acdc_sax")
    out = predicted(scan.parent.parent, path, tmp_path / "out", "acdc_seg.yaml", "--output.nifti", "true")
    model = cinema.load(path)
    assert (model.spec.kind, model.spec.trained_on) == ("segmentation", "acdc")
    assert model.spec.spacing == {"sax": (2.0, 2.0, 10.0)}
    assert model.spec.classes == {0: "background", 1: "RV blood pool", 2: "myocardium", 3: "LV blood pool"}
    found = model(scan)
    for frame in range(5):
        there = nibabel.load(out / "nifti" / "P01" / f"sax_frame{frame:02d}_label.nii.gz")
        assert np.array_equal(np.asarray(there.dataobj), found.labels[..., frame])
    assert len(np.unique(found.labels)) > 1


def test_real_hearts(golden, real, tmp_path):
    path = published(golden, "convunetr_sax", tmp_path / "finetuned" / "segmentation" / "acdc_sax")
    (tmp_path / "scans").mkdir()
    shutil.copytree(real / "acdc", tmp_path / "scans" / "a")
    out = predicted(tmp_path / "scans", path, tmp_path / "out", "acdc_seg.yaml", "--output.nifti", "true")
    found = cinema.load(path)(tmp_path / "scans" / "a")
    for frame in found.frames:
        there = nibabel.load(out / "nifti" / "a" / f"sax_frame{frame:02d}_label.nii.gz")
        assert np.array_equal(np.asarray(there.dataobj), found.labels[..., frame])
    assert [row["frame"] for row in found.rows] == [0, 1]


@pytest.mark.parametrize(
    ("name", "place", "data", "task", "target"),
    [
        ("convunetr_sax", "segmentation/acdc_sax", {}, "Segmentation", ""),
        ("convunetr_lax_4c", "segmentation/mnms2_lax_4c", {}, "Segmentation", ""),
        ("convvit_sax", "classification_cvd/acdc_sax", {}, "Classification", "pathology"),
        ("convvit_landmark", "landmark_coordinate/lax_4c", {}, "LandmarkCoordinate", ""),
    ],
)
def test_a_file_says_what_it_is_for(golden, tmp_path, name, place, data, task, target):
    spec = cinema.load(published(golden, name, tmp_path / place, **data)).spec
    assert (spec.task, spec.target) == (task, target)
    assert spec.trained_on == {"acdc_sax": "acdc", "mnms2_lax_4c": "mnms2", "lax_4c": "landmark"}[place.split("/")[1]]


def test_what_a_file_was_trained_on_is_not_made_up(golden, tmp_path):
    path = published(golden, "convunetr_sax", tmp_path / "downloads" / "some", labels=dict(enumerate("abcd")))
    assert cinema.load(path).spec.trained_on == ""


def test_a_file_that_says_nothing_is_refused(golden, tmp_path):
    path = published(golden, "convvit_sax", tmp_path / "downloads" / "some")
    with pytest.raises(CinemaError, match="does not say what its 5 outputs are: put its config"):
        purpose_of(path)


def test_features(golden, scan, tmp_path):
    network = MaskedAutoencoder(["sax", "lax_4c"], input_size={"sax": [64, 64, 4], "lax_4c": [64, 64]}, size="tiny")
    path = tmp_path / "pretrained" / "cinema.safetensors"
    save_published(network, path, {"sax": [2.0, 2.0, 10.0]})
    out = predicted(scan.parent.parent, path, tmp_path / "out", "pretrain.yaml")
    table = pd.read_csv(out / "features.csv").sort_values("frame")
    model = cinema.load(path)
    found = cinema.features(scan, model, tokens=True)
    assert found.frames == (0, 1, 2, 3, 4)
    assert found.cls == pytest.approx(table.filter(regex="^cls_").to_numpy(), rel=1e-4, abs=1e-6)
    assert found.views["sax"] == pytest.approx(table.filter(regex="^sax_").to_numpy(), rel=1e-4, abs=1e-6)
    assert found.tokens["sax"].shape == (5, 4, 4, 4, 16)
    assert found.tokens["sax"].mean(axis=(1, 2, 3)) == pytest.approx(found.views["sax"], abs=1e-5)
    segmenter = cinema.load(published(golden, "convunetr_sax", tmp_path / "segmentation" / "acdc_sax"))
    assert cinema.features(scan, segmenter, frames=[0]).cls.shape == (1, 32)
