"""Headline figures of landmarks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd

from cinema_lightning.columns import quantities
from cinema_lightning.metrics.weighted import mean
from cinema_lightning.results.headline import Cases, Facts, Headline, mean_error, nowhere, numbers


def _without(distance: str) -> Cases:
    """Cases of which a landmark was not found; where the table has no truths, those without a distance."""

    def find(table: pd.DataFrame, facts: Facts) -> np.ndarray:
        found = numbers(distance)(table, facts)
        if found is None:
            return nowhere(table, facts)
        truths = numbers(*(f"{name}_x_true" for name in facts.get("landmarks", [])))(table, facts)
        known = np.isfinite(truths).all(axis=0) if truths else np.full(len(table), np.isfinite(found[0]).any())
        return ~np.isfinite(found[0]) & known

    return find


def headlines(facts: Facts) -> list[Headline]:
    """Distances, and long-axis function."""
    unit = "mm" if facts.get("spacing_known", True) else "px"
    name = f"mean_distance_{unit}"
    figure = Headline("mean_distance", "Distance", unit, False, "cases", mean, numbers(name), own_row=False)
    found = [replace(figure, failed=_without(name))]
    return found + [mean_error(column) for column in quantities("landmarks")]
