"""A package installed beside this one brings a kind of task of its own: it fits, tests, draws, and is in the report."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cinema_lightning.cli import main
from cinema_lightning.data import DATA
from cinema_lightning.errors import CinemaError
from cinema_lightning.results.finish import finish
from cinema_lightning.results.folder import read_results
from cinema_lightning.results.kind import KINDS
from cinema_lightning.tasks import TASKS

PLUGIN = Path(__file__).parent / "plugin"
CONFIG = """
base: [acdc_seg.yaml, phantom.yaml]
model:
  class_path: heartwall.task.WallThickness
  init_args: {network: {class_path: ConvUNetR, init_args: {size: tiny}}}
data:
  class_path: heartwall.task.WallData
  init_args:
    views: [sax]
    input_size: {sax: [64, 64, 8]}
    batch_size: 2
    num_workers: 0
    val_fraction: 0.2
    test_fraction: 0.3
trainer: {max_epochs: 1, limit_train_batches: 1, limit_val_batches: 1, enable_progress_bar: false}
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The plug-in, as pip leaves it; afterwards it is registered no more."""
    site = tmp_path_factory.mktemp("site")
    shutil.copytree(PLUGIN / "heartwall", site / "heartwall")
    about = site / "heartwall-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: heartwall\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[cinema_lightning.plugins]\nheartwall = heartwall.task\n")
    with pytest.MonkeyPatch.context() as patch:
        for registry in (TASKS, DATA, KINDS):
            registry.load()
            patch.setattr(registry, "_items", dict(registry._items))
            patch.setattr(registry, "_loaded", False)
        patch.syspath_prepend(str(site))
        yield  # its modules stay imported: its classes live on as subclasses of ours, which jsonargparse looks up


@pytest.fixture(scope="module")
def tested(installed, phantom_cohort, tmp_path_factory):
    """The folder of results of a network that was trained for a step."""
    folder = tmp_path_factory.mktemp("wall")
    (folder / "wall.yaml").write_text(CONFIG)
    options = [
        "--config",
        str(folder / "wall.yaml"),
        "--data.root",
        str(phantom_cohort),
        "--runs",
        str(folder / "runs"),
    ]
    assert main(["fit", *options]) == 0
    assert main(["test", *options, "--output.folder", str(folder / "out"), "--output.overlays", "1"]) == 0
    return folder / "out"


def test_results_are_read_without_torch():
    code = "from cinema_lightning.results.finish import KINDS; import sys; print(*KINDS, 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["classification", "landmarks", "regression", "segmentation", "survival", "False"]


def test_without_the_plug_in_its_results_are_refused_by_name(tmp_path):
    (tmp_path / "test.json").write_text('{"kind": "wall", "dataset": "acdc"}')
    pd.DataFrame({"id": ["1"], "wall_true": [np.nan]}).to_csv(tmp_path / "cases.csv", index=False)
    with pytest.raises(CinemaError, match=r"no known 'kind'; it is one of classification, landmarks, regression"):
        read_results(tmp_path)


def test_it_fits_tests_and_draws(tested):
    cases = pd.read_csv(tested / "cases.csv")
    assert json.loads((tested / "test.json").read_text())["kind"] == "wall"
    summary = pd.read_csv(tested / "summary.csv").set_index(["metric", "group", "statistic"])
    error = (cases["wall_pred"] - cases["wall_true"]).abs().mean()
    assert error > 0
    assert summary.loc[("wall", "all", "mae"), "value"] == pytest.approx(error)
    assert summary.loc[("wall_gap", "all", "mean"), "value"] == pytest.approx(error)
    assert summary.loc[("wall_gap", "ES", "mean"), "n"] == (cases["phase"] == "ES").sum()
    assert summary.loc[("wall_mae", "all", "wall_mae"), "value"] == pytest.approx(error)
    function = pd.read_csv(tested / "function.csv")
    assert list(function["id"]) == sorted(cases["id"].unique())
    assert (function["thickening_true"] > 0).all(), "muscle thickens when it contracts"
    assert {path.name for path in (tested / "pictures").glob("*.png")} == {"wall.png", "overlays_sax.png"}


def test_it_is_in_the_report(tested, tmp_path):
    for arm, factor in (("cinema", 0.5), ("unet", 1.0)):
        folder = tmp_path / "external" / "wall" / arm / "f100" / "s0" / "acdc"
        shutil.copytree(tested, folder)
        cases = pd.read_csv(folder / "cases.csv")
        cases["wall_pred"] = cases["wall_true"] + factor * cases["wall_gap"]
        cases.to_csv(folder / "cases.csv", index=False)
    out = tmp_path / "report"
    assert main(["benchmark", "report", "--root", str(tmp_path), "--ours", "cinema", "--out", str(out)]) == 0
    assert "Wall thickness MAE, mm" in (out / "report.html").read_text()
    figures = pd.read_csv(out / "figures.csv").set_index("arm")
    gap = pd.read_csv(tested / "cases.csv")["wall_gap"].mean()
    assert set(figures["figure"]) == {"wall_mae"}
    assert figures.loc["unet", "value"] == pytest.approx(gap, rel=1e-5)
    assert figures.loc["cinema", "value"] == pytest.approx(gap / 2, rel=1e-5)


def test_its_tables_are_checked(tested, tmp_path):
    shutil.copytree(tested, tmp_path / "out")
    cases = pd.read_csv(tmp_path / "out" / "cases.csv")
    cases.loc[1, "wall_pred"] = -3.0
    cases.to_csv(tmp_path / "out" / "cases.csv", index=False)
    with pytest.raises(CinemaError, match=r"row 3: '-3.0' in column wall_pred is not a thickness, 0 or more"):
        finish(tmp_path / "out")
    cases.drop(columns="wall_pred").to_csv(tmp_path / "out" / "cases.csv", index=False)
    with pytest.raises(CinemaError, match=r"has no column 'wall_pred', which wall needs"):
        read_results(tmp_path / "out")
