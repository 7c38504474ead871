"""Volumes on their image's grid, against nibabel's reorientation."""

from dataclasses import replace
from itertools import permutations, product

import nibabel as nib
import numpy as np
import pytest

from cinema_lightning.errors import CinemaError
from cinema_lightning.imaging.alignment import Volume, on_grid, one_series

SHAPE = (12, 10, 5)


def oblique(spacing=(1.5, 1.25, 8.0), degrees=(20.0, -35.0, 50.0)) -> np.ndarray:
    affine = np.eye(4)
    for axis, angle in enumerate(np.radians(degrees)):
        turn = np.eye(4)
        one, two = (other for other in range(3) if other != axis)
        turn[one, one] = turn[two, two] = np.cos(angle)
        turn[one, two], turn[two, one] = -np.sin(angle), np.sin(angle)
        affine = affine @ turn
    affine = affine @ np.diag([*spacing, 1.0])
    affine[:3, 3] = 30, -20, 15
    return affine


IMAGE = Volume(np.random.default_rng(1).integers(1, 900, SHAPE).astype(np.int16), oblique(), "image.nii.gz")


@pytest.fixture
def label() -> Volume:
    voxels = np.zeros(SHAPE, np.uint8)
    voxels[2:8, 3:9, 1:4] = np.random.default_rng(0).integers(1, 4, (6, 6, 3))
    return Volume(voxels, IMAGE.affine.copy(), "label.nii.gz")


def moved(volume: Volume, voxels) -> Volume:
    """The same voxels under an origin that lies elsewhere."""
    affine = volume.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ np.asarray(voxels, float)
    return replace(volume, affine=affine)


def test_a_map_on_the_grid_is_handed_back(label):
    voxels, said = on_grid(label, IMAGE, labels=True)
    np.testing.assert_array_equal(voxels, label.voxels)
    assert said == ""


@pytest.mark.parametrize("order", permutations(range(3)))
def test_every_order_and_direction_of_the_axes(label, order):
    for signs in product((1, -1), repeat=3):
        turn = np.stack([order, signs], axis=1)
        # as single precision in a header makes of it
        affine = (label.affine @ nib.orientations.inv_ornt_aff(turn, SHAPE)).astype(np.float32).astype(float)
        stored = Volume(nib.orientations.apply_orientation(label.voxels, turn), affine, "label.nii.gz")
        voxels, said = on_grid(stored, IMAGE, labels=True)
        np.testing.assert_array_equal(voxels, label.voxels)
        assert ("stored backwards" in said) == (-1 in signs)
        assert ("in the order" in said) == (order != (0, 1, 2))


def test_a_cut_out_and_a_padded_map(label):
    cut = moved(replace(label, voxels=label.voxels[1:9, 2:, :4]), (1, 2, 0))
    voxels, said = on_grid(cut, IMAGE, labels=True)
    np.testing.assert_array_equal(voxels, label.voxels)
    assert "it starts at voxel 1, 2, 0" in said
    padded = moved(replace(label, voxels=np.pad(label.voxels, 3)), (-3, -3, -3))
    np.testing.assert_array_equal(on_grid(padded, IMAGE, labels=True)[0], label.voxels)
    beyond = moved(cut, (6, 0, 0))
    with pytest.raises(
        CinemaError, match=r"reaches beyond image\.nii\.gz by its header: \d+ marked voxels would be lo"
    ):
        on_grid(beyond, IMAGE, labels=True)
    with pytest.raises(CinemaError, match=r"has 8 x 8 x 4 voxels and image\.nii\.gz 12 x 10 x 5"):
        on_grid(replace(cut, voxels=np.zeros_like(cut.voxels)), IMAGE, labels=True)


def test_origins_up_to_a_voxel_apart(label):
    rolled = moved(replace(label, voxels=np.roll(label.voxels, -1, axis=0)), (1, 0, 0))
    np.testing.assert_array_equal(on_grid(rolled, IMAGE, labels=True)[0], label.voxels)
    voxels, said = on_grid(moved(label, (0.5, -0.5, 0.5)), IMAGE, labels=True)  # a voxel's corner for its centre
    np.testing.assert_array_equal(voxels, label.voxels)
    assert "lie 0.5 voxels beside" in said
    voxels, _ = on_grid(moved(label, (0, 0.7, 0)), IMAGE, labels=True)
    np.testing.assert_array_equal(voxels, np.roll(label.voxels, 1, axis=1))
    with pytest.raises(CinemaError, match=r"places it 26\.2 mm away \(0\.0, 21\.0, 0\.0 voxels\)"):
        on_grid(moved(label, (0, 21, 0)), IMAGE, labels=True)
    with pytest.raises(CinemaError, match="mend the header"):
        on_grid(moved(label, (1.1, 0, 0)), IMAGE, labels=True)


def test_other_voxels_and_rotations_are_refused(label):
    wider = replace(label, affine=label.affine @ np.diag([1.009, 1, 1, 1]))
    np.testing.assert_array_equal(on_grid(wider, IMAGE, labels=True)[0], label.voxels)
    with pytest.raises(CinemaError, match=r"voxels of 1\.53 x 1\.25 x 8 mm by its header and image\.nii\.gz 1\.5 x"):
        on_grid(replace(label, affine=label.affine @ np.diag([1.02, 1, 1, 1])), IMAGE, labels=True)
    turned = oblique(degrees=(20.0, -35.0, 60.0))
    with pytest.raises(CinemaError, match=r"rotated against image\.nii\.gz, by \d"):
        on_grid(replace(label, affine=turned), IMAGE, labels=True)
    slightly = oblique(degrees=(20.0, -35.0, 50.05))
    np.testing.assert_array_equal(on_grid(replace(label, affine=slightly), IMAGE, labels=True)[0], label.voxels)


def test_headers_that_do_not_say_where_they_lie(label):
    """Such a map lies on its image voxel by voxel; a header that says two places makes no map turn round."""
    lost = replace(label, affine=np.diag([-1.5, 1.25, 8.0, 1.0]), place="unknown")
    voxels, said = on_grid(lost, IMAGE, labels=True)
    np.testing.assert_array_equal(voxels, label.voxels)
    assert "voxel by voxel" in said
    voxels, _ = on_grid(label, replace(IMAGE, affine=lost.affine, place="unknown"), labels=True)
    np.testing.assert_array_equal(voxels, label.voxels)
    with pytest.raises(CinemaError, match="has 12 x 10 x 4 voxels"):
        on_grid(replace(lost, voxels=label.voxels[..., :4]), IMAGE, labels=True)
    with pytest.raises(CinemaError, match=r"voxels of 1 x 1 x 1 mm"):
        on_grid(replace(lost, affine=np.eye(4)), IMAGE, labels=True)
    assert on_grid(label, replace(IMAGE, place="disputed"), labels=True)[1] == ""
    with pytest.raises(CinemaError, match="sform and qform of one of them contradict"):
        on_grid(lost, replace(IMAGE, place="disputed"), labels=True)


def test_images_as_one_series():
    turned = Volume(
        IMAGE.voxels[::-1].astype(np.float32) + 1000,
        IMAGE.affine @ nib.orientations.inv_ornt_aff([[0, -1], [1, 1], [2, 1]], SHAPE),
        "t2.nii.gz",
    )
    series = one_series([IMAGE, turned, moved(replace(IMAGE, name="beside.nii.gz"), (0, 0.8, 0))])
    assert series.voxels.shape == (*SHAPE, 3)
    np.testing.assert_array_equal(series.voxels[..., 1], IMAGE.voxels + 1000)
    np.testing.assert_array_equal(series.voxels[..., 2], IMAGE.voxels)
    assert "t2.nii.gz was brought" in series.notes[0]
    assert "0.8 voxels beside" in series.notes[1]
    with pytest.raises(CinemaError, match=r"label\.nii\.gz has 11 x 10 x 5 voxels and image\.nii\.gz 12 x 10 x 5"):
        one_series([IMAGE, replace(IMAGE, voxels=IMAGE.voxels[1:], name="label.nii.gz")])
    with pytest.raises(CinemaError, match="mm away"):
        one_series([IMAGE, moved(IMAGE, (0, 0, 2))])
