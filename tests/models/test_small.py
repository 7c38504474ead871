"""The size small, made to learn from pictures of 64 x 64 pixels; instance norms and deep supervision of the decoder."""

import math
from pathlib import Path

import pytest
import torch
import yaml
from torch import nn
from torch.nn import functional as F

from cinema_lightning.errors import CinemaError
from cinema_lightning.losses.segmentation import deep_supervision, segmentation_loss
from cinema_lightning.models.convunetr import ConvUNetR
from cinema_lightning.models.convvit import ConvViT
from cinema_lightning.models.dense_decoder import InstanceNorm
from cinema_lightning.models.mae import MaskedAutoencoder
from cinema_lightning.weights.layout import published_slots, to_published
from cinema_lightning.weights.transfer import state_source, transfer

PICTURES = {"sax": [64, 64, 8], "lax_4c": [64, 64]}
FEW = {"conv_channels": [4, 8], "conv_blocks": 1, "enc_dim": 16, "enc_depth": 1, "enc_heads": 2}


def small(**options):
    torch.manual_seed(0)
    options = {**FEW, "dec_channels": [4, 4, 8, 8], "input_size": {"sax": [32, 32, 2]}, "dropout": 0.0, **options}
    return ConvUNetR(["sax"], size="small", **options)


@pytest.mark.parametrize("network", [MaskedAutoencoder, ConvUNetR, ConvViT])
def test_tokens_are_8_by_8_pixels_in_pretraining_and_after(network):
    geometries = network(list(PICTURES), PICTURES, size="small").encoder.geometries
    assert geometries["sax"].grid == (8, 8, 8)
    assert geometries["lax_4c"].grid == (8, 8)
    assert network(["sax"], {"sax": [64, 64, 8]}, size="mini").encoder.geometries["sax"].grid == (4, 4, 8)  # as it was


def test_what_is_pretrained_fits_what_is_fine_tuned():
    mae = MaskedAutoencoder(["sax"], {"sax": [64, 64, 8]}, size="small")
    network = ConvUNetR(["sax"], {"sax": [64, 64, 8]}, size="small")
    report = transfer(network, state_source(mae, mae.state_dict(), "pretrained"))
    parts = {key.split(".")[0] for key in report.loaded}
    assert parts == {"enc_down_dict", "encoder"}
    assert not [key for key in report.fresh if key.startswith(("enc_down_dict", "encoder")) and "pos_embed" not in key]


@pytest.mark.parametrize("dims", [2, 3])
def test_instance_norm_is_torchs(dims):
    torch.manual_seed(0)
    maps = torch.randn(2, *[7, 5, 3][:dims], 6) * 4 + 30
    ours, theirs = InstanceNorm(6), (nn.InstanceNorm2d if dims == 2 else nn.InstanceNorm3d)(6, affine=True)
    theirs.load_state_dict({"weight": ours.scale.data.normal_(), "bias": ours.shift.data.normal_()})
    found, gradients = [], torch.randn_like(maps)
    for norm in (ours, lambda x: theirs(x.movedim(-1, 1)).movedim(1, -1)):
        given = maps.clone().requires_grad_()
        out = norm(given)
        out.backward(gradients)
        found.append((out, given.grad))
    found = [(*a, b.grad, c.grad) for a, (b, c) in zip(found, map(nn.Module.parameters, (ours, theirs)), strict=True)]
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
    with torch.autocast("cpu", torch.bfloat16):
        assert ours(maps.bfloat16()).dtype == torch.bfloat16


def test_a_decoder_trained_with_other_norms_is_not_taken_for_this_one():
    theirs, network = small(norm="layer"), small()
    report = transfer(network, state_source(theirs, theirs.state_dict(), "layer norms"))
    decoder = [slot.published for slot in published_slots(network) if slot.own.startswith("decoders.")]
    assert set(decoder) <= set(report.fresh)
    assert transfer(small(), state_source(network, network.state_dict(), "instance norms")).complete


def test_with_instance_norms_the_decoder_sees_edges_of_the_image():
    """The layer norm of one channel is a constant, so that the published branch sees nothing of the image."""
    torch.manual_seed(0)
    maps = torch.rand(1, 8, 8, 2, 1)
    for norm, sees in (("layer", False), ("instance", True)):
        block = small(norm=norm).decoders["sax"].image.eval()
        for grad in (True, False):
            with torch.set_grad_enabled(grad):
                same = torch.allclose(block(maps) - block.shortcut(maps), block(maps / 2) - block.shortcut(maps / 2))
                flat = torch.allclose(block(maps) - block.shortcut(maps), block.branch(torch.zeros_like(maps)))
            assert flat is not sees
            assert same or sees


def test_deep_supervision_is_the_weighted_loss_of_three_levels_and_nothing_at_inference():
    network = small(deep_supervision=2)
    images, labels = {"sax": torch.rand(2, 1, 32, 32, 2)}, torch.randint(0, 4, (2, 32, 32, 2))
    levels = network(images)["sax"]
    assert [tuple(level.shape) for level in levels] == [(2, 4, 32, 32, 2)] * 3
    # a coarse level is one value for each 2 x 2 or 4 x 4 pixels
    for scale, level in ((2, levels[1]), (4, levels[2])):
        assert torch.equal(level, level[:, :, ::scale, ::scale].repeat_interleave(scale, 2).repeat_interleave(scale, 3))
    expected = torch.zeros(())
    for weight, logits in zip((4 / 7, 2 / 7, 1 / 7), levels, strict=True):
        dice = []
        for b in range(2):
            for c in (1, 2, 3):
                p, t = logits[b].softmax(0)[c], (labels[b] == c).float()
                dice.append(2 * (p * t).sum() / (p.sum() + t.sum()))
        expected = expected + weight * (F.cross_entropy(logits, labels) + 1 - torch.stack(dice).mean())
    loss = deep_supervision(segmentation_loss, levels, labels)
    torch.testing.assert_close(loss, expected, rtol=1e-4, atol=0)
    loss.backward()
    assert all(p.grad is not None for p in network.parameters() if p.requires_grad)
    plain = small()
    missing = plain.load_state_dict(network.state_dict(), strict=False)
    assert not missing.missing_keys
    assert {key.split(".")[0] for key in missing.unexpected_keys} == {"side_heads"}
    with torch.inference_mode():
        assert torch.equal(network.eval()(images)["sax"], plain.eval()(images)["sax"])


def test_heads_of_deep_supervision_are_not_written_for_others_and_need_not_be_there():
    network, plain = small(deep_supervision=1), small()
    assert set(to_published(network)) == {slot.published for slot in published_slots(plain)}
    report = transfer(network, state_source(plain, plain.state_dict(), "before"))
    assert report.fresh == ["side_heads.sax.0.weight", "side_heads.sax.0.bias"]


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"deep_supervision": -1}, "deep_supervision is -1; give how many coarser levels learn besides, 0 to 3"),
        ({"deep_supervision": 4}, "deep_supervision is 4"),
        ({"dec_blocks": 0}, "dec_blocks is 0"),
        ({"flat_levels": 5}, "flat_levels is 5; give how many levels look at no neighbouring slices, 0 to 4"),
        ({"norm": "batch"}, "no norm 'batch'; choose layer or instance"),
    ],
)
def test_what_the_decoder_cannot_have_is_refused(option, message):
    with pytest.raises(CinemaError, match=message):
        small(**option)


def test_flat_levels_leave_slices_apart_where_voxels_are_small():
    decoder = small(flat_levels=2).decoders["sax"]
    kernels = [block.conv1.kernel_size[2] for block in (decoder.image, *decoder.skips)]
    assert kernels == [1, 1, 3, 3, 3]  # the image, then the scales of 2, 4, 8 and 16 pixels
    assert [up.blocks[0].conv1.kernel_size[2] for up in decoder.ups] == [3, 3, 1, 1]
    image = torch.rand(1, 16, 16, 3, 1)
    other = image.clone()
    other[..., 2, :] = 0
    assert torch.equal(*[decoder.image.conv1(maps.movedim(-1, 1))[..., :2] for maps in (image, other)])


def test_what_is_carried_down_is_seen_by_the_coarser_skips():
    """Without it a coarser skip knows the image from the stem alone, whose norms hide how bright it is."""
    maps = torch.rand(1, 32, 32, 2, 1)
    for carry in (False, True):
        torch.manual_seed(0)
        network = small(carry=carry).eval()
        decoder = network.decoders["sax"]
        widths = network.encoder.conv_channels
        stages = [torch.zeros(1, 32 // step, 32 // step, 2, n) for step, n in zip((2, 4), widths, strict=True)]
        tokens = torch.zeros(1, 4, 4, 2, network.encoder.dim)
        first, second = (decoder._skips(image, [*stages, tokens]) for image in (maps, maps.flip(1)))
        assert [not torch.allclose(a, b) for a, b in zip(first, second, strict=True)] == [True, *[carry] * 4]


def test_the_overlay_strong_is_what_was_measured():
    strong = yaml.safe_load((Path(__file__).parents[2] / "configs" / "strong.yaml").read_text())
    network = small(**strong["model"]["init_args"]["network"]["init_args"])
    assert network.norm == "instance"
    assert len(network.decoders["sax"].carries) == 4
    assert network.decoders["sax"].image.conv1.kernel_size == (3, 3, 1)
    assert len(network({"sax": torch.rand(1, 1, 32, 32, 2)})["sax"]) == 2
    assert not [part for part in network.modules() if isinstance(part, nn.Dropout) and part.p]


def test_it_is_a_network_of_a_laptop():
    network = ConvUNetR(["sax"], {"sax": [64, 64, 8]}, size="small")
    assert sum(math.prod(p.shape) for p in network.parameters()) < 3e6
