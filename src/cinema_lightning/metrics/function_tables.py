"""Ventricular and long-axis function of each study, from the cases of its frames."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

from cinema_lightning.columns import CASE, is_measured, quantities, stroke_volume
from cinema_lightning.metrics.function import ejection_fraction, failed_frames, myocardial_mass, ventricular_function

VENTRICLES = ("lv", "rv")
MITRAL = (("mitral_anterior", "mitral_inferior"), ("mitral_septal", "mitral_lateral"), ("hinge_1", "hinge_2"))
"""Pairs of hinge points of the mitral valve, by dataset."""
ED, ES = "ED", "ES"
OF_CASES = (*CASE, "subject", "phase", "spacing_x", "spacing_y")


def ventricular_table(cases: pd.DataFrame, facts: Mapping[str, Any]) -> pd.DataFrame:
    """Volumes, ejection fractions and mass of each study, truth beside prediction.

    ED and ES are the frames that the table calls so. Where more than two frames of a study were segmented, or phases
    are not named, those of the prediction are found on its own volume curve, smoothed and without the frames that
    failed (``frames_left_out``). The truth is that of the label maps, else the study's own columns.
    A study with only one of the two phases has no ejection fraction.

    Args:
        cases: Cases of a segmentation with the regions lv, rv and myocardium in SAX.
        facts: Facts of the test.

    Returns:
        One row per study; empty where the regions are others, there is no SAX, or no frame is known to be ED or ES.
    """
    del facts
    stacks = cases[cases["view"].isin(["sax", ""])] if "view" in cases else cases
    if not len(stacks) or "lv_volume_pred" not in stacks:
        return pd.DataFrame()
    codes = pd.factorize(stacks["id"])[0]
    frame = pd.to_numeric(stacks["frame"], errors="coerce") if "frame" in stacks else np.zeros(len(stacks))
    order = np.lexsort((frame, codes))
    stacks, codes = stacks.iloc[order], codes[order]
    starts = np.flatnonzero(np.diff(codes, prepend=-1))
    table = pd.DataFrame([_study(part) for part in _parts(stacks, starts)])
    predicted = table[[f"{column.name}_pred" for column in quantities("segmentation")]]
    if not predicted.notna().any(axis=None):
        return pd.DataFrame()
    persons = _person(stacks, list(map(str, table.columns)))
    return pd.concat([table, persons.iloc[starts].reset_index(drop=True)], axis="columns")


_Part = Mapping[str, np.ndarray]
"""A study's cases in the order of their frames, by column: slices of arrays, of which there may be 100,000."""


def _parts(stacks: pd.DataFrame, starts: np.ndarray) -> Iterator[_Part]:
    """Columns of each study; volumes and the study's own quantities as numbers."""
    volumes = [f"{region}_volume_{side}" for region in (*VENTRICLES, "myocardium") for side in ("pred", "true")]
    own = [column.name for column in quantities("segmentation")]
    columns = {
        name: pd.to_numeric(stacks[name], errors="coerce").to_numpy(dtype=np.float64)
        for name in (*volumes, *own)
        if name in stacks
    }
    columns |= {name: stacks[name].to_numpy() for name in ("id", "subject", "frame") if name in stacks}
    if "phase" in stacks:
        columns["phase"] = stacks["phase"].fillna("").to_numpy()
    for start, end in zip(starts.tolist(), [*starts[1:].tolist(), len(stacks)], strict=True):
        yield {name: values[start:end] for name, values in columns.items()}


def _study(part: _Part) -> dict[str, Any]:
    phases = part["phase"].tolist() if "phase" in part else []
    named = {name: phases.index(name) for name in (ED, ES) if name in phases}
    predicted, true = (_measures(part, side, named) for side in ("pred", "true"))
    truth = _truth(part, true)
    study = str(part["id"][0])
    row: dict[str, Any] = {"id": study, "subject": part["subject"][0] if "subject" in part else study}
    frames = part["frame"].tolist() if "frame" in part else list(range(len(part["id"])))
    for name in (column.name for column in quantities("segmentation")):
        row[f"{name}_true"] = truth.get(name, np.nan)
        row[f"{name}_pred"] = predicted.get(name, np.nan)
    for key in ("ed_frame", "es_frame"):
        row[f"{key}_pred"] = frames[int(predicted[key])] if key in predicted else None
    row["frames_left_out"] = _left_out(part, frames, named)
    return row


def _left_out(part: _Part, frames: list[Any], named: dict[str, int]) -> str:
    """Frames whose predicted volume is not believed, where ED and ES are searched for."""
    curve = part["lv_volume_pred"]
    if not _is_curve(curve, named):
        return ""
    return " ".join(str(frames[place]) for place in np.flatnonzero(failed_frames(curve)))


def _is_curve(curve: np.ndarray, named: dict[str, int]) -> bool:
    """Two frames without a name can only be ED and ES; one cannot be told."""
    return (len(curve) > 2 or (len(curve) == 2 and not named)) and bool(np.isfinite(curve).all())


def _measures(part: _Part, side: str, named: dict[str, int]) -> dict[str, float]:
    """What the volumes of one side give: on the whole curve where there is one, else at ED and ES as they are named."""
    names = {region: f"{region}_volume_{side}" for region in (*VENTRICLES, "myocardium")}
    volumes = {region: part[name] for region, name in names.items() if name in part}
    curve = volumes.get("lv")
    if curve is None or not np.isfinite(curve).any():
        return {}
    if _is_curve(curve, named):
        return ventricular_function(volumes)
    if len(named) == 2:
        return ventricular_function(volumes, named[ED], named[ES])
    return _one_phase(volumes, named)


def _one_phase(volumes: dict[str, np.ndarray], named: dict[str, int]) -> dict[str, float]:
    """The volumes of the only phase that is there, and the mass at ED."""
    out: dict[str, float] = {}
    for phase, place in named.items():
        out[f"{phase.lower()}_frame"] = place
        out |= {f"{name}_{phase.lower()}v": float(volumes[name][place]) for name in VENTRICLES if name in volumes}
        if phase == ED and "myocardium" in volumes:
            out["lv_mass"] = float(myocardial_mass(volumes["myocardium"][place]))
    return out


def _truth(part: _Part, labelled: dict[str, float]) -> dict[str, float]:
    """Of the label maps where a ventricle has both phases, else of the study's own columns; never a mix of the two."""
    out: dict[str, float] = {}
    for name in VENTRICLES:
        keys = [f"{name}_{what}" for what in ("edv", "esv", "sv", "ef")]
        own = {key: _cell(part, key) for key in keys}
        if np.isfinite(labelled.get(f"{name}_ef", np.nan)) or not any(np.isfinite(value) for value in own.values()):
            out |= {key: labelled[key] for key in keys if key in labelled}
            continue
        edv, esv = own[f"{name}_edv"], own[f"{name}_esv"]
        made = {f"{name}_sv": stroke_volume(edv, esv), f"{name}_ef": float(ejection_fraction(edv, esv))}
        out |= own | {key: value for key, value in made.items() if not np.isfinite(own[key])}
        out[f"{name}_ef"] = float(np.clip(out[f"{name}_ef"], 0, 100))
    mass = labelled.get("lv_mass", np.nan)
    return out | {"lv_mass": mass if np.isfinite(mass) else _cell(part, "lv_mass")}


def _cell(part: _Part, name: str) -> float:
    """The study's own value of a quantity, where its table has one."""
    return float(part[name][0]) if name in part else float("nan")


def _person(cases: pd.DataFrame, taken: Iterable[str]) -> pd.DataFrame:
    """Columns that say something of the person rather than of a case: those after the metrics."""
    others = {*OF_CASES, *(column.name for column in quantities("segmentation")), *taken}
    return cases[[name for name in map(str, cases.columns) if not is_measured(name) and name not in others]]


def long_axis_table(cases: pd.DataFrame, facts: Mapping[str, Any]) -> pd.DataFrame:
    """Mitral and tricuspid plane excursion and long-axis shortening of each study with ED and ES of a view.

    Args:
        cases: Cases of a landmark task.
        facts: Facts of the test, with the landmarks.

    Returns:
        One row per study and view; empty where no study has both phases and known voxel sizes.
    """
    names = [str(name) for name in facts.get("landmarks", [])]
    hinges = next((pair for pair in MITRAL if set(pair) <= set(names)), None)
    if hinges is None or "apex" not in names or "phase" not in cases or "spacing_x" not in cases:
        return pd.DataFrame()
    rows = []
    for (study, view), part in cases.groupby(["id", "view"], sort=False):
        phases = {phase: part[part["phase"] == phase] for phase in (ED, ES)}
        if any(len(found) != 1 for found in phases.values()):
            continue
        ed, es = (phases[phase].iloc[0] for phase in (ED, ES))
        if not np.isfinite(float(ed["spacing_x"])):
            continue
        row: dict[str, Any] = {"id": study, "view": view, "subject": ed.get("subject", study)}
        for side in ("true", "pred"):
            row |= {f"{name}_{side}": value for name, value in _excursions(ed, es, hinges, names, side).items()}
        rows.append(row | _person(part, row).iloc[0].to_dict())
    return pd.DataFrame(rows)


def _excursions(ed: pd.Series, es: pd.Series, hinges: tuple[str, str], names: list[str], side: str) -> dict[str, float]:
    from cinema_lightning.metrics.landmarks import long_axis_shortening, plane_excursion  # they bring torch

    def point(row: pd.Series, name: str) -> list[float]:
        return [float(row[f"{name}_x_{side}"]), float(row[f"{name}_y_{side}"])]

    spacing = [float(ed["spacing_x"]), float(ed["spacing_y"])]
    start, end = (np.array([point(row, name) for name in hinges]) for row in (ed, es))
    apex, apex_es = np.array(point(ed, "apex")), np.array(point(es, "apex"))
    out = {
        "mapse": float(plane_excursion(start, end, apex, spacing).mean()),
        "long_axis_shortening": float(long_axis_shortening(start, apex, end, apex_es, spacing)),
    }
    lateral = "tricuspid_lateral"
    if lateral in names:
        points = [np.array([point(row, lateral)]) for row in (ed, es)]
        out["tapse"] = float(plane_excursion(points[0], points[1], apex, spacing, ed_base=start)[0])
    return out
