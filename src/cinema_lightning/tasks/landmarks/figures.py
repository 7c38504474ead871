"""Headline figures of landmarks."""

from __future__ import annotations

from cinema_lightning.columns import quantities
from cinema_lightning.metrics.weighted import mean
from cinema_lightning.results.headline import Facts, Headline, mean_error, numbers


def headlines(facts: Facts) -> list[Headline]:
    """Distances, and long-axis function."""
    unit = "mm" if facts.get("spacing_known", True) else "px"
    distance = numbers(f"mean_distance_{unit}")
    found = [Headline("mean_distance", "Distance", unit, False, "cases", mean, distance, own_row=False)]
    return found + [mean_error(column) for column in quantities("landmarks")]
