"""The studentised range beside scipy's."""

from __future__ import annotations

import pytest
from scipy import stats

from cinema_lightning.metrics.studentised import quantile, survival


@pytest.mark.parametrize("groups", [2, 3, 5])
@pytest.mark.parametrize("df", [4.0, 17.3, 200.0])
def test_it_is_that_of_scipy(groups, df):
    for q in (2.0, 4.5):
        assert survival(q, groups, df) == pytest.approx(stats.studentized_range.sf(q, groups, df), rel=2e-3, abs=1e-5)
    assert stats.studentized_range.sf(quantile(0.95, groups, df), groups, df) == pytest.approx(0.05, abs=1e-4)
