"""Which files belong to the one study that is analysed: one person's, one examination's, and of the right kind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Literal

from cinema_lightning.analysis.headers import Header
from cinema_lightning.errors import CinemaError

Choice = Literal["latest", "earliest"]


def one_study(headers: Sequence[Header], unreadable: int, choose: Choice | None) -> list[Header]:
    """Headers of the study to analyse.

    Args:
        headers: Headers of all files.
        unreadable: How many files besides were no DICOM.
        choose: Which of several studies of one person.

    Returns:
        Those of one study.

    Raises:
        CinemaError: If there is no MR image, or files are of several persons; or of several studies, and nothing says
            which is meant. What they are is not said.
    """
    if not headers:
        raise CinemaError(f"none of its {unreadable} files is readable DICOM: give the export of the scanner or PACS.")
    _check_persons(headers)
    chosen = _chosen(headers, choose)
    images = [header for header in chosen if header.has_image]
    if not images:
        raise CinemaError(f"its {len(chosen)} DICOM files hold no images (reports and the like): export images too.")
    grey = [header for header in images if header.modality == "MR" and not header.coloured]
    if not grey and all(header.coloured for header in images):
        raise CinemaError("it holds colour pictures only (screen saves): export the original images.")
    if not grey:
        kinds = ", ".join(sorted({header.modality for header in images}))
        raise CinemaError(f"its images are {kinds}, none is MR: give a study of cardiac MR.")
    return chosen


def _check_persons(headers: Sequence[Header]) -> None:
    """One person by each of the three that tell persons apart; a part that is missing tells nothing."""
    for number, name in enumerate(("PatientID", "PatientName", "PatientBirthDate")):
        known = {header.identity[number] for header in headers if header.identity[number].strip("0")}
        if len(known) > 1:
            raise CinemaError(
                f"its files are of {len(known)} persons ({name} differs): nothing was analysed; put the files of each "
                "person into a folder of their own."
            )


def _chosen(headers: Sequence[Header], choose: Choice | None) -> list[Header]:
    studies = {header.study for header in headers} - {""}
    # One examination that an archive split in two has one frame of reference and one day.
    references = {header.reference for header in headers} - {""}
    days = {header.moment[:8] for header in headers if header.study}
    if len(studies) < 2 or (len(references) == 1 and len(days) == 1):
        return list(headers)
    moments = {study: max(header.moment for header in headers if header.study == study) for study in studies}
    if choose is None:
        raise CinemaError(
            f"its files are of {len(studies)} studies of one person: choose with --choose latest or --choose earliest, "
            "or give the folder of one."
        )
    best = (max if choose == "latest" else min)(moments.values())
    named = [study for study, moment in moments.items() if moment == best]
    if len(named) > 1:
        raise CinemaError(f"its {len(studies)} studies have one date, so none is the {choose}: give the folder of one.")
    return [header for header in headers if header.study in (named[0], "")]


def why_no_cine(headers: Sequence[Header]) -> str:
    """Why a series cannot be a cine of the heart, by its headers alone.

    Args:
        headers: Its files.

    Returns:
        A reason in recognised words; empty where it may be one.
    """
    first = headers[0]
    modality = Counter(header.modality for header in headers).most_common(1)[0][0]
    tokens = {part for header in headers for part in header.kind}
    inversions = {header.inversion for header in headers if header.inversion}
    reasons = {
        f"it holds no images ({modality})": not any(header.has_image for header in headers),
        "it holds colour pictures or burnt-in text": all(header.coloured for header in headers),
        f"its modality is {modality}": modality != "MR",
        "it is a screen save": bool({"SCREEN SAVE", "SCREENSAVE"} & tokens),
        "it is a localiser": "LOCALIZER" in tokens,
        "it is a map": any("MAP" in part and part != "PHASE MAP" for part in tokens),
        "it is a projection or was reformatted": bool({"MPR", "MIP", "PROJECTION IMAGE", "CSA REPORT"} & tokens),
        "it shows flow": bool({"PCA", "VELOCITY"} & tokens) or "_v" in first.sequence or first.kind[2:3] == ("P",),
        "it is tagged": "tag" in first.sequence,
        "its inversion times vary (a scout)": len(inversions) > 1,
    }
    return next((reason for reason, applies in reasons.items() if applies), "")


def is_derived(headers: Sequence[Header]) -> bool:
    """Whether a series was computed from others."""
    return all(header.kind[:1] == ("DERIVED",) for header in headers)
