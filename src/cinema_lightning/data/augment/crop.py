"""The crop to the network's input."""

from __future__ import annotations

import numpy as np

from cinema_lightning.data.augment import AUGMENTATIONS
from cinema_lightning.data.augment.base import Move, Sample

Starts = tuple[int, ...]


@AUGMENTATIONS.register
class Crop(Move):
    """Crops what is larger than the network's input, z too, at a random place; always.

    Args:
        axes_apart: Draw each axis with a key of its own, as in pretraining.
    """

    stage = "c"

    def __init__(self, axes_apart: bool = False) -> None:
        super().__init__(1.0)
        self.axes_apart = axes_apart

    def drawn(self, sample: Sample, purpose: str) -> Starts:
        """The first voxel that is kept, (x, y[, z])."""
        if not self.axes_apart:
            return self.draw(sample.rng(purpose), sample)
        excess = enumerate(_excess(sample))
        return tuple(int(sample.rng(purpose, axis).integers(n + 1)) if n else 0 for axis, n in excess)

    def draw(self, rng: np.random.Generator, sample: Sample) -> Starts:
        """See :meth:`drawn`."""
        return tuple(int(rng.integers(n + 1)) for n in _excess(sample))

    def matrix(self, drawn: Starts, size: np.ndarray, spacing: np.ndarray) -> np.ndarray:
        """See :class:`Move`."""
        back = np.eye(4)
        back[: len(drawn), 3] = drawn
        return back


class Centred(Crop):
    """Crops at the centre: what is done where no crop is listed."""

    def drawn(self, sample: Sample, purpose: str) -> Starts:
        """The first voxel that is kept, (x, y[, z])."""
        return tuple(n // 2 for n in _excess(sample))


def _excess(sample: Sample) -> list[int]:
    return [max(size - wanted, 0) for size, wanted in zip(sample.size, sample.target, strict=True)]
