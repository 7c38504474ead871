"""What the pictures share: figures of one look, and the sentence for what cannot be drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, ORANGE, GREEN, RED, GREY = "#0072b2", "#e69f00", "#009e73", "#d55e00", "#7f7f7f"
LINES = (BLUE, ORANGE, GREEN, RED, "#cc79a7", "#56b4e9", "#000000", "#f0e442")
"""Okabe and Ito's colours, which colour-blind readers can tell apart."""


class Missing(Exception):  # noqa: N818  (it is no error)
    """The tables do not give what a picture needs."""


def new_figure(rows: int = 1, columns: int = 1, width: float = 4.6, height: float = 4.2) -> tuple[Figure, Any]:
    """A figure and its axes (rows, columns)."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width * columns, height * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis in axes.flat:
        for side in ("top", "right"):
            axis.spines[side].set_visible(False)
    return figure, axes


def numeric(table: pd.DataFrame, name: str) -> np.ndarray:
    """A column as numbers, NaN where it is not one."""
    return pd.to_numeric(table[name], errors="coerce").to_numpy(dtype=np.float64)


def with_unit(name: str, unit: str) -> str:
    """A label of an axis."""
    return f"{name} ({unit})" if unit else name


def correlation(axis: Axes, predicted: np.ndarray, true: np.ndarray, name: str, unit: str) -> None:
    """Prediction against truth, with the line of identity and Pearson's r."""
    from cinema_lightning.metrics.agreement import mae, pearson

    low, high = (float(f(np.concatenate([predicted, true]))) for f in (np.min, np.max))
    margin = 0.05 * (high - low or 1.0)
    ends = [low - margin, high + margin]
    axis.plot(ends, ends, color=GREY, linewidth=1, linestyle="dashed")
    axis.scatter(true, predicted, s=18, color=BLUE, alpha=0.7, linewidths=0)
    axis.set(xlim=ends, ylim=ends, xlabel=with_unit(f"True {name}", unit), ylabel=with_unit(f"Predicted {name}", unit))
    axis.set_aspect("equal")
    error, r = mae(predicted, true), pearson(predicted, true)
    axis.set_title(f"n = {len(true)}, MAE = {error:.3g} {unit}, r = {r:.2f}".replace(" ,", ","), fontsize=9)


def bland_altman(axis: Axes, first: np.ndarray, second: np.ndarray, name: str, unit: str, difference: str) -> None:
    """Difference against mean, with bias and 95% limits of agreement."""
    from cinema_lightning.metrics.agreement import bias, limits_of_agreement

    gap, middle = first - second, (first + second) / 2
    axis.scatter(middle, gap, s=18, color=BLUE, alpha=0.7, linewidths=0)
    centre = bias(first, second)
    low, high = limits_of_agreement(first, second)
    for value, text, style in ((centre, "bias", "solid"), (low, "-1.96 SD", "dashed"), (high, "+1.96 SD", "dashed")):
        if np.isfinite(value):
            axis.axhline(value, color=RED if style == "solid" else GREY, linewidth=1, linestyle=style)
            place = axis.get_yaxis_transform()
            axis.text(0.99, value, f"{text} {value:.2f}", transform=place, ha="right", va="bottom", fontsize=8)
    axis.set(xlabel=with_unit(f"Mean {name}", unit), ylabel=with_unit(difference, unit))
    axis.margins(y=0.2)
    axis.set_title(f"n = {len(gap)}", fontsize=9)
