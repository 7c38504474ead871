import numpy as np

from cinema_lightning.imaging.intensity import to_uint8


def test_percentiles_and_cut():
    frame = np.arange(10001, dtype=np.int16).reshape(73, 137)
    out = to_uint8(frame)
    low, high = 95.0, 9950.0  # 0.95% and 99.5% of 0..10000
    expected = ((np.clip(frame, low, high) - low) / (high - low) * 255).astype(np.uint8)
    assert np.abs(out.astype(int) - expected).max() <= 1
    assert (out[frame <= low] == 0).all()
    assert (out[frame >= high] == 255).all()


def test_constant_frames_become_zero():
    assert not to_uint8(np.full((4, 4, 2), 7, np.int16)).any()
    spike = np.zeros((100, 100))
    spike[0, 0] = 9  # above the 99.5th percentile there is nothing but this
    assert not to_uint8(spike).any()
