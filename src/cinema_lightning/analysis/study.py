"""One study from its files to its result, as a value."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from cinema_lightning.analysis import gate
from cinema_lightning.analysis.calibration import Calibration, intervals
from cinema_lightning.analysis.choose import Choice
from cinema_lightning.analysis.corrections import Corrections, corrected
from cinema_lightning.analysis.heart import heart_of
from cinema_lightning.analysis.keys import keyed
from cinema_lightning.analysis.measure import measure
from cinema_lightning.analysis.networks import DEFAULT, Networks, load_networks
from cinema_lightning.analysis.nifti import read_nifti_study
from cinema_lightning.analysis.reference import references
from cinema_lightning.analysis.segment import Progress, landmarks, segment
from cinema_lightning.analysis.sort import read_dicom
from cinema_lightning.analysis.sources import nifti_files, sources_of, unquoted
from cinema_lightning.analysis.values import Check, Landmarks, Measured, Result, Segmented, Study
from cinema_lightning.errors import CinemaError
from cinema_lightning.runs import software_versions
from cinema_lightning.views import VIEWS

OF_NUMBERS = ("lv_edv", "lv_ef", "stroke_volumes", "mass_change")
"""Checks whose sentences say the study's numbers; a refused study has them only where they are why."""


def analyse(
    study: str | Path,
    weights: str | Path | Sequence[str | Path] = DEFAULT,
    *,
    fast: bool = False,
    choose: Choice | None = None,
    thresholds: Path | None = None,
) -> Result:
    """Analyses one study: what ``cinema analyse`` does, as a value.

    Args:
        study: Folder or zip of DICOM, or NIfTI file or folder of ``<view>.nii.gz``.
        weights: One or several networks (published names, runs, files); several for one view are an ensemble.
        fast: Segment 40% of the frames only, around ED and ES.
        choose: Which of several studies of one person: latest or earliest.
        thresholds: YAML of thresholds that differ from the gate's own.

    Returns:
        The result. Its key is new each time; ``cinema analyse`` keeps the secret by which keys stay the same.

    Raises:
        CinemaError: If there is nothing to analyse, in one sentence.
    """
    secret = secrets.token_bytes(32)
    found = read_study(Path(study), lambda identity: keyed(secret, identity), choose)
    given = [weights] if isinstance(weights, str | Path) else list(weights)
    return analyse_study(found, load_networks(given), fast=fast, thresholds=thresholds)


def read_study(
    path: Path,
    name: Callable[[str], str],
    choose: Choice | None = None,
    series: Mapping[str, tuple[int, ...]] | None = None,
) -> Study:
    """Reads a study of either kind.

    Args:
        path: Folder, zip or file.
        name: Makes its key of what identifies it.
        choose: Which of several studies of one person.
        series: View -> running numbers of series, where a person decided.

    Returns:
        The study.

    Raises:
        CinemaError: See :func:`~.sort.read_dicom` and :func:`~.nifti.read_nifti_study`.
    """
    images = nifti_files(path)
    if images:
        if series:
            raise CinemaError("the correction 'series' is for DICOM; name other NIfTI files after their view instead.")
        return read_nifti_study(images, name)
    with sources_of(path) as sources, unquoted():
        return read_dicom(sources, name, choose, series or {})


def found_by(
    networks: Networks,
    study: Study,
    *,
    only: Collection[str] | None = None,
    fast: bool = False,
    progress: Progress | None = None,
) -> tuple[dict[str, Segmented], dict[str, Landmarks]]:
    """Masks and landmarks of each view for which there is a network, or of some views only."""
    heart = heart_of(study.views)
    views = {name: view for name, view in study.views.items() if only is None or name in only}
    segmented = {
        name: segment(view, networks.masks[name], heart=heart, fast=fast, progress=progress)
        for name, view in views.items()
        if name in networks.masks
    }
    points = {name: landmarks(view, networks.points[name]) for name, view in views.items() if name in networks.points}
    return segmented, points


def analyse_study(
    study: Study,
    networks: Networks,
    *,
    fast: bool = False,
    thresholds: Path | None = None,
    progress: Progress | None = None,
) -> Result:
    """Segments, measures and judges a study that was read.

    Args:
        study: The study.
        networks: The networks.
        fast: See :func:`analyse`.
        thresholds: See :func:`analyse`.
        progress: Told of each step.

    Returns:
        The result.
    """
    segmented, points = found_by(networks, study, fast=fast, progress=progress)
    found = Result(
        study,
        segmented,
        Measured({}),
        landmarks=points,
        made_with=made_with(networks.digests),
        by_phantoms=of_phantoms(networks.by_phantoms, segmented, points),
    )
    return judged(found, thresholds, networks.calibration)


def of_phantoms(views: Collection[str], *found: Mapping[str, object]) -> tuple[str, ...]:
    """Those of the views, by whose networks something was found."""
    return tuple(view for view in VIEWS if view in views and any(view in one for one in found))


def judged(result: Result, thresholds: Path | None = None, calibration: Calibration | None = None) -> Result:
    """Measures a study whose masks are there, and lets the gate judge it.

    Args:
        result: Study, masks and landmarks; its numbers are made anew.
        thresholds: See :func:`analyse`.
        calibration: Of the networks that made the masks; None, as for masks that a person edited, gives no intervals.

    Returns:
        The result; without numbers where the gate refuses.
    """
    study = result.study
    measured = measure(study, result.segmented, result.landmarks)
    problems = [
        Check("short_axis", "refuse", f"There are no volumes: {problem}.") for problem in study.problems.values()
    ]
    limits = gate.read_limits(thresholds)
    checks = (*problems, *gate.check(study, result.segmented, measured, limits, result.by_phantoms))
    if any(check.verdict == "refuse" for check in checks):
        told = tuple(check for check in checks if check.verdict == "refuse" or check.name not in OF_NUMBERS)
        return replace(result, measured=gate.without_numbers(measured), checks=told, references=())
    ranges, said = references(measured, study.person)
    measured = replace(measured, notes=(*measured.notes, *([said] if said else [])))
    whole = replace(result, measured=measured, checks=checks, references=ranges)
    return replace(whole, intervals=intervals(whole, calibration) if calibration else ())


def corrected_result(result: Result, corrections: Corrections, thresholds: Path | None = None) -> Result:
    """Measures a study again with what a person corrected, without a network.

    Args:
        result: The study with its masks.
        corrections: The corrections.
        thresholds: See :func:`analyse`.

    Returns:
        The result, which says what was changed.

    Raises:
        CinemaError: If a correction names what is not there.
    """
    missing = [view for view in corrections.masks if view not in result.segmented]
    if missing:
        raise CinemaError(f"the correction 'masks.{missing[0]}' is for a view that was not segmented.")
    segmented, said = {}, list(result.corrections)
    for name, found in result.segmented.items():
        segmented[name], more = corrected(result.study.views[name], found, corrections)
        said += more
    if corrections.series:
        named = ", ".join(f"{view} of series {'+'.join(map(str, own))}" for view, own in corrections.series.items())
        said.append(f"{named}, {corrections.source}")
    return judged(replace(result, segmented=segmented, corrections=tuple(said)), thresholds)


def made_with(digests: Mapping[str, str]) -> dict[str, str]:
    """Versions of the software, and digests of the weights."""
    versions = software_versions()
    kept = ("cinema-lightning", "torch", "numpy", "monai", "python")
    return {**{name: versions[name] for name in kept if name in versions}, **digests}
