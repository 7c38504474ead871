"""The published fine-tuned files: networks built from them, and what is known of their outputs."""

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from cinema_lightning.errors import CinemaError
from cinema_lightning.models.convunetr import ConvUNetR
from cinema_lightning.models.convvit import ConvViT
from cinema_lightning.weights.finetuned import finetuned_facts, load_finetuned, network_arguments
from cinema_lightning.weights.layout import published_slots
from cinema_lightning.weights.transfer import load_weights

GOLDEN = Path(os.environ.get("CINEMA_GOLDEN", Path(__file__).parents[1] / "golden"))
GOLDEN_SIZE = {"sax": [64, 64, 4], "lax_4c": [64, 64]}


def published(folder, tmp_path, task, data, config=None):
    place = tmp_path / "finetuned" / task / data
    place.mkdir(parents=True)
    path = shutil.copy(GOLDEN / folder / "weights.safetensors", place / f"{data}_0.safetensors")
    if config is not None:
        (place / "config.yaml").write_text(yaml.safe_dump(config))
    return Path(path)


def sizes(*views):
    return {view: GOLDEN_SIZE[view] for view in views}


def test_finetuned_segmentation_is_built_from_its_file(tmp_path):
    config = {"data": {"sax": {"patch_size": [64, 64, 4], "in_chans": 1}}, "model": {"name": "convunetr"}}
    path = published("convunetr_sax", tmp_path, "segmentation", "acdc_sax", config)
    network, facts = load_finetuned(path, enc_heads=4)
    assert isinstance(network, ConvUNetR)
    io = load_file(GOLDEN / "convunetr_sax" / "io.safetensors")
    logits = network.eval()({"sax": io["input.sax"]})["sax"]
    assert ((logits - io["logits.sax"]).abs().max() / io["logits.sax"].abs().max()) < 1e-4
    assert facts == {
        "network": "ConvUNetR",
        "views": ["sax"],
        "channels": 1,
        "outputs": 4,
        "class_names": ["background", "RV blood pool", "myocardium", "LV blood pool"],
    }
    report = load_weights(path, ConvUNetR(["sax"], **{**golden_sizes("sax"), "classes": 4}))
    assert report.complete
    assert report.facts == facts


def golden_sizes(*views):
    return {"input_size": sizes(*views), "conv_channels": [8, 16], "enc_dim": 32, "enc_depth": 2, "enc_heads": 4} | (
        {"dec_channels": [4, 8, 16, 24, 32]}
    )


def test_finetuned_classification_with_a_configuration(tmp_path):
    config = {
        "model": {"n_frames": 2, "convvit": {"size": "base"}},
        "data": {
            "class_column": "pathology",
            "pathology": ["NOR", "DCM", "HCM", "MINF", "RV"],
            "sax": {"patch_size": [64, 64, 4]},
        },
    }
    path = published("convvit_sax", tmp_path, "classification_cvd", "acdc_sax", config)
    network, facts = load_finetuned(path, enc_heads=4)
    io = load_file(GOLDEN / "convvit_sax" / "io.safetensors")
    torch.testing.assert_close(network.eval()({"sax": io["input.sax"]}), io["logits.all"], rtol=1e-3, atol=1e-5)
    assert facts["class_names"] == ["NOR", "DCM", "HCM", "MINF", "RV"]
    assert (facts["target"], facts["frames"], facts["channels"]) == ("pathology", 2, 2)
    (path.parent / "config.yaml").unlink()
    _, facts = load_finetuned(path, input_size=sizes("sax"), enc_heads=4)
    assert facts["class_names"] == ["DCM", "HCM", "MINF", "NOR", "RV"]


def test_finetuned_regression_statistics(tmp_path):
    statistics = {"regression_column": "bmi", "bmi": {"mean": 25.5, "std": 4.7}}
    config = {"data": {**statistics, "lax": {"patch_size": [64, 64]}}}
    path = published("convvit_landmark", tmp_path, "regression_ef", "mnms2_lax_4c", config)
    _, facts = load_finetuned(path, enc_heads=4)
    assert (facts["target"], facts["mean"], facts["std"]) == ("bmi", 25.5, 4.7)
    assert "caution" not in facts
    (path.parent / "config.yaml").unlink()
    _, facts = load_finetuned(path, input_size=sizes("lax_4c"), enc_heads=4)
    assert (facts["target"], facts["mean"]) == ("ef", 37.97920801605608)
    assert "LV EF" in facts["caution"]


def test_finetuned_refusals(tmp_path):
    config = {"data": {"class_column": "sex", "sex": ["M", "F"], "sax": {"patch_size": [64, 64, 4]}}}
    path = published("convvit_sax", tmp_path, "classification_sex", "mnms_sax", config)
    with pytest.raises(CinemaError, match=r"lists 2 classes \(M, F\).*5 outputs"):
        load_finetuned(path, enc_heads=4)
    (path.parent / "config.yaml").write_text("data: [1, 2]")
    with pytest.raises(CinemaError, match="'data' should hold a block"):
        load_finetuned(path)
    (path.parent / "config.yaml").write_text("[")
    with pytest.raises(CinemaError, match="not valid YAML"):
        load_finetuned(path)
    (path.parent / "config.yaml").unlink()
    with pytest.raises(CinemaError, match=r"other shapes for enc_down_dict\.sax\.pos_embed"):
        load_finetuned(path, enc_heads=4)
    with pytest.raises(CinemaError, match="check the arguments"):
        load_finetuned(path, dec_channels=[1])
    with pytest.raises(CinemaError, match="not a fine-tuned network"):
        load_finetuned(GOLDEN / "mae" / "weights.safetensors")
    tensors = load_file(path)
    del tensors["encoder.norm.weight"]
    save_file(tensors, path)
    with pytest.raises(CinemaError, match=r"lacks encoder\.norm\.weight"):
        load_finetuned(path, input_size=sizes("sax"), enc_heads=4)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(CinemaError, match="truncated"):
        load_weights(path, ConvViT(["sax"], size="tiny"))


@pytest.mark.parametrize(
    "file",
    [
        "convunetr_base_sax",
        "convunetr_base_lax_4c",
        "convvit_base_lax_4c_landmark",
        "convvit_base_sax_2frames_5classes",
    ],
)
def test_sizes_of_published_files_are_read_from_their_shapes(file):
    shapes = json.loads((GOLDEN / "published_keys" / f"{file}.json").read_text())
    arguments = network_arguments(None, shapes, finetuned_facts(Path("weights.safetensors"), None, shapes))
    with torch.device("meta"):
        network = (ConvUNetR if "unetr" in file else ConvViT)(**arguments)
    assert {slot.published: list(slot.shape) for slot in published_slots(network)} == shapes
    assert arguments["size"] == "base"
