"""Which frames are ED and ES."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def known_phases(phases: np.ndarray, counts: np.ndarray, assumed: Sequence[float] | None) -> np.ndarray:
    """Fills in ED and ES where the table does not name them.

    Args:
        phases: (n, 2) frames that the table names; NaN where it does not. A study with one of the two has neither.
        counts: (n,) frames of each study.
        assumed: ED and ES as fractions of the cycle; None leaves what is not named unknown.

    Returns:
        (n, 2) frames, NaN where unknown.
    """
    found = phases.copy()
    unknown = ~np.isfinite(found).all(axis=1)
    found[unknown] = np.nan
    if assumed is not None:
        guess = np.minimum(np.round(np.outer(counts, assumed)), counts[:, None] - 1)
        found[unknown] = guess[unknown]
    return found
