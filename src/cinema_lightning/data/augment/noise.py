"""Gaussian noise."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from cinema_lightning.data.augment import AUGMENTATIONS
from cinema_lightning.data.augment.base import About, Grey, Sample
from cinema_lightning.data.planes import unit

Scale = Literal["unit", "published"]


@AUGMENTATIONS.register
class Noise(Grey):
    """Gaussian noise, after which grey levels are scaled to [0, 1] again.

    It is drawn on the device, from a seed per sample; CPU and GPU draw different noise.

    Args:
        probability: That a sample and view has it.
        sd: Highest SD, uniform from 0.
        scale: ``unit`` takes the SD on the [0, 1] scale; ``published`` adds it to grey levels of 0 to 255, as the
            published code does, where it is next to nothing.
    """

    def __init__(self, probability: float = 0.5, sd: float = 0.1, scale: Scale = "unit") -> None:
        super().__init__(probability)
        self.check("sd", sd, 0 <= sd < math.inf, "0 or more")
        self.sd = sd
        self.scale = scale

    def draw(self, rng: np.random.Generator, sample: Sample) -> tuple[float, int]:
        """The SD, and the seed of the device's generator."""
        return float(rng.uniform(0, self.sd)), int(rng.integers(2**62))

    def apply(self, image: Tensor, drawn: tuple[float, int], about: About) -> Tensor:
        """See :class:`Grey`."""
        (sd, seed), (z, x, y) = drawn, about.size
        true = image[:, :z, :x, :y]
        noise = seeded_noise(true.shape, seed, image.device) * sd
        # A constant image has no contrast that noise could be measured against; it stays 0.
        grey = about.spread if self.scale == "published" else 1.0
        true.copy_(unit((true + torch.where(about.spread > 0, noise / grey, 0.0))[None])[0])
        return image


def seeded_noise(shape: Sequence[int], seed: int, device: torch.device) -> Tensor:
    """Standard normal noise of a seed, drawn on a device; each kind of device draws its own."""
    source = torch.Generator(device).manual_seed(seed)
    return torch.randn(tuple(shape), generator=source, device=device)
