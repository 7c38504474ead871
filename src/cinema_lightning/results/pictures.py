"""Pictures made of the tables of a test: what each kind draws, and those that kinds share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cinema_lightning.columns import quantities
from cinema_lightning.files import replacing
from cinema_lightning.results.figures import Missing, bland_altman, correlation, new_figure, numeric
from cinema_lightning.results.kind import KINDS, Results

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw_all(results: Results, folder: Path, seed: int = 0) -> dict[str, str]:
    """Draws every picture that the tables give.

    Args:
        results: The tables.
        folder: Where the PNG files go.
        seed: Seed of the intervals.

    Returns:
        Name of each picture that could not be drawn -> the reason.
    """
    skipped: dict[str, str] = {}
    for drawer in KINDS[results.kind].pictures:
        try:
            for name, figure in drawer(results, seed):
                with replacing(folder / f"{name}.png") as temporary:
                    figure.savefig(temporary, dpi=120)
        except Missing as missing:
            skipped[drawer.__name__] = str(missing)
    return skipped


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
            pair = complete_pairs(numeric(table, f"{name}_pred"), numeric(table, f"{name}_true"))
            if len(pair[0]):
                drawn = True
                yield name, pair_figure(*pair, quantity.display, quantity.unit)
    if not drawn:
        raise Missing("no study has both a prediction and a truth of a volume")


def complete_pairs(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The pairs of which both are known."""
    both = np.isfinite(first) & np.isfinite(second)
    return first[both], second[both]


def pair_figure(predicted: np.ndarray, true: np.ndarray, name: str, unit: str) -> Figure:
    """Correlation and Bland-Altman of predictions and truths, both (N,)."""
    figure, axes = new_figure(1, 2)
    correlation(axes[0][0], predicted, true, name, unit)
    bland_altman(axes[0][1], predicted, true, name, unit, "Predicted - true")
    figure.suptitle(f"{name[:1].upper()}{name[1:]}, n = {len(true)}")
    return figure
