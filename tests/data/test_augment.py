"""Augmentation of fine-tuning, checked against monai, scipy and SimpleITK, and against what it should do to points."""

from __future__ import annotations

import math

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from lightning.fabric.utilities.apply_func import move_data_to_device
from monai.transforms import AdjustContrast
from scipy.ndimage import affine_transform

from cinema_lightning.data.augment.affine import Affine, Drawn
from cinema_lightning.data.augment.base import Grey, Sample
from cinema_lightning.data.augment.crop import Crop
from cinema_lightning.data.augment.flip import Flip
from cinema_lightning.data.augment.gamma import Gamma
from cinema_lightning.data.augment.hole import Hole
from cinema_lightning.data.augment.noise import Noise
from cinema_lightning.data.augment.zoom import Zoom
from cinema_lightning.data.labels import IGNORE
from cinema_lightning.data.transforms import PLAN, Fit, Whole
from cinema_lightning.errors import CinemaError

SIZES = {"sax": (32, 32, 6), "lax_4c": (40, 40)}


def finetune(input_size=SIZES, seed=0, *, probability=0.5, scale="unit", hole=False):
    """The published augmentation of fine-tuning."""
    some = [Gamma(probability), Noise(probability, scale=scale), Affine(probability), Crop()]
    return Fit(input_size, seed, [*some, Hole(probability)] if hole else some)


def drawn(transform, key, view, size):
    """What is drawn for a sample and view."""
    return transform.draws(
        Sample(transform.seed, (*key, 0)[:3], view, size, transform.input_size[view], [0] * len(size))
    )


def affine(turn=0.0, shift=(0.0, 0.0), scale=1.0):
    return {"affine": Drawn(turn, shift, scale)}


def make_batch(view, sizes, *, channels=1, epoch=0, spacing=(2.0, 2.0, 10.0), labels=True, seed=0):
    """Random images and labels, padded to the largest."""
    rng = np.random.default_rng(seed)
    n, largest = len(sizes), np.max(sizes, axis=0)
    images, maps = np.zeros((n, channels, *largest), np.uint8), np.zeros((n, *largest), np.uint8)
    for row, size in enumerate(sizes):
        box = tuple(slice(k) for k in size)
        images[(row, slice(None), *box)] = rng.integers(20, 220, (channels, *size))
        maps[(row, *box)] = rng.integers(0, 4, size)
    batch = {
        "id": [f"s{i}" for i in range(n)],
        "epoch": epoch,
        view: torch.from_numpy(images),
        f"{view}_size": torch.tensor(sizes),
        f"{view}_spacing": torch.tensor([spacing] * n, dtype=torch.float32),
        f"{view}_affine": torch.diag(torch.tensor([*spacing, 1.0])).repeat(n, 1, 1),
    }
    if labels:
        batch |= {f"{view}_label": torch.from_numpy(maps), f"{view}_labelled": torch.ones(n, dtype=torch.bool)}
    return batch


class Fixed(Fit):
    """The augmentation with given draws."""

    def __init__(self, fixed, input_size=SIZES, scale="unit"):
        super().__init__(input_size, 0, [Gamma(), Noise(scale=scale), Affine(), Crop(), Hole()])
        self.fixed = fixed

    def draws(self, sample):
        return {"crop": (0,) * len(sample.size)} | self.fixed


def unit(image):
    return (image - image.min()) / (image.max() - image.min())


def planes_of(image):
    return image if image.ndim == 3 else image[..., None]


def forward(draw, point, size, spacing):
    """Where a point of the image lands, written out anew: rotate and enlarge about the centre in mm, shift."""
    centre, mm = (np.array(size[:2]) - 1) / 2, np.array(spacing[:2])
    turn = np.array([[math.cos(draw.turn), -math.sin(draw.turn)], [math.sin(draw.turn), math.cos(draw.turn)]])
    moved = turn @ ((np.array(point) - centre) * mm) * draw.scale / mm
    return moved + centre + draw.shift


# ---------------------------------------------------------------- evaluation


def test_whole_scales_pads_and_never_crops():
    batch = make_batch("sax", [(32, 30, 9), (20, 36, 4)], channels=2)
    out = Whole(SIZES).apply(Whole(SIZES).prepare(batch))
    assert PLAN not in out
    assert out["sax"].shape == (2, 2, 32, 36, 9)  # larger than the input where the batch is
    assert out["sax_label"].shape == (2, 32, 36, 9)
    assert out["sax_label"].dtype == torch.uint8
    assert torch.equal(out["sax_size"], batch["sax_size"])
    for row, (x, y, z) in enumerate(batch["sax_size"].tolist()):
        image = batch["sax"][row, :, :x, :y, :z].float()
        assert torch.allclose(out["sax"][row, :, :x, :y, :z], unit(image))  # over both channels together
        assert out["sax"][row].count_nonzero() == out["sax"][row, :, :x, :y, :z].count_nonzero()
        assert torch.equal(out["sax_label"][row, :x, :y, :z], batch["sax_label"][row, :x, :y, :z])
    small = Whole(SIZES)(make_batch("lax_4c", [(16, 18)]))
    assert small["lax_4c"].shape == (1, 1, 40, 40)
    assert small["lax_4c"].is_contiguous()


def test_a_constant_image_stays_zero_under_any_noise():
    batch = make_batch("lax_4c", [(30, 30)])
    batch["lax_4c"].fill_(9)
    for scale in ("unit", "published"):
        out = Fixed({"noise": (0.1, 0), "gamma": 0.7}, scale=scale)(dict(batch))
        assert not out["lax_4c"].any()


def test_what_is_not_labelled_stays_unknown():
    batch = make_batch("lax_4c", [(30, 30), (30, 30)])
    batch["lax_4c_labelled"][1] = False
    batch["lax_4c_label"][1] = IGNORE
    for transform in (Whole(SIZES), Fixed(affine(turn=0.3))):
        label = transform(dict(batch))["lax_4c_label"]
        assert (label[1] == IGNORE).all()
        assert (label[0] < 4).all()


# ---------------------------------------------------------------- grey levels


@pytest.mark.parametrize("view", ["sax", "lax_4c"])
def test_without_draws_training_is_evaluation(view):
    size = SIZES[view]
    batch = make_batch(view, [size, tuple(n - 2 for n in size)], channels=2)
    ours, whole = Fixed({})(dict(batch)), Whole(SIZES)(dict(batch))
    assert torch.equal(ours[view], whole[view])
    assert torch.equal(ours[f"{view}_label"], whole[f"{view}_label"])
    assert torch.equal(ours[f"{view}_affine"], whole[f"{view}_affine"])


def test_contrast_is_monais():
    batch = make_batch("lax_4c", [(40, 40), (31, 37)], channels=2)
    out = Fixed({"gamma": 1.37})(batch)["lax_4c"]
    for row, (x, y) in enumerate(batch["lax_4c_size"].tolist()):
        theirs = AdjustContrast(1.37)(batch["lax_4c"][row, :, :x, :y].float())
        assert torch.allclose(out[row, :, :x, :y], unit(torch.as_tensor(theirs)), atol=1e-5)


@pytest.mark.parametrize(("scale", "wanted"), [("unit", 0.08), ("published", 0.08 / 200)])
def test_noise_on_either_scale(scale, wanted):
    batch = make_batch("lax_4c", [(40, 40)])
    batch["lax_4c"][:] = torch.arange(1600).view(40, 40) % 201 + 10  # a range of 200 grey levels
    plain = Fixed({})(dict(batch))["lax_4c"]
    noisy = Fixed({"noise": (0.08, 3)}, scale=scale)(dict(batch))["lax_4c"]
    assert noisy.min() == 0
    assert noisy.max() == 1
    # Scaling to [0, 1] afterwards is linear: take it out again before the noise is measured.
    slope, offset = np.polyfit(plain.flatten(), noisy.flatten(), 1)
    residual = ((noisy - offset) / slope - plain).std()
    assert float(residual) == pytest.approx(wanted, rel=0.1)


def test_noise_depends_on_the_sample_alone():
    both = make_batch("sax", [(30, 28, 5), (24, 32, 6)])
    transform = finetune(SIZES, seed=3, probability=1.0, hole=True)
    together = transform(dict(both))
    for row in range(2):
        alone = {key: value[row : row + 1] if hasattr(value, "__len__") else value for key, value in both.items()}
        x, y, z = both["sax_size"][row].tolist()
        alone["sax"], alone["sax_label"] = alone["sax"][:, :, :x, :y, :z], alone["sax_label"][:, :x, :y, :z]
        out = transform(alone)
        assert torch.allclose(out["sax"][0], together["sax"][row], atol=2e-4)
        assert torch.equal(out["sax_label"][0], together["sax_label"][row])


# ---------------------------------------------------------------- geometry


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_a_quarter_turn_is_exact(quarters):
    batch = make_batch("sax", [(32, 32, 6)], spacing=(3.0, 3.0, 10.0))
    out = Fixed(affine(turn=quarters * math.pi / 2))(dict(batch))
    wanted = np.rot90(unit(batch["sax"][0, 0].double().numpy()), quarters, axes=(0, 1))
    assert np.allclose(out["sax"][0, 0].numpy(), wanted, atol=2e-5)
    assert np.array_equal(out["sax_label"][0].numpy(), np.rot90(batch["sax_label"][0].numpy(), quarters, axes=(0, 1)))


def test_an_affine_is_scipys_and_labels_take_the_nearest():
    draw = Drawn(turn=0.7, shift=(3.3, -2.1), scale=1.13)
    size, spacing = (29, 32, 5), (2.0, 1.5, 10.0)  # voxels that are not square, smaller than the padded batch
    batch = make_batch("sax", [size, (32, 32, 6)], spacing=spacing)
    out = Fixed({"affine": draw})(dict(batch))
    x, y, z = size
    origin = np.linalg.solve(np.eye(2), forward(draw, (0, 0), size, spacing))
    columns = np.stack([forward(draw, unit_, size, spacing) - origin for unit_ in ((1, 0), (0, 1))], axis=1)
    back = np.linalg.inv(columns)
    image = unit(batch["sax"][0, 0, :x, :y, :z].double().numpy())
    label = batch["sax_label"][0, :x, :y, :z].numpy()
    for k in range(z):
        options = {"offset": -back @ origin, "mode": "grid-constant"}
        wanted = affine_transform(image[..., k], back, order=1, **options)
        assert np.allclose(out["sax"][0, 0, :x, :y, k].numpy(), wanted, atol=1e-4)
        nearest = affine_transform(label[..., k], back, order=0, **options)
        assert (out["sax_label"][0, :x, :y, k].numpy() == nearest).mean() > 0.999
    assert not out["sax"][0, 0, x:].any()  # the padding stays padding
    assert not out["sax_label"][0, :, :, z:].any()
    assert torch.equal(out["sax_size"], batch["sax_size"])


def test_an_affine_is_simpleitks():
    """With its own notion of centre, rotation and scale, in mm."""
    draw, size, spacing = Drawn(turn=-1.1, shift=(4.0, 2.5), scale=0.9), (40, 36), (1.5, 1.5)
    batch = make_batch("lax_4c", [size], spacing=(*spacing, 8.0))
    # A black rim, since SimpleITK repeats the outer voxel for half a voxel.
    batch["lax_4c"] = batch["lax_4c"] * (torch.nn.functional.pad(torch.ones(36, 32), (2, 2, 2, 2)) > 0)
    image = sitk.GetImageFromArray(unit(batch["lax_4c"][0, 0, :, :36].numpy().astype(np.float64)).T)
    image.SetSpacing(spacing)
    move = sitk.Similarity2DTransform()
    move.SetCenter([(n - 1) / 2 * s for n, s in zip(size, spacing, strict=True)])
    move.SetAngle(draw.turn)
    move.SetScale(draw.scale)
    move.SetTranslation([t * s for t, s in zip(draw.shift, spacing, strict=True)])
    wanted = sitk.GetArrayFromImage(sitk.Resample(image, image, move.GetInverse(), sitk.sitkLinear, 0.0)).T
    ours = Fixed({"affine": draw})(batch)["lax_4c"][0, 0, :, :36].numpy()
    assert (wanted > 0).mean() > 0.4
    assert np.allclose(ours, wanted, atol=1e-4)


def dots(size, points, spacing):
    """Images with a bright Gaussian dot at each point, one channel each."""
    grid = np.stack(np.meshgrid(*(np.arange(n) for n in size), indexing="ij"), -1)
    blobs = [np.exp(-(((grid - point) * spacing[:2]) ** 2).sum(-1) / (2 * (2.0 * spacing[0]) ** 2)) for point in points]
    return torch.from_numpy((np.stack(blobs) * 200).astype(np.uint8))


def test_points_stay_on_their_dots_and_leave_with_them():
    """A bright dot lies under its point after random affines and crops, and labels follow."""
    size, spacing = (64, 56), (4.0, 4.0, 8.0)
    points = np.array([[30.0, 25.0], [20.5, 33.25], [40.0, 20.0], [3.0, 50.0]])
    transform = Fit({"lax_4c": (48, 48)}, 1, [Affine(1.0), Crop()])  # noise would move the centroid
    seen, gone = 0, 0
    for epoch in range(25):
        batch = make_batch("lax_4c", [size], channels=len(points), spacing=spacing, epoch=epoch)
        batch["lax_4c"][0] = dots(size, points, spacing)
        batch["lax_4c_label"][0] = (batch["lax_4c"][0].amax(0) > 100).to(torch.uint8)
        batch["lax_4c_points"] = torch.tensor(points[None], dtype=torch.float32)
        batch["lax_4c_points_valid"] = torch.ones(1, len(points), dtype=torch.bool)
        out = transform(batch)
        for k in range(len(points)):
            place, valid = out["lax_4c_points"][0, k].numpy(), bool(out["lax_4c_points_valid"][0, k])
            inside = bool(((place > 6) & (place < 41)).all())
            gone += not valid
            if not inside:
                continue
            assert valid
            seen += 1
            image = out["lax_4c"][0, k].numpy().astype(np.float64) ** 2
            grid = np.stack(np.meshgrid(np.arange(48), np.arange(48), indexing="ij"), -1)
            centroid = (image[..., None] * grid).sum((0, 1)) / image.sum()
            assert np.linalg.norm(centroid - place) < 0.5
            x, y = np.round(place).astype(int)
            assert out["lax_4c_label"][0, x, y] == 1
    assert seen > 30
    assert gone > 3


def test_points_affine_and_spacing_tell_the_same_place():
    """World coordinates of a point are those it had before, whatever was done to the image."""
    transform = finetune({"lax_4c": (24, 28)}, seed=5, probability=1.0)
    for epoch in range(5):
        batch = make_batch("lax_4c", [(40, 36), (30, 40)], spacing=(2.0, 1.5, 8.0), epoch=epoch, labels=False)
        points = torch.tensor([[[10.0, 12.0], [25.5, 30.0]]]).repeat(2, 1, 1)
        batch |= {"lax_4c_points": points, "lax_4c_points_valid": torch.ones(2, 2, dtype=torch.bool)}
        out = transform(dict(batch))

        def world(affines, places):
            full = torch.cat([places, torch.zeros(2, 2, 1), torch.ones(2, 2, 1)], -1)
            return full @ affines.transpose(1, 2)

        before, after = world(batch["lax_4c_affine"], points), world(out["lax_4c_affine"], out["lax_4c_points"])
        assert torch.allclose(before, after, atol=1e-3)
        columns = out["lax_4c_affine"][:, :3, :3].norm(dim=1)
        assert torch.allclose(columns, out["lax_4c_spacing"], atol=1e-4)


def test_a_landmark_that_was_not_valid_stays_so():
    batch = make_batch("lax_4c", [(40, 40)], labels=False)
    batch |= {"lax_4c_points": torch.full((1, 2, 2), 20.0), "lax_4c_points_valid": torch.tensor([[True, False]])}
    out = Fixed(affine(turn=1.0))(batch)
    assert out["lax_4c_points_valid"].tolist() == [[True, False]]


@pytest.mark.parametrize("turn", [None, 0.0])
def test_the_crop_takes_the_same_window_of_image_label_and_depth(turn):
    """Through the copy and through the sampling alike."""
    size = (40, 44, 9)
    batch = make_batch("sax", [size, (32, 20, 4)])
    moved = {} if turn is None else affine(turn=turn)

    class First(Fixed):
        def draws(self, sample):
            return super().draws(sample) | ({"crop": (5, 7, 2)} if sample.key[1] == "s0" else {})

    out = First(moved)(dict(batch))
    assert out["sax"].shape == (2, 1, 32, 32, 6)
    box = (slice(5, 37), slice(7, 39), slice(2, 8))
    assert torch.allclose(out["sax"][0, 0], unit(batch["sax"][0, 0].float())[box], atol=1e-4)
    assert torch.equal(out["sax_label"][0], batch["sax_label"][0][box])
    assert out["sax_size"].tolist() == [[32, 32, 6], [32, 20, 4]]
    assert torch.equal(out["sax_label"][1, :, :20, :4], batch["sax_label"][1, :32, :20, :4])
    assert out["sax_affine"][0, :3, 3].tolist() == [10, 14, 20]


def test_the_hole_is_in_the_image_only():
    batch = make_batch("sax", [(32, 32, 6)])
    sizes = (7, 7, 1)
    out = Fixed({"hole": [(4, 11), (10, 17), (2, 3)]})(dict(batch))
    box = tuple(slice(a, a + n) for a, n in zip((4, 10, 2), sizes, strict=True))
    whole = Whole(SIZES)(dict(batch))
    assert not out["sax"][0, 0][box].any()
    assert int((out["sax"] != whole["sax"]).sum()) <= math.prod(sizes)
    assert torch.equal(out["sax_label"], whole["sax_label"])


# ---------------------------------------------------------------- draws


def test_published_limits_at_published_sizes():
    published = {"sax": (192, 192, 16), "lax_4c": (256, 256)}
    transform = finetune(published, seed=0, hole=True)
    hole_size = {"sax": (40, 40, 2), "lax_4c": (50, 50)}
    for view, reach in (("sax", 60), ("lax_4c", 80)):
        many = [drawn(transform, (epoch, "a"), view, published[view]) for epoch in range(2000)]
        for name in ("gamma", "noise", "affine", "hole"):
            assert 0.45 < np.mean([name in draw for draw in many]) < 0.55
        moves = [draw["affine"] for draw in many if "affine" in draw]
        shifts = np.abs([move.shift for move in moves])
        assert 0.97 * reach < shifts.max() <= reach
        turns = np.array([move.turn for move in moves])
        assert -math.pi <= turns.min() < -3
        assert 3 < turns.max() <= math.pi
        scales = np.array([move.scale for move in moves])
        assert 0.8 <= scales.min() < 0.81
        assert 1.19 < scales.max() <= 1.2
        assert 0.09 < max(draw["noise"][0] for draw in many if "noise" in draw) <= 0.1
        gammas = [draw["gamma"] for draw in many if "gamma" in draw]
        assert 0.5 <= min(gammas) < max(gammas) <= 1.5
        holes = np.array([draw["hole"] for draw in many if "hole" in draw])
        assert (holes[:, :, 0].max(0) == np.array(published[view]) - hole_size[view]).all()
        assert (np.diff(holes)[:, :, 0] == hole_size[view]).all()
    # 64 pixels of 3 mm are the same field of view as 192 of 1 mm, and the limits the same millimetres.
    small = finetune({"sax": (64, 64, 8), "lax_4c": (64, 64)}, hole=True)
    many = [drawn(small, (epoch, "a"), "sax", (64, 64, 6)) for epoch in range(500)]
    assert {tuple(np.diff(draw["hole"])[:, 0]) for draw in many if "hole" in draw} == {(13, 13, 1)}
    assert max(abs(s) for draw in many if "affine" in draw for s in draw["affine"].shift) <= 20


def test_draws_are_keyed_and_views_independent():
    one, again = (finetune(SIZES, seed=1, hole=True) for _ in range(2))
    keys = [(epoch, name) for epoch in range(20) for name in ("a", "b")]
    many = [drawn(one, key, "lax_4c", (44, 40)) for key in keys]
    assert many == [drawn(again, key, "lax_4c", (44, 40)) for key in keys]
    assert len(set(map(str, many))) == len(many)
    assert [draw.get("affine") for draw in many] != [drawn(one, key, "sax", (44, 40, 6)).get("affine") for key in keys]
    other = finetune(SIZES, seed=2, hole=True)
    assert many != [drawn(other, key, "lax_4c", (44, 40)) for key in keys]
    # Leaving the hole out does not change the rest.
    plain = finetune(SIZES, seed=1)
    rest = [{name: one for name, one in draw.items() if name != "hole"} for draw in many]
    assert rest == [drawn(plain, key, "lax_4c", (44, 40)) for key in keys]


def test_two_frames_of_a_study_are_augmented_apart_and_two_channels_alike():
    batch = make_batch("sax", [(40, 36, 6)] * 2, channels=2)
    for channel in range(2):  # the same image in every frame and channel
        batch["sax"][:, channel] = batch["sax"][0, 0]
    batch |= {"id": ["a", "a"], "frame": torch.tensor([0, 7])}
    for epoch in range(4):
        plan = finetune(SIZES, seed=3, probability=1.0, hole=True).prepare(batch | {"epoch": epoch})[PLAN]
        ed, es = plan["views"]["sax"]["drawn"]
        assert ed["affine"].turn != es["affine"].turn
        assert ed["affine"].shift != es["affine"].shift
        assert ed["gamma"] != es["gamma"]
        assert ed["noise"][1] != es["noise"][1]
    out = finetune(SIZES, seed=3, probability=1.0)(batch)["sax"]
    assert not torch.allclose(out[0], out[1], atol=0.1)
    channels = Fit(SIZES, 3, [Gamma(1.0), Affine(1.0), Crop()])(batch)["sax"]
    assert torch.equal(channels[:, 0], channels[:, 1])


def test_the_input_is_left_alone_and_autocast_changes_nothing():
    batch = make_batch("sax", [(32, 32, 6), (30, 32, 5)], channels=2)
    kept = {key: value.clone() if torch.is_tensor(value) else value for key, value in batch.items()}
    transform = finetune(SIZES, probability=1.0, hole=True)
    plain = transform(batch)
    for key, value in kept.items():
        assert torch.equal(batch[key], value) if torch.is_tensor(value) else batch[key] == value
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(transform(batch)["sax"], plain["sax"])
    assert plain["sax"].is_contiguous()
    assert plain["sax"].dtype == torch.float32
    assert 0 <= plain["sax"].min() <= plain["sax"].max() <= 1


@pytest.mark.gpu
def test_gpu_and_cpu_agree_but_for_the_noise():
    batch = make_batch("sax", [(40, 32, 9), (30, 36, 5)], channels=2)
    transform = Fit(SIZES, 0, [Zoom(1.0), Gamma(1.0), Affine(1.0), Flip(1.0), Crop(), Hole(1.0)])
    plan = transform.prepare(batch)

    out, wanted = transform.apply(move_data_to_device(plan, torch.device("cuda"))), transform.apply(plan)
    assert torch.allclose(out["sax"].cpu(), wanted["sax"], atol=1e-4)
    assert (out["sax_label"].cpu() == wanted["sax_label"]).float().mean() > 0.999


# ---------------------------------------------------------------- lists


def world(batch, view, points):
    """RAS mm of points (B, L, 2) in the first slice."""
    zeros, ones = torch.zeros(*points.shape[:2], 1), torch.ones(*points.shape[:2], 1)
    return torch.cat([points, zeros, ones], -1) @ batch[f"{view}_affine"].transpose(1, 2)


def with_points(batch, view, places):
    points = torch.tensor(places, dtype=torch.float32).repeat(len(batch["id"]), 1, 1)
    return batch | {f"{view}_points": points, f"{view}_points_valid": torch.ones(points.shape[:2], dtype=torch.bool)}


def test_a_flip_mirrors_image_label_points_and_affine():
    size = (36, 33)
    batch = with_points(make_batch("lax_4c", [size, (30, 40)]), "lax_4c", [[[3.0, 7.0], [20.0, 11.0]]])
    for axis, name in enumerate("xy"):
        out = Fit(SIZES, 0, [Flip(1.0, axis=name)])(dict(batch))
        image = unit(batch["lax_4c"][0, 0, :36, :33].float())
        assert torch.allclose(out["lax_4c"][0, 0, :36, :33], image.flip(axis), atol=1e-4)
        assert torch.equal(out["lax_4c_label"][0, :36, :33], batch["lax_4c_label"][0, :36, :33].flip(axis))
        wanted = batch["lax_4c_points"][0].clone()
        wanted[:, axis] = size[axis] - 1 - wanted[:, axis]
        assert torch.equal(out["lax_4c_points"][0], wanted)
        before, after = (world(one, "lax_4c", one["lax_4c_points"]) for one in (batch, out))
        assert torch.allclose(before, after, atol=1e-4)
        assert torch.equal(out["lax_4c_spacing"], batch["lax_4c_spacing"])


@pytest.mark.parametrize("view", ["sax", "lax_4c"])
def test_a_zoom_takes_labels_points_and_affine_along(view):
    size = SIZES[view]
    small = tuple(n - 1 for n in size)
    batch = with_points(make_batch(view, [size, small, size]), view, [[[12.0, 20.0], [18.5, 9.25]]])
    batch[f"{view}_labelled"][2], batch[f"{view}_label"][2] = False, IGNORE
    out = Fit(SIZES, 0, [Zoom(1.0, factor=(1.25, 1.25))])(dict(batch))
    for row, true in enumerate((size, small)):
        places = np.meshgrid(*((np.arange(n) - (n - 1) / 2) / 1.25 + (n - 1) / 2 for n in true), indexing="ij")
        nearest = tuple(np.floor(place + 0.5).astype(int) for place in places)
        box = tuple(slice(n) for n in true)
        assert np.array_equal(out[f"{view}_label"][row][box].numpy(), batch[f"{view}_label"][row].numpy()[nearest])
    assert (out[f"{view}_label"][2] == IGNORE).all()
    assert out[f"{view}_label"].dtype == torch.uint8
    centre = (torch.tensor(size[:2]) - 1) / 2
    assert torch.allclose(out[f"{view}_points"][0], centre + (batch[f"{view}_points"][0] - centre) * 1.25, atol=1e-5)
    assert torch.allclose(out[f"{view}_spacing"][0, :2], batch[f"{view}_spacing"][0, :2] / 1.25)
    if view == "lax_4c":
        before, after = (world(one, view, one[f"{view}_points"]) for one in (batch, out))
        assert torch.allclose(before, after, atol=1e-4)


def test_several_moves_are_one():
    """A quarter turn, then a mirror image, then the crop."""
    batch = with_points(make_batch("lax_4c", [(44, 44)]), "lax_4c", [[[10.0, 20.0]]])

    class Turned(Fit):
        def draws(self, sample):
            return super().draws(sample) | affine(turn=math.pi / 2)

    out = Turned(SIZES, 0, [Affine(1.0), Flip(1.0)])(dict(batch))
    image = np.rot90(unit(batch["lax_4c"][0, 0].numpy().astype(np.float64)), 1)[::-1]
    assert np.allclose(out["lax_4c"][0, 0].numpy(), image[2:42, 2:42], atol=1e-4)
    assert np.array_equal(out["lax_4c_label"][0], np.rot90(batch["lax_4c_label"][0].numpy(), 1)[::-1][2:42, 2:42])
    assert torch.allclose(world(out, "lax_4c", out["lax_4c_points"]), world(batch, "lax_4c", batch["lax_4c_points"]))


def test_without_a_crop_the_centre_is_kept():
    batch = make_batch("sax", [(38, 35, 9)])
    out = Fit(SIZES, 0, [Gamma(0.0)])(dict(batch))
    assert torch.equal(out["sax"][0, 0], unit(batch["sax"][0, 0].float())[3:35, 1:33, 1:7])
    assert torch.equal(out["sax_label"][0], batch["sax_label"][0, 3:35, 1:33, 1:7])


def test_the_second_effect_of_a_name_has_draws_of_its_own():
    transform = Fit(SIZES, 0, [Hole(1.0), Crop(), Hole(1.0)])
    first, second = (drawn(transform, (0, "a"), "sax", (32, 32, 6))[name] for name in ("hole", "hole 2"))
    assert first != second


def test_grey_levels_may_change_after_the_moves_too():
    batch = make_batch("sax", [(40, 38, 6), (20, 30, 4)])
    before, after = (Fit(SIZES, 4, some)(dict(batch)) for some in ([Gamma(1.0), Crop()], [Crop(), Gamma(1.0)]))
    assert torch.allclose(before["sax"], after["sax"], atol=1e-6)


def test_padding_stays_zero_whatever_an_effect_does():
    class Bright(Grey):
        def draw(self, rng, sample):
            return float(rng.uniform(0.5, 1))

        def apply(self, image, drawn, about):
            return image * 0 + drawn

    batch = make_batch("sax", [(32, 30, 5), (28, 32, 4)])
    for some in ([Bright(1.0)], [Crop(), Bright(1.0)]):
        out = Fit(SIZES, 0, some)(dict(batch))["sax"]
        for image, (x, y, z) in zip(out[:, 0], batch["sax_size"].tolist(), strict=True):
            assert (image[:x, :y, :z] >= 0.5).all()
            assert int((image > 0).sum()) == x * y * z


@pytest.mark.parametrize(
    "wrong",
    [[Gamma(), Zoom()], [Affine(), Noise(), Flip()], [Crop(), Affine()], [Crop(), Crop()], [Flip(), Gamma(), Crop()]],
)
def test_an_order_that_cannot_be_kept_is_refused(wrong):
    names = ", ".join(type(effect).__name__ for effect in wrong)
    with pytest.raises(CinemaError, match=rf"data\.augment lists {names}: first come warps"):
        Fit(SIZES, 0, wrong)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Gamma(1.5), "probability of Gamma is 1.5; it has to be between 0 and 1"),
        (lambda: Gamma(exponent=(1.2, 0.8)), r"exponent of Gamma is \[1.2, 0.8\]; it has to be the lowest and the"),
        (lambda: Zoom(factor=(0, 1)), r"factor of Zoom is \[0, 1\]"),
        (lambda: Affine(scale=(-1, 1)), r"scale of Affine is \[-1, 1\]"),
        (lambda: Affine(turn=200), "turn of Affine is 200; it has to be between 0 and 180 degrees"),
        (lambda: Noise(sd=-0.1), "sd of Noise is -0.1"),
        (lambda: Hole(plane=(0, 0.1)), r"plane of Hole is \[0, 0.1\]; it has to be shares above 0"),
    ],
)
def test_an_option_that_cannot_be_is_refused(make, message):
    with pytest.raises(CinemaError, match=rf"data\.augment: {message}"):
        make()


def test_a_move_along_z_is_refused():
    class Lift(Flip):
        def matrix(self, drawn, size, spacing):
            return np.array([[1.0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 2], [0, 0, 0, 1]])

    with pytest.raises(CinemaError, match="Lift moves along z; a move stays in plane"):
        Fit(SIZES, 0, [Lift(1.0)])(make_batch("sax", [(32, 32, 6)]))
