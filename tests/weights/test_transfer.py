"""Starting from other weights, layer-wise decay, probes and adapters."""

import json
import os
from pathlib import Path

import pytest
import torch

from cinema_lightning.errors import CinemaError
from cinema_lightning.models.baselines import DynUNet, ResNet50, UNet
from cinema_lightning.models.convunetr import ConvUNetR
from cinema_lightning.models.convvit import ConvViT
from cinema_lightning.models.lora import add_lora, merge_lora, merge_lora_state
from cinema_lightning.models.mae import MaskedAutoencoder
from cinema_lightning.tasks.optim import freeze_backbone, layer_decay_groups, layer_scales
from cinema_lightning.views import VIEWS
from cinema_lightning.weights.files import save_published
from cinema_lightning.weights.layout import published_slots, to_published
from cinema_lightning.weights.transfer import load_weights, state_source, transfer

GOLDEN = Path(os.environ.get("CINEMA_GOLDEN", Path(__file__).parents[1] / "golden"))
STEM = {"size": "tiny", "conv_channels": [4, 8], "conv_blocks": 1, "enc_depth": 2}
SIZE = {"sax": [32, 32, 3], "lax_4c": [32, 64]}
GOLDEN_SIZE = {"sax": [64, 64, 4], "lax_2c": [64, 64], "lax_4c": [64, 64]}


def mae(views=("sax", "lax_4c"), **options):
    torch.manual_seed(1)
    return MaskedAutoencoder(list(views), {v: SIZE[v] for v in views}, **{**STEM, **options})


def unetr(views=("sax",), **options):
    torch.manual_seed(2)
    return ConvUNetR(list(views), {v: SIZE[v] for v in views}, **{**STEM, **options})


def vit(views=("sax", "lax_4c"), **options):
    torch.manual_seed(3)
    return ConvViT(list(views), {v: SIZE[v] for v in views}, **{**STEM, **options})


def sizes(*views):
    return {view: GOLDEN_SIZE[view] for view in views}


def golden_sizes(*views):
    return {"input_size": sizes(*views), "conv_channels": [8, 16], "enc_dim": 32, "enc_depth": 2, "enc_heads": 4} | (
        {"dec_channels": [4, 8, 16, 24, 32]}
    )


def image(channels=1, n=1):
    return {"sax": torch.rand(n, channels, 32, 32, 3, generator=torch.Generator().manual_seed(0))}


def checkpoint(network, path, **extra):
    state = {f"network.{key}": value for key, value in network.state_dict().items()}
    torch.save(
        {"state_dict": state, "hyper_parameters": {"spec": {"views": ["sax"], "classes": ["a", "b"]}}, **extra}, path
    )
    return path


def from_mae(network, source, name="the pretrained weights"):
    """Starts a network from an autoencoder; gives what was loaded and what was left out."""
    state = source.state_dict() if isinstance(source, torch.nn.Module) else source
    return transfer(network, state_source(network, state, name))


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


# ---------------------------------------------------------------- from pretraining
def test_segmentation_takes_stems_and_encoder():
    source, network = mae(), unetr()
    before = to_published(network)
    report = from_mae(network, source)
    given, after = to_published(source), to_published(network)
    for key, value in after.items():
        taken = key.startswith(("enc_down_dict.", "encoder.")) and not key.endswith("pos_embed")
        assert (key in report.loaded) == taken
        assert torch.equal(value, given[key] if taken else before[key]), key
    assert set(report.fresh) == after.keys() - set(report.loaded)
    assert not report.complete
    reasons = report.left_out
    assert reasons["enc_down_dict.lax_4c.linear.weight"] == "view lax_4c is not used here"
    assert reasons["enc_fusion_dict.sax.norm.weight"] == "this network has no fusion"
    assert reasons["enc_down_dict.sax.pos_embed"] == "position embeddings of pretraining are not taken over"
    assert reasons["pred_head_dict.sax.weight"] == "heads of pretraining are not taken over"
    assert set(report.loaded) | reasons.keys() == given.keys()
    text = str(report)
    assert "Left out" in text
    assert "decoder" in text


def test_pooled_networks_take_fusion_too_and_features_agree():
    source, network = mae().eval(), vit().eval()
    report = from_mae(network, source)
    assert {key for key in to_published(network) if key.startswith("enc_fusion_dict.")} <= set(report.loaded)
    images = {**image(), "lax_4c": torch.rand(1, 1, 32, 64)}
    features = source.encode(images)
    wanted = [network.heads[view](features[view].mean(dim=1)) for view in images]
    torch.testing.assert_close(network(images, variant="patch"), torch.stack(wanted).mean(dim=0))


@pytest.mark.parametrize("layout", ["module", "own", "published"])
def test_sources_of_all_layouts_give_the_same(layout):
    source = mae()
    given = {"module": source, "own": source.state_dict(), "published": to_published(source)}[layout]
    wanted, network = unetr(channels=3), unetr(channels=3)
    from_mae(wanted, source)
    report = from_mae(network, given)
    assert same(network.state_dict(), wanted.state_dict())
    assert report.inflated == ["enc_down_dict.sax.conv_blocks.0.patch_embed.conv.weight"]


def test_inflation_repeats_unscaled():
    source, network = mae(), vit(channels=2)
    from_mae(network, source)
    key = "enc_down_dict.sax.conv_blocks.0.patch_embed.conv.weight"
    weight, given = to_published(network)[key], to_published(source)[key]
    assert weight.shape[1] == 2
    assert torch.equal(weight, given.repeat(1, 2, 1, 1, 1))
    # two frames that are equal to each other give twice the response of one
    stage, plain = network.encoder.stems["sax"].stages[0].down, source.encoder.stems["sax"].stages[0].down
    pixels = torch.rand(5, 16)
    doubled = stage(pixels.repeat_interleave(2, dim=1)) - stage.bias
    torch.testing.assert_close(doubled, 2 * (plain(pixels) - plain.bias))


@pytest.mark.parametrize(
    ("source", "network", "message"),
    [
        ({"views": ["sax"]}, {"views": ["sax", "lax_4c"]}, "no weights for the views lax_4c, it has sax; choose"),
        ({}, {"enc_depth": 1}, "deeper"),
        ({}, {"enc_depth": 3}, "lacks encoder.blocks.2"),
        ({}, {"enc_dim": 32}, "other shapes for"),
        ({}, {"conv_channels": [8, 8]}, "other shapes for enc_down_dict.sax"),
        ({"channels": 2}, {"channels": 3}, r"patch_embed.conv.weight \(\[4, 2, 4, 4, 1\] instead of"),
        ({"channels": 2}, {"channels": 1}, "size and channels"),
    ],
)
def test_misfits_are_refused_and_change_nothing(source, network, message):
    network = unetr(**network)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    with pytest.raises(CinemaError, match=message):
        from_mae(network, mae(**source), "pretrained.ckpt")
    assert same(before, network.state_dict())


def test_cnns_cannot_start_from_an_autoencoder():
    with pytest.raises(CinemaError, match=r"another kind .* UNet cannot start"):
        from_mae(UNet(["sax"], size="tiny"), mae())


# ---------------------------------------------------------------- files
def test_lightning_checkpoint_of_pretraining(tmp_path):
    path = checkpoint(mae(), tmp_path / "best.ckpt")
    wanted, network = unetr(), unetr()
    from_mae(wanted, mae())
    report = load_weights(str(path), network)
    assert same(network.state_dict(), wanted.state_dict())
    assert report.source == str(path)
    assert report.facts == {"views": ["sax"], "classes": ["a", "b"]}


@pytest.mark.parametrize("make", [unetr, vit, lambda: ResNet50(["sax"], size="tiny"), mae])
def test_lightning_checkpoint_of_the_same_network_loads_complete(make, tmp_path):
    saved = make()
    with torch.no_grad():
        for parameter in saved.parameters():
            parameter.add_(1)
    network = make()
    report = load_weights(checkpoint(saved, tmp_path / "last.ckpt"), network)
    assert report.complete
    assert not report.left_out
    assert same(network.state_dict(), saved.state_dict())


def test_heads_of_another_number_of_classes_are_left_out(tmp_path):
    saved, network = unetr(classes=4), unetr(classes=5)
    head = to_published(network)["pred_head_dict.sax.weight"]
    report = load_weights(checkpoint(saved, tmp_path / "best.ckpt"), network)
    assert sorted(report.left_out) == ["pred_head_dict.sax.bias", "pred_head_dict.sax.weight"]
    assert set(report.left_out.values()) == {"heads of other shapes"}
    assert not report.complete
    after = to_published(network)
    assert torch.equal(after["pred_head_dict.sax.weight"], head)
    assert torch.equal(
        after["decoder_dict.sax.blocks.0.up.weight"], to_published(saved)["decoder_dict.sax.blocks.0.up.weight"]
    )


def test_published_pretrained_file(tmp_path):
    save_published(mae(), tmp_path / "cinema.safetensors")
    wanted, network = vit(channels=2), vit(channels=2)
    from_mae(wanted, mae())
    report = load_weights(tmp_path, network)
    assert same(network.state_dict(), wanted.state_dict())
    assert report.facts == {"spacing": {view: list(VIEWS[view].spacing) for view in VIEWS}}


@pytest.mark.parametrize("content", ["cut", "text", "pickle", "empty", "missing"])
def test_damaged_checkpoints(content, tmp_path):
    path = checkpoint(mae(), tmp_path / "best.ckpt")
    if content == "cut":
        path.write_bytes(path.read_bytes()[:1000])
    elif content == "text":
        path.write_text("hello")
    elif content == "pickle":
        checkpoint(mae(), path, callbacks=Path("object"))
    elif content == "empty":
        torch.save({"state_dict": {"other.weight": torch.zeros(1)}}, path)
    else:
        path.unlink()
    with pytest.raises(CinemaError, match=r"best\.ckpt"):
        load_weights(path, unetr())


# ---------------------------------------------------------------- who learns how fast
@pytest.mark.parametrize(
    ("folder", "views", "kind"),
    [("convunetr_multi", ("sax", "lax_2c"), ConvUNetR), ("convvit_multi", ("sax", "lax_4c"), ConvViT)],
)
def test_golden_layer_decay(folder, views, kind):
    options = golden_sizes(*views)
    if kind is ConvViT:
        del options["dec_channels"]
        options |= {"channels": 2, "outputs": 3}
    network = kind(list(views), **options)
    scales = layer_scales(network, 0.05, 0.75)
    ours = {slot.published: list(scales[slot.own]) for slot in published_slots(network) if slot.own in scales}
    assert ours == json.loads((GOLDEN / folder / "layer_decay.json").read_text())
    groups = layer_decay_groups(network, 1e-3, 0.05, 0.75)
    assert sum(len(group["params"]) for group in groups) == len(list(network.parameters()))
    assert len({group["name"] for group in groups}) == len(groups) == 8
    torch.optim.AdamW(groups, lr=1e-3)
    names = {id(p): name for name, p in network.named_parameters()}
    for group in groups:
        for parameter in group["params"]:
            scale, decay = scales[names[id(parameter)]]
            assert group["lr"] == pytest.approx(1e-3 * scale)
            assert group["weight_decay"] == decay


def test_layer_decay_leaves_out_what_is_frozen_and_cnns_alone():
    network = vit()
    freeze_backbone(network)
    assert set(layer_scales(network, 0.05, 0.75).values()) == {(1.0, 0.05), (1.0, 0.0)}
    assert {scale for scale, _ in layer_scales(UNet(["sax"], size="tiny"), 0.05, 0.75).values()} == {1.0}
    with pytest.raises(CinemaError, match="layer decay is 0"):
        layer_scales(network, 0.05, 0)


@pytest.mark.parametrize(
    "make", [unetr, vit, lambda: UNet(["sax"], size="tiny"), lambda: ResNet50(["sax"], size="tiny")]
)
def test_a_probe_trains_the_heads_only(make):
    network = make()
    freeze_backbone(network)
    heads = {id(p) for head in network.head_modules() for p in head.parameters()}
    assert {id(p) for p in network.parameters() if p.requires_grad} == heads
    frozen = {key: value.clone() for key, value in network.state_dict().items()}
    optimizer = torch.optim.AdamW([p for p in network.parameters() if p.requires_grad], lr=0.1)
    network.train()
    images = {"sax": torch.rand(2, 1, 64, 64, 3)}
    output = network(images)
    output = output if isinstance(output, torch.Tensor) else output["sax"]
    output.square().mean().backward()
    optimizer.step()
    changed = {key for key, value in network.state_dict().items() if not torch.equal(value, frozen[key])}
    names = {name for name, p in network.named_parameters() if p.requires_grad}
    assert changed
    assert changed <= names  # batch statistics stay too


def test_a_frozen_backbone_has_no_dropout():
    network = vit(drop_path=0.5)
    freeze_backbone(network)
    network.train()
    assert torch.equal(network(image(n=4)), network(image(n=4)))
    assert network.training
    assert not network.encoder.training


# ---------------------------------------------------------------- adapters
def test_adapters_start_as_nothing_and_merge_back():
    network = vit(views=["sax"], outputs=3).eval()
    before, keys = network(image()), set(network.state_dict())
    assert add_lora(network, rank=2, alpha=4) == 4
    assert torch.equal(network(image()), before)
    trained = {name for name, p in network.named_parameters() if p.requires_grad}
    assert all(".lora_" in name or name.startswith("heads.") for name in trained)
    assert sum(".lora_a" in name for name in trained) == 4
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if ".lora_b" in name:
                torch.nn.init.normal_(parameter)
    changed = network(image())
    assert not torch.allclose(changed, before)
    state = merge_lora_state(network.state_dict())
    assert merge_lora(network) == 4
    assert set(network.state_dict()) == keys == set(state)
    torch.testing.assert_close(network(image()), changed)
    assert all(torch.allclose(network.state_dict()[key], state[key]) for key in keys)


def test_a_checkpoint_with_adapters_loads_into_a_network_without(tmp_path):
    network = unetr().eval()
    add_lora(network, rank=2)
    network(image())["sax"].square().mean().backward()
    assert all(p.grad is not None for p in network.parameters() if p.requires_grad)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1)
    plain = unetr().eval()
    assert load_weights(checkpoint(network, tmp_path / "lora.ckpt"), plain).complete
    torch.testing.assert_close(plain(image())["sax"], network(image())["sax"])


def test_adapters_refuse_nonsense():
    with pytest.raises(CinemaError, match="no attention projections"):
        add_lora(UNet(["sax"], size="tiny"))
    with pytest.raises(CinemaError, match="makes no sense"):
        add_lora(vit(), rank=0)
    network = vit()
    add_lora(network)
    with pytest.raises(CinemaError, match="already"):
        add_lora(network)


def test_deep_supervision_heads_are_heads_too():
    def make(classes):
        return DynUNet(["sax"], {"sax": [32, 32, 8]}, channels=1, classes=classes, size="tiny")

    source, network = make(4), make(5)
    state = {key: value.clone() for key, value in source.state_dict().items()}
    report = transfer(network, state_source(network, state, "x"))
    assert report.fresh
    assert all(state[key].shape != network.state_dict()[key].shape or key.endswith("bias") for key in report.fresh)
    assert "heads" in str(report).split("Initial values kept")[1]
    assert transfer(make(4), state_source(network, state, "x")).complete
