"""How a heart is imaged: sequence, sizes, planes. Nothing here knows what the heart looks like inside."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from cinema_lightning.data.draws import generator
from cinema_lightning.errors import CinemaError
from cinema_lightning.phantom.anatomy import Heart, _rotation
from cinema_lightning.phantom.contrast import CONTRASTS
from cinema_lightning.views import VIEWS, get_view

# Angle of each long-axis plane around the axis (0 mid-septum, 90 anterior): inferior septum to anterolateral wall,
# inferior to anterior wall, anterior septum with the aortic valve to inferolateral wall.
LAX_ANGLES = {"lax_2c": math.radians(84), "lax_3c": math.radians(42), "lax_4c": math.radians(-16)}


@dataclass(frozen=True)
class Acquisition:
    """One examination of one heart.

    Attributes:
        views: View names.
        n_frames: Frames over the cycle.
        sax_size: Pixels x, y of the short axis.
        sax_spacing: Pixel size x, y in mm.
        slice_distance: Distance between short-axis slices in mm; None spreads ``n_slices`` over the LV.
        n_slices: Number of slices; None takes as many as cover the LV.
        slice_thickness: Thickness excited, mm (the gap is the rest of the distance); None for four fifths of it.
        lax_size: Pixels x, y of the long-axis images.
        lax_spacing: Pixel size of them, mm.
        lax_thickness: Their thickness, mm.
        sequence: cine, lge or t2.
        blur: Width of the point spread function, mm.
        noise: Standard deviation of the noise in each channel, relative to blood.
        shading: Strength of the coil shading, 0 for none.
        base_first: Slices from base to apex, otherwise from apex to base.
        jitter: How far the operator's planes and centres deviate, 1 for the usual.
        seed: Seed of the examination: position of the patient, planes, shading and noise.
        scar_labels: Label edema 4, scar 5 and no-reflow 6 instead of counting them as myocardium.
    """

    views: tuple[str, ...] = tuple(VIEWS)
    n_frames: int = 50
    sax_size: tuple[int, int] = (192, 192)
    sax_spacing: tuple[float, float] = (1.0, 1.0)
    slice_distance: float | None = 10.0
    n_slices: int | None = None
    slice_thickness: float | None = 8.0
    lax_size: tuple[int, int] = (256, 256)
    lax_spacing: tuple[float, float] = (1.0, 1.0)
    lax_thickness: float = 6.0
    sequence: str = "cine"
    blur: float = 1.9
    noise: float = 0.015
    shading: float = 1.0
    base_first: bool = True
    jitter: float = 1.0
    seed: int = 0
    scar_labels: bool = False

    def __post_init__(self) -> None:
        for view in self.views:
            get_view(view)
        if self.sequence not in CONTRASTS:
            raise CinemaError(f"There is no sequence called '{self.sequence}'; there are {', '.join(CONTRASTS)}.")
        if self.slice_distance is None and self.n_slices is None:
            raise CinemaError("An acquisition needs slice_distance or n_slices, but both are None; give one of them.")
        if self.n_frames < 1:
            raise CinemaError(f"An acquisition needs at least one frame, but n_frames is {self.n_frames}.")


@dataclass(frozen=True)
class Plane:
    """Grid of one view.

    Attributes:
        affine: (4, 4) voxel (x, y, z) to scanner RAS mm.
        shape: Voxels x, y, z.
        thickness: Excited thickness along z, mm.
        to_patient: (4, 4) from scanner to the patient's own coordinates; no patient lies twice in the same way.
    """

    affine: np.ndarray
    shape: tuple[int, int, int]
    thickness: float
    to_patient: np.ndarray

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Voxel size x, y, z, mm."""
        x, y, z = np.linalg.norm(self.affine[:3, :3], axis=0).tolist()
        return (x, y, z)

    def points(self, z: int, offset: float = 0.0) -> np.ndarray:
        """Voxel centres of slice ``z`` moved ``offset`` mm along the normal, in patient coordinates, (X, Y, 3)."""
        x, y = np.meshgrid(np.arange(self.shape[0]), np.arange(self.shape[1]), indexing="ij")
        voxel = np.stack([x, y, np.full(x.shape, z + offset / self.spacing[2])], axis=-1)
        matrix = self.to_patient @ self.affine
        return voxel @ matrix[:3, :3].T + matrix[:3, 3]

    def pixels(self, points: np.ndarray) -> np.ndarray:
        """Voxel coordinates (N, 3) of patient points (N, 3)."""
        matrix = np.linalg.inv(self.to_patient @ self.affine)
        return np.atleast_2d(points) @ matrix[:3, :3].T + matrix[:3, 3]


def patient_position(heart: Heart, acquisition: Acquisition) -> np.ndarray:
    """Where the patient lies in the scanner in this examination: patient to scanner coordinates, (4, 4)."""
    rng = generator(acquisition.seed, "phantom", "position", heart.phase_seed)
    out = np.eye(4)
    out[:3, :3] = _rotation(tuple(rng.normal(0, math.radians(2.0) * acquisition.jitter, 3)))
    # The table is moved so that the heart is near the isocentre, give or take.
    centre = heart.to_patient(np.array([10.0, 0.0, 0.6 * heart.length]))
    out[:3, 3] = rng.normal(0, 12 * acquisition.jitter, 3) - out[:3, :3] @ centre
    return out


def plan(heart: Heart, acquisition: Acquisition, view: str) -> Plane:
    """Places the grid of a view as an operator would, on the ED heart.

    Args:
        heart: The heart.
        acquisition: The examination.
        view: A view name.

    Returns:
        The grid.
    """
    rng = generator(acquisition.seed, "phantom", "plan", heart.phase_seed, view)
    tilt = _rotation(tuple(rng.normal(0, math.radians(2.0) * acquisition.jitter, 3)))
    off = rng.normal(0, 1, 3) * acquisition.jitter
    turn = rng.normal(0, math.radians(9.0)) * acquisition.jitter
    x_axis, y_axis, z_axis = (heart.axes[:, k] for k in range(3))
    if view == "sax":
        normal = tilt @ (z_axis if not acquisition.base_first else -z_axis)
        distance, n = _stack(heart, acquisition)
        middle = heart.length * 0.5 + 3.0 + 2.0 * off[2]
        centre = heart.to_patient(np.array([0.0, 0.0, middle])) + x_axis * (6 + 6 * off[0]) + y_axis * (6 * off[1])
        spacing = (*acquisition.sax_spacing, distance)
        shape = (*acquisition.sax_size, n)
        thickness = acquisition.slice_thickness or 0.8 * distance
    else:
        angle = LAX_ANGLES[view]
        normal = tilt @ (-np.sin(angle) * x_axis + np.cos(angle) * y_axis)
        along = heart.length * 0.72 + 5 * off[0]
        across = (12.0 if view == "lax_4c" else 0.0) + 5 * off[1]
        direction = np.cos(angle) * x_axis + np.sin(angle) * y_axis
        centre = heart.to_patient(np.array([0.0, 0.0, along])) + across * direction + 1.2 * off[2] * normal
        spacing = (*acquisition.lax_spacing, acquisition.lax_thickness)
        shape = (*acquisition.lax_size, 1)
        thickness = acquisition.lax_thickness
    columns = _orientation(view, normal, turn) * np.asarray(spacing)
    affine = np.eye(4)
    affine[:3, :3] = columns
    affine[:3, 3] = centre - columns @ ((np.asarray(shape) - 1) / 2)
    scanner = patient_position(heart, acquisition)
    return Plane(scanner @ affine, shape, thickness, np.linalg.inv(scanner))


def _stack(heart: Heart, acquisition: Acquisition) -> tuple[float, int]:
    """Slice distance and number of a short-axis stack that reaches from below the apex to above the base."""
    span = heart.length + 12.0
    if acquisition.slice_distance is None:
        n = int(acquisition.n_slices or 0)
        return math.ceil(2 * span / n) / 2, n
    n = acquisition.n_slices or math.ceil(span / acquisition.slice_distance)
    return acquisition.slice_distance, n


def _orientation(view: str, normal: np.ndarray, turn: float) -> np.ndarray:
    """Image axes of a view by the scanners' habit, columns x (right in the image), y (down) and z.

    4-chamber images are shown like axial ones (left, back), 2-chamber ones like sagittal ones (back, down), the short
    axis like a coronal one (left, down), and 3-chamber ones between the two (left and down, back).
    """
    left, back, down = np.array([-1.0, 0, 0]), np.array([0, -1.0, 0]), np.array([0, 0, -1.0])
    hints = {"lax_2c": (back, down), "lax_3c": (left + down, back), "lax_4c": (left, back), "sax": (left, down)}
    x, wanted = hints[view]
    x = x - normal * (x @ normal)
    x /= np.linalg.norm(x)
    y = np.cross(normal, x)
    if y @ wanted < 0:
        y = -y
    x, y = np.cos(turn) * x + np.sin(turn) * y, np.cos(turn) * y - np.sin(turn) * x
    return np.stack([x, y, normal], axis=1)
