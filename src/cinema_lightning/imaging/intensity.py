"""Grey levels: percentile clipping, scaling and eight bits, each 3D frame by itself."""

from __future__ import annotations

import numpy as np

# The lower one really is 0.95, not 95 hundredths of 100: as in the published preparation.
LOW_PERCENTILE = 0.95
HIGH_PERCENTILE = 99.5


def to_uint8(frame: np.ndarray) -> np.ndarray:
    """Clips a frame to its percentiles, scales it to 0..255 and cuts it to eight bits.

    Args:
        frame: One frame, any shape and numeric type; padding counts.

    Returns:
        uint8 of the same shape; a constant frame becomes 0.
    """
    low, high = np.percentile(frame, (LOW_PERCENTILE, HIGH_PERCENTILE))
    low, high = float(low), float(high)
    if not high > low:
        return np.zeros(frame.shape, np.uint8)
    scaled = np.clip(frame, low, high) - low
    scaled *= 255.0 / (high - low)
    return scaled.astype(np.uint8)
