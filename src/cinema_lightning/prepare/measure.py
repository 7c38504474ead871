"""Numbers of the table that come from the label maps: volumes, ejection fraction, mass, proportions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cinema_lightning.datasets.base import LV, MYOCARDIUM, RV
from cinema_lightning.metrics.function import MYOCARDIAL_DENSITY


def millilitres(label: np.ndarray, code: int, spacing: Sequence[float]) -> float:
    """Volume of one class: voxels times the voxel's volume, in ml."""
    return int(np.count_nonzero(label == code)) * float(np.prod(spacing)) / 1000


def ejection_fraction(edv: float | None, esv: float | None) -> float | None:
    """Ejection fraction in percent; None where a volume is missing or EDV is 0."""
    return (edv - esv) / edv * 100 if edv and esv is not None else None


def volumes(end_diastole: np.ndarray, end_systole: np.ndarray, spacing: Sequence[float]) -> dict[str, float | None]:
    """Volumes of both ventricles, ejection fractions and the LV mass.

    Args:
        end_diastole: (X, Y, Z) class codes at ED.
        end_systole: (X, Y, Z) class codes at ES.
        spacing: Voxel size, mm.

    Returns:
        ``lv_edv``, ``lv_esv``, ``rv_edv``, ``rv_esv`` in ml, ``lv_ef``, ``rv_ef`` in percent, ``lv_mass`` in g.
    """
    out: dict[str, float | None] = {}
    for name, code in (("lv", LV), ("rv", RV)):
        edv, esv = millilitres(end_diastole, code, spacing), millilitres(end_systole, code, spacing)
        out |= {f"{name}_edv": edv, f"{name}_esv": esv, f"{name}_ef": ejection_fraction(edv, esv)}
    out["lv_mass"] = millilitres(end_diastole, MYOCARDIUM, spacing) * MYOCARDIAL_DENSITY
    return out


def largest_and_smallest(labels: Mapping[int, np.ndarray]) -> tuple[int, int]:
    """ED and ES as the first frames with the largest and smallest LV volume.

    Args:
        labels: Frame -> class codes.

    Returns:
        ED frame, ES frame.
    """
    frames = sorted(labels)
    counts = [int(np.count_nonzero(labels[frame] == LV)) for frame in frames]
    return frames[int(np.argmax(counts))], frames[int(np.argmin(counts))]


def proportions(label: np.ndarray, codes: Sequence[int]) -> dict[str, Any]:
    """Share of the voxels of each class, as ``cls_<code>_proportion``."""
    return {f"cls_{code}_proportion": float((label == code).mean()) for code in codes}
