"""How one heart differs from the usual look of a phantom: outline, muscle in the pools, fat, and signal of tissues.

What was drawn here is what real cines showed beside phantoms: cavities that are not round, papillary muscles that are
thick and lie near the wall, a spongy border up to the base, an RV that is flat, whose wall hardly shows, fat that comes
and goes around the heart, blood and muscle of uneven signal, and another contrast in each scanner.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from cinema_lightning.data.draws import generator

Waves = tuple[tuple[int, float, float], ...]
"""Waves around the long axis: order, amplitude, angle of a crest in rad."""
BRIGHT = ("fat", "mediastinum", "rv_blood", "atrial_blood", "vessel")
DARK = ("myocardium", "rv_wall", "atrial_wall", "liver", "spleen", "stomach", "muscle", "lung", "marrow")


@dataclass(frozen=True)
class Look:
    """What deviates from the usual; the defaults are the usual.

    Attributes:
        outline: Waves of the LV's outline, relative to its radius.
        fat: Waves of the epicardial fat's thickness, relative to it.
        rv_volume: Factor of the RV's volume.
        rv_span: Factor of the angle over which the RV reaches around the LV.
        rv_turn: Turn of the RV around the LV, rad.
        rv_wall: Thickness of the RV's wall at ED, mm.
        papillary: Factor of the papillary muscles' thickness; thick ones lie nearer to the wall.
        trabeculae: Factor of the depth of the LV's and RV's trabeculae.
        flow: How uneven blood is: SD relative to its signal.
        patches: Size of the patches of uneven blood and muscle, mm.
        uneven: How uneven the LV's wall is, likewise.
        signal: Tissue -> factor of its signal; others are as usual.
    """

    outline: Waves = ()
    fat: Waves = ()
    rv_volume: float = 1.0
    rv_span: float = 1.0
    rv_turn: float = 0.0
    rv_wall: float = 3.0
    papillary: float = 1.0
    trabeculae: float = 1.0
    flow: float = 0.05
    patches: float = 7.0
    uneven: float = 0.0
    signal: Mapping[str, float] = field(default_factory=dict)


USUAL = Look()


def draw_look(seed: int, index: int, variety: float) -> Look:
    """Draws how a subject deviates from the usual.

    Args:
        seed: Cohort seed.
        index: Number of the subject, from 0.
        variety: How far, 0 (the usual look) to 1.

    Returns:
        The look.
    """
    if variety == 0:
        return USUAL
    rng = generator(seed, "phantom", "look", index)
    bright = {tissue: float(np.exp(variety * rng.normal(0.0, 0.15))) for tissue in BRIGHT}
    dark = {tissue: float(np.exp(variety * rng.normal(-0.1, 0.25))) for tissue in DARK}
    return Look(
        outline=_waves(rng, {2: 0.06, 3: 0.03, 4: 0.015}, variety),
        fat=_waves(rng, {1: 0.5, 2: 0.4, 3: 0.3, 5: 0.2}, variety),
        rv_volume=1 - variety * float(rng.uniform(0, 0.35)),
        rv_span=1 + variety * float(rng.uniform(-0.05, 0.35)),
        rv_turn=variety * float(rng.normal(0, 0.15)),
        rv_wall=3.0 - variety * float(rng.uniform(0, 2.4)),
        papillary=1 + variety * float(rng.uniform(0, 1.0)),
        trabeculae=1 + variety * float(rng.uniform(0, 1.0)),
        flow=0.05 + variety * float(rng.uniform(0, 0.13)),
        patches=7.0 - variety * float(rng.uniform(0, 4.5)),
        uneven=variety * float(rng.uniform(0, 0.15)),
        signal=bright | dark,
    )


def _waves(rng: np.random.Generator, spread: Mapping[int, float], variety: float) -> Waves:
    """Waves whose amplitudes are normal with an SD by order."""
    return tuple(
        (order, variety * float(rng.normal(0, sd)), float(rng.uniform(-np.pi, np.pi))) for order, sd in spread.items()
    )


def wave(waves: Waves, theta: np.ndarray) -> np.ndarray | float:
    """Sum of waves at angles; 0 for none."""
    return sum(amplitude * np.cos(order * (theta - angle)) for order, amplitude, angle in waves)
