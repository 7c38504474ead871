"""Uneven signal of what flows."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from cinema_lightning.data.augment import AUGMENTATIONS, noise
from cinema_lightning.data.augment.base import About, Grey, Sample


@AUGMENTATIONS.register
class Mottle(Grey):
    """Bright parts become uneven, as blood that flows into and through the slice is, and fat near an off-resonance.

    Smooth noise, of its own in each slice, takes away some of the signal, in proportion to it.

    Args:
        probability: That a sample and view has it.
        strength: Largest share that is taken away, uniform from 0.
        scale: Smallest and largest size of the patches, voxels.
    """

    def __init__(
        self, probability: float = 0.5, strength: float = 0.6, scale: tuple[float, float] = (3.0, 16.0)
    ) -> None:
        super().__init__(probability)
        self.check("strength", strength, 0 <= strength <= 1, "between 0 and 1")
        self.check_range("scale", scale)
        self.strength, self.scale = strength, scale

    def draw(self, rng: np.random.Generator, sample: Sample) -> tuple[float, float, int]:
        """Share, size of the patches, and the seed of the device's generator."""
        low, high = (math.log(size) for size in self.scale)
        return float(rng.uniform(0, self.strength)), math.exp(rng.uniform(low, high)), int(rng.integers(2**62))

    def apply(self, image: Tensor, drawn: tuple[float, float, int], about: About) -> Tensor:
        """See :class:`Grey`."""
        (share, scale, seed), (z, x, y) = drawn, about.size
        coarse = noise.seeded_noise((1, z, *(max(2, round(n / scale) + 1) for n in (x, y))), seed, image.device)
        patches = F.interpolate(coarse, size=(x, y), mode="bicubic", align_corners=True)
        true = image[:, :z, :x, :y]
        # Dark parts have no signal to lose.
        true *= 1 - share * torch.sigmoid(2 * patches - 1) * true
        return image
