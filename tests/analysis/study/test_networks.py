"""Networks as they come: an ensemble of runs with landmarks beside it, and the published default."""

import csv
import json
import shutil

import huggingface_hub.constants
import numpy as np
import pytest
import yaml

from cinema_lightning.cli import main


def _run(*arguments) -> int:
    return main(["analyse", *map(str, arguments)])


def test_two_runs_together_and_landmarks(study, train, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    runs = {
        "one": ("Segmentation", "sax"),
        "two": ("Segmentation", "sax"),
        "two_chamber": ("LandmarkHeatmap", "lax_2c"),
        "four_chamber": ("LandmarkHeatmap", "lax_4c"),
    }
    for seed, (name, (kind, view)) in enumerate(runs.items()):
        train(tmp_path / "runs" / name / "0" / "checkpoints" / "best.ckpt", kind, seed=seed, views=[view])
    place, out = study(frames=4).write(tmp_path / "s"), tmp_path / "out"
    assert _run(place, "--out", out, *(word for name in runs for word in ("--weights", name))) == 0
    record = json.loads(next(out.glob("*/result.json")).read_text())
    with (out / "results.csv").open(newline="", encoding="utf-8") as file:
        (row,) = csv.DictReader(file)
    assert row["weights"].count("sha256:") == 4
    assert len(set(row["weights"].split())) == 8
    assert "ensemble_spread" in {check["name"] for check in record["checks"]}
    assert record["landmarks"].keys() == {"lax_2c", "lax_4c"}
    assert np.shape(record["landmarks"]["lax_4c"]["apex"]) == (4, 3)
    assert "mapse_septal" in record["numbers"]


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """The hub's cache on this disk, and no network."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "hub" / "models--mathpluscode--CineMA"


def test_published_weights_by_default(study, hub, golden, tmp_path, capsys):
    place, out = study(frames=4, slices=6).write(tmp_path / "s", ("SAX",)), tmp_path / "out"
    assert _run(place, "--out", out) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "mnms2_sax_0.safetensors of mathpluscode/CineMA is not on this disk and could not be fetched" in error
    folder = hub / "snapshots" / "0123abcd" / "finetuned" / "segmentation" / "mnms2_sax"
    folder.mkdir(parents=True)
    (hub / "refs").mkdir()
    (hub / "refs" / "main").write_text("0123abcd")
    shutil.copy(golden / "convunetr_sax" / "weights.safetensors", folder / "mnms2_sax_0.safetensors")
    sizes = {"patch_size": [64, 64, 4], "spacing": [2.0, 2.0, 10.0], "in_chans": 1}
    model = {"name": "convunetr", "convunetr": {"size": "tiny"}, "convvit": {"size": "tiny"}}
    (folder / "config.yaml").write_text(yaml.safe_dump({"model": model, "data": {"sax": sizes}}))
    assert _run(place, "--out", out) == 0
    record = json.loads(next(out.glob("*/result.json")).read_text())
    assert record["made_with"]["weights_1"].startswith("mnms2_sax_0.safetensors sha256:")
    assert record["views"]["sax"]["looked_at"] == [0, 1, 2, 3]
