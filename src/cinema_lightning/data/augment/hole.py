"""A hole of zeros."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from cinema_lightning.data.augment import AUGMENTATIONS
from cinema_lightning.data.augment.base import About, Grey, Sample


@AUGMENTATIONS.register
class Hole(Grey):
    """One box of zeros, in the image only; published for segmentation.

    Its size is published in voxels, 40 x 40 x 2 of 192 x 192 x 16 and 50 x 50 of 256 x 256, and is the same share of
    any other input size.

    Args:
        probability: That a sample and view has it.
        stack: Share of the input size along x, y and z, in stacks.
        plane: Share along x and y, in long-axis views.
    """

    def __init__(
        self,
        probability: float = 0.5,
        stack: tuple[float, float, float] = (40 / 192, 40 / 192, 2 / 16),
        plane: tuple[float, float] = (50 / 256, 50 / 256),
    ) -> None:
        super().__init__(probability)
        self.shares = {3: stack, 2: plane}
        for option, shares in (("stack", stack), ("plane", plane)):
            self.check(option, list(shares), all(0 < share <= 1 for share in shares), "shares above 0 and up to 1")

    def draw(self, rng: np.random.Generator, sample: Sample) -> list[tuple[int, int]]:
        """Where it begins and ends along x, y[, z], after the crop where it stands after it."""
        shares = self.shares[len(sample.target)]
        lengths = [max(1, round(share * n)) for share, n in zip(shares, sample.target, strict=True)]
        firsts = [int(rng.integers(max(n - h, 0) + 1)) for n, h in zip(sample.size, lengths, strict=True)]
        return [
            (max(first - start, 0), max(first - start + length, 0))
            for first, start, length in zip(firsts, sample.start, lengths, strict=True)
        ]

    def apply(self, image: Tensor, drawn: list[tuple[int, int]], about: About) -> Tensor:
        """See :class:`Grey`."""
        x, y, z = (slice(*ends) for ends in [*drawn, (0, 1)][:3])
        image[:, z, x, y] = 0
        return image
