"""Numbers of the table that come from the label maps: volumes, ejection fraction, mass, proportions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cinema_lightning.columns import look_up
from cinema_lightning.datasets.base import LV, MYOCARDIUM, RV
from cinema_lightning.metrics.function import myocardial_mass


def millilitres(label: np.ndarray, code: int, spacing: Sequence[float]) -> float:
    """Volume of one class: voxels times the voxel's volume, in ml."""
    return int(np.count_nonzero(label == code)) * float(np.prod(spacing)) / 1000


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
        maps = {f"{name}_edv": end_diastole, f"{name}_esv": end_systole}
        out |= {column: millilitres(label, code, spacing) for column, label in maps.items()}
        out[f"{name}_ef"] = look_up(f"{name}_ef").of(out)
    out["lv_mass"] = float(myocardial_mass(millilitres(end_diastole, MYOCARDIUM, spacing)))
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
