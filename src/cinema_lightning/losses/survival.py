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
    scores, died, times = scores[order], event.reshape(-1)[order] > 0, time.reshape(-1)[order]
    # Every array has N entries, for subjects or for moments (numbered from the latest on), so that no size has to be
    # read back from a device.
    moment = torch.cat([torch.zeros_like(order[:1]), (times[1:] != times[:-1]).long()]).cumsum(0)
    none, nothing = torch.zeros_like(moment), torch.zeros_like(scores)
    count = none.index_add(0, moment, torch.ones_like(moment))
    deaths = none.index_add(0, moment, died.long())
    # Latest first: the risk set of a moment is all up to its last member.
    at_risk = torch.logcumsumexp(scores, dim=0)[count.cumsum(0) - 1]

    # Largest score among the deaths of each moment, so that the sum of exponentials neither overflows nor vanishes.
    fatal = scores.masked_fill(~died, -torch.inf)
    top = torch.full_like(nothing, -torch.inf).scatter_reduce(0, moment, fatal.detach(), "amax")
    top = torch.where(deaths > 0, top, nothing)
    tied = nothing.index_add(0, moment, torch.exp(fatal - top[moment]))
    share = torch.where(deaths > 0, torch.where(deaths > 0, tied, 1.0).log() + top - at_risk, nothing)

    # The l-th of d tied deaths (l from 0) sees the risk set less l / d of the deaths.
    first = deaths.cumsum(0) - deaths
    rank = torch.where(died, died.cumsum(0) - 1 - first[moment], none).to(scores.dtype) / deaths[moment].clamp(min=1)
    # Rounding can lift the deaths' share of the risk set a little above 1.
    remaining = torch.log1p(-rank * share[moment].exp().clamp(max=1.0))
    return torch.where(died, scores - at_risk[moment] - remaining, nothing).sum()


def cox_loss(log_risk: Tensor, time: Tensor, event: Tensor) -> tuple[Tensor, Tensor]:
    """Negative log partial likelihood per event.

    Args:
        log_risk: (N,) or (N, 1) log-hazards of the whole batch, all ranks gathered.
        time: (N,) times, above 0.
        event: (N,) 1 or 0.

    Returns:
        The loss, and whether the batch has any event (scalar bool on the scores' device). Without one the partial
        likelihood says nothing: the loss is 0 with a gradient of 0, so that ranks stay in step.
    """
    count = (event > 0).sum()
    loss = -cox_log_likelihood(log_risk, time, event) / count.clamp(min=1) + 0.0 * log_risk.float().sum()
    return loss, count > 0
