"""torch.compile makes one graph of a network for each set of views and depth, and the graph computes the same."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch._dynamo.testing import CompileCounter

from cinema_lightning.models.baselines import DynUNet, ResNet50, SegResNet, UNet
from cinema_lightning.models.convunetr import ConvUNetR
from cinema_lightning.models.convvit import ConvViT
from cinema_lightning.models.lora import add_lora
from cinema_lightning.models.mae import MaskedAutoencoder
from cinema_lightning.models.patches import select

SIZES = {"sax": [32, 32, 4], "lax_2c": [64, 64]}


BATCHES = ((("sax", "lax_2c"), 4), (("sax",), 4), (("sax",), 3))
"""Views, and slices of the stack."""


def images(views, depth):
    generator = torch.Generator().manual_seed(0)
    sizes = SIZES | {"sax": [*SIZES["sax"][:2], depth]}
    return {view: torch.rand(2, 1, *sizes[view], generator=generator) for view in views}


@pytest.fixture(autouse=True)
def fresh():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.mark.parametrize(
    ("options", "given"),
    [
        ({}, "selections"),
        pytest.param({}, "masks", marks=pytest.mark.slow),
        *(
            pytest.param(options, "masks", marks=pytest.mark.slow)
            for options in ({"sparse_stem": False}, {"decoder": "self"}, {"checkpointing": True})
        ),
    ],
)
def test_the_autoencoder_is_one_graph_for_each_set_of_views_and_depth(options, given):
    torch.manual_seed(0)
    network = MaskedAutoencoder(list(SIZES), SIZES, size="tiny", **options).train()
    counter = CompileCounter()
    compiled = torch.compile(network, backend=counter, dynamic=False)
    for number, (views, depth) in enumerate(BATCHES, start=1):
        masks, given_images = {}, images(views, depth)
        for view, image in given_images.items():
            n = network.n_patches(view, image.shape[2:])
            masks[view] = torch.rand(2, n).argsort(1) >= network.n_visible(view, image.shape[2:])
            if given == "selections":
                masks[view] = select(view, masks[view], 2, n)
        for _ in range(2):
            output = compiled(given_images, masks)
        assert counter.frame_count == number
        torch.testing.assert_close(output.loss, network(given_images, masks).loss)
        output.loss.backward()


def test_a_compiled_autoencoder_refuses_masks_of_another_ratio():
    network = MaskedAutoencoder(["sax"], {"sax": SIZES["sax"]}, size="tiny")
    compiled = torch.compile(network, backend="eager", dynamic=False)
    mask = torch.rand(2, network.n_patches("sax")).argsort(1) >= network.n_visible("sax") + 1
    with pytest.raises(RuntimeError, match="mask of view 'sax' must hide"):
        compiled(images(["sax"], 4), {"sax": mask})


@pytest.mark.slow
@pytest.mark.parametrize(
    ("network", "lora"),
    [
        (ConvViT, True),
        (partial(ConvUNetR, norm="instance", carry=True, flat_levels=1), False),
        *((cls, False) for cls in (ConvViT, ConvUNetR, UNet, DynUNet, SegResNet, ResNet50)),
    ],
)
def test_every_backbone_is_one_graph_for_each_set_of_views_and_depth(network, lora):
    """All but SwinUNETR, which is broken into several within monai."""
    torch.manual_seed(0)
    built = network(list(SIZES), SIZES | {"sax": [64, 64, 4]}, size="tiny").train()
    if lora:
        add_lora(built, rank=2)
    counter = CompileCounter()
    compiled = torch.compile(built, backend=counter, dynamic=False)
    for number, (views, depth) in enumerate(BATCHES, start=1):
        sizes = built.input_size | {"sax": (64, 64, depth)}
        compiled({view: torch.rand(2, 1, *sizes[view]) for view in views})
        assert counter.frame_count == number
