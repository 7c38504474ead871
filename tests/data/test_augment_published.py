"""The published augmentation of each kind of data is what it was before effects were listed one by one."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cinema_lightning.data import DATA
from cinema_lightning.data.labels import IGNORE

SIZES = {"sax": (32, 30, 5), "lax_2c": (36, 40), "lax_3c": (40, 40), "lax_4c": (40, 36)}
TRUE = {3: [(40, 36, 6), (30, 28, 4), (24, 40, 7), (40, 36, 6)], 2: [(44, 40), (30, 42), (40, 36), (44, 40)]}
KINDS = {
    "pretrain": ("PretrainData", list(SIZES), {}),
    "segmentation": ("SegmentationData", ["sax", "lax_4c"], {}),
    "published noise": ("SegmentationData", ["sax"], {"noise_scale": "published"}),
    "classification": ("ClassificationData", ["sax", "lax_2c"], {}),
    "regression": ("RegressionData", ["sax", "lax_2c"], {}),
    "survival": ("SurvivalData", ["sax", "lax_2c"], {}),
    "landmarks": ("LandmarkData", ["lax_2c", "lax_4c"], {}),
}
POOLED = {
    "sax": 2716264.753,
    "sax_spacing": 1322.9306,
    "sax_affine": 25301.1441,
    "lax_2c": 887157.4401,
    "lax_2c_spacing": 1329.7701,
    "lax_2c_affine": 26191.9472,
}
# Sums over four epochs, of voxels times weights, by the version that held each augmentation in one class.
BEFORE = {
    "pretrain": {"sax": 1636027.797, "lax_2c": 511582.3826, "lax_3c": 550897.7314, "lax_4c": 508461.7235},
    "segmentation": {
        "sax": 1356191.88,
        "sax_spacing": 1322.9306,
        "sax_affine": 25301.1441,
        "sax_label": 237229768,
        "lax_4c": 473982.0044,
        "lax_4c_spacing": 1317.8756,
        "lax_4c_affine": 24028.7087,
        "lax_4c_label": 71356350,
    },
    "published noise": {"sax": 1347318.797, "sax_spacing": 1322.9306, "sax_affine": 25301.1441, "sax_label": 237229768},
    "landmarks": {
        "lax_2c": 442687.1297,
        "lax_2c_spacing": 1329.7701,
        "lax_2c_affine": 26191.9472,
        "lax_2c_points": 19548.7573,
        "lax_2c_points_valid": 226,
        "lax_4c": 482332.5694,
        "lax_4c_spacing": 1317.8756,
        "lax_4c_affine": 24028.7087,
        "lax_4c_points": 19820.8138,
        "lax_4c_points_valid": 225,
    },
    **dict.fromkeys(("classification", "regression", "survival"), POOLED),
}


def make_batch(views, epoch, *, channels, labels, points):
    """Images of several sizes, some larger than the input, padded to the largest; the third without a label map."""
    rng = np.random.default_rng(7)
    batch = {"id": ["a", "b", "b", "c"], "epoch": epoch, "frame": torch.tensor([0, 1, 5, 2])}
    for view in views:
        true = TRUE[len(SIZES[view])]
        largest = np.max(true, axis=0)
        images, maps = np.zeros((4, channels, *largest), np.uint8), np.zeros((4, *largest), np.uint8)
        for row, size in enumerate(true):
            box = tuple(slice(n) for n in size)
            images[(row, slice(None), *box)] = rng.integers(20, 220, (channels, *size))
            maps[(row, *box)] = rng.integers(0, 4, size)
        maps[2] = IGNORE
        batch |= {view: torch.from_numpy(images), f"{view}_size": torch.tensor(true)}
        batch[f"{view}_spacing"] = torch.tensor([[1.5, 2.0, 10.0]] * 4)
        batch[f"{view}_affine"] = torch.diag(torch.tensor([1.5, 2.0, 10.0, 1.0])).repeat(4, 1, 1)
        if labels:
            known = torch.tensor([True, True, False, True])
            batch |= {f"{view}_label": torch.from_numpy(maps), f"{view}_labelled": known}
        if points:
            batch[f"{view}_points"] = torch.from_numpy(rng.uniform(5, 30, (4, 3, 2)).astype(np.float32))
            batch[f"{view}_points_valid"] = torch.ones(4, 3, dtype=torch.bool)
    return batch


def weighed(values: torch.Tensor) -> float:
    """A sum that changes with every value and with its place."""
    return float((values.flatten().double() * (torch.arange(values.numel()) % 97)).sum())


@pytest.mark.parametrize("kind", KINDS)
def test_batches_are_those_of_before(kind, tmp_path):
    name, views, options = KINDS[kind]
    data = DATA[name](str(tmp_path), views=views, input_size={v: list(SIZES[v]) for v in views}, seed=3, **options)
    has = {"labels": name == "SegmentationData", "points": name == "LandmarkData"}
    channels = 2 if getattr(data, "per_study", False) else 1
    transform = data.train_transform()
    seen: dict[str, float] = {}
    for epoch in range(4):
        out = transform(make_batch(views, epoch, channels=channels, **has))
        for key in BEFORE[kind]:
            seen[key] = seen.get(key, 0) + weighed(out[key])
    assert seen == pytest.approx(BEFORE[kind], rel=1e-6)
