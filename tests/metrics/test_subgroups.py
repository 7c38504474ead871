"""Figures by group, gaps and warnings."""

import numpy as np
import pandas as pd
import pytest

from cinema_lightning.columns import look_up
from cinema_lightning.errors import CinemaError
from cinema_lightning.metrics.agreement import mae
from cinema_lightning.metrics.bootstrap import bootstrap
from cinema_lightning.metrics.classification import auroc
from cinema_lightning.metrics.subgroups import band, subgroups
from cinema_lightning.metrics.weighted import mean


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def by_group(values, groups, **options):
    return subgroups(mean, np.asarray(values), groups=groups, **options)


def test_bands():
    assert band([44.9, 45, 54.9, 75, np.nan], look_up("age").bands).tolist() == ["<45", "45-55", "45-55", ">=75", ""]
    assert band([18.4, 18.5, 30], look_up("bmi").bands).tolist() == ["<18.5", "18.5-25", ">=30"]
    assert band([1.0, 2.0], [2.0]).tolist() == ["<2", ">=2"]


def test_a_real_gap_is_found(rng):
    sex = np.repeat(["F", "M"], [60, 90])
    dice = rng.normal(0.9, 0.03, 150) - 0.03 * (sex == "F")
    found = by_group(dice, sex)
    assert list(found.groups) == ["F", "M"]
    assert found.groups["F"].value == pytest.approx(dice[sex == "F"].mean())
    assert found.gap_between == ("M", "F")
    assert found.gap.value == pytest.approx(dice[sex == "M"].mean() - dice[sex == "F"].mean())
    assert 0 < found.gap.low < found.gap.value < found.gap.high
    assert found.p < 0.01
    assert found.warnings == ()
    rows = pd.DataFrame(found.rows())
    assert rows["group"].tolist() == ["F", "M", "M - F"]
    assert rows["n"].tolist() == [60, 90, 150]


def test_permutation_p_is_uniform_without_a_difference(rng):
    p = []
    for seed in range(150):
        vendor = rng.permutation(np.repeat(["A", "B", "C", "D"], 15))
        p.append(by_group(rng.normal(0, 1, 60), vendor, draws=200, seed=seed).p)
    assert 0.01 <= np.mean(np.array(p) < 0.05) <= 0.1
    assert np.mean(p) == pytest.approx(0.5, abs=0.08)


def test_cases_of_a_subject_stay_together_in_the_permutation(rng):
    person = rng.normal(0, 1, 12)
    values = np.repeat(person, 20)
    subjects, groups = np.repeat(np.arange(12), 20), np.repeat(np.repeat(["A", "B"], 6), 20)
    # 240 cases, but only 12 persons: chance differences between their means are no finding.
    assert by_group(values, groups, subjects=subjects).p > 0.05 or abs(person[:6].mean() - person[6:].mean()) > 1
    single = by_group(person, np.repeat(["A", "B"], 6), seed=0)
    assert by_group(values, groups, subjects=subjects).p == pytest.approx(single.p, abs=0.04)


def test_unknown_small_and_undefined_groups(rng):
    groups = np.array(["A"] * 30 + ["B"] * 5 + [None, np.nan, ""] + ["C"] * 2, dtype=object)
    values = rng.normal(0, 1, 40)
    values[-2:] = np.nan
    found = by_group(values, groups)
    assert found.n_unknown == 3
    assert found.groups["A"].n == 30
    assert len(found.warnings) == 2
    assert "'B' has only 5 subjects" in found.warnings[0]
    assert "'C' has no case" in found.warnings[1]
    assert found.gap_between is not None
    assert "C" not in found.gap_between
    only = by_group(values, np.repeat("A", 40))
    assert only.gap is None
    assert np.isnan(only.p)
    assert len(only.rows()) == 1


def test_any_statistic_by_group(rng):
    centre = np.repeat([1, 2, 10], 40)
    true = rng.normal(55, 10, 120)
    predicted = true + rng.normal(0, 2 + 3 * (centre == 2), 120)
    found = subgroups(mae, predicted, true, groups=centre)
    assert list(found.groups) == ["1", "2", "10"]
    assert found.gap_between[0] == "2"
    assert found.groups["2"].value == pytest.approx(mae(predicted[centre == 2], true[centre == 2]))
    labels = rng.integers(0, 2, 120)
    scores = np.clip(labels * 0.3 + rng.random(120) * 0.7, 0, 1)
    by_auc = subgroups(auroc, np.stack([1 - scores, scores], axis=1), labels, groups=centre, draws=300)
    alone = bootstrap(auroc, np.stack([1 - scores, scores], axis=1)[centre == 1], labels[centre == 1])
    assert by_auc.groups["1"].value == pytest.approx(alone.value)


def test_groups_of_another_length():
    with pytest.raises(CinemaError, match="groups' names"):
        by_group([1.0, 2.0], ["A"])
