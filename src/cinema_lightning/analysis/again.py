"""A study that was analysed before: its masks as the network made them, which is what a person corrects."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cinema_lightning.analysis.corrections import Corrections
from cinema_lightning.analysis.networks import Networks
from cinema_lightning.analysis.record import landmarks_of
from cinema_lightning.analysis.segment import of_labels
from cinema_lightning.analysis.study import found_by, made_with, of_phantoms
from cinema_lightning.analysis.values import Measured, Result, Segmented, Study, View
from cinema_lightning.analysis.write import UNCORRECTED, read_record, uncorrected
from cinema_lightning.errors import CinemaError
from cinema_lightning.imaging.nifti import read_nifti


def analysed(
    study: Study, folder: Path, corrections: Corrections, load: Callable[[], Networks], *, fast: bool = False
) -> Result:
    """A study with what was found in it before, without numbers.

    Args:
        study: The study, read again with the series that the corrections name.
        folder: Its result.
        corrections: The corrections; views of other series than then are segmented anew.
        load: Loads the networks, where they are needed.
        fast: See :func:`~.study.analyse`.

    Returns:
        Masks and landmarks.

    Raises:
        CinemaError: If there is no result, it does not fit the images, or other networks than then are given.
    """
    record = read_record(folder, UNCORRECTED) or read_record(folder)
    if record is None:
        raise CinemaError("it has no result to correct: run it without --corrections first.")
    kept = [name for name in study.views if name not in corrections.series]
    segmented = {
        name: _read_back(folder, study.views[name], record["views"][name]["looked_at"])
        for name in kept
        if "looked_at" in record["views"].get(name, {})
    }
    points = {name: own for name, own in landmarks_of(record).items() if name in kept}
    digests, unreal = _weights(record["made_with"]), {*(record.get("by_phantoms") or ())}
    if corrections.series:
        networks = load()
        if set(networks.digests.values()) != set(digests.values()):
            raise CinemaError("its masks were made with other --weights: give the same to segment other series.")
        masks, more = found_by(networks, study, only=corrections.series, fast=fast)
        segmented, points, unreal = segmented | masks, points | more, unreal | networks.by_phantoms
    return Result(
        study,
        segmented,
        Measured({}),
        landmarks=points,
        made_with=made_with(digests),
        by_phantoms=of_phantoms(unreal, segmented, points),
    )


def _weights(facts: Mapping[str, Any]) -> dict[str, str]:
    return {name: str(what) for name, what in facts.items() if name.startswith("weights")}


def _read_back(folder: Path, view: View, looked_at: list[int]) -> Segmented:
    """The network's own masks."""
    path = folder / uncorrected(view.name)
    path = path if path.is_file() else folder / f"{view.name}.nii.gz"
    labels, _ = read_nifti(path, dims=4)
    if labels.shape != view.frames.shape:
        raise CinemaError(f"the {view.name} masks do not fit the images any more: run it again without --corrections.")
    return of_labels(labels.astype(np.uint8), view, looked_at)
