"""Ghosts of what moves."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from cinema_lightning.data.augment import AUGMENTATIONS
from cinema_lightning.data.augment.base import About, Grey, Sample
from cinema_lightning.data.planes import unit


@AUGMENTATIONS.register
class Ghost(Grey):
    """Faint copies of the image along one axis in plane, as flow and breathing leave along the phase encoding.

    Grey levels are scaled to [0, 1] again.

    Args:
        probability: That a sample and view has it.
        strength: Largest brightness of a copy relative to the image, uniform from 0.
        copies: Most copies over the field of view; from two.
    """

    def __init__(self, probability: float = 0.5, strength: float = 0.15, copies: int = 6) -> None:
        super().__init__(probability)
        self.check("strength", strength, 0 <= strength <= 1, "between 0 and 1")
        self.check("copies", copies, copies >= 2, "2 or more")
        self.strength, self.copies = strength, copies

    def draw(self, rng: np.random.Generator, sample: Sample) -> tuple[float, int, int]:
        """Brightness, axis and copies."""
        return float(rng.uniform(0, self.strength)), int(rng.integers(2)), int(rng.integers(2, self.copies + 1))

    def apply(self, image: Tensor, drawn: tuple[float, int, int], about: About) -> Tensor:
        """See :class:`Grey`."""
        (strength, axis, copies), (z, x, y) = drawn, about.size
        true, step = image[:, :z, :x, :y], (x, y)[axis] / copies
        out = true.clone()
        for number in range(1, copies):
            # The strongest lie nearest, on either side.
            out += strength / min(number, copies - number) * true.roll(round(number * step), 2 + axis)
        true.copy_(unit(out[None])[0])
        return image
