"""Shared places and small cohorts."""

from __future__ import annotations

import os
from pathlib import Path

import lightning  # noqa: F401  its loggers keep the stream they find at import, which must outlive a single test
import pytest

# Small networks of every kind.
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

if not os.environ.get("CINEMA_TEST_GPU"):
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")


def pytest_collection_modifyitems(items):
    """GPU tests run where there is a GPU."""
    import torch

    if torch.cuda.is_available():
        return
    for item in items:
        if item.get_closest_marker("gpu"):  # keywords hold folder names too
            item.add_marker(pytest.mark.skip(reason="no CUDA device here"))


@pytest.fixture(scope="session")
def golden() -> Path:
    """Folder of golden numbers: $CINEMA_GOLDEN, or the copies beside the tests."""
    return Path(os.environ.get("CINEMA_GOLDEN", Path(__file__).parent / "golden"))


@pytest.fixture(scope="session")
def real() -> Path:
    """Folder of real images: $CINEMA_REAL, or ../shared/real; skips where it is absent."""
    folder = Path(os.environ.get("CINEMA_REAL", Path(__file__).parents[2] / "shared" / "real"))
    if not folder.is_dir():
        pytest.skip("no real images here (set CINEMA_REAL)")
    return folder


@pytest.fixture(scope="session")
def phantom_cohort(tmp_path_factory) -> Path:
    """A small phantom cohort, made once per test process: 10 subjects, 4 views, 4 frames."""
    from cinema_lightning.cli import main

    out = tmp_path_factory.mktemp("cohort") / "phantom"
    assert main(["phantom", "--subjects", "10", "--size", "small", "--frames", "4", "--out", str(out)]) == 0
    return out


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


def trained(path: Path, name: str, seed: int = 6, views: list[str] | None = None) -> Path:
    """A checkpoint as `cinema fit` leaves one."""
    import torch
    from lightning.pytorch.cli import instantiate_module

    from cinema_lightning.tasks import TASKS
    from cinema_lightning.tasks.base import Task

    if name == "Pretrain":
        kind = "mae.MaskedAutoencoder"
        spec = {
            "views": ["sax"],
            "channels": 1,
            "input_size": {"sax": [64, 64, 4]},
            "spacing": {"sax": [2.0, 2.0, 10.0]},
        }
    else:
        spec, kind = spec_for(name, views), "convunetr.ConvUNetR" if name in DENSE else "convvit.ConvViT"
    hparams = {
        "_class_path": f"{TASKS[name].__module__}.{name}",
        "spec": spec,
        "network": {"class_path": f"cinema_lightning.models.{kind}", "init_args": {"size": "tiny", "enc_heads": 4}},
    }
    torch.manual_seed(seed)
    task = instantiate_module(Task, hparams)
    if name == "Segmentation":  # of random weights one class would be everywhere
        for head in task.network.heads.values():
            torch.nn.init.zeros_(head.bias)
    version = {"pytorch-lightning_version": "2.6.6", "epoch": 0, "global_step": 0}
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"state_dict": task.state_dict(), "hyper_parameters": hparams, **version}, path)
    return path


@pytest.fixture(scope="session")
def train():
    """Makes a checkpoint of any task, see :func:`trained`."""
    return trained
