"""What an effect of augmentation is: of grey levels, a move of the image in plane, or a warp on its own grid."""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np
from torch import Tensor

from cinema_lightning.data.draws import Key, generator
from cinema_lightning.errors import CinemaError


class Sample(NamedTuple):
    """What the draws of one sample and view may depend on.

    Attributes:
        seed: The run's seed.
        key: Epoch, id and frame.
        view: View name.
        size: True size in voxels, (x, y[, z]).
        target: Size of the network's input, (x, y[, z]).
        start: First voxel that the crop keeps, (x, y[, z]); 0 before it.
    """

    seed: int
    key: Key
    view: str
    size: Sequence[int]
    target: Sequence[int]
    start: Sequence[int]

    def rng(self, purpose: str, *more: str | int, view: str = "") -> np.random.Generator:
        """The generator for a purpose; views that give another name of a ``view`` share its draws."""
        return generator(self.seed, *self.key, view or self.view, purpose, *more)


class About(NamedTuple):
    """What an effect of grey levels may ask of a sample: true size (z, x, y), and the spread of grey levels as read."""

    size: tuple[int, int, int]
    spread: Tensor


class Effect(ABC):
    """One effect, as YAML lists it; a subclass of one of the three below, under ``@AUGMENTATIONS.register``.

    Args:
        probability: That a sample and view has it.
    """

    stage: ClassVar[str]

    def __init__(self, probability: float = 0.5) -> None:
        self.probability = probability
        self.check("probability", probability, 0 <= probability <= 1, "between 0 and 1")

    def check(self, option: str, value: Any, holds: bool, needs: str) -> None:
        """Refuses an option that cannot be; CinemaError."""
        if not holds:
            raise CinemaError(f"data.augment: {option} of {type(self).__name__} is {value}; it has to be {needs}.")

    def check_range(self, option: str, pair: Sequence[float]) -> None:
        """Refuses what is not a lowest and a highest number above 0; CinemaError."""
        self.check(option, list(pair), 0 < pair[0] <= pair[1] < math.inf, "the lowest and the highest, above 0")

    def drawn(self, sample: Sample, purpose: str) -> Any:
        """What is done to a sample: what :meth:`draw` gives, None for nothing."""
        rng = sample.rng(purpose)
        return self.draw(rng, sample) if rng.random() < self.probability else None

    @abstractmethod
    def draw(self, rng: np.random.Generator, sample: Sample) -> Any:
        """Draws, on the host, how it is done to one sample: plain numbers, which travel with the batch."""


class Grey(Effect):
    """Changes grey levels, on the device. Labels and landmarks stay."""

    stage = "g"

    @abstractmethod
    def apply(self, image: Tensor, drawn: Any, about: About) -> Tensor:
        """Computes one sample.

        Args:
            image: (C, Z, X, Y) float32 in [0, 1], zeros beyond the true size; may be changed in place.
            drawn: What :meth:`draw` gave.
            about: True size, and spread of the grey levels as read (a tensor: to ask its value is to wait for it).

        Returns:
            The same shape, in [0, 1]; what lies beyond the true size is made 0 again.
        """


class Move(Effect):
    """Moves the image in plane, in one resampling with the crop. Labels, landmarks and affine move with it."""

    stage = "m"

    @abstractmethod
    def matrix(self, drawn: Any, size: np.ndarray, spacing: np.ndarray) -> np.ndarray:
        """(4, 4) from voxels (x, y, z) of the result to those of the image of this size and voxel size; on the host."""


class Warp(Move):
    """Resamples the image on its own grid, z too, before grey levels are scaled. Labels and landmarks go with it."""

    stage = "w"

    @abstractmethod
    def warp(self, planes: Tensor, drawn: Tensor, sizes: Tensor, *, nearest: bool) -> Tensor:
        """Computes some samples, on the device.

        Args:
            planes: (B, C, Z, X, Y), zeros beyond the true sizes.
            drawn: (B, ...) float32, what :meth:`draw` gave of each.
            sizes: (B, 2) or (B, 3), true sizes ([z, ]x, y).
            nearest: Take the nearest voxel: these are labels.

        Returns:
            The same shape and type.
        """


ORDER = re.compile("w*g*m*c?g*")


def check_order(effects: Sequence[Effect]) -> None:
    """Refuses a list whose order cannot be kept; CinemaError."""
    if not ORDER.fullmatch("".join(effect.stage for effect in effects)):
        raise CinemaError(
            f"data.augment lists {', '.join(type(effect).__name__ for effect in effects)}: first come warps (such as "
            "Zoom), then effects of grey levels (Gamma, Noise, Hole), then moves (Affine, Flip), then at most one "
            "Crop, then effects of grey levels again; bring them into this order."
        )
