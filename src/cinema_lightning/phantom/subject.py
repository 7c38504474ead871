"""Who is imaged: demographics, disease, function, anatomy and pose of one subject, drawn within clinical ranges.

Ranges follow cine steady-state free precession references for adults (Petersen et al., J Cardiovasc Magn Reson 2017,
UK Biobank; Kawel-Boehm et al., J Cardiovasc Magn Reson 2020) and the definitions of the ACDC classes (Bernard et al.,
IEEE TMI 2018).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from cinema_lightning.data.draws import generator
from cinema_lightning.phantom.look import USUAL, Look, draw_look

PATHOLOGIES = ("NOR", "DCM", "HCM", "MINF", "ARV")


@dataclass(frozen=True)
class Scar:
    """An infarct: a sector of the wall that does not contract.

    Attributes:
        angle: Centre around the long axis, rad (0 mid-septum, pi/2 anterior, pi lateral).
        width: Half width around the long axis, rad.
        low: Lower end as a fraction of the length from apex to base.
        high: Upper end, likewise.
        depth: Transmurality from the endocardium, 0 to 1.
        stiffness: Lost part of the contraction, 1 for none left, above 1 for bulging out.
        age: 0 for a fresh infarct (edema, no thinning) to 1 for an old one (thin wall, no edema).
    """

    angle: float
    width: float
    low: float
    high: float
    depth: float
    stiffness: float
    age: float


@dataclass(frozen=True)
class Subject:
    """One drawn subject. Lengths in mm, volumes in ml, angles in rad, EF as a fraction.

    Attributes:
        seed: Cohort seed.
        index: Number of the subject in the cohort, from 0.
        sex: M or F.
        age: Years.
        height: Metres.
        weight: Kilograms.
        pathology: One of ``PATHOLOGIES``.
        lv_edv: LV end-diastolic volume, ml.
        lv_ef: LV ejection fraction, 0 to 1.
        rv_edv: RV end-diastolic volume, ml.
        rv_ef: RV ejection fraction, 0 to 1.
        es_phase: End systole as a fraction of the cycle.
        early_fraction: Part of the filling that is early (E against A wave).
        cavity_length: LV length from the endocardial apex to the mitral plane at ED, mm.
        apex_wall: Thickness of the wall at the apex, mm.
        wall: Mean wall thickness at ED, mm.
        septal_bulge: Extra thickness in the middle of the hypertrophied sector, mm.
        bulge_angle: Centre of that sector, rad.
        shortening: Systolic shortening of the long axis as a fraction of its length.
        tapse: Systolic descent of the tricuspid ring, mm.
        oval: Relative in-plane ovalness of the LV.
        tilt: Slopes of the base plane in x and y.
        bend: Sideways bend of the long axis, mm at 50 mm from the middle.
        fat: Thickness of the fat under the skin, mm.
        epicardial_fat: Mean thickness of the epicardial fat, mm.
        body: Half width and half depth of the trunk, mm.
        position: Heart origin (apex of the epicardium) relative to the middle of the trunk, mm RAS.
        rotation: Deviation from the usual direction of the heart: three angles, rad.
        scar: The infarct, if there is one.
        look: How it deviates from the usual look.
    """

    seed: int
    index: int
    sex: str
    age: float
    height: float
    weight: float
    pathology: str
    lv_edv: float
    lv_ef: float
    rv_edv: float
    rv_ef: float
    es_phase: float
    early_fraction: float
    cavity_length: float
    apex_wall: float
    wall: float
    septal_bulge: float
    bulge_angle: float
    shortening: float
    tapse: float
    oval: float
    tilt: tuple[float, float]
    bend: float
    fat: float
    epicardial_fat: float
    body: tuple[float, float]
    position: tuple[float, float, float]
    rotation: tuple[float, float, float]
    scar: Scar | None
    look: Look = USUAL

    @property
    def id(self) -> str:
        """Folder name of the subject."""
        return f"phantom_{self.index:05d}"

    @property
    def split(self) -> str:
        """Train, val or test: 7, 1 and 2 of every block of ten, and of every block of fifty for each pathology."""
        pathology, ten = _stratum(self.seed, self.index), self.index // 10
        order = generator(self.seed, "phantom", "split", self.index // 50).permutation(len(PATHOLOGIES))
        rank = (int(order[pathology]) - ten) % len(PATHOLOGIES)
        # A block of ten has each pathology twice; one of the two may leave the training set.
        chosen = int(generator(self.seed, "phantom", "half", ten, pathology).integers(2))
        if rank > 2 or chosen != self.index // 5 % 2:
            return "train"
        return "val" if rank == 0 else "test"

    @property
    def bmi(self) -> float:
        """Body mass index, kg per square metre."""
        return self.weight / self.height**2

    @property
    def bsa(self) -> float:
        """Body surface area, square metres (Mosteller 1987)."""
        return math.sqrt(self.height * 100 * self.weight / 3600)


def draw_subject(seed: int, index: int, variety: float = 0.0) -> Subject:
    """Draws one subject; nothing depends on how many others there are.

    Args:
        seed: Cohort seed.
        index: Number of the subject, from 0.
        variety: How far its look deviates from the usual, 0 to 1. The same person all the same, but for the RV's size.

    Returns:
        The subject.
    """
    rng = generator(seed, "phantom", "subject", index)
    pathology = PATHOLOGIES[_stratum(seed, index)]
    sex = "M" if rng.random() < (0.7 if pathology in ("DCM", "HCM", "MINF") else 0.5) else "F"
    age = float(np.clip(rng.normal(62 if pathology == "MINF" else 54, 12), 20, 84))
    height = float(np.clip(rng.normal(1.76 if sex == "M" else 1.63, 0.07), 1.45, 2.02))
    bmi = float(np.clip(24.5 + 4 * rng.standard_gamma(2.0) / 2.0 - 1.5 + rng.normal(0, 1.5), 18, 42))
    weight = bmi * height**2
    size = (math.sqrt(height * 100 * weight / 3600) / 1.9) ** 0.9
    function = _function(rng, pathology, sex, size, age)
    anatomy = _anatomy(rng, pathology, sex, function)
    look = draw_look(seed, index, variety)
    return Subject(
        seed=seed,
        index=index,
        sex=sex,
        age=round(age, 1),
        height=round(height, 3),
        weight=round(weight, 1),
        pathology=pathology,
        **(function | {"rv_edv": function["rv_edv"] * look.rv_volume}),
        **anatomy,
        **_pose(rng, bmi, height),
        scar=_scar(rng) if pathology == "MINF" else None,
        look=look,
    )


def _shuffled(seed: int, name: str, index: int, block: int) -> int:
    """Place of ``index`` in its block of ``block``, shuffled by a draw that only depends on the block."""
    rng = generator(seed, "phantom", name, index // block)
    return int(rng.permutation(block)[index % block])


def _stratum(seed: int, index: int) -> int:
    """Pathology of a subject: each block of five has all five, in an order of its own."""
    return _shuffled(seed, "pathology", index, len(PATHOLOGIES))


def _truncated(rng: np.random.Generator, mean: float, sd: float, low: float, high: float) -> float:
    """A normal draw within [low, high], drawn again until it lies there; far outside, a uniform one near the bound."""
    for _ in range(64):
        value = float(rng.normal(mean, sd))
        if low <= value <= high:
            return value
    near = low if mean < low else high
    return near + (low + high - 2 * near) / 2 * 0.3 * float(rng.random())


def _function(rng: np.random.Generator, pathology: str, sex: str, size: float, age: float) -> dict[str, Any]:
    """Volumes, ejection fractions and timing by disease."""
    male = sex == "M"
    normal_edv = _truncated(rng, (162 if male else 130) * size, 18, 108 if male else 88, 212 if male else 176)
    rv_ratio = _truncated(rng, 1.10, 0.06, 0.95, 1.25)
    rv_edv = float(np.clip(normal_edv * rv_ratio, 120 if male else 84, 248 if male else 198))
    lv_edv, lv_ef, rv_ef = normal_edv, _truncated(rng, 0.64, 0.04, 0.575, 0.74), _truncated(rng, 0.58, 0.05, 0.47, 0.70)
    if pathology == "DCM":
        lv_edv = _truncated(rng, (250 if male else 215) * size, 32, 185, 360)
        lv_ef, rv_ef = _truncated(rng, 0.28, 0.06, 0.15, 0.40), _truncated(rng, 0.42, 0.08, 0.25, 0.60)
    elif pathology == "HCM":
        lv_edv = _truncated(rng, normal_edv * 0.88, 10, 85, 180)
        lv_ef = _truncated(rng, 0.70, 0.045, 0.60, 0.80)
    elif pathology == "MINF":
        lv_edv = _truncated(rng, normal_edv * 1.28, 22, 125, 280)
        lv_ef = _truncated(rng, 0.38, 0.065, 0.25, 0.50)
        rv_ef = _truncated(rng, 0.52, 0.06, 0.40, 0.66)
    elif pathology == "ARV":
        rv_edv = _truncated(rng, normal_edv * 1.65, 25, 205 if male else 180, 370)
        rv_ef = _truncated(rng, 0.33, 0.055, 0.18, 0.43)
        lv_ef = _truncated(rng, 0.58, 0.045, 0.50, 0.68)
    return {
        "lv_edv": lv_edv,
        "lv_ef": lv_ef,
        "rv_edv": rv_edv,
        "rv_ef": rv_ef,
        "es_phase": _truncated(rng, 0.36, 0.02, 0.31, 0.42),
        "early_fraction": _truncated(rng, 0.74 - 0.004 * (age - 50), 0.05, 0.45, 0.85),
    }


def _anatomy(rng: np.random.Generator, pathology: str, sex: str, function: dict[str, Any]) -> dict[str, Any]:
    """Shape of the heart at ED."""
    wall = _truncated(rng, 8.0 if sex == "M" else 7.0, 0.7, 6.0, 10.5)
    bulge = 0.0
    if pathology == "DCM":
        wall = _truncated(rng, 7.6, 0.8, 6.0, 9.5)
    elif pathology == "HCM":
        wall = _truncated(rng, 10.0, 1.0, 8.5, 12.5)
        bulge = _truncated(rng, 9.5, 3.0, max(5.5, 16.0 - wall), 17.0)
    roundness = {"DCM": 0.93, "HCM": 1.03}.get(pathology, 1.0)
    ef = function["lv_ef"]
    return {
        "cavity_length": roundness * 16.6 * function["lv_edv"] ** (1 / 3) * _truncated(rng, 1.0, 0.03, 0.93, 1.07),
        "apex_wall": _truncated(rng, 5.0, 0.7, 3.5, 6.5) + (0.15 * bulge),
        "wall": wall,
        "septal_bulge": bulge,
        "bulge_angle": _truncated(rng, 0.45, 0.4, -0.4, 1.3),
        "shortening": float(np.clip(0.225 * ef * rng.normal(1.0, 0.06), 0.02, 0.18)) * (0.85 if bulge else 1.0),
        "tapse": float(np.clip(38 * function["rv_ef"] * rng.normal(1.0, 0.08), 5, 30)),
        "oval": _truncated(rng, 0.0, 0.025, -0.05, 0.05),
        "tilt": (_truncated(rng, 0.0, 0.06, -0.12, 0.12), _truncated(rng, -0.05, 0.06, -0.15, 0.1)),
        "bend": _truncated(rng, 0.0, 1.5, -3.0, 3.0),
    }


def _pose(rng: np.random.Generator, bmi: float, height: float) -> dict[str, Any]:
    """Trunk, fat, and where and how the heart lies in it."""
    scale = height / 1.7
    girth = math.sqrt(bmi / 25)
    body = (158 * scale * girth + rng.normal(0, 4), 104 * scale * girth + rng.normal(0, 3))
    fat = float(np.clip(6 + 1.15 * (bmi - 19) + rng.normal(0, 2), 5, 34))
    position = (-82 + rng.normal(0, 5), body[1] - fat - 31 + rng.normal(0, 3), -28 + rng.normal(0, 5))
    return {
        "fat": fat,
        "epicardial_fat": float(np.clip(2.0 + 0.15 * (bmi - 22) + rng.normal(0, 0.5), 1.2, 6)),
        "body": body,
        "position": position,
        "rotation": tuple(math.radians(float(rng.normal(0, sd))) for sd in (6, 6, 10)),
    }


def _scar(rng: np.random.Generator) -> Scar:
    """An infarct in the territory of one of the three coronary arteries."""
    territory = rng.choice(3, p=(0.5, 0.27, 0.23))  # left anterior descending, right, circumflex
    angle = (0.9, -1.35, 3.0)[territory] + rng.normal(0, 0.2)
    low, high = ((0.0, 0.72), (0.2, 0.95), (0.2, 0.9))[territory]
    return Scar(
        angle=float(angle),
        width=_truncated(rng, 0.85, 0.15, 0.5, 1.2),
        low=low,
        high=float(high + rng.normal(0, 0.03)),
        depth=_truncated(rng, 0.75, 0.2, 0.4, 1.0),
        stiffness=_truncated(rng, 0.95, 0.12, 0.7, 1.15),
        age=float(rng.random()),
    )
