"""Predictions on the grid and in the codes that the images came in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cinema_lightning.data.store import SeriesInfo
from cinema_lightning.datasets.base import DATASETS
from cinema_lightning.imaging.grid import Grid, stored_grid


@dataclass(frozen=True)
class Native:
    """How a study's image came: its grid, and the dataset whose codes and rules for predictions it has.

    Attributes:
        grid: From the scan to what the network sees.
        dataset: The dataset's name; empty for none.
    """

    grid: Grid
    dataset: str = ""

    def label_map(self, probabilities: np.ndarray, codes: Sequence[int]) -> np.ndarray:
        """The likeliest class of each voxel of the scan, as the dataset wants predictions.

        Args:
            probabilities: (C, X, Y[, Z]) of what the network saw; class 0 is the background.
            codes: Code in the store of each class.

        Returns:
            uint8 (X, Y, Z) codes of the store.
        """
        return self.likeliest(self.on_scan(probabilities), codes)

    def on_scan(self, probabilities: np.ndarray) -> np.ndarray:
        """Probabilities (C, X, Y[, Z]) of what the network saw on the scan's own grid, float32 (C, X, Y, Z)."""
        return self.grid.to_scan(probabilities if probabilities.ndim == 4 else probabilities[..., None])

    def likeliest(self, probabilities: np.ndarray, codes: Sequence[int]) -> np.ndarray:
        """The same as :meth:`label_map` of probabilities that are on the scan's grid already."""
        labels = np.asarray(codes, dtype=np.uint8)[probabilities.argmax(axis=0)]
        return DATASETS[self.dataset].clean_prediction(labels) if self.dataset else labels

    def own_codes(self, labels: np.ndarray) -> np.ndarray:
        """A label map in the provider's codes, int16."""
        if not self.dataset:
            return labels.astype(np.int16)
        table = np.zeros(256, np.int16)
        for raw, code in DATASETS[self.dataset].label_map.items():
            table[code] = raw
        return table[labels]


def native_of(info: SeriesInfo, shape: Sequence[int]) -> Native:
    """How the image of a series came, as its preparation noted it; without a note the series is the image.

    Args:
        info: What is known of the series.
        shape: (X, Y) or (X, Y, Z) of a frame.
    """
    known = info.provenance
    dataset = str(known.get("dataset", "")) if "orig_affine" in known else ""
    grid = stored_grid(known, info.affine, shape, info.spacing)
    return Native(grid, dataset if dataset in DATASETS and DATASETS[dataset].label_map else "")
