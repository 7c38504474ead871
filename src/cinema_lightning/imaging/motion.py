"""Where the heart is, from what moves: for studies without the planes that would say it."""

from __future__ import annotations

import numpy as np

from cinema_lightning.errors import CinemaError
from cinema_lightning.imaging.geometry import spacing_of

# Radii of a left ventricle's cavity and wall, mm, from a small apex to a dilated base.
RADII = range(10, 45, 3)
# How far the picture and the votes are smoothed, mm.
PICTURE, VOTES = 2.0, 4.0
# What moves more than all but this percentage of a slice counts no more: bright fat and vessels would decide alone.
MOST = 98.0


def motion_centre(frames: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """Finds the axis of the left ventricle in a short-axis cine.

    What changes once per beat is the first harmonic of each voxel over the cycle. The left ventricle is where that lies
    on circles round something bright: each moving pixel votes for the points that lie a radius away towards the
    brighter side, and most votes of all slices win. The right ventricle and vessels move as much, but are not round and
    of this size; what is round and still has no votes.

    Args:
        frames: (T, X, Y, Z), one beat.
        affine: (4, 4), voxel to RAS mm.

    Returns:
        (3,) RAS mm, in the middle of the stack along z.

    Raises:
        CinemaError: If there is one frame only, or nothing moves.
    """
    from scipy.ndimage import gaussian_filter

    spacing = spacing_of(affine)[:2]
    moving = _harmonic(frames)
    size = moving.shape[:2]
    picture = gaussian_filter(frames.mean(axis=0, dtype=np.float32), (*(PICTURE / spacing), 0))
    slopes = np.stack(np.gradient(picture, *spacing, axis=(0, 1)))
    lengths = np.linalg.norm(slopes, axis=0)
    towards = slopes / np.maximum(lengths, np.finfo(np.float32).tiny)
    places = np.indices(moving.shape)[:2]
    votes = np.zeros(size)
    for radius in RADII:
        aims = np.rint(places + towards * radius / spacing[:, None, None, None]).astype(int)
        inside = (aims >= 0).all(axis=0) & (aims[0] < size[0]) & (aims[1] < size[1]) & (lengths > 0)
        hits = np.ravel_multi_index((aims[0][inside], aims[1][inside]), size)
        count = np.bincount(hits, weights=moving[inside], minlength=votes.size).reshape(size)
        # A larger circle has more pixels that vote.
        votes += gaussian_filter(count, VOTES / spacing) / radius
    x, y = np.unravel_index(votes.argmax(), size)
    return (affine @ [x, y, (frames.shape[3] - 1) / 2, 1.0])[:3]


def _harmonic(frames: np.ndarray) -> np.ndarray:
    """(X, Y, Z) size of the first harmonic over the beat, 0 to 1 in each slice."""
    count = len(frames)
    wave = np.exp(-2j * np.pi * np.arange(count) / count).astype(np.complex64)
    moving = np.abs(np.tensordot(wave, frames.astype(np.float32), axes=1))
    if count < 2 or not moving.max() > 1e-6 * count * np.abs(frames).max():
        raise CinemaError(
            "nothing moves in the SAX cine, so the heart cannot be found in it: give all frames of the beat"
        )
    moving = np.minimum(moving, np.percentile(moving, MOST, axis=(0, 1), keepdims=True))
    return moving / np.maximum(moving.max(axis=(0, 1), keepdims=True), np.finfo(np.float32).tiny)
