"""From training to results with stacks at their own depth, and what was trained before stays padded."""

from __future__ import annotations

import csv

import numpy as np
import pytest
import torch
import yaml
from jsonargparse import Namespace

import cinema_lightning
from cinema_lightning.cli import main
from cinema_lightning.data.store import series_path, write_series
from cinema_lightning.data.table import write_cohort
from cinema_lightning.weights.files import load_checkpoint
from cinema_lightning.weights.restore import keep_depth

SLICES = [3, 5, 3, 4, 3, 5, 3, 6, 3, 4]
TINY = [
    *("--config", "seg.yaml", "--config", "phantom.yaml", "--data.dataset=phantom", "--data.views=[sax]"),
    *("--data.input_size={sax: [32,32,5]}", "--model.network.size=tiny", "--model.network.conv_channels=[4,8]"),
    *("--data.batch_size=4", "--trainer.max_epochs=1", "--trainer.check_val_every_n_epoch=1", "--name=run"),
    *("--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false", "--pictures.every_n_epochs=0"),
]


@pytest.fixture
def store(tmp_path):
    """Ten studies of 3 to 6 slices; the label map of each has as many LV voxels as slices times 100."""
    rows = []
    for i, slices in enumerate(SLICES):
        frames = np.random.default_rng(i).integers(1, 255, (2, 28, 30, slices), np.uint8)
        labels = np.zeros_like(frames)
        labels[:, 5:15, 5:15] = 3
        for kind, array in (("image", frames), ("label", labels)):
            write_series(series_path(tmp_path / "data", f"s{i}", "sax", kind), array, affine=np.diag([1.0, 1, 10, 1]))
        split = "train" if i < 4 else "val" if i < 8 else "test"
        row = {"id": f"s{i}", "split": split, "views": "sax", "n_frames": 2, "ed_frame": 0, "es_frame": 1}
        rows.append(row | {"n_slices": slices if i % 2 else ""})
    write_cohort(tmp_path / "data", rows)
    return tmp_path / "data"


def run(verb, store, *more):
    return main([verb, *TINY, f"--data.root={store}", f"--runs={store.parent / 'runs'}", *more])


def depth_seen(checkpoint, slices):
    """Slices that reach the network when it is called on a scan."""
    model, seen = cinema_lightning.load(checkpoint, device="cpu"), []
    model.network.register_forward_pre_hook(lambda _, given: seen.append(given[0]["sax"].shape[4]))
    found = model(np.ones((28, 30, slices), np.uint8) * np.arange(30, dtype=np.uint8)[:, None], spacing=(1, 1, 10))
    assert found.labels.shape == (28, 30, slices, 1)
    return model.spec.depth, set(seen)


def without_depth(folder):
    """Makes a run one of before there was a choice."""
    for name in ("last", "best"):
        path = folder / "checkpoints" / f"{name}.ckpt"
        state = load_checkpoint(path)
        del state["hyper_parameters"]["spec"]["depth"]
        torch.save(state, path)
    config = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
    del config["data"]["init_args"]["depth"]
    (folder / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")


@pytest.mark.slow
def test_a_network_learns_and_tests_at_the_stacks_own_depth_unless_it_was_trained_padded(store):
    assert run("fit", store) == 0
    folder = store.parent / "runs" / "run" / "0"
    checkpoint = folder / "checkpoints" / "last.ckpt"
    assert load_checkpoint(checkpoint)["hyper_parameters"]["spec"]["depth"] == "own"
    assert run("test", store, "--ckpt_path=last") == 0
    with next((folder / "test").glob("*/cases.csv")).open(encoding="utf-8") as file:
        cases = list(csv.DictReader(file))
    # 100 pixels of 1 mm2 in each slice of 10 mm: 1 ml a slice; s8 has three slices and s9 four
    volumes = {case["id"]: float(case["lv_volume_true"]) for case in cases}
    assert volumes == {"s8": 3.0, "s9": 4.0}
    assert depth_seen(checkpoint, 3) == ("own", {3})
    assert depth_seen(checkpoint, 7) == ("own", {5})  # in tiles
    out = store.parent / "out" / "net.safetensors"
    assert main(["export", "--checkpoint", str(checkpoint), "--out", str(out)]) == 0
    assert depth_seen(out, 3) == ("own", {3})
    without_depth(folder)
    assert depth_seen(checkpoint, 3) == ("padded", {5})
    assert run("fit", store, "--ckpt_path=last", "--trainer.max_epochs=2") == 0
    assert load_checkpoint(checkpoint)["hyper_parameters"]["spec"]["depth"] == "padded"


@pytest.mark.parametrize(("spec", "depth"), [({"depth": "own"}, "own"), ({}, "padded")])
def test_a_checkpoint_away_from_its_run_goes_on_as_it_began(tmp_path, spec, depth):
    torch.save({"state_dict": {}, "hyper_parameters": {"spec": spec}}, tmp_path / "copied.ckpt")
    for given in ("own", "padded"):
        config = Namespace(data=Namespace(init_args=Namespace(depth=given)))
        keep_depth(tmp_path / "copied.ckpt", None, config)
        assert config.data.init_args.depth == depth


def test_an_exported_autoencoder_says_its_depth(tmp_path):
    from cinema_lightning.models.mae import MaskedAutoencoder
    from cinema_lightning.weights.files import save_published
    from cinema_lightning.weights.published import published_network

    network = MaskedAutoencoder(["sax"], {"sax": [32, 32, 5]}, size="tiny", conv_channels=[4, 8])
    for depth in ("own", "padded"):
        path = tmp_path / depth / "net.safetensors"
        save_published(network, path, about={"spec": {"depth": depth}})
        assert published_network(path, {})[0]["spec"]["depth"] == depth
