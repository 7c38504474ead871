"""What tasks make of stacks at their own depth does not depend on who else is in the batch."""

from __future__ import annotations

import pytest
import torch

from cinema_lightning.data.transforms import Fit
from cinema_lightning.models.convunetr import ConvUNetR
from cinema_lightning.models.convvit import ConvViT
from cinema_lightning.models.mae import MaskedAutoencoder
from cinema_lightning.tasks.pretrain.task import Pretrain
from cinema_lightning.tasks.regression.task import Regression
from cinema_lightning.tasks.segmentation.task import Segmentation

SPEC = {"views": ["sax"], "input_size": {"sax": [32, 32, 6]}, "channels": 1, "depth": "own", "dataset": "phantom"}
CLASSES = {"classes": ["background", "LV blood pool"], "label_codes": [0, 3]}
DEPTHS = (3, 9, 5)


def batch_of(*slices):
    images = torch.zeros(len(slices), 1, 32, 32, max(slices))
    for image, n in zip(images, slices, strict=True):
        image[..., :n] = torch.rand(1, 32, 32, n, generator=torch.Generator().manual_seed(n))
    sizes = torch.tensor([[32, 32, n] for n in slices])
    names = [f"s{n}" for n in slices]
    return {"id": names, "frame": torch.zeros(len(slices), dtype=torch.long), "sax": images, "sax_size": sizes}


@pytest.mark.parametrize(("cls", "network"), [(Segmentation, ConvUNetR), (Regression, ConvViT)])
def test_an_answer_does_not_depend_on_its_companions(cls, network):
    torch.manual_seed(0)
    facts = SPEC | {"kind": cls.kind, "mean": 0.0, "std": 1.0, "target": "lv_ef"} | CLASSES
    task = cls(facts, network=lambda **given: network(**given, size="tiny", conv_channels=[4, 8])).eval()
    depths = []
    task.network.register_forward_pre_hook(lambda _, given: depths.append(given[0]["sax"].shape[4]))
    both = task.infer(batch_of(*DEPTHS))
    assert sorted(set(depths)) == [3, 5, 6]  # nine slices go through in tiles of six
    for i, n in enumerate(DEPTHS):
        alone = task.infer(batch_of(n))
        if cls is Segmentation:
            one, other = both.probabilities["sax"][i : i + 1, ..., :n], alone.probabilities["sax"]
            assert other.shape == (1, 2, 32, 32, n)
        else:
            one, other = both[i : i + 1], alone
        torch.testing.assert_close(one, other)


def test_as_many_patches_are_hidden_as_the_stack_has():
    torch.manual_seed(0)
    task = Pretrain(SPEC, network=lambda **given: MaskedAutoencoder(**given, size="tiny", conv_channels=[4, 8])).eval()
    (draw,) = task.host_steps()
    raw = batch_of(3) | {"epoch": 0, "sax_spacing": torch.ones(1, 3), "sax_affine": torch.eye(4)[None]}
    raw["sax"] = (raw["sax"] * 255).to(torch.uint8)
    fit = Fit(SPEC["input_size"], depth="own")
    planned = draw(fit.prepare(raw))
    batch = fit.apply(planned)
    assert batch["sax"].shape == (1, 1, 32, 32, 3)
    assert batch["sax_mask"].shape == (1, 2 * 2 * 3)  # patches of 16 x 16 x 1
    assert batch["sax_mask"].sum() == 9
    again = task.masks({key: value for key, value in batch.items() if "mask" not in key}, task.images(batch))
    assert torch.equal(again["sax"].mask, batch["sax_mask"])
    panels = task.panels(batch, task.infer(batch))["sax"]
    assert {image.shape for image in panels.values()} == {(1, 32, 32, 3)}
