"""Effects of strong augmentation, against what they should do to images that are known."""

import subprocess
import sys

import numpy as np
import pytest
import torch
import yaml

from cinema_lightning.configs import find_config
from cinema_lightning.data.augment.base import About, Sample
from cinema_lightning.data.augment.curve import Curve
from cinema_lightning.data.augment.ghost import Ghost
from cinema_lightning.data.augment.mottle import Mottle
from cinema_lightning.data.augment.resolution import Resolution
from cinema_lightning.data.augment.shade import Shade
from cinema_lightning.errors import CinemaError
from cinema_lightning.registry import AUGMENTATIONS

SIZE = (3, 40, 48)
ABOUT = About(SIZE, torch.tensor(200.0))
EFFECTS = [Curve(1.0), Ghost(1.0), Mottle(1.0), Resolution(1.0), Shade(1.0)]


def sample(name="a", depth=True):
    size = (40, 48, 3)[: 3 if depth else 2]
    return Sample(0, (0, name, 0), "sax", size, size, [0] * len(size))


def image(padding=0):
    """A bright disc on grey and black, in slices of (40, 48), with zeros beyond."""
    x, y = torch.meshgrid(torch.arange(40.0) - 20, torch.arange(48.0) - 24, indexing="ij")
    plane = torch.where(torch.hypot(x, y) < 10, 1.0, torch.where(x > 0, 0.4, 0.0))
    out = torch.zeros(1, 3 + padding, 40 + padding, 48 + padding)
    out[:, :3, :40, :48] = plane
    return out


@pytest.mark.parametrize("effect", EFFECTS, ids=lambda effect: type(effect).__name__)
def test_it_is_drawn_again_and_stays_between_0_and_1(effect):
    for name in "abcdef":
        drawn = effect.drawn(sample(name), "x")
        out = effect.apply(image(), drawn, ABOUT)
        assert out.shape == (1, *SIZE)
        assert out.min() >= 0
        assert out.max() <= 1
        assert torch.equal(out, effect.apply(image(), effect.drawn(sample(name), "x"), ABOUT))
        padded = effect.apply(image(padding=4), drawn, ABOUT)[:, :3, :40, :48]
        torch.testing.assert_close(padded, out)  # what lies beyond the true size changes nothing
    flat = effect.apply(image()[:, :1], effect.drawn(sample("a", depth=False), "x"), About((1, 40, 48), ABOUT.spread))
    assert torch.isfinite(flat).all()
    assert not torch.equal(flat, image()[:, :1])


@pytest.mark.parametrize(
    "effect", [Ghost(1.0), Resolution(1.0), Shade(1.0), Mottle(1.0)], ids=lambda e: type(e).__name__
)
def test_a_constant_image_stays_one_without_contrast(effect):
    out = effect.apply(torch.zeros(1, *SIZE), effect.drawn(sample(), "x"), ABOUT)
    assert torch.equal(out, torch.zeros(1, *SIZE))


def test_a_curve_goes_through_its_knots():
    levels = [0.1, 0.6, 0.5, 0.9]
    grey = torch.tensor([0, 1 / 6, 1 / 3, 0.5, 2 / 3, 1]).view(1, 1, 1, 6)
    out = Curve(1.0, knots=3).apply(grey, levels, ABOUT)
    torch.testing.assert_close(out.flatten(), torch.tensor([0.1, 0.35, 0.6, 0.55, 0.5, 0.9]))


def test_rising_curves_rise_and_others_exchange_tissues():
    rng = np.random.default_rng(0)
    rising = [np.diff(Curve(rising=1.0).draw(rng, sample())).min() for _ in range(200)]
    mixed = [np.diff(Curve(rising=0.0, strength=1.0).draw(rng, sample())).min() for _ in range(200)]
    assert min(rising) >= 0
    assert np.mean(np.array(mixed) < 0) > 0.5
    assert Curve(strength=0.0).draw(rng, sample()) == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1])


def test_a_shade_has_the_strength_that_was_drawn():
    """The logarithm of the field, seen on a grey image with a black and a white voxel that fix the scale."""
    effect, rng = Shade(1.0, strength=0.5), np.random.default_rng(0)
    weights, slope = effect.draw(rng, sample())
    about = About((1, 120, 160), ABOUT.spread)
    out = effect.apply(torch.full((1, 1, 120, 160), 0.5).index_fill_(3, torch.tensor([0]), 0.0), (weights, 0.0), about)
    logarithm = out[0, 0, :, 1:].log()
    power = np.outer([1, 0.5, 0.5, 0.5], [1, 0.5, 0.5, 0.5])
    assert float(logarithm.std()) == pytest.approx(np.sqrt(np.sum(np.square(weights) * power)), rel=0.05)
    assert 0 < float(logarithm.std()) < 0.5
    assert abs(slope) < 2


def test_resolution_leaves_out_high_frequencies_only():
    x = torch.arange(64.0)
    coarse, fine = torch.cos(2 * torch.pi * 4 * x / 64), torch.cos(2 * torch.pi * 28 * x / 64)
    stripes = (0.5 + 0.25 * coarse + 0.2 * fine).view(1, 1, 64, 1).expand(1, 1, 64, 64).clone()
    out = Resolution(1.0).apply(stripes, (0.5, 0.5, 0.0), About((1, 64, 64), ABOUT.spread))
    spectrum = torch.fft.rfft(out[0, 0, :, 0]).abs()
    assert spectrum[28] < 1e-3
    assert spectrum[4] == pytest.approx(0.5 * 32, rel=0.01)  # scaled from 0.25 to 0.5 by the [0, 1] that follows


def test_a_ghost_lies_where_it_should():
    point = torch.zeros(1, 1, 40, 48)
    point[0, 0, 10, 20] = 1
    out = Ghost(1.0).apply(point, (0.1, 1, 4), About((1, 40, 48), ABOUT.spread))
    assert {tuple(place) for place in out[0, 0].nonzero().tolist()} == {(10, 20), (10, 32), (10, 44), (10, 8)}
    assert out[0, 0, 10, 32] == pytest.approx(0.1)
    assert out[0, 0, 10, 44] == pytest.approx(0.05)


def test_mottle_takes_most_where_it_is_bright():
    both = image()
    out = Mottle(1.0).apply(both.clone(), (0.6, 4.0, 7), ABOUT)
    lost = (both - out)[both > 0.9].mean(), (both - out)[(both > 0.3) & (both < 0.5)].mean()
    assert lost[0] > 3 * lost[1] > 0
    assert (out <= both).all()


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("Curve", {"strength": 2}),
        ("Curve", {"knots": 0}),
        ("Shade", {"strength": -1}),
        ("Resolution", {"share": (0.5, 1.5)}),
        ("Mottle", {"scale": (4, 2)}),
        ("Ghost", {"copies": 1}),
    ],
)
def test_impossible_options(name, options):
    with pytest.raises(CinemaError, match=f"{next(iter(options))} of {name}"):
        AUGMENTATIONS[name](**options)


@pytest.mark.parametrize("overlay", ["domain.yaml", "upright.yaml"])
def test_the_overlays_list_effects_that_there_are(overlay):
    listed = yaml.safe_load(find_config(overlay).read_text(encoding="utf-8"))["data"]["init_args"]["augment"]
    for one in listed:
        effect = {"class_path": one} if isinstance(one, str) else one
        AUGMENTATIONS[effect["class_path"]](**effect.get("init_args", {}))


@pytest.mark.slow
def test_a_list_may_begin_with_any_effect():
    """In a process of its own, where nothing has imported the effect yet."""
    command = ["fit", "--config", "seg.yaml", "--config", "domain.yaml", "--data.root", "x", "--print_config"]
    code = f"import sys; from cinema_lightning.cli import main; sys.exit(main({command!r}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "augment.curve.Curve" in done.stdout
