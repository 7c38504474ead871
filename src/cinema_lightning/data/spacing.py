"""At which voxel size a network sees its images: what is asked for, what a store holds, and whether the two agree."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from cinema_lightning.data.nifti import NiftiReader
from cinema_lightning.data.table import VIEW_BITS, Cohort
from cinema_lightning.errors import CinemaError
from cinema_lightning.views import get_view

Option = Literal["auto", "own"] | dict[str, list[float]]
"""What a user may say, see :class:`cinema_lightning.data.datamodule.CineDataModule`."""
Spacing = dict[str, tuple[float, ...] | None]
"""View -> voxel size in mm, one number per dimension of the view; None: each image's own."""

PROBED = 5
TOLERANCE = 0.05


def check_option(option: Option) -> None:
    """Refuses an option that is no voxel size.

    Raises:
        CinemaError: Names the view.
    """
    if isinstance(option, str):
        if option not in ("auto", "own"):
            raise CinemaError(f"spacing is '{option}'; it is auto, own, or mm by view such as {{sax: [1, 1, 10]}}.")
        return
    for view, size in option.items():
        dims = get_view(view).dims
        if len(size) != dims or not all(np.isfinite(value) and value > 0 for value in size):
            raise CinemaError(f"spacing of {view} is {list(size)}; it needs {dims} voxel sizes in mm above 0.")


def wanted_spacing(
    views: Sequence[str], option: Option, trained_at: Mapping[str, Any] | None, dataset: Mapping[str, Any]
) -> Spacing:
    """The voxel size that images are brought to.

    Args:
        views: Views in use.
        option: What the user says.
        trained_at: The ``spacing`` of a checkpoint's facts; None before training.
        dataset: Voxel sizes that the dataset declares, where they are not the views' own.

    Returns:
        Per view: of the option, else of the network, else of the dataset, else the view's.
    """
    if option == "own":
        return dict.fromkeys(views)
    given = option if isinstance(option, dict) else {}
    known = {view: get_view(view).spacing for view in views} | dict(dataset) | dict(trained_at or {}) | given
    return {view: _cut(known[view], view) for view in views}


def spacing_here(cohort: Cohort, masks: np.ndarray, views: Sequence[str], dataset: Mapping[str, Any]) -> Spacing:
    """The voxel size of the images of a cohort, as its reader hands them out.

    Args:
        cohort: The cohort.
        masks: (n,) views of each study that are in use.
        views: Views to look at.
        dataset: As of :func:`wanted_spacing`.

    Returns:
        Per view, of a store the median of a few studies; None where it varies from image to image, none can be read, or
        millimetres are not known.
    """
    if isinstance(cohort.reader, NiftiReader):
        return {view: _cut(cohort.reader.spacing.get(view), view) for view in views}
    out: Spacing = {}
    for view in views:
        rows = np.flatnonzero(masks & VIEW_BITS[view])
        places = np.unique(np.linspace(0, len(rows) - 1, min(PROBED, len(rows))).astype(int))
        found = [size for row in rows[places] if (size := _probe(cohort, str(cohort.ids[row]), view)) is not None]
        known = found and dataset.get(view, ()) is not None
        out[view] = _cut(np.median(found, axis=0).tolist(), view) if known else None
    return out


def unlike(here: Mapping[str, Any], trained_at: Mapping[str, Any]) -> str:
    """Where images have another voxel size than those that a network was trained on.

    Args:
        here: View -> voxel size of the images; None where it is not known or varies.
        trained_at: The same of those that the network was trained on.

    Returns:
        Part of a sentence about the first view that differs, such as ``SAX images of 3 x 3 x 10 mm, but the network
        was trained at 1 x 1 x 10 mm``; empty where none does.
    """
    for view, size in here.items():
        own, wanted = _cut(size, view), _cut(trained_at.get(view), view)
        if own is None or wanted is None or np.allclose(own, wanted, rtol=TOLERANCE, atol=0):
            continue
        display = get_view(view).display
        return f"{display} images of {in_words(own)} mm, but the network was trained at {in_words(wanted)} mm"
    return ""


def check_spacing(cohort: Cohort, here: Spacing, trained_at: Mapping[str, Any] | None, option: Option) -> None:
    """Refuses images at another voxel size than the network was trained at: its volumes would look right and be wrong.

    Args:
        cohort: The cohort.
        here: The voxel size of its images.
        trained_at: Of those that the network was trained on, empty where it is not known; None before training.
        option: What the user says; what was asked for is only said.

    Raises:
        CinemaError: Names both sizes; or the option cannot be followed.
    """
    plain = isinstance(cohort.reader, NiftiReader)
    if isinstance(option, dict) and not plain:
        raise CinemaError(
            f"{cohort.source} is a store, whose images are not resampled: leave data.spacing out, or prepare the data "
            "again at the size that you want."
        )
    if trained_at is None:
        return
    if not trained_at and plain and option == "auto":
        warnings.warn(assumed(here, str(cohort.source), "set data.spacing if that is not it"), stacklevel=4)
    what = unlike(here, trained_at) if trained_at else ""
    if what and option != "auto":
        warnings.warn(f"{cohort.source} has {what}; it is used all the same, as data.spacing says.", stacklevel=4)
    elif what:
        raise CinemaError(
            f"{cohort.source} has {what}: give data of that size (`cinema prepare` with the same --size, or the scans "
            "themselves as plain NIfTI, which are resampled), or set data.spacing to own to use it all the same."
        )


def assumed(here: Mapping[str, Any], source: str, advice: str) -> str:
    """The sentence that says what is assumed where a network does not say its voxel size."""
    sizes = ", ".join(f"{get_view(view).display} {in_words(size)}" for view, size in here.items() if size)
    return (
        "The weights do not say at what voxel size their network was trained; the scans of "
        f"{source} are brought to {sizes} mm: {advice}."
    )


def in_words(size: Sequence[float]) -> str:
    """Voxel sizes as text, such as 1 x 1 x 10."""
    return " x ".join(f"{value:g}" for value in size)


def plain_spacing(spacing: Spacing) -> dict[str, list[float] | None]:
    """Voxel sizes as plain values, for a checkpoint."""
    return {view: None if size is None else list(size) for view, size in spacing.items()}


def _cut(size: Sequence[float] | None, view: str) -> tuple[float, ...] | None:
    return None if size is None else tuple(float(value) for value in size[: get_view(view).dims])


def _probe(cohort: Cohort, study: str, view: str) -> tuple[float, ...] | None:
    try:
        info = cohort.reader.open(study, view).info
    except CinemaError:
        return None  # whoever reads this study gets the sentence
    return info.spacing if info.provenance.get("spacing_known", True) else None
