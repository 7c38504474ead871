"""Segmentation of one case: Dice, IoU, HD95, volumes and stability per class or nested region.

Dice, IoU and the surface distance are monai's; what is added here are nested regions, the treatment of empty masks,
the image's own spacing, and the stability score.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from monai.metrics import compute_dice, compute_hausdorff_distance, compute_iou

from cinema_lightning.errors import CinemaError
from cinema_lightning.metrics.weighted import to_numpy


@dataclass(frozen=True)
class Regions:
    """What a segmentation is scored on.

    Attributes:
        labels: Region name -> class codes that it is made of; regions may contain each other.
        score_absent: Where the truth lacks a region, its Dice is 1 if the prediction lacks it too and 0 otherwise, and
            means over regions skip what is not defined. If false, the Dice of a region that the truth lacks is NaN,
            and so is the mean over the regions of that case.
    """

    labels: Mapping[str, tuple[int, ...]]
    score_absent: bool = False


NESTED: dict[str, Regions] = {
    "emidec": Regions(
        {"cavity": (1,), "myocardium": (2, 3, 4), "infarct": (3, 4), "no_reflow": (4,)}, score_absent=True
    ),
    "myops": Regions(
        {"rv": (1,), "lv": (2,), "myocardium": (3, 4, 5), "edema_and_scar": (4, 5), "scar": (5,)}, score_absent=True
    ),
}
"""Regions by dataset, where its challenge scores nested ones."""


def class_regions(labels: Mapping[int, str]) -> Regions:
    """One region per foreground class.

    Args:
        labels: Class code -> name; 0 is the background.

    Returns:
        The regions, in the order of their codes, named for column heads ("RV blood pool" becomes ``rv``).
    """
    return Regions({_slug(labels[code]): (code,) for code in sorted(labels) if code != 0})


def regions_of(dataset: str, labels: Mapping[int, str]) -> Regions:
    """A dataset's nested regions, or one region per class."""
    return NESTED.get(dataset) or class_regions(labels)


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", name.lower().removesuffix("blood pool").strip()).strip("_")


def region_masks(labels: Any, regions: Regions) -> np.ndarray:
    """Label map to one mask per region.

    Args:
        labels: (X, Y[, Z]) class codes.
        regions: The regions.

    Returns:
        (R, X, Y[, Z]) bool.
    """
    codes = to_numpy(labels)
    return np.stack([np.isin(codes, members) for members in regions.labels.values()])


def case_metrics(
    predicted: Any, true: Any, spacing: Sequence[float], regions: Regions, logits: Any = None
) -> dict[str, float]:
    """All metrics of one case, padding already cropped away.

    Args:
        predicted: (X, Y[, Z]) class codes.
        true: (X, Y[, Z]) class codes; voxels below 0 are not labelled and left out of both masks. None where there is
            no label map: what needs one is then NaN.
        spacing: Voxel size of this image, mm; numbers beyond the image's dimensions are not used.
        regions: What is scored.
        logits: (C, X, Y[, Z]), for the stability score; log-probabilities do as well. Regions of several classes
            have none, and do not count in its mean.

    Returns:
        ``<region>_dice``, ``_iou``, ``_hd95`` (mm), ``_volume_true`` and ``_volume_pred`` (ml; for a single plane
        ``_area_true`` and ``_area_pred``, cm2), ``_stability``, and ``mean_dice``, ``mean_iou``, ``mean_hd95``,
        ``mean_stability``. NaN where something is not defined.

    Raises:
        CinemaError: If the shapes differ, or the spacing has too few or impossible numbers.
    """
    guess = to_numpy(predicted)
    truth = guess if true is None else to_numpy(true)
    size = _checked_spacing(guess.shape, truth.shape, spacing)
    true_masks, masks = region_masks(truth, regions), region_masks(guess, regions) & (truth >= 0)
    names = list(regions.labels)
    unknown = np.full(len(names), np.nan)
    if true is None:
        table = {"dice": unknown, "iou": unknown, "hd95": unknown}
    else:
        table = overlap(masks, true_masks, score_absent=regions.score_absent)
        table["hd95"] = hd95(masks, true_masks, size)
    single = [members[0] if len(members) == 1 else None for members in regions.labels.values()]
    if logits is not None:
        scores = stability(logits)
        table["stability"] = np.array([np.nan if member is None else scores[member] for member in single])
    out = {f"{name}_{metric}": float(value) for metric, values in table.items() for name, value in _pair(names, values)}
    measure, unit = ("volume", 1e-3) if truth.ndim == 3 else ("area", 1e-2)
    for kind, stack in (("true", true_masks), ("pred", masks)):
        sizes = stack.reshape(len(names), -1).sum(axis=1) * float(np.prod(size)) * unit
        sizes = unknown if kind == "true" and true is None else sizes
        out |= {f"{name}_{measure}_{kind}": float(value) for name, value in _pair(names, sizes)}
    means = {metric: _mean(values, regions.score_absent) for metric, values in table.items()}
    if "stability" in table:
        means["stability"] = _mean(table["stability"][[member is not None for member in single]], False)
    return out | {f"mean_{metric}": value for metric, value in means.items()}


def _pair(names: list[str], values: np.ndarray) -> zip[tuple[str, float]]:
    return zip(names, values, strict=True)


def _mean(values: np.ndarray, skip: bool) -> float:
    chosen = values[np.isfinite(values)] if skip else values
    return float(chosen.mean()) if chosen.size else float("nan")


def _checked_spacing(predicted: tuple[int, ...], true: tuple[int, ...], spacing: Sequence[float]) -> tuple[float, ...]:
    if predicted != true:
        raise CinemaError(f"Prediction and truth differ in size ({predicted} and {true}); crop the padding away first.")
    size = tuple(float(value) for value in spacing)[: len(true)]
    if len(size) < len(true) or not all(np.isfinite(value) and value > 0 for value in size):
        raise CinemaError(f"The spacing {list(spacing)} does not give {len(true)} voxel sizes in mm.")
    return size


def overlap(masks: np.ndarray, true_masks: np.ndarray, *, score_absent: bool) -> dict[str, np.ndarray]:
    """Dice and IoU of each region.

    Args:
        masks: (R, X, Y[, Z]) bool.
        true_masks: (R, X, Y[, Z]) bool.
        score_absent: See :class:`Regions`. The IoU of a region that the truth lacks is NaN either way, as published.

    Returns:
        ``dice`` and ``iou``, each (R,).
    """
    guess, truth = torch.from_numpy(masks)[None], torch.from_numpy(true_masks)[None]
    dice = compute_dice(guess, truth, include_background=True, ignore_empty=not score_absent)
    iou = compute_iou(guess, truth, include_background=True, ignore_empty=True)
    return {"dice": dice[0].numpy().astype(np.float64), "iou": iou[0].numpy().astype(np.float64)}


def hd95(masks: np.ndarray, true_masks: np.ndarray, spacing: Sequence[float]) -> np.ndarray:
    """95% Hausdorff distance of each region: the larger of the two directed 95th percentiles between surface voxels.

    Args:
        masks: (R, X, Y[, Z]) bool.
        true_masks: (R, X, Y[, Z]) bool.
        spacing: Voxel size, mm.

    Returns:
        (R,) mm; NaN where either mask is empty.
    """
    axes = tuple(range(1, masks.ndim))
    both = masks.any(axis=axes) & true_masks.any(axis=axes)
    out = np.full(len(masks), np.nan)
    if both.any():
        guess, truth = torch.from_numpy(masks[both])[None], torch.from_numpy(true_masks[both])[None]
        size = [float(value) for value in spacing]
        with warnings.catch_warnings():
            # monai 1.6 warns of an argument that it passes to itself.
            warnings.simplefilter("ignore", FutureWarning)
            found = compute_hausdorff_distance(guess, truth, include_background=True, percentile=95, spacing=size)
        out[both] = found[0].numpy()
    return out


def stability(logits: Any, offset: float = 1.0) -> np.ndarray:
    """Stability score of each class (after Kirillov et al., Segment Anything, 2023).

    The logits less their mean over the classes at each voxel, background included, are cut at +offset and -offset;
    the score is the IoU of the two masks.

    Args:
        logits: (C, X, Y[, Z]) tensor or array.
        offset: Distance of the thresholds from 0.

    Returns:
        (C,); NaN where even the larger mask is empty.
    """
    values = torch.as_tensor(logits).detach().float()
    centred = (values - values.mean(dim=0, keepdim=True)).flatten(1)
    # The mask at the higher threshold lies inside the other, so the intersection is the smaller mask.
    inner, outer = (centred > offset).sum(dim=1), (centred > -offset).sum(dim=1)
    score = inner.double() / torch.where(outer == 0, torch.nan, outer.double())
    return score.cpu().numpy()
