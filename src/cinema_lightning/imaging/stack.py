"""Cines of single slices to one short-axis stack: which of them belong together, and where each lies.

A stack has one grid: the pixels of the slice that most others agree with, and slices at equal distances along the
normal of its plane. Everything that follows counts on that grid, volumes above all, so what does not fit it is brought
onto it, left out with a sentence, or refused.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

import numpy as np

from cinema_lightning.errors import CinemaError
from cinema_lightning.files import natural_key
from cinema_lightning.imaging.dicom import Cine, check_one_study, latest, read_folder, sort_slices
from cinema_lightning.imaging.dicom_file import DicomFile, DicomImage
from cinema_lightning.imaging.frames import MOST_MISSING, MOST_REPEATS, SAME_PLACE
from cinema_lightning.imaging.geometry import affine_from_lps
from cinema_lightning.imaging.regrid import at_phases, in_type, moved
from cinema_lightning.imaging.slice_grid import Grid, fit_grid

# Cosine of five degrees: slices whose planes differ by more are not parallel.
PARALLEL_COSINE = 0.9962
# Cosine of thirty degrees: slices that are not parallel, but belong to a short axis all the same, count for its span.
NEARLY_COSINE = 0.866
# Cosine of half a degree: a tilt beyond it is spoken of.
TILTED_COSINE = 0.99996
# Pixel sizes within this share of each other are one size.
SAME_SIZE = 0.01
# Slices that lie no farther beside the grid than this share of a pixel are taken as they are.
BESIDE = 0.1
# A slice that shows less than this share of the inner half of the grid shows something else than the others.
COVERED = 0.5
# Distances that differ by more than this share are spoken of.
DISAGREES = 0.02
Cines = list[Cine]


@dataclass(frozen=True)
class Stack:
    """A short-axis stack.

    Attributes:
        frames: (T, X, Y, Z).
        affine: (4, 4), voxel to RAS mm; its axes are at right angles.
        read: Slices that were read, each acquisition counted, and folders of slices that could not be.
        left_out: How many of them are not in the stack.
        filled: Slices that are in it though none was read there.
        warnings: A sentence for whatever was left out, filled, moved, or disagrees.
        slices: The cine that was scanned at each place along z; None where it was filled.
    """

    frames: np.ndarray
    affine: np.ndarray
    read: int
    left_out: int
    filled: int
    warnings: tuple[str, ...]
    slices: tuple[Cine | None, ...] = ()

    @property
    def counts(self) -> dict[str, int]:
        """Cells of the cohort's table."""
        return {"n_slices_read": self.read, "n_slices_left_out": self.left_out, "n_slices_filled": self.filled}


def single(cine: Cine) -> tuple[np.ndarray, np.ndarray]:
    """A long-axis cine as a series of one slice.

    Args:
        cine: The slice.

    Returns:
        (T, X, Y, 1) and its RAS affine; z is SpacingBetweenSlices, else SliceThickness, else 1 mm.
    """
    affine = affine_from_lps(cine.position.tolist(), cine.directions, (*cine.spacing, _depth(cine) or 1.0))
    return cine.frames[..., None], affine


@dataclass(frozen=True)
class Slices:
    """What was read from folders or series.

    Attributes:
        cines: The slices.
        lost: Folders or series with files of which none gave a slice.
        warnings: A sentence for whatever was left out.
    """

    cines: tuple[Cine, ...] = ()
    lost: int = 0
    warnings: tuple[str, ...] = ()


def read_slices(folders: Mapping[str, Sequence[DicomFile]]) -> Slices:
    """Reads the slices of folders or series that hold their frames in any order.

    Args:
        folders: Name of a folder or series -> its files.

    Returns:
        The slices.
    """
    images: list[DicomImage] = []
    warnings: list[str] = []
    lost = 0
    for name, files in folders.items():
        try:
            found = read_folder(files, name, warnings)
        except CinemaError as error:
            warnings.append(f"{name} is left out: {error}")
            found = []
        lost += bool(files) and not any(image.velocity or image.is_placed for image in found)
        images += found
    cines, said = sort_slices(images)
    return Slices(tuple(cines), lost, (*warnings, *said))


def stack(cines: Sequence[Cine], slices: Slices | None = None) -> Stack:
    """Puts the slices of a short-axis stack together.

    Slices that are not parallel to most (5 degrees), have another number or size of pixels, or too few frames are left
    out. Of slices at one place along the normal the best acquisition counts, see :func:`dicom.latest`. Slices with
    another number of phases than most are brought to it by fraction of the beat. A slice that lies beside the grid, or
    is turned or tilted a little, is resampled in plane to its own place. One place without a slice is filled halfway
    between its neighbours. Distances are those of the positions, and headers only check them.

    Args:
        cines: The slices, in any order; of each place any number of acquisitions.
        slices: What was read when they were; what was lost then is counted and said too.

    Returns:
        The stack. Slices run in the order of their names or instance numbers, whichever follows the positions better.

    Raises:
        CinemaError: If there is no usable slice, one alone without a header that says how thick it is, more than one
            place without a slice, fewer than 70% of the slices that the span and the commonest distance call for, or
            slices of several persons or studies.
    """
    lost, before = (slices.lost, slices.warnings) if slices else (0, ())
    if not cines:
        raise CinemaError(f"there is no readable SAX slice{f' ({before[0]})' if before else ''}: get its files again")
    check_one_study(cines)
    beating, said = _beating(list(cines))
    parallel, more = _parallel(beating)
    said += more
    kept, more = _usable(parallel)
    said += more
    base = _best_base(kept)
    kept, more = _covering(kept, base)
    said += more
    middle = _middle(kept, base)
    kept, more = _without_repeats(kept, base, middle)
    said += more
    grid = _grid(kept, base, middle)
    # The span is that of all slices of a short axis, whether they can be used or not.
    near = [cine for cine in beating if abs(cine.directions[:, 2] @ base.directions[:, 2]) > NEARLY_COSINE]
    grid.check(_heights(near, base, middle))
    off = [cine for cine, place in zip(kept, grid.places, strict=True) if place is None]
    said += [f"{cine.name} is left out: it does not lie at a place of the stack" for cine in off]
    kept = [cine for cine in kept if cine not in off]
    grid = replace(grid, places=tuple(grid.taken))
    said += _tilts(kept, base) + _disagreements(kept, grid, _heights(kept, base, middle))
    grid = _in_order(kept, grid)
    frames, more = _assemble(kept, grid, base)
    warnings = [warning for cine in kept for warning in cine.warnings]
    read = len(cines) + lost
    counts = {"read": read, "left_out": read - len(kept), "filled": len(grid.missing)}
    scanned = {place: cine for cine, place in zip(kept, grid.taken, strict=True)}
    at = tuple(scanned.get(place) for place in range(frames.shape[3]))
    return Stack(frames, _affine(grid, base), warnings=(*before, *warnings, *said, *more), slices=at, **counts)


def _affine(grid: Grid, base: Cine) -> np.ndarray:
    """The base's pixels, and slices along its normal."""
    normal = base.directions[:, 2]
    origin = base.position + (grid.first - base.position @ normal) * normal
    directions = base.directions * [1.0, 1.0, np.sign(grid.distance)]
    # A nanometre: what is less comes from the arithmetic, and would move a crop that is cut to whole pixels.
    return affine_from_lps(origin.round(6).tolist(), directions, (*base.spacing, round(abs(grid.distance), 6)))


def _parallel(cines: Cines) -> tuple[Cines, list[str]]:
    normals = np.stack([cine.directions[:, 2] for cine in cines])
    alike = np.abs(normals @ normals.T) > PARALLEL_COSINE
    most = alike[int(alike.sum(axis=1).argmax())]
    said = [
        f"{cine.name} is left out: it is not parallel to the others"
        for cine, fits in zip(cines, most, strict=True)
        if not fits
    ]
    return [cine for cine, fits in zip(cines, most, strict=True) if fits], said


def _beating(cines: Cines) -> tuple[Cines, list[str]]:
    """Slices with at least half as many phases as most frames belong to: others are single pictures, or few."""
    phases = _commonest([count for cine in cines for count in [len(cine.frames)] * len(cine.frames)])
    few = [cine for cine in cines if len(cine.frames) < MOST_MISSING * phases and not cine.problem]
    said = [f"{cine.name} is left out: it has {len(cine.frames)} phases, most have {phases}" for cine in few]
    return [cine for cine in cines if cine not in few], said


def _usable(cines: Cines) -> tuple[Cines, list[str]]:
    """Slices with most of their frames, and the number and size of pixels that most have."""
    said = [f"{cine.name} is left out: {cine.problem}" for cine in cines if cine.problem]
    whole = [cine for cine in cines if not cine.problem]
    if not whole:
        raise CinemaError(f"there is no usable SAX slice: {said[0]}")
    kept = max(([other for other in whole if _same_pixels(cine, other)] for cine in whole), key=len)
    turned = [_turned(cine) for cine in whole if cine not in kept]
    kept += [cine for cine in turned if _same_pixels(cine, kept[0]) and _same_way(cine, kept[0])]
    names = {cine.name for cine in kept}
    others = [cine for cine in whole if cine.name not in names]
    said += [f"{cine.name} is left out: {_told(cine)}, of most {_told(kept[0])}" for cine in others]
    return kept, said


def _turned(cine: Cine) -> Cine:
    """The same picture with rows for columns, as a slice is stored that was turned by a right angle."""
    directions = cine.directions[:, [1, 0, 2]] * [1.0, 1.0, -1.0]
    return replace(cine, frames=cine.frames.swapaxes(1, 2), directions=directions, spacing=cine.spacing[::-1])


def _same_way(one: Cine, other: Cine) -> bool:
    """Whether the rows of two slices run along each other, in either direction."""
    return bool(abs(one.directions[:, 0] @ other.directions[:, 0]) > np.sqrt(0.5))


def _same_pixels(one: Cine, other: Cine) -> bool:
    return one.frames.shape[1:] == other.frames.shape[1:] and np.allclose(one.spacing, other.spacing, rtol=SAME_SIZE)


def _told(cine: Cine) -> str:
    return "{} x {} pixels of {:.4g} x {:.4g} mm".format(*cine.frames.shape[1:], *cine.spacing)


def _commonest(numbers: Sequence[int]) -> int:
    """The commonest number, of two that are as common the larger."""
    counts = Counter(numbers)
    return max(counts, key=lambda number: (counts[number], number))


def _best_base(cines: Cines) -> Cine:
    """The slice whose pixels the most others share; of such the one that lies in the middle of them."""
    moves = np.array([[_shift(other, cine)[2] for other in cines] for cine in cines])
    shared = (moves <= BESIDE).sum(axis=1)
    return cines[int(np.argmin(np.where(shared == shared.max(), moves.max(axis=1), np.inf)))]


def _shift(cine: Cine, base: Cine) -> tuple[np.ndarray, np.ndarray, float]:
    """How pixels of the base, seen along its normal, become pixels of a slice: matrix, offset, farthest move in pixels.

    A point of the slice, seen along the normal, is ``b + A p`` in mm of the base's plane.
    """
    axes = base.directions[:, :2]
    to_plane = axes.T @ cine.directions[:, :2] * np.asarray(cine.spacing)
    back = np.linalg.inv(to_plane)
    matrix = back * np.asarray(base.spacing)
    offset = -back @ (axes.T @ (cine.position - base.position))
    corners = np.array([(x, y) for x in (0, base.frames.shape[1] - 1) for y in (0, base.frames.shape[2] - 1)], float)
    return matrix, offset, float(np.abs(corners @ matrix.T + offset - corners).max())


def _covering(cines: Cines, base: Cine) -> tuple[Cines, list[str]]:
    """Slices that show most of what the inner half of the base shows, seen along its normal."""
    size = np.array(base.frames.shape[1:])
    pixels = np.indices(tuple(size // 2)).reshape(2, -1).T + size // 4
    kept, said = [], []
    for cine in cines:
        matrix, offset, _ = _shift(cine, base)
        there = pixels @ matrix.T + offset
        covered = float(((there >= -1) & (there <= size)).all(axis=1).mean())
        if covered >= COVERED:
            kept.append(cine)
        else:
            said.append(f"{cine.name} is left out: it lies beside the others (shows {covered:.0%} of their middle)")
    return kept, said


def _middle(cines: Cines, base: Cine) -> np.ndarray:
    """The pixel whose height counts as the slice's: the middle one.

    Where slices were tilted in the header alone, about their first pixel, it is that one by which they lie regularly.
    """
    middle = (np.array(base.frames.shape[1:]) - 1) / 2
    points = [middle, np.zeros(2)]
    if len(cines) < 2:
        return middle
    merits = [_grid(_without_repeats(cines, base, point)[0], base, point).merit for point in points]
    return points[merits.index(max(merits))]


def _heights(cines: Cines, base: Cine, middle: np.ndarray) -> np.ndarray:
    """Where the slices' middles lie along the base's normal, mm."""
    points = [cine.position + cine.directions[:, :2] @ (middle * cine.spacing) for cine in cines]
    return np.stack(points) @ base.directions[:, 2]


def _without_repeats(cines: Cines, base: Cine, middle: np.ndarray) -> tuple[Cines, list[str]]:
    """One slice for each height, ascending."""
    heights = _heights(cines, base, middle)
    order = np.argsort(heights, kind="stable")
    starts = np.cumsum([False, *(np.diff(heights[order]) > SAME_PLACE)])
    kept, said = [], []
    for _, group in groupby(zip(starts, order, strict=True), key=lambda pair: pair[0]):
        best, others = latest([cines[index] for _, index in group])
        kept.append(best)
        said += [f"{other.name} is left out: {best.name} is at the same place, {_why(best, other)}" for other in others]
    if len(kept) == 1 and len(cines) > MOST_REPEATS:
        raise CinemaError(
            f"all {len(cines)} SAX slices lie at one place, so their positions cannot be right: export them anew"
        )
    return kept, said


def _why(best: Cine, other: Cine) -> str:
    if best.found != other.found and not (best.whole and other.whole):
        return f"with {best.found} frames, not {other.found}"
    return "and was acquired later" if best.acquired != other.acquired else "and comes later"


def _grid(cines: Cines, base: Cine, middle: np.ndarray) -> Grid:
    heights = _heights(cines, base, middle)
    if len(cines) > 1:
        return fit_grid(heights)
    depth = _depth(cines[0])
    if depth is None:
        raise CinemaError(
            "there is one SAX slice, and its header has no SpacingBetweenSlices or SliceThickness: give all"
        )
    return Grid(float(heights[0]), depth, (0,))


def _tilts(cines: Cines, base: Cine) -> list[str]:
    cosines = np.abs(np.stack([cine.directions[:, 2] for cine in cines]) @ base.directions[:, 2])
    tilted = cosines[cosines < TILTED_COSINE]
    if not tilted.size:
        return []
    angle = np.degrees(np.arccos(tilted.min()))
    return [f"{tilted.size} SAX slices are tilted by up to {angle:.1f} degrees against the others: kept"]


def _disagreements(cines: Cines, grid: Grid, heights: np.ndarray) -> list[str]:
    """Sentences about distances that are not equal, or not those of the headers."""
    if len(cines) < 2:
        return []
    said = []
    steps = np.diff(heights) / np.diff(grid.taken)
    if np.abs(steps - grid.distance).max() > DISAGREES * grid.distance:
        span = f"{steps.min():.2f} to {steps.max():.2f} mm"
        said.append(f"the distances of the SAX slices vary from {span}: {grid.distance:.2f} mm are used")
    between = [cine.between for cine in cines if cine.between is not None and cine.between > 0]
    header = float(np.median(between)) if between else grid.distance
    if abs(header - grid.distance) > DISAGREES * grid.distance:
        said.append(f"SpacingBetweenSlices says {header:g} mm, the positions {grid.distance:.2f} mm: these are used")
    return said


def _in_order(cines: Cines, grid: Grid) -> Grid:
    """The grid turned round where names or instance numbers run against the normal."""
    by_name = sorted(range(len(cines)), key=lambda index: natural_key(cines[index].name))
    ranks: list[Sequence[float]] = [[by_name.index(index) for index in range(len(cines))]]
    numbers = [cine.instance for cine in cines if cine.instance is not None]
    if len(set(numbers)) == len(cines):
        ranks.append(numbers)
    slopes = [float(np.corrcoef(grid.taken, rank)[0, 1]) if len(cines) > 1 else 1.0 for rank in ranks]
    if max(slopes, key=abs) >= 0:
        return grid
    last = max(grid.taken)
    return Grid(grid.first + last * grid.distance, -grid.distance, tuple(last - place for place in grid.taken))


def _assemble(cines: Cines, grid: Grid, base: Cine) -> tuple[np.ndarray, list[str]]:
    """(T, X, Y, Z) on the grid."""
    phases = _commonest([len(cine.frames) for cine in cines])
    slices: dict[int, np.ndarray] = {}
    moves, said = [0.0], []
    for cine, place in zip(cines, grid.taken, strict=True):
        matrix, offset, move = _shift(cine, base)
        frames = cine.frames if move <= BESIDE else moved(cine.frames, matrix, offset)
        moves += [move * min(base.spacing)] if move > BESIDE else []
        if len(frames) != phases:
            said.append(f"{cine.name} has {len(frames)} phases, most have {phases}: brought to these by interpolation")
        slices[place] = at_phases(frames, phases)
    if len(moves) > 1:
        where = f"up to {max(moves):.1f} mm beside the others"
        said.append(f"{len(moves) - 1} SAX slices are turned or lie {where}: resampled in plane")
    for place in grid.missing:
        between = (slices[place - 1].astype(np.float32) + slices[place + 1]) / 2
        slices[place] = in_type(between, slices[place - 1].dtype)
        said.append(f"slice {place + 1} of {max(grid.taken) + 1} is missing: filled halfway between its neighbours")
    return np.stack([slices[place] for place in sorted(slices)], axis=-1), said


def _depth(cine: Cine) -> float | None:
    return next((value for value in (cine.between, cine.thickness) if value is not None and value > 0), None)
