"""Numbers of a study from its label maps, curves and landmarks; formulas stand in ``columns.py``."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from scipy.signal import savgol_filter

from cinema_lightning.analysis.segments import NAMES, find_segments
from cinema_lightning.analysis.values import Landmarks, Measured, Phases, Segmented, Study, View
from cinema_lightning.analysis.wall import wall_thickness
from cinema_lightning.columns import ANALYSIS, quantities
from cinema_lightning.errors import CinemaError
from cinema_lightning.metrics.function import myocardial_mass

PAPILLARY = "Papillary muscles and trabeculae count as blood: they are in the volumes and not in the mass."
MIN_FRAMES_OF_RATES = 15
# Frames that last longer than this share of RR are of another heart rate than the headers say; gate.yaml warns from it.
LONGEST_SHARE = 1.1
WALLS = {"lax_4c": ("septal", "lateral"), "lax_2c": ("anterior", "inferior")}
# Which of two hinges it is, by the direction (RAS) in which it lies farther: the septum to the right, anterior up.
TOWARDS = {"lax_4c": np.array([1.0, 0.0, 0.0]), "lax_2c": np.array([0.0, 0.0, 1.0])}


def measure(
    study: Study, segmented: Mapping[str, Segmented], landmarks: Mapping[str, Landmarks] | None = None
) -> Measured:
    """Measures a study.

    Args:
        study: Its images and what is known of person and scanner.
        segmented: View -> what was found in it; volumes come from ``sax``.
        landmarks: Long-axis view -> points over time.

    Returns:
        Numbers by column of ``columns.py``; None where one is not defined, and a note why.
    """
    numbers: dict[str, float | None] = {"height": study.person.height, "weight": study.person.weight}
    segments: dict[int, tuple[float | None, float | None]] = {}
    notes = [PAPILLARY]
    if "sax" in segmented and "sax" in study.views:
        view, found = study.views["sax"], segmented["sax"]
        numbers |= _volumes(found) | _times(view, notes) | _rates(view, found, notes)
        segments = _segments(view, found, notes)
    for name, points in (landmarks or {}).items():
        numbers |= _long_axis(study.views[name], points, _ed_es(study.views[name], study, segmented))
    strains = [numbers[f"long_axis_strain_{view}"] for view in ("2c", "4c") if f"long_axis_strain_{view}" in numbers]
    if strains and None not in strains:
        numbers["long_axis_strain"] = float(np.mean([strain for strain in strains if strain is not None]))
    for segment, (ed, es) in segments.items():
        numbers |= {f"wall_thickness_ed_{segment:02d}": ed, f"wall_thickness_es_{segment:02d}": es}
    for column in (*quantities("segmentation"), *ANALYSIS):
        if column.sources:
            numbers[column.name] = column.of(numbers)
    if numbers["bsa"] is None:
        notes.append("Height or weight is not known, so nothing is given by body surface area.")
    return Measured(numbers, segments, tuple(dict.fromkeys(notes)))


def _volumes(found: Segmented) -> dict[str, float | None]:
    """EDV and ESV of each ventricle at its own phases; mass at those of the LV."""
    out: dict[str, float | None] = {}
    for side, phases in found.phases.items():
        curve = found.volumes[side]
        out |= {f"{side}_edv": _number(curve[phases.ed]), f"{side}_esv": _number(curve[phases.es])}
    if "lv" in found.phases and "myocardium" in found.volumes:
        wall, phases = found.volumes["myocardium"], found.phases["lv"]
        out["lv_mass"] = _number(myocardial_mass(wall[phases.ed]))
        out["lv_mass_es"] = _number(myocardial_mass(wall[phases.es]))
    return out


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _times(view: View, notes: list[str]) -> dict[str, float | None]:
    if not view.rr:
        notes.append("No RR interval in the headers, so there is no heart rate, cardiac output or rate of filling.")
        return {"heart_rate": None}
    if (view.scanned.beat or 0) > LONGEST_SHARE:
        notes.append("The frames last longer than the RR of the headers: no heart rate and no cardiac output.")
        return {"heart_rate": None}
    if view.rr_range and view.rr_range[1] > 1.1 * view.rr_range[0]:
        low, high = (60000 / value for value in reversed(view.rr_range))
        notes.append(
            f"The heart rate is that of the median RR; between slices it goes from {low:.0f} to {high:.0f}/min."
        )
    return {"heart_rate": 60000 / view.rr}


def _rates(view: View, found: Segmented, notes: list[str]) -> dict[str, float | None]:
    """Largest slopes of the LV curve: a parabola over about a sixth of the frames, of a whole beat round its end."""
    times, curve = view.times, found.volumes.get("lv")
    if times is None or curve is None or not found.is_whole or len(curve) < MIN_FRAMES_OF_RATES:
        notes.append(
            f"No rates of ejection and filling: they need a whole beat of {MIN_FRAMES_OF_RATES} frames and RR."
        )
        return {}
    window = max(5, len(curve) // 6 | 1)
    ends = "wrap" if view.is_circle else "interp"
    slope = savgol_filter(curve, window, 2, deriv=1, delta=(times[1] - times[0]) / 1000, mode=ends)
    return {"peak_ejection_rate": float(-slope.min()), "peak_filling_rate": float(slope.max())}


def _segments(view: View, found: Segmented, notes: list[str]) -> dict[int, tuple[float | None, float | None]]:
    """Wall thickness of each AHA segment at ED and ES of the LV, each phase with its own levels."""
    if "lv" not in found.phases:
        return {}
    phases, spacing = found.phases["lv"], np.array(view.spacing)
    thickness, base_last = [], None
    for frame in (phases.ed, phases.es):
        labels = counted(found, frame)
        try:
            place = find_segments(labels, view.affine, base_last)
        except CinemaError as error:
            notes.append(f"No wall thickness: {error}")
            return {}
        base_last = place.base_last
        thickness.append([_number(value) for value in wall_thickness(labels, spacing, place)])
        if not (view.trusted and place.sure):
            notes.append(
                "The header does not say how the heart lies in the body: segments may run the other way round."
            )
    notes.append("Wall thickness is the mean length in plane of Laplace streamlines; segment 17 cannot be seen in SAX.")
    return {number + 1: (thickness[0][number], thickness[1][number]) for number in range(len(NAMES))}


def counted(found: Segmented, frame: int) -> np.ndarray:
    """(X, Y, Z) labels of a frame in the slices that count."""
    labels = found.labels[..., frame]
    if found.slices is None:
        return labels
    keep = np.zeros(labels.shape[2], dtype=bool)
    keep[found.slices[0] : found.slices[1]] = True
    return np.where(keep, labels, 0)


def _ed_es(view: View, study: Study, segmented: Mapping[str, Segmented]) -> Phases | None:
    """Phases that the view's files name, else of its own curve, else those of SAX at the same share of the beat."""
    if view.phases is not None:
        return Phases(*view.phases)
    for name in (view.name, "sax"):
        if name in segmented and "lv" in segmented[name].phases and study.views[name].is_cine:
            phases, frames = segmented[name].phases["lv"], segmented[name].labels.shape[3]
            ed, es = (round(frame * view.n_frames / frames) % view.n_frames for frame in (phases.ed, phases.es))
            return Phases(ed, es)
    return None


def _long_axis(view: View, landmarks: Landmarks, phases: Phases | None) -> dict[str, float | None]:
    """Strain of the long axis (10.1186/s12968-015-0171-8) and excursion of each mitral hinge along it."""
    hinges = _hinges(view, landmarks)
    if hinges is None or "apex" not in landmarks.points:
        return {}
    from cinema_lightning.metrics.landmarks import long_axis_length, plane_excursion  # brings torch

    points, apex = np.stack(list(hinges.values()), axis=1), landmarks.points["apex"]  # (T, 2, 3), (T, 3)
    length = np.asarray(long_axis_length(points, apex, (1, 1, 1)))
    if not np.isfinite(length).any():
        return {}
    ed = int(np.nanargmax(length)) if phases is None else phases.ed
    es = int(np.nanargmin(length)) if phases is None else phases.es
    excursion = plane_excursion(points[ed], points[es], apex[ed], (1, 1, 1))
    out = {f"mapse_{wall}": _number(value) for wall, value in zip(hinges, excursion, strict=True) if wall.strip()}
    out[f"long_axis_strain_{view.name[-2:]}"] = _number(100 * (np.nanmin(length) - length[ed]) / length[ed])
    return out


def _hinges(view: View, landmarks: Landmarks) -> dict[str, np.ndarray] | None:
    """The two mitral hinges by wall; where neither names nor a header that can be trusted say which, without names."""
    walls = WALLS.get(view.name)
    if walls is None:
        return None
    named = {wall: landmarks.points[f"mitral_{wall}"] for wall in walls if f"mitral_{wall}" in landmarks.points}
    if len(named) == 2:
        return named
    if not {"hinge_1", "hinge_2"} <= set(landmarks.points):
        return None
    points = [landmarks.points["hinge_1"], landmarks.points["hinge_2"]]
    if not view.trusted:
        return {"": points[0], " ": points[1]}
    first = np.nanmean(points[0] @ TOWARDS[view.name]) >= np.nanmean(points[1] @ TOWARDS[view.name])
    return dict(zip(walls, points if first else reversed(points), strict=True))
