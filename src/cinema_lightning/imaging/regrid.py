"""The frames of a slice on other pixels in plane, or at other moments of the beat."""

from __future__ import annotations

import numpy as np


def moved(frames: np.ndarray, matrix: np.ndarray, offset: np.ndarray) -> np.ndarray:
    """A cine on other pixels in plane; nothing beyond its edge.

    Args:
        frames: (T, X, Y).
        matrix: (2, 2), and
        offset: (2,): the old pixel of a new one is ``matrix @ new + offset``.

    Returns:
        (T, X, Y) of the same type.
    """
    from scipy.ndimage import affine_transform

    # The edge is replicated by one pixel, so that a small move cuts no dark line; farther out there is nothing.
    padded = np.pad(frames.astype(np.float32), ((0, 0), (1, 1), (1, 1)), mode="edge")
    size = frames.shape[1:]
    return np.stack(
        [
            in_type(affine_transform(frame, matrix, offset + 1, output_shape=size, order=1), frames.dtype)
            for frame in padded
        ]
    )


def at_phases(frames: np.ndarray, phases: int) -> np.ndarray:
    """A cine with another number of phases, by fraction of the beat: between neighbours in time, last before first.

    Args:
        frames: (T, X, Y).
        phases: Frames wanted.

    Returns:
        (phases, X, Y) of the same type.
    """
    count = len(frames)
    if count == phases:
        return frames
    exact = np.arange(phases) * count / phases
    before = exact.astype(int)
    share = (exact - before)[:, None, None].astype(np.float32)
    return in_type(frames[before] * (1 - share) + frames[(before + 1) % count] * share, frames.dtype)


def in_type(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Values in a type; rounded where it holds whole numbers."""
    return np.round(values).astype(dtype) if np.issubdtype(dtype, np.integer) else values.astype(dtype)
