"""Pictures of a segmentation: overlap, volume curves, scan and rescan."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from cinema_lightning.palette import BLUE, GREY, ORANGE
from cinema_lightning.results.figures import Missing, bland_altman, new_figure, numeric
from cinema_lightning.results.kind import Results
from cinema_lightning.results.summary import groups_of
from cinema_lightning.tasks.segmentation.rescan import percent_variation, scan_pairs

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CURVES = 6
"""Studies whose volume curves are drawn."""


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


def overlap(results: Results, seed: int) -> Iterator[tuple[str, Figure]]:
    """Dice and HD95 per region, ED and ES side by side, every case a point."""
    drawn = False
    for name, display in (("dice", "Dice"), ("hd95", "HD95 (mm)")):
        regions = [str(n).removesuffix(f"_{name}") for n in results.cases if str(n).endswith(f"_{name}")]
        # The mean over regions comes last, or alone where a table has no more.
        regions = sorted(regions, key=lambda region: region == "mean")
        known = [n for n in regions if np.isfinite(numeric(results.cases, f"{n}_{name}")).any()]
        if known:
            drawn = True
            yield name, _boxes(results, [f"{n}_{name}" for n in known], display, seed)
    if not drawn:
        raise Missing("no case has a Dice or HD95")


def _boxes(results: Results, names: list[str], display: str, seed: int) -> Figure:
    groups = {group: part for group, part in groups_of(results.cases) if group in ("ED", "ES")}
    groups = groups or {"all": results.cases}
    figure, axes = new_figure(1, 1, max(4.2, 0.9 + 1.05 * len(names) * len(groups)), 4.0)
    axis, scatter = axes[0][0], np.random.default_rng(seed)
    ticks: list[float] = []
    labels: list[str] = []
    every: list[float] = []
    lines: dict[str, Any] = {"medianprops": {"color": "black", "linewidth": 1.8}, "showfliers": False, "zorder": 2}
    for place, name in enumerate(names):
        for number, (group, part) in enumerate(groups.items()):
            values = numeric(part, name)
            values = values[np.isfinite(values)]
            x = place * (len(groups) + 0.6) + number
            ticks.append(x)
            phase = "" if group == "all" else f"{group}, "
            labels.append(f"{_region(name)}\n{phase}n = {len(values)}")
            if not len(values):
                continue
            every += [float(values.min()), float(values.max())]
            spread = scatter.uniform(-0.22, 0.22, len(values))
            axis.scatter(x + spread, values, s=10, color=(BLUE, ORANGE)[number], alpha=0.5, linewidths=0, zorder=1)
            axis.boxplot(values, positions=[x], widths=0.6, **lines)
    axis.set_xticks(ticks, labels, fontsize=8)
    axis.set_ylabel(display)
    if display == "Dice":
        axis.set_ylim(max(0.0, np.floor(10 * min(every)) / 10) - 0.02, 1.02)
    else:
        axis.set_ylim(0, 1.05 * max(every) if max(every) > 0 else 1)
    axis.set_title(f"{display.split(' ')[0]}, {len(results.cases)} cases", fontsize=11)
    axis.grid(axis="y", color=GREY, alpha=0.2)
    return figure


def _region(column: str) -> str:
    name = column.rsplit("_", 1)[0].replace("_", " ")
    return name.upper() if name in ("lv", "rv") else name
