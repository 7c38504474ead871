"""Coil shading."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from cinema_lightning.data.augment import AUGMENTATIONS
from cinema_lightning.data.augment.base import About, Grey, Sample
from cinema_lightning.data.planes import unit

WAVES = 3


@AUGMENTATIONS.register
class Shade(Grey):
    """A smooth field of brightness, as coils near the chest and B1 give; then scaled to [0, 1] again.

    The field is the exponential of a few cosines over the image (half a wave at least, one and a half at most along
    each axis in plane), and of a slope along the slices.

    Args:
        probability: That a sample and view has it.
        strength: Largest SD of the field's logarithm, uniform from 0: 0.5 brightens and darkens by about 1.6.
    """

    def __init__(self, probability: float = 0.5, strength: float = 0.5) -> None:
        super().__init__(probability)
        self.check("strength", strength, 0 <= strength < math.inf, "0 or more")
        self.strength = strength

    def draw(self, rng: np.random.Generator, sample: Sample) -> tuple[list[list[float]], float]:
        """The cosines' weights, (WAVES + 1, WAVES + 1), low frequencies more than high ones; and the slope."""
        order = np.add.outer(np.arange(WAVES + 1), np.arange(WAVES + 1))
        weights = rng.normal(0, 1, order.shape) / (1 + order) * (order > 0)
        # A cosine has a mean square of a half along each axis that it waves along.
        power = np.where(np.arange(WAVES + 1) > 0, 0.5, 1.0)
        sd = math.sqrt(float(np.sum(weights**2 * np.outer(power, power))))
        strength = float(rng.uniform(0, self.strength))
        return (weights * (strength / sd)).tolist(), float(rng.normal(0, 0.5)) * strength

    def apply(self, image: Tensor, drawn: tuple[list[list[float]], float], about: About) -> Tensor:
        """See :class:`Grey`."""
        (weights, slope), (z, x, y) = drawn, about.size
        across, down = (_cosines(length, image) for length in (x, y))
        field = image.new_zeros(x, y)
        for row, one in zip(weights, across, strict=True):
            # Plain numbers, so that nothing is copied to the device.
            field += one[:, None] * sum(weight * other for weight, other in zip(row, down, strict=True))
        slope = slope if z > 1 else 0.0
        along = torch.linspace(-slope, slope, z, dtype=image.dtype, device=image.device)
        true = image[:, :z, :x, :y]
        true.copy_(unit((true * (field + along[:, None, None]).exp())[None])[0])
        return image


def _cosines(length: int, like: Tensor) -> list[Tensor]:
    """Cosines of 0, half, one and one and a half waves over an axis, (length,) each."""
    place = (torch.arange(length, dtype=like.dtype, device=like.device) + 0.5) * (math.pi / length)
    return [torch.cos(place * waves) for waves in range(WAVES + 1)]
