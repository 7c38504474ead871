"""Intervals, differences, gaps and ranks: each measured fault in small, and the promises of one figure.

Rates are of a few hundred simulated data sets with a fixed seed; benchmarks/statistics.py has them in full.
"""

import numpy as np
import pytest
from scipy import stats

from cinema_lightning.errors import CinemaError
from cinema_lightning.metrics import estimates as es
from cinema_lightning.metrics import inference as inf
from cinema_lightning.metrics.agreement import limits_of_agreement, lower_limit, mae, rmse, upper_limit
from cinema_lightning.metrics.classification import accuracy, auroc
from cinema_lightning.metrics.influence import contributions
from cinema_lightning.metrics.ranks import hodges_lehmann
from cinema_lightning.metrics.samples import align, sample_of
from cinema_lightning.metrics.survival import concordance
from cinema_lightning.metrics.weighted import deviation, mean, median

REPEATS = 300
ERROR = 2.6
"""Twice the standard error of a rate of 5% in so many repeats, in percent."""


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def rate(hits) -> float:
    return 100 * float(np.mean(hits))


# ---------------------------------------------------------------------- faults that were measured
def test_a_gain_in_few_cases_is_no_finding_of_all(rng):
    """Better in 4 of 60 cases by much: the signed-rank test of the others' noise said p < 0.001 in favour."""
    found = []
    for _ in range(100):
        base = rng.normal(0.8, 0.05, 60)
        ours = base + np.r_[rng.normal(0.4, 0.05, 4), rng.normal(-0.002, 0.0005, 56)]
        found.append(inf.difference(ours, base))
    assert all(one.value > 0 > one.shift for one in found)
    assert rate([one.p < 0.01 for one in found]) < 5
    assert all((one.p < 0.05) == (one.low > 0 or one.high < 0) for one in found), "one estimand for interval and p"
    assert max(one.shift_p for one in found) < 0.001, "which is Wilcoxon's, of the shift beside"


@pytest.mark.parametrize("share", [1 / 30, 1 / 15])
def test_methods_that_differ_in_few_cases_by_chance(rng, share):
    """The same in most cases, else better or worse as often: few differences that all point one way look skewed."""
    found = []
    for _ in range(REPEATS):
        gap = rng.choice([-0.36, 0.36], 60) * (rng.random(60) < share)
        found.append(inf.difference(gap, np.zeros(60)))
    assert rate([one.p < 0.05 for one in found]) < 7 + ERROR
    assert all((one.p < 0.05) == (one.low > 0 or one.high < 0) for one in found)


def test_four_cases_of_sixty():
    found = inf.difference(np.r_[np.full(4, 0.36), np.zeros(56)], np.zeros(60))
    student = stats.ttest_1samp(np.r_[np.full(4, 0.36), np.zeros(56)], 0)
    assert found.value == pytest.approx(0.024)
    assert found.p == pytest.approx(student.pvalue, rel=1e-6), "no surer than Student's test, which says 0.045"
    assert found.low == pytest.approx(student.confidence_interval().low)
    assert found.high > student.confidence_interval().high, "the mean may be much larger: rare and large gains"


def test_skewed_differences_of_mean_0(rng):
    draws = [inf.difference(rng.gamma(2, 1, 50) - 2, np.zeros(50)) for _ in range(REPEATS)]
    assert 3 - ERROR < rate([one.p < 0.05 for one in draws]) < 7 + ERROR
    wilcoxon = rate([one.shift_p < 0.05 for one in draws])
    assert wilcoxon > 10, "the shift is not 0 where the mean is"


@pytest.mark.parametrize("seeds", [3, 5])
def test_seeds_are_no_finding(rng, seeds):
    """Two identical methods whose trainings differ by 0.008 Dice."""
    p, covered = [], []
    for _ in range(REPEATS):
        hard = rng.normal(0.85, 0.05, 100)
        rows = hard + rng.normal(0, 0.008, (2, seeds, 1)) + rng.normal(0, 0.005, (2, seeds, 100))
        found = inf.difference(rows[0], rows[1])
        p.append(found.p)
        figure = inf.interval(rows[0])
        covered.append(figure.low <= 0.85 <= figure.high)
        assert not found.one_training
    assert rate(np.array(p) < 0.05) < 7 + ERROR
    assert 93 - ERROR < rate(covered) < 97 + ERROR


def test_one_training_says_so(rng):
    found = inf.difference(rng.normal(size=(1, 40)), rng.normal(size=(3, 40)))
    assert found.one_training
    assert found.n_seeds == 1


@pytest.mark.parametrize(
    ("sizes", "spreads"), [((30,) * 5, (1,) * 5), ((15, 60, 125), (3, 1, 1)), ((40,) * 4, (1, 2, 3, 4))]
)
def test_the_largest_gap_of_equal_groups(rng, sizes, spreads):
    hits, excluded = [], []
    for _ in range(100):  # the studentised range takes its time
        groups = {str(place): rng.normal(0, s, n) for place, (n, s) in enumerate(zip(sizes, spreads, strict=True))}
        gap = inf.largest_gap(groups).gap
        hits.append(gap.p < 0.05)
        excluded.append(gap.low > 0)
    assert rate(hits) < 12
    assert rate(excluded) < 12


def test_a_real_gap_is_found(rng):
    found = inf.largest_gap({"F": rng.normal(0.87, 0.03, 60), "M": rng.normal(0.9, 0.03, 90), "few": np.zeros(9)})
    assert found.between == ("M", "F")
    assert found.n_groups == 2, "nine subjects are too few to be compared"
    assert 0 < found.gap.low < found.gap.value < found.gap.high
    assert found.gap.p < 0.01
    assert inf.largest_gap({"F": np.zeros(60), "few": np.ones(9)}) is None
    welch = stats.ttest_ind([1.0, 2, 3, 5, 8, 9, 1, 4, 4, 2], np.arange(20.0), equal_var=False)
    two = inf.largest_gap({"a": [1.0, 2, 3, 5, 8, 9, 1, 4, 4, 2], "b": np.arange(20.0)}).gap
    assert two.p == pytest.approx(welch.pvalue, rel=0.05), "of two groups it is Welch's test"


def test_gaps_of_several_seeds_share_the_trainings(rng):
    offsets = rng.normal(0, 5, (3, 1))
    groups = {name: rng.normal(0, 1, 40) + rng.normal(0, 0.1, (3, 40)) + offsets for name in "ab"}
    assert inf.largest_gap(groups).gap.se < 0.5, "what moves both groups is no gap"


def test_a_failure_counts_as_the_worst(rng):
    """HD95 of a method that finds nothing in 12 of 50 cases, and is a little better in the others."""
    hard = rng.gamma(2, 3, 50)
    theirs, ours = hard + 0.5, hard.copy()
    ours[:12] = np.nan
    assert np.nanmean(ours) < theirs[12:].mean(), "what is left looks better"
    found = inf.compare_ranks(ours, theirs, higher_is_better=False)
    assert found.failed == (0.24, 0.0)
    assert found.better.value < 0
    # Of each method's values, how often is ours less, how often more; a failure is more than all.
    a, b = np.where(np.isnan(ours), np.inf, ours)[:, None], theirs
    assert found.better.value == pytest.approx(np.mean((a < b) * 1.0 - (a > b)))
    share = inf.failures(ours)
    assert (share.value, share.n_subjects) == (0.24, 50)
    assert share.low == pytest.approx(0.14, abs=0.01)
    swapped = inf.compare_ranks(-theirs, -ours, higher_is_better=True)
    assert swapped.better.value == pytest.approx(-found.better.value)


def test_ranks_of_methods_that_fail_alike(rng):
    p = []
    for _ in range(REPEATS):
        rows = rng.gamma(2, 1, 50) + rng.gamma(2, 1, (2, 50))
        rows[rng.random(rows.shape) < 0.15] = np.nan
        p.append(inf.compare_ranks(rows[0], rows[1], higher_is_better=False).better.p)
    assert 3 - ERROR < rate(np.array(p) < 0.05) < 7 + ERROR


@pytest.mark.parametrize("n", [10, 20, 50])
def test_small_samples_are_covered(rng, n):
    """Means of skewed values, and limits of agreement."""
    means, limits, truth = [], [], 2.0
    for _ in range(REPEATS):
        found = inf.interval(rng.gamma(2, 1, n))
        means.append(found.low <= truth <= found.high)
        upper = es.figure(upper_limit, rng.normal(0, 1, n), np.zeros(n))
        limits.append(upper.low <= 1.96 <= upper.high)
    assert 92 - ERROR < rate(means) < 97 + ERROR
    assert 92 - ERROR < rate(limits) < 97 + ERROR


def test_few_subjects_have_no_interval(rng):
    nine, ten, twenty = (inf.interval(rng.normal(size=n)) for n in (9, 10, 20))
    assert np.isfinite(nine.value)
    assert np.isnan([nine.low, nine.high]).all()
    assert np.isnan(inf.difference(np.arange(9.0), np.zeros(9)).p)
    assert np.isfinite([ten.low, twenty.low]).all()
    assert [one.few for one in (nine, ten, twenty)] == [True, True, False]


# ---------------------------------------------------------------------- what the numbers are
def test_symmetric_values_give_students_interval(rng):
    values = np.r_[rng.normal(10, 2, 200)]
    values = np.r_[values, 20 - values]
    found = inf.interval(values)
    expected = stats.t.interval(0.95, 399, values.mean(), stats.sem(values))
    np.testing.assert_allclose([found.low, found.high], expected)
    test = inf.difference(values, np.full(400, 9.9))
    assert test.p == pytest.approx(stats.ttest_1samp(values - 9.9, 0).pvalue)


def test_shares_have_wilsons_interval():
    found = inf.interval(np.repeat([0.0, 1.0], [3, 47]), inf.SHARE)
    expected = stats.binomtest(47, 50).proportion_ci(method="wilson")
    assert (found.low, found.high) == (pytest.approx(expected.low, abs=0.01), pytest.approx(expected.high, abs=0.01))
    everything = inf.interval(np.ones(50), inf.SHARE)
    assert everything.high == 1
    assert everything.low == pytest.approx(0.93, abs=0.005), "fifty of fifty is not certainty"
    none = inf.difference(np.ones(50), np.ones(50), inf.SHARE)
    assert none.low < 0 < none.high
    assert none.p == 1


def test_crossed_variance_is_that_of_a_balanced_table(rng):
    table = rng.normal(0, 1, 60) + rng.normal(0, 2, (4, 1)) + rng.normal(0, 0.5, (4, 60))
    rows, columns = table.mean(axis=1), table.mean(axis=0)
    residual = table - rows[:, None] - columns + table.mean()
    noise = (residual**2).sum() / (3 * 59)
    expected = rows.var(ddof=1) / 4 + columns.var(ddof=1) / 60 - noise / 240
    found = inf.interval(table)
    assert found.se == pytest.approx(expected**0.5)
    assert found.df < 6, "four trainings"
    assert found.sd_seeds == pytest.approx(rows.std(ddof=1))


def test_hodges_lehmann_is_the_median_of_pairs(rng):
    gap = rng.normal(0.3, 1, 25)
    shift, p = hodges_lehmann(gap)
    assert shift == pytest.approx(np.median([(gap[i] + gap[j]) / 2 for i in range(25) for j in range(i, 25)]))
    assert p == pytest.approx(stats.wilcoxon(gap).pvalue)
    assert hodges_lehmann([0.0, 0.0]) == (0.0, 1.0)


def test_holm():
    np.testing.assert_allclose(inf.holm([0.01, 0.04, 0.03, np.nan, 0.005]), [0.03, 0.06, 0.06, np.nan, 0.02])
    np.testing.assert_allclose(inf.holm([0.9, 0.8]), [1, 1])
    assert inf.holm([]).shape == (0,)


# ---------------------------------------------------------------------- from cases to subjects
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


def test_copies_of_a_subject_say_nothing_more(rng):
    person = rng.normal(0, 1, 30)
    values, subjects = np.repeat(person, 10), np.repeat([f"p{number}" for number in range(30)], 10)
    grouped, single = es.figure(mean, values, subjects=subjects), es.figure(mean, person)
    assert (grouped.low, grouped.high) == (pytest.approx(single.low), pytest.approx(single.high))
    assert grouped.n_subjects == 30
    spread = es.figure(rmse, values, np.zeros(300), subjects=subjects)
    assert spread.se == pytest.approx(es.figure(rmse, person, np.zeros(30)).se)


@pytest.mark.parametrize("statistic", [auroc, accuracy])
def test_contributions_average_to_the_figure(rng, statistic):
    true = rng.integers(0, 2, 80)
    chance = 1 / (1 + np.exp(-rng.normal(size=80) - true))
    sample = sample_of(np.stack([1 - chance, chance], axis=1), true, subjects=np.arange(80) // 2)
    found = contributions(statistic, sample)
    assert found.values.shape == (40,)
    assert found.values.mean() == pytest.approx(float(statistic(*sample.columns)))


def test_auroc_has_delongs_error(rng):
    true = np.repeat([0, 1], [120, 60])
    score = rng.normal(size=180) + true
    scores = np.stack([-score, score], axis=1)
    wins = (score[true == 1][:, None] > score[true == 0]) * 1.0
    delong = wins.mean(axis=1).var(ddof=1) / 60 + wins.mean(axis=0).var(ddof=1) / 120
    assert es.figure(auroc, scores, true).se == pytest.approx(delong**0.5, rel=0.02)


def test_many_subjects_are_left_out_in_groups(rng):
    risk = rng.normal(size=900)
    time, event = rng.exponential(np.exp(-risk)), (rng.random(900) < 0.6) * 1.0
    slopes = es.figure(concordance, risk, time, event).se

    def plain(*columns, weights=None):
        return concordance(*columns, weights=weights)

    assert es.figure(plain, risk, time, event).se == pytest.approx(slopes, rel=0.15)


def test_missing_and_failed_cases(rng):
    values = np.r_[rng.standard_normal(40), np.nan, np.inf]
    assert es.figure(mean, values).n_subjects == 40
    failed = np.arange(42) >= 40
    sample = sample_of(np.nan_to_num(values), failed=failed)
    assert es.estimate(mean, [sample]).value == pytest.approx(values[:40].mean())
    assert es.share_failed([sample]).value == pytest.approx(2 / 42)
    assert es.compare_failing(mean, [sample], [sample], higher_is_better=True).failed == (2 / 42, 2 / 42)
    assert es.compare_failing(auroc, [sample], [sample], higher_is_better=True) is None
    nothing = es.figure(mean, np.array([np.nan]))
    assert np.isnan([nothing.value, nothing.low]).all()
    with pytest.raises(CinemaError, match="subjects' names"):
        es.figure(mae, [1.0, 2.0], [1.0, 3.0], subjects=["a"])


def test_differences_are_on_the_cases_that_both_have(rng):
    base = rng.normal(size=30)
    first = sample_of(np.r_[base + 1, np.nan], subjects=np.arange(31) // 1)
    second = sample_of(np.r_[base, 100.0])
    found = es.compare(mean, [first], [second])
    assert found.value == pytest.approx(1)
    assert found.n_subjects == 30
    assert [len(one.keys) for one in align([first, second])] == [30, 30]


def test_limits_of_agreement_are_the_statistics(rng):
    predicted, true = rng.normal(size=40), rng.normal(size=40)
    lower, upper = (es.figure(one, predicted, true) for one in (lower_limit, upper_limit))
    assert (lower.value, upper.value) == pytest.approx(limits_of_agreement(predicted, true))
    assert lower.low < lower.value < lower.high < upper.low < upper.value < upper.high


def test_figures_by_group(rng):
    sex = np.repeat(["F", "M"], [60, 90])
    dice = rng.normal(0.9, 0.03, 150) - 0.04 * (sex == "F")
    found = es.by_group(mean, [sample_of(dice)], {name: sex == name for name in ("F", "M")})
    assert found.figures["F"].value == pytest.approx(dice[sex == "F"].mean())
    assert found.largest.between == ("M", "F")
    true = np.tile([0, 1], 75)
    score = rng.normal(size=150) + true
    probabilities = np.stack([-score, score], axis=1)
    one = es.by_group(
        auroc, [sample_of(probabilities, np.where(sex == "F", 1, true))], {"F": sex == "F", "M": sex == "M"}
    )
    assert np.isnan(one.figures["F"].value), "one class only"
    assert one.largest is None
