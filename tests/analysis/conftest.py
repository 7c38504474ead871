"""Label maps as networks give them, for what comes after."""

import numpy as np
import pytest

from cinema_lightning.analysis.values import Phases, Segmented


@pytest.fixture(scope="session")
def segmented():
    """Takes (X, Y, Z, T) labels and their affine for what a network found."""

    def take(labels: np.ndarray, affine: np.ndarray, **options) -> Segmented:
        voxel = abs(np.linalg.det(affine[:3, :3])) / 1000
        codes = {"rv": 1, "myocardium": 2, "lv": 3}
        volumes = {name: (labels == code).sum(axis=(0, 1, 2)) * voxel for name, code in codes.items()}
        phases = {name: Phases(int(volumes[name].argmax()), int(volumes[name].argmin())) for name in ("lv", "rv")}
        return Segmented(labels, tuple(range(labels.shape[3])), volumes, phases, **options)

    return take
