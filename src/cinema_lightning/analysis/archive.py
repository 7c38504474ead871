"""What goes back to the archive, with the patient's identifiers: in a folder of its own, and nowhere else."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from cinema_lightning.analysis.sources import nifti_files, sources_of
from cinema_lightning.analysis.values import Result
from cinema_lightning.errors import CinemaError
from cinema_lightning.files import replacing

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

OBJECTS = ("ed", "es", "cine", "report")


def archive_objects(path: Path, result: Result, *, masks: bool = True, cine: bool = False) -> dict[str, Dataset]:
    """Makes a study's DICOM.

    Args:
        path: Folder or zip of the study.
        result: The study.
        masks: Masks of the short axis at ED and ES of the LV, and the report of the numbers where there are any.
        cine: Masks of the whole beat as one object.

    Returns:
        Name -> object.

    Raises:
        CinemaError: If the study came as NIfTI, or none of its images lies on the masks' grid.
    """
    from cinema_lightning.analysis.dicom_seg import cine_segmentation, phase_segmentation  # they bring highdicom
    from cinema_lightning.analysis.dicom_sr import report, versions
    from cinema_lightning.analysis.originals import each_once, find_originals

    if nifti_files(path):
        raise CinemaError("the study is NIfTI, so that there is no DICOM to go back to: leave --dicom out.")
    view, found = result.study.views.get("sax"), result.segmented.get("sax")
    if view is None or found is None or "lv" not in found.phases:
        return {}
    with sources_of(path) as sources:
        originals = find_originals(sources, view)
    edited, made = len(result.corrections) > 0, dict[str, "Dataset"]()
    if masks:
        phases = found.phases["lv"]
        for name, frame in (("ED", phases.ed), ("ES", phases.es)):
            if (found.labels[..., frame] > 0).any():  # a study may be refused since there is nothing
                made[name.lower()] = phase_segmentation(
                    found.labels, view, originals, frame, name, versions(), edited=edited
                )
        if result.quality != "refuse":
            images = each_once([*originals.of_frame(phases.ed), *originals.of_frame(phases.es)])
            evidence = [*made.values(), *images]
            made["report"] = report(result, evidence, versions())
    if cine:
        looked = found.looked_at
        made["cine"] = cine_segmentation(found.labels, view, originals, looked, versions(), edited=edited)
    return made


def write_back(folder: Path, objects: Mapping[str, Dataset]) -> None:
    """Writes objects that go back to the archive, each whole or not at all.

    Args:
        folder: Where to; made where it is missing.
        objects: File name without ending -> object; files of an earlier result that are not among them are removed.

    Raises:
        CinemaError: If they cannot be written.
    """
    try:
        for name, made in objects.items():
            with replacing(folder / f"{name}.dcm") as temporary:
                made.save_as(temporary, enforce_file_format=True)
        for name in set(OBJECTS) - set(objects):
            (folder / f"{name}.dcm").unlink(missing_ok=True)
    except OSError as error:
        raise CinemaError(f"{folder} cannot be written ({error.strerror or error}): free some space.") from None
