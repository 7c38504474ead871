"""The cardiac cycle: volume curves and the shape of both ventricles at every phase.

The ventricles are described around the long axis (z from the epicardial apex to the base, angle theta, radius). Every
slab of wall keeps its area times its height: where the long axis shortens by lambda, the ring area of the wall grows
by 1 / lambda, so the myocardial volume is conserved exactly and the wall thickens as the cavity empties (the
incompressible map of Waks et al., "Cardiac motion simulator for tagged MRI", 1996, reduced to its volume terms).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from cinema_lightning.metrics.function import MYOCARDIAL_DENSITY
from cinema_lightning.phantom.look import wave
from cinema_lightning.phantom.subject import Scar, Subject

BASE_CENTRE = 0.72  # widest level of the LV, as a fraction of the cavity's length from its apex
RV_CENTRE = -0.24  # middle of the RV around the long axis, rad
N_THETA = 128


def emptying(phase: np.ndarray, es_phase: float, early: float) -> np.ndarray:
    """How far a ventricle has emptied: 0 at ED, 1 at ES, with early and late filling.

    Args:
        phase: Time as a fraction of the cycle, 0 at the R wave; any shape.
        es_phase: End systole.
        early: Part of the volume that returns in early filling; a third of the rest seeps in before the A wave.

    Returns:
        Array like ``phase``, in [0, 1].
    """
    t = np.mod(np.asarray(phase, dtype=np.float64), 1.0)
    systole = _step((t - 0.03) / (es_phase - 0.03))
    relaxed = es_phase + 0.05
    filled = early * _step((t - relaxed) / 0.2) + (1 - early) * (
        0.3 * _step((t - relaxed - 0.1) / 0.3) + 0.7 * _step((t - 0.82) / 0.16)
    )
    return systole * (1 - filled)


def _step(x: np.ndarray) -> np.ndarray:
    """Smooth step from 0 at x <= 0 to 1 at x >= 1 with flat ends."""
    x = np.clip(x, 0.0, 1.0)
    return x * x * (3 - 2 * x)


def _bump(x: np.ndarray) -> np.ndarray:
    """Smooth bump: 1 at 0, 0 beyond |x| = 1."""
    return _step(1 - np.abs(x))


def wrapped(angle: np.ndarray | float) -> np.ndarray:
    """Brings angles into [-pi, pi)."""
    return np.mod(np.asarray(angle) + np.pi, 2 * np.pi) - np.pi


def scar_extent(scar: Scar, s: np.ndarray, theta: np.ndarray, grow: float = 0.0) -> np.ndarray:
    """How much a place of the wall belongs to the infarct, 0 to 1, soft at the border.

    Args:
        scar: The infarct.
        s: Place along the long axis, 0 apex to 1 base.
        theta: Angle, rad; broadcast with ``s``.
        grow: Added to the half width (rad), for the edema around the scar.
    """
    # Towards the apex a sector of constant angle would taper to a point; infarcts there go all the way round.
    across = np.abs(wrapped(theta - scar.angle)) * (0.3 + 0.7 * np.clip(s / 0.35, 0, 1))
    side = _step((scar.width + grow - across) / 0.35 + 0.5)
    along = _step((s - scar.low) / 0.08 + 0.9) * _step((scar.high + 0.15 * grow - s) / 0.12 + 0.5)
    return side * along


@dataclass(frozen=True)
class Phase:
    """What the ventricles are at one moment.

    Attributes:
        time: Fraction of the cycle.
        empty: How far emptied, 0 to 1.
        stretch: Length of the LV relative to ED.
        contraction: Amount of radial contraction (0 at ED).
        rv_scale: Scale of the RV's depth.
        rv_top: Tricuspid plane, mm along the long axis.
    """

    time: float
    empty: float
    stretch: float
    contraction: float
    rv_scale: float
    rv_top: float


class Ventricles:
    """Radii of the ventricles' surfaces around the long axis, at any phase.

    Args:
        subject: The subject.
    """

    def __init__(self, subject: Subject) -> None:
        self.subject = subject
        self.length = subject.cavity_length + subject.apex_wall  # epicardial apex to mitral plane at ED
        self.apex = subject.apex_wall / self.length
        self._zeta = (np.arange(240) + 0.5) / 240
        self._theta = (np.arange(N_THETA) + 0.5) * 2 * np.pi / N_THETA
        s = self.apex + (1 - self.apex) * self._zeta[:, None]
        shape = self._profile(s) * self._oval(self._theta)
        per_area = 0.5 * subject.cavity_length * 2 * np.pi / 1000  # ml per mean square radius
        self.radius = float(np.sqrt(subject.lv_edv / (per_area * np.mean(shape**2))))
        r0 = self.radius * shape
        c = self._contractility(s, self._theta)
        self._moments = [per_area * float(np.mean(r0**2 * c**power)) for power in (0, 1, 2)]
        self.rv_apex = 0.16 * self.length
        self.rv_top0 = self.length - 5.0
        self._rv_cache: tuple[np.ndarray, np.ndarray] | None = None

    # --- LV -----------------------------------------------------------------------------------------------------

    def _profile(self, s: np.ndarray) -> np.ndarray:
        """Radius of a truncated ellipsoid relative to its widest, from the endocardial apex upwards."""
        zeta = (s - self.apex) / (1 - self.apex)
        return np.sqrt(np.clip(1 - ((BASE_CENTRE - zeta) / BASE_CENTRE) ** 2, 0, None)) * (zeta >= 0)

    def _outer_profile(self, s: np.ndarray) -> np.ndarray:
        centre = self.apex + BASE_CENTRE * (1 - self.apex)
        return np.sqrt(np.clip(1 - ((centre - s) / centre) ** 2, 0, None))

    def _oval(self, theta: np.ndarray) -> np.ndarray:
        # The septum bulges a little less than the free wall does.
        usual = 1 + self.subject.oval * np.cos(2 * theta) - 0.02 * np.cos(theta) + 0.012 * np.cos(3 * theta)
        return usual + wave(self.subject.look.outline, theta)

    def _contractility(self, s: np.ndarray, theta: np.ndarray) -> np.ndarray:
        """Relative radial contraction of a place: 1 where healthy, less at the base and the septum, none in a scar."""
        healthy = (1.0 - 0.12 * np.cos(theta)) * (1 - 0.15 * _step((s - 0.7) / 0.3))
        scar = self.subject.scar
        return healthy if scar is None else healthy * (1 - scar.stiffness * scar_extent(scar, s, theta))

    def wall0(self, s: np.ndarray, theta: np.ndarray) -> np.ndarray:
        """Wall thickness at ED in mm at s (0 apex to 1 base) and theta."""
        subject = self.subject
        wall = subject.wall * (1.0 + 0.07 * np.cos(theta)) * (1 - 0.22 * _step((0.45 - s) / 0.45))
        around = _bump(wrapped(theta - subject.bulge_angle) / 2.0)
        wall = wall + subject.septal_bulge * around * _step(s / 0.35) * (1 - 0.45 * _step((s - 0.75) / 0.25))
        if subject.scar is not None:
            wall = wall * (1 - 0.42 * subject.scar.age * scar_extent(subject.scar, s, theta))
        return wall

    def lv(self, z: np.ndarray, theta: np.ndarray, phase: Phase) -> tuple[np.ndarray, np.ndarray]:
        """Endocardial and epicardial radius; negative below the apex (minus the distance to it).

        Args:
            z: Height above the epicardial apex, mm.
            theta: Angle, rad; broadcast with ``z``.
            phase: The moment.

        Returns:
            Two arrays in mm of the broadcast shape.
        """
        length = self.length * phase.stretch
        s = z / length
        profile = self._profile(s)
        inner0 = self.radius * profile * self._oval(theta)
        outer0 = self._outer_profile(s) * (self.radius * self._oval(theta) + self.wall0(s, theta))
        inner = inner0 * (1 - phase.contraction * self._contractility(s, theta))
        area = np.clip(outer0**2 - inner0**2, 0, None) / phase.stretch
        outer = np.sqrt(inner**2 + area)
        inner = np.where(s < self.apex, (s - self.apex) * length, inner)
        return inner, np.where(s < 0, z, outer)

    @cached_property
    def lv_mass(self) -> float:
        """Mass of the LV myocardium, g, by fine integration at ED."""
        phase = self.at(0.0)
        s = (np.arange(400) + 0.5)[:, None] / 400
        inner, outer = self.lv(s * self.length, self._theta, phase)
        area = np.pi * np.mean(outer**2 - np.clip(inner, 0, None) ** 2)
        return float(MYOCARDIAL_DENSITY * area * self.length / 1000)

    @cached_property
    def wall_thickness(self) -> float:
        """Largest wall thickness at ED between a quarter and nine tenths of the length, mm."""
        s = np.linspace(0.25, 0.9, 40)[:, None]
        return float(self.wall0(s, self._theta).max())

    # --- RV -----------------------------------------------------------------------------------------------------

    def rv_height(self, theta: np.ndarray, phase: Phase) -> np.ndarray:
        """Top of the RV: the tricuspid plane, and higher towards the outflow tract in front."""
        up = np.sin(theta)
        return phase.rv_top + np.where(up > 0, 27.0 * up, 5.0 * up)

    def rv_depth(self, z: np.ndarray, theta: np.ndarray, phase: Phase) -> np.ndarray:
        """Depth of the RV cavity measured outwards from the LV epicardium, mm, for scale 1."""
        top = self.rv_height(theta, phase)
        level = np.clip((z - self.rv_apex) / (top - self.rv_apex), 0, 1.25)
        look = self.subject.look
        span = (0.9 + 0.4 * _step(level / 0.8)) * look.rv_span
        angle = wrapped(theta - RV_CENTRE - look.rv_turn - 0.28 * _step((level - 0.55) / 0.5)) / span
        # Fuller below than above: the inferior corner of the RV is the sharp one.
        across = np.clip(1 - angle**2, 0, None) ** (0.56 + 0.2 * np.clip(angle, -1, 1)) * (1 - 0.3 * angle)
        along = np.sqrt(np.clip(1 - (1 - level / 0.92) ** 2, 0, None)) * (1 - 0.25 * np.clip(level - 0.7, 0, 1))
        outflow = 1 - 0.3 * _step((wrapped(theta) - 0.5) / 0.5) * _step((level - 0.6) / 0.4)
        return 30.0 * across * along * outflow

    def rv_inner(self, z: np.ndarray, outer: np.ndarray, phase: Phase) -> np.ndarray:
        """Where the RV begins: the LV epicardium, and above the base a tube around the aortic root."""
        above = _step((z - self.length * phase.stretch + 2) / 22)
        return outer * (1 - above) + np.minimum(outer, 23.0) * above

    def _rv_terms(self, phase: Phase) -> tuple[float, float]:
        """Volume of the RV as a * q + b * q^2 of its depth scale q."""
        sigma = (np.arange(56)[:, None] + 0.5) / 56
        height = self.rv_height(self._theta, phase) - self.rv_apex
        z = self.rv_apex + sigma * height
        inner = self.rv_inner(z, self.lv(z, self._theta, phase)[1], phase)
        depth = self.rv_depth(z, self._theta, phase)
        cell = height / len(sigma) * (2 * np.pi / N_THETA) / 1000
        return float(np.sum(inner * depth * cell)), float(np.sum(0.5 * depth**2 * cell))

    # --- time ---------------------------------------------------------------------------------------------------

    def at(self, time: float) -> Phase:
        """The moment at ``time`` (fraction of the cycle): solves both depths for the volumes of the curve."""
        subject = self.subject
        empty = float(emptying(np.asarray(time), subject.es_phase, subject.early_fraction))
        stretch = 1 - subject.shortening * empty
        volume = subject.lv_edv * (1 - subject.lv_ef * empty)
        zero, one, two = self._moments
        # stretch * (zero - 2 k one + k^2 two) = volume, the smaller root
        root = np.sqrt(max(one**2 - two * (zero - volume / stretch), 0.0))
        contraction = float((one - root) / two)
        phase = Phase(time, empty, stretch, contraction, 1.0, self.rv_top0 - subject.tapse * empty)
        linear, square = self._rv_terms(phase)
        rv_volume = subject.rv_edv * (1 - subject.rv_ef * empty)
        scale = (-linear + np.sqrt(linear**2 + 4 * square * rv_volume)) / (2 * square)
        return Phase(time, empty, stretch, contraction, float(scale), phase.rv_top)

    def volumes(self, phase: Phase) -> tuple[float, float]:
        """LV and RV volume in ml by integration over their surfaces."""
        zero, one, two = self._moments
        k, q = phase.contraction, phase.rv_scale
        linear, square = self._rv_terms(phase)
        return phase.stretch * (zero - 2 * k * one + k * k * two), linear * q + square * q * q
