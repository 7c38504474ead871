"""What is predicted returns to the scan: volumes in its own voxels, masks on its own grid."""

from __future__ import annotations

from collections import Counter

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import torch
from torch.nn import functional as F

from cinema_lightning.cli import main
from cinema_lightning.data.store import series_path, write_series
from cinema_lightning.data.table import StoreReader, write_cohort
from cinema_lightning.imaging.geometry import Window
from cinema_lightning.imaging.grid import Grid
from cinema_lightning.models import BACKBONES
from cinema_lightning.models.backbone import DenseBackbone
from cinema_lightning.tasks.segmentation.data import SegmentationData

AXES = (24.0, 24.0, 46.0)
FIELD = (96.0, 96.0, 120.0)
RIM = 3
"""Voxels of the network's grid that the network below takes off in plane."""


class Threshold(DenseBackbone):
    """Probability of LV is the image's brightness, less a rim of so many voxels: exactly known, and it minds scale.

    With one class, a landmark, it is the mean brightness around.
    """

    def __init__(self, views, input_size=None, channels=1, classes=4, size="tiny"):
        super().__init__(views, input_size, channels, classes)
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(self, images):
        out = {}
        for view, image in images.items():
            planes = image[:, 0] if image.dim() == 4 else image[:, 0].permute(0, 3, 1, 2)
            bright = 1 - F.max_pool2d(1 - planes, 2 * RIM + 1, stride=1, padding=RIM)
            lv = (bright if image.dim() == 4 else bright.permute(0, 2, 3, 1)).clamp(1e-4, 1 - 1e-4)
            if self.outputs == 1:
                out[view] = F.avg_pool2d(image, 9, stride=1, padding=4) * 8 - 4 + 0 * self.weight
                continue
            none = torch.full_like(lv, 1e-9)
            out[view] = torch.stack([1 - lv, none, none, lv], dim=1).log() + 0 * self.weight
        return out


def ellipsoid(spacing):
    """Share of each voxel that lies inside, and the affine."""
    counts = [round(n / s) for n, s in zip(FIELD, spacing, strict=True)]
    parts = (3, 3, 9)
    x, y, z = (
        (np.arange(n * k) + 0.5) * s / k - f / 2 for n, k, s, f in zip(counts, parts, spacing, FIELD, strict=True)
    )
    inside = (x[:, None, None] / AXES[0]) ** 2 + (y[None, :, None] / AXES[1]) ** 2 + (z / AXES[2]) ** 2 < 1
    shares = inside.reshape(counts[0], 3, counts[1], 3, counts[2], 9).mean(axis=(1, 3, 5))
    affine = np.diag([-spacing[0], -spacing[1], spacing[2], 1.0])
    affine[:3, 3] = (50, 40, -30)
    return shares, affine


def eroded(rim):
    """Volume in ml of the ellipsoid whose sections were eroded by squares of 2 x rim, mm."""
    z = np.linspace(-AXES[2], AXES[2], 1001)
    radii = AXES[0] * np.sqrt(np.clip(1 - (z / AXES[2]) ** 2, 0, None))
    x = np.linspace(0, AXES[0], 2001)
    heights = np.sqrt(np.clip(radii[:, None] ** 2 - (x + rim) ** 2, 0, None)) - rim
    areas = 4 * np.trapezoid(np.clip(heights, 0, None), x, axis=1)
    return float(np.trapezoid(areas, z)) / 1000


@pytest.fixture
def threshold():
    BACKBONES.register(Threshold)
    yield Threshold
    BACKBONES._items.pop("Threshold")


def store(root, voxel=1.0):
    """A store at one in-plane voxel size, of three studies with label maps."""
    shares, affine = ellipsoid((voxel, voxel, 10.0))
    for i in range(3):
        frames = np.stack([(255 * shares).astype(np.uint8)] * 2)
        write_series(series_path(root, f"s{i}", "sax"), frames, affine=affine)
        write_series(series_path(root, f"s{i}", "sax", "label"), 3 * (frames > 127).astype(np.uint8), affine=affine)
    split = ("train", "val", "test")
    rows = [{"id": f"s{i}", "views": "sax", "n_frames": 2, "split": split[i]} for i in range(3)]
    write_cohort(root, [{**row, "ed_frame": 0, "es_frame": 1} for row in rows])
    return root


def checkpoint(path, root):
    """What `cinema fit` would have left of this network, trained on that store."""
    size = {"sax": [96, 96, 12]}
    return saved(path, SegmentationData(str(root), views=["sax"], input_size=size, num_workers=0).spec)


def saved(path, spec, task="segmentation.Segmentation"):
    network = {"class_path": f"{Threshold.__module__}.{Threshold.__qualname__}", "init_args": {}}
    state = {"network.weight": torch.zeros(1), "skipped_steps": torch.zeros((), dtype=torch.long)}
    hparams = {"_class_path": f"cinema_lightning.tasks.{task}", "spec": spec, "network": network}
    version = {"pytorch-lightning_version": "2.6.6", "epoch": 0, "global_step": 0}
    torch.save({"state_dict": state, "hyper_parameters": hparams, **version}, path)
    return path


def scans(root, sizes):
    for name, size in sizes.items():
        shares, affine = ellipsoid(size)
        (root / name).mkdir(parents=True)
        nib.save(nib.Nifti1Image((1000 * shares).astype(np.int16), affine), root / name / "sax_ed.nii.gz")
    return root


def predict(root, ckpt, out, *more):
    command = ["predict", "--config", "acdc_seg.yaml", "--data.dataset", "phantom", "--data.root", str(root)]
    command += ["--ckpt_path", str(ckpt), "--output.folder", str(out), "--data.num_workers", "0"]
    command += ["--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false", *more]
    assert main(command) == 0
    return pd.read_csv(out / "predictions.csv", dtype={"id": str}).set_index("id")


def counted(path):
    """ml of LV by the voxels of a written mask."""
    mask = nib.load(path)
    return (np.asarray(mask.dataobj) == 3).sum() * abs(np.linalg.det(mask.affine[:3, :3])) / 1000


SIZES = {
    "a": (1.0, 1.0, 10.0),
    "b": (1.4, 1.4, 8.0),
    "c": (1.8, 1.8, 6.0),
    "d": (1.8, 1.8, 10.0),
    "e": (1.0, 1.0, 6.5),
    "f": (1.25, 1.25, 5.0),
}


def test_one_heart_has_one_volume_whatever_its_voxels(tmp_path, threshold):
    ckpt = checkpoint(tmp_path / "a.ckpt", store(tmp_path / "store"))
    root = scans(tmp_path / "scans", SIZES)
    table = predict(root, ckpt, tmp_path / "out", "--output.nifti", "true")
    assert table["sax_lv_volume"].to_dict() == pytest.approx(dict.fromkeys(SIZES, eroded(RIM)), rel=0.03)
    for name, size in SIZES.items():
        path = tmp_path / "out" / "nifti" / name / "sax_frame00_label.nii.gz"
        scan, mask = nib.load(root / name / "sax_ed.nii.gz"), nib.load(path)
        assert mask.shape == scan.shape
        assert np.allclose(mask.affine, scan.affine)
        assert np.allclose(mask.header.get_zooms(), size)
        assert counted(path) == pytest.approx(table.loc[name, "sax_lv_volume"], rel=1e-5)
    own = predict(root, ckpt, tmp_path / "own", "--data.spacing", "own")
    assert own.loc["d", "sax_lv_volume"] == pytest.approx(eroded(1.8 * RIM), rel=0.05)  # what scale would do


def test_a_network_of_small_pictures_sees_scans_small(tmp_path, threshold):
    ckpt = checkpoint(tmp_path / "a.ckpt", store(tmp_path / "store", 2.4))
    table = predict(scans(tmp_path / "scans", SIZES), ckpt, tmp_path / "out")
    # a rim of 3 voxels of 2.4 mm
    assert table["sax_lv_volume"].to_dict() == pytest.approx(dict.fromkeys(SIZES, eroded(2.4 * RIM)), rel=0.06)


def test_a_store_predicts_in_the_voxels_that_were_acquired(tmp_path, threshold):
    ckpt = checkpoint(tmp_path / "a.ckpt", store(tmp_path / "store"))
    shares, affine = ellipsoid((1.4, 1.4, 6.5))
    grid = Grid(affine, shares.shape, (1.0, 1.0, 10.0)).cropped(Window((5, 9), (80, 76)))
    seen = (255 * grid.to_network(shares)).astype(np.uint8)
    about = {"dataset": "acdc", "orig_affine": affine.tolist(), "orig_size": list(shares.shape), "crop_start": [5, 9]}
    place = {"affine": grid.network_affine, "spacing": grid.spacing, "provenance": about}
    write_series(series_path(tmp_path / "acdc", "s", "sax"), seen[None], **place)
    write_cohort(tmp_path / "acdc", [{"id": "s", "views": "sax", "n_frames": 1}])
    more = ["--data.dataset", "acdc", "--output.nifti", "true"]
    table = predict(tmp_path / "acdc", ckpt, tmp_path / "out", *more)
    path = tmp_path / "out" / "nifti" / "s" / "sax_frame00_label.nii.gz"
    assert nib.load(path).shape == shares.shape
    assert np.allclose(nib.load(path).affine, affine)
    assert counted(path) == pytest.approx(table.loc["s", "sax_lv_volume"], rel=1e-5)
    assert table.loc["s", "sax_lv_volume"] == pytest.approx(eroded(RIM), rel=0.03)


def test_another_store_than_the_network_knows_is_refused(tmp_path, threshold, capsys):
    ckpt = checkpoint(tmp_path / "a.ckpt", store(tmp_path / "store", 2.4))
    command = ["predict", "--config", "acdc_seg.yaml", "--data.dataset", "phantom", "--ckpt_path", str(ckpt)]
    command += ["--data.root", str(store(tmp_path / "other")), "--output.folder", str(tmp_path / "out")]
    assert main([*command, "--trainer.accelerator", "cpu", "--data.num_workers", "0"]) == 2
    said = capsys.readouterr().err
    assert "SAX images of 1 x 1 x 10 mm, but the network was trained at 2.4 x 2.4 x 10 mm" in said
    assert not (tmp_path / "out" / "predictions.csv").exists()


def test_landmarks_are_places_in_the_scan(tmp_path, threshold):
    spec = {"views": ["lax_2c"], "input_size": {"lax_2c": [64, 64]}, "channels": 1, "channel_names": ["image"]}
    spec |= {"kind": "landmarks", "dataset": "phantom", "spacing_known": True, "landmarks": ["apex"], "frames": "all"}
    ckpt = saved(tmp_path / "a.ckpt", spec | {"spacing": {"lax_2c": [1.0, 1.0]}}, "landmarks.LandmarkHeatmap")
    x, y = np.mgrid[:40, :44]
    spot = 1000 * np.exp(-((x - 25.5) ** 2 + (y - 12.0) ** 2) / 18)
    (tmp_path / "scans" / "p").mkdir(parents=True)
    image = nib.Nifti1Image(spot[..., None].astype(np.int16), np.diag([1.6, 1.6, 8, 1]))
    nib.save(image, tmp_path / "scans" / "p" / "lax_2c.nii.gz")
    command = ["predict", "--config", "landmark_heatmap_2ch.yaml", "--data.dataset", "phantom"]
    command += ["--data.root", str(tmp_path / "scans"), "--ckpt_path", str(ckpt), "--data.num_workers", "0"]
    assert main([*command, "--trainer.accelerator", "cpu", "--output.folder", str(tmp_path / "out")]) == 0
    row = pd.read_csv(tmp_path / "out" / "predictions.csv").iloc[0]
    assert (row["lax_2c_apex_x"], row["lax_2c_apex_y"]) == pytest.approx((25.5, 12.0), abs=0.25)


def test_headers_are_not_read_frame_by_frame(tmp_path, threshold, monkeypatch):
    root, affine = tmp_path / "store", np.diag([3.0, 3.0, 10.0, 1.0])
    frames = np.arange(4 * 32 * 32 * 2, dtype=np.uint8).reshape(4, 32, 32, 2)
    names = [f"s{i:02d}" for i in range(9)]
    for name in names:
        write_series(series_path(root, name, "sax"), frames, affine=affine)
    counts = {"n_frames": 4, "n_frames_sax": 4, "n_slices": 2, "ed_frame": 0, "es_frame": 1}
    write_cohort(root, [{"id": name, "views": "sax", **counts} for name in names])
    ckpt = checkpoint(tmp_path / "best.ckpt", root)
    opened: list[str] = []
    real = StoreReader.open
    monkeypatch.setattr(StoreReader, "open", lambda self, study, view: opened.append(study) or real(self, study, view))
    rows = predict(root, ckpt, tmp_path / "out", "--data.predict_frames", "all", "--data.val_batch_size", "3")
    assert len(rows) == 9 * 4
    # one reads the frames and one says how the scan came; five are looked at beforehand for their voxel size
    assert sorted(Counter(opened).values())[:4] == [2] * 4
