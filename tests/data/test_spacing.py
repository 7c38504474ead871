"""At which voxel size a network sees its images."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest

from cinema_lightning.data.spacing import wanted_spacing
from cinema_lightning.data.store import series_path, write_series
from cinema_lightning.data.table import write_cohort
from cinema_lightning.errors import CinemaError
from cinema_lightning.tasks.pretrain.data import PretrainData
from cinema_lightning.tasks.segmentation.data import SegmentationData


def store(root, *sizes, view="sax"):
    """A store whose studies have these voxel sizes."""
    for i, size in enumerate(sizes):
        shape = (1, 12, 10, 4) if view == "sax" else (1, 12, 10)
        voxels = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
        write_series(series_path(root, f"s{i}", view), voxels, affine=np.diag([*size, 1.0]))
    write_cohort(root, [{"id": f"s{i}", "views": view, "n_frames": 1} for i in range(len(sizes))])
    return root


def scans(root, size=(1.25, 1.25, 8.0), shape=(24, 20, 5)):
    for i in range(3):
        (root / f"p{i}").mkdir(parents=True, exist_ok=True)
        voxels = np.random.default_rng(i).integers(0, 900, shape).astype(np.int16)
        nib.save(nib.Nifti1Image(voxels, np.diag([*size, 1.0])), root / f"p{i}" / "sax.nii.gz")
    return root


def pretrain(root, **options):
    return PretrainData(str(root), views=["sax"], input_size={"sax": [16, 16, 4]}, num_workers=0, **options)


def test_who_decides():
    views = ["sax", "lax_2c"]
    assert wanted_spacing(views, "auto", None, {}) == {"sax": (1.0, 1.0, 10.0), "lax_2c": (1.0, 1.0)}
    assert wanted_spacing(views, "auto", None, {"sax": None, "lax_2c": (2.0, 2.0, 9.0)}) == {
        "sax": None,
        "lax_2c": (2.0, 2.0),
    }
    trained = {"sax": [3.0, 3.0, 10.0], "lax_2c": None}
    assert wanted_spacing(views, "auto", trained, {"sax": None}) == {"sax": (3.0, 3.0, 10.0), "lax_2c": None}
    assert wanted_spacing(views, {"sax": [2, 2, 8]}, trained, {})["sax"] == (2.0, 2.0, 8.0)
    assert wanted_spacing(views, "own", trained, {}) == {"sax": None, "lax_2c": None}


def test_a_network_knows_what_it_was_trained_at(tmp_path):
    small = pretrain(store(tmp_path / "small", *[(3.0, 3.0, 10.0)] * 3))
    assert small.spec["spacing"] == {"sax": [3.0, 3.0, 10.0]}
    raw = scans(tmp_path / "raw")
    assert pretrain(raw).spec["spacing"] == {"sax": [1.0, 1.0, 10.0]}
    assert pretrain(raw, spacing="own").spec["spacing"] == {"sax": None}
    assert pretrain(raw, spacing={"sax": [2, 2, 8]}).spec["spacing"] == {"sax": [2.0, 2.0, 8.0]}
    varied = SegmentationData(str(store(tmp_path / "own", (0.7, 0.7, 10.0))), dataset="myops")
    assert varied.spec["spacing"] == {"sax": None}  # the dataset keeps each image's own


@pytest.mark.parametrize(
    ("trained", "spacing", "shape"),
    [
        ([3.0, 3.0, 10.0], (3.0, 3.0, 10.0), (10, 8, 4)),
        (None, (1.25, 1.25, 8.0), (24, 20, 5)),
        ([1.0, 1.0, 10.0], (1.0, 1.0, 10.0), (30, 25, 4)),
    ],
)
def test_plain_scans_follow_the_network(tmp_path, trained, spacing, shape):
    data = pretrain(scans(tmp_path))
    data.follow({"views": ["sax"], "input_size": {"sax": [16, 16, 4]}, "spacing": {"sax": trained}}, "predict")
    data.setup("predict")
    series = data.cohort.reader.open("p0", "sax")
    assert series.info.spacing == pytest.approx(spacing)
    assert series.shape == shape
    assert data.native("p0", "sax").grid.size == (24, 20, 5)


def test_checkpoints_made_before_take_the_views_size(tmp_path):
    data = pretrain(scans(tmp_path))
    data.follow({"views": ["sax"], "input_size": {"sax": [16, 16, 4]}}, "predict")
    with pytest.warns(UserWarning, match="do not say at what voxel size .* are brought to SAX 1 x 1 x 10 mm"):
        data.setup("predict")
    assert data.cohort.reader.open("p0", "sax").info.spacing == (1.0, 1.0, 10.0)


def test_a_store_of_another_size_is_refused_unless_it_is_meant(tmp_path):
    root, spec = store(tmp_path, *[(1.0, 1.0, 10.0)] * 2), {"views": ["sax"], "input_size": {"sax": [16, 16, 4]}}
    near = pretrain(root)
    near.follow({**spec, "spacing": {"sax": [1.03, 1.03, 10.0]}})
    near.setup("predict")
    far = {**spec, "spacing": {"sax": [3.0, 3.0, 10.0]}}
    data = pretrain(root)
    data.follow(far)
    with pytest.raises(CinemaError, match="SAX images of 1 x 1 x 10 mm, but the network was trained at 3 x 3 x 10 mm"):
        data.setup("predict")
    meant = pretrain(root, spacing="own")
    meant.follow(far)
    with pytest.warns(UserWarning, match="it is used all the same"):
        meant.setup("predict")


@pytest.mark.parametrize(
    ("spacing", "message"),
    [
        ("other", "spacing is 'other'; it is auto, own, or mm by view"),
        ({"sax": [1, 1]}, r"spacing of sax is \[1, 1\]; it needs 3 voxel sizes"),
        ({"sax": [1, 1, 0]}, "above 0"),
        ({"heart": [1, 1, 1]}, "no view called 'heart'"),
    ],
)
def test_wrong_sizes(tmp_path, spacing, message):
    with pytest.raises(CinemaError, match=message):
        pretrain(tmp_path, spacing=spacing)


def test_a_store_is_not_resampled(tmp_path):
    with pytest.raises(CinemaError, match="is a store, whose images are not resampled"):
        pretrain(store(tmp_path, (1.0, 1.0, 10.0)), spacing={"sax": [2, 2, 8]}).setup("predict")
