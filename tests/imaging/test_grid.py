"""From a scan to a network's grid and back."""

from __future__ import annotations

import numpy as np
import pytest

from cinema_lightning.imaging import geometry
from cinema_lightning.imaging.geometry import Window
from cinema_lightning.imaging.grid import Grid, network_grid, stored_grid


def heart(spacing, size=(90.0, 90.0, 130.0), length=85.0, radius=26.0, base=22.0):
    """Half an ellipsoid in the middle of a field of view (mm): its flat side cuts between slices."""
    counts = [int(n / s) for n, s in zip(size, spacing, strict=True)]
    x, y, z = ((np.arange(n) + 0.5) * s for n, s in zip(counts, spacing, strict=True))
    depth = (z - base) / length
    radii = np.where((depth > 0) & (depth < 1), radius * np.sqrt(np.clip(1 - depth**2, 0, None)), 0)
    inside = np.hypot(x[:, None] - size[0] / 2, y[None] - size[1] / 2)[..., None] < radii
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = (-20, 11, 5)
    return inside.astype(np.uint8), affine


def one_hot(labels):
    return np.stack([labels == 0, labels == 1]).astype(np.float32)


@pytest.mark.parametrize("spacing", [(1.25, 1.25, 5.0), (1.4, 1.4, 6.5), (1.8, 1.8, 8.0), (0.9, 1.3, 6.0), (1, 1, 10)])
def test_a_volume_survives_the_way_there_and_back(spacing):
    labels, affine = heart(spacing)
    grid = network_grid(affine, labels.shape, (1.0, 1.0, 10.0))
    seen = np.stack([grid.to_network(channel) for channel in one_hot(labels)])
    assert seen.shape[1:] == grid.shape
    back = grid.to_scan(seen).argmax(0)
    assert back.shape == labels.shape
    assert back.sum() == pytest.approx(labels.sum(), rel=0.01)
    assert (back != labels).sum() < 0.02 * labels.sum()


def test_nothing_is_touched_on_the_grid_itself():
    labels, affine = heart((1.0, 1.0, 10.0))
    affine[:3, :3] *= 1.0004  # rounding in a header
    grid = network_grid(affine, labels.shape, (1.0, 1.0, 10.0))
    assert grid.is_own
    assert grid.to_network(labels) is labels
    assert np.array_equal(grid.to_scan(one_hot(labels)), one_hot(labels))
    assert np.array_equal(grid.network_affine, affine)
    assert network_grid(affine, labels.shape, None).is_own


def test_a_long_axis_plane_keeps_its_thickness():
    grid = network_grid(np.diag([1.5, 1.5, 6.0, 1.0]), (40, 30), (1.0, 1.0))
    assert grid.spacing == (1.0, 1.0, 6.0)
    assert grid.shape == (60, 45, 1)
    assert grid.to_scan(np.ones((3, 60, 45, 1))).shape == (3, 40, 30, 1)


def test_what_the_crop_cut_away_is_background():
    grid = Grid(np.diag([2.0, 2.0, 10.0, 1.0]), (40, 40, 4), (1.0, 1.0, 10.0)).cropped(Window((20, 30), (32, 16)))
    everything = np.zeros((2, 32, 16, 4), np.float32)
    everything[1] = 1
    found = grid.to_scan(everything)
    assert np.array_equal(found.sum(0), np.ones((40, 40, 4)))
    filled = np.argwhere(found.argmax(0)[:, :, 0])
    assert filled.min(0).tolist() == [10, 15]
    assert filled.max(0).tolist() == [25, 22]


def test_a_window_beyond_the_image_and_points():
    grid = Grid(np.diag([1.5, 1.5, 10.0, 1.0]), (40, 40, 2), (1.0, 1.0, 10.0)).cropped(Window((-6, 4), (32, 32)))
    assert grid.to_scan(np.ones((2, 32, 32, 2))).shape == (2, 40, 40, 2)
    x, y = grid.point_to_scan(10.0, 10.0)
    place = np.linalg.inv(grid.affine) @ grid.network_affine @ [10.0, 10.0, 0.0, 1.0]
    assert (x, y) == pytest.approx(tuple(place[:2]))


def test_the_grid_that_preparation_noted_is_the_one_it_used():
    labels, affine = heart((1.4, 1.4, 6.5))
    made = Grid(affine, labels.shape, (1.0, 1.0, 10.0)).cropped(Window((3, 5), (64, 60)))
    noted = {"orig_affine": affine.tolist(), "orig_size": list(labels.shape), "crop_start": [3, 5]}
    read = stored_grid(noted, made.network_affine, made.shape, made.spacing)
    assert read.window == made.window
    assert np.allclose(read.network_affine, made.network_affine)
    assert read.whole_shape == geometry.resampled_size(labels.shape, (1.4, 1.4, 6.5), (1, 1, 10))
    unknown = stored_grid({}, made.network_affine, made.shape, made.spacing)
    assert (unknown.size, unknown.is_own) == (made.shape, True)
