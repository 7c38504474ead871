"""Pictures of per-case metrics: overlap, distances, classes, probabilities."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from cinema_lightning.metrics import classification
from cinema_lightning.results.figures import BLUE, GREY, LINES, ORANGE, Missing, new_figure, numeric
from cinema_lightning.results.folder import Results
from cinema_lightning.results.headline import probabilities
from cinema_lightning.results.summary import groups_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def overlap(results: Results, seed: int) -> Iterator[tuple[str, Figure]]:
    """Dice per region, ED and ES side by side, every case a point."""
    names = [str(n).removesuffix("_dice") for n in results.cases if str(n).endswith("_dice") and n != "mean_dice"]
    groups = [(group, part) for group, part in groups_of(results.cases) if group in ("ED", "ES")]
    groups = groups or [("all", results.cases)]
    if not names or not any(np.isfinite(numeric(results.cases, f"{n}_dice")).any() for n in names):
        raise Missing("no case has a Dice")
    figure, axes = new_figure(1, 1, max(4.0, 1.3 * len(names) * len(groups)), 4.0)
    axis, scatter = axes[0][0], np.random.default_rng(seed)
    ticks, labels = [], []
    for place, name in enumerate(names):
        for number, (group, part) in enumerate(groups):
            values = numeric(part, f"{name}_dice")
            values = values[np.isfinite(values)]
            x = place * (len(groups) + 0.6) + number
            ticks.append(x)
            labels.append(f"{name.replace('_', ' ')}\n{group}, n = {len(values)}")
            if not len(values):
                continue
            colour = (BLUE, ORANGE)[number % 2]
            axis.boxplot(values, positions=[x], widths=0.6, showfliers=False, medianprops={"color": "black"})
            spread = scatter.uniform(-0.2, 0.2, len(values))
            axis.scatter(x + spread, values, s=10, color=colour, alpha=0.6, linewidths=0)
    axis.set_xticks(ticks, labels, fontsize=8)
    axis.set(ylabel="Dice", ylim=(-0.02, 1.02))
    axis.grid(axis="y", color=GREY, alpha=0.2)
    yield "dice", figure


def distances(results: Results, seed: int) -> Iterator[tuple[str, Figure]]:
    """Share of the cases whose landmark lies within a distance."""
    del seed
    unit = "mm" if results.facts.get("spacing_known", True) else "px"
    end = f"_distance_{unit}"
    names = [str(n) for n in results.cases if str(n).endswith(end) and not str(n).startswith("mean")]
    figure, axes = new_figure(1, 1, 5.2, 4.0)
    drawn = False
    for name, colour in zip(names, LINES * 4, strict=False):
        values = np.sort(numeric(results.cases, name))
        values = values[np.isfinite(values)]
        if len(values):
            drawn = True
            label = (
                f"{name.removesuffix(end).replace('_', ' ')} (median {np.median(values):.1f} {unit}, n = {len(values)})"
            )
            share = np.arange(len(values) + 1) / len(values)
            axes[0][0].step(np.r_[0, values], share, where="post", color=colour, label=label)
    if not drawn:
        raise Missing(f"no case has a distance in {unit}")
    axes[0][0].set(xlabel=f"Distance from the true place ({unit})", ylabel="Share of cases within it", ylim=(0, 1.02))
    axes[0][0].set_xlim(left=0)
    axes[0][0].grid(color=GREY, alpha=0.2)
    axes[0][0].legend(fontsize=8, loc="lower right")
    yield "distances", figure


def _scores(results: Results) -> tuple[np.ndarray, np.ndarray, list[str]]:
    pair = probabilities(results.cases, results.facts)
    if pair is None or not (pair[1] >= 0).any():
        raise Missing("no case has a true class and probabilities")
    known = (pair[1] >= 0) & np.isfinite(pair[0]).all(axis=1)
    return pair[0][known], pair[1][known], [str(name) for name in results.facts["classes"]]


def confusion_matrix(results: Results, seed: int) -> Iterator[tuple[str, Figure]]:
    """Counts, shaded by the share of each true class."""
    del seed
    scores, labels, classes = _scores(results)
    matrix = classification.confusion(scores, labels)[0]
    rows = matrix.sum(axis=1, keepdims=True)
    share = matrix / np.where(rows > 0, rows, 1)
    size = 1.6 + 0.75 * len(classes)
    figure, axes = new_figure(1, 1, size + 1.2, size)
    axis = axes[0][0]
    image = axis.imshow(share, cmap="Blues", vmin=0, vmax=1)
    for i, j in np.ndindex(matrix.shape):
        colour = "white" if share[i, j] > 0.55 else "black"
        text = f"{matrix[i, j]:.0f}\n{share[i, j]:.0%}"
        axis.text(j, i, text, ha="center", va="center", color=colour, fontsize=8)
    ticks = range(len(classes))
    axis.set_xticks(
        ticks,
        classes,
        rotation=30 if max(map(len, classes)) > 6 else 0,
        ha="right" if max(map(len, classes)) > 6 else "center",
    )
    axis.set_yticks(ticks, classes)
    axis.set(xlabel="Predicted", ylabel="True", title=f"n = {len(labels)}")
    figure.colorbar(image, ax=axis, label="Share of the true class", shrink=0.8)
    yield "confusion", figure


def roc(results: Results, seed: int) -> Iterator[tuple[str, Figure]]:
    """ROC curve of each class against the rest; of the second class where there are two."""
    del seed
    scores, labels, classes = _scores(results)
    figure, axes = new_figure(1, 1, 5.0, 4.6)
    axis = axes[0][0]
    axis.plot([0, 1], [0, 1], color=GREY, linestyle="dashed", linewidth=1)
    drawn = False
    chosen = [1] if len(classes) == 2 else range(len(classes))
    for number, colour in zip(chosen, LINES * 4, strict=False):
        positive = labels == number
        if positive.all() or not positive.any():
            continue
        drawn = True
        x, y = _roc_points(scores[:, number], positive)
        weight = np.ones(len(labels))
        area = classification.area_under_curve(scores[:, number], (weight * positive)[None], (weight * ~positive)[None])
        label = f"{classes[number]} (AUC {area[0]:.2f}, n = {int(positive.sum())})"
        axis.plot(x, y, color=colour, label=label)
    if not drawn:
        raise Missing("only one class occurs")
    axis.set(
        xlabel="1 - specificity",
        ylabel="Sensitivity",
        xlim=(-0.01, 1.01),
        ylim=(-0.01, 1.01),
        title=f"n = {len(labels)}",
    )
    axis.set_aspect("equal")
    axis.legend(fontsize=8, loc="lower right")
    yield "roc", figure


def _roc_points(score: np.ndarray, positive: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """False and true positive rates at every threshold, ties taken together."""
    order = np.argsort(-score, kind="stable")
    ends = np.r_[np.flatnonzero(np.diff(score[order])), len(score) - 1]
    hits, misses = np.cumsum(positive[order])[ends], np.cumsum(~positive[order])[ends]
    return np.r_[0, misses / misses[-1]], np.r_[0, hits / hits[-1]]


def calibration(results: Results, seed: int) -> Iterator[tuple[str, Figure]]:
    """Reliability diagram with the histogram of the probabilities."""
    del seed
    scores, labels, classes = _scores(results)
    found = classification.reliability(scores, labels)
    figure, axes = new_figure(2, 1, 4.8, 2.6)
    top, bottom = axes[0][0], axes[1][0]
    top.plot([0, 1], [0, 1], color=GREY, linestyle="dashed", linewidth=1)
    filled = found.count > 0
    top.plot(found.confidence[filled], found.frequency[filled], color=BLUE, marker="o", markersize=5)
    outcome = f"Share of {classes[1]}" if len(classes) == 2 else "Share that was right"
    top.set(
        ylabel=outcome,
        xlim=(0, 1),
        ylim=(-0.02, 1.02),
        title=f"Expected calibration error {found.ece:.3f}, n = {len(labels)}",
    )
    centre = (found.edges[1:] + found.edges[:-1]) / 2
    bottom.bar(centre, found.count, width=0.09, color=BLUE)
    name = f"Probability of {classes[1]}" if len(classes) == 2 else "Probability of the most probable class"
    bottom.set(xlabel=name, ylabel="Cases", xlim=(0, 1))
    yield "calibration", figure
