"""The one way from a scan to a network's grid, and back: resampling along the scan's own axes, and an in-plane crop.

Preparation, reading of plain NIfTI files and prediction share it, so that a network sees a scan of any voxel size as
it saw those that it was trained on, and what it finds returns to the voxels that were acquired.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from cinema_lightning.errors import CinemaError
from cinema_lightning.imaging import geometry
from cinema_lightning.imaging.geometry import Window

SAME_SPACING = 1e-3
"""Voxel sizes within this share of each other are one: a scan that is on the grid already is not touched."""

LONGEST_PIXEL = 2.0
"""Pixels that are longer than this times their width are those of a stack whose slices are not the third axis."""


@dataclass(frozen=True)
class Grid:
    """A scan's own grid, and where a network looks at it.

    Attributes:
        affine: (4, 4) of the scan, voxel to RAS mm.
        size: Voxels of the scan, (X, Y, Z); Z = 1 for a long-axis image.
        spacing: Voxel size that the network wants along the scan's axes, mm (x, y, z).
        window: In-plane crop of the resampled scan; None for all of it.
    """

    affine: np.ndarray
    size: tuple[int, int, int]
    spacing: tuple[float, float, float]
    window: Window | None = None

    @property
    def scan_spacing(self) -> tuple[float, float, float]:
        """Voxel size of the scan, mm."""
        x, y, z = geometry.spacing_of(self.affine).tolist()
        return x, y, z

    @property
    def is_own(self) -> bool:
        """Whether nothing is resampled."""
        return bool(np.allclose(self.scan_spacing, self.spacing, rtol=1e-9, atol=0))

    @property
    def whole_shape(self) -> tuple[int, int, int]:
        """Voxels of the resampled scan before the crop."""
        x, y, z = geometry.resampled_size(self.size, self.scan_spacing, self.spacing)
        return x, y, z

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels that the network sees."""
        x, y, z = self.whole_shape
        return (x, y, z) if self.window is None else (*self.window.size, z)

    @property
    def whole_affine(self) -> np.ndarray:
        """(4, 4) of the resampled scan before the crop."""
        return geometry.resampled_affine(self.affine, self.spacing)

    @property
    def network_affine(self) -> np.ndarray:
        """(4, 4) of what the network sees."""
        return self.whole_affine if self.window is None else geometry.shift_affine(self.whole_affine, self.window.start)

    def cropped(self, window: Window | None) -> Grid:
        """The same grid seen through a window."""
        return replace(self, window=window)

    def to_network(self, frame: np.ndarray, *, label: bool = False) -> np.ndarray:
        """Brings a frame to the network's grid.

        Args:
            frame: (X, Y, Z) of the scan, any integer or floating type.
            label: True for label maps, which take the nearest voxel; images are interpolated linearly.

        Returns:
            Of :attr:`shape` and the same type; zeros where the window lies outside of the scan.
        """
        return geometry.resample(frame, self.scan_spacing, self.spacing, label=label, window=self.window)

    def to_scan(self, probabilities: np.ndarray) -> np.ndarray:
        """Brings probabilities back to the scan's own voxels: linear along each axis, class by class.

        Taking the likeliest class of the result gives volumes that the nearest voxel of a label map cannot: slices that
        lie between two of the network's share in both. What the window cut away is background for certain; at the
        edges of the scan the outermost voxels are repeated.

        Args:
            probabilities: (C, X', Y', Z') of :attr:`shape`; class 0 is the background.

        Returns:
            (C, X, Y, Z) of :attr:`size`, float32.

        Raises:
            CinemaError: If they are of another shape.
        """
        if probabilities.shape[1:] != self.shape:
            raise CinemaError(
                f"The image has {probabilities.shape[1:]} voxels, but by what its preparation noted it should have "
                f"{self.shape}; prepare the study again."
            )
        out = np.asarray(probabilities, dtype=np.float32)
        unseen = []
        for axis in (2, 1, 0):
            places = self._places(axis)
            count = out.shape[axis + 1]
            unseen.append((axis, np.flatnonzero((places < -0.5) | (places > count - 0.5))))
            out = _interpolated(out, axis + 1, np.clip(places, 0, count - 1))
        for axis, cut in unseen:
            planes = np.moveaxis(out, axis + 1, 0)
            planes[cut] = 0
            planes[cut, 0] = 1
        return out

    def point_to_scan(self, x: float, y: float) -> tuple[float, float]:
        """Where a point of what the network sees lies in the scan's plane, voxels; centres are at integers."""
        start = (0, 0) if self.window is None else self.window.start
        ratios = [t / s for t, s in zip(self.spacing, self.scan_spacing, strict=True)]
        if self.is_own:
            return x + start[0], y + start[1]
        return (x + start[0] + 0.5) * ratios[0] - 0.5, (y + start[1] + 0.5) * ratios[1] - 0.5

    def _places(self, axis: int) -> np.ndarray:
        """Where the scan's voxels of an axis lie on the network's grid, beyond the scan's edges at its outermost."""
        places = np.arange(self.size[axis], dtype=np.float64)
        if not self.is_own:
            places = (places + 0.5) * (self.scan_spacing[axis] / self.spacing[axis]) - 0.5
        places = np.clip(places, 0, self.whole_shape[axis] - 1)
        return places - self.window.start[axis] if self.window is not None and axis < 2 else places


def _interpolated(values: np.ndarray, axis: int, places: np.ndarray) -> np.ndarray:
    low = np.floor(places).astype(int)
    share = (places - low).astype(np.float32)
    near = np.take(values, low, axis=axis)
    if not share.any():
        return near
    far = np.take(values, np.minimum(low + 1, values.shape[axis] - 1), axis=axis)
    share = share.reshape([-1 if i == axis else 1 for i in range(values.ndim)])
    return near * (1 - share) + far * share


def check_slices_last(affine: np.ndarray, name: str) -> None:
    """Refuses a stack that was stored with its slices along another axis than the third.

    Pixels are about square, and slices far thicker; resampled along the wrong axes, a stack gives volumes that look
    right and images that no network knows.

    Args:
        affine: (4, 4) of the stack.
        name: The file or view, for the message.

    Raises:
        CinemaError: If its pixels would be more than twice as long as wide.
    """
    spacing = geometry.spacing_of(affine)
    if spacing[:2].max() > LONGEST_PIXEL * spacing[:2].min():
        raise CinemaError(
            f"{name} has pixels of {spacing[0]:.4g} x {spacing[1]:.4g} mm and slices of {spacing[2]:.4g} mm by its "
            "header: its axes are stored in another order; store it with the slices along the third axis."
        )


def network_grid(affine: np.ndarray, size: Sequence[int], wanted: Sequence[float] | None) -> Grid:
    """The grid on which a network sees a whole scan.

    Args:
        affine: (4, 4) of the scan.
        size: (X, Y) or (X, Y, Z) of one frame.
        wanted: Voxel size that the network was trained at, mm; axes beyond its length, and all for None, keep the
            scan's own, and so does an axis that is within :data:`SAME_SPACING` of it.

    Returns:
        The grid.
    """
    own = geometry.spacing_of(affine).tolist()
    asked = [*(wanted or ()), *own[len(wanted or ()) :]]
    x, y, z = (s if abs(s / t - 1) <= SAME_SPACING else float(t) for s, t in zip(own, asked, strict=True))
    return Grid(np.asarray(affine, float), _three(size), (x, y, z))


def stored_grid(
    provenance: Mapping[str, Any], affine: np.ndarray, size: Sequence[int], spacing: Sequence[float]
) -> Grid:
    """The grid of a series as its preparation noted it.

    Args:
        provenance: What the series says of its making; without the scan's grid, the series is its own scan.
        affine: (4, 4) of the series.
        size: (X, Y) or (X, Y, Z) of one of its frames.
        spacing: Its voxel size, mm (x, y, z).

    Returns:
        The grid.
    """
    x, y, z = (float(value) for value in spacing)
    if "orig_affine" not in provenance or "orig_size" not in provenance:
        return Grid(np.asarray(affine, float), _three(size), (x, y, z))
    start = provenance.get("crop_start", (0, 0))
    window = Window((int(start[0]), int(start[1])), (int(size[0]), int(size[1])))
    original = np.asarray(provenance["orig_affine"], dtype=np.float64)
    return Grid(original, _three(provenance["orig_size"]), (x, y, z), window)


def _three(size: Sequence[int]) -> tuple[int, int, int]:
    return int(size[0]), int(size[1]), int(size[2]) if len(size) > 2 else 1
