import math

import numpy as np
import pytest

from cinema_lightning.errors import CinemaError
from cinema_lightning.prepare import measure
from cinema_lightning.prepare.steps import map_labels
from cinema_lightning.prepare.tables import ordered, text


def test_volumes_ef_and_mass():
    end_diastole, end_systole = np.zeros((2, 10, 10, 4), np.uint8)
    end_diastole[:5, :4] = 3  # 80 voxels of 0.02 ml
    end_systole[:5, :1] = 3
    end_diastole[5:, :2] = 1
    end_diastole[5:, 5:] = 2
    out = measure.volumes(end_diastole, end_systole, (1.0, 2.0, 10.0))
    assert out["lv_edv"] == pytest.approx(1.6)
    assert out["lv_ef"] == pytest.approx(75)
    assert out["rv_edv"] == pytest.approx(0.8)
    assert out["rv_ef"] == pytest.approx(100)
    assert out["lv_mass"] == pytest.approx(100 * 0.02 * 1.05)
    assert measure.volumes(end_systole, end_systole, (1, 1, 1))["rv_ef"] is None


def test_first_largest_and_smallest():
    maps = {frame: np.full(count, 3, np.uint8) for frame, count in enumerate((5, 7, 7, 2, 2))}
    assert measure.largest_and_smallest(maps) == (1, 3)


def test_map_labels():
    label = np.array([[0, 500], [2221, 200]], np.int16)
    out = map_labels(label, {0: 0, 500: 2, 200: 3, 2221: 5}, "it")
    assert out.dtype == np.uint8
    assert out.tolist() == [[0, 2], [5, 3]]
    assert map_labels(label.astype(float), {0: 0, 500: 2, 200: 3, 2221: 5}, "it").tolist() == out.tolist()
    with pytest.raises(CinemaError, match=r"of it holds 0\.5; known are 0, 1"):
        map_labels(np.array([0.5, 1.0]), {0: 0, 1: 1}, "it")


def test_cells_are_exact_and_columns_in_order():
    assert [text(cell) for cell in (None, math.nan, 0.1 + 0.2, 61, True, "x")] == [
        "",
        "",
        "0.30000000000000004",
        "61",
        "1",
        "x",
    ]
    assert text(np.float64(0.1)) == "0.1"
    assert ordered({"zeta", "bmi", "id", "alpha", "lv_ef"}) == ["id", "lv_ef", "bmi", "alpha", "zeta"]
