"""Another contrast between tissues."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from torch import Tensor

from cinema_lightning.data.augment import AUGMENTATIONS
from cinema_lightning.data.augment.base import About, Grey, Sample


@AUGMENTATIONS.register
class Curve(Grey):
    """Grey levels through a random curve from [0, 1] to [0, 1], straight between its knots.

    A rising curve changes contrast; one that does not rise everywhere makes tissues of different grey levels change
    places, so that what is learnt is shapes rather than grey levels.

    Args:
        probability: That a sample and view has it.
        strength: Largest share of the random curve, uniform from 0; the rest stays as it is.
        rising: Chance of a curve that rises everywhere.
        knots: Pieces of the curve.
    """

    def __init__(self, probability: float = 0.5, strength: float = 0.7, rising: float = 0.8, knots: int = 5) -> None:
        super().__init__(probability)
        for option, share in (("strength", strength), ("rising", rising)):
            self.check(option, share, 0 <= share <= 1, "between 0 and 1")
        self.check("knots", knots, knots >= 1, "1 or more")
        self.strength, self.rising, self.knots = strength, rising, knots

    def draw(self, rng: np.random.Generator, sample: Sample) -> list[float]:
        """Grey levels that those of the knots, 0 to 1 in equal steps, become."""
        levels = rng.uniform(0, 1, self.knots + 1)
        if rng.random() < self.rising:
            levels = np.sort(levels)
        share = float(rng.uniform(0, self.strength))
        return ((1 - share) * np.linspace(0, 1, self.knots + 1) + share * levels).tolist()

    def apply(self, image: Tensor, drawn: list[float], about: About) -> Tensor:
        """See :class:`Grey`."""
        pieces = len(drawn) - 1
        slopes = [pieces * (high - low) for low, high in pairwise(drawn)]
        out = drawn[0] + slopes[0] * image
        # Each knot adds to the slope beyond it; plain numbers, so that nothing is copied to the device.
        for knot, (before, after) in enumerate(pairwise(slopes), start=1):
            out += (after - before) * (image - knot / pieces).clamp(min=0)
        return out.clamp(0, 1)
