"""ConvUNetR against the golden numbers, its decoder's shortcuts against plain torch, and tiled inference."""

import importlib
import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional as F

from cinema_lightning.errors import CinemaError
from cinema_lightning.losses.segmentation import segmentation_loss
from cinema_lightning.models.convunetr import ConvUNetR
from cinema_lightning.models.dense_decoder import ImageBlock, PatchUpConv, ResidualBlock, convolve, map_conv
from cinema_lightning.models.lora import add_lora
from cinema_lightning.models.tiling import predict_tiled, tile_starts
from cinema_lightning.weights.files import load_published
from cinema_lightning.weights.layout import published_slots, to_published

GOLDEN = Path(os.environ.get("CINEMA_GOLDEN", Path(__file__).parents[1] / "golden"))
SIZES = {
    "conv_channels": [8, 16],
    "enc_dim": 32,
    "enc_depth": 2,
    "enc_heads": 4,
    "dec_channels": [4, 8, 16, 24, 32],
}
CASES = {
    "convunetr_sax": (["sax"], 1, 4),
    "convunetr_lax_4c": (["lax_4c"], 1, 4),
    "convunetr_myops": (["sax"], 3, 6),
    "convunetr_multi": (["sax", "lax_2c"], 1, 4),
}
TINY = {"size": "tiny", "conv_channels": [4, 8], "conv_blocks": 1, "input_size": {"sax": [32, 32, 3]}}


def relative(a, b):
    return ((a - b).abs().max() / b.abs().max()).item()


def golden_model(folder):
    views, channels, classes = CASES[folder]
    sizes = {view: [64, 64, 4] if view == "sax" else [64, 64] for view in views}
    network = ConvUNetR(views, sizes, channels, classes, **SIZES)
    load_published(network, GOLDEN / folder / "weights.safetensors")
    return network.eval(), load_file(GOLDEN / folder / "io.safetensors")


def tiny(views=("sax",), **options):
    torch.manual_seed(0)
    options = {**TINY, **options}
    options["input_size"] = {"lax_4c": [64, 32], **options["input_size"]}
    options["input_size"] = {view: size for view, size in options["input_size"].items() if view in views}
    return ConvUNetR(list(views), **options)


@pytest.mark.parametrize("grad", [True, False], ids=["grad", "no_grad"])
@pytest.mark.parametrize("folder", list(CASES))
def test_golden(folder, grad):
    network, io = golden_model(folder)
    images = {view: io[f"input.{view}"] for view in network.views}
    before = {view: image.clone() for view, image in images.items()}
    with torch.set_grad_enabled(grad):
        logits = network(images)
    for view in network.views:
        assert relative(logits[view], io[f"logits.{view}"]) < 1e-4
        assert torch.equal(images[view], before[view])


@pytest.mark.parametrize("batch_size", [1, 2, 8])
def test_golden_tiles(batch_size):
    network, io = golden_model("convunetr_sax")
    images = {"sax": io["tiled.input.sax"]}
    probabilities = predict_tiled(network, images, {"sax": 4}, batch_size=batch_size)["sax"]
    assert probabilities.dtype == torch.float32
    assert relative(probabilities.log(), io["tiled.log_probs.sax"]) < 1e-4


@pytest.mark.parametrize("view", ["sax", "lax_4c"])
def test_base_model_has_the_published_keys_and_shapes(view):
    with torch.device("meta"):
        network = ConvUNetR([view])
    published = json.loads((GOLDEN / "published_keys" / f"convunetr_base_{view}.json").read_text())
    assert {slot.published: list(slot.shape) for slot in published_slots(network)} == published


def test_published_layout_survives_a_round_trip():
    network, _ = golden_model("convunetr_multi")
    golden, exported = load_file(GOLDEN / "convunetr_multi" / "weights.safetensors"), to_published(network)
    assert golden.keys() == exported.keys()
    assert all(torch.equal(golden[key], exported[key]) for key in golden)


@pytest.mark.parametrize("kernel", [(2, 2), (2, 2, 1)])
def test_up_convolution_is_a_transposed_convolution(kernel):
    torch.manual_seed(0)
    up = PatchUpConv(3, 5, kernel)
    maps = torch.rand(2, *[4, 3, 2][: len(kernel)], 3)
    slot = next(slot for slot in published_slots(up) if slot.published == "weight")
    assert slot.shape == (3, 5, *kernel)
    plain = F.conv_transpose2d if len(kernel) == 2 else F.conv_transpose3d
    wanted = plain(maps.movedim(-1, 1), slot.export(up.weight), up.bias, stride=kernel).movedim(1, -1)
    torch.testing.assert_close(up(maps), wanted)
    skip = torch.rand(wanted.shape)
    torch.testing.assert_close(up(maps, skip), wanted + skip)
    with torch.no_grad():
        torch.testing.assert_close(up(maps, skip.clone()), wanted + skip)


@pytest.mark.parametrize("dims", [2, 3])
def test_convolutions_keep_maps_channels_last(dims):
    conv = map_conv(4, 6, dims)
    out = convolve(conv, torch.rand(2, *[5] * dims, 4))
    assert out.shape == (2, *[5] * dims, 6)
    assert out.is_contiguous()


@pytest.mark.parametrize("dropout", [0.0, 0.5])
@pytest.mark.parametrize("size", [(9, 7), (12, 8, 7), (5, 6, 2), (4, 3, 1)])
def test_image_branch_is_the_same_worked_out_on_few_voxels(size, dropout):
    torch.manual_seed(0)
    block = ImageBlock(1, 4, len(size), dropout).train(dropout > 0)
    for parameter in block.parameters():
        torch.nn.init.normal_(parameter)
    image = torch.rand(1, *size, 1)
    found = []
    # the gain of a norm over one channel has no effect; the plain way gives it rounding for a gradient
    parameters = [value for name, value in block.named_parameters() if name != "norm1.weight"]
    for forward in (ResidualBlock.forward, ImageBlock.forward):
        torch.manual_seed(1)
        out = forward(block, image)
        found.append([out.detach(), *torch.autograd.grad(out.square().sum(), parameters)])
    for plain, few in zip(*found, strict=True):
        torch.testing.assert_close(few, plain, rtol=1e-4, atol=1e-3)
    with torch.no_grad():
        torch.manual_seed(1)
        torch.testing.assert_close(block(image), found[0][0])


def test_image_branch_of_a_batch():
    block = ImageBlock(1, 4, 3).eval()
    images = torch.rand(3, 12, 8, 7, 1)
    wanted = torch.cat([ResidualBlock.forward(block, image[None]) for image in images])
    torch.testing.assert_close(block(images), wanted)
    block.dropout.p = 0.5
    first, second = block.train()(images[:1].expand(2, -1, -1, -1, -1))
    assert not torch.equal(first, second)  # each sample has a dropout of its own


def test_image_branch_with_dropout_is_random_in_training():
    torch.manual_seed(0)
    block = ImageBlock(1, 4, 2, dropout=0.5)
    torch.nn.init.normal_(block.norm2.bias)
    image = torch.rand(1, 9, 9, 1)
    with torch.no_grad():
        assert not torch.equal(block(image), block(image))


def test_any_depth_and_missing_views():
    network = tiny(["sax", "lax_4c"], classes=3).eval()
    images = {"sax": torch.rand(2, 1, 32, 32, 11), "lax_4c": torch.rand(2, 1, 64, 32)}
    with torch.no_grad():
        both, one = network(images), network({"sax": images["sax"]})
    assert both["sax"].shape == (2, 3, 32, 32, 11)
    assert both["lax_4c"].shape == (2, 3, 64, 32)
    assert list(one) == ["sax"]
    assert not torch.equal(both["sax"], one["sax"])  # the views see each other in the transformer


@pytest.mark.parametrize(("scale", "levels", "depth"), [((2, 2, 1), 5, 3), ((2, 2, 2), 4, 16)])
def test_a_shallow_stack_takes_the_first_entries_of_the_table(scale, levels, depth):
    """It gives what a network built for so many slices gives, with the first entries of the table."""
    first = (4, 4, 1) if levels == 5 else (2, 2, 2)
    options = {"size": "tiny", "dec_channels": [4] * levels, "patch_size": first, "scale": scale}
    torch.manual_seed(0)
    deep = ConvUNetR(["sax"], {"sax": [32, 32, 32]}, **options).eval()
    shallow = ConvUNetR(["sax"], {"sax": [32, 32, depth]}, **options).eval()
    weights, (grid, kept) = deep.state_dict(), (net.encoder.geometries["sax"].grid for net in (deep, shallow))
    key = next(key for key in weights if key.endswith("position.table"))
    weights[key] = weights[key].unflatten(1, grid)[:, :, :, : kept[2]].flatten(1, 3)
    shallow.load_state_dict(weights)
    image = torch.rand(1, 1, 32, 32, depth - 1)  # one slice less than whole patches, where a patch has several
    with torch.no_grad():
        found = deep({"sax": image})["sax"]
        wanted = shallow({"sax": F.pad(image, (0, 1))} if scale[2] > 1 else {"sax": image})["sax"]
    assert found.shape == (1, 4, 32, 32, depth - 1)
    torch.testing.assert_close(found, wanted[..., : depth - 1])


@pytest.mark.parametrize("checkpointing", [False, True])
def test_training_reaches_every_parameter(checkpointing):
    network = tiny(["sax", "lax_4c"], checkpointing=checkpointing, drop_path=0.0)
    images = {"sax": torch.rand(1, 1, 32, 32, 2), "lax_4c": torch.rand(1, 1, 64, 32)}
    sum(logits.square().mean() for logits in network(images).values()).backward()
    assert [name for name, p in network.named_parameters() if p.grad is None] == []


def training_step(network, images):
    """Gradients of one step, bytes kept for the backward pass beside the weights, and how often a convolution ran."""
    weights = {p.data_ptr() for p in network.parameters()}
    kept, runs = {}, []
    convolutions = [part for name, part in network.decoders.named_modules() if name.endswith(("conv1", "conv2"))]
    hooks = [part.register_forward_hook(lambda part, *_: runs.append(part)) for part in convolutions]

    def pack(tensor):
        if tensor.data_ptr() not in weights:
            kept[tensor.data_ptr()] = tensor.nbytes
        return tensor

    torch.manual_seed(3)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = network(images)["sax"].square().mean()
    loss.backward()
    for hook in hooks:
        hook.remove()
    return [p.grad for p in network.parameters()], sum(kept.values()), len(runs) / len(convolutions)


def test_a_checkpointed_decoder_keeps_little_and_computes_no_convolution_twice():
    images = {"sax": torch.rand(1, 1, 32, 32, 3)}
    plain, kept, runs = training_step(tiny(dropout=0.3), images)
    same, less, again = training_step(tiny(dropout=0.3, checkpoint_decoder=True), images)
    assert all(torch.equal(a, b) for a, b in zip(plain, same, strict=True))
    assert less < 0.7 * kept
    assert runs == again == 1


@pytest.mark.parametrize("grad", [True, False])
def test_bf16_autocast(grad):
    network = tiny(drop_path=0.0).eval()
    images = {"sax": torch.rand(1, 1, 32, 32, 2)}
    with torch.set_grad_enabled(grad):
        exact = network(images)["sax"]
        with torch.autocast("cpu", torch.bfloat16):
            logits = network(images)["sax"]
    assert relative(logits.float(), exact) < 0.1
    if grad:
        logits.float().square().mean().backward()
        assert all(p.grad.dtype == torch.float32 for p in network.parameters())


def test_fused_adamw_agrees_on_channels_last_weights():
    results = []
    for fused in (True, False):
        network = tiny(drop_path=0.0, dropout=0.0)
        optimizer = torch.optim.AdamW(network.parameters(), lr=1e-2, fused=fused)
        for _ in range(2):
            optimizer.zero_grad()
            network({"sax": torch.ones(1, 1, 32, 32, 2).cumsum(2) / 32})["sax"].square().mean().backward()
            optimizer.step()
        results.append(network.state_dict())
    for key, value in results[0].items():
        torch.testing.assert_close(value, results[1][key], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"input_size": {"sax": [48, 32, 3]}}, "not a multiple of 32 x 32 x 1"),
        ({"dec_channels": [4, 8]}, "2 numbers, but this network has 5 levels"),
        ({"patch_size": [3, 3, 1], "input_size": {"sax": [48, 48, 3]}}, "no power of scale"),
        ({"classes": 0}, "positive"),
        ({"size": "giant"}, "no network size"),
        ({"input_size": {"sax": [32, 32]}}, "3 positive numbers"),
    ],
)
def test_bad_arguments(options, message):
    with pytest.raises(CinemaError, match=message):
        tiny(**options)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ({}, "No view is present"),
        ({"lax_3c": torch.rand(1, 1, 32, 32)}, "no weights for view 'lax_3c'"),
        ({"sax": torch.rand(1, 1, 48, 32, 3)}, "multiple of 32 x 32 x 1"),
        ({"sax": torch.rand(1, 2, 32, 32, 3)}, "2 channels"),
        ({"sax": torch.rand(1, 1, 32, 32)}, "5 axes"),
    ],
)
def test_bad_images(images, message):
    with pytest.raises(CinemaError, match=message):
        tiny()(images)


@pytest.mark.parametrize(
    ("depth", "tile", "starts"),
    [(7, 4, [0, 2, 3]), (4, 4, [0]), (3, 4, [0]), (8, 4, [0, 2, 4]), (17, 16, [0, 1]), (3, 1, [0, 1, 2])],
)
def test_tile_starts(depth, tile, starts):
    assert tile_starts(depth, tile) == starts


def test_tiles_average_other_views_and_pooled_outputs():
    def dense(images):
        level = images["sax"].mean(dim=(1, 2, 3, 4))
        return {"sax": images["sax"] * 1.0, "lax_4c": images["lax_4c"] + level[:, None, None, None]}

    images = {"sax": torch.rand(3, 1, 4, 4, 5), "lax_4c": torch.rand(3, 1, 4, 4)}
    out = predict_tiled(dense, images, {"sax": 2}, "none", batch_size=4)
    tiles = torch.stack([images["sax"][..., s : s + 2].mean(dim=(1, 2, 3, 4)) for s in (0, 1, 2, 3)]).mean(dim=0)
    torch.testing.assert_close(out["sax"], images["sax"])
    torch.testing.assert_close(out["lax_4c"], images["lax_4c"] + tiles[:, None, None, None])
    pooled = predict_tiled(lambda tile: tile["sax"].mean(dim=(2, 3, 4)), images, {"sax": 2}, "none")
    torch.testing.assert_close(pooled[:, 0], tiles)


def test_tiles_refuse_nonsense():
    with pytest.raises(CinemaError, match="check both"):
        tile_starts(4, 0)
    stacks = {"sax": torch.rand(1, 1, 4, 4, 5), "other": torch.rand(1, 1, 4, 4, 5)}
    with pytest.raises(CinemaError, match="both deeper"):
        predict_tiled(dict, stacks, {"sax": 2, "other": 2})


@pytest.mark.parametrize("folder", list(CASES))
def test_benchmark_reference_computes_the_same(folder, monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "benchmarks")
    reference_of = importlib.import_module("reference_convunetr").reference_of
    network, io = golden_model(folder)
    reference = reference_of(network).eval()
    images = {view: io[f"input.{view}"] for view in network.views}
    with torch.no_grad():
        ours, theirs = network(images), reference(images)
    for view in network.views:
        assert relative(theirs[view], io[f"logits.{view}"]) < 1e-4
        assert relative(ours[view], theirs[view]) < 1e-4
        assert (ours[view].argmax(dim=1) == theirs[view].argmax(dim=1)).float().mean() > 0.999


@pytest.mark.parametrize("lora", [False, True])
def test_shortcuts_without_gradients_change_nothing(lora):
    network = tiny(["sax", "lax_4c"]).eval()
    if lora:
        add_lora(network, rank=2)
        for name, parameter in network.named_parameters():
            if name.endswith("lora_b"):
                torch.nn.init.normal_(parameter)
    images = {"sax": torch.rand(2, 1, 32, 32, 2), "lax_4c": torch.rand(2, 1, 64, 32)}
    before = {key: value.clone() for key, value in network.state_dict().items()}
    wanted = network(images)
    with torch.no_grad():
        logits = network(images)
    with torch.inference_mode():
        again = network(images)
    for view in images:
        torch.testing.assert_close(logits[view], wanted[view].detach(), rtol=1e-4, atol=1e-5)
        assert torch.equal(logits[view], again[view])
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


def test_the_frozen_training_step_computes_the_same(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "benchmarks")
    reference = importlib.import_module("reference_finetune")
    network = tiny(drop_path=0.1, dropout=0.1)
    image, labels = torch.rand(1, 1, 32, 32, 3), torch.randint(4, (1, 32, 32, 3))
    found = []
    for frozen in (True, False):
        torch.manual_seed(5)
        logits = reference.forward(network, image) if frozen else network({"sax": image})["sax"]
        loss = reference.loss(logits, labels) if frozen else segmentation_loss(logits, labels)
        parameters = {name: value for name, value in network.named_parameters() if "image.norm1.weight" not in name}
        found.append((loss, *torch.autograd.grad(loss, list(parameters.values()))))
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-5)
