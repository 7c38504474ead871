"""A scan as a scanner gives it, and a network for it."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest

OBLIQUE = np.array([[0.8, -0.6, 0.0], [0.36, 0.48, -0.8], [0.48, 0.64, 0.6]])


def cine(shape: tuple[int, ...], voxel: tuple[float, float, float], seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A beating, oblique scan of floats, (X, Y, Z, T), and its affine."""
    rng = np.random.default_rng(seed)
    x, y, z, t = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    radius = 0.45 + 0.1 * np.cos(np.pi * t) - 0.1 * np.abs(z)
    ring = np.exp(-((np.hypot(x - 0.1, y + 0.05) - radius) ** 2) / 0.02) + (x > 0.4)
    voxels = (900 * ring + 60 * rng.random(shape)).astype(np.float32)
    affine = np.eye(4)
    affine[:3, :3] = OBLIQUE * np.array(voxel)
    affine[:3, 3] = (-40, 25, 60)
    return voxels, affine


@pytest.fixture(scope="session")
def scan(tmp_path_factory) -> Path:
    """4D, oblique, 1.6 x 1.6 x 8 mm, float: 5 frames of 9 slices, deeper than the network's input."""
    voxels, affine = cine((50, 44, 9, 5), (1.6, 1.6, 8.0))
    path = tmp_path_factory.mktemp("scans") / "P01" / "sax.nii.gz"
    path.parent.mkdir()
    nibabel.save(nibabel.Nifti1Image(voxels, affine), path)
    return path


@pytest.fixture(scope="session")
def segmenter(tmp_path_factory, train) -> Path:
    """A checkpoint that segments the short axis."""
    return train(tmp_path_factory.mktemp("segmenter") / "best.ckpt", "Segmentation")


@pytest.fixture(scope="session")
def moving():
    """Makes voxels and their affine, see :func:`cine`."""
    return cine
