"""Networks as functions of scans: the same numbers and masks as `cinema predict`, whatever a scan comes as."""

from __future__ import annotations

import nibabel
import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk

import cinema_lightning as cinema
from cinema_lightning.cli import main
from cinema_lightning.errors import CinemaError


def predicted(scan, ckpt, out, config="acdc_seg.yaml", *more):
    """What `cinema predict` writes of a folder that holds a scan."""
    command = ["predict", "--config", config, "--data.dataset", "phantom", "--data.root", str(scan.parent.parent)]
    command += ["--ckpt_path", str(ckpt), "--output.folder", str(out), "--data.num_workers", "0"]
    command += ["--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false", *more]
    assert main(command) == 0
    return pd.read_csv(out / "predictions.csv").sort_values("frame")


def test_masks_are_those_of_cinema_predict(scan, segmenter, tmp_path):
    table = predicted(scan, segmenter, tmp_path, "acdc_seg.yaml", "--output.nifti", "true")
    found = cinema.load(segmenter)(scan, batch_size=2)
    image = nibabel.load(scan)
    assert found.labels.shape == image.shape
    assert np.allclose(found.affine, image.affine)
    assert len(np.unique(found.labels)) > 1
    for frame in range(5):
        there = nibabel.load(tmp_path / "nifti" / "P01" / f"sax_frame{frame:02d}_label.nii.gz")
        assert np.array_equal(np.asarray(there.dataobj), found.labels[..., frame])
    ml = np.abs(np.linalg.det(image.affine[:3, :3])) / 1000
    assert found.values["sax_lv_volume"] == pytest.approx((found.labels == 3).sum((0, 1, 2)) * ml)
    assert found.values["sax_lv_volume"] == pytest.approx(table["sax_lv_volume"], rel=1e-6)
    assert found.units["sax_lv_volume"] == "ml"


def test_a_scan_is_the_same_whatever_it_comes_as(scan, segmenter):
    model, image, itk = cinema.load(segmenter), nibabel.load(scan), sitk.ReadImage(str(scan))
    voxels = np.asarray(image.dataobj)
    frames = [nibabel.Nifti1Image(voxels[..., i], image.affine) for i in range(2)]
    ways = {
        "path": model(str(scan), frames=[0, 1]),
        "nibabel": model(image, frames=[0, 1]),
        "SimpleITK": model(itk, frames=[0, 1]),
        "array": model(voxels, affine=image.affine, frames=[0, 1]),
        "size": model(voxels, spacing=(1.6, 1.6, 8.0), frames=[0, 1]),
        "view": model({"sax": scan}, frames=[0, 1]),
        "folder": model(scan.parent, frames=[0, 1]),
        "list": model(frames),
    }
    for name, found in ways.items():
        # SimpleITK keeps the voxel size in other digits, so that grey levels may be cut to the next one
        share = (found.labels != ways["path"].labels).mean()
        assert share == 0 if name != "SimpleITK" else share < 1e-3, name
        assert name == "size" or np.allclose(found.affine, image.affine, atol=1e-4), name


def test_probabilities_and_ensembles(scan, segmenter, train, tmp_path):
    other = train(tmp_path / "other.ckpt", "Segmentation", seed=6)
    one, two = (cinema.load(path)(scan, frames=[0], probabilities=True) for path in (segmenter, other))
    assert one.probabilities.shape == (4, 50, 44, 9, 1)
    assert one.probabilities.dtype == np.float32
    assert one.spread is None
    assert np.array_equal(one.probabilities.argmax(0), one.labels)
    assert cinema.load(segmenter)(scan, frames=[0]).probabilities is None
    both = cinema.load([segmenter, other])(scan, frames=[0], probabilities=True)
    assert both.probabilities == pytest.approx((one.probabilities + two.probabilities) / 2, abs=1e-6)
    assert np.array_equal(both.labels, both.probabilities.argmax(0))
    apart = np.abs(one.probabilities - two.probabilities) / np.sqrt(2)  # standard deviation of two, n - 1
    chosen = np.take_along_axis(apart, both.labels[None].astype(int), axis=0)[0]
    assert both.spread == pytest.approx(chosen, abs=1e-6)
    turned = cinema.load(segmenter, tta="flips")(scan, frames=[0], probabilities=True)
    assert turned.spread is not None
    assert {"sax_lv_volume", "sax_lv_volume_sd"} <= set(turned.table)
    with pytest.raises(CinemaError, match="cannot be averaged with"):
        cinema.load([segmenter, train(tmp_path / "marks.ckpt", "LandmarkHeatmap")])
    with pytest.raises(CinemaError, match="The ensemble has 2 networks"):
        _ = cinema.load([segmenter, other]).network
