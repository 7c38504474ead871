"""Survival curves by predicted risk."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from cinema_lightning.metrics.estimates import figure as figure_of
from cinema_lightning.metrics.inference import Inference
from cinema_lightning.metrics.survival import concordance, kaplan_meier
from cinema_lightning.palette import BLUE, RED
from cinema_lightning.results.figures import new_figure
from cinema_lightning.results.kind import Results
from cinema_lightning.tasks.survival.risk import NAMES, grouped

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

GROUPS = {number: (name, colour) for (number, name), colour in zip(NAMES.items(), (BLUE, RED), strict=True)}
DAYS_PER_YEAR = 365.25


def kaplan_meier_curves(results: Results, seed: int) -> Iterator[tuple[str, Figure]]:
    """Kaplan-Meier curves of the subjects above and below the median risk of the validation subjects."""
    from matplotlib.ticker import MaxNLocator

    del seed
    found = grouped(results)
    time, event, groups = found.time, found.event, found.groups
    curves = {int(number): curve for number, curve in kaplan_meier(time, event, groups).items()}
    scale, unit = (DAYS_PER_YEAR, "years") if time.max() > 2 * DAYS_PER_YEAR else (1.0, "days")
    figure, axes = new_figure(2, 1, 6.0, 2.5, height_ratios=(5, 1))
    axis, table = axes[0][0], axes[1][0]
    for number, curve in curves.items():
        name, colour = GROUPS[number]
        label = f"{name} (n = {curve.n}, {curve.events} event{'s' if curve.events != 1 else ''})"
        at = curve.time / scale
        many: dict[str, Any] = {"rasterized": len(at) > 3000}  # thousands of steps are one image within a drawing
        axis.step(at, curve.survival, where="post", color=colour, linewidth=1.6, label=label, **many)
        axis.fill_between(at, curve.low, curve.high, step="post", color=colour, alpha=0.15, linewidth=0, **many)
    end = float(time.max()) / scale
    ticks = [tick for tick in MaxNLocator(6).tick_values(0, end) if 0 <= tick <= end]
    axis.set(ylabel="Share without event", ylim=(0, 1.02), xlim=(0, end), xticks=ticks, xlabel=f"Time ({unit})")
    figure_c = figure_of(concordance, found.risk, time, event, subjects=found.people)
    axis.set_title(_title(figure_c, found.p), fontsize=11)
    axis.legend(
        fontsize=8, loc="lower left", title=f"cut at {found.source} median risk, {found.cut:.2f}", title_fontsize=8
    )
    rows = {GROUPS[n]: [int((time[groups == n] / scale >= tick).sum()) for tick in ticks] for n in curves}
    _numbers_at_risk(table, rows, ticks, end)
    yield "kaplan_meier", figure


def _title(concordance: Inference, p: float) -> str:
    parts = []
    if np.isfinite(concordance.value):
        interval = f" [{concordance.low:.2f}, {concordance.high:.2f}]" if np.isfinite(concordance.low) else ""
        parts.append(f"C-index {concordance.value:.2f}{interval}")
    if np.isfinite(p):
        parts.append("log-rank p < 0.001" if p < 0.001 else f"log-rank p = {p:.3f}")
    return ", ".join(parts) or "too few events for a C-index or a log-rank test"


def _numbers_at_risk(axis: Axes, rows: dict[tuple[str, str], list[int]], ticks: Sequence[float], end: float) -> None:
    """Subjects under observation at each tick of the curves, in their colours."""
    for side in ("left", "bottom"):
        axis.spines[side].set_visible(False)
    axis.set(xlim=(0, end), ylim=(len(rows) - 0.5, -0.5), xticks=[])
    axis.set_yticks(range(len(rows)), [name for name, _ in rows], fontsize=9)
    axis.tick_params(length=0, pad=20)
    axis.set_title("At risk", fontsize=9, loc="left")
    for place, ((_, colour), counts) in enumerate(rows.items()):
        axis.get_yticklabels()[place].set_color(colour)
        for tick, count in zip(ticks, counts, strict=True):
            axis.text(tick, place, str(count), ha="center", va="center", fontsize=9, color=colour, clip_on=False)
