"""Keyed random draws."""

from __future__ import annotations

import subprocess
import sys

import numpy as np

from cinema_lightning.data.draws import generator


def test_same_key_same_stream():
    assert np.array_equal(generator(1, 2, "a", "zoom").random(5), generator(1, 2, "a", "zoom").random(5))


def test_every_part_of_the_key_matters():
    keys = [
        (0, "ab", "c"),
        (0, "a", "bc"),
        (0, "abc"),
        (0, "c", "ab"),
        (1, "ab", "c"),
        (0, 1),
        (0, "1"),
        (0, -1),
        (0, 11),
    ]
    assert len({generator(*key).integers(2**62) for key in keys}) == len(keys)


def test_numpy_integers_and_ints_are_one():
    assert generator(np.int64(3), np.int32(4)).random() == generator(3, 4).random()


def test_the_same_in_another_process():
    code = "from cinema_lightning.data.draws import generator; print(generator(5, 'x', 7).integers(2**62))"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert int(printed) == generator(5, "x", 7).integers(2**62)


def test_draws_of_neighbouring_keys_look_independent():
    draws = np.array([generator(0, epoch, f"s{i}", "frame").random() for epoch in range(20) for i in range(50)])
    assert abs(draws.mean() - 0.5) < 0.03
    assert abs(np.corrcoef(draws[:-1], draws[1:])[0, 1]) < 0.1
