"""Intervals hold what they promise, on average over calibrations, and say so where they cannot."""

import numpy as np
import pytest

from cinema_lightning.analysis.conformal import calibrate, fewest, group_of, interval, spread_of_ef
from cinema_lightning.errors import CinemaError


def _subjects(rng, n, shape):
    """True and predicted values with errors whose size is known up to noise, skewed or not."""
    truth = rng.normal(150, 40, n)
    size = rng.uniform(2, 12, n)
    noise = rng.normal(size=n) if shape == "normal" else rng.exponential(size=n) - 1
    return truth, truth + size * noise, size * rng.uniform(0.5, 1.5, n)


@pytest.mark.parametrize("shape", ["normal", "skewed"])
@pytest.mark.parametrize("coverage", [0.9, 0.8])
def test_coverage_on_average(shape, coverage):
    rng = np.random.default_rng(3)
    held = []
    for _ in range(60):
        scores = calibrate(*_subjects(rng, 60, shape))
        true, predicted, sd = _subjects(rng, 60, shape)
        ends = [interval("lv_edv", p, s, scores, coverage)[:2] for p, s in zip(predicted, sd, strict=True)]
        held.append(np.mean([low <= t <= high for t, (low, high) in zip(true, ends, strict=True)]))
    assert np.mean(held) == pytest.approx(coverage, abs=0.02)


def test_wider_where_networks_disagree():
    rng = np.random.default_rng(0)
    scores = calibrate(*_subjects(rng, 80, "normal"))
    calm, wild = (interval("lv_edv", 150, sd, scores, 0.9) for sd in (2.0, 12.0))
    assert wild[1] - wild[0] > 1.5 * (calm[1] - calm[0])


def test_exact_rank():
    """Nine subjects at 90%: the largest of the nine scores."""
    scores = calibrate(np.arange(9.0), np.zeros(9), np.zeros(9))
    assert scores.floor == 1
    assert interval("lv_edv", 100, 0, scores, 0.9)[:2] == (92, 108)
    with pytest.raises(CinemaError, match="at least 19"):
        interval("lv_edv", 100, 0, scores, 0.95)
    assert (fewest(0.9), fewest(0.95), fewest(0.8)) == (9, 19, 4)


def test_groups_fall_back_to_all():
    rng = np.random.default_rng(1)
    true, predicted, sd = _subjects(rng, 50, "normal")
    groups = ["GE"] * 5 + ["SIEMENS"] * 45
    true[5:] = predicted[5:] + (true[5:] - predicted[5:]) * 0.1
    scores = calibrate(true, predicted, sd, groups)
    assert interval("lv_edv", 150, 5, scores, 0.9, "SIEMENS")[2]
    assert not interval("lv_edv", 150, 5, scores, 0.9, "GE")[2]
    pooled, own = (interval("lv_edv", 150, 5, scores, 0.9, group) for group in ("GE", "SIEMENS"))
    assert own[1] - own[0] < pooled[1] - pooled[0]


def test_ends_stay_possible():
    scores = calibrate(np.full(20, 30.0), np.zeros(20), np.zeros(20))
    assert interval("lv_ef", 85, 0, scores, 0.9)[:2] == (55, 100)
    assert interval("lv_esv", 10, 0, scores, 0.9)[0] == 0


def test_missing_numbers_do_not_count():
    scores = calibrate([1.0, np.nan, 3.0], [1.0, 2.0, np.nan], [0.0, 0.0, 0.0])
    assert scores.all == (0.0,)


def test_scale_of_ef_follows_its_volumes():
    rng = np.random.default_rng(0)
    edv, esv = 150 + rng.normal(0, 6, 20000), 60 + rng.normal(0, 4, 20000)
    assert spread_of_ef(150, 60, 6, 4) == pytest.approx(np.std(100 * (edv - esv) / edv), rel=0.03)


def test_groups():
    assert group_of("ef", {}, 40.0) == "EF up to 40%"
    assert group_of("ef", {}, 55.1) == "EF above 55%"
    assert group_of("vendor", {"vendor": "Siemens"}, None) == "Siemens"
    assert group_of("vendor", {}, None) is None
