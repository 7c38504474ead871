"""Bootstrap over subjects with several seeds."""

from __future__ import annotations

import numpy as np
import pytest

from cinema_lightning.benchmark.report.blocks import interval, number, p_value, tidy
from cinema_lightning.benchmark.report.estimate import PER_CASE, Estimator, Sample, align
from cinema_lightning.benchmark.report.fairness import averaged
from cinema_lightning.benchmark.report.published import PUBLISHED, published
from cinema_lightning.metrics import classification
from cinema_lightning.metrics.agreement import mae, rmse
from cinema_lightning.metrics.weighted import mean


def sample(values, subjects=None, keys=None) -> Sample:
    columns = values if isinstance(values, tuple) else (np.asarray(values, dtype=float),)
    n = len(columns[0])
    keys = np.array([f"c{i:03d}" for i in range(n)] if keys is None else keys)
    return Sample(keys, keys if subjects is None else np.asarray(subjects), columns)


@pytest.mark.parametrize("statistic", list(PER_CASE))
def test_the_short_way_is_the_long_way(statistic):
    """Draws by sums of subjects are those of the statistic itself."""
    rng = np.random.default_rng(0)
    if statistic in (mean, mae):
        columns = tuple(rng.normal(size=50) for _ in range(1 if statistic is mean else 2))
    else:
        scores = rng.dirichlet(np.ones(3), 50)
        columns = (scores, rng.integers(0, 3, 50))
    given = sample(columns, subjects=np.repeat([f"s{i:02d}" for i in range(25)], 2))

    def long(*values, weights=None):
        return statistic(*values, weights=weights)

    estimator = Estimator(draws=200)
    assert estimator.estimate(statistic, [given, given]) == estimator.estimate(long, [given, given])


def test_subjects_are_drawn_not_cases():
    """Copies of the same cases under the same subjects change no interval."""
    rng = np.random.default_rng(1)
    values = rng.normal(size=40)
    once = Estimator(500).estimate(mean, [sample(values)])
    names = [f"c{i:03d}" for i in range(40)]
    keys = [f"{name}{copy}" for copy in "ab" for name in names]
    twice = Estimator(500).estimate(mean, [sample(np.tile(values, 2), names * 2, keys)])
    assert (once.low, once.high) == (twice.low, twice.high)
    assert (twice.n_cases, twice.n_subjects) == (80, 40)


def test_seeds_average_within_a_draw():
    """Two seeds with opposite errors leave nothing to be uncertain of."""
    rng = np.random.default_rng(2)
    noise = rng.normal(size=60)
    found = Estimator(300).estimate(mean, [sample(1 + noise), sample(1 - noise)])
    assert found.value == found.low == found.high == 1
    assert found.sd_seeds > 0


def test_identical_arms_do_not_differ():
    rng = np.random.default_rng(3)
    given = sample(rng.normal(size=30))
    found = Estimator(200).difference(mean, [given, given], [given])
    assert (found.value, found.low, found.high, found.p) == (0, 0, 0, 1)


def test_differences_need_no_equal_order_or_cases():
    values = np.arange(30.0)
    order = np.random.default_rng(4).permutation(30)[:25]
    first, second = sample(values), sample(values - 2).take(order)
    found = Estimator(200).difference(mean, [first], [second])
    assert (found.value, found.low, found.high) == (2, 2, 2)
    assert (found.n_cases, found.n_left_out) == (25, 5)


def test_values_that_one_arm_lacks_are_left_out():
    first, second = np.arange(20.0), np.arange(20.0) + 1
    second[3] = np.nan
    found = Estimator(200).difference(mean, [sample(first)], [sample(second)])
    assert found.value == -1
    assert found.n_cases == 19


def test_nothing_in_common():
    first, second = sample([1.0, 2.0], keys=["a", "b"]), sample([1.0, 2.0], keys=["c", "d"])
    found = Estimator(100).difference(mean, [first], [second])
    assert np.isnan(found.value)
    assert np.isnan(found.p)
    assert (found.n_cases, found.n_left_out) == (0, 4)


def test_a_small_p_takes_more_draws():
    rng = np.random.default_rng(5)
    true = rng.normal(size=80)
    good = sample((true + rng.normal(0, 0.1, 80), true))
    bad = sample((true + rng.normal(0, 2, 80), true))
    found = Estimator(200).difference(rmse, [good], [bad])
    assert found.test == "bootstrap"
    assert found.p == pytest.approx(2 / 2001, rel=1e-3)


def test_unknown_classes_are_no_cases():
    scores = np.eye(2)[[0, 1, 1, 0]]
    found = Estimator(100).estimate(classification.accuracy, [sample((scores, np.array([0, 1, -1, 1])))])
    assert found.value == pytest.approx(2 / 3, rel=1e-5)
    assert found.n_missing == 1


def test_coverage_of_the_difference():
    """The 95% interval holds the true difference about 19 times in 20."""
    hits = 0
    for trial in range(100):
        rng = np.random.default_rng(trial)
        base = rng.normal(size=60)
        arms = [[sample(base + shift + rng.normal(0, 0.5, 60)) for _ in range(2)] for shift in (0.3, 0.0)]
        found = Estimator(200, seed=trial).difference(mean, *arms)
        hits += found.low <= 0.3 <= found.high
    assert 88 <= hits <= 100


def test_align_orders_all_alike():
    first, second = sample([1.0, np.nan, 3.0], keys=["a", "b", "c"]), sample([30.0, 20.0, 10.0], keys=["c", "b", "a"])
    one, two = align([first, second])
    assert one.keys.tolist() == two.keys.tolist() == ["a", "c"]
    assert two.columns[0].tolist() == [10.0, 30.0]


def test_averaged_statistic_of_seeds():
    rng = np.random.default_rng(6)
    parts = [sample((rng.dirichlet(np.ones(3), 40), rng.integers(0, 3, 40))) for _ in range(2)]
    statistic, columns, _ = averaged(classification.mcc, parts)
    expected = np.mean([classification.mcc(*part.columns) for part in parts])
    assert statistic(*columns) == pytest.approx(expected)
    weights = rng.integers(0, 3, (5, 40))
    assert statistic(*columns, weights=weights).shape == (5,)


def test_how_numbers_are_written():
    assert number(-0.0004) == "0.000"
    assert number(-1.5, "mm") == "\N{MINUS SIGN}1.50"
    assert number(1.5, "mm", sign=True) == "+1.50"
    assert number(float("nan")) == "–"
    assert interval(0.5, float("nan"), float("nan")) == "0.500"
    assert interval(0.5, 0.4, 0.6) == "0.500 [0.400, 0.600]"
    assert [p_value(p) for p in (0.0004, 0.0304, float("nan"))] == ["<0.001", "0.030", "–"]
    assert tidy(1 / 3) == 0.333333


def test_published_figures():
    assert len(PUBLISHED) == 6
    own, unseen = (published("lv_ef_mae", "segmentation", *pair) for pair in (("acdc", "acdc"), ("kaggle", "acdc")))
    assert own is not None
    assert unseen is not None
    assert (own.ours[0], unseen.ours[0]) == (3.33, 4.83)
    assert published("lv_ef_variation", "segmentation", "rescan", "rescan") is not None
    assert published("mean_dice", "segmentation", "acdc", "acdc") is None
    assert published("lv_ef_mae", "regression", "acdc", "acdc") is None
