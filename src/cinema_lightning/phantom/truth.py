"""What is known about a phantom subject: volumes, wall, mass, landmarks, survival."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from cinema_lightning.columns import frames_column
from cinema_lightning.data.draws import generator
from cinema_lightning.metrics.function import MYOCARDIAL_DENSITY
from cinema_lightning.phantom.acquisition import LAX_ANGLES, Acquisition, Plane
from cinema_lightning.phantom.anatomy import Heart
from cinema_lightning.phantom.imaging import ViewSeries
from cinema_lightning.phantom.motion import Phase
from cinema_lightning.phantom.subject import Subject

RV, MYOCARDIUM, LV = 1, 2, 3
# Weibull model of the time to death or transplant: hazard grows with time, and by exp(risk) between subjects.
SHAPE, SCALE_DAYS = 1.3, 9300.0
FOLLOW_UP_DAYS = (700.0, 4400.0)
AGE_RISK = 0.053  # per year: the part of the risk that no image shows


def voxel_volumes(series: ViewSeries, frame: int) -> tuple[float, float, float]:
    """RV, myocardium and LV volume (ml) counted in a SAX frame."""
    voxel = float(np.prod(series.spacing)) / 1000
    counts = np.bincount(series.labels[frame].ravel(), minlength=7)
    return (
        float(counts[RV]) * voxel,
        float(counts[MYOCARDIUM] + counts[4:7].sum()) * voxel,
        float(counts[LV]) * voxel,
    )


def true_risk(subject: Subject) -> float:
    """Logarithm of the hazard ratio against a healthy person of 55: it rises with age and as function falls.

    The sizes are of the order of those in heart-failure cohorts: 1.7 per ten years, 1.4 per ten points of LVEF.
    """
    return (
        AGE_RISK * (subject.age - 55)
        - 3.4 * (subject.lv_ef - 0.62)
        - 1.8 * (subject.rv_ef - 0.57)
        + (0.3 if subject.pathology == "HCM" else 0.0)
    )


def survival(subject: Subject) -> tuple[int, int]:
    """Draws time (days, to event or censoring) and event (1) or censoring (0)."""
    rng = generator(subject.seed, "phantom", "survival", subject.index)
    death = SCALE_DAYS * (rng.exponential() / math.exp(true_risk(subject))) ** (1 / SHAPE)
    end = rng.uniform(*FOLLOW_UP_DAYS)
    return max(1, math.ceil(min(death, end))), int(death <= end)


def es_frame(phases: list[Phase]) -> int:
    """Frame of the smallest LV: the one that has emptied most."""
    return int(np.argmax([phase.empty for phase in phases]))


def table_row(
    heart: Heart, acquisition: Acquisition, series: dict[str, ViewSeries], phases: list[Phase]
) -> dict[str, Any]:
    """The subject's row of ``cohort.csv``.

    Args:
        heart: The heart.
        acquisition: The examination.
        series: Its images by view; volumes by voxels are left empty without a short axis.
        phases: The moment of every frame.

    Returns:
        Cells by column.
    """
    subject, v = heart.subject, heart.ventricles
    ed, es = 0, es_frame(phases)
    time, event = survival(subject)
    row: dict[str, Any] = {
        "id": subject.id,
        "subject": subject.id,
        "split": subject.split,
        "views": " ".join(series),
        "n_frames": acquisition.n_frames,
        **{frames_column(view): acquisition.n_frames if view in series else None for view in acquisition.views},
        "n_slices": series["sax"].plane.shape[2] if "sax" in series else None,
        "ed_frame": ed,
        "es_frame": es,
    }
    for view in acquisition.views:
        spacing = series[view].spacing if view in series else (None, None, None)
        row |= {f"orig_{view}_spacing_{axis}": _round(s, 4) for axis, s in zip("xyz", spacing, strict=True)}
    row |= _voxel_columns(series.get("sax"), ed, es)
    (lv_edv, rv_edv), (lv_esv, rv_esv) = v.volumes(phases[ed]), v.volumes(phases[es])
    row |= {
        "age": subject.age,
        "sex": subject.sex,
        "height": subject.height,
        "weight": subject.weight,
        "bmi": _round(subject.bmi, 2),
        "pathology": subject.pathology,
        "time": time,
        "event": event,
        "lv_edv_true": _round(lv_edv),
        "lv_esv_true": _round(lv_esv),
        "lv_ef_true": _round(100 * (1 - lv_esv / lv_edv)),
        "rv_edv_true": _round(rv_edv),
        "rv_esv_true": _round(rv_esv),
        "rv_ef_true": _round(100 * (1 - rv_esv / rv_edv)),
        "lv_mass_true": _round(v.lv_mass),
        "wall_thickness": _round(v.wall_thickness),
        "true_risk": _round(true_risk(subject), 4),
    }
    return row


def _voxel_columns(sax: ViewSeries | None, ed: int, es: int) -> dict[str, float | None]:
    """Volumes as users of label maps measure them."""
    names = ("lv_edv", "lv_esv", "lv_ef", "rv_edv", "rv_esv", "rv_ef", "lv_mass")
    if sax is None:
        return dict.fromkeys(names)
    rv_ed, wall, lv_ed = voxel_volumes(sax, ed)
    rv_es, _, lv_es = voxel_volumes(sax, es)
    values = (
        lv_ed,
        lv_es,
        100 * (1 - lv_es / lv_ed),
        rv_ed,
        rv_es,
        100 * (1 - rv_es / rv_ed),
        wall * MYOCARDIAL_DENSITY,
    )
    return {name: _round(value) for name, value in zip(names, values, strict=True)}


def _round(value: float | None, digits: int = 2) -> float | None:
    return None if value is None else round(float(value), digits)


def landmarks(heart: Heart, plane: Plane, view: str, phases: list[Phase]) -> list[dict[str, Any]]:
    """Valve hinge points and apex in every frame of a 2- or 4-chamber view.

    Args:
        heart: The heart.
        plane: Grid of the view.
        view: lax_2c or lax_4c; other views have none.
        phases: The moment of every frame.

    Returns:
        Rows of ``landmarks.csv``; x and y are voxel coordinates.
    """
    if view not in ("lax_2c", "lax_4c"):
        return []
    rows = []
    for frame, phase in enumerate(phases):
        points = dict(zip(_names(view), _hinges(heart, plane, phase, "mitral"), strict=True))
        points["apex"] = plane.pixels(heart.apex(phase))[0]
        if view == "lax_4c":
            points["tricuspid_septal"] = plane.pixels(heart.septal_hinge(phase, LAX_ANGLES[view]))[0]
            points["tricuspid_lateral"] = _hinges(heart, plane, phase, "tricuspid")[0]
        rows += [
            {
                "id": heart.subject.id,
                "view": view,
                "frame": frame,
                "landmark": name,
                "x": _round(point[0]),
                "y": _round(point[1]),
            }
            for name, point in points.items()
        ]
    return rows


def _names(view: str) -> tuple[str, str]:
    return ("mitral_anterior", "mitral_inferior") if view == "lax_2c" else ("mitral_septal", "mitral_lateral")


def _hinges(heart: Heart, plane: Plane, phase: Phase, valve: str) -> list[np.ndarray]:
    """Where a valve's ring passes through the image plane, in voxels; for the mitral ring septal or anterior first."""
    ring = plane.pixels(heart.ring(phase, valve))
    height = ring[:, 2]
    following = (
        np.roll(np.arange(len(ring)), -1) if valve == "mitral" else np.minimum(np.arange(len(ring)) + 1, len(ring) - 1)
    )
    crossing = np.flatnonzero((height <= 0) != (height[following] <= 0))
    if len(crossing) == 0:  # a plane that just misses the ring: its nearest point
        crossing = np.array([np.argmin(np.abs(height))])
    points = [ring[k] for k in crossing]
    theta_first = heart.to_patient(np.array([60.0, 40.0, heart.length]))
    reference = plane.pixels(theta_first)[0]
    return sorted(points, key=lambda point: float(np.linalg.norm((point - reference)[:2])))[
        : 2 if valve == "mitral" else 1
    ]
