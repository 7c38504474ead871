"""Agreement statistics against numpy, scipy and a plain analysis of variance."""

import json

import numpy as np
import pytest
from scipy import stats

from cinema_lightning.metrics import agreement as ag


@pytest.fixture
def pair():
    rng = np.random.default_rng(1)
    true = rng.normal(55, 10, 40)
    return true + rng.normal(2, 4, 40), true


def test_coefficient_of_variation_golden(golden):
    facts = json.loads((golden / "misc/scalars.json").read_text())["cv"]
    assert ag.coefficient_of_variation(facts["x"], facts["y"]) == pytest.approx(facts["value"], abs=1e-9)


NAMES = {"sd": "difference_sd", "ccc": "concordance_correlation", "icc": "intraclass_correlation"}


def agreement(predicted, true):
    low, high = ag.limits_of_agreement(predicted, true)
    names = ("mae", "rmse", "bias", "sd", "pearson", "ccc", "icc")
    return {"loa_low": low, "loa_high": high} | {n: getattr(ag, NAMES.get(n, n))(predicted, true) for n in names}


def test_plain_definitions(pair):
    predicted, true = pair
    found = agreement(np.r_[predicted, np.nan, 5.0], np.r_[true, 3.0, np.nan])
    error = predicted - true
    low = error.mean() - 1.96 * error.std(ddof=1)
    expected = {
        "mae": np.abs(error).mean(),
        "rmse": np.sqrt((error**2).mean()),
        "bias": error.mean(),
        "sd": error.std(ddof=1),
        "loa_low": low,
        "loa_high": 2 * error.mean() - low,
        "pearson": stats.pearsonr(predicted, true).statistic,
    }
    for name, value in expected.items():
        assert found[name] == pytest.approx(value), name
    covariance = np.cov(predicted, true, bias=True)
    ccc = 2 * covariance[0, 1] / (np.trace(covariance) + error.mean() ** 2)
    assert found["ccc"] == pytest.approx(ccc)


def test_icc_from_the_table_of_variance(pair):
    table = np.stack(pair, axis=1)
    n, k = table.shape
    grand = table.mean()
    rows = k * ((table.mean(axis=1) - grand) ** 2).sum() / (n - 1)
    columns = n * ((table.mean(axis=0) - grand) ** 2).sum() / (k - 1)
    rest = table - table.mean(axis=1, keepdims=True) - table.mean(axis=0) + grand
    error = (rest**2).sum() / ((n - 1) * (k - 1))
    expected = (rows - error) / (rows + (k - 1) * error + k * (columns - error) / n)
    assert ag.intraclass_correlation(*pair) == pytest.approx(expected)


def test_weights_are_repeats(pair):
    rng = np.random.default_rng(0)
    weights = rng.integers(0, 4, size=(3, 40))
    names = ("mae", "rmse", "bias", "difference_sd", "coefficient_of_variation", "pearson")
    for name in (*names, "concordance_correlation", "intraclass_correlation"):
        statistic = getattr(ag, name)
        repeated = [statistic(*(np.repeat(values, row) for values in pair)) for row in weights]
        np.testing.assert_allclose(statistic(*pair, weights=weights), repeated, err_msg=name)


def test_too_few_cases_are_nan():
    assert all(np.isnan(value) for value in agreement([], []).values())
    one = agreement([50.0], [48.0])
    assert one["mae"] == 2
    assert np.isnan([one["sd"], one["pearson"], one["icc"]]).all()
