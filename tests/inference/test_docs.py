"""The code of docs/python.md runs from top to bottom."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import nibabel
import pytest
import torch

from cinema_lightning.models.mae import MaskedAutoencoder
from cinema_lightning.phantom.command import phantom
from cinema_lightning.registry import BACKBONES

PAGE = Path(__file__).parents[2] / "docs" / "python.md"
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


@pytest.fixture
def place(tmp_path, monkeypatch, train, segmenter, scan, moving):
    """A folder in which somebody has trained all of it, with small networks."""
    runs = tmp_path / "runs"
    for version in ("0", "1"):
        (runs / "acdc_seg" / version / "checkpoints").mkdir(parents=True)
        shutil.copy(segmenter, runs / "acdc_seg" / version / "checkpoints" / "best.ckpt")
    train(runs / "acdc_seg" / "1" / "checkpoints" / "best.ckpt", "Segmentation", seed=8)
    train(runs / "acdc_ef" / "0" / "checkpoints" / "best.ckpt", "Regression")
    train(runs / "landmark_heatmap_2ch" / "0" / "checkpoints" / "best.ckpt", "LandmarkHeatmap")
    train(runs / "pretrain" / "0" / "checkpoints" / "best.ckpt", "Pretrain")
    shutil.copy(scan, tmp_path / "scan.nii.gz")
    nibabel.save(nibabel.Nifti1Image(*moving((48, 60, 1, 3), (1.6, 1.6, 8.0))), tmp_path / "lax_2c.nii.gz")
    phantom(4, tmp_path / "data" / "acdc", size="small", frames=2)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_five_uses_run(place):
    assert len(BLOCKS) == 7
    names: dict = {}
    for number, block in enumerate(BLOCKS):
        exec(compile(block, f"block {number + 1} of {PAGE.name}", "exec"), names)
    assert nibabel.load(place / "masks.nii.gz").shape == nibabel.load(place / "scan.nii.gz").shape
    assert (place / "volumes.csv").read_text().count("\n") == 1 + 5
    assert names["turned"].frames == (names["ed"],)
    assert names["features"].tokens["sax"].shape[:1] == (5,)
    assert names["loss"].isfinite()
    assert MaskedAutoencoder.__name__ == type(names["encoder"].network).__name__


def test_the_network_of_the_recipes_is_one():
    (block,) = re.findall(r"```python\n(.*?)```", (PAGE.parent / "recipes.md").read_text(encoding="utf-8"), re.DOTALL)
    names: dict = {}
    try:
        exec(compile(block, "recipes.md", "exec"), names)
        network = BACKBONES["OneLayer"](["sax", "lax_4c"], classes=4)
        out = network({"sax": torch.rand(2, 1, 32, 32, 4), "lax_4c": torch.rand(2, 1, 32, 32)})
        assert {view: tuple(one.shape) for view, one in out.items()} == {
            "sax": (2, 4, 32, 32, 4),
            "lax_4c": (2, 4, 32, 32),
        }
    finally:
        BACKBONES._items.pop("OneLayer", None)


def test_pictures_are_there():
    named = re.findall(r"!\[[^]]*\]\(([^)]+)\)", PAGE.read_text(encoding="utf-8"))
    assert len(named) == 3
    assert all((PAGE.parent / name).is_file() for name in named)
