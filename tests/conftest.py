"""Shared places and small cohorts."""

from __future__ import annotations

import os
from pathlib import Path

import lightning  # noqa: F401  its loggers keep the stream they find at import, which must outlive a single test
import pytest

if not os.environ.get("CINEMA_TEST_GPU"):
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")


def pytest_collection_modifyitems(items):
    """GPU tests run where there is a GPU."""
    import torch

    if torch.cuda.is_available():
        return
    for item in items:
        if "gpu" in item.keywords:
            item.add_marker(pytest.mark.skip(reason="no CUDA device here"))


@pytest.fixture(scope="session")
def golden() -> Path:
    """Folder of golden numbers: $CINEMA_GOLDEN, or the copies beside the tests."""
    return Path(os.environ.get("CINEMA_GOLDEN", Path(__file__).parent / "golden"))


@pytest.fixture(scope="session")
def real() -> Path:
    """Folder of real images: $CINEMA_REAL, or ../shared/real; skips where it is absent."""
    folder = Path(os.environ.get("CINEMA_REAL", Path(__file__).parents[2] / "shared" / "real"))
    if not folder.is_dir():
        pytest.skip("no real images here (set CINEMA_REAL)")
    return folder


@pytest.fixture(scope="session")
def phantom_cohort(tmp_path_factory) -> Path:
    """A small phantom cohort, made once per test process: 10 subjects, 4 views, 4 frames."""
    from cinema_lightning.cli import main

    out = tmp_path_factory.mktemp("cohort") / "phantom"
    assert main(["phantom", "--subjects", "10", "--size", "small", "--frames", "4", "--out", str(out)]) == 0
    return out
