"""ED and ES from a volume curve, smoothed so that one odd frame decides nothing, and with few frames looked at."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from cinema_lightning.analysis.values import Phases
from cinema_lightning.errors import CinemaError

# SD of the smoothing, as a share of the beat: less than a frame of 30.
SMOOTH = 0.025
# Shares of the frames that the search may look at in all, and in its first sweep: 12 and 6 of 30.
BUDGET, SWEEP = 0.4, 0.2


def smoothed(curve: np.ndarray, *, cyclic: bool = True) -> np.ndarray:
    """A volume curve without the noise of single frames.

    Args:
        curve: (T,) ml, without gaps.
        cyclic: Whether the last frame comes before the first, as in a whole beat.

    Returns:
        (T,) ml.
    """
    from scipy.ndimage import gaussian_filter1d

    mode = "wrap" if cyclic else "nearest"
    return gaussian_filter1d(np.asarray(curve, dtype=np.float64), SMOOTH * len(curve), mode=mode)


def phases_of(curve: np.ndarray, *, cyclic: bool = True) -> Phases | None:
    """The frames with the largest and the smallest volume.

    Args:
        curve: (T,) ml; NaN for frames that were not looked at.
        cyclic: See :func:`smoothed`.

    Returns:
        ED and ES, of the smoothed curve where all of it is known; None where there is nothing, or it never changes.
    """
    known = np.flatnonzero(np.isfinite(curve))
    if not len(known) or not np.nanmax(curve) > np.nanmin(curve):
        return None
    whole = len(known) == len(curve) and len(curve) > 4
    values = smoothed(curve, cyclic=cyclic) if whole else np.asarray(curve, dtype=np.float64)
    return Phases(int(np.nanargmax(values)), int(np.nanargmin(values)))


def can_search(count: int) -> bool:
    """Whether a beat has frames enough for a search: 20."""
    return int(SWEEP * count) >= 4


def search(count: int, volume: Callable[[list[int]], list[float]]) -> np.ndarray:
    """Finds ED and ES by looking at few frames: a sweep over the beat, then around its largest and smallest volume.

    Args:
        count: Frames of the beat.
        volume: Gives the volumes of frames, ml; called with several frames at a time, each frame once.

    Returns:
        (count,) ml; NaN for frames that were not looked at, at least 60% of them.

    Raises:
        CinemaError: If the beat has too few frames for a search.
    """
    budget, coarse = int(BUDGET * count), int(SWEEP * count)
    if not can_search(count):
        raise CinemaError(f"--fast needs 20 frames or more, and there are {count}: leave it out.")
    curve = np.full(count, np.nan)

    def look(frames: list[int]) -> None:
        new = [frame for frame in dict.fromkeys(frame % count for frame in frames) if np.isnan(curve[frame])]
        new = new[: budget - int(np.isfinite(curve).sum())]
        if new:
            curve[new] = volume(new)

    look(np.linspace(0, count, coarse, endpoint=False).round().astype(int).tolist())
    tops = [_top(sign * curve) for sign in (1, -1)]
    look(tops)
    # Both sides of what is best by now, as long as looking is allowed.
    for step in (1, 2):
        for sign in (1, -1):
            best = int(np.nanargmax(sign * curve))
            look([best - step, best + step])
    return curve


def _top(curve: np.ndarray) -> int:
    """Where a parabola through the largest known value and its known neighbours on either side has its top."""
    known = np.flatnonzero(np.isfinite(curve))
    place = int(np.argmax(curve[known]))
    middle = int(known[place])
    before, after = int(known[place - 1]), int(known[(place + 1) % len(known)])
    x = np.array([before - len(curve) * (before > middle), middle, after + len(curve) * (after < middle)], float)
    a, b, _ = np.polyfit(x - middle, curve[[before, middle, after]], 2)
    move = -b / (2 * a) if a < 0 else 0.0
    return round(middle + float(np.clip(move, x[0] - middle, x[2] - middle))) % len(curve)
