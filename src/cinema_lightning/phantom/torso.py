"""What does not move: skin, fat, ribs, lungs and their vessels, liver, stomach, spleen, spine, descending aorta."""

from __future__ import annotations

import numpy as np

from cinema_lightning.data.draws import generator
from cinema_lightning.phantom.subject import Subject
from cinema_lightning.phantom.texture import Noise

Contrast = dict[str, float]


def soft(distance: np.ndarray, width: float) -> np.ndarray:
    """Fraction of a voxel inside a surface from the signed distance (inside positive) and the blur, both mm."""
    return np.clip(distance / width + 0.5, 0, 1)


def _quadratic(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Terms of a quadratic surface, (..., 6)."""
    return np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=-1)


def _ellipsoid(p: tuple[np.ndarray, ...], centre: tuple[float, ...], radii: tuple[float, ...]) -> np.ndarray:
    """Approximate signed distance to an ellipsoid, mm, inside positive."""
    q = sum(((axis - c) / r) ** 2 for axis, c, r in zip(p, centre, radii, strict=True))
    return (1 - np.sqrt(q)) * min(radii)


class Torso:
    """The trunk of one subject in patient coordinates (RAS mm, origin in the middle of the trunk).

    Args:
        subject: The subject.
        underside: Points (N, 3) on which the heart rests; the diaphragm is fitted to them.
    """

    def __init__(self, subject: Subject, underside: np.ndarray) -> None:
        self.subject = subject
        r, a, s = underside.T
        self.saddle_centre = (float(r.mean()), float(a.mean()))
        self.saddle_spread = (float(r.std()), float(a.std()))
        self.saddle = np.linalg.lstsq(_quadratic(r - r.mean(), a - a.mean()), s, rcond=None)[0]
        rng = generator(subject.seed, "phantom", "torso", subject.index)
        self.noise = Noise(rng)
        self.jitter = [float(value) for value in rng.normal(0, 1, 24)]  # plain numbers keep arrays float32

    def signal(self, points: np.ndarray, contrast: Contrast, width: float) -> np.ndarray:
        """Signed signal of the resting tissues.

        Args:
            points: (K, ..., 3) RAS mm in patient coordinates; K points through the thickness of a slice.
            contrast: Signal by tissue.
            width: Blur of edges, mm.

        Returns:
            float32 (K, ...).
        """
        p = tuple(np.ascontiguousarray(points[..., k], dtype=np.float32) for k in range(3))
        self._middle = tuple(axis.mean(axis=0, keepdims=True) for axis in p)
        out = np.full(p[0].shape, contrast["air"], np.float32)
        depth = self._depth(p)
        wall = self._chest_wall(out, p, depth, contrast, width)
        self._lungs(out, p, wall, contrast, width)
        self._mediastinum(out, p, wall, contrast, width)
        self._abdomen(out, p, wall, contrast, width)
        self._spine(out, p, contrast, width)
        return out

    def _texture(self, scale: float, offset: float, where: np.ndarray | None = None) -> np.ndarray:
        """Noise in the middle of the slice, which stands for all of its thickness: (1, ...)."""
        needed = None if where is None else where.max(axis=0, keepdims=True)
        return self.noise(self._middle, scale, offset, needed)

    def _depth(self, p: tuple[np.ndarray, ...]) -> np.ndarray:
        """Distance below the skin along the ray from the middle of the trunk, mm; negative in the air."""
        half_width, half_depth = self.subject.body
        r, a, s = p
        squared = ((np.abs(r) / half_width) ** 2.5 + (np.abs(a) / half_depth) ** 2.5) ** (1 / 2.5)
        distance = np.sqrt(r * r + a * a)
        slope = 0.06 * np.clip(s + 40, -120, 120)  # a chest narrows upwards
        return (1 / np.maximum(squared, 1e-3) - 1) * distance - slope

    def _chest_wall(
        self, out: np.ndarray, p: tuple[np.ndarray, ...], depth: np.ndarray, contrast: Contrast, width: float
    ) -> np.ndarray:
        """Skin, fat, muscle and ribs; returns the distance below the inner surface of the fat."""
        r, a, s = p
        _paint(out, soft(depth, width), contrast["skin"])
        layer = soft(depth + 4, width) * (depth < self.subject.fat * 1.5 + 26)
        uneven = self._texture(30.0, 0.3, layer)
        side = np.abs(r) / np.maximum(np.sqrt(r * r + a * a), 1)
        fat = self.subject.fat * (0.8 + 0.45 * side + 0.08 * uneven)
        streak = self._texture(5.0, 1.7, layer)
        _paint(out, soft(depth - 1.8, width), contrast["fat"] * (1 + 0.07 * streak))
        inner = depth - fat
        muscle = contrast["muscle"] * (1 + 0.15 * streak)
        strands = soft(self._texture(7.0, 2.9, layer) - 0.9, 0.7)  # fat between the muscles
        _paint(out, soft(inner, width), muscle + strands * (contrast["fat"] * 0.8 - muscle))
        angle = np.arctan2(r, a)
        period = 29.0
        along = np.mod(s + 20 * np.abs(angle) + 6 * self.jitter[0] + 3 * uneven, period) - period / 2
        shape = 1 - np.sqrt(((inner - 9.5) / 5.0) ** 2 + (along / 7.5) ** 2)
        _paint(out, 0.85 * soft(shape * 6, width), contrast["bone"])
        _paint(out, soft(shape * 6 - 2.2, width), contrast["marrow"] * np.clip(np.abs(angle) - 0.3, 0, 1))
        return inner - 16.0

    def _lungs(
        self, out: np.ndarray, p: tuple[np.ndarray, ...], wall: np.ndarray, contrast: Contrast, width: float
    ) -> None:
        """Lungs with vessels: curves along which two smooth fields vanish together, denser towards the hilum."""
        inside = soft(wall, width)
        _paint(out, soft(wall + 2.0, width), contrast["mediastinum"] * 0.7)
        _paint(out, inside, contrast["lung"] * (1 + 0.3 * self._texture(9.0, 5.1, inside)))
        hilum = np.sqrt((np.abs(p[0]) - 45) ** 2 + (p[1] + 15) ** 2 + (p[2] - 25) ** 2)
        calibre = np.clip(0.52 - 0.0048 * hilum, 0.08, 0.5)
        near = inside * (hilum < 120)
        for offset in (7.7, 11.3):
            first, second = self._texture(11.0, offset, near), self._texture(11.0, offset + 29.0, near)
            vessel = np.clip((calibre - np.sqrt(first**2 + second**2)) / 0.16, 0, 1) * near
            _paint(out, vessel, contrast["vessel"])

    def _mediastinum(
        self, out: np.ndarray, p: tuple[np.ndarray, ...], wall: np.ndarray, contrast: Contrast, width: float
    ) -> None:
        """Fat between the lungs, oesophagus."""
        r, a, s = p
        chest = soft(wall, width) * (np.abs(r) < 75)
        wavy = self._texture(16.0, 3.3, chest)
        # Wide around the great vessels, a narrow leaf behind the breastbone.
        half = 12 + 18 * np.clip(1 - ((a + 12) / 50) ** 2, 0, 1) + 0.12 * np.clip(-s, 0, 60) + 5 * wavy
        texture = contrast["mediastinum"] * (0.8 + 0.13 * self._texture(3.0, 9.1, chest))
        _paint(out, soft(half - np.abs(r + 4 + 4 * wavy), 2.5 * width) * soft(wall, width), texture)
        depth = self.subject.body[1]
        _paint(out, soft(6.5 - np.sqrt((r + 8) ** 2 + (a + 0.36 * depth) ** 2), width), contrast["muscle"])

    def diaphragm(self, r: np.ndarray, a: np.ndarray) -> np.ndarray:
        """Height of the diaphragm, mm: a right and a left dome and the saddle that carries the heart."""
        j = self.jitter
        right = -30 + 4 * j[1] - 58 * (((r - 72) / 105) ** 2 + ((a - 0) / 95) ** 2)
        left = -48 + 4 * j[2] - 58 * (((r + 70) / 105) ** 2 + ((a - 8) / 95) ** 2)
        x, y = r - self.saddle_centre[0], a - self.saddle_centre[1]
        outside = np.sqrt((x / self.saddle_spread[0]) ** 2 + (y / self.saddle_spread[1]) ** 2) / 1.7
        inward = 1 / np.maximum(outside, 1)
        terms = _quadratic(x * inward, y * inward)
        saddle = sum(float(c) * terms[..., k] for k, c in enumerate(self.saddle)) - 2.0
        saddle = saddle - 30 * np.clip(outside - 1, 0, None) ** 1.5
        return np.maximum(np.maximum(right, left), saddle)

    def _abdomen(
        self, out: np.ndarray, p: tuple[np.ndarray, ...], wall: np.ndarray, contrast: Contrast, width: float
    ) -> None:
        r, a, s = p
        j = self.jitter
        below = self.diaphragm(r, a) - s
        inside = soft(wall + 4, width)
        _paint(out, soft(below, width) * inside, contrast["muscle"])
        deep = soft(below - 3.0, width) * inside
        texture = self._texture(3.0, 13.7, deep)
        gut = soft(self._texture(7.0, 35.3, deep) + 0.2, 0.5)
        fat = contrast["fat"] * (0.75 + 0.1 * texture)
        _paint(out, deep, fat + gut * (contrast["stomach"] * (0.8 + 0.2 * texture) - fat))
        centre = (-108.0 + 5 * j[3], -42.0 + 6 * j[4], -82.0 + 6 * j[5])
        _paint(out, soft(_ellipsoid(p, centre, (24, 38, 44)), width) * deep, contrast["spleen"] * (1 + 0.05 * texture))
        centre = (-68 + 6 * j[6], 14 + 10 * j[7], -88 + 6 * j[8])
        stomach = _ellipsoid(p, centre, (40 + 3 * j[12], 44 + 4 * j[13], 40)) + 3 * self._texture(8.0, 15.1, deep)
        _paint(out, soft(stomach, width) * deep, contrast["muscle"])
        lump = self._texture(9.0, 17.9, deep)
        full = contrast["stomach"] * (0.9 + 0.25 * j[14] + 0.3 * np.tanh(3 * lump))
        air = soft(a - centre[1] - 14 - 14 * j[15], 2.0)  # a bubble lies in front, when the patient lies on the back
        _paint(out, soft(stomach - 4, width) * deep, full * (1 - air) + contrast["air"] * air)
        edge = r + 46 + 8 * j[9] + 0.3 * np.minimum(a - 20, 50) + 4 * self._texture(25.0, 19.3, deep)
        liver = soft(edge, width) * deep
        _paint(out, liver, contrast["liver"] * (1 + 0.06 * texture))
        branch = np.sqrt(self._texture(12.0, 21.1, liver) ** 2 + self._texture(12.0, 23.9, liver) ** 2)
        _paint(out, np.clip((0.25 - branch) / 0.15, 0, 1) * liver, contrast["liver"] * 1.7)

    def _spine(self, out: np.ndarray, p: tuple[np.ndarray, ...], contrast: Contrast, width: float) -> None:
        """Muscles of the back, vertebrae, canal with cord, descending aorta."""
        r, a, s = p
        depth = self.subject.body[1]
        back = -0.60 * depth
        for side in (-1, 1):
            muscle = soft(19 - 19 * np.sqrt(((r - side * 30) / 24) ** 2 + ((a - back + 26) / 19) ** 2), width)
            _paint(out, muscle, contrast["muscle"] * (1 + 0.15 * self._texture(5.0, 25.3, muscle)))
        body = 1 - np.sqrt((r / 20) ** 2 + ((a - back) / 16) ** 2)
        disc = np.abs(np.mod(s + 9 * self.jitter[10], 26.0) - 13) > 10
        _paint(out, soft(body * 16, width), contrast["bone"])
        _paint(
            out,
            soft(body * 16 - 2, width),
            np.where(disc, np.float32(contrast["cord"]), np.float32(contrast["muscle"] * 1.2)),
        )
        arch = np.sqrt(r * r + (a - back + 25) ** 2)
        _paint(out, soft(13 - arch, width), contrast["bone"])
        _paint(out, soft(8.5 - arch, width), contrast["fluid"])
        _paint(out, soft(4.5 - arch, width), contrast["cord"])
        aorta = np.sqrt((r + 25 + 2 * self.jitter[11]) ** 2 + (a - back - 20) ** 2)
        calibre = 10.5 + 0.04 * (self.subject.age - 50)
        _paint(out, soft(calibre + 1.8 - aorta, width), contrast["atrial_wall"])
        _paint(out, soft(calibre - aorta, width), contrast["vessel"] * 1.1)


def _paint(out: np.ndarray, alpha: np.ndarray, value: np.ndarray | float) -> None:
    """Lays a tissue over what is there, in place."""
    out += alpha * (value - out)
