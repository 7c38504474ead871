"""Small networks of every kind, of random weights, and a scan as a scanner gives it."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from lightning.pytorch.cli import instantiate_module

from cinema_lightning.tasks import TASKS
from cinema_lightning.tasks.base import Task

SIZES = {"sax": [64, 64, 4], "lax_2c": [64, 64], "lax_4c": [64, 64]}
VOXELS = {"sax": [2.0, 2.0, 10.0], "lax_2c": [2.0, 2.0], "lax_4c": [2.0, 2.0]}
CLASSES = ["background", "RV blood pool", "myocardium", "LV blood pool"]
MARKS = {"landmarks": ["hinge_1", "hinge_2", "apex"], "frames": "all"}
KINDS = {
    "Segmentation": ("segmentation", ["sax"], ["image"], {"classes": CLASSES, "label_codes": [0, 1, 2, 3]}),
    "LandmarkHeatmap": ("landmarks", ["lax_2c"], ["image"], MARKS),
    "LandmarkCoordinate": ("landmarks", ["lax_2c"], ["image"], MARKS),
    "Classification": ("classification", ["sax"], ["ED", "ES"], {"target": "sex", "classes": ["M", "F"]}),
    "Regression": ("regression", ["sax", "lax_4c"], ["ED", "ES"], {"target": "lv_ef", "mean": 53.1, "std": 9.7}),
    "Survival": ("survival", ["sax"], ["ED", "ES"], {"n_events": 3}),
}
DENSE = ("Segmentation", "LandmarkHeatmap")
OBLIQUE = np.array([[0.8, -0.6, 0.0], [0.36, 0.48, -0.8], [0.48, 0.64, 0.6]])


def spec_for(name: str, views: list[str] | None = None) -> dict:
    """Facts of the data as a checkpoint keeps them."""
    kind, own, channels, facts = KINDS[name]
    views = views or own
    return {
        "views": views,
        "input_size": {view: SIZES[view] for view in views},
        "channels": len(channels),
        "channel_names": channels,
        "kind": kind,
        "dataset": "phantom",
        "spacing_known": True,
        "spacing": {view: VOXELS[view] for view in views},
        "n_train": 12,
        **facts,
    }


def trained(path: Path, name: str, seed: int = 5, views: list[str] | None = None) -> Path:
    """A checkpoint as `cinema fit` leaves one."""
    kind = "convunetr.ConvUNetR" if name in DENSE else "convvit.ConvViT"
    hparams = {
        "_class_path": f"{TASKS[name].__module__}.{name}",
        "spec": spec_for(name, views),
        "network": {"class_path": f"cinema_lightning.models.{kind}", "init_args": {"size": "tiny", "enc_heads": 4}},
    }
    torch.manual_seed(seed)
    task = instantiate_module(Task, hparams)
    version = {"pytorch-lightning_version": "2.6.6", "epoch": 0, "global_step": 0}
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"state_dict": task.state_dict(), "hyper_parameters": hparams, **version}, path)
    return path


def cine(shape: tuple[int, ...], voxel: tuple[float, float, float], seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A beating, oblique scan of floats, (X, Y, Z, T), and its affine."""
    rng = np.random.default_rng(seed)
    x, y, z, t = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    radius = 0.45 + 0.1 * np.cos(np.pi * t) - 0.1 * np.abs(z)
    ring = np.exp(-((np.hypot(x - 0.1, y + 0.05) - radius) ** 2) / 0.02) + (x > 0.4)
    voxels = (900 * ring + 60 * rng.random(shape)).astype(np.float32)
    affine = np.eye(4)
    affine[:3, :3] = OBLIQUE * np.array(voxel)
    affine[:3, 3] = (-40, 25, 60)
    return voxels, affine


@pytest.fixture(scope="session")
def scan(tmp_path_factory) -> Path:
    """4D, oblique, 1.6 x 1.6 x 8 mm, float: 5 frames of 9 slices, deeper than the network's input."""
    voxels, affine = cine((50, 44, 9, 5), (1.6, 1.6, 8.0))
    path = tmp_path_factory.mktemp("scans") / "P01" / "sax.nii.gz"
    path.parent.mkdir()
    nibabel.save(nibabel.Nifti1Image(voxels, affine), path)
    return path


@pytest.fixture(scope="session")
def segmenter(tmp_path_factory) -> Path:
    """A checkpoint that segments the short axis."""
    return trained(tmp_path_factory.mktemp("segmenter") / "best.ckpt", "Segmentation")


@pytest.fixture(scope="session")
def train():
    """Makes a checkpoint of any task, see :func:`trained`."""
    return trained


@pytest.fixture(scope="session")
def moving():
    """Makes voxels and their affine, see :func:`cine`."""
    return cine
