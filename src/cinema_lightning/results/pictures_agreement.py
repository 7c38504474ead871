"""Agreement of prediction and truth: volumes, ejection fraction, regression, scan and rescan, volume curves."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from cinema_lightning.results.figures import (
    BLUE,
    GREY,
    ORANGE,
    Missing,
    bland_altman,
    correlation,
    new_figure,
    numeric,
)
from cinema_lightning.results.folder import Results
from cinema_lightning.results.headline import QUANTITIES, scan_pairs

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CURVES = 6
"""Studies whose volume curves are drawn."""


def function(results: Results, seed: int) -> Iterator[tuple[str, Figure]]:
    """One picture per quantity: correlation and Bland-Altman."""
    del seed
    table = results.function
    if table is None:
        raise Missing("there is no function.csv")
    drawn = False
    for name, (display, unit) in QUANTITIES.items():
        if {f"{name}_pred", f"{name}_true"} <= set(table.columns):
            pair = _complete(numeric(table, f"{name}_pred"), numeric(table, f"{name}_true"))
            if len(pair[0]):
                drawn = True
                yield name, _pair_figure(*pair, display, unit)
    if not drawn:
        raise Missing("no study has both a prediction and a truth of a volume")


def target(results: Results, seed: int) -> Iterator[tuple[str, Figure]]:
    """Correlation and Bland-Altman of a regression."""
    del seed
    name = str(results.facts.get("target", "target"))
    display, unit = QUANTITIES.get(name, (name, str(results.facts.get("unit", ""))))
    pair = _complete(numeric(results.cases, "predicted"), numeric(results.cases, "true"))
    if not len(pair[0]):
        raise Missing("no case has both a prediction and a truth")
    yield name, _pair_figure(*pair, display, unit)


def _complete(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    both = np.isfinite(first) & np.isfinite(second)
    return first[both], second[both]


def _pair_figure(predicted: np.ndarray, true: np.ndarray, name: str, unit: str) -> Figure:
    figure, axes = new_figure(1, 2)
    correlation(axes[0][0], predicted, true, name, unit)
    bland_altman(axes[0][1], predicted, true, name, unit, "Predicted - true")
    figure.suptitle(name)
    return figure


def scan_rescan(results: Results, seed: int) -> Iterator[tuple[str, Figure]]:
    """Bland-Altman of the LVEF of two scans of the same persons, predicted and true."""
    del seed
    if results.function is None or "scan" not in results.function:
        return
    found = {side: scan_pairs(results.function, side) for side in ("pred", "true")}
    sides = {side: pairs for side, pairs in found.items() if pairs is not None}
    if not sides:
        raise Missing("no person has the LVEF of two scans")
    figure, axes = new_figure(1, len(sides))
    for axis, (side, pairs) in zip(axes[0], sides.items(), strict=True):
        bland_altman(axis, pairs[0], pairs[1], "LVEF", "%", "Scan - rescan")
        axis.set_title(f"{'Predicted' if side == 'pred' else 'True'}, n = {len(pairs[0])}", fontsize=9)
    figure.suptitle("LVEF of scan and rescan")
    yield "scan_rescan", figure


def volume_curves(results: Results, seed: int) -> Iterator[tuple[str, Figure]]:
    """LV and RV volume over the cycle, of studies with more than two frames."""
    del seed
    cases = results.cases
    if "lv_volume_pred" not in cases:
        raise Missing("no LV volumes")
    stacks = cases[cases["view"] == "sax"] if "view" in cases else cases
    studies = {str(name): part.sort_values("frame") for name, part in stacks.groupby("id") if len(part) > 2}
    if not studies:
        return
    chosen = _chosen(list(studies), results.function)
    figure, axes = new_figure(-(-len(chosen) // 3), min(3, len(chosen)), 3.8, 3.0)
    for axis in axes.flat[len(chosen) :]:
        axis.set_visible(False)
    for axis, name in zip(axes.flat, chosen, strict=False):
        part = studies[name]
        for region, colour in (("lv", BLUE), ("rv", ORANGE)):
            if f"{region}_volume_pred" not in part:
                continue
            axis.plot(part["frame"], numeric(part, f"{region}_volume_pred"), color=colour, label=region.upper())
            true = numeric(part, f"{region}_volume_true")
            known = np.isfinite(true)
            style = {"color": colour, "marker": "o", "markersize": 3, "linestyle": "none", "alpha": 0.6}
            if known.any():
                axis.plot(part["frame"][known], true[known], label=f"{region.upper()}, true", **style)
        axis.set(xlabel="Frame", ylabel="Volume (ml)")
        axis.set_ylim(bottom=0)
        axis.set_title(name, fontsize=9)
        axis.grid(color=GREY, alpha=0.15)
    axes.flat[0].legend(fontsize=7)
    figure.suptitle("Volume over the cardiac cycle")
    yield "volume_curves", figure


def _chosen(names: list[str], function_table: pd.DataFrame | None) -> list[str]:
    """The studies with the smallest, middle and largest error of the LVEF; the first ones where that is unknown."""
    if function_table is None or "lv_ef_true" not in function_table:
        return names[:CURVES]
    error = np.abs(numeric(function_table, "lv_ef_pred") - numeric(function_table, "lv_ef_true"))
    order = pd.Series(error, index=function_table["id"].astype(str)).dropna().sort_values()
    order = order[order.index.isin(names)]
    if order.empty:
        return names[:CURVES]
    places = np.unique(np.linspace(0, len(order) - 1, min(CURVES, len(order))).round().astype(int))
    return [str(order.index[place]) for place in places]
