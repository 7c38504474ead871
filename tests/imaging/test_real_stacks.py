"""Real studies: volumes of the experts' contours on our stacks, by our geometry, against theirs."""

from zipfile import ZipFile

import numpy as np
import pytest
from matplotlib.path import Path as Polygon

from cinema_lightning.imaging.dicom import read_folder, sort_slices
from cinema_lightning.imaging.dicom_file import DicomFile
from cinema_lightning.imaging.geometry import LPS_TO_RAS, spacing_of
from cinema_lightning.imaging.stack import stack


def _masks(stacked, contours) -> np.ndarray:
    """(X, Y, Z) share of each voxel within the contours, from four by four points of it."""
    shape = stacked.frames.shape[1:]
    normal = np.cross(*(LPS_TO_RAS @ stacked.affine)[:3, :2].T)
    normal /= np.linalg.norm(normal)
    heights = [(LPS_TO_RAS @ stacked.affine @ [0, 0, z, 1])[:3] @ normal for z in range(shape[2])]
    offsets = (np.arange(4) - 1.5) / 4
    grid = np.indices(shape[:2]).reshape(2, -1).T
    out = np.zeros(shape)
    for contour in contours:
        z = int(np.argmin(np.abs(np.array(heights) - contour["plane_mm"])))
        assert heights[z] == pytest.approx(contour["plane_mm"], abs=0.1)
        polygon = Polygon(contour["points_column_row"])
        inside = [polygon.contains_points(grid + np.array([dx, dy])) for dx in offsets for dy in offsets]
        out[..., z] += np.mean(inside, axis=0).reshape(shape[:2])
    return out


@pytest.mark.parametrize(("name", "slices", "distance", "pixel"), [("101", 12, 10.0, 1.3672), ("301", 10, 8.0, 1.2891)])
def test_volumes_of_one_series_with_all_slices(sunnybrook, name, slices, distance, pixel):
    stacked, truth = sunnybrook(name)
    assert stacked.frames.shape == (20, 256, 256, slices)
    assert (stacked.left_out, stacked.filled, stacked.warnings) == (0, 0, ())
    np.testing.assert_allclose(spacing_of(stacked.affine), [pixel, pixel, distance], atol=1e-3)
    voxel = np.prod(spacing_of(stacked.affine)) / 1000
    for phase in ("ed", "es"):
        frame = truth[f"{phase}_phase"]
        contours = [c for c in truth["contours"] if c["kind"] == "endocardium" and c["phase"] == frame]
        masks = _masks(stacked, contours)
        assert masks.sum() * voxel == pytest.approx(truth[f"lv_{phase}v_ml"], rel=0.02)
        # And they lie on the blood: what is within is brighter than the wall beside it.
        blood, image = masks > 0.99, stacked.frames[frame]
        assert np.median(image[blood]) > 1.5 * np.median(image[(masks == 0) & (_grown(masks) > 0)])


def _grown(masks: np.ndarray) -> np.ndarray:
    from scipy.ndimage import maximum_filter

    return maximum_filter(masks, (7, 7, 1))


def test_one_slice_in_each_series(real):
    """Six of eleven series are the short axis, 17.7 mm apart, whatever they are called."""
    with ZipFile(real / "dicom" / "siemens_study.zip") as archive:
        members = [member for member in archive.namelist() if not member.endswith("/")]
        files = [DicomFile(member, lambda member=member: archive.read(member)) for member in members]
        cines, said = sort_slices(read_folder(files, "study", []))
    assert (len(cines), said) == (11, [])
    assert {len(cine.frames) for cine in cines} == {25}
    stacked = stack(cines)
    assert stacked.frames.shape == (25, 256, 208, 6)
    assert (stacked.read, stacked.left_out, stacked.filled) == (11, 5, 0)
    assert spacing_of(stacked.affine)[2] == pytest.approx(17.7, abs=0.01)
