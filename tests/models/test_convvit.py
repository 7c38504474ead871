"""ConvViT against the golden numbers, and views that are missing."""

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from cinema_lightning.errors import CinemaError
from cinema_lightning.models.convvit import ConvViT
from cinema_lightning.weights.files import load_published
from cinema_lightning.weights.layout import published_slots

GOLDEN = Path(os.environ.get("CINEMA_GOLDEN", Path(__file__).parents[1] / "golden"))
SIZES = {"conv_channels": [8, 16], "enc_dim": 32, "enc_depth": 2, "enc_heads": 4}
CASES = {
    "convvit_sax": (["sax"], 2, 5),
    "convvit_multi": (["sax", "lax_4c"], 2, 3),
    "convvit_landmark": (["lax_4c"], 1, 6),
}


def relative(a, b):
    return ((a - b).abs().max() / b.abs().max()).item()


def golden_model(folder, **options):
    views, channels, outputs = CASES[folder]
    sizes = {view: [64, 64, 4] if view == "sax" else [64, 64] for view in views}
    network = ConvViT(views, sizes, channels, outputs, **SIZES, **options)
    load_published(network, GOLDEN / folder / "weights.safetensors")
    io = load_file(GOLDEN / folder / "io.safetensors")
    return network.eval(), {view: io[f"input.{view}"] for view in views}, io


@pytest.mark.parametrize("variant", ["all", "patch", "cls"])
@pytest.mark.parametrize("folder", list(CASES))
def test_golden(folder, variant):
    network, images, io = golden_model(folder, variant=variant)
    with torch.no_grad():
        assert relative(network(images), io[f"logits.{variant}"]) < 1e-4


@pytest.mark.parametrize(
    ("file", "arguments"),
    [
        ("convvit_base_sax_2frames_5classes", {"views": ["sax"], "channels": 2, "outputs": 5}),
        ("convvit_base_lax_4c_landmark", {"views": ["lax_4c"], "channels": 1, "outputs": 6}),
    ],
)
def test_base_model_has_the_published_keys_and_shapes(file, arguments):
    with torch.device("meta"):
        network = ConvViT(**arguments)
    published = json.loads((GOLDEN / "published_keys" / f"{file}.json").read_text())
    assert {slot.published: list(slot.shape) for slot in published_slots(network)} == published


def test_a_missing_view_takes_no_part_in_the_mean():
    network, images, _ = golden_model("convvit_multi")
    with torch.no_grad():
        for some, n in (({"sax": images["sax"]}, 1), ({"lax_4c": images["lax_4c"]}, 1), (images, 2)):
            patch, cls = network(some, variant="patch"), network(some, variant="cls")
            torch.testing.assert_close(network(some), (n * patch + cls) / (n + 1))


@pytest.mark.parametrize("variant", ["all", "patch", "cls"])
def test_gradients_reach_just_what_is_trained(variant):
    network, images, _ = golden_model("convvit_multi", variant=variant)
    network(images).sum().backward()
    for name, parameter in network.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, name
    trained = {name for name, head in network.heads.items() if head.weight.requires_grad}
    assert trained == {"all": {"sax", "lax_4c", "cls"}, "patch": {"sax", "lax_4c"}, "cls": {"cls"}}[variant]


def test_bad_arguments_and_images():
    with pytest.raises(CinemaError, match="all, patch or cls"):
        ConvViT(["sax"], variant="mean", size="tiny")
    with pytest.raises(CinemaError, match="number of classes or outputs is 0"):
        ConvViT(["sax"], outputs=0, size="tiny")
    with pytest.raises(CinemaError, match="different view names"):
        ConvViT("sax", size="tiny")
    network, images, _ = golden_model("convvit_sax")
    with pytest.raises(CinemaError, match="No view is present"):
        network({})
    with pytest.raises(CinemaError, match="1 channels, but the network takes 2"):
        network({"sax": images["sax"][:, :1]})
