"""Rotation, translation and scale in plane."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from cinema_lightning.data.augment import AUGMENTATIONS
from cinema_lightning.data.augment.base import Move, Sample


class Drawn(NamedTuple):
    """Rotation in rad from the first axis towards the second, translation in voxels (x, y), and enlargement."""

    turn: float
    shift: tuple[float, float]
    scale: float


@AUGMENTATIONS.register
class Affine(Move):
    """Rotates and enlarges about the centre of the true size, then shifts; zeros come in from outside.

    The rotation is done in mm, so it stays one where voxels are not square. The translation is published in voxels, 60
    of 192 and 80 of 256, and is the same share of any other input size.

    Args:
        probability: That a sample and view has it.
        turn: Largest angle, degrees, either way.
        stack: Largest translation as a share of the input size, in stacks.
        plane: The same in long-axis views.
        scale: Lowest and highest enlargement, the same along x and y.
    """

    def __init__(
        self,
        probability: float = 0.5,
        turn: float = 180,
        stack: float = 60 / 192,
        plane: float = 80 / 256,
        scale: tuple[float, float] = (0.8, 1.2),
    ) -> None:
        super().__init__(probability)
        self.check("turn", turn, 0 <= turn <= 180, "between 0 and 180 degrees")
        for option, share in (("stack", stack), ("plane", plane)):
            self.check(option, share, 0 <= share <= 1, "between 0 and 1")
        self.check_range("scale", scale)
        self.turn = math.radians(turn)
        self.reach = {3: stack, 2: plane}
        self.scale = scale

    def draw(self, rng: np.random.Generator, sample: Sample) -> Drawn:
        """Each uniform."""
        dims = len(sample.target)
        x, y = (float(rng.uniform(-1, 1) * (self.reach[dims] * n)) for n in sample.target[:2])
        return Drawn(float(rng.uniform(-self.turn, self.turn)), (x, y), float(rng.uniform(*self.scale)))

    def matrix(self, drawn: Drawn, size: np.ndarray, spacing: np.ndarray) -> np.ndarray:
        """See :class:`Move`."""
        cos, sin = math.cos(drawn.turn), math.sin(drawn.turn)
        to_mm, centre = np.diag(spacing[:2]), (size[:2] - 1) / 2
        back = np.eye(4)
        back[:2, :2] = np.linalg.inv(to_mm) @ np.array([[cos, sin], [-sin, cos]]) @ to_mm / drawn.scale
        back[:2, 3] = centre - back[:2, :2] @ (centre + np.array(drawn.shift))
        return back
