"""Every kind of task in Python: the numbers of `cinema predict` on the same files."""

from __future__ import annotations

import nibabel
import numpy as np
import pandas as pd
import pytest

import cinema_lightning as cinema
from cinema_lightning.cli import main
from cinema_lightning.errors import CinemaError


@pytest.fixture(scope="module")
def study(tmp_path_factory, moving):
    """ED and ES of a short axis and a 4CH, and a 2CH with a time axis."""
    folder = tmp_path_factory.mktemp("studies") / "P02"
    folder.mkdir()
    for view, shape, voxel in (("sax", (40, 44, 6, 2), (1.8, 1.8, 9.0)), ("lax_4c", (70, 60, 1, 2), (1.5, 1.5, 6.0))):
        voxels, affine = moving(shape, voxel)
        for i, phase in enumerate(("ed", "es")):
            nibabel.save(nibabel.Nifti1Image(voxels[..., i], affine), folder / f"{view}_{phase}.nii.gz")
    nibabel.save(nibabel.Nifti1Image(*moving((48, 90, 1, 3), (1.4, 1.4, 8.0))), folder / "lax_2c.nii.gz")
    return folder


def predicted(study, ckpt, out, config, *more):
    command = ["predict", "--config", config, "--data.dataset", "phantom", "--data.root", str(study.parent)]
    command += ["--ckpt_path", str(ckpt), "--output.folder", str(out), "--data.num_workers", "0"]
    command += ["--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false", *more]
    assert main(command) == 0
    return pd.read_csv(out / "predictions.csv").sort_values("frame")


def test_landmarks_in_voxels_and_mm(study, train, tmp_path):
    ckpt = train(tmp_path / "best.ckpt", "LandmarkHeatmap")
    table = predicted(study, ckpt, tmp_path / "out", "landmark_heatmap_2ch.yaml")
    found = cinema.load(ckpt)(study / "lax_2c.nii.gz")
    affine = nibabel.load(study / "lax_2c.nii.gz").affine
    assert list(found.views["lax_2c"]) == ["hinge_1", "hinge_2", "apex"]
    for name, points in found.views["lax_2c"].items():
        assert points == pytest.approx(table[[f"lax_2c_{name}_x", f"lax_2c_{name}_y"]].to_numpy(), rel=1e-5)
        there = nibabel.affines.apply_affine(affine, np.column_stack([points, np.zeros(3)]))
        assert found.millimetres["lax_2c"][name] == pytest.approx(there)


def test_coordinates(study, train, tmp_path):
    ckpt = train(tmp_path / "best.ckpt", "LandmarkCoordinate")
    found = cinema.load(ckpt)(study / "lax_2c.nii.gz", frames=[1])
    assert found.frames == (1,)
    assert found.views["lax_2c"]["apex"].shape == (1, 2)


def test_a_number_of_a_study_in_its_unit(study, train, tmp_path):
    ckpt = train(tmp_path / "best.ckpt", "Regression")
    row = predicted(study, ckpt, tmp_path / "out", "acdc_ef.yaml").iloc[0]
    model = cinema.load(ckpt)
    found = model(study)
    assert found.value == pytest.approx(row["predicted"], rel=1e-6)
    assert (found.unit, found.target, model.spec.unit) == ("%", "lv_ef", "%")
    views = ("sax", "lax_4c")
    series = {v: [nibabel.load(study / f"{v}_{phase}.nii.gz") for phase in ("ed", "es")] for v in views}
    assert model(series, ed=0, es=1).value == pytest.approx(found.value, rel=1e-6)
    assert model(series, ed=1, es=0).value != pytest.approx(found.value, rel=1e-6)
    with pytest.raises(CinemaError, match="say which frames they are, ed=0, es=12, or name the files"):
        model(series)
    with pytest.raises(CinemaError, match="ed and es are both frame 1"):
        model(series, ed=1, es=1)
    with pytest.raises(CinemaError, match="one answer a study"):
        model(study, frames=[0])
    with pytest.raises(CinemaError, match="Frame 7 was asked for, but there are 2"):
        model(series, ed=0, es=7)


def test_a_class_of_a_study(study, train, tmp_path):
    ckpt = train(tmp_path / "best.ckpt", "Classification")
    row = predicted(study, ckpt, tmp_path / "out", "mnms_sex.yaml").iloc[0]
    found = cinema.load(ckpt)(study)
    assert found.predicted == row["predicted"]
    assert found.probabilities == pytest.approx({"M": row["prob_M"], "F": row["prob_F"]}, rel=1e-5)


def test_a_risk(study, train, tmp_path):
    ckpt = train(tmp_path / "best.ckpt", "Survival")
    row = predicted(study, ckpt, tmp_path / "out", "ukb_survival.yaml").iloc[0]
    found = cinema.load(ckpt)(study)
    assert found.risk == pytest.approx(row["risk"], rel=1e-5)
    assert list(found.table["risk"]) == [found.risk]
