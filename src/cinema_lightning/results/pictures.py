"""Pictures made of the tables of a test: one function per picture, each drawn where the tables give what it needs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from cinema_lightning.files import replacing
from cinema_lightning.results import pictures_agreement, pictures_cases, pictures_survival
from cinema_lightning.results.figures import Missing
from cinema_lightning.results.folder import Results

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Drawer = Callable[[Results, int], Iterator[tuple[str, "Figure"]]]

DRAWERS: dict[str, tuple[Drawer, ...]] = {
    "segmentation": (
        pictures_agreement.function,
        pictures_agreement.volume_curves,
        pictures_cases.overlap,
        pictures_agreement.scan_rescan,
    ),
    "classification": (pictures_cases.confusion_matrix, pictures_cases.roc, pictures_cases.calibration),
    "regression": (pictures_agreement.target,),
    "landmarks": (pictures_cases.distances, pictures_agreement.function),
    "survival": (pictures_survival.kaplan_meier_curves,),
}
"""Kind of task -> what is drawn."""


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
    for drawer in DRAWERS[results.kind]:
        try:
            for name, figure in drawer(results, seed):
                with replacing(folder / f"{name}.png") as temporary:
                    figure.savefig(temporary, dpi=120)
        except Missing as missing:
            skipped[drawer.__name__] = str(missing)
    return skipped
