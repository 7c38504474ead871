"""The page of one study: self-contained, without identity, two pages in print."""

from __future__ import annotations

import base64
import io
import itertools
from collections.abc import Sequence
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from cinema_lightning.analysis.bullseye import draw_bullseye
from cinema_lightning.analysis.pictures import cine_bytes
from cinema_lightning.analysis.record import NOTICE
from cinema_lightning.analysis.values import Result, Series, View
from cinema_lightning.columns import ANALYSIS, look_up, quantities
from cinema_lightning.views import get_view

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# The wall's thickness is in the bullseye.
SHOWN = [column.name for column in (*quantities("segmentation"), *ANALYSIS) if not column.name.startswith("wall_")]
SEXES = {"M": "man", "F": "woman"}
LINES = {"lv": ("LV", "#d55e00"), "rv": ("RV", "#e69f00"), "myocardium": ("myocardium", "#56b4e9")}


def page(result: Result) -> str:
    """The report of a study.

    Args:
        result: The study.

    Returns:
        HTML with everything in it; a refused study's has reasons instead of numbers.
    """
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined)
    text = (files("cinema_lightning.analysis") / "report.html.jinja").read_text("utf-8")
    return environment.from_string(text).render(**_content(result))


def _content(result: Result) -> dict[str, Any]:
    study = result.study
    refused = result.quality == "refuse"
    intervals = {one.column: one for one in result.intervals}
    return {
        "key": study.key,
        "notice": NOTICE,
        "who": _who(result),
        "quality": result.quality,
        "reasons": result.reasons,
        "corrections": result.corrections,
        "views": [_view(result, name) for name in result.segmented],
        "numbers": [] if refused else _numbers(result),
        "intervals": intervals,
        "coverage": f"{100 * next(iter(intervals.values())).coverage:g}" if intervals else "",
        "sources": list(dict.fromkeys(reference.source for reference in result.references)),
        "interval_notes": list(dict.fromkeys(one.note for one in result.intervals if one.note)),
        "charts": [] if refused else _charts(result),
        "checks": result.checks,
        "series": series_lines(study.series),
        "warnings": _warnings(result),
        "notes": result.measured.notes,
        "made_with": sorted(result.made_with.items()),
    }


def series_lines(series: Sequence[Series]) -> list[dict[str, Any]]:
    """Lines of the page, one for neighbouring series of which the same is said, such as those of one slice each.

    Args:
        series: Of the study, in their order.
    """
    said = [(line.taken_for, line.why, line.slices, line.phases) for line in series]
    lines = []
    for facts, group in itertools.groupby(zip(series, said, strict=True), key=lambda pair: pair[1]):
        numbers = [line.number for line, _ in group]
        named = f"{numbers[0]}" if len(numbers) == 1 else f"{numbers[0]} to {numbers[-1]}"
        lines.append({"numbers": named, **dict(zip(("taken_for", "why", "slices", "phases"), facts, strict=True))})
    return lines


def _warnings(result: Result) -> list[str]:
    """What was left out, filled or could not be found: in the study, in each view, and in its masks."""
    views = [said for view in result.study.views.values() for said in view.warnings]
    masks = [said for found in result.segmented.values() for said in found.warnings]
    return [*result.study.warnings, *views, *masks]


def _who(result: Result) -> str:
    person, scanner = result.study.person, result.study.scanner
    facts = [
        SEXES.get(person.sex or "", "sex not known"),
        f"{person.age_text} years" if person.age is not None else "age not known",
        f"{person.height:.2f} m" if person.height else "",
        f"{person.weight:g} kg" if person.weight else "",
        scanner.vendor or "",
        f"{scanner.field_strength:g} T" if scanner.field_strength else "",
    ]
    return ", ".join(fact for fact in facts if fact)


def _view(result: Result, name: str) -> dict[str, str]:
    view, found = result.study.views[name], result.segmented[name]
    x, y, z = view.spacing
    size = f"{view.frames.shape[2]} slices {z:.1f} mm apart, " if view.frames.shape[2] > 1 else ""
    looked = "" if found.is_whole else f"; {len(found.looked_at)} of them segmented"
    said = f"{size}pixels of {x:.2f} x {y:.2f} mm, {view.n_frames} frames{looked}"
    cine = base64.b64encode(cine_bytes(view, found, "WEBP")).decode()
    return {"name": get_view(name).display, "cine": cine, "said": said}


def _numbers(result: Result) -> list[dict[str, Any]]:
    ranges = {reference.column: reference for reference in result.references}
    intervals = {one.column: one for one in result.intervals}
    rows = []
    for name in SHOWN:
        value = result.measured.numbers.get(name)
        if value is None:
            continue
        column, reference, interval = look_up(name), ranges.get(name), intervals.get(name)
        digits = 0 if column.unit in ("ml", "g", "ml/s", "1/min", "ml/m2") else 1
        row = {
            "name": column.display[:1].upper() + column.display[1:],
            "value": f"{value:.{digits}f} {column.unit}".replace("m2", "m²"),
            "interval": "",
            "range": f"{reference.low:.{digits}f} to {reference.high:.{digits}f}" if reference else "",
            "z": f"{reference.z:+.1f}" if reference and reference.z is not None else "",
            "out": bool(reference and not reference.low <= value <= reference.high),
        }
        if interval:
            row["interval"] = (
                f"{interval.low:.{digits}f} to {interval.high:.{digits}f}" if interval.valid else "not valid"
            )
        rows.append(row)
    return rows


def _charts(result: Result) -> list[dict[str, str]]:
    charts = []
    if "sax" in result.segmented and result.study.views["sax"].is_cine:
        charts.append({"png": _png(curve_figure(result)), "said": "Volumes by counting voxels; lines at ED and ES."})
    if result.measured.segments:
        for phase, at in (("ED", 0), ("ES", 1)):
            values = {segment: pair[at] for segment, pair in result.measured.segments.items()}
            said = f"Wall thickness at {phase}, mm, mean {_mean(values):.1f}; ticks: insertions of the RV."
            charts.append({"png": _png(bullseye_figure(values)), "said": said})
    return charts


def _mean(values: dict[int, float | None]) -> float:
    known = [value for value in values.values() if value is not None]
    return sum(known) / len(known) if known else float("nan")


def curve_figure(result: Result) -> Figure:
    """Volumes of the short axis over the beat, with ED and ES of each ventricle."""
    from matplotlib.figure import Figure

    view, found = result.study.views["sax"], result.segmented["sax"]
    times, unit = _times(view)
    figure = Figure(figsize=(4, 4), layout="constrained")
    axes = figure.subplots()
    frames = list(found.looked_at)
    for name, (title, colour) in LINES.items():
        if name in found.volumes:
            axes.plot(times[frames], found.volumes[name][frames], marker=".", color=colour, label=title)
        if name in found.phases:
            for frame in (found.phases[name].ed, found.phases[name].es):  # type: ignore[index]
                axes.axvline(times[frame], color=colour, linestyle=":", linewidth=1)
    axes.set(xlabel=unit, ylabel="volume, ml", ylim=(0, None))
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def _times(view: View) -> tuple[Any, str]:
    import numpy as np

    return (np.arange(view.n_frames), "frame") if view.times is None else (view.times, "ms after the first frame")


def bullseye_figure(values: dict[int, float | None]) -> Figure:
    """The bullseye of one phase."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4, 4), layout="constrained")
    draw_bullseye(figure.add_subplot(projection="polar"), values)
    return figure


def _png(figure: Figure) -> str:
    out = io.BytesIO()
    # no metadata: matplotlib would write its name only, but nothing belongs there
    figure.savefig(out, format="png", dpi=150, metadata={"Software": None})
    return base64.b64encode(out.getvalue()).decode()
