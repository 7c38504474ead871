"""The gate lets good studies pass and catches each way of spoiling one."""

import functools
import itertools

import numpy as np
import pytest

from cinema_lightning.analysis.gate import check, read_limits, without_numbers
from cinema_lightning.analysis.measure import measure
from cinema_lightning.analysis.shape import order_ratio, unlike_ratio
from cinema_lightning.analysis.values import AsScanned, Study, View
from cinema_lightning.errors import CinemaError
from cinema_lightning.phantom.acquisition import Acquisition
from cinema_lightning.phantom.anatomy import Heart
from cinema_lightning.phantom.imaging import Imager
from cinema_lightning.phantom.subject import draw_subject

FRAMES = Acquisition(n_frames=20, sax_size=(90, 90), sax_spacing=(2.0, 2.0))


@pytest.fixture(scope="module")
def hearts():
    """Two persons' (X, Y, Z, T) labels and affines, as many slices and frames."""
    return [(np.moveaxis(one.labels, 0, -1), one.affine) for one in imaged()]


@functools.cache
def imaged():
    return [Imager(Heart(draw_subject(5, index)), FRAMES).image("sax") for index in (4, 0)]


def judged(segmented, labels, affine, limits=None, images=None, **scanned):
    view = View("sax", labels if images is None else images, affine, scanned=AsScanned(**scanned))
    study, found = Study("one", {"sax": view}), {"sax": segmented(labels, affine)}
    checks = check(study, found, measure(study, found), limits or read_limits())
    return {one.name: one.verdict for one in checks}, {one.name: one.sentence for one in checks}


def told(verdicts):
    return {name for name, verdict in verdicts.items() if verdict != "pass"}


def test_good_hearts_pass(hearts, segmented):
    for (labels, affine), series in zip(hearts, imaged(), strict=True):
        heights = tuple(np.arange(labels.shape[2]) * 10.0)
        scanned = {"heights": heights, "phases": (20,) * len(heights), "asked": 20, "beat": 1.0, "between": 10}
        verdicts, _ = judged(segmented, labels, affine, images=np.moveaxis(series.images, 0, -1), **scanned)
        assert told(verdicts) == set()


def spoilt(name, labels, other):
    lv = np.flatnonzero((labels[..., 0] == 3).any(axis=(0, 1)))
    middle, out = lv[4], labels.copy()
    if name == "a frame failed":
        out[..., 7] = np.where(np.arange(labels.shape[2]) > lv[3], 0, labels[..., 7])
    elif name == "spot":
        out[:12, :12, lv[3] : lv[6]] = 3
    elif name in ("another's slice", "late slice", "hole"):
        moved = np.roll(other[:, :, middle], 6, axis=0), np.roll(labels[:, :, middle], 8, axis=-1), 0
        out[:, :, middle] = moved[("another's slice", "late slice", "hole").index(name)]
    else:
        cut = {"base gone": np.s_[:, :, lv[0] + 2 :], "apex gone": np.s_[:, :, : lv[-1] - 1]}
        out = np.where(labels == 1, 0, labels) if name == "no RV" else labels[cut.get(name, np.s_[..., :10])]
    return out


@pytest.mark.parametrize(
    ("name", "by"),
    [
        ("base gone", "base_cut_es"),
        ("apex gone", "apex_cut"),
        ("half a beat", "cycle"),
        ("another's slice", "slice_shift"),
        ("late slice", "slice_step"),
        ("hole", "lv_hole"),
        ("a frame failed", "curve"),
        ("spot", "second_component"),
        ("no RV", "rv_mid"),
    ],
)
def test_spoilt_hearts_are_caught(hearts, segmented, name, by):
    (labels, affine), (other, _) = hearts
    verdicts, sentences = judged(segmented, spoilt(name, labels, other), affine)
    assert by in told(verdicts)
    assert ": " in sentences[by]


def test_a_beat_may_begin_in_systole(hearts, segmented):
    labels, affine = hearts[0]
    for first in range(0, 20, 4):
        turned = np.roll(labels, -first, axis=-1)[..., ::2]  # ten frames: large steps
        assert judged(segmented, turned, affine)[0]["cycle"] == "pass", first


def discs(radii):
    """(X, Y, Z, T) a cylinder of wall and blood, and RV beside it; radius of the blood in pixels, (Z, T)."""
    x, y = np.indices((48, 48)) - 24
    out = np.zeros((48, 48, *radii.shape), np.uint8)
    for z, t in np.ndindex(radii.shape):
        out[np.hypot(x + 19, y) < radii[z, t] / 3, z, t] = 1
        out[np.hypot(x, y) < np.hypot(radii[z, t], 9), z, t] = 2
        out[np.hypot(x, y) < radii[z, t], z, t] = 3
    return out


@pytest.mark.parametrize("frames", [16, 30])
def test_a_fast_heart_in_few_frames_is_smooth(segmented, frames):
    beat = np.interp(np.arange(frames) / frames, [0, 0.05, 0.25, 0.6, 1], [14, 14, 6, 13, 14])
    labels = discs(np.tile(beat, (9, 1)))
    assert judged(segmented, labels, np.diag([1.5, 1.5, 10, 1]))[0]["frame_dice"] == "pass"
    labels[..., frames // 2] = np.roll(labels[..., frames // 2], 20, axis=0)
    assert judged(segmented, labels, np.diag([1.5, 1.5, 10, 1]))[0]["frame_dice"] != "pass"


def test_a_slice_that_hardly_moves_is_in_step_with_nothing(segmented):
    beat = 10 + 4 * np.cos(2 * np.pi * np.arange(20) / 20)
    radii = np.tile(beat, (9, 1))
    radii[4] = 14 + 0.4 * np.sin(2 * np.pi * np.arange(20) / 20)  # an infarct
    assert judged(segmented, discs(radii), np.diag([1.5, 1.5, 10, 1]))[0]["slice_step"] == "pass"
    radii[4] = np.roll(beat, 10)
    assert judged(segmented, discs(radii), np.diag([1.5, 1.5, 10, 1]))[0]["slice_step"] == "refuse"


def test_ventricles_may_be_a_frame_apart_more_than_they_are(segmented):
    labels = discs(np.tile(10 + 4 * np.cos(2 * np.pi * np.arange(16) / 16), (9, 1)))
    for apart, verdict in ((2, "pass"), (4, "warn")):
        late = np.where(np.roll(labels == 1, apart, axis=-1), 1, np.where(labels == 1, 0, labels))
        assert judged(segmented, late, np.diag([1.5, 1.5, 10, 1]))[0]["ventricles_apart"] == verdict


def test_any_two_slices_that_are_exchanged_are_seen_in_the_pictures():
    # A heart like a cylinder: by the masks alone some of its slices can stand for each other.
    grid = Acquisition(views=("sax",), n_frames=2, sax_size=(72, 72), sax_spacing=(2.8, 2.8), seed=40)
    images = np.moveaxis(Imager(Heart(draw_subject(40, 215)), grid, [0, 0.36]).image("sax").images, 0, -1)
    limit = read_limits()["slice_order"]
    assert limit.judge(order_ratio(images)) == "pass"
    assert limit.judge(order_ratio(images[..., :1])) == "pass"
    for one, other in itertools.combinations(range(1, images.shape[2] - 1), 2):
        if other - one > 1:
            order = np.arange(images.shape[2])
            order[[one, other]] = other, one
            assert limit.judge(order_ratio(images[:, :, order])) == "warn", (one, other)
    assert order_ratio(images[:, :, :4]) is None
    assert order_ratio(np.zeros((8, 8, 6, 2))) is None


def test_a_slice_of_another_person_is_seen_in_the_pictures():
    grid = Acquisition(views=("sax",), n_frames=2, sax_size=(64, 64), sax_spacing=(3.0, 3.0), seed=41)
    one, other = (
        np.moveaxis(Imager(Heart(draw_subject(41, index)), grid, [0, 0.36]).image("sax").images, 0, -1)
        for index in (0, 1)
    )
    limit = read_limits()["slice_unlike"]
    noisy = one + np.random.default_rng(0).normal(0, 0.2, one.shape)
    for good in (one, other, noisy):
        assert limit.judge(unlike_ratio(good)) == "pass"
    for z in range(3, 6):
        spoilt = one.copy()
        spoilt[:, :, z] = other[:, :, other.shape[2] // 2]
        assert limit.judge(unlike_ratio(spoilt)) == "warn", z
    assert unlike_ratio(one[:, :, :4]) is None
    assert unlike_ratio(np.zeros((8, 8, 6, 2))) is None


def test_what_was_scanned_is_judged_before_what_was_filled(hearts, segmented):
    labels, affine = hearts[0]
    n = labels.shape[2]
    gap = tuple(10.0 * np.delete(np.arange(n + 1), 4))
    assert judged(segmented, labels, affine, heights=gap)[0]["gap"] == "refuse"
    wide = tuple(17.7 * np.arange(n))
    verdicts, sentences = judged(segmented, labels, affine, heights=wide)
    assert verdicts["slice_distance"] == "refuse"
    assert "17.7 mm" in sentences["slice_distance"]
    fine = tuple(10.0 * np.arange(n))
    assert judged(segmented, labels, affine, heights=fine, between=8.0)[0]["header_distance"] == "refuse"
    assert judged(segmented, labels, affine, heights=fine, beat=0.5)[0]["beat"] == "refuse"
    rates = [judged(segmented, labels, affine, heights=fine, beat=beat)[0]["heart_rate"] for beat in (1, 2)]
    assert rates == ["pass", "warn"]
    assert (
        judged(segmented, labels, affine, heights=fine, phases=(20,) * (n - 1) + (17,))[0]["frames_missing"] == "warn"
    )


def test_no_short_axis_is_refused():
    study = Study("one", {})
    assert check(study, {}, measure(study, {}), read_limits())[0].verdict == "refuse"


def test_a_refused_study_has_no_numbers(hearts, segmented):
    labels, affine = hearts[0]
    found = {"sax": segmented(labels, affine)}
    left = without_numbers(measure(Study("one", {"sax": View("sax", labels, affine)}), found))
    assert not any(left.numbers.values())
    assert left.segments == {}


def test_own_limits(hearts, segmented, tmp_path):
    own = tmp_path / "mine.yaml"
    own.write_text("frames: {refuse_below: 25, reason: we ask for 25}\n")
    labels, affine = hearts[0]
    verdicts, sentences = judged(segmented, labels, affine, read_limits(own))
    assert verdicts["frames"] == "refuse"
    assert sentences["frames"].endswith("we ask for 25.")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("frame: {refuse_below: 1}", "no check 'frame'"),
        ("frames: {below: 1}", "takes numbers"),
        ("- 1", "by name"),
        ("frames: {refuse_below: many}", "takes numbers"),
        ("a: [", "cannot be read"),
    ],
)
def test_wrong_limits_are_said(tmp_path, text, said):
    own = tmp_path / "mine.yaml"
    own.write_text(text)
    with pytest.raises(CinemaError, match=said):
        read_limits(own)
