"""What only a GPU can show; `make gpu` runs these and the benchmarks."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch

from cinema_lightning.cli import main
from cinema_lightning.weights.files import load_checkpoint

pytestmark = pytest.mark.gpu

CONFIGS = {
    "pretrain": "pretrain.yaml",
    "segmentation": "acdc_seg.yaml",
    "classification": "acdc_cvd.yaml",
    "regression": "acdc_ef.yaml",
    "survival": "ukb_survival.yaml",
    "heatmap": "landmark_heatmap_2ch.yaml",
    "coordinate": "landmark_coordinate_2ch.yaml",
}
QUIET = ("--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false", "--pictures.every_n_epochs=0")


@pytest.fixture(scope="module")
def cohort(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("cohort") / "phantom"
    assert main(["phantom", "--subjects", "16", "--size", "small", "--frames", "3", "--out", str(out)]) == 0
    return out


def command(verb: str, task: str, cohort: Path, runs: Path, *more: str) -> list[str]:
    options = [f"--config={CONFIGS[task]}", "--config=phantom.yaml", "--trainer.accelerator=gpu", *QUIET]
    options += ["--model.network.size=tiny", f"--data.root={cohort}", f"--runs={runs}", "--name=run"]
    if task != "pretrain":
        options.append("--data.dataset=phantom")
    return [verb, *options, *more]


def fit(task: str, cohort: Path, runs: Path, *more: str) -> dict[str, torch.Tensor]:
    """Trains two epochs; gives the weights."""
    short = ("--trainer.max_epochs=2", "--trainer.check_val_every_n_epoch=1", "--data.batch_size=4")
    assert main(command("fit", task, cohort, runs, *short, *more)) == 0
    return weights(runs)


def weights(runs: Path) -> dict[str, torch.Tensor]:
    state = load_checkpoint(runs / "run" / "0" / "checkpoints" / "last.ckpt")["state_dict"]
    return {key: value.cpu() for key, value in state.items() if value.is_floating_point()}


@pytest.mark.parametrize("precision", ["bf16-mixed", "16-mixed"])
@pytest.mark.parametrize("task", CONFIGS)
def test_every_task_trains_and_predicts(task, precision, cohort, tmp_path):
    learnt = fit(task, cohort, tmp_path, f"--trainer.precision={precision}")
    assert all(value.isfinite().all() for value in learnt.values())
    assert main(command("predict", task, cohort, tmp_path, "--output.folder", str(tmp_path / "out"))) == 0
    (table,) = (tmp_path / "out").glob("*.csv")
    assert len(pd.read_csv(table)) > 0


def test_a_gpu_learns_what_a_cpu_does(cohort, tmp_path):
    """The first steps; later ones differ, since AdamW makes much of rounding."""
    options = ("--trainer.precision=32-true", "--model.network.drop_path=0", "--model.optim.lr=1e-4")
    gpu = fit("pretrain", cohort, tmp_path / "gpu", *options)
    cpu = fit("pretrain", cohort, tmp_path / "cpu", *options, "--trainer.accelerator=cpu")
    for key, value in gpu.items():
        torch.testing.assert_close(value, cpu[key], atol=2e-3, rtol=0)


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
@pytest.mark.parametrize("task", ["pretrain", "segmentation"])
def test_a_compiled_network_learns_what_the_plain_one_does(task, cohort, tmp_path):
    options = ["--trainer.precision=32-true", "--model.network.drop_path=0", "--model.optim.lr=1e-4"]
    if task == "segmentation":
        options.append("--model.network.dropout=0")
    plain = fit(task, cohort, tmp_path / "plain", *options)
    compiled = fit(task, cohort, tmp_path / "compiled", *options, "--model.compile=true")
    assert plain.keys() == compiled.keys()
    for key, value in plain.items():
        torch.testing.assert_close(value, compiled[key], atol=2e-3, rtol=0)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices")
@pytest.mark.parametrize("task", ["pretrain", "segmentation", "survival"])
def test_two_gpus_learn_what_one_does(task, cohort, tmp_path):
    options = ["--trainer.precision=32-true", "--model.network.drop_path=0", "--model.optim.lr=1e-4"]
    options += ["--trainer.max_epochs=2", "--trainer.check_val_every_n_epoch=1"]
    if task == "segmentation":
        options.append("--model.network.dropout=0")
    for devices in (1, 2):
        more = (*options, f"--trainer.devices={devices}", f"--data.batch_size={4 // devices}")
        arguments = command("fit", task, cohort, tmp_path / str(devices), *more)
        subprocess.run([sys.executable, "-m", "cinema_lightning", *arguments], check=True, env=dict(os.environ))
    one, two = weights(tmp_path / "1"), weights(tmp_path / "2")
    for key, value in one.items():
        torch.testing.assert_close(value, two[key], atol=2e-3, rtol=0)
