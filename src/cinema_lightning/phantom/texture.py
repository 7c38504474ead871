"""Random fields: smooth noise for tissues, and the muscle inside the ventricles (papillary muscles, trabeculae)."""

from __future__ import annotations

import math

import numpy as np
from scipy import ndimage

from cinema_lightning.data.draws import generator
from cinema_lightning.phantom.subject import Subject

N_SIGMA, N_ANGLE, N_RHO = 64, 192, 32


class Noise:
    """Smooth periodic noise of unit variance in three dimensions.

    Args:
        rng: Source of the values.
        size: Grid points along each axis.
    """

    def __init__(self, rng: np.random.Generator, size: int = 48) -> None:
        grid = ndimage.gaussian_filter(rng.standard_normal((size, size, size), dtype=np.float32), 1.2, mode="wrap")
        self.grid = (grid / grid.std()).astype(np.float32)

    def __call__(
        self, points: tuple[np.ndarray, ...], scale: float, offset: float = 0.0, where: np.ndarray | None = None
    ) -> np.ndarray:
        """Noise at points.

        Args:
            points: Three arrays of one shape, mm.
            scale: Size of the structures, mm (one wavelength is about four times that).
            offset: Shift, to use the same grid for several independent fields.
            where: Only needed where this is positive; elsewhere 0.

        Returns:
            float32 array of that shape.
        """
        shape = points[0].shape
        flat = [np.ravel(axis) for axis in points]
        needed = None if where is None else np.flatnonzero(where > 0)
        if needed is not None:
            flat = [axis[needed] for axis in flat]
        coordinates = np.stack([axis * (1 / scale) + offset * (k + 1) for k, axis in enumerate(flat)])
        values = ndimage.map_coordinates(self.grid, coordinates, order=1, mode="grid-wrap", output=np.float32)
        if needed is None:
            return values.reshape(shape)
        out = np.zeros(shape, np.float32)
        out.ravel()[needed] = values
        return out


def _periodic(rng: np.random.Generator, sigma: tuple[float, float, float]) -> np.ndarray:
    """Noise on (sigma, angle, rho), periodic in angle, of unit variance."""
    field = rng.standard_normal((N_SIGMA, N_ANGLE, N_RHO), dtype=np.float32)
    field = ndimage.gaussian_filter(field, sigma, mode=("nearest", "wrap", "nearest"))
    return field / field.std()


def _grid() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Level (0 apex to 1 base), angle and relative radius at the cells of a table."""
    level = ((np.arange(N_SIGMA) + 0.5) / N_SIGMA)[:, None, None]
    angle = ((np.arange(N_ANGLE) + 0.5) * 2 * np.pi / N_ANGLE)[None, :, None]
    rho = (np.arange(N_RHO) / (N_RHO - 1))[None, None, :]
    return level.astype(np.float32), angle.astype(np.float32), rho.astype(np.float32)


def _soft(x: np.ndarray) -> np.ndarray:
    x = np.clip(x, 0, 1)
    return x * x * (3 - 2 * x)


def lv_muscle(subject: Subject) -> np.ndarray:
    """Muscle inside the LV cavity: two papillary muscles and trabeculae.

    Args:
        subject: The subject, whose seed and index the pattern depends on.

    Returns:
        float32 (N_SIGMA, N_ANGLE, N_RHO) over level, angle and radius relative to the endocardium; above about 0.5
        there is muscle. It is in coordinates that move with the wall.
    """
    rng = generator(subject.seed, "phantom", "lv muscle", subject.index)
    look = subject.look
    level, angle, rho = _grid()
    x, y = rho * np.cos(angle), rho * np.sin(angle)
    out = np.zeros((N_SIGMA, N_ANGLE, N_RHO), np.float32)
    for centre, heads in ((2.35, 2), (4.3, 2)):
        for _ in range(heads):
            place = centre + rng.normal(0, 0.2)
            low, high = rng.uniform(0.26, 0.34), rng.uniform(0.58, 0.74)
            # The foot grows out of the wall; the head stands free, a little nearer to the axis.
            free = _soft((level - low) / 0.16)
            distance = 0.86 - rng.uniform(0.2, 0.3) * free / look.papillary
            size = (
                look.papillary
                * rng.uniform(0.11, 0.17)
                * _soft((level - low + 0.04) / 0.1)
                * _soft((high - level) / 0.12 + 0.15)
            )
            gap = np.hypot(x - distance * np.cos(place), y - distance * np.sin(place))
            out = np.maximum(out, np.clip(0.5 + (size - gap) / 0.09, 0, 1) * (size > 0.02))
    streaks = _periodic(rng, (3.0, 1.6, 1.3)) + 0.6 * _periodic(rng, (5.0, 3.0, 2.5))
    reach = (0.15 + 0.28 * _soft((0.75 - level) / 0.6)) * (1 - 0.5 * np.clip(np.cos(angle), 0, 1)) * look.trabeculae
    near = _soft((rho - 1 + reach) / reach)
    trabeculae = np.clip(0.36 + 0.5 * streaks, 0, 1) * near * _soft((1.0 - level) / 0.25)
    return np.maximum(out, trabeculae).astype(np.float32)


def rv_muscle(subject: Subject) -> np.ndarray:
    """Trabeculae and the moderator band of the RV, likewise over level, angle and relative depth (0 septum)."""
    rng = generator(subject.seed, "phantom", "rv muscle", subject.index)
    level, angle, rho = _grid()
    streaks = _periodic(rng, (3.0, 1.8, 1.6)) + 0.6 * _periodic(rng, (4.0, 3.5, 3.0))
    reach = np.minimum((0.22 + 0.55 * _soft((0.6 - level) / 0.55)) * subject.look.trabeculae, 1)
    trabeculae = np.clip(0.1 + 0.4 * streaks, 0, 1) * _soft((rho - 1 + reach) / reach) * _soft((0.95 - level) / 0.3)
    place = math.radians(rng.uniform(-10, 35))
    turn = np.mod(angle - place - 0.25 * (rho - 0.5) + np.pi, 2 * np.pi) - np.pi
    height = rng.uniform(0.42, 0.5) - 0.12 * rho
    band = np.hypot(turn / 0.075, (level - height) / 0.05)
    return np.maximum(trabeculae, np.clip(1.35 - 0.7 * band, 0, 0.9)).astype(np.float32)
