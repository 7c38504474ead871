"""Attention that prefers what lies near: a bias that falls with distance, ALiBi (arXiv 2108.12409) in space.

A decoder that is to fill gaps has to find out that a gap looks like what lies beside it. With position tables alone
that takes most of a short training, in which it draws each place's mean over all subjects (benchmarks/details.md).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

STEEPEST, FLATTEST = 3.0, 0.5
"""How much less likely, in logits, the heads look one patch farther away."""
SLICE = 0.5
"""Distance of two slices in edges of a patch: 10 mm of 16 at full size."""
ELSEWHERE = 4.0
"""As far as this, in edges of a patch, all of the other views is taken to be."""


class Nearness(nn.Module):
    """The bias of attention between patches of several views.

    Slopes are kept in checkpoints, so that a network which was saved before it had any goes on without.

    Args:
        heads: Heads of the attention, each with a slope of its own.
    """

    slopes: Tensor
    may_lack = ("slopes",)
    """What a checkpoint of before does not have."""

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.register_buffer("slopes", torch.from_numpy(np.geomspace(STEEPEST, FLATTEST, heads)).float())

    def forward(self, queries: Sequence[Tensor], keys: Sequence[Tensor]) -> Tensor:
        """Gives what to add to the logits of attention.

        Args:
            queries: Places of each view's queries, (B, n, 3), see :func:`places`.
            keys: Places of the same views' keys, (B, m, 3).

        Returns:
            (B, heads, n of all views, m of all views), float32.
        """
        rows = [
            torch.cat([_apart(own, other) if i == j else _elsewhere(own, other) for j, other in enumerate(keys)], dim=2)
            for i, own in enumerate(queries)
        ]
        return torch.cat(rows, dim=1)[:, None] * -self.slopes[:, None, None]

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *args: Any) -> None:
        known = {f"{prefix}slopes": torch.zeros_like(self.slopes), **state_dict}
        super()._load_from_state_dict(known, prefix, *args)


def places(grid: Sequence[int], chosen: Tensor) -> Tensor:
    """Where patches lie.

    Args:
        grid: Patches along x, y[, z].
        chosen: (B, n) numbers of patches, counted as :func:`~cinema_lightning.models.patches.patchify` does.

    Returns:
        (B, n, 3), x, y and z in edges of a patch, float32.
    """
    axes = [torch.arange(n, device=chosen.device, dtype=torch.float32) for n in (*grid, 1)[:3]]
    axes[2] = axes[2] * SLICE
    table = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).flatten(0, 2)
    return table[chosen]


def _apart(queries: Tensor, keys: Tensor) -> Tensor:
    return torch.cdist(queries, keys, compute_mode="donot_use_mm_for_euclid_dist")


def _elsewhere(queries: Tensor, keys: Tensor) -> Tensor:
    return queries.new_full((len(queries), queries.shape[1], keys.shape[1]), ELSEWHERE)
