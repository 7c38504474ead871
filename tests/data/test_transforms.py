"""Device-side transforms, checked against monai and scipy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from lightning.fabric.utilities.apply_func import move_data_to_device
from monai.transforms import Zoom as MonaiZoom
from scipy.ndimage import map_coordinates

from cinema_lightning.data.augment.base import Sample
from cinema_lightning.data.augment.crop import Crop
from cinema_lightning.data.augment.zoom import Zoom, zoom_images
from cinema_lightning.data.transforms import PLAN, Fit
from cinema_lightning.views import VIEWS

SMALL = {"sax": (16, 14, 6), "lax_2c": (20, 18), "lax_3c": (20, 18), "lax_4c": (20, 18)}


def make_batch(sizes, *, epoch=0, seed=0, channels=1, low=0):
    """A batch of random images; ``sizes`` is view -> list of true sizes."""
    rng = np.random.default_rng(seed)
    n = len(next(iter(sizes.values())))
    batch = {"id": [f"s{i}" for i in range(n)], "epoch": epoch, "weight": torch.ones(n), "frame": torch.arange(n)}
    for view, true in sizes.items():
        images = np.zeros((n, channels, *np.max(true, axis=0)), np.uint8)
        for image, size in zip(images, true, strict=True):
            box = (slice(None), *(slice(length) for length in size))
            image[box] = rng.integers(low, 200, image[box].shape)
        batch[view] = torch.from_numpy(images)
        batch[f"{view}_size"] = torch.tensor(true)
        batch[f"{view}_spacing"] = torch.tensor([[2.0, 3, 10]]).repeat(n, 1)
        batch[f"{view}_affine"] = torch.diag(torch.tensor([2.0, 3, 10, 1])).repeat(n, 1, 1)
    return batch


def pretrain(sizes=SMALL, seed=0, probability=0.5):
    """The published augmentation of pretraining."""
    return Fit(sizes, seed, [Zoom(probability), Crop(axes_apart=True)])


def factor_of(transform, key, view):
    """The zoom of a sample, 1 for none."""
    size = transform.input_size[view]
    return transform.draws(Sample(transform.seed, key, view, size, size, [0] * len(size))).get("zoom", 1.0)


def all_views(sax, lax, n=2, **options):
    return make_batch({view: [sax if view == "sax" else lax] * n for view in VIEWS}, **options)


def scaled(image):
    return (image - image.min()) / (image.max() - image.min())


@pytest.mark.parametrize("factor", [0.8, 0.9, 1.1, 1.2])
def test_bicubic_zoom_is_monais(factor):
    image = torch.rand(1, 1, 20, 40)
    ours = zoom_images(image, [factor], [[20, 40]])[0]
    monais = MonaiZoom(factor, mode="bicubic", padding_mode="constant")(image[0]).as_tensor()
    assert torch.allclose(ours, monais, atol=1e-5)


@pytest.mark.parametrize("factor", [0.8, 1.2])
def test_trilinear_zoom_is_monais(factor):
    image = torch.rand(1, 1, 20, 40, 10)
    ours = zoom_images(image.permute(0, 1, 4, 2, 3), [factor], [[10, 20, 40]])[0].permute(0, 2, 3, 1)
    monais = MonaiZoom(factor, mode="trilinear", padding_mode="constant")(image[0]).as_tensor()
    assert torch.allclose(ours, monais, atol=1e-5)


@pytest.mark.parametrize("factor", [0.913, 1.07])
def test_any_factor_is_linear_sampling_about_the_true_centre(factor):
    """Sizes that no rounding would fit, within a larger padded batch."""
    true, padded = (17, 13, 7), (20, 15, 11)
    image = np.zeros(padded, np.float32)
    image[: true[0], : true[1], : true[2]] = np.random.default_rng(0).random(true)
    places = np.meshgrid(*((np.arange(n) - (n - 1) / 2) / factor + (n - 1) / 2 for n in true), indexing="ij")
    wanted = map_coordinates(image[: true[0], : true[1], : true[2]], places, order=1, mode="nearest")
    for place, n in zip(places, true, strict=True):
        wanted[(place < -0.5) | (place > n - 0.5)] = 0
    planes = torch.from_numpy(image).permute(2, 0, 1)[None, None]
    ours = zoom_images(planes, [factor], [[7, 17, 13]])[0, 0].permute(1, 2, 0)
    assert np.allclose(ours[: true[0], : true[1], : true[2]], wanted, atol=1e-5)
    ours[: true[0], : true[1], : true[2]] = 0
    assert not ours.any()


def test_zoom_fills_with_zeros_and_keeps_the_centre():
    image = torch.ones(1, 1, 21, 21)
    image[0, 0, 10, 10] = 5
    small = zoom_images(image, [0.8], [[21, 21]])[0, 0]
    assert small[0].abs().max() == small[:, -1].abs().max() == 0
    assert small.argmax() == 10 * 21 + 10
    assert torch.allclose(zoom_images(torch.ones(1, 1, 9, 9), [1.1], [[9, 9]]), torch.ones(1, 1, 9, 9), atol=1e-6)


def test_fit_scales_and_pads_at_the_end():
    batch = make_batch({"sax": [(12, 14, 5), (16, 9, 4)], "lax_2c": [(20, 18), (7, 8)]}, channels=2, low=20)
    fitted = Fit(SMALL)(batch)
    assert PLAN not in fitted
    for view in ("sax", "lax_2c"):
        assert fitted[view].shape == (2, 2, *SMALL[view])
        assert fitted[view].dtype == torch.float32
        assert torch.equal(fitted[f"{view}_size"], batch[f"{view}_size"])
        for out, image, size in zip(fitted[view], batch[view], batch[f"{view}_size"].tolist(), strict=True):
            box = (slice(None), *(slice(length) for length in size))
            assert torch.allclose(out[box], scaled(image[box].float()))  # over both channels together
            out[box] = 0
            assert not out.any()
    assert fitted["id"] == batch["id"]
    assert torch.equal(fitted["weight"], batch["weight"])
    assert batch["sax"].dtype == torch.uint8  # the batch that came in is left alone


def test_fit_crops_what_is_too_large_in_the_middle():
    batch = make_batch({"sax": [(20, 10, 9)]})
    fitted = Fit(SMALL)(batch)
    assert fitted["sax_size"].tolist() == [[16, 10, 6]]
    wanted = scaled(batch["sax"][0].float())[:, 2:18, :, 1:7]  # scaled before the crop
    assert torch.allclose(fitted["sax"][0, :, :, :10], wanted)
    # Voxel 0 of the crop is voxel (2, 0, 1) of the image.
    origin = batch["sax_affine"][0] @ torch.tensor([2.0, 0, 1, 1])
    assert torch.equal(fitted["sax_affine"][0, :, 3], origin)


def test_a_constant_image_becomes_zero():
    batch = make_batch({"lax_2c": [(20, 18)]})
    batch["lax_2c"].fill_(7)
    assert not Fit(SMALL)(batch)["lax_2c"].any()


def factors(transform, epochs, views=tuple(VIEWS), ids=("s0",)):
    return np.array(
        [[[factor_of(transform, (epoch, name, 0), view) for view in views] for name in ids] for epoch in epochs]
    )


def test_draws_of_the_augmentation():
    drawn = factors(pretrain(SMALL, seed=1), range(1000))[:, 0]
    sax, long_axis = drawn[:, 0], drawn[:, 1:]
    assert (long_axis == long_axis[:, :1]).all()  # the long-axis views share one draw
    assert not np.array_equal(sax, long_axis[:, 0])
    for column in (sax, long_axis[:, 0]):
        zoomed = column[column != 1]
        assert 0.44 < len(zoomed) / len(column) < 0.56
        assert 0.9 <= zoomed.min() < 0.91
        assert 1.09 < zoomed.max() <= 1.1
    both = (sax != 1) & (long_axis[:, 0] != 1)
    assert 0.19 < both.mean() < 0.31  # independent


def test_draws_are_keyed():
    again = factors(pretrain(SMALL, seed=1), range(50), ids=("s0", "s1"))
    first = factors(pretrain(SMALL, seed=1), range(50), ids=("s0", "s1"))
    assert np.array_equal(first, again)
    assert not np.array_equal(first[:, 0], first[:, 1])
    assert not np.array_equal(first, factors(pretrain(SMALL, seed=2), range(50), ids=("s0", "s1")))


def test_augmentation_does_not_depend_on_who_else_is_in_the_batch():
    both = all_views((16, 14, 6), (20, 18), n=2)
    transform = pretrain(SMALL, seed=4, probability=1.0)
    together = transform(both)
    for i in range(2):
        alone = {key: value[i : i + 1] if hasattr(value, "__len__") else value for key, value in both.items()}
        for view in VIEWS:
            assert torch.allclose(transform(alone)[view][0], together[view][i], atol=1e-6)


def test_frames_of_a_study_are_drawn_by_themselves():
    drawn = [factor_of(pretrain(SMALL, seed=1), (0, "s0", frame), "sax") for frame in range(50)]
    assert 15 < len(set(drawn) - {1.0}) < 35


def test_augmented_batch_is_zoom_then_scale_then_pad():
    batch = all_views((15, 14, 5), (20, 17), n=8)
    transform = pretrain(SMALL, seed=0)
    out = transform(batch)
    kinds = set()
    for i, name in enumerate(batch["id"]):
        factor = factor_of(transform, (0, name, i), "lax_3c")
        kinds.add(factor != 1)
        image = batch["lax_3c"][i : i + 1].float()
        if factor != 1:
            image = zoom_images(image, [factor], [[20, 17]])
        assert torch.allclose(out["lax_3c"][i, :, :, :17], scaled(image[0]), atol=1e-5)
    assert kinds == {True, False}
    for view in VIEWS:
        assert out[view].is_contiguous()
        assert out[view].shape == (8, 1, *SMALL[view])
        assert out[view].min() == 0
        assert out[view].max() == 1


def test_random_crop_in_training():
    transform, starts = pretrain(SMALL, seed=0, probability=0.0), set()
    for epoch in range(40):
        out = transform(make_batch({"sax": [(19, 14, 6)]}, epoch=epoch))
        starts.add(float(out["sax_affine"][0, 0, 3]) / 2)
    assert starts == {0, 1, 2, 3}


def test_nothing_is_lost_to_autocast():
    batch = all_views((16, 14, 6), (20, 18))
    transform = pretrain(SMALL, probability=1.0)
    plain = transform(batch)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(transform(batch)["sax"], plain["sax"])


@pytest.mark.gpu
def test_gpu_and_cpu_agree():
    batch = all_views((15, 14, 5), (20, 17), n=4)
    transform = pretrain(SMALL)
    device = move_data_to_device(transform.prepare(batch), torch.device("cuda"))
    out = transform.apply(device)
    for view in VIEWS:
        assert torch.allclose(out[view].cpu(), transform(batch)[view], atol=1e-4)
