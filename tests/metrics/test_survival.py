"""Survival figures against lifelines and plain loops over the definitions."""

import numpy as np
import pandas as pd
import pytest
from lifelines import CoxPHFitter, KaplanMeierFitter
from lifelines.statistics import logrank_test
from lifelines.utils import concordance_index

from cinema_lightning.errors import CinemaError
from cinema_lightning.metrics import censoring as ce
from cinema_lightning.metrics import cox
from cinema_lightning.metrics import survival as su
from cinema_lightning.metrics.estimates import compare, figure
from cinema_lightning.metrics.samples import sample_of


def cohort(n=120, seed=0, ties=True):
    rng = np.random.default_rng(seed)
    risk = rng.standard_normal(n)
    death, leave = rng.exponential(np.exp(-risk) * 10), rng.exponential(12, n)
    time = np.minimum(death, leave)
    time = np.ceil(time) if ties else time
    noisy = risk + rng.normal(0, 0.5, n)
    return (noisy.round(1) if ties else noisy), time, (death <= leave).astype(int)


@pytest.mark.parametrize("ties", [True, False])
def test_concordance_is_lifelines(ties):
    for seed in range(5):
        risk, time, event = cohort(seed=seed, ties=ties)
        assert su.concordance(risk, time, event) == pytest.approx(concordance_index(time, -risk, event))


def test_concordance_of_weights_is_that_of_repeats(monkeypatch):
    risk, time, event = cohort(25)
    weights = np.random.default_rng(1).integers(0, 3, size=(15, 25))
    repeated = [su.concordance(*(np.repeat(values, row) for values in (risk, time, event))) for row in weights]
    np.testing.assert_allclose(su.concordance(risk, time, event, weights=weights), repeated)
    monkeypatch.setattr(su, "BLOCK", 60)
    np.testing.assert_allclose(su.concordance(risk, time, event, weights=weights), repeated)


def test_concordance_interval_and_edge_cases():
    found = figure(su.concordance, *cohort())
    assert 0.5 < found.low < found.value < found.high < 1
    assert np.isnan(su.concordance([1.0, 2.0], [1.0, 2.0], [0, 0]))
    assert su.concordance([2.0, 1.0, np.nan], [1.0, 2.0, 3.0], [1, 0, 1]) == 1
    assert su.concordance([1.0, 1.0], [1.0, 2.0], [1, 0]) == 0.5


def test_risk_groups():
    risk = np.r_[np.arange(9.0), np.nan]
    groups, cuts = su.risk_groups(risk, 3)
    assert groups.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2, -1]
    assert su.risk_groups([100.0, -1.0], cuts=cuts)[0].tolist() == [2, 0]
    with pytest.raises(CinemaError, match="No case has a risk"):
        su.risk_groups([np.nan])


def test_kaplan_meier_and_log_rank():
    risk, time, event = cohort()
    groups, _ = su.risk_groups(risk)
    curves = su.kaplan_meier(time, event, groups)
    assert list(curves) == [0, 1]
    high = groups == 1
    fit = KaplanMeierFitter().fit(time[high], event[high])
    assert np.array_equal(curves[1].survival, fit.survival_function_at_times(curves[1].time))
    assert (curves[1].n, curves[1].events, curves[1].at_risk[0]) == (high.sum(), event[high].sum(), high.sum())
    assert ((curves[1].low <= curves[1].survival) & (curves[1].survival <= curves[1].high))[1:-1].all()
    expected = logrank_test(time[high], time[~high], event[high], event[~high]).p_value
    assert su.log_rank(time, event, groups) == pytest.approx(expected)
    assert np.isnan(su.log_rank(time, event, np.zeros(len(time))))


def censoring_law(time, event, t, before):
    """G as a product over the censoring times up to t."""
    out = 1.0
    for step in np.unique(time):
        if step < t or (step == t and not before):
            at_risk = (time >= step).sum() - ((time == step) & (event == 1)).sum()
            out *= 1 - ((time == step) & (event == 0)).sum() / at_risk if at_risk else 1
    return out


@pytest.mark.parametrize("horizon", [3.0, 6.5, 10.0])
def test_auc_and_brier_at_a_horizon_from_the_definition(horizon):
    risk, time, event = cohort(60)
    survival = 1 / (1 + np.exp(risk))
    late = censoring_law(time, event, horizon, before=False)
    error, right, pairs = 0.0, 0.0, 0.0
    for i in range(60):
        if time[i] > horizon:
            error += (1 - survival[i]) ** 2 / late
        elif event[i]:
            weight = 1 / censoring_law(time, event, time[i], before=True)
            error += survival[i] ** 2 * weight
            for j in np.flatnonzero(time > horizon):
                pairs += weight / late
                right += weight / late * ((risk[i] > risk[j]) + 0.5 * (risk[i] == risk[j]))
    assert ce.brier_at(survival, time, event, horizon) == pytest.approx(error / 60)
    assert ce.auc_at(risk, time, event, horizon) == pytest.approx(right / pairs)


def test_without_censoring_they_are_the_plain_figures():
    risk, time, _ = cohort(60, ties=False)
    event = np.ones(60)
    survival = 1 / (1 + np.exp(risk))
    free = time > 5
    assert ce.brier_at(survival, time, event, 5) == pytest.approx(((survival - free) ** 2).mean())
    wins = risk[~free][:, None] > risk[free]
    assert ce.auc_at(risk, time, event, 5) == pytest.approx(wins.mean())


def test_censoring_weights_remove_the_bias():
    rng = np.random.default_rng(0)
    n = 4000
    risk = rng.standard_normal(n)
    death = rng.exponential(np.exp(-risk) * 10)
    leave = rng.exponential(8, n)
    time, event = np.minimum(death, leave), death <= leave
    truth = ce.auc_at(risk, death, np.ones(n), 6.0)
    assert ce.auc_at(risk, time, event, 6.0) == pytest.approx(truth, abs=0.02)
    chance = np.exp(-6.0 / 10 * np.exp(risk))
    truth = ce.brier_at(chance, death, np.ones(n), 6.0)
    assert ce.brier_at(chance, time, event, 6.0) == pytest.approx(truth, abs=0.01)


def test_horizon_figures_have_intervals_and_refuse_what_nobody_reached():
    risk, time, event = cohort()

    def statistic(*columns, weights=None):
        return ce.auc_at(*columns, 5.0, weights=weights)

    found = figure(statistic, risk, time, event)
    assert found.low < found.value < found.high
    last = time == time.max()
    with pytest.raises(CinemaError, match="earlier horizon"):
        ce.auc_at(risk, time, np.where(last, 0, event), time.max() + 1)


def test_baseline_is_lifelines_breslow():
    risk, time, event = cohort()
    table = pd.DataFrame({"risk": risk, "time": time, "event": event})
    fit = CoxPHFitter().fit(table, "time", "event")
    score = fit.predict_log_partial_hazard(table).to_numpy()
    baseline = ce.baseline_hazard(score, time, event)
    expected = fit.baseline_cumulative_hazard_
    np.testing.assert_allclose(baseline(expected.index), expected.to_numpy()[:, 0], rtol=1e-6)
    survival = ce.predicted_survival(baseline, score, [3.0, 6.0])
    theirs = fit.predict_survival_function(table, times=[3.0, 6.0]).to_numpy().T
    np.testing.assert_allclose(survival, theirs, rtol=1e-6)
    assert baseline(0.0) == 0


@pytest.fixture
def tables():
    rng = np.random.default_rng(0)
    frames = []
    for n in (300, 150):
        age, image = rng.normal(60, 8, n), rng.standard_normal(n)
        sex = rng.choice(["F", "M"], n)
        hazard = np.exp(0.05 * (age - 60) + 0.8 * image + 0.4 * (sex == "M"))
        death, leave = rng.exponential(1000 / hazard), rng.exponential(1500, n)
        columns = {"age": age, "sex": sex, "image": image, "time": np.minimum(death, leave), "event": death <= leave}
        frames.append(pd.DataFrame(columns))
    return frames


MODELS = {"clinical": ["age", "sex"], "image": ["image"], "both": ["age", "sex", "image"]}


def test_cox_models_side_by_side(tables):
    table, _ = tables
    table["subject"] = np.arange(len(table)) // 1
    table.loc[3, "age"] = np.nan
    clinical, image, both = cox.cox_models([table], MODELS)
    assert both.concordance.value > max(clinical.concordance.value, image.concordance.value) > 0.55
    # All on the same people, each judged by a model without it.
    assert {model.n_missing for model in (clinical, image, both)} == {1}
    assert {model.concordance.n_subjects for model in (clinical, image, both)} == {299}
    assert np.isnan(image.risk[3])
    assert clinical.gain is None
    assert both.gain.value == pytest.approx(both.concordance.value - clinical.concordance.value)
    assert 0 < both.gain.low < both.gain.value < both.gain.high
    ratio, low, high, p = both.hazard_ratios["image"]
    assert low < ratio < high
    assert p < 1e-6
    assert ratio == pytest.approx(np.exp(0.8), rel=0.2)
    plain = table.drop(columns="subject").dropna().assign(sex=lambda table: (table["sex"] == "M") * 1.0)
    fit = CoxPHFitter().fit(plain, "time", "event")
    assert both.hazard_ratios["sex"][0] == pytest.approx(np.exp(fit.params_["sex"]), rel=1e-4)
    assert both.hazard_ratios["age"][0] == pytest.approx(np.exp(fit.params_["age"] * plain["age"].std()), rel=1e-4)


def test_folds_keep_people_together_and_events_apart():
    people, event = np.repeat(np.arange(40), 2), np.repeat(np.arange(40) < 10, 2) * 1.0
    fold = cox.folds_of(people, event, 5, 0)
    assert (fold[::2] == fold[1::2]).all()
    assert np.bincount(fold, weights=event).tolist() == [4] * 5
    assert len(np.unique(cox.folds_of(people, event * (people < 3), 5, 0))) == 3


def test_a_score_that_says_nothing_is_no_finding():
    """Cross-fitted on subjects that chose nothing; those that chose the checkpoint gave p < 0.05 in 38%."""
    rng = np.random.default_rng(0)
    found = []
    for _ in range(40):
        age, score = rng.normal(size=(2, 100))
        death, leave = rng.exponential(np.exp(-0.6 * age)), rng.exponential(2, 100)
        columns = {"subject": np.arange(100), "age": age, "risk": score}
        table = pd.DataFrame(columns | {"time": np.minimum(death, leave), "event": death <= leave})
        found.append(cox.cox_models([table], {"clinical": ["age"], "both": ["age", "risk"]}, folds=2)[1])
    assert sum(model.hazard_ratios["risk"][3] < 0.05 for model in found) <= 6
    assert sum(model.gain.low > 0 for model in found) <= 2


def test_a_gain_counts_what_a_subject_does_to_the_fits():
    """Of few subjects the frozen scores' interval is too narrow; what a subject moves is that of fitting again."""
    n, rng = 50, np.random.default_rng(0)
    x = np.stack([rng.normal(size=n), rng.random(n) < 0.5], axis=1).astype(float)
    death, leave = rng.exponential(np.exp(-0.6 * x[:, 0] - 0.4 * x[:, 1])), rng.exponential(2.0, n)
    columns = {"risk": x[:, 0], "sex": x[:, 1], "time": np.minimum(death, leave), "event": death <= leave}
    table = pd.DataFrame(columns | {"subject": np.arange(n)}).astype(float)
    outcome, names = ("time", "event"), ["risk", "sex"]
    fit = cox._fit(table, names, outcome)[0]
    moved = cox._delta_beta(fit, table, names, outcome)[:12]
    again = [(fit.params_ - cox._fit(table.drop(index=row), names, outcome)[0].params_)[names] for row in range(12)]
    for column, exact in zip(moved.T, np.array(again).T, strict=True):
        assert np.corrcoef(column, exact)[0, 1] > 0.97
        assert 0.7 < column.std() / exact.std() < 1.1
    plain, both = cox.cox_models([table], {"sex": ["sex"], "both": names})
    frozen = compare(su.concordance, *([sample_of(m.risk, table["time"], table["event"])] for m in (both, plain)))
    assert both.gain.value == pytest.approx(frozen.value)
    assert both.gain.se > 1.05 * frozen.se


def test_cox_models_that_cannot_be(tables):
    table = tables[0].assign(subject=np.arange(300))
    one_sex = cox.cox_models([table.assign(sex="F")], MODELS)
    assert one_sex[0].dropped == ("sex",)
    assert not one_sex[0].problem
    none = cox.cox_models([table.assign(event=0)], {"image": ["image"]})[0]
    assert "no events" in none.problem
    assert np.isnan(none.concordance.value)
    twins = cox.cox_models([table.assign(copy=table["age"])], {"twins": ["age", "copy"]})[0]
    assert "did not converge" in twins.problem
    assert "http" not in twins.problem, "one sentence, without lifelines' advice and links"
    assert "\n" not in twins.problem
    with pytest.raises(CinemaError, match="no column 'ef'"):
        cox.cox_models([table], {"ef": ["ef"]})


def test_impossible_outcomes():
    su.check_outcomes([1.0, 2.0], [0, 1])
    with pytest.raises(CinemaError, match="Case b has a time that is not above 0"):
        su.check_outcomes([1.0, 0.0], [0, 1], ["a", "b"])
    with pytest.raises(CinemaError, match="number 1 has no time"):
        su.check_outcomes([np.nan], [0])
    with pytest.raises(CinemaError, match="neither 0 nor 1"):
        su.check_outcomes([1.0, 2.0], [0, 2])
