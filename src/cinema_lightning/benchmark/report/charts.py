"""The report's pictures, as SVG texts that are the same for the same numbers.

Arms differ by colour, marker and dash, so that a grey print can be read.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from cinema_lightning.metrics.survival import SurvivalCurve

# Okabe and Ito's palette, told apart by the colour-blind.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8C6D31")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
DASHES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 1)), (0, (7, 2)))
DAYS_PER_YEAR = 365.25


@dataclass(frozen=True)
class Point:
    """A figure with its interval at a place of the horizontal axis."""

    x: float
    value: float
    low: float
    high: float


def style(place: int) -> dict[str, Any]:
    """Colour, marker and dash of the arm at a place of the order."""
    return {
        "color": COLOURS[place % len(COLOURS)],
        "marker": MARKERS[place % len(MARKERS)],
        "linestyle": DASHES[place % len(DASHES)],
    }


def new_figure(width: float, height: float) -> tuple[Figure, Axes]:
    """A figure in inches with one plain axis, without pyplot's global state."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#e4e4e4", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=8)
    return figure, axes


def svg(figure: Figure) -> str:
    """SVG text; no date and no chance in it."""
    import matplotlib as mpl

    buffer = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": "cinema", "svg.fonttype": "path"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def label_efficiency(curves: Mapping[str, Sequence[Point]], places: Mapping[str, int], label: str) -> str:
    """Figure against label fraction (logarithmic), one line per arm, bars for the intervals."""
    figure, axes = new_figure(4.6, 3.0)
    fractions = sorted({point.x for points in curves.values() for point in points})
    for number, (name, points) in enumerate(curves.items()):
        ordered = sorted(points, key=lambda point: point.x)
        # Bars of arms at one fraction stand side by side.
        shift = 1.03 ** (number - (len(curves) - 1) / 2)
        x = np.array([point.x for point in ordered]) * shift
        y = np.array([point.value for point in ordered])
        known = [(point.low, point.high) for point in ordered]
        bars = np.array([[v - a, b - v] if math.isfinite(a) else [0, 0] for v, (a, b) in zip(y, known, strict=True)]).T
        axes.errorbar(
            x, y, yerr=np.maximum(bars, 0), label=name, markersize=4, linewidth=1.3, capsize=2, **style(places[name])
        )
    axes.set_xscale("log")
    axes.set_xticks(fractions, [f"{fraction:g}" for fraction in fractions])
    axes.set_xticks([], minor=True)
    axes.set_xlabel("training subjects with labels, %", fontsize=8)
    axes.set_ylabel(label, fontsize=8)
    _legend(axes, len(curves))
    return svg(figure)


def _legend(axes: Axes, count: int, size: float = 8) -> None:
    """Above the axes, where it covers no line."""
    axes.legend(
        fontsize=size, frameon=False, loc="lower left", bbox_to_anchor=(0, 1.0), ncols=min(count, 3), borderaxespad=0.2
    )


def bland_altman(first: np.ndarray, second: np.ndarray, label: str, title: str, limit: float) -> str:
    """Difference of two scans against their mean, with bias and 95% limits of agreement.

    Args:
        first: (N,) first scan.
        second: (N,) second scan of the same people.
        label: Quantity and unit.
        title: Name of the arm.
        limit: Ends of the vertical axis (plus and minus), so that several pictures compare.

    Returns:
        SVG.
    """
    from cinema_lightning.metrics.agreement import bias, limits_of_agreement

    figure, axes = new_figure(3.1, 2.7)
    axes.scatter((first + second) / 2, second - first, s=12, color=COLOURS[0], alpha=0.7, linewidth=0)
    centre, (low, high) = bias(second, first), limits_of_agreement(second, first)
    for value, dash in ((centre, "-"), (low, "--"), (high, "--")):
        if not math.isfinite(value):
            continue
        axes.axhline(value, color="#444444", linewidth=1, linestyle=dash)
        axes.annotate(
            f"{value:.2f}".replace("-", "−"),
            (1.02, value),
            xycoords=("axes fraction", "data"),
            fontsize=7,
            va="center",
        )
    axes.set_ylim(-limit, limit)
    axes.set_title(title, fontsize=9)
    axes.set_xlabel(f"mean of both scans: {label}", fontsize=8)
    axes.set_ylabel(f"second less first: {label}", fontsize=8)
    return svg(figure)


def kaplan_meier(curves: Mapping[str, SurvivalCurve], title: str, years: bool) -> str:
    """Kaplan-Meier curves with 95% bands, and how many are at risk below.

    Args:
        curves: Name of the risk group -> curve, lowest risk first.
        title: Name of the arm.
        years: Show days as years.

    Returns:
        SVG.
    """
    from matplotlib.ticker import MaxNLocator

    figure, axes = new_figure(3.9, 3.2)
    scale = DAYS_PER_YEAR if years else 1.0
    for place, (name, curve) in enumerate(curves.items()):
        kind = style(place)
        axes.step(
            curve.time / scale,
            curve.survival,
            where="post",
            linewidth=1.4,
            color=kind["color"],
            linestyle=kind["linestyle"],
            label=f"{name} (n {curve.n}, events {curve.events})",
        )
        axes.fill_between(
            curve.time / scale, curve.low, curve.high, step="post", alpha=0.15, color=kind["color"], linewidth=0
        )
    axes.set_ylim(0, 1.02)
    end = max(float(curve.time.max()) for curve in curves.values()) / scale
    axes.set_xlim(0, end)
    ticks = [tick for tick in MaxNLocator(6).tick_values(0, end) if 0 <= tick <= end]
    axes.set_xticks(ticks)
    axes.set_title(title, fontsize=9, pad=18)
    axes.set_ylabel("share without event", fontsize=8)
    axes.set_xlabel("years" if years else "days", fontsize=8)
    for row, (place, curve) in enumerate(enumerate(curves.values())):
        _at_risk(axes, curve, ticks, scale, row, style(place)["color"])
    _legend(axes, len(curves), size=7)
    return svg(figure)


def _at_risk(axes: Axes, curve: SurvivalCurve, ticks: Sequence[float], scale: float, row: int, colour: str) -> None:
    """Subjects under observation at each tick, in the curve's colour, below the axis."""
    for tick in ticks:
        place = int(np.searchsorted(curve.time, tick * scale))
        count = int(curve.at_risk[place]) if place < len(curve.at_risk) else 0
        axes.annotate(
            str(count),
            (tick, 0),
            xycoords=("data", "axes fraction"),
            xytext=(0, -34 - 10 * row),
            textcoords="offset points",
            ha="center",
            fontsize=7,
            color=colour,
        )
