import numpy as np
import pytest

from cinema_lightning.data.store import open_series, series_path
from cinema_lightning.errors import CinemaError
from cinema_lightning.imaging.geometry import spacing_of
from cinema_lightning.imaging.motion import motion_centre

LV = 3


def test_phantoms(phantom_cohort):
    """Within 10 mm of the middle of the true left ventricle, at any angle of the picture."""
    off = []
    for folder in sorted(path for path in phantom_cohort.iterdir() if path.is_dir()):
        sax = open_series(series_path(phantom_cohort, folder.name, "sax"))
        label = open_series(series_path(phantom_cohort, folder.name, "sax", "label")).read([0])[0]
        frames, affine = sax.read(), np.asarray(sax.info.affine)
        centre = motion_centre(frames, affine)
        index = np.linalg.solve(affine, [*centre, 1])
        assert index[2] == pytest.approx((frames.shape[3] - 1) / 2)
        off.append(np.linalg.norm((index[:2] - np.argwhere(label == LV).mean(axis=0)[:2]) * spacing_of(affine)[:2]))
        # The same picture turned by a quarter.
        turned = affine @ np.array([[0, 1, 0, 0], [-1, 0, 0, frames.shape[1] - 1], [0, 0, 1, 0], [0, 0, 0, 1.0]])
        np.testing.assert_allclose(motion_centre(np.rot90(frames, axes=(1, 2)), turned), centre, atol=6)
    assert len(off) == 10
    assert max(off) < 10


def _heart(shape=(60, 56), at=(20.0, 33.0), frames=10):
    """A beating ring beside a bright crescent that moves more, a vessel, still discs and noise."""
    rng = np.random.default_rng(0)
    x, y = np.indices(shape, dtype=float)
    distance = np.hypot(x - at[0], y - at[1]) * 2.5
    out = []
    for frame in range(frames):
        beat = (1 - np.cos(2 * np.pi * frame / frames)) / 2
        picture = 100 + 300 * (distance < 25 - 7 * beat) - 80 * ((distance >= 25 - 7 * beat) & (distance < 34))
        side = np.abs(np.arctan2(y - at[1], x - at[0])) < 0.9
        crescent = side & (distance > 36) & (distance < 66 - 22 * beat)
        picture = (
            picture + 500 * crescent + 900 * beat * (np.hypot(x - 45, y - 10) < 2) + 300 * (np.hypot(x - 8, y - 8) < 7)
        )
        out.append(picture + rng.normal(0, 25, shape))
    return np.stack(out)[..., None].repeat(3, axis=3)


def test_neither_what_moves_more_nor_what_is_round_and_still():
    centre = motion_centre(_heart(), np.diag([2.5, 2.5, 8.0, 1.0]))
    np.testing.assert_allclose(centre, [50, 82.5, 8], atol=5)


@pytest.mark.parametrize("frames", [np.ones((1, 8, 8, 2)), np.ones((5, 8, 8, 2)), np.zeros((5, 8, 8, 2))])
def test_nothing_moves(frames):
    with pytest.raises(CinemaError, match="nothing moves"):
        motion_centre(frames, np.eye(4))


@pytest.mark.parametrize("name", ["101", "301"])
def test_dilated_hearts_that_hardly_beat(sunnybrook, name):
    """EF 26 and 22%: the right ventricle and the fat beside it move more than the left one."""
    stack, truth = sunnybrook(name)
    points = [
        contour["points_column_row"]
        for contour in truth["contours"]
        if contour["kind"] == "endocardium" and contour["phase"] == truth["ed_phase"]
    ]
    index = np.linalg.solve(stack.affine, [*motion_centre(stack.frames, stack.affine), 1])
    off = (index[:2] - np.concatenate(points).mean(axis=0)) * spacing_of(stack.affine)[:2]
    assert np.linalg.norm(off) < 5
