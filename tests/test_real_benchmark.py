"""What experts drew on real studies, read for the benchmark on real images."""

import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_contours_give_the_volumes_that_the_experts_gave(real, monkeypatch):
    """EDV and ESV in ml and EF of two studies, counted in pixels; the wall lies around the cavity at ED only."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "benchmarks"))
    studies = pytest.importorskip("real_studies", reason="the benchmarks are not here").read_real(real)
    monkeypatch.delitem(sys.modules, "real_studies")
    told = {one.name: one for one in studies}
    assert {"ge_101", "ge_301"} <= {name for name, one in told.items() if one.expert}
    for name, edv, esv, ef in (("ge_101", 191.3, 141.3, 26.2), ("ge_301", 229.7, 179.6, 21.8)):
        one = told[name]
        volumes = (one.expert.labels == 3).sum(axis=(0, 1, 2)) * one.sax.voxel
        assert volumes == pytest.approx([edv, esv], rel=0.025)
        assert 100 * (1 - volumes[1] / volumes[0]) == pytest.approx(ef, abs=1)
        walls = (one.expert.labels == 2).sum(axis=(0, 1, 2))
        assert walls[0] > 5000
        assert walls[1] == 0
