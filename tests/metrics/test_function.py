"""Ventricular function from volumes."""

import json

import numpy as np
import pytest

from cinema_lightning.errors import CinemaError
from cinema_lightning.metrics.function import (
    EF_CLASSES,
    ed_es_frames,
    ef_class,
    ejection_fraction,
    ventricular_function,
    volume_curve,
)


def test_ef_class_golden(golden):
    table = json.loads((golden / "misc/scalars.json").read_text())["ef_class"]
    assert ef_class([float(ef) for ef in table]).tolist() == list(table.values())
    assert ef_class(np.nan) == -1
    assert EF_CLASSES[int(ef_class(60.0))] == "normal"


def test_ejection_fraction_is_nan_safe_and_limited():
    ef = ejection_fraction([150.0, 100.0, 0.0, np.nan, 100.0, -5.0], [60.0, 120.0, 0.0, 50.0, np.nan, 3.0])
    np.testing.assert_allclose(ef, [60, 0, np.nan, np.nan, np.nan, np.nan])
    np.testing.assert_allclose(ejection_fraction(100.0, 120.0, limit=False), -20)


def test_function_of_a_label_series():
    labels = np.zeros((4, 10, 10, 2), dtype=np.uint8)
    for frame, size in enumerate((6, 8, 3, 4)):
        labels[frame, :size, :5] = 3
        labels[frame, :size, 5:7] = 2
        labels[frame, :size, 7:8] = 1
    spacing = (1.0, 2.0, 10.0)
    codes = {"rv": [1], "myocardium": [2], "lv": [3]}
    volumes = {name: volume_curve(labels, code, spacing) for name, code in codes.items()}
    np.testing.assert_allclose(volumes["lv"], np.array([6, 8, 3, 4]) * 5 * 2 * 20 / 1000)
    found = ventricular_function(volumes)
    assert (found["ed_frame"], found["es_frame"]) == (1, 2)
    assert found["lv_ef"] == pytest.approx(62.5)
    assert found["rv_sv"] == pytest.approx(found["rv_edv"] - found["rv_esv"])
    assert found["lv_mass"] == pytest.approx(volumes["myocardium"][1] * 1.05)
    assert ventricular_function(volumes, ed=0, es=3)["lv_ef"] == pytest.approx(100 / 3)


def test_frames_skip_missing_masks_and_take_the_first_of_equals():
    assert ed_es_frames([np.nan, 90.0, 90.0, 40.0, 40.0]) == (1, 3)
    with pytest.raises(CinemaError, match="No frame"):
        ed_es_frames([np.nan, np.nan])


def test_an_empty_prediction_has_no_ef():
    found = ventricular_function({"lv": np.zeros(3)})
    assert np.isnan(found["lv_ef"])
    assert found["lv_edv"] == 0
