"""Affines, resampling and the two in-plane crops, as published (arXiv 2506.00679) where directions are the identity.

Arrays are (X, Y, Z), series (T, X, Y, Z). Affines are (4, 4), voxel to RAS mm as in nibabel; DICOM and SimpleITK count
in LPS, which differs by the sign of the first two axes.

Resampling is done in the image's own frame, where the directions are the identity and the first voxel lies at the
origin. It is separable along the image's axes, so that the result is the same as in world coordinates, and oblique
images lose nothing to rounding. The published code moves the origin along the world's axes instead, which is the same
for identity directions only and is off by 0.2 to 4 mm elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from cinema_lightning.errors import CinemaError

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
# Below this sine of the angle between a line and a plane (or two planes) they count as parallel: the point where
# they meet would lie metres outside the body.
PARALLEL = 1e-3
MISNAMED = "mend the header of the one that is wrong, or give the view that it is called"


class Window(NamedTuple):
    """An in-plane crop: ``start`` may be negative and the end may lie outside, which pads with zeros."""

    start: tuple[int, int]
    size: tuple[int, int]


def affine_from_lps(origin: Sequence[float], directions: np.ndarray, spacing: Sequence[float]) -> np.ndarray:
    """Builds a RAS affine from what a DICOM or SimpleITK header says.

    Args:
        origin: Centre of the first voxel, LPS mm.
        directions: (3, 3); column i is the unit direction of voxel axis i, LPS.
        spacing: Voxel size along x, y, z, mm.

    Returns:
        (4, 4) affine, voxel to RAS mm.
    """
    affine = np.eye(4)
    affine[:3, :3] = np.asarray(directions, float) * np.asarray(spacing, float)
    affine[:3, 3] = origin
    return LPS_TO_RAS @ affine


def directions_from_cosines(orientation: Sequence[float], *, name: str = "the image") -> np.ndarray:
    """Turns DICOM's ImageOrientationPatient into direction columns: row, column and their cross product.

    Args:
        orientation: Six direction cosines, row first, LPS.
        name: What to call the image in a message.

    Returns:
        (3, 3), direction columns.

    Raises:
        CinemaError: If they are not six finite numbers that span a plane.
    """
    cosines = np.asarray(orientation, float).reshape(-1)
    if cosines.size != 6 or not np.isfinite(cosines).all():
        raise CinemaError(f"The image orientation of {name} is not six numbers ({list(cosines)}): export it again.")
    row, column = cosines[:3], cosines[3:]
    normal = np.cross(row, column)
    if np.linalg.norm(normal) < 0.5:
        raise CinemaError(f"The image orientation of {name} does not span a plane ({list(cosines)}): export it again.")
    return np.stack(
        [row / np.linalg.norm(row), column / np.linalg.norm(column), normal / np.linalg.norm(normal)], axis=1
    )


def spacing_of(affine: np.ndarray) -> np.ndarray:
    """Voxel size along x, y, z in mm: the lengths of the affine's columns."""
    return np.linalg.norm(np.asarray(affine, float)[:3, :3], axis=0)


def shift_affine(affine: np.ndarray, start: Sequence[float]) -> np.ndarray:
    """Affine of an image whose first voxel is voxel ``start`` of the old one (missing trailing axes are 0)."""
    moved = np.array(affine, float)
    index = np.zeros(3)
    index[: len(start)] = start
    moved[:3, 3] += moved[:3, :3] @ index
    return moved


def resampled_size(size: Sequence[int], spacing: Sequence[float], target: Sequence[float]) -> tuple[int, ...]:
    """Number of voxels after resampling: ``round(size * spacing / target)``, halves to even, at least one."""
    return tuple(max(1, round(n * s / t)) for n, s, t in zip(size, spacing, target, strict=True))


def resample(
    frame: np.ndarray,
    spacing: Sequence[float],
    target: Sequence[float],
    *,
    label: bool = False,
    window: Window | None = None,
) -> np.ndarray:
    """Resamples one 3D frame and keeps its field of view.

    The outer edges stay where they are, so the first voxel's centre moves by half the difference of the spacings along
    each of the image's own axes. Images are interpolated linearly and keep their type: integers are cut, not rounded.
    Labels take the nearest voxel. Samples up to half a voxel beyond the edge replicate it, farther out is 0.

    Args:
        frame: (X, Y, Z), any integer or floating type.
        spacing: Voxel size now, mm.
        target: Voxel size wanted, mm.
        label: True for label maps.
        window: In-plane part of the resampled image to compute, zeros outside of it; None for all.

    Returns:
        (X', Y', Z') of the same type, or the window of it.
    """
    if np.allclose(spacing, target, rtol=1e-9, atol=0):
        return frame if window is None else apply_window(frame[None], window)[0]
    size = resampled_size(frame.shape, spacing, target)
    if window is None:
        return _resample(frame, spacing, target, label, (0, 0), size)
    # Only what lies inside is computed: a quarter of a UK Biobank image. Outside there is nothing to replicate.
    low = [min(max(start, 0), n) for start, n in zip(window.start, size[:2], strict=True)]
    high = [min(max(s + n, 0), m) for s, n, m in zip(window.start, window.size, size[:2], strict=True)]
    out = np.zeros((*window.size, size[2]), frame.dtype)
    if all(a < b for a, b in zip(low, high, strict=True)):
        inner = _resample(
            frame, spacing, target, label, (low[0], low[1]), (high[0] - low[0], high[1] - low[1], size[2])
        )
        at = [slice(a - s, b - s) for a, b, s in zip(low, high, window.start, strict=True)]
        out[at[0], at[1]] = inner
    return out


def _resample(
    frame: np.ndarray,
    spacing: Sequence[float],
    target: Sequence[float],
    label: bool,
    first: tuple[int, int],
    size: Sequence[int],
) -> np.ndarray:
    import SimpleITK as sitk  # noqa: N813

    image = sitk.GetImageFromArray(np.ascontiguousarray(frame.transpose(2, 1, 0)))
    image.SetSpacing([float(s) for s in spacing])
    shift = [(t - s) / 2 + n * t for s, t, n in zip(spacing, target, (*first, 0), strict=True)]
    out = sitk.Resample(
        image,
        list(size),
        sitk.Transform(),
        sitk.sitkNearestNeighbor if label else sitk.sitkLinear,
        shift,
        [float(t) for t in target],
        [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0],
        0.0,
        image.GetPixelID(),
    )
    return sitk.GetArrayFromImage(out).transpose(2, 1, 0)


def resampled_affine(affine: np.ndarray, target: Sequence[float]) -> np.ndarray:
    """Affine after :func:`resample`: same directions, new spacing, first centre moved along its own axes."""
    spacing = spacing_of(affine)
    out = shift_affine(affine, [(t / s - 1) / 2 for s, t in zip(spacing, target, strict=True)])
    out[:3, :3] *= np.asarray(target, float) / spacing
    return out


def box_window(mask: np.ndarray, crop: tuple[int, int]) -> Window:
    """In-plane crop around the inclusive box of a mask, moved to lie inside the image.

    Args:
        mask: (X, Y, Z), true inside the structure.
        crop: Wanted size (x, y); an axis of at most this length stays as it is.

    Returns:
        The window, never outside the image.

    Raises:
        CinemaError: If the mask is empty.
    """
    where = np.nonzero(mask)
    if where[0].size == 0:
        raise CinemaError("there is no voxel of the structure to crop around")
    start, size = [], []
    for axis, wanted in enumerate(crop):
        length = mask.shape[axis]
        centre = (int(where[axis].min()) + int(where[axis].max())) / 2
        first = min(max(math.ceil(centre - wanted / 2), 0), max(length - wanted, 0))
        start.append(first)
        size.append(min(wanted, length))
    return Window((start[0], start[1]), (size[0], size[1]))


def centre_window(shape: Sequence[int], crop: tuple[int, int]) -> Window:
    """In-plane crop in the middle; of an odd surplus the larger half is cut at the end. Small axes stay."""
    start = [max(n - wanted, 0) // 2 for n, wanted in zip(shape[:2], crop, strict=True)]
    size = [min(n, wanted) for n, wanted in zip(shape[:2], crop, strict=True)]
    return Window((start[0], start[1]), (size[0], size[1]))


def meeting_point(sax: np.ndarray, one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Where two long-axis planes and the first SAX slice meet.

    Args:
        sax: (4, 4) affine of the SAX stack; its first slice counts.
        one: (4, 4) affine of a long-axis image, as published the 2-chamber's.
        other: (4, 4) affine of another one, as published the 4-chamber's.

    Returns:
        (3,) the point, RAS mm.

    Raises:
        CinemaError: If the two long-axis planes, or their line and the SAX plane, are parallel.
    """
    normal = _normal(sax)
    if abs(float(_line(one, other) @ normal)) < PARALLEL:
        raise CinemaError(f"the line in which the two long-axis planes meet is parallel to the SAX plane: {MISNAMED}")
    return _on_line(one, other, normal, sax[:3, 3])


def nearest_on_line(one: np.ndarray, other: np.ndarray, point: np.ndarray) -> np.ndarray:
    """The point of the line in which two long-axis planes meet that is nearest to another point.

    Args:
        one: (4, 4) affine of a long-axis image.
        other: (4, 4) affine of another one.
        point: (3,) RAS mm.

    Returns:
        (3,) the point, RAS mm.

    Raises:
        CinemaError: If the planes are parallel.
    """
    return _on_line(one, other, _line(one, other), point)


def middle(affine: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """The middle of an image, (3,) RAS mm, from its affine and its size in voxels (x, y, z)."""
    return affine[:3, :3] @ ((np.asarray(shape[:3], float) - 1) / 2) + affine[:3, 3]


def _normal(affine: np.ndarray) -> np.ndarray:
    normal = np.cross(affine[:3, 0], affine[:3, 1])
    return normal / np.linalg.norm(normal)


def _line(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Unit direction of the line in which two planes meet."""
    line = np.cross(_normal(one), _normal(other))
    length = float(np.linalg.norm(line))
    if length < PARALLEL:
        raise CinemaError(f"the two long-axis planes are parallel, so there is no line in which they meet: {MISNAMED}")
    return line / length


def _on_line(one: np.ndarray, other: np.ndarray, normal: np.ndarray, point: np.ndarray) -> np.ndarray:
    """Where the line of two planes meets the plane through a point."""
    normals = np.stack([_normal(one), _normal(other), normal])
    heights = [normals[0] @ one[:3, 3], normals[1] @ other[:3, 3], normal @ point]
    return np.linalg.solve(normals, np.array(heights))


def point_window(point: np.ndarray, affine: np.ndarray, crop: tuple[int, int]) -> Window:
    """In-plane crop of fixed size around a point, projected onto the image's plane; may reach outside.

    Args:
        point: (3,) RAS mm.
        affine: (4, 4) of the image.
        crop: Size (x, y).

    Returns:
        The window: first index = index of the point - (N - 1) / 2, cut to an integer.
    """
    # An orthonormal z keeps the projection at right angles to the plane even where the stack is sheared.
    plane = np.array(affine, float)
    normal = np.cross(plane[:3, 0], plane[:3, 1])
    plane[:3, 2] = normal / np.linalg.norm(normal)
    index = np.linalg.solve(plane[:3, :3], np.asarray(point, float) - plane[:3, 3])
    start = [int(index[axis] - (crop[axis] - 1) / 2) for axis in range(2)]
    return Window((start[0], start[1]), (int(crop[0]), int(crop[1])))


def apply_window(frames: np.ndarray, window: Window) -> np.ndarray:
    """Crops a series, zeros where the window lies outside.

    Args:
        frames: (T, X, Y, Z).
        window: In-plane window of X and Y.

    Returns:
        (T, window x, window y, Z): a view where nothing is padded.
    """
    slices, pads = [], []
    for axis in range(2):
        length, start, size = frames.shape[axis + 1], window.start[axis], window.size[axis]
        low, high = min(max(start, 0), length), min(max(start + size, 0), length)
        slices.append(slice(low, high))
        before = min(max(-start, 0), size)
        pads.append((before, size - before - (high - low)))
    cut = frames[:, slices[0], slices[1]]
    if not any(sum(pad) for pad in pads):
        return cut
    return np.pad(cut, [(0, 0), *pads, (0, 0)])
