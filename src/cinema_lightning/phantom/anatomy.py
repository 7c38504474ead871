"""The heart of one subject in patient coordinates: where its surfaces are at every phase.

Heart coordinates are right-handed, in mm, with the origin at the epicardial apex: x from the lateral wall through the
septum to the RV, y from the inferior to the anterior wall, z along the axis from apex to base. Two shears, which keep
volumes, tilt the base plane and bend the axis. The surfaces of the ventricles are tabulated over (z, angle) per phase,
so that a voxel needs one look-up per surface; its place in the table never changes, as the axis itself rests.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from cinema_lightning.data.draws import generator
from cinema_lightning.phantom.look import wave
from cinema_lightning.phantom.motion import N_THETA, Phase, Ventricles, wrapped
from cinema_lightning.phantom.subject import Subject
from cinema_lightning.phantom.texture import lv_muscle, rv_muscle

Z_LOW, Z_STEP, Z_ABOVE = -14.0, 0.7, 52.0
N_FINE = 512
_LONG_AXIS = np.array([0.59, -0.72, 0.36])  # apex to base in RAS, usual direction
_FINE_THETA = (np.arange(N_FINE) + 0.5) * 2 * np.pi / N_FINE
_UP = np.array([0.0, 0.0, 1.0])


def _rotation(angles: tuple[float, float, float]) -> np.ndarray:
    """Rotation about R, A and S in this order, (3, 3)."""
    out = np.eye(3)
    for axis, angle in enumerate(angles):
        turn = np.eye(3)
        i, j = (axis + 1) % 3, (axis + 2) % 3
        turn[i, i] = turn[j, j] = np.cos(angle)
        turn[i, j], turn[j, i] = -np.sin(angle), np.sin(angle)
        out = turn @ out
    return out


@dataclass(frozen=True)
class Tables:
    """Surfaces of the ventricles at one phase over (z, angle), float32, flattened.

    Attributes:
        endo: LV endocardial radius, mm.
        endo_slope: Factor from radial to normal distance.
        epi: LV epicardial radius.
        epi_slope: Likewise.
        rv: Outer radius of the RV cavity.
        rv_slope: Likewise.
        rv_inner: Inner radius of the RV cavity.
        rv_wall: Outer radius of the RV wall.
        hull: Outer radius of the epicardial fat.
        rv_top: Top of the RV over the angle only, (N_FINE,).
    """

    endo: np.ndarray
    endo_slope: np.ndarray
    epi: np.ndarray
    epi_slope: np.ndarray
    rv: np.ndarray
    rv_slope: np.ndarray
    rv_inner: np.ndarray
    rv_wall: np.ndarray
    hull: np.ndarray
    rv_top: np.ndarray


class Heart:
    """Geometry of one subject's heart.

    Args:
        subject: The subject.
    """

    def __init__(self, subject: Subject) -> None:
        self.subject = subject
        self.ventricles = Ventricles(subject)
        self.length = self.ventricles.length
        self.base_radius = self.ventricles.radius * 0.93
        axis = _LONG_AXIS / np.linalg.norm(_LONG_AXIS)
        anterior = _UP - axis * (_UP @ axis)
        anterior /= np.linalg.norm(anterior)
        frame = np.stack([np.cross(anterior, axis), anterior, axis], axis=1)
        self.axes = _rotation(subject.rotation) @ frame  # columns x, y, z in RAS
        self.origin = np.asarray(subject.position, dtype=np.float64)
        self.n_z = int(np.ceil((self.length + Z_ABOVE - Z_LOW) / Z_STEP))
        self._z = (Z_LOW + Z_STEP * (np.arange(self.n_z) + 0.5))[:, None]
        self._theta = (np.arange(N_THETA) + 0.5) * 2 * np.pi / N_THETA

    # --- coordinates --------------------------------------------------------------------------------------------

    def to_heart(self, points: np.ndarray) -> np.ndarray:
        """Patient coordinates (..., 3), RAS mm, to heart coordinates (..., 3)."""
        q = (np.asarray(points, dtype=np.float64) - self.origin) @ self.axes
        x, y, z = q[..., 0], q[..., 1], q[..., 2]
        x = x - self._bend(z)
        return np.stack([x, y, z + self.subject.tilt[0] * x + self.subject.tilt[1] * y], axis=-1)

    def to_patient(self, points: np.ndarray) -> np.ndarray:
        """Heart coordinates (..., 3) to patient coordinates (..., 3)."""
        points = np.asarray(points, dtype=np.float64)
        x, y = points[..., 0], points[..., 1]
        z = points[..., 2] - self.subject.tilt[0] * x - self.subject.tilt[1] * y
        return np.stack([x + self._bend(z), y, z], axis=-1) @ self.axes.T + self.origin

    def _bend(self, z: np.ndarray) -> np.ndarray:
        return self.subject.bend * (((z - self.length / 2) / 50) ** 2 - 0.5)

    def table_index(self, q: np.ndarray) -> np.ndarray:
        """Place of heart coordinates (..., 3) in the tables, intp (...)."""
        row = np.clip((q[..., 2] - Z_LOW) / Z_STEP, 0, self.n_z - 1).astype(np.intp)
        column = np.floor(np.arctan2(q[..., 1], q[..., 0]) * (N_FINE / (2 * np.pi))).astype(np.intp) % N_FINE
        return row * N_FINE + column

    # --- surfaces -----------------------------------------------------------------------------------------------

    def at(self, time: float) -> Phase:
        """The ventricles' state at ``time`` (fraction of the cycle)."""
        return self.ventricles.at(time)

    def tables(self, phase: Phase) -> Tables:
        """Tabulates all surfaces at one phase."""
        v, z, theta = self.ventricles, self._z, self._theta
        inner, outer = v.lv(z, theta, phase)
        rv_inner = v.rv_inner(z, np.maximum(outer, 0), phase)
        depth = phase.rv_scale * v.rv_depth(z, theta, phase) * (z > v.rv_apex)
        rv = rv_inner + depth
        wall = rv + (self.subject.look.rv_wall + 1.2 * phase.empty) * np.clip(depth / 5, 0, 1)
        hull = np.maximum(wall, outer) + self._fat_layer(z, theta)
        return Tables(
            endo=_fine(inner),
            endo_slope=_fine(_slope(inner)),
            epi=_fine(outer),
            epi_slope=_fine(_slope(outer)),
            rv=_fine(rv),
            rv_slope=_fine(_slope(rv)),
            rv_inner=_fine(rv_inner),
            rv_wall=_fine(wall),
            rv_top=v.rv_height(_FINE_THETA, phase).astype(np.float32),
            hull=_fine(hull),
        )

    def _fat_layer(self, z: np.ndarray, theta: np.ndarray) -> np.ndarray:
        """Thickness of the epicardial fat: thin on the side of the lung, thick in the grooves and over the RV."""
        groove = np.exp(-((wrapped(theta - 1.25) / 0.3) ** 2)) + 0.7 * np.exp(-((wrapped(theta + 1.45) / 0.3) ** 2))
        over_rv = np.clip(np.cos(theta - 0.3), 0, 1)
        base = np.exp(-(((z - self.length + 4) / 9) ** 2))
        low = np.clip(z / 12 + 1, 0, 1)
        around = np.maximum(1 + wave(self.subject.look.fat, theta), 0)
        return self.subject.epicardial_fat * (0.5 + 1.6 * groove + 0.9 * over_rv + 0.5 * base) * low * around

    @cached_property
    def underside(self) -> np.ndarray:
        """What the heart rests on: points (N, 3) of its inferior surface at ED, in patient coordinates."""
        hull = self.tables(self.at(0.0)).hull.reshape(self.n_z, N_FINE)
        theta = _FINE_THETA
        rows = np.flatnonzero((self._z[:, 0] > 6) & (self._z[:, 0] < self.length - 4))[::6]
        columns = np.flatnonzero(np.sin(theta) < -0.35)[::8]
        radius = hull[np.ix_(rows, columns)]
        z = np.broadcast_to(self._z[rows], radius.shape)
        around = theta[columns]
        return self.to_patient(np.stack([radius * np.cos(around), radius * np.sin(around), z], axis=-1)).reshape(-1, 3)

    @cached_property
    def lv_muscle(self) -> np.ndarray:
        """Papillary muscles and trabeculae of the LV, see :func:`texture.lv_muscle`."""
        return lv_muscle(self.subject)

    @cached_property
    def rv_muscle(self) -> np.ndarray:
        """Trabeculae of the RV, see :func:`texture.rv_muscle`."""
        return rv_muscle(self.subject)

    # --- landmarks ----------------------------------------------------------------------------------------------

    def ring(self, phase: Phase, valve: str) -> np.ndarray:
        """Points of a valve's ring in patient coordinates, (N, 3).

        Args:
            phase: The moment.
            valve: mitral or tricuspid.
        """
        v, theta = self.ventricles, np.linspace(-np.pi, np.pi, 1440, endpoint=False)
        if valve == "mitral":
            z = np.full_like(theta, self.length * phase.stretch)
            radius = v.lv(z[:1, None] - 0.5, theta, phase)[0][0]
        else:
            theta = theta[np.abs(theta - 0.0) < 0.9]
            z = np.full_like(theta, phase.rv_top)
            outer = v.lv(z[:1, None], theta, phase)[1][0]
            radius = outer + phase.rv_scale * v.rv_depth(z, theta, phase)
        return self.to_patient(np.stack([radius * np.cos(theta), radius * np.sin(theta), z], axis=-1))

    def septal_hinge(self, phase: Phase, theta: float) -> np.ndarray:
        """Where the tricuspid valve meets the septum at an angle, (3,) in patient coordinates."""
        z = np.array([[phase.rv_top]])
        radius = self.ventricles.lv(z, np.array([theta]), phase)[1][0, 0]
        return self.to_patient(np.array([radius * np.cos(theta), radius * np.sin(theta), phase.rv_top]))

    def apex(self, phase: Phase) -> np.ndarray:
        """Endocardial apex of the LV, (3,) in patient coordinates."""
        return self.to_patient(np.array([0.0, 0.0, self.ventricles.apex * self.length * phase.stretch]))

    @cached_property
    def phase_seed(self) -> int:
        """A number of this heart's own for what is drawn per image."""
        return int(generator(self.subject.seed, "phantom", "image", self.subject.index).integers(2**31))


def _slope(radius: np.ndarray) -> np.ndarray:
    """Cosine between the radius and the surface's normal."""
    change = np.gradient(radius, Z_STEP, axis=0)
    return 1 / np.sqrt(1 + np.clip(change, -4, 4) ** 2)


def _fine(table: np.ndarray) -> np.ndarray:
    """Linear periodic interpolation from the coarse to the fine angles, flattened."""
    table = table.astype(np.float32)
    ratio = N_FINE // N_THETA
    place = (np.arange(ratio, dtype=np.float32) + 0.5) / ratio - 0.5  # of the fine angles around a coarse one
    before, after = np.roll(table, 1, axis=1), np.roll(table, -1, axis=1)
    out = np.empty((*table.shape, ratio), np.float32)
    for k, offset in enumerate(place):
        out[..., k] = table + abs(offset) * ((before if offset < 0 else after) - table)
    return out.ravel()
