"""A coarser resolution."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from cinema_lightning.data.augment import AUGMENTATIONS
from cinema_lightning.data.augment.base import About, Grey, Sample
from cinema_lightning.data.planes import unit


@AUGMENTATIONS.register
class Resolution(Grey):
    """Keeps the low spatial frequencies of each slice, as a scan of fewer lines: blur, and rings beside edges.

    Grey levels are scaled to [0, 1] again.

    Args:
        probability: That a sample and view has it.
        share: Lowest and highest share of the frequencies that is kept along each axis in plane, uniform between.
    """

    def __init__(self, probability: float = 0.5, share: tuple[float, float] = (0.5, 1.0)) -> None:
        super().__init__(probability)
        self.check("share", list(share), 0 < share[0] <= share[1] <= 1, "shares above 0 and up to 1, the lowest first")
        self.share = share

    def draw(self, rng: np.random.Generator, sample: Sample) -> tuple[float, float, float]:
        """Shares along x and y, and how gently the rest is left out: 0 at once, with rings, to 1."""
        return float(rng.uniform(*self.share)), float(rng.uniform(*self.share)), float(rng.random())

    def apply(self, image: Tensor, drawn: tuple[float, float, float], about: About) -> Tensor:
        """See :class:`Grey`."""
        z, x, y = about.size
        true = image[:, :z, :x, :y]
        kept = _kept(x, drawn[0], drawn[2], image)[:, None] * _kept(y, drawn[1], drawn[2], image)[: y // 2 + 1]
        coarse = torch.fft.irfft2(torch.fft.rfft2(true) * kept, s=(x, y)).abs()
        true.copy_(unit(coarse[None])[0])
        return image


def _kept(length: int, share: float, gentle: float, like: Tensor) -> Tensor:
    """(length,) weights of the frequencies of an axis, in the order of the Fourier transform."""
    place = torch.fft.fftfreq(length, device=like.device, dtype=like.dtype).abs() * 2
    if share == 1:
        return torch.ones_like(place)
    width = 0.02 + gentle * share
    return ((share - place) / width + 1).clamp(0, 1)
