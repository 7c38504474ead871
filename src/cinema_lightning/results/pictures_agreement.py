"""Agreement of prediction and truth: volumes, ejection fraction, regression, scan and rescan, volume curves."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from cinema_lightning.columns import look_up, quantities
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
from cinema_lightning.results.headline import percent_variation, scan_pairs

if TYPE_CHECKING:
    from matplotlib.axes import Axes
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
    for quantity in quantities():
        name = quantity.name
        if {f"{name}_pred", f"{name}_true"} <= set(table.columns):
            pair = _complete(numeric(table, f"{name}_pred"), numeric(table, f"{name}_true"))
            if len(pair[0]):
                drawn = True
                yield name, _pair_figure(*pair, quantity.display, quantity.unit)
    if not drawn:
        raise Missing("no study has both a prediction and a truth of a volume")


def target(results: Results, seed: int) -> Iterator[tuple[str, Figure]]:
    """Correlation and Bland-Altman of a regression."""
    del seed
    name = str(results.facts.get("target", "target"))
    column = look_up(name)
    unit = str(results.facts.get("unit") or column.unit)
    pair = _complete(numeric(results.cases, "predicted"), numeric(results.cases, "true"))
    if not len(pair[0]):
        raise Missing("no case has both a prediction and a truth")
    yield name, _pair_figure(*pair, column.display, unit)


def _complete(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    both = np.isfinite(first) & np.isfinite(second)
    return first[both], second[both]


def _pair_figure(predicted: np.ndarray, true: np.ndarray, name: str, unit: str) -> Figure:
    figure, axes = new_figure(1, 2)
    correlation(axes[0][0], predicted, true, name, unit)
    bland_altman(axes[0][1], predicted, true, name, unit, "Predicted - true")
    figure.suptitle(f"{name[:1].upper()}{name[1:]}, n = {len(true)}")
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
        variation = percent_variation(pairs[0], pairs[1])
        side_name = "Predicted" if side == "pred" else "True"
        axis.set_title(f"{side_name}: variation {variation:.1f}%, n = {len(pairs[0])} persons", fontsize=10)
    figure.suptitle("LVEF of scan and rescan")
    yield "scan_rescan", figure


def volume_curves(results: Results, seed: int) -> Iterator[tuple[str, Figure]]:
    """LV and RV volume over the cycle, of studies with more than two frames."""
    del seed
    cases = results.cases
    if not {"lv_volume_pred", "frame"} <= set(cases.columns):
        raise Missing("there are no LV volumes of frames")
    stacks = cases[cases["view"].isin(["sax", ""])] if "view" in cases else cases
    studies = {str(name): part.sort_values("frame") for name, part in stacks.groupby("id") if len(part) > 2}
    if not studies:
        raise Missing("no study has more than two frames")
    chosen = _chosen(list(studies), results.function)
    columns = min(3, len(chosen))
    figure, axes = new_figure(-(-len(chosen) // columns), columns, 3.7, 3.0)
    for axis in axes.flat[len(chosen) :]:
        axis.set_visible(False)
    for axis, (name, remark) in zip(axes.flat, chosen.items(), strict=False):
        _draw_curves(axis, studies[name], _row_of(results.function, name))
        axis.set_title(f"{name}{remark}", fontsize=9)
    for axis in axes[-1]:
        axis.set_xlabel("Frame")
    for axis in axes[:, 0]:
        axis.set_ylabel("Volume (ml)")
    handles = {text: line for axis in axes.flat for line, text in zip(*axis.get_legend_handles_labels(), strict=True)}
    options: dict[str, Any] = {"loc": "outside lower center", "frameon": False, "fontsize": 9}
    figure.legend(handles.values(), handles, ncols=min(len(handles), 2 * columns), **options)
    shown = "" if len(chosen) == len(studies) else f", {len(chosen)} of {len(studies)} studies"
    figure.suptitle(f"Volume over the cardiac cycle{shown}")
    yield "volume_curves", figure


def _draw_curves(axis: Axes, part: pd.DataFrame, measured: pd.Series | None) -> None:
    """Predicted curves; the truth as points where frames are labelled, else as lines at its EDV and ESV."""
    from matplotlib.ticker import MaxNLocator

    top = 0.0
    for region, colour in (("lv", BLUE), ("rv", ORANGE)):
        if f"{region}_volume_pred" not in part:
            continue
        name, frames = region.upper(), part["frame"].to_numpy()
        curve = numeric(part, f"{region}_volume_pred")
        axis.plot(frames, curve, color=colour, linewidth=1.5, label=f"{name}, predicted")
        true = numeric(part, f"{region}_volume_true") if f"{region}_volume_true" in part else np.full(len(part), np.nan)
        known = np.isfinite(true)
        style: dict[str, Any] = {
            "color": colour,
            "marker": "o",
            "markersize": 4,
            "linestyle": "none",
            "markerfacecolor": "white",
        }
        axis.plot(frames[known], true[known], label=f"{name}, true" if known.any() else None, zorder=3, **style)
        levels = [] if known.any() or measured is None else _levels(measured, region)
        for number, level in enumerate(levels):
            text = f"{name}, true EDV and ESV" if not number else None
            axis.axhline(level, color=colour, linewidth=1, linestyle="dashed", label=text)
        top = max([top, *curve[np.isfinite(curve)], *true[known], *levels])
    axis.set_ylim(0, 1.08 * top if top > 0 else 1)
    axis.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axis.grid(color=GREY, alpha=0.15)


def _levels(measured: pd.Series, region: str) -> list[float]:
    values = [float(measured.get(f"{region}_{phase}_true", np.nan)) for phase in ("edv", "esv")]
    return [value for value in values if np.isfinite(value)]


def _row_of(table: pd.DataFrame | None, study: str) -> pd.Series | None:
    rows = None if table is None else table[table["id"].astype(str) == study]
    return None if rows is None or not len(rows) else rows.iloc[0]


def _chosen(names: list[str], table: pd.DataFrame | None) -> dict[str, str]:
    """Studies to draw and a remark for their titles.

    Those with the smallest, the middle and the largest error of the LVEF; the first ones where no error is known.
    """
    if table is None or not {"lv_ef_true", "lv_ef_pred"} <= set(table.columns):
        return dict.fromkeys(names[:CURVES], "")
    errors = numeric(table, "lv_ef_pred") - numeric(table, "lv_ef_true")
    order = pd.Series(errors, index=table["id"].astype(str)).dropna().sort_values(key=np.abs, kind="stable")
    order = order[order.index.isin(names)]
    if order.empty:
        return dict.fromkeys(names[:CURVES], "")
    middle, last, third = len(order) // 2, len(order), CURVES // 3
    places = [*range(third), *range(middle - 1, middle + 1), *range(last - third, last)]
    if last <= CURVES:
        places = list(range(last))
    rank = {last - 1: "worst, ", middle: "median, ", 0: "best, "} if last > 2 else {}
    return {str(order.index[i]): f" ({rank.get(i, '')}LVEF error {order.iloc[i].round(1) + 0.0:+.1f}%)" for i in places}
