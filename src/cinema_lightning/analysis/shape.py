"""What label maps, and the order of pictures, tell of whether they can be of one heart: functions of (X, Y, Z[, T])."""

from __future__ import annotations

import itertools

import numpy as np
from scipy import ndimage
from scipy.spatial.distance import pdist, squareform

from cinema_lightning.analysis.segments import is_base_last
from cinema_lightning.analysis.values import LV, MYOCARDIUM, RV

MOVING = 0.5
"""Share of the usual motion (SD of the area over time) from which on a slice is said to move."""


def areas(labels: np.ndarray, code: int = LV) -> np.ndarray:
    """(Z, ...) pixels of a structure in each slice."""
    return (labels == code).sum(axis=(0, 1))


def lv_slices(labels: np.ndarray) -> int:
    """Slices with LV."""
    return int((areas(labels) > 0).sum())


def hole_slices(labels: np.ndarray) -> list[int]:
    """Slices without LV and myocardium between slices with them."""
    heart = areas(np.where(labels >= MYOCARDIUM, LV, 0)) > 0
    places = np.flatnonzero(areas(labels) > 0)
    if not len(places):
        return []
    return [int(z) for z in range(places[0], places[-1]) if not heart[z]]


def mid_level_rv(labels: np.ndarray) -> bool:
    """Whether there is RV in the middle of the slices with LV, or the slice beside it."""
    places = np.flatnonzero(areas(labels))
    if not len(places):
        return False
    middle = int(places[len(places) // 2])
    return bool(areas(labels, RV)[max(0, middle - 1) : middle + 2].any())


def components_share(labels: np.ndarray) -> float:
    """Share of the LV's voxels that lie apart from its largest piece."""
    pieces, n = ndimage.label(labels == LV, np.ones((3, 3, 3)))
    if n < 2:
        return 0.0
    sizes = np.bincount(pieces.ravel())[1:]
    return float(1 - sizes.max() / sizes.sum())


def slice_shift(labels: np.ndarray, spacing: np.ndarray) -> float | None:
    """How far the LV's middle in a slice lies from the middle between its neighbours', mm; the outermost slices aside.

    The valves cut through the outermost slices at the base, and at the apex there is little to have a middle. None with
    fewer than five slices.
    """
    whole = labels >= MYOCARDIUM
    places = np.flatnonzero(areas(labels))[1:-1]
    if len(places) < 3:
        return None
    middles = np.array([np.multiply(ndimage.center_of_mass(whole[..., z]), spacing[:2]) for z in places])
    off = middles[1:-1] - (middles[:-2] + middles[2:]) / 2
    return float(np.linalg.norm(off, axis=1).max())


def profile_jump(labels: np.ndarray) -> float | None:
    """How far the LV's area in a slice lies from its neighbours' mean, as a share of the largest area, ends aside.

    Cavity and wall together, which change less along the axis than the cavity. None with fewer than five slices.
    """
    whole = areas(np.where(labels >= MYOCARDIUM, LV, 0)).astype(float)
    places = np.flatnonzero(areas(labels))
    if len(places) < 5:
        return None
    profile = whole[places[0] : places[-1] + 1]
    off = np.abs(profile[1:-1] - (profile[:-2] + profile[2:]) / 2)
    return float(off[1:-1].max() / profile.max())


def order_ratio(frames: np.ndarray) -> float | None:
    """How much more alike neighbouring slices would be with two slices exchanged, by their mean pictures over the beat.

    Everything around the heart changes gradually from slice to slice, too, so that pictures tell what masks of a
    ventricle like a cylinder cannot.

    Args:
        frames: (X, Y, Z, T) grey levels as scanned.

    Returns:
        Sum of the distances between neighbours in the order given over that of the best exchange: above 1 where an
        exchange is better; None with fewer than five slices, or of blank ones.
    """
    n = frames.shape[2]
    if n < 5:
        return None
    apart, exchanged = _apart(frames), []
    for one, other in itertools.combinations(range(n), 2):
        order = np.arange(n)
        order[[one, other]] = other, one
        exchanged.append(_length(apart, order))
    return _length(apart, np.arange(n)) / min(exchanged) if min(exchanged) > 0 else None


def unlike_ratio(frames: np.ndarray) -> float | None:
    """How much less one slice is like its neighbours than slices of this stack usually are, by their mean pictures.

    From slice to slice a picture changes about as much as half of what it changes over two. Of another person, artefact
    or breath-hold, a slice is as far from both neighbours as they are from each other, or farther. Noise makes all
    slices less alike; hence the comparison with the usual one.

    Args:
        frames: (X, Y, Z, T) grey levels as scanned.

    Returns:
        Mean distance of a slice from its neighbours over theirs from each other, the largest over the median one: 1
        where all are the same; None with fewer than five slices, or of blank ones.
    """
    n = frames.shape[2]
    if n < 5:
        return None
    apart, middle = _apart(frames), np.arange(1, n - 1)
    around = apart[middle - 1, middle + 1]
    if not around.all():
        return None
    ratio = (apart[middle - 1, middle] + apart[middle, middle + 1]) / 2 / around
    return float(ratio.max() / np.median(ratio))


def _apart(frames: np.ndarray) -> np.ndarray:
    """(Z, Z) distances between the mean pictures of slices."""
    return squareform(pdist(frames.mean(axis=3, dtype=np.float32).reshape(-1, frames.shape[2]).T))


def _length(apart: np.ndarray, order: np.ndarray) -> float:
    return float(apart[order[:-1], order[1:]].sum())


def slices_in_step(labels: np.ndarray) -> float | None:
    """Smallest correlation over time of a slice's LV area with that of all others, the outer slices aside.

    A slice that hardly moves, behind an infarct or with a cavity of few pixels, is in step with nothing and is not
    judged: one that was gated otherwise, or is of another heart, moves as much as the others.

    Args:
        labels: (X, Y, Z, T).

    Returns:
        -1 to 1; None with fewer than five slices that have LV throughout, or where nothing moves.
    """
    area = areas(labels).astype(float)
    places = np.flatnonzero((area > 0).all(axis=1))[1:-1]
    if len(places) < 3:
        return None
    rest, moves = area[places].sum(axis=0), area[places].std(axis=1)
    out = []
    for z in places[moves >= MOVING * np.median(moves)]:
        one, others = area[z], rest - area[z]
        if one.std() > 0 and others.std() > 0:
            out.append(float(np.corrcoef(one, others)[0, 1]))
    return min(out) if out else None


def frame_dice(labels: np.ndarray) -> float:
    """Smallest Dice of the LV between neighbouring frames, in the middle half of its slices.

    Args:
        labels: (X, Y, Z, T).
    """
    places = np.flatnonzero(areas(labels).max(axis=1))
    quarter = len(places) // 4
    lv = labels[:, :, places[quarter : len(places) - quarter or None]] == LV
    both = (lv[..., 1:] & lv[..., :-1]).sum(axis=(0, 1, 2))
    either = lv[..., 1:].sum(axis=(0, 1, 2)) + lv[..., :-1].sum(axis=(0, 1, 2))
    return float((2 * both / np.maximum(either, 1)).min()) if lv.shape[-1] > 1 else 1.0


def base_share(labels: np.ndarray, ed: np.ndarray) -> float:
    """LV area in the last slice of the base's side as a share of that in the next: near 1 where the stack is cut off.

    Args:
        labels: (X, Y, Z) of the frame.
        ed: (X, Y, Z) at ED, which tells base from apex.
    """
    area = areas(labels).astype(float)
    if len(area) < 2:
        return 0.0
    last, second = (area[-1], area[-2]) if is_base_last(ed) else (area[0], area[1])
    return float(last / second) if second else 0.0


def apex_share(labels: np.ndarray) -> float:
    """LV area in the last slice of the apex's side as a share of the area at mid level."""
    area = areas(labels).astype(float)
    places = np.flatnonzero(area)
    if not len(places):
        return 0.0
    last = area[0] if is_base_last(labels) else area[-1]
    return float(last / area[places[len(places) // 2]])
