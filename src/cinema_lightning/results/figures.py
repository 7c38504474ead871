"""What the pictures share: figures of one look, and the sentence for what cannot be drawn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from cinema_lightning.palette import BLUE, GREY, RED

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


class Missing(Exception):  # noqa: N818  (it is no error)
    """The tables do not give what a picture needs."""


def new_figure(
    rows: int = 1,
    columns: int = 1,
    width: float = 4.6,
    height: float = 4.2,
    height_ratios: Sequence[float] | None = None,
) -> tuple[Figure, Any]:
    """A figure and its axes (rows, columns); width and height in inches are those of one axis."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width * columns, height * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, height_ratios=height_ratios)
    for axis in axes.flat:
        axis.spines[["top", "right"]].set_visible(False)
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
    points(axis, true, predicted)
    axis.set(xlim=ends, ylim=ends, xlabel=with_unit(f"True {name}", unit), ylabel=with_unit(f"Predicted {name}", unit))
    axis.set_aspect("equal")
    error, r = mae(predicted, true), pearson(predicted, true)
    parts = [f"MAE {error:.3g} {unit}".strip(), *([f"r = {r:.2f}"] if np.isfinite(r) else [])]
    axis.set_title(", ".join(parts), fontsize=10)


def points(axis: Axes, x: np.ndarray, y: np.ndarray) -> None:
    """Cases as points, smaller and fainter where there are many."""
    many = len(x) > 300
    look: dict[str, Any] = {"s": 7, "alpha": 0.35} if many else {"s": 20, "alpha": 0.65}
    # Thousands of points are one image within a drawing.
    axis.scatter(x, y, color=BLUE, linewidths=0, zorder=2, rasterized=len(x) > 3000, **look)


def bland_altman(axis: Axes, first: np.ndarray, second: np.ndarray, name: str, unit: str, difference: str) -> None:
    """Difference against mean, with bias and 95% limits of agreement named at the right edge."""
    from cinema_lightning.metrics.agreement import bias, limits_of_agreement

    gap, middle = first - second, (first + second) / 2
    points(axis, middle, gap)
    centre = bias(first, second)
    low, high = limits_of_agreement(first, second)
    lines = [(centre, "bias", "solid"), (low, "\N{MINUS SIGN}1.96 SD", "dashed"), (high, "+1.96 SD", "dashed")]
    for value, text, style in (line for line in lines if np.isfinite(line[0])):
        axis.axhline(value, color=RED if style == "solid" else GREY, linewidth=1.2, linestyle=style, zorder=1)
        label = f"{text}\n{value:.2f}".replace("-", "\N{MINUS SIGN}")
        axis.annotate(label, (1.01, value), xycoords=("axes fraction", "data"), fontsize=8, va="center")
    axis.set(xlabel=with_unit(f"Mean {name}", unit), ylabel=with_unit(difference, unit))
    # Names of lines need room: the limits may not be much closer than two lines of text.
    reach = max(float(np.abs(gap - centre).max()), 1.2 * (high - centre) if np.isfinite(high) else 0.0) or 1.0
    axis.set_ylim(centre - 1.1 * reach, centre + 1.1 * reach)
    axis.set_title("Bland-Altman", fontsize=10)
