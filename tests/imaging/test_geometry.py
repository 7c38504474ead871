import json
import os
from pathlib import Path

import numpy as np
import pytest

from cinema_lightning.errors import CinemaError
from cinema_lightning.imaging import geometry

GOLDEN = Path(os.environ.get("CINEMA_GOLDEN", Path(__file__).parents[1] / "golden")) / "prepare"
PLANES = json.loads((GOLDEN / "planes.json").read_text())


def _affine(facts: dict) -> np.ndarray:
    directions = np.array(facts["direction_columns_lps"]).T  # a list of columns
    return geometry.affine_from_lps(facts["origin_lps"], directions, facts["spacing"])


@pytest.mark.parametrize("case", PLANES)
def test_planes_meet_and_crop_as_published(case):
    affines = {view: _affine(case[view]) for view in ("sax", "lax_2c", "lax_4c")}
    point = geometry.meeting_point(affines["sax"], affines["lax_2c"], affines["lax_4c"])
    np.testing.assert_allclose(point * [-1, -1, 1], case["meeting_point_lps"], atol=1e-3)
    for view, affine in affines.items():
        window = geometry.point_window(point, affine, tuple(case[view]["crop"]))
        assert list(window.start) == case[view]["first_index"], view
        assert list(window.size) == case[view]["crop"]


def test_parallel_planes_are_refused():
    sax, lax = np.eye(4), np.eye(4)
    lax[:3, :3] = [[1, 0, 0], [0, 0, 1], [0, 1, 0]]
    with pytest.raises(CinemaError, match="two long-axis planes are parallel"):
        geometry.meeting_point(sax, lax, lax)
    other = np.eye(4)  # normal along z - y: the line with lax (normal y) runs along x, inside the SAX plane
    other[:3, :3] = [[1, 0, 0], [0, 1, -1], [0, 1, 1]]
    with pytest.raises(CinemaError, match="parallel to the SAX plane"):
        geometry.meeting_point(sax, lax, other)


@pytest.mark.parametrize("case", PLANES)
def test_without_a_short_axis_the_line_of_the_planes_counts(case):
    one, other = (_affine(case[view]) for view in ("lax_2c", "lax_4c"))
    point = geometry.meeting_point(_affine(case["sax"]), one, other)
    line = np.cross(*(np.cross(affine[:3, 0], affine[:3, 1]) for affine in (one, other)))
    line /= np.linalg.norm(line)
    beside = point + 30 * line + 5 * np.cross(line, [1.0, 0.0, 0.0])
    np.testing.assert_allclose(geometry.nearest_on_line(one, other, beside), point + 30 * line, atol=1e-6)
    with pytest.raises(CinemaError, match="two long-axis planes are parallel"):
        geometry.nearest_on_line(one, one, beside)


def test_the_middle_of_an_image():
    affine = geometry.affine_from_lps([10, -20, 30], np.eye(3), (2.0, 1.0, 8.0))
    np.testing.assert_allclose(geometry.middle(affine, (11, 21, 3)), [-20, 10, 38])


def test_size_rounds_halves_to_even():
    assert geometry.resampled_size((9, 11, 1), (1.0, 1.0, 4.0), (2.0, 2.0, 10.0)) == (4, 6, 1)


def test_resampling_keeps_a_linear_ramp_and_the_field_of_view():
    spacing, target = (1.5, 2.0, 8.0), (1.0, 1.0, 10.0)
    rng = np.random.default_rng(0)
    rotation, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    affine = geometry.affine_from_lps([10, -20, 30], rotation, spacing)
    frame = np.add.outer(np.add.outer(np.arange(20.0), 3 * np.arange(16.0)), 7 * np.arange(5.0))
    out = geometry.resample(frame, spacing, target)
    moved = geometry.resampled_affine(affine, target)
    assert out.shape == (30, 32, 4)
    np.testing.assert_allclose(geometry.spacing_of(moved), target)
    # The outer corner stays where it was, along the image's own axes.
    corner = np.array([-0.5, -0.5, -0.5, 1.0])
    np.testing.assert_allclose(moved @ corner, affine @ corner, atol=1e-9)
    # Every inner voxel shows the ramp's value at its own place in the world.
    index = np.array([11, 13, 1])
    at = np.linalg.solve(affine, moved @ [*index, 1.0])[:3]
    assert out[tuple(index)] == pytest.approx(at @ [1, 3, 7])


def test_oblique_resampling_is_that_of_world_coordinates():
    """SimpleITK with the full oblique geometry gives the same image on the grid that our affine describes."""
    import SimpleITK as sitk

    rng = np.random.default_rng(1)
    rotation, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    spacing, target = (1.7, 1.3, 8.0), (1.0, 1.0, 10.0)
    frame = rng.random((20, 24, 5))
    affine = geometry.affine_from_lps([12.0, -30.0, 50.0], rotation, spacing)
    image = sitk.GetImageFromArray(frame.transpose(2, 1, 0))
    image.SetSpacing(spacing)
    image.SetOrigin([12.0, -30.0, 50.0])
    image.SetDirection(rotation.reshape(-1).tolist())
    got = geometry.resample(frame, spacing, target)
    moved = geometry.LPS_TO_RAS @ geometry.resampled_affine(affine, target)
    out = sitk.Resample(
        image, got.shape, sitk.Transform(), sitk.sitkLinear, moved[:3, 3].tolist(), target, image.GetDirection(), 0.0
    )
    expected = sitk.GetArrayFromImage(out).transpose(2, 1, 0)
    np.testing.assert_allclose(moved[:3, :3] / target, rotation, atol=1e-12)
    # Along the border, rounding decides what counts as outside there; here nothing is rounded.
    np.testing.assert_allclose(got[1:-1, 1:-1, 1:-1], expected[1:-1, 1:-1, 1:-1], atol=1e-9)


def test_resampling_cuts_integers_and_takes_nearest_labels():
    image = np.array([0, 3, 3], np.int16)[:, None, None]
    out = geometry.resample(image, (1, 1, 1), (0.5, 1, 1))
    assert out.dtype == np.int16
    assert out[:, 0, 0].tolist() == [0, 0, 2, 3, 3, 3]  # 0.75 -> 0 and 2.25 -> 2
    label = np.array([0, 3, 1], np.uint8)[:, None, None]
    assert geometry.resample(label, (1, 1, 1), (0.5, 1, 1), label=True)[:, 0, 0].tolist() == [0, 0, 3, 3, 1, 1]


@pytest.mark.parametrize("start", [(0, 0), (5, 9), (-7, 20), (25, -4), (60, 3), (-40, 0)])
@pytest.mark.parametrize("label", [True, False])
def test_a_window_of_the_resampled_image_is_the_same_as_its_crop(start, label):
    rng = np.random.default_rng(0)
    frame = rng.integers(0, 3 if label else 900, (23, 31, 4)).astype(np.int16)
    spacing, target = (1.83, 1.27, 8.0), (1.0, 1.0, 10.0)
    window = geometry.Window(start, (24, 20))
    whole = geometry.resample(frame, spacing, target, label=label)
    expected = geometry.apply_window(whole[None], window)[0]
    got = geometry.resample(frame, spacing, target, label=label, window=window)
    assert got.dtype == expected.dtype
    assert np.abs(got.astype(int) - expected).max() <= (0 if label else 1)


def test_box_window_is_moved_inside():
    mask = np.zeros((300, 100, 2), bool)
    mask[280:291, 40:50, 1] = True
    window = geometry.box_window(mask, (192, 192))
    assert window == ((300 - 192, 0), (192, 100))
    mask[:] = False
    mask[150:152, 40, 0] = True  # centre 150.5, start = ceil(54.5)
    assert geometry.box_window(mask, (192, 192)).start[0] == 55
    with pytest.raises(CinemaError, match="no voxel"):
        geometry.box_window(np.zeros((4, 4, 1), bool), (2, 2))


@pytest.mark.parametrize("start", [(-3, 2), (5, -2), (4, 4), (20, 0), (-20, 0)])
def test_windows_pad_with_zeros(start):
    frames = np.arange(1, 1 + 2 * 8 * 6).reshape(2, 8, 6, 1)
    out = geometry.apply_window(frames, geometry.Window(start, (6, 5)))
    padded = np.pad(frames, [(0, 0), (30, 30), (30, 30), (0, 0)])
    expected = padded[:, 30 + start[0] : 36 + start[0], 30 + start[1] : 35 + start[1]]
    np.testing.assert_array_equal(out, expected)


def test_bad_orientation():
    with pytest.raises(CinemaError, match="six numbers"):
        geometry.directions_from_cosines([1, 0, 0, 0, 1])
    with pytest.raises(CinemaError, match="span a plane"):
        geometry.directions_from_cosines([1, 0, 0, 1, 0, 0])
