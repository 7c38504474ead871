"""Several networks, and turned images: what is averaged for each kind of task, and how it is turned back."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from cinema_lightning.errors import CinemaError
from cinema_lightning.models.convunetr import ConvUNetR
from cinema_lightning.models.convvit import ConvViT
from cinema_lightning.models.mae import MaskedAutoencoder
from cinema_lightning.tasks.classification.task import Classification
from cinema_lightning.tasks.ensemble import Ensemble, with_spread
from cinema_lightning.tasks.landmarks.task import LandmarkCoordinate, LandmarkHeatmap
from cinema_lightning.tasks.pretrain import Pretrain
from cinema_lightning.tasks.regression.task import Regression
from cinema_lightning.tasks.segmentation.task import Segmentation
from cinema_lightning.tasks.survival.task import Survival
from cinema_lightning.tasks.turns import TURNS, turned, turned_back

SIZE = {"sax": [32, 32, 4], "lax_4c": [64, 64]}
CLASSES = {"classes": ["background", "RV blood pool", "myocardium", "LV blood pool"], "label_codes": [0, 1, 2, 3]}
POINTS = {"views": ("lax_4c",), "landmarks": ["a", "b", "c"]}
KINDS = {
    "segmentation": (Segmentation, ConvUNetR, CLASSES),
    "regression": (Regression, ConvViT, {"channels": 2, "target": "lv_ef", "mean": 50.0, "std": 10.0}),
    "classification": (Classification, ConvViT, {"channels": 2, "target": "x", "classes": ["a", "b"]}),
    "survival": (Survival, ConvViT, {"channels": 2, "n_events": 3}),
    "heatmap": (LandmarkHeatmap, ConvUNetR, {"kind": "landmarks", **POINTS}),
    "coordinate": (LandmarkCoordinate, ConvViT, {"kind": "landmarks", **POINTS}),
}


def spec(kind: str, views=("sax",), **more):
    known = {"kind": kind, "dataset": "acdc", "channels": 1, "spacing_known": True, "spacing": {}}
    return known | {"views": list(views), "input_size": {view: SIZE[view] for view in views}} | more


def task(name: str, seed: int = 0, **more):
    cls, network, facts = KINDS[name]
    torch.manual_seed(seed)
    return cls(spec(**{"kind": name} | facts | more), network=lambda **given: network(**given, size="tiny")).eval()


def batch_of(one) -> dict:
    """Two samples of other sizes than the input's, padded at the end."""
    view, channels = one.spec["views"][0], one.spec["channels"]
    sizes = [[32, 24, 4], [20, 32, 3]] if view == "sax" else [[64, 50], [40, 64]]
    image = torch.zeros(2, channels, *SIZE[view])
    generator = torch.Generator().manual_seed(1)
    for place, size in zip(image, sizes, strict=True):
        place[(slice(None), *(slice(n) for n in size))] = torch.rand(channels, *size, generator=generator)
    known = {"id": ["1", "2"], "frame": torch.zeros(2, dtype=torch.long), "weight": torch.ones(2)}
    return known | {view: image, f"{view}_size": torch.tensor(sizes)}


@pytest.mark.parametrize("name", KINDS)
def test_what_two_networks_say_is_averaged(name):
    members = [task(name, seed) for seed in (0, 1)]
    batch = batch_of(members[0])
    together = Ensemble(members).infer(batch)
    with torch.no_grad():
        each = [member.scores(member.infer(batch)) for member in members]
    for key, values in members[0].scores(together.mean).items():
        mean = (each[0][key] + each[1][key]) / 2
        assert not torch.equal(each[0][key], each[1][key])
        torch.testing.assert_close(values, mean, rtol=1e-5, atol=1e-6)


def test_numbers_of_other_standardisations_are_averaged_in_their_unit():
    members = [task("regression", 0), task("regression", 0, mean=30.0, std=5.0)]
    batch = batch_of(members[0])
    ensemble = Ensemble(members)
    rows = ensemble.rows(batch, ensemble.infer(batch))
    with torch.no_grad():
        z = members[0].infer(batch)[:, 0]
    for row, value in zip(rows, z.tolist(), strict=True):
        a, b = 50 + 10 * value, 30 + 5 * value
        assert row["predicted"] == pytest.approx((a + b) / 2, rel=1e-5)
        assert row["predicted_sd"] == pytest.approx(abs(a - b) / 2**0.5, rel=1e-4)


class Local(nn.Module):
    """Says of each voxel what is in it: turns with the image."""

    def forward(self, images, *rest):
        return {view: torch.cat([3 * image, 1 - image, image**2], dim=1) for view, image in images.items()}


class Brightest(nn.Module):
    """Says where the largest value is, three times, as shares of 64."""

    def forward(self, images, *rest):
        (image,) = images.values()
        places = image[:, 0].flatten(1).argmax(dim=1)
        points = torch.stack([places // image.shape[3], places % image.shape[3]], dim=1) / 64
        return points.repeat(1, 3)


@pytest.mark.parametrize("turning", ["flips", "rotations", "all"])
@pytest.mark.parametrize(("name", "network"), [("heatmap", Local()), ("coordinate", Brightest())])
def test_landmarks_and_maps_are_turned_back(name, network, turning):
    one = task(name)
    one.network = network
    batch = batch_of(one)
    ensemble = Ensemble([one], turning)
    together = ensemble.infer(batch)
    plain = one.infer(batch)
    assert len(together.parts) == len(TURNS[turning])
    for part in (together.mean, *together.parts):
        torch.testing.assert_close(part["lax_4c"], plain["lax_4c"], rtol=0, atol=1e-3)


@pytest.mark.parametrize("turn", TURNS["all"], ids=str)
def test_stacks_are_turned_within_their_own_size_and_back(turn):
    batch = batch_of(task("segmentation"))
    other = turned(batch, ["sax"], turn)
    x, y = other["sax_size"][0, :2].tolist()
    assert sorted([x, y]) == [24, 32]
    assert other["sax"][0, :, :x, :y].sum() == pytest.approx(float(batch["sax"][0].sum()), rel=1e-5)
    back = turned_back({"sax": other["sax"]}, "maps", batch, {"sax": (32, 32)}, turn)
    assert torch.equal(back["sax"], batch["sax"])


@pytest.mark.parametrize("name", ["segmentation", "regression", "classification", "survival"])
def test_turned_images_of_a_kind_are_averaged(name):
    one = task(name)
    batch = batch_of(one)
    together = Ensemble([one], "all").infer(batch)
    each = [one.scores(part) for part in together.parts]
    assert len(each) == 8
    for key, values in one.scores(together.mean).items():
        torch.testing.assert_close(values, torch.stack([part[key] for part in each]).mean(0), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("more", "what"),
    [
        ({"classes": ["background", "LV blood pool", "myocardium", "RV blood pool"]}, "classes"),
        ({"spacing": {"sax": [2.0, 2.0, 10.0]}}, "spacing"),
        ({"views": ("lax_4c",)}, "views"),
    ],
)
def test_networks_of_other_classes_views_or_voxels_are_refused(more, what):
    with pytest.raises(CinemaError, match=f"two.ckpt cannot be averaged with one.ckpt: its {what} is"):
        Ensemble([task("segmentation"), task("segmentation", **more)], names=["one.ckpt", "two.ckpt"])


def test_what_cannot_be_averaged_or_turned_is_said():
    images = {"views": ["sax"], "input_size": {"sax": SIZE["sax"]}, "channels": 1}
    features = Pretrain(images, lambda **given: MaskedAutoencoder(**given, size="tiny"))
    with pytest.raises(CinemaError, match="Pretrain does not say what"):
        Ensemble([features], "flips")
    with pytest.raises(CinemaError, match="quarter turn needs square ones; take flips"):
        Ensemble([task("segmentation", spacing={"sax": [1.0, 1.4, 8.0]})], "rotations")


def test_spreads_stand_beside_what_they_are_of():
    rows = [{"id": "1", "frame": 0, "predicted": "a", "risk": 2.0, "x_pred": None}]
    each = [[{**rows[0], "risk": 1.0}], [{**rows[0], "risk": 3.0, "predicted": "b"}]]
    (row,) = with_spread(rows, each, lambda name: name not in ("id", "frame"))
    assert row == rows[0] | {"predicted_agreement": 0.5, "risk_sd": pytest.approx(2**0.5), "x_pred_sd": None}
