"""An analysed study as plain values, for JSON and tables; and back, as far as measuring again needs it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from cinema_lightning.analysis.headers import KNOWN
from cinema_lightning.analysis.values import Landmarks, Result, Segmented, Series, View
from cinema_lightning.columns import look_up

NOTICE = "For research, not for diagnosis."


def as_record(result: Result) -> dict[str, Any]:
    """All that is known of an analysed study, without its images.

    Args:
        result: The study.

    Returns:
        Numbers, texts, lists and dicts that JSON can hold; numbers that are not defined are None.
    """
    study = result.study
    return {
        "id": study.key,
        "quality": result.quality,
        "reasons": list(result.reasons),
        "numbers": {name: _plain(value) for name, value in result.measured.numbers.items()},
        "units": {name: look_up(name).unit for name in result.measured.numbers},
        "segments": {str(number): list(pair) for number, pair in result.measured.segments.items()},
        "references": [asdict(reference) for reference in result.references],
        "intervals": [asdict(interval) for interval in result.intervals],
        "checks": [asdict(check) for check in result.checks],
        "person": {**asdict(study.person), "age": study.person.age_text or None},
        "scanner": asdict(study.scanner),
        "views": {name: _view(view, result.segmented.get(name)) for name, view in study.views.items()},
        "series": [asdict(line) for line in study.series],
        "notes": list(result.measured.notes),
        "warnings": [*study.warnings, *(problem for problem in study.problems.values())],
        "landmarks": {name: points_of(found) for name, found in result.landmarks.items()},
        "corrections": list(result.corrections),
        "made_with": dict(result.made_with),
        "by_phantoms": list(result.by_phantoms),
        "notice": NOTICE,
    }


def points_of(found: Landmarks) -> dict[str, list[list[float] | None]]:
    """Landmarks as JSON holds them: name -> RAS mm in each frame, None where not found."""
    return {
        name: [[round(x, 3) for x in point] if np.isfinite(point).all() else None for point in points.tolist()]
        for name, points in found.points.items()
    }


def landmarks_of(record: Mapping[str, Any]) -> dict[str, Landmarks]:
    """The landmarks of a record, by view."""
    nowhere = [math.nan] * 3
    return {
        view: Landmarks({name: np.array([point or nowhere for point in points]) for name, points in own.items()})
        for view, own in record.get("landmarks", {}).items()
    }


def _plain(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(f"{value:.6g}")


def _view(view: View, found: Segmented | None) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "size": list(view.frames.shape),
        "spacing": [round(size, 4) for size in view.spacing],
        "scanned": asdict(view.scanned),
        "rr": view.rr,
        "rr_range": view.rr_range,
        "warnings": list(view.warnings),
    }
    if found is None:
        return facts
    warnings = [*view.warnings, *found.warnings]
    phases = {side: asdict(own) for side, own in found.phases.items()}
    return {**facts, "looked_at": list(found.looked_at), "phases": phases, "slices": found.slices, "warnings": warnings}


def as_row(record: Mapping[str, Any]) -> dict[str, Any]:
    """One line of results.csv.

    Args:
        record: Of :func:`as_record`.

    Returns:
        Column -> cell; empty where a number is not known.
    """
    person, scanner = record["person"], record["scanner"]
    sax = record["views"].get("sax", {})
    phases = {
        f"{side}_{name}_frame": frame for side, own in sax.get("phases", {}).items() for name, frame in own.items()
    }
    refused = record["quality"] == "refuse"
    return {
        "id": record["id"],
        "quality": record["quality"],
        "reasons": " ".join(record["reasons"]),
        "views": "+".join(record["views"]),
        **{name: person[name] for name in KNOWN},
        "vendor": scanner["vendor"],
        "field_strength": scanner["field_strength"],
        "n_frames": sax["size"][3] if sax else None,
        "n_slices": sax["size"][2] if sax else None,
        **({} if refused else phases),
        **{name: value for name, value in record["numbers"].items() if name not in person},
        **{f"{one['column']}_z": one["z"] for one in record["references"]},
        **_intervals(record["intervals"]),
        "corrected": len(record["corrections"]) > 0,
        "weights": " ".join(f"{name}:{digest}" for name, digest in record["made_with"].items() if _is_digest(name)),
        "version": record["made_with"].get("cinema-lightning"),
    }


def _intervals(intervals: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    return {f"{one['column']}_{end}": one[end] for one in intervals if one["valid"] for end in ("low", "high")}


def _is_digest(name: str) -> bool:
    return name.startswith("weights")


def volume_rows(view: View, found: Segmented) -> list[dict[str, Any]]:
    """The curve of a view.

    Args:
        view: The images.
        found: Their masks.

    Returns:
        One row a frame that was looked at.
    """
    times = view.times
    return [
        {
            "frame": frame,
            "time_ms": None if times is None else round(float(times[frame]), 1),
            **{f"{name}_ml": round(float(curve[frame]), 3) for name, curve in found.volumes.items()},
        }
        for frame in found.looked_at
    ]


def series_rows(series: Sequence[Series]) -> list[dict[str, Any]]:
    """The lines of series.csv, one a series."""
    rows = []
    for line in series:
        row = asdict(line)
        for name in ("size", "spacing"):
            pair = row.pop(name)
            row |= {f"{name}_x": None if pair is None else pair[0], f"{name}_y": None if pair is None else pair[1]}
        rows.append(row)
    return rows
