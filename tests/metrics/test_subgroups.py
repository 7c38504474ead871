"""Bands of numbers."""

import numpy as np

from cinema_lightning.columns import look_up
from cinema_lightning.metrics.subgroups import band


def test_bands():
    assert band([44.9, 45, 54.9, 75, np.nan], look_up("age").bands).tolist() == ["<45", "45-55", "45-55", ">=75", ""]
    assert band([18.4, 18.5, 30], look_up("bmi").bands).tolist() == ["<18.5", "18.5-25", ">=30"]
    assert band([1.0, 2.0], [2.0]).tolist() == ["<2", ">=2"]
