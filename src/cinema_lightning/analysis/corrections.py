"""What a person corrected: edited masks, other series, ED, ES or the ends of the ventricle, named in a small YAML."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from cinema_lightning.analysis.segment import of_labels
from cinema_lightning.analysis.values import Phases, Segmented, Ventricle, View
from cinema_lightning.errors import CinemaError
from cinema_lightning.imaging.alignment import Volume, on_grid
from cinema_lightning.imaging.nifti import read_volume
from cinema_lightning.views import VIEWS

KEYS = ("masks", "series", "ed", "es", "rv_ed", "rv_es", "basal", "apical")


@dataclass(frozen=True)
class Corrections:
    """Corrections of one study.

    Attributes:
        masks: View -> file of edited masks, on the grid of the masks that were written.
        series: View -> running numbers of the series that it is to be made of.
        phases: ``ed``, ``es`` (LV), ``rv_ed``, ``rv_es`` -> frame, from 0.
        basal: Slice along z, from 0, that is the most basal one that counts.
        apical: The most apical one.
        source: By which file and when, for the record.
    """

    masks: Mapping[str, Path] = field(default_factory=dict)
    series: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    phases: Mapping[str, int] = field(default_factory=dict)
    basal: int | None = None
    apical: int | None = None
    source: str = ""


def read_corrections(path: Path) -> dict[str, Corrections]:
    """Reads a file of corrections.

    Args:
        path: YAML: the keys of one study, or them below the key of each study. Files are relative to its folder.

    Returns:
        Key -> corrections; the key is empty where the file names no study.

    Raises:
        CinemaError: If it cannot be read, or holds a key or value that is none; names it.
    """
    try:
        text = path.read_bytes()
        content = yaml.safe_load(text)
        changed = datetime.fromtimestamp(path.stat().st_mtime).astimezone().strftime("%Y-%m-%d %H:%M %Z")
    except OSError as error:
        raise CinemaError(f"{path} cannot be read ({error.strerror or error}).") from None
    except (yaml.YAMLError, UnicodeError) as error:
        raise CinemaError(f"{path} is no YAML ({' '.join(str(error).split())[:120]}).") from None
    if not isinstance(content, dict) or not content:
        raise CinemaError(f"{path} names no correction; its keys are {', '.join(KEYS)}.")
    source = f"by the corrections with SHA-256 {hashlib.sha256(text).hexdigest()[:12]}, saved {changed}"
    if set(map(str, content)) & set(KEYS):
        return {"": _parsed(path, "", content, source)}
    return {str(key): _parsed(path, f"{key}.", own, source) for key, own in content.items()}


def _parsed(path: Path, prefix: str, content: Any, source: str) -> Corrections:
    if not isinstance(content, dict):
        raise CinemaError(f"{path}, '{prefix.rstrip('.')}' is no set of corrections; its keys are {', '.join(KEYS)}.")
    unknown = [str(key) for key in content if key not in KEYS]
    if unknown:
        raise CinemaError(f"{path}: '{prefix}{unknown[0]}' is no correction; the keys are {', '.join(KEYS)}.")
    masks = {view: path.parent / str(file) for view, file in _by_view(path, prefix, content, "masks")}
    named = _by_view(path, prefix, content, "series")
    series = {view: _numbers(path, f"{prefix}series.{view}", own) for view, own in named}
    numbers = {key: _number(path, prefix + key, content[key]) for key in KEYS[2:] if key in content}
    phases = {key: number for key, number in numbers.items() if key not in ("basal", "apical")}
    return Corrections(masks, series, phases, numbers.get("basal"), numbers.get("apical"), source)


def _by_view(path: Path, prefix: str, content: Mapping[str, Any], key: str) -> list[tuple[str, Any]]:
    own = content.get(key) or {}
    bad = [str(view) for view in own if view not in VIEWS] if isinstance(own, dict) else [str(own)]
    if bad:
        raise CinemaError(f"{path}: '{prefix}{key}' has '{bad[0]}', which is no view; name one of {', '.join(VIEWS)}.")
    return list(own.items())


def _numbers(path: Path, key: str, value: Any) -> tuple[int, ...]:
    return tuple(_number(path, key, number, 1) for number in (value if isinstance(value, list) else [value]))


def _number(path: Path, key: str, value: Any, least: int = 0) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise CinemaError(f"{path}: '{key}' is {value!r}; give a whole number from {least}.")
    return value


def corrected(view: View, found: Segmented, corrections: Corrections) -> tuple[Segmented, tuple[str, ...]]:
    """Applies corrections to the masks of one view.

    Args:
        view: The images.
        found: What was found in them.
        corrections: The corrections; frames and slices are those of the short axis.

    Returns:
        The masks with what follows from them, and a sentence for each change.

    Raises:
        CinemaError: If edited masks do not fit the images, or a frame or slice is not there.
    """
    said: list[str] = []
    labels, looked = found.labels, found.looked_at
    if view.name in corrections.masks:
        labels = read_masks(corrections.masks[view.name], view)
        changed = int(np.count_nonzero(labels != found.labels))
        edited = np.flatnonzero((labels != found.labels).any(axis=(0, 1, 2))).tolist()
        looked = tuple(sorted({*looked, *edited}))
        said.append(f"masks of {view.name}: {changed} voxels in {len(edited)} frames")
    phases, slices = dict(found.phases), None
    if view.name == "sax":
        slices = _slices(view, labels, found, corrections, said)
    again = of_labels(labels, view, looked, found.spread, slices=slices)
    # The phases of before stay unless masks or a person say otherwise.
    kept = again.phases if said else {**again.phases, **phases}
    if view.name == "sax":
        kept = _named(view, kept, found, corrections, looked, said)
    sentences = tuple(f"{sentence}, {corrections.source}" for sentence in said)
    return replace(again, phases=kept), sentences


def read_masks(path: Path, view: View) -> np.ndarray:
    """Edited masks on the grid of their view.

    Raises:
        CinemaError: If they have other frames, lie elsewhere, or hold other codes than 0 to 3.
    """
    named = f"the file of 'masks.{view.name}'"  # its path may name a person
    try:
        there = read_volume(path, dims=4)
        if there.voxels.shape[3] != view.n_frames:
            raise CinemaError(
                f"{named} has {there.voxels.shape[3]} frames, the {view.name} cine {view.n_frames}: keep them all."
            )
        target = Volume(np.broadcast_to(np.uint8(0), view.frames.shape[:3]), view.affine, view.name, there.place)
        voxels, _ = on_grid(there, target)
    except CinemaError as error:
        raise CinemaError(str(error).replace(str(path), named).replace(path.name, named)) from None
    codes = np.unique(voxels)
    if not np.isin(codes, (0, 1, 2, 3)).all():
        odd = next(code for code in codes.tolist() if code not in (0, 1, 2, 3))
        raise CinemaError(f"{named} holds the code {odd:g}; the codes are 1 (RV), 2 (myocardium), 3 (LV) and 0.")
    return voxels.astype(np.uint8)


def _slices(
    view: View, labels: np.ndarray, found: Segmented, corrections: Corrections, said: list[str]
) -> tuple[int, int] | None:
    """First and last + 1 slice between the ends that were named."""
    from cinema_lightning.analysis.segments import is_base_last

    count = view.frames.shape[2]
    ends = {"basal": corrections.basal, "apical": corrections.apical}
    named = {name: place for name, place in ends.items() if place is not None}
    if not named:
        return found.slices
    for name, place in named.items():
        if place >= count:
            raise CinemaError(f"the correction '{name}' is slice {place}; the short axis has slices 0 to {count - 1}.")
        said.append(f"{name} slice: {place}")
    if "lv" not in found.phases:
        raise CinemaError("there is no LV, so that base and apex cannot be told: correct the masks instead.")
    base_last = is_base_last(labels[..., found.phases["lv"].ed])
    first, last = ("apical", "basal") if base_last else ("basal", "apical")
    low, high = named.get(first, 0), named.get(last, count - 1)
    if low > high:
        raise CinemaError(f"the corrections leave no slice between basal {ends['basal']} and apical {ends['apical']}.")
    return low, high + 1


def _named(
    view: View,
    phases: Mapping[Ventricle, Phases],
    found: Segmented,
    corrections: Corrections,
    looked: tuple[int, ...],
    said: list[str],
) -> dict[Ventricle, Phases]:
    out = dict(phases)
    sides: tuple[tuple[Ventricle, str], ...] = (("lv", ""), ("rv", "rv_"))
    for side, prefix in sides:
        for phase in ("ed", "es"):
            frame = corrections.phases.get(prefix + phase)
            if frame is None:
                continue
            if side not in out or frame not in looked:
                there = "is not there" if frame >= view.n_frames else "has no masks"
                raise CinemaError(f"the correction '{prefix}{phase}' is frame {frame}, which {there}.")
            before = getattr(found.phases.get(side), phase, None)
            out[side] = replace(out[side], **{phase: frame})
            said.append(f"{phase.upper()} of the {side.upper()}: frame {frame} instead of {before}")
    return out
