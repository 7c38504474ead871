"""Landmarks: points from heatmaps, distances, and long-axis function from the points of ED and ES.

Coordinates are (x, y) in voxels, voxel centres at whole numbers; x runs along the first spatial axis.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cinema_lightning.metrics.weighted import to_numpy


def distances(predicted: Any, true: Any, spacing: Any = None) -> tuple[np.ndarray, np.ndarray]:
    """Distance of each landmark from its true place.

    Args:
        predicted: (N, L, 2) voxels.
        true: (N, L, 2) voxels; NaN for a landmark that is not marked.
        spacing: Voxel size in mm, (2,) or (N, 2) or more columns; None where it is unknown.

    Returns:
        Distances in pixels and in mm, (N, L) each; the mm are NaN where the spacing is unknown (NaN or None).
    """
    offset = np.asarray(to_numpy(predicted), dtype=np.float64) - np.asarray(to_numpy(true), dtype=np.float64)
    pixels = np.linalg.norm(offset, axis=-1)
    if spacing is None:
        return pixels, np.full_like(pixels, np.nan)
    size = np.atleast_2d(np.asarray(to_numpy(spacing), dtype=np.float64))[:, None, :2]
    return pixels, np.linalg.norm(offset * size, axis=-1)


def argmax_points(heatmaps: Tensor) -> Tensor:
    """Whole-pixel place of each map's largest value, the first where several are equal.

    Args:
        heatmaps: (B, L, X, Y).

    Returns:
        (B, L, 2) int64.
    """
    place = heatmaps.flatten(2).argmax(dim=2)
    height = heatmaps.shape[3]
    return torch.stack([place // height, place % height], dim=2)


def refined_points(probabilities: Tensor, radius: int = 3) -> Tensor:
    """Sub-pixel place of each map's peak: a quadratic fitted to the logarithm around the largest pixel.

    The logarithm of a Gaussian is a quadratic, so the fit is exact for one, wherever it lies and also where the image's
    edge cuts the window. Pixels weigh by the square of their probability, which is what least squares on the
    probabilities themselves amounts to.

    Args:
        probabilities: (B, L, X, Y), not negative.
        radius: The window is (2 radius + 1) pixels wide, shifted inwards at the image's edge.

    Returns:
        (B, L, 2) float64. Where the fit has no peak within the window, the largest pixel itself.
    """
    maps = probabilities.detach().flatten(0, 1)
    peak = argmax_points(maps[None])[0]
    sizes = [min(2 * radius + 1, maps.shape[axis]) for axis in (1, 2)]
    start = [(peak[:, axis] - sizes[axis] // 2).clamp(0, maps.shape[axis + 1] - sizes[axis]) for axis in (0, 1)]
    x, y = (start[axis][:, None] + torch.arange(sizes[axis], device=maps.device) for axis in (0, 1))
    window = maps[torch.arange(len(maps), device=maps.device)[:, None, None], x[:, :, None], y[:, None, :]].double()
    dx = (x - peak[:, :1])[:, :, None].expand_as(window).flatten(1).double()
    dy = (y - peak[:, 1:])[:, None, :].expand_as(window).flatten(1).double()
    offset, found = _quadratic_peak(window.flatten(1), dx, dy)
    inside = found & (offset.abs() <= radius).all(dim=1)
    refined = peak + torch.where(inside[:, None], offset, torch.zeros_like(offset))
    return refined.view(*probabilities.shape[:2], 2)


def _quadratic_peak(values: Tensor, dx: Tensor, dy: Tensor) -> tuple[Tensor, Tensor]:
    """Peak of the weighted least-squares quadratic through log(values), (N, K) each, and whether there is one."""
    top = values.amax(dim=1, keepdim=True).clamp(min=1e-30)
    share = (values / top).clamp(min=1e-6)
    design = torch.stack([torch.ones_like(dx), dx, dy, dx * dx, dx * dy, dy * dy], dim=2)
    weighted = design * (share * share)[:, :, None]
    # A trace of ridge keeps flat maps solvable; their fit then has no peak.
    normal = design.transpose(1, 2) @ weighted + 1e-12 * torch.eye(6, dtype=values.dtype, device=values.device)
    fit = torch.linalg.solve(normal, (weighted * share.log()[:, :, None]).sum(dim=1))
    _, gx, gy, a, b, c = fit.unbind(dim=1)
    determinant = 4 * a * c - b * b
    found = (determinant > 1e-12) & (a < 0)
    safe = torch.where(found, determinant, torch.ones_like(determinant))
    offset = torch.stack([(b * gy - 2 * c * gx) / safe, (b * gx - 2 * a * gy) / safe], dim=1)
    return offset, found


def _millimetres(points: Any, spacing: Sequence[float]) -> np.ndarray:
    values = np.asarray(to_numpy(points), dtype=np.float64)
    return values * np.asarray(spacing, dtype=np.float64)[..., : values.shape[-1]]


def plane_excursion(
    ed_hinges: Any, es_hinges: Any, ed_apex: Any, spacing: Sequence[float], ed_base: Any = None
) -> np.ndarray:
    """Movement of a valve's hinge points towards the apex between ED and ES: MAPSE (mitral) and TAPSE (tricuspid).

    Each point's displacement is projected on the long axis, from the midpoint of the hinges to the apex, both at ED.
    MAPSE is the mean of the two mitral points; TAPSE is the lateral tricuspid point, along the mitral axis.

    Args:
        ed_hinges: (H, 2) voxels at ED, also batched (..., H, 2).
        es_hinges: Same shape, at ES.
        ed_apex: (2,) or (..., 2) voxels at ED.
        spacing: Voxel size, mm.
        ed_base: (B, 2) or (..., B, 2) voxels at ED, from whose midpoint the long axis starts; None takes the hinges.

    Returns:
        (..., H) mm, positive towards the apex; NaN where a point is missing.
    """
    start, end, apex = (_millimetres(points, spacing) for points in (ed_hinges, es_hinges, ed_apex))
    base = start if ed_base is None else _millimetres(ed_base, spacing)
    axis = apex - base.mean(axis=-2)
    length = np.linalg.norm(axis, axis=-1, keepdims=True)
    direction = axis / np.where(length == 0, np.nan, length)
    return np.einsum("...hk,...k->...h", end - start, direction)


def long_axis_length(hinges: Any, apex: Any, spacing: Sequence[float]) -> np.ndarray:
    """Length from the midpoint of the hinge points to the apex.

    Args:
        hinges: (..., 2, 2) voxels.
        apex: (..., 2) voxels.
        spacing: Voxel size, mm.

    Returns:
        (...) mm.
    """
    return np.linalg.norm(_millimetres(apex, spacing) - _millimetres(hinges, spacing).mean(axis=-2), axis=-1)


def long_axis_shortening(
    ed_hinges: Any, ed_apex: Any, es_hinges: Any, es_apex: Any, spacing: Sequence[float]
) -> np.ndarray:
    """Shortening of the long axis from ED to ES, in percent of its length at ED; NaN where that is 0 or missing."""
    diastole = np.asarray(long_axis_length(ed_hinges, ed_apex, spacing))
    systole = np.asarray(long_axis_length(es_hinges, es_apex, spacing))
    return (diastole - systole) / np.where(diastole == 0, np.nan, diastole) * 100
