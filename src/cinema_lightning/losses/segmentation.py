"""Cross-entropy and Dice with unlabelled voxels, and the weighting of deep supervision."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from monai.losses import DiceLoss
from torch import Tensor

from cinema_lightning.errors import CinemaError

IGNORED = -1
DiceOver = Literal["sample", "batch"]
"""What the sums of a Dice loss go over: the voxels of a sample (published), or of all samples of a batch."""
_DICE = {over: DiceLoss(include_background=False, batch=over == "batch") for over in get_args(DiceOver)}


def _class_map(labels: Tensor, logits: Tensor) -> Tensor:
    """(B, X, Y[, Z]) int64 from that or from (B, 1, X, Y[, Z])."""
    maps = labels[:, 0] if labels.ndim == logits.ndim else labels
    if maps.shape != (logits.shape[0], *logits.shape[2:]):
        raise CinemaError(f"Labels of shape {tuple(labels.shape)} do not fit logits of shape {tuple(logits.shape)}.")
    return maps.long()


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy over the labelled voxels of the batch; 0 where there are none.

    Args:
        logits: (B, C, X, Y[, Z]).
        labels: (B, [1,] X, Y[, Z]) class codes, -1 where not labelled.

    Returns:
        Scalar, float32.
    """
    maps = _class_map(labels, logits)
    labelled = maps != IGNORED
    # Not F.cross_entropy: over a plane or a volume it has no deterministic CUDA implementation, a gather has.
    picked = logits.float().log_softmax(dim=1).gather(1, maps.clamp(min=0)[:, None])[:, 0]
    return -(picked * labelled).sum() / labelled.sum().clamp(min=1)


def dice_loss(logits: Tensor, labels: Tensor, over: DiceOver = "sample") -> Tensor:
    """Soft Dice loss of the foreground classes: per sample and class, then the mean; or per class over the batch.

    A class that a sample lacks costs nearly 1 at any probability; over the batch only where all samples lack it.

    Args:
        logits: (B, C, X, Y[, Z]).
        labels: (B, [1,] X, Y[, Z]) class codes, -1 where not labelled: there neither probability nor label counts.
        over: What the sums go over.

    Returns:
        Scalar, float32.
    """
    maps = _class_map(labels, logits)
    labelled = (maps != IGNORED)[:, None]
    classes = torch.arange(logits.shape[1], device=maps.device).view(1, -1, *[1] * (maps.ndim - 1))
    one_hot = maps[:, None] == classes  # no class is below 0, so that what is not labelled is in none
    return _DICE[over](logits.float().softmax(dim=1) * labelled, one_hot)


def segmentation_loss(logits: Tensor, labels: Tensor, over: DiceOver = "sample") -> Tensor:
    """Cross-entropy + Dice loss (see :func:`cross_entropy` and :func:`dice_loss`)."""
    return cross_entropy(logits, labels) + dice_loss(logits, labels, over)


def deep_supervision(
    loss: Callable[[Tensor, Tensor], Tensor], outputs: Tensor | Sequence[Tensor], labels: Tensor
) -> Tensor:
    """Weighted mean of a loss over outputs of falling resolution, each half the weight of the one before.

    Unlike monai's wrapper it takes whole-number labels, and its weights add to 1 as nnU-Net's do, so that the loss of
    a network with and without deep supervision is of one size.

    Args:
        loss: Takes logits and labels of one size.
        outputs: (B, C, X, Y[, Z]), or a list of such from full to low resolution.
        labels: (B, [1,] X, Y[, Z]) class codes; brought to each output's size by nearest neighbour.

    Returns:
        Scalar.
    """
    if isinstance(outputs, Tensor):
        return loss(outputs, labels)
    halves = [0.5**level for level in range(len(outputs))]
    shares = [half / sum(halves) for half in halves]
    terms = [share * loss(output, _resized(labels, output)) for share, output in zip(shares, outputs, strict=True)]
    return torch.stack(terms).sum()


def _resized(labels: Tensor, output: Tensor) -> Tensor:
    maps = labels if labels.ndim == output.ndim else labels[:, None]
    if maps.shape[2:] == output.shape[2:]:
        return labels
    return F.interpolate(maps.float(), size=output.shape[2:], mode="nearest-exact").to(labels.dtype)
