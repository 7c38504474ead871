"""Who is imaged: a phantom subject with a wanted disease, under the name that a dataset has for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from cinema_lightning.data.draws import generator
from cinema_lightning.errors import CinemaError
from cinema_lightning.phantom.subject import PATHOLOGIES, Subject, draw_subject

Change = Callable[[Subject, np.random.Generator], Subject]


def _same(subject: Subject, _: np.random.Generator) -> Subject:
    return subject


def _hypertensive(subject: Subject, rng: np.random.Generator) -> Subject:
    """Concentric hypertrophy without a bulge, kept function."""
    return replace(subject, wall=float(rng.uniform(12.0, 14.0)), lv_ef=float(rng.uniform(0.55, 0.66)))


def _athlete(subject: Subject, _: np.random.Generator) -> Subject:
    """Both ventricles large, wall slightly thick, function normal."""
    return _grown(replace(subject, wall=subject.wall + 1.5, rv_edv=1.3 * subject.rv_edv), 1.3)


def _septal_defect(subject: Subject, rng: np.random.Generator) -> Subject:
    """The shunt fills the RV, which pumps normally."""
    return _right(subject, float(rng.uniform(1.5, 1.75)), float(rng.uniform(0.5, 0.58)))


def _fallot(subject: Subject, rng: np.random.Generator) -> Subject:
    """Large RV of moderate function beside a small LV."""
    return _grown(_right(subject, float(rng.uniform(0.9, 1.0)), float(rng.uniform(0.42, 0.48))), 0.85)


def _dilated_right(subject: Subject, rng: np.random.Generator) -> Subject:
    """Large RV of mildly reduced function."""
    return _right(subject, float(rng.uniform(0.88, 0.96)), float(rng.uniform(0.4, 0.5)))


def _regurgitation(subject: Subject, rng: np.random.Generator) -> Subject:
    """Tricuspid regurgitation: a large RV that moves much of its blood backwards."""
    return _right(subject, float(rng.uniform(1.6, 1.85)), float(rng.uniform(0.58, 0.65)))


def _acute(subject: Subject, rng: np.random.Generator) -> Subject:
    """A fresh infarct: edema around it, no thinning."""
    return subject if subject.scar is None else replace(subject, scar=replace(subject.scar, age=0.49 * rng.random()))


def _right(subject: Subject, volume: float, ef: float) -> Subject:
    rv_edv = float(np.clip(subject.rv_edv * volume, 90, 370))
    return replace(subject, rv_edv=rv_edv, rv_ef=ef, tapse=float(np.clip(38 * ef, 5, 30)))


def _grown(subject: Subject, volume: float) -> Subject:
    return replace(
        subject, lv_edv=subject.lv_edv * volume, cavity_length=subject.cavity_length * float(np.cbrt(volume))
    )


# Name in a dataset -> the phantom's pathology, and what is changed of such a subject.
DISEASES: dict[str, tuple[str, Change]] = {
    **{name: (name, _same) for name in PATHOLOGIES},
    "RV": ("ARV", _same),  # ACDC: abnormal RV
    "HHD": ("NOR", _hypertensive),
    "IHD": ("MINF", _same),
    "AHS": ("NOR", _athlete),
    "ARR": ("ARV", _same),
    "CIA": ("NOR", _septal_defect),
    "FALL": ("ARV", _fallot),
    "LV": ("DCM", _same),
    "dilated RV": ("ARV", _dilated_right),
    "TRI": ("NOR", _regurgitation),
    "acute infarct": ("MINF", _acute),
}


def person(seed: int, number: int, disease: str) -> Subject:
    """The subject with a disease in the ``number``-th block of five, which has each of the five pathologies once.

    Args:
        seed: Cohort seed.
        number: Number of the block, from 0; another number is always another person.
        disease: A key of ``DISEASES``.

    Returns:
        The subject, with the phantom's own name of the pathology.

    Raises:
        CinemaError: If there is no such disease.
    """
    if disease not in DISEASES:
        raise CinemaError(f"There is no phantom with the disease '{disease}'; there are {', '.join(DISEASES)}.")
    pathology, change = DISEASES[disease]
    block = len(PATHOLOGIES)
    for index in range(block * number, block * (number + 1)):
        subject = draw_subject(seed, index)
        if subject.pathology == pathology:
            return change(subject, generator(seed, "phantom", "disease", index, disease))
    raise CinemaError(f"No subject from {block * number} on has the pathology {pathology}.")
