"""ED and ES on volume curves, smoothed and searched."""

import numpy as np
import pytest

from cinema_lightning.analysis.curves import phases_of, search
from cinema_lightning.errors import CinemaError
from cinema_lightning.phantom.motion import Ventricles
from cinema_lightning.phantom.subject import draw_subject


def _curve(index: int, frames: int = 30, start: float = 0.0) -> np.ndarray:
    heart = Ventricles(draw_subject(5, index))
    return np.array([heart.volumes(heart.at((frame / frames + start) % 1))[0] for frame in range(frames)])


def _ef(curve: np.ndarray, phases) -> float:
    return float((curve[phases.ed] - curve[phases.es]) / curve[phases.ed] * 100)


def test_one_odd_frame_is_neither_ed_nor_es():
    curve = _curve(0)
    clean = phases_of(curve)
    odd = curve.copy()
    odd[15] = 1.01 * curve.max()  # where the ventricle is half full
    odd[20] = 0.99 * curve.min()
    found = phases_of(odd)
    assert {abs(found.ed - 15) > 2, abs(found.es - 20) > 2} == {True}
    assert _ef(curve, found) == pytest.approx(_ef(curve, clean), abs=4)


def test_ed_is_where_it_is_and_not_frame_0():
    assert phases_of(np.roll(_curve(0), 18)).ed in (17, 18, 19)


def test_nothing_found_has_no_phases():
    assert phases_of(np.zeros(20)) is None
    assert phases_of(np.full(20, np.nan)) is None


def test_the_search_looks_at_12_of_30_frames_and_moves_ef_little():
    rng = np.random.default_rng(0)
    moved, looked = [], []
    for index in range(60):
        curve = _curve(index, start=rng.random()) * (1 + rng.normal(0, 0.015, 30))
        asked: list[int] = []

        def volume(frames, curve=curve, asked=asked):
            asked.extend(frames)
            return curve[frames].tolist()

        found = search(30, volume)
        assert len(asked) == len(set(asked)) == np.isfinite(found).sum()
        looked.append(len(asked))
        moved.append(_ef(curve, phases_of(found)) - _ef(curve, phases_of(curve)))
    assert max(looked) <= 12
    assert np.mean(np.abs(moved)) < 0.7
    assert np.max(np.abs(moved)) < 4


def test_a_short_beat_is_not_searched():
    with pytest.raises(CinemaError, match="needs 20 frames"):
        search(12, lambda frames: [0.0] * len(frames))
