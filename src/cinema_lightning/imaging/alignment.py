"""What belongs together lies on one grid: a label map or a second image is brought onto its image's voxels.

Nothing is interpolated. Axes that are stored in another order or direction are turned back exactly, and whole voxels
are moved. What the headers contradict (a rotation, other voxel sizes, an origin elsewhere) is refused, since a label
map that is laid wrongly over its image gives numbers that look right.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from cinema_lightning.errors import CinemaError
from cinema_lightning.imaging.geometry import spacing_of

Place = Literal["known", "unknown", "disputed"]
# Voxel sizes that differ by no more than this share are the same, written with other digits.
SAME_SIZE = 0.01
# Headers keep single precision: what is a whole voxel away may read a little more.
ROUNDING = 0.01
# Below this part of a voxel a difference is not worth a warning.
SLIGHT = 0.1
ONTO = "resample it onto that image's voxels, or give the one that belongs to it"


@dataclass(frozen=True)
class Volume:
    """Voxels and where they lie.

    Attributes:
        voxels: (X, Y, Z) or (X, Y, Z, T).
        affine: (4, 4), voxel to RAS mm.
        name: The file, for messages.
        place: Whether the header says where in the scanner the voxels lie: it does (known), it gives their size only
            (unknown), or it says so twice and differently (disputed).
        notes: What the user should know of the header, sentences.
    """

    voxels: np.ndarray
    affine: np.ndarray
    name: str
    place: Place = "known"
    notes: tuple[str, ...] = ()

    @property
    def size(self) -> tuple[int, int, int]:
        """Voxels, (X, Y, Z)."""
        x, y, z = self.voxels.shape[:3]
        return x, y, z


def on_grid(volume: Volume, image: Volume, *, labels: bool = False) -> tuple[np.ndarray, str]:
    """Brings a volume onto the grid of the image that it belongs to, by the two affines.

    A label map may cover a part of the grid, as one of a cut-out does (the rest is 0), and is moved by a voxel where
    its origin says so. An image keeps its voxels, and an origin that is off by less is only said.

    Args:
        volume: What to bring; further axes than X, Y, Z are kept.
        image: Whose grid it is.
        labels: Whether it is a label map.

    Returns:
        The voxels on the grid, (X, Y, Z) or (X, Y, Z, T), and a sentence about what was done; empty where nothing was.

    Raises:
        CinemaError: If sizes, voxel sizes, directions or origins contradict each other, or labelled voxels would lie
            outside of the grid.
    """
    if volume.place != "known" or image.place != "known":
        return _by_voxel(volume, image)
    order, flips = _turns(volume, image)
    turned = volume.voxels.transpose(*order, *range(3, volume.voxels.ndim))
    turned = np.flip(turned, tuple(axis for axis in range(3) if flips[axis]))
    start = _start(volume, image, turned.shape[:3], flips)
    _check_place(volume, turned, start, image, labels)
    # Half a voxel is no reason to move: two conventions of where a voxel's place is differ by it.
    nearest = np.sign(start) * np.ceil(np.abs(start) - 0.5 - ROUNDING)
    whole = nearest.astype(int) if labels else np.zeros(3, int)
    out = _moved(volume, turned, whole, image)
    return out, _said(volume, order, flips, whole, start - whole)


def one_series(images: Sequence[Volume]) -> Volume:
    """Frames or sequences from files of their own as one series on the grid of the first.

    Args:
        images: (X, Y, Z) each.

    Returns:
        (X, Y, Z, T) in a type that holds them all, with all that there is to say.

    Raises:
        CinemaError: If one lies elsewhere, see :func:`on_grid`.
    """
    first = images[0]
    brought = [on_grid(image, first) for image in images]
    notes = [note for image, (_, note) in zip(images, brought, strict=True) for note in (*image.notes, note) if note]
    # In memory frame by frame, as they are used.
    voxels = np.moveaxis(np.stack([voxels for voxels, _ in brought]), 0, -1)
    return replace(first, voxels=voxels, notes=tuple(notes))


def _by_voxel(volume: Volume, image: Volume) -> tuple[np.ndarray, str]:
    """Voxel on voxel, where a header does not say (or says twice) where its voxels lie."""
    if volume.size != image.size:
        raise _other_size(volume, image)
    _check_spacing(volume, image, (0, 1, 2))
    apart = np.abs(corners(volume.affine, image.size) - corners(image.affine, image.size)).max()
    if apart <= spacing_of(image.affine).min():
        return volume.voxels, ""
    if "disputed" in (volume.place, image.place):
        raise CinemaError(
            f"{volume.name} lies elsewhere than {image.name}, and the sform and qform of one of them contradict each "
            "other, so that it is not known how they belong together: mend the headers"
        )
    return volume.voxels, (
        f"{volume.name} was laid over {image.name} voxel by voxel, since the header of one of them does not say where "
        "it lies (sform and qform codes 0)"
    )


def _turns(volume: Volume, image: Volume) -> tuple[tuple[int, int, int], tuple[bool, ...]]:
    """Which axis of the volume is each axis of the grid, and which of them run backwards."""
    own, grid = (one.affine[:3, :3] / spacing_of(one.affine) for one in (volume, image))
    # Row: axis of the grid, column: axis of the volume; solved instead of multiplied, since stacks may be sheared.
    match = np.linalg.solve(grid, own)
    order = np.abs(match).argmax(axis=1)
    if sorted(order.tolist()) != [0, 1, 2]:
        raise CinemaError(f"{volume.name} is rotated against {image.name}: {ONTO}")
    signs = np.sign(match[range(3), order])
    _check_spacing(volume, image, tuple(order.tolist()))
    nearest = np.zeros((3, 3))
    nearest[range(3), order] = signs
    extent = spacing_of(volume.affine) * (np.array(volume.size) - 1)
    off = float((np.abs(match - nearest) @ extent / spacing_of(image.affine)).max())
    if off > 1:
        raise CinemaError(
            f"{volume.name} is rotated against {image.name}, by {off:.1f} voxels at its far corner: {ONTO}"
        )
    # A single voxel runs neither way.
    flips = (signs < 0) & (np.array(volume.size)[order] > 1)
    return (int(order[0]), int(order[1]), int(order[2])), tuple(flips.tolist())


def _check_spacing(volume: Volume, image: Volume, order: tuple[int, ...]) -> None:
    own, wanted = spacing_of(volume.affine)[list(order)], spacing_of(image.affine)
    if np.abs(own / wanted - 1).max() > SAME_SIZE:
        raise CinemaError(
            f"{volume.name} has voxels of {millimetres(own)} by its header and {image.name} {millimetres(wanted)}: "
            "mend the header that is wrong"
        )


def _start(volume: Volume, image: Volume, turned: tuple[int, ...], flips: tuple[bool, ...]) -> np.ndarray:
    """Where on the grid the first voxel of the turned volume lies, voxels.

    It is measured at the file's own first voxel, whose place the header holds, so that voxel sizes that differ in their
    last digits do not add up over the image.
    """
    at = np.linalg.solve(image.affine, volume.affine @ [0.0, 0.0, 0.0, 1.0])[:3]
    return at - np.where(flips, np.array(turned) - 1, 0)


def _check_place(volume: Volume, turned: np.ndarray, start: np.ndarray, image: Volume, labels: bool) -> None:
    same = turned.shape[:3] == image.size
    if same and np.abs(start).max() > 1 + ROUNDING:
        away = float(np.linalg.norm(image.affine[:3, :3] @ start))
        raise CinemaError(
            f"{volume.name} has as many voxels as {image.name}, but its header places it {away:.1f} mm away "
            f"({', '.join(f'{value:.1f}' for value in np.round(start, 1) + 0.0)} voxels): mend the header that is wrong"
        )
    # A map that covers a part and marks nothing there is likelier the map of something else.
    if not same and not (labels and turned.any()):
        raise _other_size(volume, image)


def _other_size(volume: Volume, image: Volume) -> CinemaError:
    own, wanted = (" x ".join(map(str, one.size)) for one in (volume, image))
    return CinemaError(f"{volume.name} has {own} voxels and {image.name} {wanted}: {ONTO}")


def _moved(volume: Volume, turned: np.ndarray, start: np.ndarray, image: Volume) -> np.ndarray:
    if not start.any() and turned.shape[:3] == image.size:
        return turned
    low = np.maximum(start, 0)
    high = np.minimum(start + turned.shape[:3], image.size)
    inside = tuple(slice(max(a - s, 0), max(b - s, 0)) for a, b, s in zip(low, high, start, strict=True))
    kept = turned[inside]
    lost = np.count_nonzero(turned) - np.count_nonzero(kept)
    if lost:
        raise CinemaError(
            f"{volume.name} reaches beyond {image.name} by its header: {lost} marked voxels would be lost; "
            "mend the header that is wrong"
        )
    out = np.zeros((*image.size, *turned.shape[3:]), turned.dtype)
    out[tuple(slice(a, b) for a, b in zip(low, high, strict=True))] = kept
    return out


def _said(volume: Volume, order: tuple[int, ...], flips: tuple[bool, ...], whole: np.ndarray, rest: np.ndarray) -> str:
    done = []
    if order != (0, 1, 2):
        done.append("its axes were stored in the order " + ", ".join("xyz"[order.index(axis)] for axis in range(3)))
    if any(flips):
        done.append("it was stored backwards along " + " and ".join(a for a, f in zip("xyz", flips, strict=True) if f))
    if whole.any():
        done.append("it starts at voxel " + ", ".join(map(str, whole)))
    if np.abs(rest).max() > SLIGHT:
        done.append(f"its voxels lie {np.abs(rest).max():.1f} voxels beside the image's, and the nearest was taken")
    return f"{volume.name} was brought onto its image's grid by its header: {'; '.join(done)}" if done else ""


def corners(affine: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Where the eight outer voxels of a grid of (X, Y, Z) voxels lie, (8, 3) RAS mm."""
    index = np.stack(np.meshgrid(*([0, n - 1] for n in shape), indexing="ij"), axis=-1).reshape(-1, 3)
    return index @ affine[:3, :3].T + affine[:3, 3]


def millimetres(spacing: np.ndarray) -> str:
    """A voxel size for messages, such as 1.5 x 1.5 x 10 mm."""
    return " x ".join(f"{value:.4g}" for value in spacing) + " mm"
