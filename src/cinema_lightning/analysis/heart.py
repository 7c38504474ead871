"""The part of an image that networks were trained to see: as much around the heart as preparation leaves."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from cinema_lightning.analysis.values import View
from cinema_lightning.errors import CinemaError
from cinema_lightning.imaging.geometry import meeting_point, point_window, shift_affine
from cinema_lightning.imaging.motion import motion_centre
from cinema_lightning.views import get_view

Part = tuple[slice, slice]


def heart_of(views: Mapping[str, View]) -> np.ndarray | None:
    """Where the left ventricle is: where the planes meet, else what beats in the short axis.

    Args:
        views: View name -> images.

    Returns:
        (3,) RAS mm; None where neither tells.
    """
    planes = [view.affine for name, view in views.items() if name != "sax" and view.trusted]
    try:
        if "sax" in views and views["sax"].trusted and len(planes) > 1:
            return meeting_point(views["sax"].affine, *planes[:2])
        if "sax" in views:
            return motion_centre(np.moveaxis(views["sax"].frames, -1, 0), views["sax"].affine)
    except CinemaError:
        return None
    return None


def part_around(view: View, heart: np.ndarray | None) -> Part | None:
    """The pixels of a view that preparation would leave.

    Args:
        view: The images.
        heart: Of :func:`heart_of`.

    Returns:
        Slices along x and y; None where the whole image is no larger, or the heart lies outside of it.
    """
    facts = get_view(view.name)
    size = np.array(view.frames.shape[:2])
    wanted = np.ceil(np.array(facts.crop) * facts.spacing[:2] / view.spacing[:2]).astype(int)
    if heart is None or (wanted >= size).all():
        return None
    start = np.array(point_window(heart, view.affine, (int(wanted[0]), int(wanted[1]))).start)
    # As large as wanted where the image allows it, moved inwards at its edges.
    first = np.clip(start, 0, np.maximum(size - wanted, 0))
    last = np.minimum(first + wanted, size)
    if (start + wanted / 2 < 0).any() or (start + wanted / 2 > size).any():
        return None
    return slice(int(first[0]), int(last[0])), slice(int(first[1]), int(last[1]))


def moved(affine: np.ndarray, part: Part) -> np.ndarray:
    """The affine of a part."""
    return shift_affine(affine, (part[0].start, part[1].start, 0))


def touches(mask: np.ndarray, part: Part, size: tuple[int, int]) -> bool:
    """Whether a mask of a part reaches one of its edges that is not the image's own, so that it was cut.

    Args:
        mask: (x, y, ...) of the part.
        part: The part.
        size: Of the whole image.
    """
    for axis, own in enumerate(part):
        there = np.asarray(mask.any(axis=tuple(other for other in range(mask.ndim) if other != axis)))
        if (there[0] and own.start > 0) or (there[-1] and own.stop < size[axis]):
            return True
    return False
