"""Pictures of a classification: confusion matrix, ROC curves, calibration."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from cinema_lightning.metrics import classification
from cinema_lightning.metrics.estimates import figure as figure_of
from cinema_lightning.metrics.inference import UNIT
from cinema_lightning.metrics.weighted import answer, case_weights
from cinema_lightning.palette import BLUE, GREY, LINES
from cinema_lightning.results.figures import Missing, new_figure
from cinema_lightning.results.kind import Results
from cinema_lightning.tasks.classification.figures import probabilities

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def _scores(results: Results) -> tuple[np.ndarray, np.ndarray, list[str], np.ndarray]:
    """Probabilities, class numbers, class names, and subjects of the cases that have both."""
    pair = probabilities(results.cases, results.facts)
    known = np.zeros(0, dtype=bool) if pair is None else (pair[1] >= 0) & np.isfinite(pair[0]).all(axis=1)
    if pair is None or not known.any():
        raise Missing("no case has a true class and probabilities")
    classes = [str(name) for name in results.facts["classes"]]
    return pair[0][known], pair[1][known], classes, results.cases["subject"].to_numpy()[known]


def confusion_matrix(results: Results, seed: int) -> Iterator[tuple[str, Figure]]:
    """Counts, shaded by the share of each true class."""
    del seed
    scores, labels, classes, _ = _scores(results)
    matrix = classification.confusion(scores, labels)[0]
    rows = matrix.sum(axis=1, keepdims=True)
    share = matrix / np.where(rows > 0, rows, 1)
    size = 1.6 + 0.75 * len(classes)
    figure, axes = new_figure(1, 1, size + 1.2, size)
    axis = axes[0][0]
    image = axis.imshow(share, cmap="Blues", vmin=0, vmax=1)
    for i, j in np.ndindex(matrix.shape):
        colour = "white" if share[i, j] > 0.55 else "black"
        text = f"{matrix[i, j]:.0f}\n{share[i, j]:.0%}" if rows[i, 0] else "0"
        axis.text(j, i, text, ha="center", va="center", color=colour, fontsize=8)
    ticks, long = range(len(classes)), max(map(len, classes)) > 6
    axis.set_xticks(ticks, classes, rotation=30 if long else 0, ha="right" if long else "center")
    axis.set_yticks(ticks, classes)
    axis.set(xlabel="Predicted", ylabel="True")
    axis.set_title(f"n = {len(labels)}, {np.trace(matrix) / matrix.sum():.0%} right", fontsize=11)
    figure.colorbar(image, ax=axis, label="Share of the true class", shrink=0.8)
    yield "confusion", figure


def roc(results: Results, seed: int) -> Iterator[tuple[str, Figure]]:
    """ROC curve of each class against the rest; of the second class where there are two."""
    del seed
    scores, labels, classes, subjects = _scores(results)
    figure, axes = new_figure(1, 1, 5.2, 5.0)
    axis = axes[0][0]
    axis.plot([0, 1], [0, 1], color=GREY, linestyle="dashed", linewidth=1)
    drawn = False
    chosen = [1] if len(classes) == 2 else range(len(classes))
    for number, colour in zip(chosen, LINES * 4, strict=False):
        positive = labels == number
        if positive.all() or not positive.any():
            continue
        drawn = True
        area = figure_of(_area, scores[:, number], positive.astype(np.float64), subjects=subjects, scale=UNIT)
        interval = f" [{area.low:.2f}, {area.high:.2f}]" if np.isfinite(area.low) else ""
        label = f"{classes[number]} ({int(positive.sum())}): AUC {area.value:.2f}{interval}"
        axis.plot(*_roc_points(scores[:, number], positive), color=colour, linewidth=1.6, label=label)
    if not drawn:
        raise Missing("only one class occurs")
    axis.set(xlabel="1 - specificity", ylabel="Sensitivity", xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))
    axis.set_aspect("equal")
    axis.set_title(f"ROC{'' if len(classes) == 2 else ', each class against the rest'}, n = {len(labels)}", fontsize=11)
    axis.legend(fontsize=8, loc="lower right")
    yield "roc", figure


def _area(score: Any, positive: Any, *, weights: Any = None) -> Any:
    table = case_weights(weights, np.ones(len(score), dtype=bool))
    return answer(classification.area_under_curve(score, table * positive, table * (1 - positive)), weights)


def _roc_points(score: np.ndarray, positive: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """False and true positive rates at every threshold, ties taken together."""
    order = np.argsort(-score, kind="stable")
    ends = np.r_[np.flatnonzero(np.diff(score[order])), len(score) - 1]
    hits, misses = np.cumsum(positive[order])[ends], np.cumsum(~positive[order])[ends]
    return np.r_[0, misses / misses[-1]], np.r_[0, hits / hits[-1]]


def calibration(results: Results, seed: int) -> Iterator[tuple[str, Figure]]:
    """Reliability diagram with the histogram of the probabilities."""
    del seed
    scores, labels, classes, _ = _scores(results)
    found = classification.reliability(scores, labels)
    figure, axes = new_figure(2, 1, 4.8, 2.6, height_ratios=(3, 1))
    top, bottom = axes[0][0], axes[1][0]
    top.plot([0, 1], [0, 1], color=GREY, linestyle="dashed", linewidth=1)
    filled = found.count > 0
    middle, width = (found.edges[1:] + found.edges[:-1]) / 2, np.diff(found.edges)
    top.bar(middle[filled], found.frequency[filled], width[filled], color=BLUE, alpha=0.2, edgecolor="white")
    top.plot(found.confidence[filled], found.frequency[filled], color=BLUE, marker="o", markersize=5)
    outcome = f"Share that is {classes[1]}" if len(classes) == 2 else "Share that is right"
    top.set(ylabel=outcome, xlim=(0, 1), ylim=(0, 1.02), xticklabels=[])
    top.set_title(f"Expected calibration error {found.ece:.3f}, n = {len(labels)}", fontsize=11)
    bottom.bar(middle, found.count, width, color=BLUE, edgecolor="white")
    name = f"Probability of {classes[1]}" if len(classes) == 2 else "Probability of the most probable class"
    bottom.set(xlabel=name, ylabel="Cases", xlim=(0, 1))
    yield "calibration", figure
