"""Bootstrap over subjects, comparisons, Holm."""

import numpy as np
import pytest
from scipy import stats

from cinema_lightning.errors import CinemaError
from cinema_lightning.metrics import bootstrap as bs
from cinema_lightning.metrics.agreement import mae, rmse
from cinema_lightning.metrics.weighted import deviation, mean, median


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.mark.parametrize(
    ("statistic", "plain"),
    [(mean, np.mean), (median, np.median), (deviation, lambda values: np.std(values, ddof=1))],
)
def test_statistics_of_weighted_cases_are_those_of_repeats(rng, statistic, plain):
    values = np.r_[rng.standard_normal(11).round(1), np.nan]
    weights = rng.integers(0, 3, size=(50, 12))
    repeated = [plain(np.repeat(values[:11], row[:11])) for row in weights]
    np.testing.assert_allclose(statistic(values, weights=weights), repeated)
    assert statistic(values) == pytest.approx(plain(values[:11]))


def test_interval_of_a_mean_is_near_the_normal_one(rng):
    values = rng.normal(10, 2, 400)
    found = bs.bootstrap(mean, values)
    half = 1.96 * values.std() / 20
    assert found.value == pytest.approx(values.mean())
    np.testing.assert_allclose([found.low, found.high], [found.value - half, found.value + half], atol=0.04)
    assert (found.n, found.n_subjects, found.n_missing, found.n_draws) == (400, 400, 0, bs.DRAWS)


def test_intervals_cover_the_truth(rng):
    hits = 0
    for trial in range(200):
        found = bs.bootstrap(mean, rng.exponential(1.0, 40), draws=400, seed=trial)
        hits += found.low <= 1 <= found.high
    assert 0.86 <= hits / 200 <= 0.98


def test_subjects_are_drawn_whole(rng):
    person = rng.normal(0, 1, 30)
    values, subjects = np.repeat(person, 10), np.repeat([f"p{number}" for number in range(30)], 10)
    grouped, single = bs.bootstrap(mean, values, subjects=subjects), bs.bootstrap(mean, person)
    # Ten copies of a person say nothing more than one; as separate cases they would seem to.
    assert grouped.high - grouped.low == pytest.approx(single.high - single.low, rel=0.1)
    naive = bs.bootstrap(mean, values)
    assert naive.high - naive.low < 0.5 * (single.high - single.low)
    assert (grouped.n, grouped.n_subjects) == (300, 30)


def test_cases_of_a_subject_come_together():
    subjects = ["b", "a", "a", "c", "c", "c", "d", "c", "d", "b"]
    values = np.array([2.0, 1, -1, 3, -1, -1, 5, -1, -5, -2])  # each subject's add to 0
    np.testing.assert_allclose(bs.bootstrap_draws(mean, values, subjects=subjects), 0, atol=1e-12)
    assert bs.bootstrap_draws(mean, values).std() > 0.1


def test_seed_and_block_size(rng, monkeypatch):
    values, subjects = rng.standard_normal(37), np.arange(37) // 2
    draws = bs.bootstrap_draws(mean, values, subjects=subjects, seed=4)
    assert np.array_equal(draws, bs.bootstrap_draws(mean, values, subjects=subjects, seed=4))
    assert not np.array_equal(draws, bs.bootstrap_draws(mean, values, subjects=subjects, seed=5))
    monkeypatch.setattr(bs, "BLOCK", 300)
    np.testing.assert_allclose(draws, bs.bootstrap_draws(mean, values, subjects=subjects, seed=4), rtol=1e-12)


def test_missing_values_are_counted(rng):
    values = np.r_[rng.standard_normal(20), np.nan, np.inf]
    found = bs.bootstrap(mean, values)
    assert (found.n, found.n_missing) == (20, 2)
    assert np.isfinite([found.value, found.low, found.high]).all()
    row = bs.summarise(values, subjects=np.arange(22) // 2)
    assert (row["n"], row["n_subjects"], row["n_missing"]) == (20, 10, 2)
    assert row["sd"] == pytest.approx(values[:20].std(ddof=1))
    for empty in ([np.nan, np.nan], []):
        nothing = bs.bootstrap(mean, np.array(empty))
        assert nothing.n == 0
        assert np.isnan([nothing.value, nothing.low, nothing.high]).all()
    one = bs.bootstrap(mean, [3.0, 4.0], subjects=["a", "a"])
    assert one.value == 3.5
    assert np.isnan(one.low)


def test_columns_of_different_length():
    with pytest.raises(CinemaError, match="differ in length"):
        bs.bootstrap(mae, [1.0, 2.0], [1.0])
    with pytest.raises(CinemaError, match="subjects' names"):
        bs.bootstrap(mean, [1.0, 2.0], subjects=["a"])


def test_comparison_of_per_case_values(rng):
    base = rng.normal(0.85, 0.05, 60)
    better, same = base + 0.01 + rng.normal(0, 0.01, 60), base + rng.normal(0, 0.01, 60)
    found = bs.compare(better, base)
    assert found.difference.low > 0
    assert found.p_bootstrap < 0.01
    assert found.p_wilcoxon == pytest.approx(stats.wilcoxon(better - base).pvalue)
    assert bs.compare(same, base).p_bootstrap > 0.05
    # Pairing removes what the cases share: the interval is far narrower than that of either mean.
    alone = bs.bootstrap(mean, base)
    assert found.difference.high - found.difference.low < 0.5 * (alone.high - alone.low)


def test_comparison_by_subject_and_with_missing(rng):
    a, b = rng.normal(1, 1, 20), rng.normal(0, 1, 20)
    a[3] = np.nan
    found = bs.compare(a, b, subjects=np.arange(20) // 2)
    means = [np.nanmean((a - b)[place : place + 2]) for place in range(0, 20, 2)]
    assert found.p_wilcoxon == pytest.approx(stats.wilcoxon(means).pvalue)
    assert (found.difference.n, found.difference.n_missing, found.difference.n_subjects) == (19, 1, 10)
    equal = bs.compare(b, b)
    assert (equal.difference.value, equal.p_bootstrap, equal.p_wilcoxon) == (0, 1, 1)


def test_comparison_of_statistics_with_columns(rng):
    true = rng.normal(55, 10, 50)
    a, b = true + rng.normal(0, 2, 50), true + rng.normal(0, 6, 50)
    found = bs.compare((a, true), (b, true), rmse)
    assert found.difference.value == pytest.approx(rmse(a, true) - rmse(b, true))
    assert found.difference.high < 0
    assert np.isnan(found.p_wilcoxon)


def test_p_values_are_uniform_without_a_difference(rng):
    p = [bs.compare(rng.normal(0, 1, 30), rng.normal(0, 1, 30), draws=300, seed=seed) for seed in range(200)]
    assert 0.01 <= np.mean([one.p_bootstrap < 0.05 for one in p]) <= 0.12


def test_holm():
    np.testing.assert_allclose(bs.holm([0.01, 0.04, 0.03, np.nan, 0.005]), [0.03, 0.06, 0.06, np.nan, 0.02])
    np.testing.assert_allclose(bs.holm([0.9, 0.8]), [1, 1])
    assert bs.holm([]).shape == (0,)
