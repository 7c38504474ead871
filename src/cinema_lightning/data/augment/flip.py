"""Mirror images."""

from __future__ import annotations

from typing import Literal

import numpy as np

from cinema_lightning.data.augment import AUGMENTATIONS
from cinema_lightning.data.augment.base import Move, Sample


@AUGMENTATIONS.register
class Flip(Move):
    """Mirrors the image within its true size; for tasks to which a mirrored heart is one.

    Args:
        probability: That a sample and view has it.
        axis: Along which voxels change their order.
    """

    def __init__(self, probability: float = 0.5, axis: Literal["x", "y"] = "x") -> None:
        super().__init__(probability)
        self.axis = axis

    def draw(self, rng: np.random.Generator, sample: Sample) -> int:
        """The axis."""
        return "xy".index(self.axis)

    def matrix(self, drawn: int, size: np.ndarray, spacing: np.ndarray) -> np.ndarray:
        """See :class:`Move`."""
        back = np.eye(4)
        back[drawn, drawn], back[drawn, 3] = -1, size[drawn] - 1
        return back
