"""Two processes fine-tune, validate and test like one; a signal in fine-tuning loses nothing."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import torch

from cinema_lightning.weights.files import load_checkpoint

pytestmark = pytest.mark.slow

DDP = ("--trainer.devices=2", "--trainer.strategy=ddp")
QUIET = ("--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false", "--pictures.every_n_epochs=0")
SURVIVAL = ("ukb_survival.yaml", "ConvViT")
SEGMENTATION = ("acdc_seg.yaml", "ConvUNetR")


@pytest.fixture(scope="module")
def cohort(tmp_path_factory) -> Path:
    from cinema_lightning.cli import main

    out = tmp_path_factory.mktemp("cohort") / "phantom"
    assert main(["phantom", "--subjects", "14", "--size", "small", "--frames", "3", "--out", str(out)]) == 0
    return out


def command(verb: str, task: tuple[str, str], cohort: Path, runs: Path, *more: str) -> list[str]:
    options = [f"--config={task[0]}", "--config=phantom.yaml", "--data.dataset=phantom", "--model.network.size=tiny"]
    options += ["--model.network.drop_path=0", f"--data.root={cohort}", f"--runs={runs}", "--name=run", *QUIET]
    if task is SEGMENTATION:
        options.append("--model.network.dropout=0")
    return [sys.executable, "-m", "cinema_lightning", verb, *options, *more]


def run(*arguments, code: int = 0) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    result = subprocess.run(
        command(*arguments), capture_output=True, text=True, env=environment, timeout=300, check=False
    )
    assert result.returncode == code, result.stderr[-3000:]


def state(runs: Path, which: str = "last") -> dict[str, torch.Tensor]:
    content = load_checkpoint(runs / "run" / "0" / "checkpoints" / f"{which}.ckpt")["state_dict"]
    return {key: value for key, value in content.items() if value.is_floating_point()}


def scalars(folder: Path) -> dict[str, list[float]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder)).Reload()
    return {tag: [event.value for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


@pytest.mark.parametrize("task", [SURVIVAL, SEGMENTATION], ids=["survival", "segmentation"])
def test_two_processes_learn_and_test_like_one(task, cohort, tmp_path):
    common = ("--trainer.max_epochs=2", "--model.optim.lr=1e-4", "--trainer.check_val_every_n_epoch=1")
    common += ("--trainer.log_every_n_steps=1",)
    for name, extra in (("one", ("--data.batch_size=4",)), ("two", ("--data.batch_size=2", *DDP))):
        run("fit", task, cohort, tmp_path / name, *common, *extra)
    # AdamW makes much of rounding, so that the gradients are compared: those of the first step to rounding
    one, two = (scalars(tmp_path / name / "run" / "0") for name in ("one", "two"))
    assert one["train/grad_norm"][0] == pytest.approx(two["train/grad_norm"][0], rel=1e-4)
    assert one["train/grad_norm"] == pytest.approx(two["train/grad_norm"], rel=0.05)
    assert one["val/loss"] == pytest.approx(two["val/loss"], rel=0.02, nan_ok=True)
    if task is SURVIVAL:  # the loss of all ranks' subjects together
        assert one["train/loss"][0] == pytest.approx(two["train/loss"][0], rel=1e-4)
    checkpoint = str(tmp_path / "one" / "run" / "0" / "checkpoints" / "last.ckpt")
    for name, extra in (("a", ()), ("b", DDP)):
        run("test", task, cohort, tmp_path, "--ckpt_path", checkpoint, "--output.folder", str(tmp_path / name), *extra)
    a, b = (pd.read_csv(tmp_path / name / "cases.csv") for name in "ab")
    assert list(a.columns) == list(b.columns)
    assert a["id"].tolist() == b["id"].tolist()
    numbers = a.select_dtypes("number").columns
    pd.testing.assert_frame_equal(a[numbers], b[numbers], rtol=1e-3, atol=1e-4)


def test_fine_tuning_resumes_to_the_same_bits(cohort, tmp_path):
    common = ("--trainer.max_epochs=30", "--trainer.check_val_every_n_epoch=3", "--data.batch_size=4")
    run("fit", SEGMENTATION, cohort, tmp_path / "whole", *common)
    process = subprocess.Popen(
        command("fit", SEGMENTATION, cohort, tmp_path / "cut", *common), env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    last = tmp_path / "cut" / "run" / "0" / "checkpoints" / "last.ckpt"
    for _ in range(600):
        if last.is_file() or process.poll() is not None:
            break
        time.sleep(0.2)
    process.send_signal(signal.SIGUSR2)
    assert process.wait(timeout=120) == 75
    run("fit", SEGMENTATION, cohort, tmp_path / "cut", *common, "--ckpt_path=auto")
    whole, cut = state(tmp_path / "whole"), state(tmp_path / "cut")
    assert all(torch.equal(value, cut[key]) for key, value in whole.items())
    best = [
        load_checkpoint(tmp_path / n / "run" / "0" / "checkpoints" / "best.ckpt")["epoch"] for n in ("whole", "cut")
    ]
    assert best[0] == best[1]
