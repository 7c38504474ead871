import dataclasses

import numpy as np
import pytest

from cinema_lightning.errors import CinemaError
from cinema_lightning.phantom.acquisition import Acquisition, plan
from cinema_lightning.phantom.anatomy import Heart
from cinema_lightning.phantom.imaging import Imager
from cinema_lightning.phantom.motion import scar_extent
from cinema_lightning.phantom.subject import draw_subject
from cinema_lightning.phantom.truth import voxel_volumes
from cinema_lightning.views import VIEWS

COARSE = Acquisition(
    n_frames=3,
    sax_size=(110, 110),
    sax_spacing=(1.7, 1.7),
    lax_size=(150, 150),
    lax_spacing=(1.7, 1.7),
)


@pytest.fixture(scope="module")
def imaged():
    out = {}
    for index in range(5):
        heart = Heart(draw_subject(3, index))
        imager = Imager(heart, COARSE)
        out[heart.subject.pathology] = (heart, {view: imager.image(view) for view in VIEWS})
    return out


def test_shapes_and_types(imaged):
    for _, views in imaged.values():
        assert views["sax"].images.shape[:3] == (3, 110, 110)
        assert views["lax_4c"].images.shape == (3, 150, 150)
        for series in views.values():
            assert series.labels.shape == series.images.shape
            assert series.labels.dtype == np.uint8
            assert series.images.dtype == np.float32
            assert np.isfinite(series.images).all()
            assert set(np.unique(series.labels)) <= {0, 1, 2, 3}


def test_voxel_volumes_are_close_to_analytic_ones(imaged):
    for heart, views in imaged.values():
        sax = views["sax"]
        for frame, phase in enumerate(sax.phases):
            rv, wall, lv = voxel_volumes(sax, frame)
            true_lv, true_rv = heart.ventricles.volumes(phase)
            assert lv == pytest.approx(true_lv, rel=0.08, abs=5)
            assert rv == pytest.approx(true_rv, rel=0.15, abs=8)
            assert wall == pytest.approx(heart.ventricles.lv_mass / 1.05, rel=0.08)


def test_the_same_point_is_the_same_tissue_in_every_view(imaged):
    """The centre of a long-axis pixel, looked up in the SAX stack, mostly has the same label."""
    for heart, views in imaged.values():
        sax = views["sax"]
        for view in ("lax_2c", "lax_3c", "lax_4c"):
            series = views[view]
            for frame in (0, 1):
                for code in (1, 2, 3):
                    x, y = np.nonzero(series.labels[frame] == code)
                    if len(x) < 150:
                        continue
                    world = np.stack([x, y, 0 * x, 0 * x + 1]).T @ series.affine.T
                    voxel = np.rint((world @ np.linalg.inv(sax.affine).T)[:, :3]).astype(int)
                    keep = np.all((voxel >= 0) & (voxel < sax.plane.shape), axis=1)
                    found = sax.labels[frame][tuple(voxel[keep].T)]
                    agreement = np.mean(found == code)
                    assert agreement > (0.82 if code == 3 else 0.70), (heart.subject.pathology, view, frame, code)


def test_affine_and_plane_agree(imaged):
    heart, views = imaged["NOR"]
    plane = views["sax"].plane
    point = heart.to_patient(np.array([3.0, -4.0, 50.0]))
    voxel = plane.pixels(point)[0]
    world = plane.affine @ np.append(voxel, 1)
    assert (plane.to_patient @ world)[:3] == pytest.approx(point)
    assert heart.to_heart(point) == pytest.approx([3, -4, 50])
    columns = plane.affine[:3, :3] / plane.spacing
    assert columns.T @ columns == pytest.approx(np.eye(3), abs=1e-9)
    assert plane.points(2, 0.0)[4, 5] == pytest.approx((plane.to_patient @ plane.affine @ np.array([4, 5, 2, 1.0]))[:3])


def test_contrast_is_that_of_a_cine(imaged):
    _, views = imaged["NOR"]
    sax = views["sax"]
    middle = sax.images.shape[3] // 2
    image, label = sax.images[0, :, :, middle], sax.labels[0, :, :, middle]
    blood, wall, rv = (np.median(image[label == code]) for code in (3, 2, 1))
    assert blood > 2.2 * wall
    assert rv > 2 * wall
    lung = np.percentile(image, 15)
    assert lung < 0.6 * wall


def test_rescan_has_other_grid_and_noise_but_the_same_heart():
    heart = Heart(draw_subject(3, 4))
    first = Imager(heart, COARSE).image("sax")
    again = Imager(heart, COARSE).image("sax")
    other = Imager(heart, dataclasses.replace(COARSE, seed=1)).image("sax")
    assert first.images.tobytes() == again.images.tobytes()
    assert not np.allclose(first.affine, other.affine)
    assert voxel_volumes(first, 0)[2] == pytest.approx(voxel_volumes(other, 0)[2], rel=0.08)


def test_infarct_in_other_sequences():
    heart = Heart(next(s for s in (draw_subject(3, i) for i in range(5)) if s.pathology == "MINF"))
    lge = dataclasses.replace(COARSE, sequence="lge", n_frames=1, scar_labels=True, noise=0.0)
    series = Imager(heart, lge).image("sax")
    scar, wall = series.labels == 5, series.labels == 2
    assert scar.sum() > 50
    assert np.median(series.images[scar]) > 4 * np.median(series.images[wall])
    plain = Imager(heart, dataclasses.replace(lge, scar_labels=False)).image("sax")
    assert np.array_equal(plain.labels == 2, series.labels * (series.labels > 3) + 2 * wall > 0)
    s = np.array([0.5 * (heart.subject.scar.low + heart.subject.scar.high)])
    assert scar_extent(heart.subject.scar, s, np.array([heart.subject.scar.angle]))[0] > 0.9


def test_native_resolution_and_gaps():
    heart = Heart(draw_subject(3, 4))
    raw = Acquisition(
        n_frames=1, sax_size=(128, 128), sax_spacing=(2.8, 2.8), slice_distance=12.0, slice_thickness=6.0,
        base_first=False,
    )  # fmt: skip
    series = Imager(heart, raw).image("sax")
    assert series.spacing == pytest.approx((2.8, 2.8, 12.0))
    counts = (series.labels[0] == 3).sum(axis=(0, 1))
    assert counts[-4:].sum() > counts[:4].sum()


def test_impossible_acquisitions_are_refused():
    with pytest.raises(CinemaError, match="sequence"):
        Acquisition(sequence="flair")
    with pytest.raises(CinemaError, match="view"):
        Acquisition(views=("sax", "lax_9c"))
    with pytest.raises(CinemaError, match="frame"):
        Acquisition(n_frames=0)
    with pytest.raises(CinemaError, match="slice_distance"):
        Acquisition(slice_distance=None)


def test_stack_covers_the_lv():
    for index in range(12):
        heart = Heart(draw_subject(5, index))
        plane = plan(heart, Acquisition(), "sax")
        z = plane.pixels(np.stack([heart.apex(heart.at(0.0)), heart.to_patient(np.array([0, 0, heart.length]))]))[:, 2]
        assert z.min() > -0.9
        assert z.max() < plane.shape[2] - 0.1
