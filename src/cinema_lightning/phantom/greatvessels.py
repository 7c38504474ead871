"""Atria, valves and great vessels: what lies above the base plane, painted in heart coordinates."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cinema_lightning.data.draws import generator
from cinema_lightning.phantom.anatomy import Heart
from cinema_lightning.phantom.motion import Phase
from cinema_lightning.phantom.torso import Contrast, _paint, soft

Points = tuple[np.ndarray, np.ndarray, np.ndarray]


def tube(p: Points, start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Distance of points to a line segment, mm."""
    line = end - start
    relative = [axis - float(s) for axis, s in zip(p, start, strict=True)]
    along = sum(float(d) * axis for d, axis in zip(line, relative, strict=True)) / float(line @ line)
    along = np.clip(along, 0, 1)
    return np.sqrt(sum((axis - along * float(d)) ** 2 for d, axis in zip(line, relative, strict=True)))


def _ellipsoid(p: Points, centre: np.ndarray, radii: tuple[float, float, float]) -> np.ndarray:
    q = sum(((axis - float(c)) * (1 / r)) ** 2 for axis, c, r in zip(p, centre, radii, strict=True))
    return (1 - np.sqrt(q)) * float(np.mean(radii))


@dataclass(frozen=True)
class _Sizes:
    """Drawn sizes above the base, mm."""

    la: float
    ra: float
    la_roof: float
    ra_roof: float
    aorta: float
    pulmonary: float
    lean: float


class GreatVessels:
    """Atria, valves and great vessels of one heart.

    Args:
        heart: The heart they belong to.
    """

    def __init__(self, heart: Heart) -> None:
        subject = heart.subject
        rng = generator(subject.seed, "phantom", "vessels", subject.index)
        scale = subject.bsa**0.33 / 1.24
        sick = 1.12 if subject.pathology in ("DCM", "HCM") else 1.0
        self.heart = heart
        self.sizes = _Sizes(
            la=sick * scale * float(rng.normal(1.0, 0.06)),
            ra=(1.15 if subject.pathology == "ARV" else 1.0) * scale * float(rng.normal(1.0, 0.06)),
            la_roof=scale * float(rng.normal(49, 3)) * sick,
            ra_roof=scale * float(rng.normal(43, 3)),
            aorta=scale * float(np.clip(rng.normal(12.5 + 0.03 * (subject.age - 50), 0.8), 10, 17)),
            pulmonary=scale * float(rng.normal(12.0, 0.8)),
            lean=float(rng.normal(0, 3)),
        )

    def rest(self, out: np.ndarray, p: Points, contrast: Contrast, width: float) -> None:
        """Paints what hardly moves: fat around the base, caval and pulmonary veins."""
        length, rb, lean = self.heart.length, self.heart.base_radius, self.sizes.lean
        fat = np.minimum(_ellipsoid(p, np.array([18.0, 2.0, length + 14]), (56, 46, 46)), p[2] - 0.88 * length)
        _paint(out, soft(fat, 2 * width), contrast["mediastinum"])
        middle = np.array([-0.1 * rb, -6.0, length + 0.62 * self.sizes.la_roof])
        for end, radius in (((-66, -2, 74), 6.5), ((-58, -28, 62), 6.0), ((62, -8, 84), 6.5), ((52, -36, 74), 6.0)):
            self._vessel(out, p, middle, np.array([end[0], end[1], length + end[2] - 14.0]), radius, contrast, width)
        right = np.array([rb + 20.0, -10.0, length + 20])
        self._vessel(out, p, right, np.array([rb + 26 + lean, 95.0, length + 42]), 9.5, contrast, width)
        self._vessel(out, p, right, np.array([rb + 14 + lean, -95.0, length + 22]), 11.0, contrast, width)

    def _vessel(
        self,
        out: np.ndarray,
        p: Points,
        start: np.ndarray,
        end: np.ndarray,
        radius: float,
        contrast: Contrast,
        width: float,
    ) -> None:
        gap = tube(p, start, end)
        _paint(out, soft(radius + 1.5 - gap, width), contrast["atrial_wall"])
        _paint(out, soft(radius - gap, width), contrast["atrial_blood"])

    def atria(
        self, out: np.ndarray, p: Points, uneven: np.ndarray, phase: Phase, contrast: Contrast, width: float
    ) -> None:
        """Right atrium, pulmonary trunk, left atrium; they widen while the base descends.

        ``uneven`` (mm, shape of the points) dents their walls.
        """
        length, rb, sizes = self.heart.length, self.heart.base_radius, self.sizes
        swell = 1 + 0.14 * phase.empty
        low, high = phase.rv_top - 10, length + sizes.ra_roof
        centre = np.array([rb + 22.0, -12.0, (low + high) / 2])
        right = _ellipsoid(p, centre, (24.5 * sizes.ra * swell, 25 * sizes.ra * swell, (high - low) / 2)) + uneven
        _paint(out, soft(right + 1.2, width), contrast["atrial_wall"])
        _paint(out, soft(right, width), contrast["atrial_blood"])
        self._pulmonary(out, p, phase, contrast, width)
        low, high = length * phase.stretch - 11, length + sizes.la_roof
        centre = np.array([-0.14 * rb, -0.22 * rb, (low + high) / 2])
        left = _ellipsoid(p, centre, (26 * sizes.la * swell, 21 * sizes.la * swell, (high - low) / 2)) - uneven
        _paint(out, soft(left + 1.2, width), contrast["atrial_wall"])
        _paint(out, soft(left, width), contrast["atrial_blood"])

    def _pulmonary(self, out: np.ndarray, p: Points, phase: Phase, contrast: Contrast, width: float) -> None:
        radius = self.sizes.pulmonary * (1 + 0.05 * phase.empty)
        start = np.array([14.0, 29.0, phase.rv_top + 22])
        bend = np.array([-4.0, 33.0, self.heart.length + 44])
        end = np.array([-24.0, 12.0, self.heart.length + 66])
        gap = np.minimum(tube(p, start, bend), tube(p, bend, end))
        _paint(out, soft(radius + 1.6 - gap, width), contrast["atrial_wall"])
        _paint(out, soft(radius - gap, width), contrast["atrial_blood"])

    def aortic_gap(self, p: Points, phase: Phase) -> np.ndarray:
        """Distance to the middle of the aortic root and the ascending aorta, mm."""
        rb, length = self.heart.base_radius, self.heart.length
        start = np.array([0.38 * rb, 0.62 * rb, length * phase.stretch - 2])
        arch = np.array([start[0] + 13 + self.sizes.lean, start[1] + 12, length + 36])
        up = np.array([arch[0] + 12, arch[1] + 62, arch[2] + 8])
        return np.minimum(tube(p, start, arch), tube(p, arch, up))

    def aorta(self, out: np.ndarray, p: Points, phase: Phase, contrast: Contrast, width: float) -> np.ndarray:
        """Aortic root and ascending aorta; returns its share of every voxel, which is no ventricle."""
        base, es = self.heart.length * phase.stretch, self.heart.subject.es_phase
        radius = self.sizes.aorta * (1 + 0.05 * phase.empty)
        sinus = 1.5 * soft(8 - np.abs(p[2] - base - 10), 8.0)
        gap = self.aortic_gap(p, phase) - sinus
        wall = soft(radius + 1.7 - gap, width)
        inside = soft(radius - gap, width)
        _paint(out, wall, contrast["atrial_wall"])
        _paint(out, inside, contrast["blood"])
        closed = 1.0 if phase.time < 0.02 else float(np.clip((phase.time - es) / 0.03, 0, 1))
        _paint(out, 0.55 * closed * soft(1.0 - np.abs(p[2] - base - 3), width) * inside, contrast["valve"])
        return wall

    def leaflets(self, out: np.ndarray, p: Points, phase: Phase, contrast: Contrast, width: float) -> None:
        """Mitral and tricuspid leaflets, each a cone from the ring to a tip that swings."""
        opened = self.opening(phase.time)
        base = self.heart.length * phase.stretch
        mitral, tricuspid = self.valves()
        self._cone(out, p, (*mitral[:2], base), mitral[2], opened, contrast, width)
        self._cone(out, p, (*tricuspid[:2], phase.rv_top), tricuspid[2], opened, contrast, width)

    def valves(self) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
        """Centre x, y and radius of the mitral and of the tricuspid ring, mm."""
        rb = self.heart.base_radius
        return (-0.18 * rb, -0.14 * rb, 0.76 * rb), (rb + 23.0, -10.0, 19.0)

    def opening(self, time: float) -> float:
        """How far the valves between atria and ventricles stand open, 0 to 1."""
        start = self.heart.subject.es_phase + 0.05
        t = time % 1.0

        def hump(centre: float, half: float) -> float:
            return max(0.0, 1 - ((t - centre) / half) ** 2)

        resting = 0.45 if start + 0.1 < t < 0.97 else 0.0
        return float(max(hump(start + 0.11, 0.12), 0.85 * hump(0.88, 0.1), resting))

    def _cone(
        self,
        out: np.ndarray,
        p: Points,
        centre: tuple[float, float, float],
        radius: float,
        opened: float,
        contrast: Contrast,
        width: float,
    ) -> None:
        tip = (2.0 + (0.62 * radius - 2.0) * opened, -4.0 - 13.0 * opened)
        across, down = tip[0] - radius, tip[1]
        flat = np.flatnonzero(np.abs(p[2] - (centre[2] - 9)) < 14)
        if flat.size == 0:
            return
        x, y, height = (axis.ravel()[flat] - np.float32(c) for axis, c in zip(p, centre, strict=True))
        rho = np.sqrt(x * x + y * y) - np.float32(radius)
        along = np.clip((rho * across + height * down) * (1 / (across**2 + down**2)), 0, 1)
        gap = np.sqrt((rho - along * across) ** 2 + (height - along * down) ** 2)
        alpha = 0.5 * np.clip((0.9 - gap) / width + 0.5, 0, 1)
        values = out.reshape(-1)
        values[flat] += alpha * (contrast["valve"] - values[flat])
