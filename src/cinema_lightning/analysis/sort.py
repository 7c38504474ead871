"""A DICOM study to its views, with a line for each series: what it was taken for, and why.

Where the planes lie decides; descriptions are one vote. Frames are sorted by place, not by series, as preparation does
(:mod:`cinema_lightning.imaging.dicom`); what is added here is that every series is accounted for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from cinema_lightning.analysis.choose import Choice, is_derived, one_study, why_no_cine
from cinema_lightning.analysis.headers import Header, identity_of, of_phantom, person_of, read_headers, scanner_of
from cinema_lightning.analysis.sources import Source, files_of
from cinema_lightning.analysis.values import AsScanned, Series, Study, View
from cinema_lightning.datasets.dicom_study import centre_of, long_axes_of, normal_of, plane_of, short_axis_of
from cinema_lightning.errors import CinemaError
from cinema_lightning.imaging.dicom import Cine, latest, read_folder, sort_slices
from cinema_lightning.imaging.dicom_file import DicomFile, DicomImage
from cinema_lightning.imaging.planes import (
    FEWEST_PHASES,
    OTHER_PLANE,
    PARALLEL,
    UPRIGHT,
    is_of_stack,
    no_cine_word,
    recognised,
    vote,
)
from cinema_lightning.imaging.stack import Stack, single, stack
from cinema_lightning.views import get_view

# A beat takes no longer, ms; frames over more time are another kind of series (perfusion, real time).
LONGEST_BEAT = 2500.0


@dataclass(frozen=True)
class _Group:
    """The files of one series."""

    number: int
    headers: tuple[Header, ...]
    reason: str

    @property
    def words(self) -> str:
        """What of its description is recognised."""
        return recognised(self.headers[0].words)


@dataclass(frozen=True)
class _Found:
    """Views by geometry."""

    sax: Stack | None
    long_axes: dict[str, Cine]
    problem: str
    warnings: tuple[str, ...]
    free: tuple[Cine, ...] = ()

    def used(self) -> list[tuple[str, Cine]]:
        """View and cine of all that is used."""
        slices = [("sax", cine) for cine in (self.sax.slices if self.sax else ()) if cine is not None]
        return [*slices, *self.long_axes.items()]


def read_dicom(
    sources: Sequence[Source],
    name: Callable[[str], str],
    choose: Choice | None = None,
    decided: Mapping[str, tuple[int, ...]] | None = None,
) -> Study:
    """Reads and sorts a study.

    Args:
        sources: Its files.
        name: Makes the study's key of what identifies it.
        choose: Which of several studies of one person.
        decided: View -> running numbers of the series that a person said it is; other views are found as ever.

    Returns:
        The study.

    Raises:
        CinemaError: If it is no study of one person with cines of the heart; the sentence names nothing of the headers.
    """
    headers, unreadable = read_headers(sources)
    headers = one_study(headers, unreadable, choose)
    decided = decided or {}
    groups = _decided(_groups(headers), decided)
    warnings = [f"{unreadable} files are no DICOM and were left out"] if unreadable else []
    images, said = _images(groups)
    cines, more = sort_slices(images)
    warnings += [*said, *more]
    beating, others = _beating(cines)
    found = _views(beating, decided)
    person, more = person_of(headers)
    warnings += [*more, *found.warnings]
    series = _listed(groups, beating, others, found)
    if not found.used() and not found.problem:
        raise CinemaError(nothing(series))
    return Study(
        key=name(identity_of(headers)),
        views=_as_views(found),
        series=series,
        person=person,
        scanner=scanner_of(headers),
        phantom=of_phantom(headers),
        warnings=tuple(warnings),
        problems={"sax": found.problem} if found.problem else {},
        pictures=_pictures(beating),
    )


def _groups(headers: Sequence[Header]) -> list[_Group]:
    """Series in the order in which they were scanned; of two that may be cines a derived one gives way."""
    series: dict[str, list[Header]] = {}
    for header in headers:
        series.setdefault(header.series, []).append(header)
    ordered = sorted(series.values(), key=lambda found: (found[0].order, found[0].source.number))
    reasons = [why_no_cine(found) for found in ordered]
    original = any(not reason and not is_derived(found) for reason, found in zip(reasons, ordered, strict=True))
    groups = []
    for number, (reason, found) in enumerate(zip(reasons, ordered, strict=True), start=1):
        derived = original and not reason and is_derived(found)
        word = no_cine_word(found[0].words)
        reason = reason or ("it was computed from another series" if derived else "")
        groups.append(_Group(number, tuple(found), reason or (f"it is called {word}" if word else "")))
    return groups


def _decided(groups: list[_Group], decided: Mapping[str, tuple[int, ...]]) -> list[_Group]:
    """Series that a person named are looked at, whatever they are called."""
    named = {number for numbers in decided.values() for number in numbers}
    missing = named - {group.number for group in groups if any(header.has_image for header in group.headers)}
    if missing:
        raise CinemaError(f"the correction 'series' names series {min(missing)}, which is no series of images.")
    return [replace(group, reason="") if group.number in named else group for group in groups]


def _images(groups: Sequence[_Group]) -> tuple[list[DicomImage], list[str]]:
    """Frames of all series that may be cines, under the numbers of series and file."""
    images: list[DicomImage] = []
    said, left_out = list[str](), list[str]()
    for group in groups:
        if group.reason:
            continue
        # Text may be burnt into single pictures of a series; what it says is not known.
        plain = [header for header in group.headers if not header.coloured]
        if len(plain) < len(group.headers):
            count = len(group.headers) - len(plain)
            left_out.append(f"series {group.number}: {count} pictures in colour or with burnt-in text were left out")
        files = [DicomFile(f"file {header.source.number:05d}", header.source.read) for header in plain]
        try:
            found = read_folder(files, f"series {group.number}", [])
        except CinemaError:
            found = []
        # Reasons of decoders quote headers, so only the number of files is said.
        lost = len(files) - len({image.name.partition("#")[0] for image in found})
        if lost:
            said.append(f"series {group.number}: {lost} of {len(files)} files cannot be read (cut short or damaged)")
        images += [replace(image, description=group.headers[0].words) for image in found if not image.velocity]
    if said and not images:
        raise CinemaError(f"none of its cines can be read: {said[0]}; copy the study again.")
    return images, [*said, *left_out]


def _beating(cines: Sequence[Cine]) -> tuple[list[Cine], dict[str, str]]:
    """Cines, and of the others by name why they are none."""
    most = max((cine.found for cine in cines), default=0)
    place = _one_place(cines)
    reasons: dict[str, str] = {}
    for cine in cines:
        if cine.found < min(FEWEST_PHASES, most) or most < 2:
            reasons[cine.name] = f"it has {cine.found} {'image' if cine.found == 1 else 'images'} at a place: no cine"
        elif cine.times and 2 * len(set(cine.times)) < len(cine.times):
            reasons[cine.name] = "its frames are not moments of one beat"
        elif cine.times and cine.times[-1] - cine.times[0] > LONGEST_BEAT:
            reasons[cine.name] = "its frames last longer than a beat"
        elif place and cine.study[1] not in ("", place):
            reasons[cine.name] = "the person was moved between it and most others (another frame of reference)"
    return [cine for cine in cines if cine.name not in reasons], reasons


def _one_place(cines: Sequence[Cine]) -> str:
    """Frame of reference of most cines, whose positions can be compared; empty where they all have their own."""
    counts = Counter(cine.study[1] for cine in cines if cine.study[1])
    (most, count), *_ = counts.most_common(1) or [("", 0)]
    return most if 2 * count > len(cines) else ""


def _views(cines: list[Cine], decided: Mapping[str, tuple[int, ...]]) -> _Found:
    """Views by where the planes lie, but for those that a person decided."""
    warnings: list[str] = []
    taken = {number for numbers in decided.values() for number in numbers}
    free = [cine for cine in cines if _number(cine.name) not in taken]
    slices = _of(cines, decided["sax"]) if "sax" in decided else short_axis_of([], free, warnings)
    sax, problem = None, ""
    if slices:
        try:
            sax = stack(slices)
        except CinemaError as error:
            problem = str(error)
    long_axes = long_axes_of([cine for cine in free if cine not in slices], sax, warnings)
    named = {view: latest(_of(cines, numbers))[0] for view, numbers in decided.items() if view != "sax"}
    long_axes = {**long_axes, **named}
    warnings += [said for cine in long_axes.values() for said in cine.warnings]
    rest = tuple(cine for cine in cines if cine not in slices)
    return _Found(sax, long_axes, problem, tuple(warnings), rest)


def _of(cines: Sequence[Cine], numbers: tuple[int, ...]) -> list[Cine]:
    """Cines of some series."""
    found = [cine for cine in cines if _number(cine.name) in numbers]
    if not found:
        raise CinemaError(f"the correction 'series' names series {numbers[0]}, which holds no cine that can be read.")
    return found


def _listed(
    groups: Sequence[_Group], cines: Sequence[Cine], others: dict[str, str], found: _Found
) -> tuple[Series, ...]:
    own: dict[int, list[Cine]] = {}
    for cine in cines:
        own.setdefault(_number(cine.name), []).append(cine)
    reasons = {_number(name): reason for name, reason in others.items()}
    used = {cine.name: view for view, cine in found.used()}
    return tuple(
        _line(group, own.get(group.number, []), reasons.get(group.number, ""), used, found) for group in groups
    )


def _number(name: str) -> int:
    """Number of the series that a cine is named after: ``series 3/file 00012``."""
    return int(name.partition("/")[0].split()[1])


def _line(group: _Group, cines: list[Cine], reason: str, used: dict[str, str], found: _Found) -> Series:
    headers = group.headers
    views = list(dict.fromkeys(used[cine.name] for cine in cines if cine.name in used))
    normal, centre = normal_of(found.sax), centre_of(found.sax)
    plane = plane_of(cines[0]) if cines else None
    angle = None if plane is None or normal is None else _angle(plane.normal, normal)
    distance = None if plane is None or centre is None or "sax" in views else plane.distance(centre)
    if views:
        why = _why_used(group, views, angle, cines, used)
    elif group.reason or not cines:
        why = group.reason or reason or "none of its images can be read, or says where it lies"
    else:
        why = _why_not(angle, distance, cines, found)
    header = headers[0]
    count = sum(header.frames for header in headers)
    return Series(
        number=group.number,
        taken_for="+".join(views) or "none",
        why=why,
        words=group.words,
        images=count,
        slices=len(cines) or len({header.place for header in headers if header.place}),
        phases=max((cine.found for cine in cines), default=1 if header.has_image else 0),
        size=header.size if header.has_image else None,
        spacing=cines[0].spacing if cines else header.spacing,
        thickness=cines[0].thickness if cines else header.thickness,
        angle=None if angle is None else round(angle, 1),
        axis_distance=None if distance is None else round(distance, 1),
    )


def _angle(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.degrees(np.arccos(min(1.0, abs(float(one @ other))))))


def _why_used(group: _Group, views: list[str], angle: float | None, cines: list[Cine], used: dict[str, str]) -> str:
    count = sum(cine.name in used for cine in cines)
    slices = "1 slice lies" if count == 1 else f"{count} slices lie"
    said = f"{slices} like {' and '.join(get_view(view).display for view in views)}"
    if angle is not None and "sax" not in views:
        said += f", {angle:.0f} degrees to the short axis"
    voted = vote(group.headers[0].words)
    if voted is not None and voted not in views:
        said += f"; its description says {get_view(voted).display}, which the geometry contradicts"
    return said


def _why_not(angle: float | None, distance: float | None, cines: list[Cine], found: _Found) -> str:
    if any(_same_place(cine, other) for cine in cines for _, other in found.used()):
        return "it lies where another series does that is more complete or was acquired later"
    if found.problem and angle is None:
        return "the short axis cannot be put together"
    if is_of_stack(plane_of(cines[0]), [plane_of(cine) for cine in found.free]):
        return "it is a stack of parallel slices that does not lie like a short axis"
    if angle is None:
        return "there is no short axis to compare it with, and no other view fits"
    if angle <= PARALLEL:
        return "it is parallel to the short axis, but fits none of its places"
    if angle < UPRIGHT:
        return f"it lies neither in the short axis nor upright on it ({angle:.0f} degrees)"
    if distance is not None and distance > OTHER_PLANE:
        return f"its plane passes {distance:.0f} mm beside the axis of the left ventricle: another part of the heart"
    return "it holds the axis of the left ventricle, but another plane fits better or its view cannot be told"


def _same_place(one: Cine, other: Cine) -> bool:
    near = np.linalg.norm(one.position - other.position) <= 1.0
    return bool(near and np.allclose(one.directions, other.directions, atol=0.01))


def nothing(series: Sequence[Series]) -> str:
    """The sentence for a study without a view of the heart.

    Args:
        series: What its series were taken for.
    """
    kinds = "; ".join(f"series {line.number}: {line.why}" for line in series[:4])
    more = f"; and {len(series) - 4} more" if len(series) > 4 else ""
    return f"it holds no cine of a view of the heart ({kinds}{more}): export its cine series too."


def _as_views(found: _Found) -> dict[str, View]:
    views = {view: _long_axis(view, cine) for view, cine in found.long_axes.items()}
    return {"sax": _short_axis(found.sax), **views} if found.sax else views


def _short_axis(sax: Stack) -> View:
    cines = [cine for cine in sax.slices if cine is not None]
    heights = _heights(cines, sax.affine)
    order = np.argsort(heights)
    scanned = replace(
        _common(cines),
        heights=tuple((heights[order] - heights.min()).round(3).tolist()),
        phases=tuple(cines[index].found for index in order),
        filled=tuple(place for place, cine in enumerate(sax.slices) if cine is None),
        left_out=sax.left_out,
    )
    return replace(_view("sax", sax.frames, sax.affine, cines, scanned, sax.warnings), files=files_of(sax))


def _heights(cines: Sequence[Cine], affine: np.ndarray) -> np.ndarray:
    """Middles of the slices along the stack's slice axis, mm."""
    axis = affine[:3, 2] / np.linalg.norm(affine[:3, 2]) * [-1, -1, 1]  # RAS to LPS
    return np.array([plane_of(cine).centre @ axis for cine in cines])


def _long_axis(view: str, cine: Cine) -> View:
    frames, affine = single(cine)
    return _view(view, frames, affine, [cine], _common([cine]), cine.warnings)


def _common(cines: Sequence[Cine]) -> AsScanned:
    def median(values: list[float | None]) -> float | None:
        known = [value for value in values if value is not None]
        return float(np.median(known)) if known else None

    asked = median([cine.expected for cine in cines])
    return AsScanned(
        phases=tuple(cine.found for cine in cines),
        asked=None if asked is None else round(asked),
        thickness=median([cine.thickness for cine in cines]),
        between=median([cine.between for cine in cines]),
        beat=median([_share(cine) for cine in cines]),
    )


def _share(cine: Cine) -> float | None:
    """How much of the beat the frames cover."""
    steps = np.diff(sorted(set(cine.times)))
    if cine.rr is None or not steps.size:
        return None
    return (cine.times[-1] - cine.times[0] + float(np.median(steps))) / cine.rr


def _view(
    name: str,
    frames: np.ndarray,
    affine: np.ndarray,
    cines: Sequence[Cine],
    scanned: AsScanned,
    warnings: Sequence[str],
) -> View:
    beats = [cine.rr for cine in cines if cine.rr is not None]
    return View(
        name,
        np.moveaxis(frames, 0, -1),
        affine,
        scanned,
        rr=float(np.median(beats)) if beats else None,
        rr_range=(min(beats), max(beats)) if beats else None,
        warnings=tuple(warnings),
    )


def _pictures(cines: Sequence[Cine]) -> dict[int, np.ndarray]:
    """First frame of the middle slice of each series."""
    own: dict[int, list[Cine]] = {}
    for cine in cines:
        own.setdefault(_number(cine.name), []).append(cine)
    return {number: found[len(found) // 2].frames[0] for number, found in own.items()}
