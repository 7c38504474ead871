"""Headline figures of landmarks."""

from __future__ import annotations

from cinema_lightning.metrics import agreement
from cinema_lightning.metrics.weighted import mean
from cinema_lightning.results.headline import QUANTITIES, Facts, Headline, numbers


def headlines(facts: Facts) -> list[Headline]:
    """Distances, and long-axis function."""
    unit = "mm" if facts.get("spacing_known", True) else "px"
    distance = numbers(f"mean_distance_{unit}")
    found = [Headline("mean_distance", "Distance", unit, False, "cases", mean, distance, own_row=False)]
    for name in ("mapse", "tapse", "long_axis_shortening"):
        display, measure = QUANTITIES[name]
        pair = numbers(f"{name}_pred", f"{name}_true")
        title = f"{display} MAE"
        found.append(Headline(f"{name}_mae", title, measure, False, "function", agreement.mae, pair, own_row=False))
    return found
