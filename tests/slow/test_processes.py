"""What needs processes of its own: two ranks against one, kills, the console script."""

import os
import shutil
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

TINY = [
    "--config=pretrain.yaml",
    "--config=phantom.yaml",
    "--trainer.check_val_every_n_epoch=1",
    "--checkpoint.every_n_epochs=1",
    "--model.network.conv_channels=[4,8]",
    "--model.network.conv_blocks=1",
    "--model.network.enc_dim=16",
    "--model.network.enc_depth=1",
    "--model.network.enc_heads=2",
    "--model.network.dec_dim=16",
    "--model.network.dec_depth=1",
    "--model.network.dec_heads=2",
    "--model.optim.warmup_epochs=1",
    "--pictures.every_n_epochs=0",
    "--trainer.enable_progress_bar=false",
    "--trainer.enable_model_summary=false",
]


def command(verb: str, cohort: Path, runs: Path, *more: str) -> list[str]:
    base = [sys.executable, "-m", "cinema_lightning", verb, *TINY]
    return [*base, "--data.root", str(cohort), "--runs", str(runs), *more]


def run(*arguments, code: int = 0, **options) -> subprocess.CompletedProcess:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    result = subprocess.run(
        command(*arguments, **options), capture_output=True, text=True, env=environment, timeout=900, check=False
    )
    assert result.returncode == code, result.stderr[-3000:]
    return result


def state(runs: Path, which: str = "last") -> dict[str, torch.Tensor]:
    return load_checkpoint(runs / "pretrain+phantom" / "0" / "checkpoints" / f"{which}.ckpt")["state_dict"]


@pytest.fixture(scope="module")
def mixed_cohort(tmp_path_factory) -> Path:
    """A cohort in which some subjects lack views."""
    out = tmp_path_factory.mktemp("mixed") / "phantom"
    from cinema_lightning.cli import main

    options = ["--subjects", "12", "--size", "small", "--frames", "3", "--missing_views", "0.4", "--seed", "1"]
    assert main(["phantom", *options, "--out", str(out)]) == 0
    return out


DDP = ("--trainer.devices=2", "--trainer.strategy=ddp")


def test_two_processes_train_like_one_with_the_whole_batch(mixed_cohort, tmp_path):
    common = ("--trainer.max_epochs=2", "--model.optim.lr=1e-4")
    from cinema_lightning.tasks.pretrain.data import PretrainData

    data = PretrainData(str(mixed_cohort), batch_size=2)
    data.setup("fit")
    sets = {draw.views for batch in data.train_sampler for draw in batch}
    assert any(len(views) < 4 for views in sets), "the cohort should make batches that lack views"
    run("fit", mixed_cohort, tmp_path / "one", *common, "--data.batch_size=2")
    run("fit", mixed_cohort, tmp_path / "two", *common, "--data.batch_size=1", *DDP)
    one, two = state(tmp_path / "one"), state(tmp_path / "two")
    for key, value in one.items():
        # what is added to all keys alike cancels in the softmax: its gradient is rounding, which Adam makes a step of
        ours, theirs = (v.chunk(2)[1] if key.endswith("attn.kv.bias") else v for v in (value, two[key]))
        assert torch.allclose(ours.double(), theirs.double(), atol=5e-6, rtol=1e-4), key
    assert sorted(p.name for p in (tmp_path / "two" / "pretrain+phantom").iterdir()) == ["0"]


def test_two_processes_stop_on_a_signal_and_resume_to_the_same_bits(mixed_cohort, tmp_path):
    common = ("--trainer.max_epochs=40", "--data.batch_size=2", *DDP)
    whole = ("fit", mixed_cohort, tmp_path / "whole", *common)
    run(*whole)
    process = subprocess.Popen(
        command("fit", mixed_cohort, tmp_path / "cut", *common),
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        text=True,
    )
    _wait_for(tmp_path / "cut" / "pretrain+phantom" / "0" / "checkpoints" / "last.ckpt", process)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=120) == 75, process.stderr.read()[-3000:]
    assert load_checkpoint(tmp_path / "cut/pretrain+phantom/0/checkpoints/last.ckpt")["global_step"] < 40 * 2
    run("fit", mixed_cohort, tmp_path / "cut", *common, "--ckpt_path=last")
    whole_state, cut_state = state(tmp_path / "whole"), state(tmp_path / "cut")
    assert all(torch.equal(value, cut_state[key]) for key, value in whole_state.items())


def test_a_run_stopped_on_two_processes_goes_on_on_one_and_back(mixed_cohort, tmp_path):
    common = ("--trainer.max_epochs=30", "--model.optim.lr=1e-4")
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    run("fit", mixed_cohort, whole, *common, "--data.batch_size=1", *DDP)
    run("fit", mixed_cohort, cut, *common, "--data.batch_size=1", "--trainer.max_steps=33", *DDP)
    run("fit", mixed_cohort, cut, *common, "--data.batch_size=1", "--trainer.max_steps=67", "--ckpt_path=auto")
    run("fit", mixed_cohort, cut, *common, "--data.batch_size=4", "--ckpt_path=auto", *DDP)
    one, two = (load_checkpoint(runs / "pretrain+phantom/0/checkpoints/last.ckpt") for runs in (whole, cut))
    assert one["global_step"] == two["global_step"]
    assert one["lr_schedulers"] == two["lr_schedulers"]
    for key, value in one["state_dict"].items():
        assert torch.allclose(value.double(), two["state_dict"][key].double(), atol=2e-4, rtol=1e-3), key


def test_devices_that_cannot_make_the_steps_of_a_run_are_refused(mixed_cohort, tmp_path):
    run("fit", mixed_cohort, tmp_path, "--trainer.max_epochs=1", "--data.batch_size=1")
    said = run("fit", mixed_cohort, tmp_path, "--trainer.max_epochs=2", "--ckpt_path=last", *DDP, code=2)
    assert "batches of 1 samples, which 2 devices cannot share" in said.stderr


def test_a_sigkill_loses_no_more_than_the_epoch(mixed_cohort, tmp_path):
    common = ("--trainer.max_epochs=60", "--data.batch_size=2")
    run("fit", mixed_cohort, tmp_path / "whole", *common)
    process = subprocess.Popen(
        command("fit", mixed_cohort, tmp_path / "cut", *common), env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    _wait_for(tmp_path / "cut" / "pretrain+phantom" / "0" / "checkpoints" / "last.ckpt", process)
    process.kill()
    process.wait(timeout=60)
    run("fit", mixed_cohort, tmp_path / "cut", *common, "--ckpt_path=last")
    whole_state, cut_state = state(tmp_path / "whole"), state(tmp_path / "cut")
    assert all(torch.equal(value, cut_state[key]) for key, value in whole_state.items())


def test_two_processes_predict_what_one_does(mixed_cohort, tmp_path):
    runs = tmp_path / "runs"
    run("fit", mixed_cohort, runs, "--trainer.max_epochs=1", "--data.batch_size=2")
    run("predict", mixed_cohort, runs, "--output.folder", str(tmp_path / "one"))
    run("predict", mixed_cohort, runs, "--output.folder", str(tmp_path / "two"), *DDP)
    one, two = (pd.read_csv(tmp_path / name / "features.csv") for name in ("one", "two"))
    assert one[["id", "frame"]].equals(two[["id", "frame"]])
    assert torch.allclose(
        *(torch.from_numpy(t.select_dtypes("number").fillna(0).to_numpy()) for t in (one, two)), atol=1e-5
    )


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_a_compiled_network_learns_what_the_plain_one_does(mixed_cohort, tmp_path):
    common = ("--trainer.max_epochs=1", "--data.batch_size=2", "--data.views=[lax_2c]")
    common += ("--data.input_size={lax_2c: [64,64]}",)
    run("fit", mixed_cohort, tmp_path / "plain", *common)
    run("fit", mixed_cohort, tmp_path / "compiled", *common, "--model.compile=true")
    plain, compiled = state(tmp_path / "plain"), state(tmp_path / "compiled")
    assert plain.keys() == compiled.keys()
    for key, value in plain.items():
        assert torch.allclose(value.double(), compiled[key].double(), atol=1e-3), key


def _wait_for(path: Path, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 120
    while not path.is_file():
        assert process.poll() is None, "the run ended before it was to be stopped"
        assert time.monotonic() < deadline, "no checkpoint appeared"
        time.sleep(0.05)
