"""The images and label maps of one study of own data: NIfTI, PNG, or folders of DICOM files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from cinema_lightning.datasets.base import CaseRef, RawCase, RawSeries
from cinema_lightning.datasets.described.description import Description
from cinema_lightning.datasets.described.marks import placed
from cinema_lightning.datasets.described.patterns import PHASES
from cinema_lightning.datasets.described.studies import Entry, by_view, frame_numbers
from cinema_lightning.datasets.dicom_study import StudyFiles, read_study, study_files
from cinema_lightning.errors import CinemaError
from cinema_lightning.imaging.alignment import Volume, one_series
from cinema_lightning.imaging.geometry import LPS_TO_RAS
from cinema_lightning.imaging.nifti import read_volume
from cinema_lightning.imaging.png import read_png
from cinema_lightning.views import VIEWS


@dataclass
class _Study:
    """A study on its way: what was said of it, and what was read.

    Attributes:
        description: Facts.
        case: The study as it was listed.
        entries: Its files.
        phases: ED and ES -> place in the series, from 0.
    """

    description: Description
    case: CaseRef
    entries: Sequence[Entry]
    phases: dict[str, int] = field(default_factory=dict)

    def pixels(self, view: str) -> tuple[float, float]:
        return self.description.views[view].pixel_size or (1.0, 1.0)

    def volume(self, entry: Entry, *, labels: bool = False) -> Volume:
        """One file, (X, Y, Z, T)."""
        if entry.path.suffix.lower() != ".png":
            return read_volume(entry.path, dims=4, geometry=self.case.geometry)
        plane = read_png(entry.path, labels=labels)[:, :, None, None]
        x, y = self.pixels(entry.view)
        return Volume(plane, LPS_TO_RAS @ np.diag([x, y, 1.0, 1.0]), str(entry.path), "unknown")

    def frame(self, entry: Entry, *, labels: bool = False) -> Volume:
        """A file of one frame, (X, Y, Z)."""
        volume = self.volume(entry, labels=labels)
        count = volume.voxels.shape[-1]
        if count != 1:
            word = entry.phase or entry.sequence or f"frame {entry.frame}"
            raise CinemaError(f"{volume.name} has {count} frames, and by its name it is {word} alone")
        return replace(volume, voxels=volume.voxels[..., 0])


def read_images(entries: Sequence[Entry], description: Description, case: CaseRef) -> RawCase:
    """Reads a study.

    Args:
        entries: Its files.
        description: Facts of the dataset.
        case: The study as it was listed, with the places of ED and ES where a table says them.

    Returns:
        Its series with label maps; their codes are in the files' provenance, so that predictions come back in them.

    Raises:
        CinemaError: If a file cannot be read, or files contradict each other.
    """
    known = {name: case.args[f"{name.lower()}_frame"] for name in PHASES if f"{name.lower()}_frame" in case.args}
    study = _Study(description, case, entries, known)
    raw = _dicom(study)
    for view, files in by_view(entries, "image").items():
        if view not in raw.series:
            raw.series[view] = _series(study, files)
    _check_phases_alone(study, raw.series)
    for view, files in by_view(entries, "label").items():
        if view in raw.series:
            labels = _labels(study, view, files, raw.series[view])
            _check_counting(study, files, labels)
            raw.series[view].labels = labels
    codes = description.codes
    for series in raw.series.values():
        series.facts["label_codes"] = {str(codes[name]): raws[0] for name, raws in description.labels.items()}
    counts = {view: len(series.frames) for view, series in raw.series.items()}
    marks = case.args.get("landmarks", [])
    absent = sorted({mark[0] for mark in marks} - set(counts))
    raw.warnings += [f"{view}: there are landmarks and no image of it" for view in absent]
    named = {view: frame_numbers(entries, view) for view in counts}
    raw.landmarks += placed(marks, counts, study.phases, named, description.frames_from)
    raw.fields |= {f"{name.lower()}_frame": place for name, place in study.phases.items()}
    return raw


def _dicom(study: _Study) -> RawCase:
    """The views that lie in folders of DICOM files."""
    folders = [entry for entry in study.entries if entry.role != "label" and entry.path.is_dir()]
    if not folders:
        return RawCase({})
    files = StudyFiles()
    for entry in folders:
        found = study_files(entry.path)
        for view, named in found.named.items():
            for name, some in named.items():
                files.add(entry.view or view, name, some)
        for name, some in found.unnamed.items():
            files.add(entry.view or None, name, some)
    views = [view for view in VIEWS if view in {entry.view for entry in folders} or any(not e.view for e in folders)]
    return read_study(files, views)


def _series(study: _Study, files: Sequence[Entry]) -> RawSeries:
    """A view from one file, or from a file for each phase, frame or sequence."""
    if len(files) == 1:
        image = study.volume(files[0])
        if files[0].phase or files[0].frame is not None:
            image = study.frame(files[0])
        return RawSeries.of(image, {})
    image = one_series([study.frame(entry) for entry in files])
    facts = {"channels": [entry.sequence for entry in files]} if files[0].sequence else {}
    if all(entry.phase for entry in files):
        study.phases |= {entry.phase: place for place, entry in enumerate(files)}
    return RawSeries.of(image, {}, facts)


def _check_phases_alone(study: _Study, series: Mapping[str, RawSeries]) -> None:
    """ED and ES alone in one view and a cine in another cannot be counted in one way."""
    alone = {entry.view for entry in study.entries if entry.role == "image" and entry.phase}
    counts = {view: len(one.frames) for view, one in series.items()}
    if alone and len(set(counts.values())) > 1:
        said = ", ".join(f"{view} {count}" for view, count in counts.items())
        raise CinemaError(
            f"its views have different numbers of frames ({said}), and those of {', '.join(sorted(alone))} are ED and "
            "ES alone: describe ED and ES in all views, or the cine in all"
        )


def _labels(study: _Study, view: str, files: Sequence[Entry], series: RawSeries) -> dict[int, Volume]:
    """Place in the series -> label map."""
    count = len(series.frames)
    out: dict[int, Volume] = {}
    for entry in files:
        if entry.phase or entry.frame is not None:
            place = _place(study, view, entry, count)
            if place in out:
                raise CinemaError(f"{out[place].name} and {entry.path} are both of frame {place}, counted from 0")
            out[place] = study.frame(entry, labels=True)
        else:
            out |= _of_whole_file(study.volume(entry, labels=True), count, view)
    return out


def _check_counting(study: _Study, files: Sequence[Entry], labels: Mapping[int, Volume]) -> None:
    """Label maps by number and ED and ES by a table that have nothing in common are likely counted otherwise."""
    if (
        study.phases
        and all(entry.frame is not None for entry in files)
        and not set(study.phases.values()) & set(labels)
    ):
        said = " and ".join(f"{name} {place}" for name, place in study.phases.items())
        raise CinemaError(
            f"its label maps are of the frames {', '.join(map(str, labels))}, but a table says {said} (from 0): do "
            "both count from the same number (frames_from, also of a table)?"
        )


def _place(study: _Study, view: str, entry: Entry, count: int) -> int:
    """Where in the series the frame of a label map is."""
    if entry.phase:
        if entry.phase not in study.phases and count == 1:
            return 0
        if entry.phase not in study.phases:
            raise CinemaError(
                f"{entry.path} is of {entry.phase}, but nothing says which of the {count} frames that is: map the "
                f"table's columns to ed_frame and es_frame in {study.description.source}"
            )
        return study.phases[entry.phase]
    numbers, number = frame_numbers(study.entries, view), int(entry.frame or 0)
    first = study.description.frames_from
    if not numbers and first is None:
        raise CinemaError(
            f"{entry.path} is of frame {number}, but {study.description.source} does not say whether the first frame "
            "is 0 or 1: add frames_from: 0 or frames_from: 1"
        )
    place = numbers.get(number, -1) if numbers else number - int(first or 0)
    if not 0 <= place < count:
        raise CinemaError(f"{entry.path} is of frame {number}, which its image of {count} frames does not have")
    return place


def _of_whole_file(maps: Volume, count: int, view: str) -> dict[int, Volume]:
    """A file without phase or frame in its name: as many maps as frames; of several, empty ones are not drawn yet."""
    found = maps.voxels.shape[-1]
    if found != count:
        raise CinemaError(
            f"{maps.name} has {found} frames and its image in {view} {count}: name the frame or phase of label maps in "
            "their pattern, {frame} or {phase}"
        )
    each = {place: replace(maps, voxels=maps.voxels[..., place]) for place in range(count)}
    return {place: one for place, one in each.items() if count == 1 or one.voxels.any()}
