"""Contrast."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from cinema_lightning.data.augment import AUGMENTATIONS
from cinema_lightning.data.augment.base import About, Grey, Sample


@AUGMENTATIONS.register
class Gamma(Grey):
    """Grey levels in [0, 1] to a power.

    Args:
        probability: That a sample and view has it.
        exponent: Lowest and highest, uniform between.
    """

    def __init__(self, probability: float = 0.5, exponent: tuple[float, float] = (0.5, 1.5)) -> None:
        super().__init__(probability)
        self.check_range("exponent", exponent)
        self.exponent = exponent

    def draw(self, rng: np.random.Generator, sample: Sample) -> float:
        """The exponent."""
        return float(rng.uniform(*self.exponent))

    def apply(self, image: Tensor, drawn: float, about: About) -> Tensor:
        """See :class:`Grey`."""
        return image**drawn
