"""Bands of numbers, such as ages, by which figures are shown."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from cinema_lightning.metrics.weighted import column


def band(values: Any, edges: Sequence[float]) -> np.ndarray:
    """Names of the bands that numbers fall in.

    Args:
        values: (N,) numbers, NaN where unknown.
        edges: Rising lower ends of all bands but the first.

    Returns:
        (N,) texts such as ``<45``, ``45-55`` (45 and above, below 55) and ``>=75``; empty where unknown.
    """
    marks = [f"{edge:g}" for edge in edges]
    to = "-" if edges[0] >= 0 else " to "
    names = [f"<{marks[0]}", *(f"{low}{to}{high}" for low, high in pairwise(marks)), f">={marks[-1]}"]
    numbers = column(values)
    places = np.searchsorted(np.asarray(edges), numbers, side="right")
    return np.where(np.isfinite(numbers), np.asarray(names)[np.minimum(places, len(edges))], "")
