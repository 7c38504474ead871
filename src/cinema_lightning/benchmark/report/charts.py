"""The report's pictures, as SVG texts that are the same for the same numbers, and right on light and dark paper.

Arms differ by colour, marker and dash, so that a grey print can be read.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from cinema_lightning.palette import BLUE, GREY, GRID, LINES
from cinema_lightning.results import figures
from cinema_lightning.results.figures import new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
DASHES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 1)), (0, (7, 2)))
_PAPER = {
    "#000000": "currentColor",
    BLUE: "var(--blue)",
    GREY: "var(--grey)",
    GRID: "var(--line)",
    "#ffffff": "var(--paper)",
}
"""Colours that the page has another shade of on dark paper (style.css)."""
_LINE, _AXIS = 0.2, 3.0
"""Inches of a line of a forest plot, and of its axis."""
_LETTER, _BOLD_LETTER = 0.062, 0.07
"""Inches of a letter of the labels, on average."""


@dataclass(frozen=True)
class Point:
    """A figure with its interval.

    Attributes:
        value: The figure.
        low: End of its interval, NaN where there is none.
        high: The other end.
        place: Place of its arm in the order, which gives colour and marker.
        x: Where it lies on the horizontal axis of a curve.
        sure: Whether its mark is filled, and its numbers bold.
    """

    value: float
    low: float
    high: float
    place: int = 0
    x: float = math.nan
    sure: bool = True


@dataclass(frozen=True)
class Line:
    """A line of a forest plot: what it is, its points, and the numbers at the right; a heading has no points."""

    label: str
    points: Sequence[Point] = ()
    remark: str = ""


@dataclass(frozen=True)
class Panel:
    """Lines of a forest plot that share an axis; ``zero`` draws where there is no difference."""

    label: str
    lines: Sequence[Line]
    zero: bool = False


def style(place: int) -> dict[str, Any]:
    """Colour, marker and dash of the arm at a place of the order."""
    return {
        "color": LINES[place % len(LINES)],
        "marker": MARKERS[place % len(MARKERS)],
        "linestyle": DASHES[place % len(DASHES)],
    }


def svg(figure: Figure, name: str, scale: float = 1.0) -> str:
    """SVG text, to stand within a page.

    Args:
        figure: The picture.
        name: Its name, unique on the page: what its marks are called is made of it.
        scale: Size on the page, in those of the figure.

    Returns:
        The text, whose colours follow the page's; no date and no chance in it.
    """
    import matplotlib as mpl

    buffer = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": name, "svg.fonttype": "none"}):
        figure.savefig(buffer, format="svg", transparent=True, dpi=150, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
    used = set(re.findall(r"#([\w.-]+)", text))
    text = re.sub(r' id="([^"]*)"', lambda found: found[0] if found[1] in used else "", text)
    for colour, variable in _PAPER.items():
        text = text.replace(colour, variable)
    # Text without a colour is black whatever the page's ink is.
    size = 'width="{:g}pt" height="{:g}pt" fill="currentColor"'.format(*(scale * 72 * figure.get_size_inches()))
    return re.sub(r'width="[\d.]+pt" height="[\d.]+pt"', size, text, count=1)


def forest(panels: Sequence[Panel], arms: Mapping[str, int], name: str) -> str:
    """Figures with intervals, one below the other; figures of another unit have a panel of their own.

    Args:
        panels: Lines by unit.
        arms: Name of each arm that has points -> its place, for the legend.
        name: Name of the picture.

    Returns:
        SVG, one for each panel, so that paper can be turned between them.
    """
    lines = [line for panel in panels for line in panel.lines]
    left = _letters([line.label for line in lines if line.points], _LETTER)  # a heading may reach over the axis
    right = _letters([line.remark for line in lines], _BOLD_LETTER if panels[0].zero else _LETTER)
    sides = (left, left + _AXIS, left + _AXIS + right)
    found = [_forest_panel(panel, sides, arms if place == 0 else {}) for place, panel in enumerate(panels)]
    return "".join(svg(figure, f"{name}-{place}") for place, figure in enumerate(found))


def _letters(texts: Sequence[str], width: float) -> float:
    """Inches that the longest of some texts takes."""
    return 0.15 + width * max((len(each) for each in texts), default=0)


def _forest_panel(panel: Panel, sides: tuple[float, float, float], arms: Mapping[str, int]) -> Figure:
    """The axis between the first two sides, all in inches from the left; the legend of some arms above it."""
    from matplotlib.figure import Figure

    above, below = (0.3 if len(arms) > 1 else 0.05), 0.45
    height = above + below + _LINE * len(panel.lines)
    figure = Figure(figsize=(sides[2], height))
    axis = figure.add_axes(
        (sides[0] / sides[2], below / height, (sides[1] - sides[0]) / sides[2], _LINE * len(panel.lines) / height)
    )
    axis.spines[["top", "right"]].set_visible(False)
    _panel(axis, panel, -sides[0] / _AXIS)
    if len(arms) > 1:
        _legend(figure, arms, "upper left")
    return figure


def _panel(axis: Axes, panel: Panel, left: float) -> None:
    axis.spines["left"].set_visible(False)
    axis.grid(axis="x", color=GRID, linewidth=0.6)
    axis.set_axisbelow(True)
    if panel.zero:
        axis.axvline(0, color=GREY, linewidth=1)
    for number, line in enumerate(panel.lines):
        shifts = (np.arange(len(line.points)) - (len(line.points) - 1) / 2) * (0.6 / max(1, len(line.points)))
        for point, shift in zip(line.points, shifts, strict=True):
            _point(axis, point, number + shift)
        bold = panel.zero and any(point.sure for point in line.points)
        options: dict[str, Any] = {"fontsize": 8, "va": "center", "fontweight": "bold" if bold else "normal"}
        axis.annotate(line.remark, (1.015, number), xycoords=("axes fraction", "data"), **options)
    axis.set_ylim(len(panel.lines) - 0.4, -0.6)
    labels = [line.label if line.points else "" for line in panel.lines]
    axis.set_yticks(range(len(labels)), labels, fontsize=8)
    for number, line in enumerate(panel.lines):
        if not line.points:
            place: Any = {"xycoords": ("axes fraction", "data"), "fontsize": 8, "va": "center", "fontweight": "bold"}
            paper = {"facecolor": "#ffffff", "edgecolor": "none", "pad": 1}
            axis.annotate(line.label, (left + 0.02, number), bbox=paper, **place)
    axis.tick_params(axis="y", length=0)
    axis.tick_params(axis="x", labelsize=8)
    axis.locator_params(axis="x", nbins=6)
    axis.set_xlabel(panel.label, fontsize=8)


def _point(axis: Axes, point: Point, y: float) -> None:
    kind = style(point.place)
    if math.isfinite(point.low) and math.isfinite(point.high):
        axis.plot([point.low, point.high], [y, y], color=kind["color"], linewidth=1.5, solid_capstyle="butt")
    fill = kind["color"] if point.sure else "#ffffff"
    axis.plot([point.value], [y], color=kind["color"], marker=kind["marker"], markersize=5, markerfacecolor=fill)


def _legend(
    figure: Figure, arms: Mapping[str, int], place: Literal["outside upper left", "upper left"] = "outside upper left"
) -> None:
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], label=name, linewidth=1.5, markersize=5, **style(arms[name])) for name in arms]
    for handle in handles:
        handle.set_linestyle("-")
    figure.legend(handles=handles, loc=place, frameon=False, fontsize=8, ncols=min(len(arms), 5))


def label_efficiency(curves: Mapping[str, Sequence[Point]], title: str, label: str, name: str) -> str:
    """Figure against label fraction (logarithmic), one line per arm, bars for the intervals.

    Args:
        curves: Name of the arm -> points, ``x`` the percentage of labels.
        title: The task.
        label: The figure and its unit.
        name: Name of the picture.

    Returns:
        SVG.
    """
    figure, axes = new_figure(1, 1, 3.9, 3.0)
    axis = axes[0][0]
    axis.grid(axis="y", color=GRID, linewidth=0.6)
    axis.set_axisbelow(True)
    for number, points in enumerate(curves.values()):
        ordered = sorted(points, key=lambda point: point.x)
        # Bars of arms at one fraction stand side by side.
        shift = 1.03 ** (number - (len(curves) - 1) / 2)
        kind = style(ordered[0].place)
        x = [point.x * shift for point in ordered]
        axis.plot(x, [point.value for point in ordered], linewidth=1.3, markersize=4.5, **kind)
        for place, point in zip(x, ordered, strict=True):
            if math.isfinite(point.low) and math.isfinite(point.high):
                axis.plot([place, place], [point.low, point.high], color=kind["color"], linewidth=1)
    axis.set_xscale("log")
    fractions = sorted({point.x for points in curves.values() for point in points})
    axis.set_xticks(fractions, [f"{fraction:g}" for fraction in fractions])
    axis.set_xticks([], minor=True)
    axis.tick_params(labelsize=8)
    axis.set_xlabel("training subjects with labels, %", fontsize=8)
    axis.set_ylabel(label, fontsize=8)
    axis.set_title(title, fontsize=9, loc="left")
    _legend(figure, {name: points[0].place for name, points in curves.items()})
    return svg(figure, name)


def bland_altman(
    first: np.ndarray,
    second: np.ndarray,
    title: str,
    quantity: tuple[str, str],
    difference: str,
    name: str,
    reach: float | None = None,
) -> str:
    """Difference of two measurements against their mean, with bias and 95% limits of agreement.

    Args:
        first: (N,) measurements.
        second: (N,) measurements of the same people, subtracted.
        title: What is measured by whom.
        quantity: Name and unit.
        difference: Name of the difference.
        name: Name of the picture.
        reach: Half of the vertical axis, so that several pictures compare; None takes what is needed.

    Returns:
        SVG.
    """
    figure, axes = new_figure(1, 1, 3.7, 3.0)
    axis = axes[0][0]
    figures.bland_altman(axis, first, second, *quantity, difference)
    if reach:
        axis.set_ylim(-reach, reach)
    axis.set_title("")
    axis.set_title(title, fontsize=9, loc="left")
    axis.tick_params(labelsize=8)
    for label in (axis.xaxis.label, axis.yaxis.label):
        label.set_fontsize(8)
    return svg(figure, name)
