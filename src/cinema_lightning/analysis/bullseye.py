"""The bullseye of the 16 segments: base outside, apex inside, anterior on top, septum on the left."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes

RADII = (1.0, 0.65, 0.30)
COLOURS = "cividis"  # sequential, the same to all eyes
LIMITS = (4.0, 16.0)  # mm
EMPTY = "#d9d9d9"


def draw_bullseye(
    axes: Axes, values: Mapping[int, float | None], limits: tuple[float, float] = LIMITS, digits: int = 1
) -> None:
    """Draws values of segments 1 to 16 with their numbers; short ticks are the insertions of the RV.

    Args:
        axes: Polar axes.
        values: Segment -> value; None or a missing one is grey.
        limits: Values of the colour scale's ends, the same for all studies.
        digits: Decimals of the numbers.
    """
    import matplotlib

    colours = matplotlib.colormaps[COLOURS]
    for segment in range(1, 17):
        middle, width, inner, outer = _place(segment)
        value = values.get(segment)
        share = None if value is None else float(np.clip((value - limits[0]) / (limits[1] - limits[0]), 0, 1))
        colour = EMPTY if share is None else colours(share)
        axes.bar(middle, outer - inner, width, bottom=inner, color=colour, edgecolor="white", linewidth=1.5)
        if value is not None:
            ink = "white" if share is not None and share < 0.55 else "black"
            axes.text(
                middle, (inner + outer) / 2, f"{value:.{digits}f}", color=ink, ha="center", va="center", fontsize=8
            )
    for border in (math.radians(120), math.radians(240)):  # segments 1|2 and 3|4
        axes.plot([border, border], [1.0, 1.07], color="black", linewidth=2, clip_on=False)
    axes.set_ylim(0, 1.07)
    axes.set_axis_off()
    walls = (("anterior", 90), ("septum", 180), ("inferior", 270), ("lateral", 0))
    for wall, degrees in walls:
        turned = 90 if degrees == 180 else -90 if degrees == 0 else 0
        place = {"ha": "center", "va": "center", "fontsize": 8, "rotation": turned}
        axes.text(math.radians(degrees), 1.16, wall, **place)  # type: ignore[arg-type]


def _place(segment: int) -> tuple[float, float, float, float]:
    """Angle of the middle, width, inner and outer radius; segments run counter-clockwise from the top."""
    level = 0 if segment <= 6 else 1 if segment <= 12 else 2
    width = math.pi / 2 if level == 2 else math.pi / 3
    number = segment - 1 - 6 * level
    inner = RADII[level + 1] if level < 2 else 0.0
    return math.pi / 2 + number * width, width, inner, RADII[level]
