"""Cox's partial likelihood with Efron's treatment of ties.

The risk set of an event is everybody still under observation, so the loss is not a sum over samples: a batch must
be whole. Gather the scores of all ranks first, and do not split a batch by gradient accumulation.
"""

from __future__ import annotations

import torch
from torch import Tensor


def cox_log_likelihood(log_risk: Tensor, time: Tensor, event: Tensor) -> Tensor:
    """Cox's log partial likelihood, ties after Efron (JASA 1977).

    Args:
        log_risk: (N,) log-hazards.
        time: (N,) times to event or censoring.
        event: (N,) 1 where the event happened, 0 where censored.

    Returns:
        Scalar: float64 for float64 scores, else float32; 0 without events.
    """
    scores = log_risk.reshape(-1)
    scores = scores if scores.dtype == torch.float64 else scores.float()
    order = torch.argsort(time.reshape(-1), descending=True, stable=True)
    scores, died = scores[order], event.reshape(-1)[order] > 0
    _, moment, count = torch.unique_consecutive(time.reshape(-1)[order], return_inverse=True, return_counts=True)
    # Latest first: the risk set of a moment is all up to its last member.
    at_risk = torch.logcumsumexp(scores, dim=0)[count.cumsum(0) - 1]

    deaths = torch.zeros_like(count).index_add(0, moment, died.long())
    # Largest score among the deaths of each moment, so that the sum of exponentials neither overflows nor vanishes.
    top = torch.full_like(at_risk, -torch.inf).scatter_reduce(0, moment[died], scores[died].detach(), "amax")
    top = torch.where(deaths > 0, top, torch.zeros_like(top))
    tied = torch.zeros_like(at_risk).index_add(0, moment[died], torch.exp(scores[died] - top[moment[died]]))
    share = torch.where(deaths > 0, tied, torch.ones_like(tied)).log() + top - at_risk

    # The l-th of d tied deaths (l from 0) sees the risk set less l / d of the deaths.
    where = moment[died]
    first = deaths.cumsum(0) - deaths
    rank = (torch.arange(len(where), device=where.device) - first[where]).to(scores.dtype) / deaths[where]
    # Rounding can lift the deaths' share of the risk set a little above 1.
    remaining = torch.log1p(-rank * share[where].exp().clamp(max=1.0))
    return (scores[died] - at_risk[where] - remaining).sum()


def cox_loss(log_risk: Tensor, time: Tensor, event: Tensor) -> tuple[Tensor, bool]:
    """Negative log partial likelihood per event.

    Args:
        log_risk: (N,) or (N, 1) log-hazards of the whole batch, all ranks gathered.
        time: (N,) times, above 0.
        event: (N,) 1 or 0.

    Returns:
        The loss, and whether the batch has any event. Without one the partial likelihood says nothing: the loss is 0
        with a gradient of 0, so that ranks stay in step.
    """
    count = (event > 0).sum()
    loss = -cox_log_likelihood(log_risk, time, event) / count.clamp(min=1) + 0.0 * log_risk.float().sum()
    return loss, bool(count > 0)
