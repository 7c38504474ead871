"""Cox's partial likelihood against lifelines, a plain loop and finite differences."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from lifelines import CoxPHFitter

from cinema_lightning.losses.survival import cox_log_likelihood, cox_loss


def cohort(n=40, seed=0, ties=True):
    rng = np.random.default_rng(seed)
    score = rng.standard_normal(n)
    time = rng.exponential(np.exp(-score) * 4)
    return score, (np.ceil(time) if ties else time), (rng.random(n) < 0.7).astype(int)


def efron(score, time, event):
    """The definition, term by term."""
    total = 0.0
    for t in np.unique(time[event == 1]):
        dead = (time == t) & (event == 1)
        risk_set, deaths = np.exp(score[time >= t]).sum(), np.exp(score[dead]).sum()
        total += score[dead].sum()
        total -= sum(math.log(risk_set - k / dead.sum() * deaths) for k in range(dead.sum()))
    return total


def tensors(score, time, event, **options):
    return torch.tensor(score, **options), torch.tensor(time), torch.tensor(event)


@pytest.mark.parametrize("ties", [True, False])
def test_definition(ties):
    for seed in range(5):
        data = cohort(seed=seed, ties=ties)
        assert float(cox_log_likelihood(*tensors(*data))) == pytest.approx(efron(*data), rel=1e-10)


def test_lifelines_on_data_with_ties():
    score, time, event = cohort(80)
    fit = CoxPHFitter().fit(pd.DataFrame({"score": score, "time": time, "event": event}), "time", "event")
    fitted = torch.tensor(score * fit.params_["score"])
    ours = cox_log_likelihood(fitted, torch.tensor(time), torch.tensor(event))
    assert float(ours) == pytest.approx(fit.log_likelihood_, abs=1e-6)


def test_fitting_with_the_loss_finds_lifelines_coefficient():
    score, time, event = cohort(80)
    fit = CoxPHFitter().fit(pd.DataFrame({"score": score, "time": time, "event": event}), "time", "event")
    slope = torch.zeros((), dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([slope], max_iter=50, line_search_fn="strong_wolfe", tolerance_grad=1e-10)

    def closure():
        optimiser.zero_grad()
        loss, _ = cox_loss(slope * torch.tensor(score), torch.tensor(time), torch.tensor(event))
        loss.backward()
        return loss

    optimiser.step(closure)
    assert slope.item() == pytest.approx(fit.params_["score"], abs=1e-4)


def test_gradient():
    score, time, event = tensors(*cohort(12), requires_grad=True)
    assert torch.autograd.gradcheck(lambda values: cox_log_likelihood(values, time, event), (score,))
    # All die at once: the last tie sees a risk set of deaths only.
    together = torch.full((5,), 2.0), torch.ones(5)
    start = torch.randn(5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda values: cox_log_likelihood(values, *together), (start,))


def test_order_and_shift_do_not_matter():
    score, time, event = tensors(*cohort())
    order = torch.randperm(40, generator=torch.Generator().manual_seed(0))
    value = cox_log_likelihood(score, time, event)
    torch.testing.assert_close(cox_log_likelihood(score[order], time[order], event[order]), value)
    torch.testing.assert_close(cox_log_likelihood(score + 500, time, event), value)


def test_float32_holds_for_wide_scores():
    score, time, event = tensors(*cohort())
    wide = (score * 60).float().requires_grad_()
    exact = cox_log_likelihood(wide.double(), time, event)
    value = cox_log_likelihood(wide, time, event)
    torch.testing.assert_close(value.double(), exact, rtol=1e-5, atol=1e-2)
    value.backward()
    assert torch.isfinite(wide.grad).all()
    assert cox_loss(score.half(), time, event)[0].dtype == torch.float32


def test_no_events():
    score = torch.randn(6, 1, requires_grad=True)
    loss, any_event = cox_loss(score, torch.arange(1.0, 7.0), torch.zeros(6))
    loss.backward()
    assert loss == 0
    assert not any_event
    assert (score.grad == 0).all()


def test_loss_is_per_event():
    score, time, event = tensors(*cohort())
    loss, any_event = cox_loss(score[:, None], time, event)
    assert any_event
    torch.testing.assert_close(loss, -cox_log_likelihood(score, time, event) / event.sum())
