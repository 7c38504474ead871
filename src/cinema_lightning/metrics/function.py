"""Ventricular function from volumes: ED and ES frames, ejection fraction, mass, and the classes of LVEF."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from scipy.signal import savgol_filter

from cinema_lightning import columns
from cinema_lightning.errors import CinemaError
from cinema_lightning.metrics.weighted import column, to_numpy

# Density of myocardium, g/ml (SCMR's recommendations, Schulz-Menger et al., JCMR 2020).
MYOCARDIAL_DENSITY = 1.05
EF_CLASSES = ("reduced", "borderline", "normal")
EF_LIMITS = (40.0, 55.0)
# Curves of fewer frames are too short to be smoothed; and how many frames before and after one are its surroundings.
SHORT, REACH = 12, 2


def volume_curve(labels: Any, codes: Sequence[int], spacing: Sequence[float]) -> np.ndarray:
    """Volume of a structure in every frame.

    Args:
        labels: (T, X, Y, Z) class codes.
        codes: Class codes that make the structure.
        spacing: Voxel size, mm (x, y, z).

    Returns:
        (T,) ml.
    """
    stack = to_numpy(labels)
    if stack.ndim != 4 or len(spacing) != 3:
        raise CinemaError(f"Volumes need (T, X, Y, Z) labels and three voxel sizes, not {stack.shape}, {spacing}.")
    counts = np.array([np.count_nonzero(np.isin(frame, codes)) for frame in stack], dtype=np.float64)
    return counts * float(np.prod(np.asarray(spacing, dtype=np.float64))) / 1000


def ejection_fraction(edv: Any, esv: Any, *, limit: bool = True) -> np.ndarray:
    """Ejection fraction, (EDV - ESV) / EDV * 100.

    Args:
        edv: End-diastolic volumes, ml, any shape.
        esv: End-systolic volumes, ml, same shape.
        limit: Keep it in [0, 100], as the published metrics do.

    Returns:
        Percent; NaN where a volume is missing or EDV is not above 0.
    """
    diastole, systole = (np.asarray(to_numpy(value), dtype=np.float64) for value in (edv, esv))
    known = np.isfinite(diastole) & np.isfinite(systole) & (diastole > 0)
    ef = columns.ejection_fraction(np.where(known, diastole, np.nan), systole)
    return np.clip(ef, 0.0, 100.0) if limit else ef


def ef_class(ef: Any) -> np.ndarray:
    """Class of an ejection fraction: up to 40% reduced, up to 55% borderline, else normal.

    Args:
        ef: Percent, any shape.

    Returns:
        Index into ``EF_CLASSES``, -1 where the EF is missing.
    """
    values = np.asarray(to_numpy(ef), dtype=np.float64)
    return np.where(np.isnan(values), -1, np.searchsorted(EF_LIMITS, values, side="left"))


def myocardial_mass(volume: Any) -> Any:
    """Mass in g of a volume of myocardium in ml."""
    return np.asarray(to_numpy(volume), dtype=np.float64) * MYOCARDIAL_DENSITY


def failed_frames(lv_volumes: Any) -> np.ndarray:
    """Frames whose volume cannot be one of this heart: none at all, or far from that of the frames around.

    Far is more than four robust standard deviations from the median of the frames up to two before and after, and more
    than 15% of the curve's median (after Hampel's identifier: Davies and Gather, JASA 1993). In curves of fewer
    frames than ``SHORT`` it is less than half of both neighbours, or more than twice; of fewer than eight, never.

    Args:
        lv_volumes: (T,) ml; NaN for frames without a mask.

    Returns:
        (T,) bool.
    """
    curve = column(lv_volumes)
    failed = np.isfinite(curve) & (curve <= 0)
    seen = np.flatnonzero(np.isfinite(curve) & ~failed)
    if not len(seen):
        return np.zeros(len(curve), dtype=bool)
    values = curve[seen]
    if len(seen) < SHORT:  # a middle of a handful is no outlier
        if len(seen) < 8:
            return failed
        before, after = (np.pad(values, 1, mode="edge")[place : place + len(values)] for place in (0, 2))
        lower, upper = np.minimum(before, after), np.maximum(before, after)
        failed[seen[1:-1]] = ((values < 0.5 * lower) | (values > 2 * upper))[1:-1]
        return failed
    around = sliding_window_view(np.pad(values, REACH, mode="reflect"), 2 * REACH + 1)
    apart = np.abs(values - np.median(around, axis=1))
    failed[seen] = apart > np.maximum(4 * 1.4826 * np.median(apart), 0.15 * np.median(values))
    return failed


def ed_es_frames(lv_volumes: Any) -> tuple[int, int]:
    """ED and ES: the first frames with the largest and the smallest LV volume of the smoothed curve.

    A single frame that failed is no end-systole: frames that :func:`failed_frames` names are left out, and the others
    are smoothed by a parabola over five of them (Savitzky and Golay 1964) where there are ``SHORT`` or more.

    Args:
        lv_volumes: (T,) ml; NaN for frames without a mask.

    Returns:
        ED frame, ES frame, counted from 0.

    Raises:
        CinemaError: If no frame has a volume.
    """
    curve = column(lv_volumes)
    kept = np.flatnonzero(np.isfinite(curve) & ~failed_frames(curve))
    if not len(kept):
        raise CinemaError("No frame has an LV volume, so ED and ES cannot be found.")
    if len(kept) >= SHORT:
        curve = _smoother(len(curve)) @ np.interp(np.arange(len(curve)), kept, curve[kept])
    return int(kept[curve[kept].argmax()]), int(kept[curve[kept].argmin()])


@cache
def _smoother(frames: int) -> np.ndarray:
    """(T, T) the parabola over five frames as a matrix: SciPy fits the ends of every curve anew."""
    smoother: np.ndarray = savgol_filter(np.eye(frames), 5, 2, axis=0, mode="interp")
    return smoother


def ventricular_function(volumes: Mapping[str, Any], ed: int | None = None, es: int | None = None) -> dict[str, float]:
    """Volumes, ejection fractions and mass of one subject.

    Args:
        volumes: ``lv`` and, where known, ``rv`` and ``myocardium``: (T,) ml each.
        ed: ED frame; found on the LV curve where it is not given.
        es: ES frame; found on the LV curve where it is not given.

    Returns:
        ``ed_frame``, ``es_frame``; ``lv_edv``, ``lv_esv``, ``lv_sv`` (ml), ``lv_ef`` (percent, within [0, 100]), the
        same for ``rv``; ``lv_mass`` (g, at ED).
    """
    if ed is None or es is None:
        found = ed_es_frames(volumes["lv"])
        ed, es = found[0] if ed is None else ed, found[1] if es is None else es
    out: dict[str, float] = {"ed_frame": ed, "es_frame": es}
    for name in ("lv", "rv"):
        if name in volumes:
            curve = column(volumes[name])
            edv, esv = float(curve[ed]), float(curve[es])
            out |= {f"{name}_edv": edv, f"{name}_esv": esv, f"{name}_sv": columns.stroke_volume(edv, esv)}
            out[f"{name}_ef"] = float(ejection_fraction(edv, esv))
    if "myocardium" in volumes:
        out["lv_mass"] = float(myocardial_mass(column(volumes["myocardium"])[ed]))
    return out
