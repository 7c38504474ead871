"""What stands between a study and its numbers: checks of the images as scanned, of the label maps, of the numbers."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from cinema_lightning.analysis.measure import counted
from cinema_lightning.analysis.shape import (
    apex_share,
    base_share,
    components_share,
    frame_dice,
    hole_slices,
    lv_slices,
    mid_level_rv,
    order_ratio,
    profile_jump,
    slice_shift,
    slices_in_step,
    unlike_ratio,
)
from cinema_lightning.analysis.values import Check, Measured, Segmented, Study, Verdict, View
from cinema_lightning.errors import CinemaError
from cinema_lightning.views import get_view

FRAMES = 30
LIMITS = ("warn_above", "warn_below", "refuse_above", "refuse_below")
Found = tuple[str, float | None, str]
"""Name of a check, the value, and what was found, in words; a value of None could not be had and says nothing."""


@dataclass(frozen=True)
class Limit:
    """When a value warns or refuses, and why."""

    reason: str
    warn_above: float = float("inf")
    warn_below: float = float("-inf")
    refuse_above: float = float("inf")
    refuse_below: float = float("-inf")

    def judge(self, value: float) -> Verdict:
        """The verdict on a value; one that is no number is refused."""
        if not np.isfinite(value) or value > self.refuse_above or value < self.refuse_below:
            return "refuse"
        return "warn" if value > self.warn_above or value < self.warn_below else "pass"


def read_limits(path: Path | None = None) -> dict[str, Limit]:
    """The limits of ``gate.yaml``, and what a file of the user's changes of them.

    Args:
        path: YAML of the same form; limits that it does not name stay.

    Raises:
        CinemaError: If the file names a check or a limit that there is not.
    """
    limits: dict[str, dict[str, Any]] = yaml.safe_load(
        (files("cinema_lightning.analysis") / "gate.yaml").read_text("utf-8")
    )
    own = _own_limits(path) if path else {}
    for name, changes in own.items():
        if name not in limits:
            raise CinemaError(f"{path}: there is no check '{name}'. There are: {', '.join(sorted(limits))}.")
        known = isinstance(changes, Mapping) and set(changes) <= {*LIMITS, "reason"}
        if not known or any(not isinstance(changes[key], int | float) for key in set(changes) & set(LIMITS)):
            raise CinemaError(f"{path}: '{name}' takes numbers for {', '.join(LIMITS)}, and a reason.")
        limits[name] |= changes
    return {name: Limit(**values) for name, values in limits.items()}


def _own_limits(path: Path) -> Mapping[str, Any]:
    try:
        own = yaml.safe_load(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise CinemaError(f"{path} cannot be read as YAML: {str(error).splitlines()[0]}.") from None
    if not isinstance(own, Mapping):
        raise CinemaError(f"{path}: a list of checks by name is expected, such as 'frames: {{refuse_below: 10}}'.")
    return own


def check(
    study: Study,
    segmented: Mapping[str, Segmented],
    measured: Measured,
    limits: Mapping[str, Limit],
    by_phantoms: Collection[str] = (),
) -> tuple[Check, ...]:
    """Judges a study.

    Args:
        study: Its images.
        segmented: View -> what was found.
        measured: Its numbers.
        limits: Of :func:`read_limits`.
        by_phantoms: Views whose network was trained on phantoms only.

    Returns:
        One check for everything that could be looked at, in the order of ``gate.yaml``.
    """
    if "sax" not in study.views:
        refused = Check("short_axis", "refuse", "No short-axis stack was found, so that there are no volumes.")
        return (refused, *_judged([*_trained(study, by_phantoms)], limits))
    view, found = study.views["sax"], segmented.get("sax")
    values = [*_trained(study, by_phantoms), *_as_scanned(view)]
    if found is None or "lv" not in found.phases:
        values_said = _judged(values, limits)
        return (*values_said, Check("lv_found", "refuse", "No LV was found in the short axis."))
    values += [*_masks(view, found), *_curve(found, measured), *_numbers(found, measured)]
    return tuple(_judged(values, limits))


def without_numbers(measured: Measured) -> Measured:
    """What is left of the numbers of a refused study: none, and why."""
    return Measured(dict.fromkeys(measured.numbers), {}, ("Refused: see the reasons.",))


def _judged(values: list[Found], limits: Mapping[str, Limit]) -> list[Check]:
    order = list(limits)
    out = []
    for name, value, words in sorted(values, key=lambda found: order.index(found[0])):
        if value is None:
            continue
        verdict = limits[name].judge(value)
        sentence = f"{words}." if verdict == "pass" else f"{words}: {limits[name].reason}."
        out.append(Check(name, verdict, sentence))
    return out


def _trained(study: Study, by_phantoms: Collection[str]) -> Iterator[Found]:
    if not by_phantoms:
        return
    networks = f"The network of {' and of '.join(get_view(view).display for view in by_phantoms)}"
    if study.phantom:
        yield "trained_on_phantoms", 0.0, f"{networks} was trained on phantoms, of which the study is one"
    else:
        words = f"{networks} was trained on phantoms only, and nothing says that the study is of one"
        yield "trained_on_phantoms", float(len(by_phantoms)), words


def _as_scanned(view: View) -> Iterator[Found]:
    scanned = view.scanned
    gaps = scanned.gaps
    if gaps:
        usual = float(np.median(gaps))
        yield "slice_distance", usual, f"Short-axis slices lie {usual:.1f} mm apart"
        yield "gap", max(gaps) / usual, f"The widest gap between slices is {max(gaps):.1f} mm, the usual {usual:.1f} mm"
        if scanned.between:
            differs = abs(scanned.between - usual) / usual
            words = f"The header gives {scanned.between:.1f} mm between slices, their positions {usual:.1f} mm"
            yield "header_distance", differs, words
    order = order_ratio(view.frames)
    more = 100 * max(0.0, (order or 0) - 1)
    yield "slice_order", order, f"With two slices exchanged neighbouring ones would be {more:.0f}% more alike"
    unlike = unlike_ratio(view.frames)
    far = 100 * max(0.0, (unlike or 1) - 1)
    yield "slice_unlike", unlike, f"One slice is {far:.0f}% less like its neighbours than slices here usually are"
    frames = view.n_frames
    yield "frames", float(frames) if view.is_cine else None, f"{frames} frames over the beat"
    if scanned.phases and view.is_cine:
        asked = max(scanned.asked or 0, *scanned.phases)
        short = 1 - min(scanned.phases) / asked
        yield "frames_missing", short, f"The slice with the fewest frames has {min(scanned.phases)} of {asked}"
    if scanned.beat is not None and view.is_cine:
        yield "beat", scanned.beat, f"The frames cover {100 * scanned.beat:.0f}% of the beat"
        words = f"The frames last {100 * scanned.beat:.0f}% of the RR interval that the headers give"
        yield "heart_rate", scanned.beat, words


def _masks(view: View, found: Segmented) -> Iterator[Found]:
    phases = found.phases["lv"]
    ed, es = (counted(found, frame) for frame in (phases.ed, phases.es))
    spacing = np.array(view.spacing)
    yield "lv_slices_ed", float(lv_slices(ed)), f"The LV is in {lv_slices(ed)} slices at ED"
    yield "lv_slices_es", float(lv_slices(es)), f"The LV is in {lv_slices(es)} slices at ES"
    holes = [z for labels in (ed, es) for z in hole_slices(labels)]
    where = f" (slice {min(holes) + 1})" if holes else ""
    yield "lv_hole", float(len(holes)), f"{len(holes) or 'No'} slices without LV lie between slices with LV{where}"
    yield (
        "rv_mid",
        float(mid_level_rv(ed)),
        f"The RV is {'there' if mid_level_rv(ed) else 'missing'} at mid level at ED",
    )
    share = max(components_share(ed), components_share(es))
    yield "second_component", share, f"{100 * share:.0f}% of the LV lie apart from its largest piece"
    shift = slice_shift(ed, spacing)
    yield "slice_shift", shift, f"The LV's middle jumps by up to {shift or 0:.0f} mm between slices"
    jump = profile_jump(ed)
    yield (
        "slice_profile",
        jump,
        f"The LV's area in a slice differs from its neighbours' by up to {100 * (jump or 0):.0f}%",
    )
    if found.is_whole and view.is_cine:
        step = slices_in_step(found.labels)
        yield "slice_step", step, f"The slice that moves least like the others correlates {step or 0:.2f} with them"
    if found.slices is None:  # a person who named the slices has looked at base and apex
        yield from _ends(ed, es)


def _ends(ed: np.ndarray, es: np.ndarray) -> Iterator[Found]:
    for name, labels, phase in (("base_cut_ed", ed, "ED"), ("base_cut_es", es, "ES")):
        share = base_share(labels, ed)
        yield (
            name,
            share,
            f"At {phase} the LV's area in the last slice of the base is {100 * share:.0f}% of the next one's",
        )
    apex = apex_share(ed)
    yield "apex_cut", apex, f"In the last slice of the apex the LV is {100 * apex:.0f}% of its area at mid level"


def _curve(found: Segmented, measured: Measured) -> Iterator[Found]:
    curve, stroke = found.volumes["lv"], measured.numbers.get("lv_sv")
    if not found.is_whole or len(curve) < 3 or not stroke or stroke <= 0:
        return
    phases = found.phases["lv"]
    dice = frame_dice(found.labels)
    # Few frames lie farther apart, and are judged as if they were 30.
    alike = 1 - (1 - dice) * min(1.0, len(curve) / FRAMES)
    yield "frame_dice", alike, f"The smallest Dice of the LV in neighbouring frames is {dice:.2f}"
    off = np.abs(curve - (np.roll(curve, 1) + np.roll(curve, -1)) / 2)[1:-1].max() / stroke
    # Of n frames of a smooth curve this is of the order of 1 / n^2: few frames are judged as if they were 30.
    bend = off * min(1.0, (len(curve) / FRAMES) ** 2)
    yield "curve", float(bend), f"A frame lies {100 * off:.0f}% of the stroke volume off the line of its neighbours"
    # A scan may begin in the middle of systole, where the volume falls fastest.
    usual = float(np.abs(np.diff(curve)).max())
    jump = max(0.0, abs(curve[0] - curve[-1]) - usual) / stroke
    yield (
        "cycle",
        float(jump),
        f"From the last frame to the first the LV jumps by {100 * jump:.0f}% of the stroke volume more than elsewhere",
    )
    apart = _round(phases.ed, phases.es, len(curve))
    yield "es_after_ed", apart, f"ED and ES lie {100 * apart:.0f}% of the beat apart"
    if "rv" in found.phases:
        between = _round(found.phases["rv"].es, phases.es, len(curve))
        # Each is a whole frame, and may be half a frame off.
        least = max(0.0, between - 1 / len(curve))
        yield "ventricles_apart", least, f"LV and RV reach ES {100 * between:.0f}% of the beat apart"


def _round(one: int, other: int, n: int) -> float:
    """Share of the beat between two frames, the shorter way round."""
    apart = abs(one - other) % n
    return min(apart, n - apart) / n


def _numbers(found: Segmented, measured: Measured) -> Iterator[Found]:
    numbers = measured.numbers
    edv, ef = numbers.get("lv_edv"), numbers.get("lv_ef")
    yield "lv_edv", float("nan") if edv is None else edv, f"LVEDV is {edv or 0:.0f} ml"
    yield "lv_ef", float("nan") if ef is None else ef, f"LVEF is {ef or 0:.0f}%"
    lv, rv = numbers.get("lv_sv"), numbers.get("rv_sv")
    if lv is not None and rv is not None:
        allowed = max(15.0, 0.2 * lv)
        yield "stroke_volumes", abs(lv - rv) / allowed, f"The stroke volumes are {lv:.0f} ml (LV) and {rv:.0f} ml (RV)"
    at_ed, at_es = numbers.get("lv_mass"), numbers.get("lv_mass_es")
    if at_ed and at_es:
        change = abs(at_ed - at_es) / at_ed
        yield "mass_change", change, f"The LV's mass is {at_ed:.0f} g at ED and {at_es:.0f} g at ES"
    if found.spread and edv:
        spread = float(found.spread["lv"][found.phases["lv"].ed]) / edv
        yield "ensemble_spread", spread, f"The networks' EDV differ by {100 * spread:.0f}% (SD)"
