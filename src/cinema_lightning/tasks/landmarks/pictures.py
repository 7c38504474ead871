"""Pictures of a landmark task: distances."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from cinema_lightning.palette import GREY, LINES
from cinema_lightning.results.figures import Missing, new_figure, numeric
from cinema_lightning.results.kind import Results

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def distances(results: Results, seed: int) -> Iterator[tuple[str, Figure]]:
    """Share of the cases whose landmark lies within a distance, and the distances of each landmark."""
    unit = "mm" if results.facts.get("spacing_known", True) else "px"
    end = f"_distance_{unit}"
    columns = [str(name) for name in results.cases if str(name).endswith(end) and not str(name).startswith("mean")]
    columns = columns or [str(name) for name in results.cases if str(name) == f"mean{end}"]
    found = {name.removesuffix(end).replace("_", " "): numeric(results.cases, name) for name in columns}
    found = {name: np.sort(v[np.isfinite(v)]) for name, v in found.items() if np.isfinite(v).any()}
    if not found:
        raise Missing(f"no case has a distance in {unit}")
    figure, axes = new_figure(1, 2, 4.8, 4.0)
    left, right = axes[0]
    scatter = np.random.default_rng(seed)
    furthest = max(float(values[-1]) for values in found.values())
    for place, ((name, values), colour) in enumerate(zip(found.items(), LINES * 4, strict=False)):
        share = np.arange(len(values) + 1) / len(values)
        label = f"{name} (median {np.median(values):.1f} {unit})"
        left.step(np.r_[0, values, 1.05 * furthest], np.r_[share, 1], where="post", color=colour, label=label)
        spread = place + scatter.uniform(-0.2, 0.2, len(values))
        right.scatter(spread, values, s=10, color=colour, alpha=0.5, linewidths=0, zorder=1)
        lines: dict[str, Any] = {"medianprops": {"color": "black", "linewidth": 1.8}, "showfliers": False, "zorder": 2}
        right.boxplot(values, positions=[place], widths=0.55, **lines)
    reach = 1.05 * furthest if furthest > 0 else 1.0
    left.set(xlabel=f"Distance ({unit})", ylabel="Share of cases within it", ylim=(0, 1.02), xlim=(0, reach))
    left.legend(fontsize=8, loc="lower right")
    labels = [f"{name.replace(' ', chr(10), 1)}\nn = {len(values)}" for name, values in found.items()]
    right.set_xticks(range(len(found)), labels, fontsize=8)
    right.set(ylabel=f"Distance ({unit})", ylim=(0, reach))
    for axis in (left, right):
        axis.grid(color=GREY, alpha=0.2)
    figure.suptitle(f"Distance from the true place, {len(results.cases)} cases")
    yield "distances", figure
