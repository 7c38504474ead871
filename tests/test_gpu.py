"""What only a GPU can show; `make gpu` runs these and the benchmarks."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import pytest
import torch

import cinema_lightning
from cinema_lightning.cli import main
from cinema_lightning.models.convunetr import ConvUNetR
from cinema_lightning.output.aside import Aside
from cinema_lightning.tasks import TASKS
from cinema_lightning.weights.files import load_checkpoint

pytestmark = pytest.mark.gpu

GPU = "cuda"
CONFIGS = {
    "pretrain": "pretrain.yaml",
    "segmentation": "acdc_seg.yaml",
    "classification": "acdc_cvd.yaml",
    "regression": "acdc_ef.yaml",
    "survival": "ukb_survival.yaml",
    "heatmap": "landmark_heatmap_2ch.yaml",
    "coordinate": "landmark_coordinate_2ch.yaml",
}
STEADY = ("--trainer.precision=32-true", "--model.network.drop_path=0", "--data.depth=own")
"""Without what is drawn on the device; stacks of different depths."""
LIKE = 0.5
"""Most that two trainings may be apart, as a share of how far they went; measured is 0.37 of segmentation on an H100.

A GPU rounds convolutions to TF32, and AdamW makes much of rounding; two that learnt unlike things would be about 1.4
apart.
"""
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


def far(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    assert one.keys() == other.keys()
    return float(sum((one[key] - other[key]).double().square().sum() for key in one)) ** 0.5


def alike(task: str, cohort: Path, folder: Path, note, more: tuple[str, ...], other: tuple[str, ...]) -> None:
    """Trains as usual, with other options, and hardly at all: the first two learn the same, and not nothing."""
    options = (*STEADY, *(["--model.network.dropout=0"] if task == "segmentation" else []), *more)
    usual, another = (
        fit(task, cohort, folder / "usual", *options),
        fit(task, cohort, folder / "other", *options, *other),
    )
    start = fit(task, cohort, folder / "start", *options, "--model.optim.lr=1e-12")
    went = far(usual, start)
    note("apart", far(usual, another) / went)
    assert went > 1e-3
    assert far(usual, another) < LIKE * went


@pytest.mark.parametrize("task", ["pretrain", "segmentation"])
def test_a_gpu_learns_what_a_cpu_does(task, cohort, tmp_path, record_property):
    alike(task, cohort, tmp_path, record_property, (), ("--trainer.accelerator=cpu",))


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
@pytest.mark.parametrize("task", ["pretrain", "segmentation"])
def test_a_compiled_network_learns_what_the_plain_one_does(task, cohort, tmp_path, record_property):
    few = ("--data.views=[sax]", "--trainer.limit_train_batches=2", "--trainer.limit_val_batches=1")
    alike(task, cohort, tmp_path, record_property, few, ("--model.compile=true",))


@pytest.fixture(scope="module")
def segmented(cohort, tmp_path_factory) -> Path:
    """Runs in which one network was trained on masks of stacks at their own depth."""
    runs = tmp_path_factory.mktemp("segmented")
    fit("segmentation", cohort, runs, *STEADY, "--model.optim.lr=1e-3")
    return runs


@pytest.mark.parametrize("slices", [5, 8, 11])  # fewer than a training stack, as many, in tiles
def test_a_stack_is_segmented_as_on_a_cpu(slices, segmented, record_property):
    checkpoint = segmented / "run" / "0" / "checkpoints" / "last.ckpt"
    scan = np.random.default_rng(0).integers(0, 255, (64, 64, slices, 3)).astype(np.uint8)
    found = {}
    for device in (GPU, "cpu"):
        model = cinema_lightning.load(checkpoint, device=device)
        assert model.spec.depth == "own"
        found[device] = model(scan, spacing=model.spec.spacing["sax"], probabilities=True)
    gpu, cpu = found[GPU], found["cpu"]
    assert gpu.labels.shape == (64, 64, slices, 3)
    record_property("apart", float(np.abs(gpu.probabilities - cpu.probabilities).max()))
    np.testing.assert_allclose(gpu.probabilities, cpu.probabilities, atol=1e-3)
    assert (gpu.labels == cpu.labels).mean() > 0.999


def predicted(cohort: Path, runs: Path, out: Path) -> pd.DataFrame:
    more = ("--data.batch_size=2", "--output.nifti=true", f"--output.folder={out}")
    assert main(command("predict", "segmentation", cohort, runs, *more)) == 0
    (table,) = out.glob("*.csv")
    return pd.read_csv(table)


def test_what_a_thread_writes_beside_a_gpu_is_what_is_written_in_turn(cohort, segmented, tmp_path, monkeypatch):
    jobs = []
    given = Aside.__call__
    monkeypatch.setattr(Aside, "__call__", lambda self, job: (jobs.append(1), given(self, job))[1])
    beside = predicted(cohort, segmented, tmp_path / "beside")
    assert len(jobs) > 3, "batches that wait for each other"
    jobs.clear()
    monkeypatch.setattr(TASKS["Segmentation"], "rows_beside", False)
    in_turn = predicted(cohort, segmented, tmp_path / "turn")
    assert not jobs
    assert len(beside) > 10
    pd.testing.assert_frame_equal(beside, in_turn, rtol=1e-3)
    names = sorted(path.relative_to(tmp_path / "turn") for path in (tmp_path / "turn").rglob("*.nii.gz"))
    assert names == sorted(path.relative_to(tmp_path / "beside") for path in (tmp_path / "beside").rglob("*.nii.gz"))
    assert names
    for name in names:
        masks = [np.asarray(nibabel.load(tmp_path / place / name).dataobj) for place in ("beside", "turn")]
        assert (masks[0] == masks[1]).mean() > 0.999


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_a_network_is_one_graph_on_a_gpu_for_each_depth(monkeypatch):
    """More graphs, or a break in one, would cost a compilation each."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)  # of which a graph and single kernels make other use
    from torch._dynamo.testing import CompileCounterWithBackend  # takes a second

    torch._dynamo.reset()
    network = ConvUNetR(["sax"], input_size={"sax": (64, 64, 8)}, size="tiny").to(GPU).eval().requires_grad_(False)
    counter = CompileCounterWithBackend("inductor")
    compiled = torch.compile(network, backend=counter, dynamic=False)
    for number, depth in enumerate((8, 5), start=1):
        images = {"sax": torch.rand(2, 1, 64, 64, depth, generator=torch.Generator().manual_seed(0)).to(GPU)}
        for _ in range(2):
            found = compiled(images)["sax"]
        assert counter.frame_count == number
        torch.testing.assert_close(found, network(images)["sax"], atol=1e-3, rtol=1e-3)
    torch._dynamo.reset()


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices")
@pytest.mark.parametrize("task", ["pretrain", "segmentation", "survival"])
def test_two_gpus_learn_what_one_does(task, cohort, tmp_path, record_property):
    options = [*STEADY, "--trainer.max_epochs=2", "--trainer.check_val_every_n_epoch=1"]
    if task == "segmentation":
        options.append("--model.network.dropout=0")
    for name, devices, more in (("1", 1, []), ("2", 2, []), ("start", 1, ["--model.optim.lr=1e-12"])):
        batch = f"--data.batch_size={4 // devices}"
        arguments = command(
            "fit", task, cohort, tmp_path / name, *options, *more, f"--trainer.devices={devices}", batch
        )
        subprocess.run([sys.executable, "-m", "cinema_lightning", *arguments], check=True, env=dict(os.environ))
    one, two, start = (weights(tmp_path / name) for name in ("1", "2", "start"))
    record_property("apart", far(one, two) / far(one, start))
    assert far(one, two) < LIKE * far(one, start)
