"""Masks of all frames of a study's views, and ED and ES of each ventricle from their volumes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np

from cinema_lightning.analysis.curves import can_search, phases_of, search
from cinema_lightning.analysis.heart import Part, moved, part_around, touches
from cinema_lightning.analysis.values import LV, MYOCARDIUM, RV, Landmarks, Phases, Segmented, Ventricle, View
from cinema_lightning.columns import spread_of
from cinema_lightning.errors import CinemaError
from cinema_lightning.metrics.function import volume_curve
from cinema_lightning.metrics.segmentation import class_regions

CODES = {"rv": RV, "myocardium": MYOCARDIUM, "lv": LV}
"""Structure -> code of the labels."""


class Network(Protocol):
    """A network that was loaded, as :func:`cinema_lightning.load` gives it."""

    def __call__(self, scan: Any, *, affine: np.ndarray, probabilities: bool = False) -> Any:
        """What it says of one view's frames, ``{view: (X, Y, Z, T)}``."""


Progress = Callable[[str, int], None]
"""Told the view and how many frames more are done."""
# Frames that are handed to a network at once: between them the progress is told.
CHUNK = 4


def segment(
    view: View,
    network: Network,
    *,
    heart: np.ndarray | None = None,
    fast: bool = False,
    progress: Progress | None = None,
) -> Segmented:
    """Segments a view's frames.

    Args:
        view: The view.
        network: The network.
        heart: (3,) RAS mm, where the heart is: the network sees as much around it as in training. None shows it all.
        fast: Look at 40% of the frames only, around ED and ES, where there are 20 or more.
        progress: Told after every few frames.

    Returns:
        The masks, on the view's grid; where probabilities are resampled, not labels.

    Raises:
        CinemaError: If the network gives masks of other structures, or on another grid.
    """
    count = view.n_frames
    labels = np.zeros(view.frames.shape, dtype=np.uint8)
    spread: dict[str, np.ndarray] = {}
    part = part_around(view, heart)

    def look(frames: list[int]) -> list[float]:
        nonlocal part
        found, unsure = _masks(view, network, frames, part)
        if part is not None and touches(_largest(found == LV), part, view.frames.shape[:2]):
            part = None  # what beats most may not be the heart
            found, unsure = _masks(view, network, frames, part)
        labels[(*(part or ()), ..., frames)] = found
        for name, values in unsure.items():
            spread.setdefault(name, np.full(count, np.nan))[frames] = values
        if progress is not None:
            progress(view.name, len(frames))
        return curves_of(labels[..., frames], view)["lv"].tolist()

    if fast and view.is_cine and can_search(count):
        looked = np.flatnonzero(np.isfinite(search(count, look))).tolist()
    else:
        looked = list(range(count))
        for start in range(0, count, CHUNK):
            look(looked[start : start + CHUNK])
    found = of_labels(labels, view, looked, spread or None)
    if fast and view.is_cine and found.is_whole:
        said = f"all {count} frames of {view.name} were segmented: a search for ED and ES needs 20"
        return replace(found, warnings=(*found.warnings, said))
    return found


def _largest(mask: np.ndarray) -> np.ndarray:
    """(x, y, Z) the largest piece of a structure, wherever it is in any frame."""
    from scipy.ndimage import label

    pieces, count = label(mask.any(axis=-1))
    return pieces == 1 + int(np.argmax(np.bincount(pieces.ravel())[1:])) if count else pieces > 0


def _masks(
    view: View, network: Network, frames: list[int], part: Part | None
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Labels (x, y, Z, frames) of a part, and the standard deviations of an ensemble's volumes, ml."""
    images, affine = view.frames[..., frames], view.affine
    if part is not None:
        images, affine = images[part], moved(affine, part)
    result = network({view.name: images}, affine=affine)
    found = result.views[view.name]
    columns = {name: spread_of(f"{view.name}_{name}_volume") for name in CODES}
    known = {name: column for name, column in columns.items() if result.rows and column in result.rows[0]}
    spread = {name: np.array([row[column] for row in result.rows], float) for name, column in known.items()}
    return recoded(found.labels, found.classes, view.name), spread


def recoded(labels: np.ndarray, classes: Mapping[int, str], view: str) -> np.ndarray:
    """Labels in our codes, by the names of a network's classes; others become background.

    Args:
        labels: Codes of the network.
        classes: Code -> name.
        view: For the message.

    Returns:
        uint8 of the same shape.

    Raises:
        CinemaError: If the network knows no left ventricle.
    """
    regions = class_regions({code: name for code, name in classes.items() if code > 0}).labels
    if "lv" not in regions:
        raise CinemaError(
            f"the network's classes in {view} are {', '.join(regions)}: none is the LV; give other --weights."
        )
    out = np.zeros(labels.shape, dtype=np.uint8)
    for name, code in CODES.items():
        out[np.isin(labels, regions.get(name, ()))] = code
    return out


def curves_of(labels: np.ndarray, view: View) -> dict[str, np.ndarray]:
    """Volume of each structure in each frame.

    Args:
        labels: (X, Y, Z, T) in our codes.
        view: The view, for its voxel size.

    Returns:
        Structure -> (T,) ml.
    """
    frames = np.moveaxis(labels, -1, 0)
    return {name: volume_curve(frames, [code], view.spacing) for name, code in CODES.items()}


def of_labels(
    labels: np.ndarray,
    view: View,
    looked_at: Sequence[int] | None = None,
    spread: Mapping[str, np.ndarray] | None = None,
    phases: Mapping[Ventricle, Phases] | None = None,
    slices: tuple[int, int] | None = None,
) -> Segmented:
    """Volumes, ED and ES of masks, whoever drew them.

    Args:
        labels: (X, Y, Z, T) in our codes.
        view: Their view.
        looked_at: Frames that are labelled; all where None.
        spread: Structure -> (T,) ml.
        phases: ED and ES that a person named, by ventricle; others are found on the curves.
        slices: First and last + 1 slice that count, where a person said so; labels of others are left out.

    Returns:
        The masks with what follows from them.
    """
    looked = tuple(range(labels.shape[3])) if looked_at is None else tuple(sorted(looked_at))
    if slices is not None:
        labels = labels.copy()
        labels[:, :, : slices[0]] = 0
        labels[:, :, slices[1] :] = 0
    volumes = curves_of(labels, view)
    missing = sorted(set(range(labels.shape[3])) - set(looked))
    for curve in volumes.values():
        curve[missing] = np.nan
    found, warnings = _phases(volumes, view, len(missing) > 0)
    return Segmented(labels, looked, volumes, {**found, **(phases or {})}, spread, slices, tuple(warnings))


def _phases(volumes: Mapping[str, np.ndarray], view: View, searched: bool) -> tuple[dict[Ventricle, Phases], list[str]]:
    sides: tuple[Ventricle, ...] = ("lv", "rv")
    if view.phases is not None:
        return {side: Phases(*view.phases) for side in sides if np.nansum(volumes[side]) > 0}, []
    found = {side: phases_of(volumes[side], cyclic=view.is_circle) for side in sides}
    expected = [side for side in sides if side == "lv" or view.name in ("sax", "lax_4c")]  # others do not show the RV
    warnings = [f"no {side.upper()} was found in {view.name}" for side in expected if found[side] is None]
    if searched and found["rv"] is not None:
        warnings.append("ED and ES of the RV are the best of the frames that were looked at for the LV")
    return {side: phases for side, phases in found.items() if phases is not None}, warnings


def landmarks(view: View, network: Network) -> Landmarks:
    """Finds the landmarks of a long axis in all frames.

    Args:
        view: The view.
        network: A network for landmarks of that view.

    Returns:
        The points, RAS mm.
    """
    found = network({view.name: view.frames}, affine=view.affine).millimetres[view.name]
    return Landmarks({name: np.asarray(points, dtype=np.float64) for name, points in found.items()})
