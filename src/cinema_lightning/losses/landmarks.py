"""Landmark losses: Gaussian heatmaps with BCE + Dice, and the Wing loss on coordinates and their offsets.

Points are (x, y) in pixels, pixel centres at whole numbers, x along the first spatial axis. ``valid`` marks the
landmarks that lie in the image; the others are left out of the loss.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from monai.losses import DiceLoss
from torch import Tensor

_DICE = DiceLoss(sigmoid=True, reduction="none")


def gaussian_heatmaps(points: Tensor, size: Sequence[int], sigma: float = 3.0) -> Tensor:
    """One Gaussian of peak 1 per landmark.

    Args:
        points: (B, L, 2) pixels, also off the grid.
        size: Size of the maps, (X, Y).
        sigma: Standard deviation, pixels.

    Returns:
        (B, L, X, Y) float32.
    """
    places = points.float()
    x, y = (
        torch.exp(-((torch.arange(n, device=points.device) - places[..., axis, None]) ** 2) / (2 * sigma**2))
        for axis, n in enumerate(size)
    )
    return x[..., :, None] * y[..., None, :]


def _masked_mean(values: Tensor, valid: Tensor | None) -> Tensor:
    """Mean over the valid entries, 0 (with a gradient of 0) without any."""
    if valid is None:
        return values.mean()
    share = valid.expand_as(values)
    return torch.where(share, values, torch.zeros_like(values)).sum() / share.sum().clamp(min=1)


def heatmap_terms(logits: Tensor, targets: Tensor, valid: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Binary cross-entropy and Dice loss of heatmaps.

    Args:
        logits: (B, L, X, Y).
        targets: (B, L, X, Y) in [0, 1].
        valid: (B, L) bool; all where None.

    Returns:
        The two scalars, float32; Dice per sample and landmark on the sigmoid, then the mean.
    """
    # A target far outside is NaN where the point is; it must not reach the gradient through the masked terms.
    goal = targets.float() if valid is None else torch.where(valid[..., None, None], targets.float(), 0.0)
    bce = F.binary_cross_entropy_with_logits(logits.float(), goal, reduction="none").mean(dim=(2, 3))
    dice = _DICE(logits.float(), goal).flatten(1)
    return _masked_mean(bce, valid), _masked_mean(dice, valid)


def heatmap_loss(logits: Tensor, targets: Tensor, valid: Tensor | None = None) -> Tensor:
    """Binary cross-entropy + Dice loss of heatmaps (see :func:`heatmap_terms`)."""
    return torch.stack(heatmap_terms(logits, targets, valid)).sum()


def wing(error: Tensor, width: float = 10.0, epsilon: float = 2.0) -> Tensor:
    """Wing function of an error: logarithmic below ``width``, linear above (Feng et al., CVPR 2018).

    Args:
        error: Any shape, pixels.
        width: Where the logarithm ends, pixels.
        epsilon: Its curvature.

    Returns:
        Same shape.
    """
    size = error.abs()
    step = width - width * math.log1p(width / epsilon)
    return torch.where(size < width, width * torch.log1p(size / epsilon), size - step)


def midpoint_offsets(points: Tensor) -> Tensor:
    """Offset of each of three points from the midpoint of the other two.

    Args:
        points: (B, 3, 2).

    Returns:
        (B, 3, 2).
    """
    others = points.sum(dim=1, keepdim=True) - points
    return points - others / 2


def wing_terms(predicted: Tensor, true: Tensor, valid: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Wing loss of points, and of their offsets from each other.

    Args:
        predicted: (B, 6) x, y of the three points in turn, or (B, 3, 2); pixels.
        true: The same.
        valid: (B, 3) bool; all where None. An offset counts where all three points do.

    Returns:
        The two scalars, float32, each the mean over coordinates.
    """
    guess, goal = (points.float().reshape(len(points), 3, 2) for points in (predicted, true))
    if valid is not None:
        goal = torch.where(valid[..., None], goal, guess.detach())
    whole = None if valid is None else valid.all(dim=1)[:, None, None]
    points = _masked_mean(wing(guess - goal), None if valid is None else valid[..., None])
    offsets = _masked_mean(wing(midpoint_offsets(guess) - midpoint_offsets(goal)), whole)
    return points, offsets


def wing_loss(predicted: Tensor, true: Tensor, valid: Tensor | None = None) -> Tensor:
    """Wing loss of points + that of their offsets (see :func:`wing_terms`)."""
    return torch.stack(wing_terms(predicted, true, valid)).sum()
