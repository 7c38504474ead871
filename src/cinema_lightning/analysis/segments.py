"""The 16 segments of the American Heart Association on a short-axis label map (Cerqueira 2002, 10.1161/hc0402.102975).

The long axis, its base and the septum come from the labels, not from names or world axes: headers of NIfTI files are
often wrong about the patient. Which way round the segments run does follow from the header, since a mirror image of a
heart is a heart; :attr:`Segments.sure` says whether header and labels agree about where the apex points.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from cinema_lightning.analysis.values import LV, MYOCARDIUM, RV
from cinema_lightning.errors import CinemaError

NAMES = (
    *(
        f"basal {wall}"
        for wall in ("anterior", "anteroseptal", "inferoseptal", "inferior", "inferolateral", "anterolateral")
    ),
    *(
        f"mid {wall}"
        for wall in ("anterior", "anteroseptal", "inferoseptal", "inferior", "inferolateral", "anterolateral")
    ),
    *(f"apical {wall}" for wall in ("anterior", "septal", "inferior", "lateral")),
)
"""Segments 1 to 16 in the association's order. The 17th, the apical cap, has no cavity and cannot be seen in SAX."""
# From the apex to the base in RAS, the mean of six persons (three vendors' worth of normals lie within 14 degrees).
APEX_TO_BASE = np.array([0.63, -0.65, 0.43]) / np.linalg.norm([0.63, -0.65, 0.43])
SURE = math.cos(math.radians(50))
CLOSED = 330  # degrees of myocardium around the cavity: a gap of more than 30 is the outflow tract
SECTORS = 72


@dataclass(frozen=True)
class Segments:
    """Where each segment lies in a stack.

    Attributes:
        base_last: Whether the last slice is the one nearest the base.
        level: (Z,) 0 basal, 1 mid, 2 apical, -1 where a slice has no closed ring around a cavity.
        centres: (Z, 2) middle of the LV in voxels, NaN where there is none.
        anterior: Angle of the anterior wall in plane, radians from the first voxel axis, in mm.
        turn: 1 where the segments run towards larger angles, else -1.
        sure: Whether the header's directions are those of a living heart, so that left and right can be told.
    """

    base_last: bool
    level: np.ndarray
    centres: np.ndarray
    anterior: float
    turn: int
    sure: bool

    def of(self, x: np.ndarray, y: np.ndarray, z: int, spacing: np.ndarray) -> np.ndarray:
        """Segment numbers of points in a slice.

        Args:
            x: First voxel coordinate of the points, any shape.
            y: Second voxel coordinate, same shape.
            z: The slice.
            spacing: Voxel size, mm.

        Returns:
            1 to 16, of the same shape; 0 in a slice without segments.
        """
        level = int(self.level[z])
        if level < 0:
            return np.zeros(np.shape(x), dtype=int)
        angle = np.arctan2((y - self.centres[z, 1]) * spacing[1], (x - self.centres[z, 0]) * spacing[0])
        width = math.pi / 2 if level == 2 else math.pi / 3
        count = 4 if level == 2 else 6
        along = np.mod(self.turn * (angle - self.anterior) + width / 2, 2 * math.pi)
        return 1 + 6 * level + np.minimum((along / width).astype(int), count - 1)


def find_segments(labels: np.ndarray, affine: np.ndarray, base_last: bool | None = None) -> Segments:
    """Finds base, apex, levels and walls in the label map of one frame.

    The middle of the contact between RV and LV is the middle of the septum; the septum is 60 degrees to either side of
    it, and the other walls follow (the construction of ukbb_cardiac). Levels are thirds of the way from the lowest to
    the highest slice with a closed ring.

    Args:
        labels: (X, Y, Z), 1 RV, 2 myocardium, 3 LV.
        affine: (4, 4), voxel to RAS mm.
        base_last: Whether the last slice is the one nearest the base; None finds it, which works best at ED.

    Raises:
        CinemaError: If there is no ring of myocardium around a cavity, or no RV beside it.
    """
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    lv = labels >= MYOCARDIUM
    cavity = (labels == LV).sum(axis=(0, 1))
    rings = np.array([_degrees_closed(labels[..., z], spacing) >= CLOSED for z in range(labels.shape[2])])
    if not rings.any():
        raise CinemaError("No slice has myocardium all around the LV, so that segments cannot be told.")
    centres = np.array([ndimage.center_of_mass(lv[..., z]) if cavity[z] else (np.nan,) * 2 for z in range(len(rings))])
    base_last = is_base_last(labels) if base_last is None else base_last
    septum = _septum(labels, centres, rings, spacing)
    up = affine[:3, 2] / spacing[2] * (1 if base_last else -1)
    # Seen from the apex the segments run counter-clockwise from the anterior wall over the septum; the anterior wall
    # is where the septum's direction comes to when it is turned by +90 degrees about the axis from apex to base.
    handed = np.sign(np.dot(np.cross(affine[:3, 0], affine[:3, 1]), up))
    anterior = septum + handed * math.pi / 2
    sure = bool(np.dot(np.cross(affine[:3, 0], affine[:3, 1]), up) != 0 and np.dot(up, APEX_TO_BASE) > SURE)
    return Segments(base_last, _levels(rings, base_last), centres, float(anterior), int(-handed), sure)


def is_base_last(labels: np.ndarray) -> bool:
    """Whether the base is at the last slice of a stack: towards it the LV's cavity widens at ED.

    The outermost slices are left aside, since the valves cut through those at the base; the RV is no help there, as
    its outflow tract does not lie in the stack. A stack that was cut off at either end still widens to the same side.

    Args:
        labels: (X, Y, Z) at ED, 1 RV, 2 myocardium, 3 LV.
    """
    places = np.flatnonzero((labels == LV).any(axis=(0, 1)))
    inner = places[1:-1] if len(places) > 4 else places
    if len(inner) < 2:
        return True
    widths = np.sqrt([(labels[..., z] == LV).sum() for z in inner])
    return bool(np.polyfit(inner, widths, 1)[0] >= 0)


def _degrees_closed(labels: np.ndarray, spacing: np.ndarray) -> float:
    """Degrees around the cavity's centre in which there is myocardium."""
    cavity = labels == LV
    if not cavity.any():
        return 0.0
    centre = ndimage.center_of_mass(cavity)
    x, y = np.nonzero(labels == MYOCARDIUM)
    angle = np.arctan2((y - centre[1]) * spacing[1], (x - centre[0]) * spacing[0])
    sectors = np.unique(np.floor((angle + math.pi) / (2 * math.pi) * SECTORS).astype(int) % SECTORS)
    return len(sectors) * 360 / SECTORS


def _levels(rings: np.ndarray, base_last: bool) -> np.ndarray:
    """Thirds by distance, between the outermost closed rings; open ones between them keep their third's number."""
    level = np.full(len(rings), -1)
    places = np.flatnonzero(rings)
    low, high = places[0], places[-1]
    for z in places:
        share = (z - low + 0.5) / (high - low + 1)  # 0 at the first slice's outer edge
        from_base = 1 - share if base_last else share
        level[z] = min(2, int(from_base * 3))
    return level


def _septum(labels: np.ndarray, centres: np.ndarray, rings: np.ndarray, spacing: np.ndarray) -> float:
    """Direction from the LV's middle to the middle of its contact with the RV, in mm, over all slices with both."""
    total = np.zeros(2)
    for z in np.flatnonzero(rings):
        rv, lv = labels[..., z] == RV, labels[..., z] >= MYOCARDIUM
        if not rv.any():
            continue
        edge = lv & ~ndimage.binary_erosion(lv)
        distance = ndimage.distance_transform_edt(~rv, sampling=spacing[:2])
        contact = edge & (distance <= distance[edge].min() + 1.5 * spacing[:2].max())
        x, y = np.nonzero(contact)
        away = np.stack([(x - centres[z, 0]) * spacing[0], (y - centres[z, 1]) * spacing[1]])
        total += (away / np.linalg.norm(away, axis=0)).sum(axis=1)
    if not np.linalg.norm(total):
        raise CinemaError("No slice has an RV beside the LV, so that the septum cannot be told.")
    return math.atan2(total[1], total[0])
