"""Going on after a stop: where checkpoints lie, what a stop keeps, other loggers, callbacks and devices."""

import importlib.util
import os
import signal
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml
from lightning.pytorch.callbacks import Timer

from cinema_lightning.callbacks.checkpoint import CleanStop
from cinema_lightning.cli import main
from cinema_lightning.data.resume import Layout
from cinema_lightning.errors import CinemaError
from cinema_lightning.tasks.base import Task
from cinema_lightning.weights.files import load_checkpoint

TINY = [
    "--model.network.conv_channels=[4,8]",
    "--model.network.conv_blocks=1",
    "--model.network.enc_dim=16",
    "--model.network.enc_depth=1",
    "--model.network.enc_heads=2",
    "--model.network.dec_dim=16",
    "--model.network.dec_depth=1",
    "--model.network.dec_heads=2",
    "--model.network.drop_path=0.3",
    "--model.optim.warmup_epochs=1",
    "--data.batch_size=2",
    "--data.views=[sax,lax_2c]",
    "--data.input_size={sax: [64,64,4], lax_2c: [64,64]}",
    "--pictures.every_n_epochs=0",
    "--checkpoint.every_n_epochs=100",
    "--trainer.max_epochs=3",
    "--trainer.check_val_every_n_epoch=1",
    "--trainer.enable_progress_bar=false",
    "--trainer.enable_model_summary=false",
]
NAME = "pretrain+phantom"


@pytest.fixture
def fit(phantom_cohort, tmp_path):
    """Runs `cinema fit` of three epochs of three steps."""

    def run(*more: str, runs: Path = tmp_path / "runs", verb: str = "fit") -> int:
        overlays = ["--config", "pretrain.yaml", "--config", "phantom.yaml"]
        return main([verb, *overlays, *TINY, "--data.root", str(phantom_cohort), "--runs", str(runs), *more])

    return run


@pytest.fixture(scope="module")
def undisturbed(phantom_cohort, tmp_path_factory) -> dict:
    """What a run that nothing stops ends with."""
    runs = tmp_path_factory.mktemp("undisturbed")
    overlays = ["--config", "pretrain.yaml", "--config", "phantom.yaml"]
    assert main(["fit", *overlays, *TINY, "--data.root", str(phantom_cohort), "--runs", str(runs)]) == 0
    return load_checkpoint(runs / NAME / "0" / "checkpoints" / "last.ckpt")


def last(tmp_path: Path, version: str = "0") -> dict:
    return load_checkpoint(tmp_path / "runs" / NAME / version / "checkpoints" / "last.ckpt")


def same(a: dict, b: dict) -> bool:
    weights = all(torch.equal(value, b["state_dict"][key]) for key, value in a["state_dict"].items())
    return weights and a["global_step"] == b["global_step"] and a["lr_schedulers"] == b["lr_schedulers"]


def do_at(monkeypatch, step: int, action) -> None:
    """Does ``action(trainer)`` when a batch of the run's ``step``-th optimiser step ends."""
    original = CleanStop.on_train_batch_end

    def wrapped(self, trainer, *args):
        if trainer.global_step == step:
            action(trainer)
        original(self, trainer, *args)

    monkeypatch.setattr(CleanStop, "on_train_batch_end", wrapped)


def stop(_) -> None:
    os.kill(os.getpid(), signal.SIGTERM)


# ---------------------------------------------------------------------- random draws
def test_drop_path_is_drawn_again_after_a_stop(fit, tmp_path, undisturbed, monkeypatch):
    with monkeypatch.context() as patch:
        do_at(patch, 4, stop)
        assert fit() == 75
    torch.manual_seed(987)
    torch.rand(5)
    assert fit("--ckpt_path=last") == 0
    assert same(undisturbed, last(tmp_path))


# ---------------------------------------------------------------------- ends of a run that are no ends of an epoch
@pytest.mark.parametrize("steps", [pytest.param(1, marks=pytest.mark.slow), 3, 5])
def test_max_steps_ends_in_an_epoch_that_is_gone_on_with(fit, tmp_path, undisturbed, steps):
    assert fit(f"--trainer.max_steps={steps}") == 0
    assert last(tmp_path)["global_step"] == steps
    assert fit("--trainer.max_steps=7", "--ckpt_path=last") == 0
    assert last(tmp_path)["global_step"] == 7
    assert fit("--ckpt_path=last") == 0
    assert same(undisturbed, last(tmp_path))


SLOW = [pytest.param(batch, marks=pytest.mark.slow) for batch in (1, 4, 12)]


@pytest.mark.parametrize("batch", [9, *SLOW])  # of 6 micro-batches an epoch, 2 of which make a step
def test_max_time_ends_within_a_step_and_counts_from_each_start(fit, tmp_path, monkeypatch, batch):
    cut = ("--data.batch_size=1", "--trainer.accumulate_grad_batches=2", "--trainer.limit_train_batches=6")
    assert fit(*cut, runs=tmp_path / "whole") == 0
    done = []

    def check(self, trainer):
        done.append(1)
        trainer.should_stop = trainer.should_stop or len(done) == batch

    with monkeypatch.context() as patch:
        patch.setattr(Timer, "on_fit_start", lambda *_: None)
        patch.setattr(Timer, "_check_time_remaining", check)
        assert fit(*cut, "--trainer.max_time=00:10:00:00") == 0
    stopped = last(tmp_path)
    assert stopped["global_step"] == batch // 2
    # a second start has its own time: 3 s of the first would leave none of these 2 s
    stopped["callbacks"]["Timer"]["time_elapsed"]["train"] = 1e6
    torch.save(stopped, tmp_path / "runs" / NAME / "0" / "checkpoints" / "last.ckpt")
    assert fit(*cut, "--trainer.max_time=00:10:00:00", "--ckpt_path=last") == 0
    whole = load_checkpoint(tmp_path / "whole" / NAME / "0" / "checkpoints" / "last.ckpt")
    assert same(whole, last(tmp_path))


def test_an_early_stopped_run_is_not_trained_further(fit, tmp_path):
    stopping = ("--early_stop.patience=1", "--early_stop.min_delta=1000", "--trainer.max_epochs=9")
    assert fit(*stopping) == 0
    before = last(tmp_path)
    assert before["global_step"] == 6, "two epochs"
    for _ in range(2):
        assert fit(*stopping, "--ckpt_path=auto") == 0
        assert same(before, last(tmp_path))
    assert fit(*stopping[1:], "--early_stop.patience=3", "--ckpt_path=auto") == 0
    assert last(tmp_path)["global_step"] == 12, "more patience goes on"


def test_a_trial_leaves_nothing_and_touches_nothing(fit, tmp_path):
    assert fit("--trainer.fast_dev_run=true") == 0
    assert not (tmp_path / "runs").exists()
    assert fit("--ckpt_path=auto", "--trainer.max_epochs=1") == 0
    before = {path: path.read_bytes() for path in (tmp_path / "runs").rglob("*") if path.is_file()}
    assert fit("--ckpt_path=auto", "--trainer.fast_dev_run=true") == 0
    assert {path: path.read_bytes() for path in (tmp_path / "runs").rglob("*") if path.is_file()} == before


# ---------------------------------------------------------------------- other loggers and callbacks
LOGGERS = {
    "lightning.pytorch.loggers.CSVLogger": {"save_dir": "logs"},
    "lightning.pytorch.loggers.WandbLogger": {"save_dir": "logs", "offline": True},
    "lightning.pytorch.loggers.MLFlowLogger": {"tracking_uri": "file:logs"},
}
NEEDS = {"WandbLogger": "wandb", "MLFlowLogger": "mlflow"}


@pytest.mark.parametrize("logger", LOGGERS)
def test_checkpoints_lie_in_the_run_whatever_the_logger(fit, tmp_path, monkeypatch, logger):
    needed = NEEDS.get(logger.rsplit(".", 1)[-1])
    if needed and importlib.util.find_spec(needed) is None:
        pytest.skip(f"{needed} is not installed")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    overlay = tmp_path / "logger.yaml"
    overlay.write_text(yaml.safe_dump({"trainer": {"logger": {"class_path": logger, "init_args": LOGGERS[logger]}}}))
    options = ("--config", str(overlay), "--name", NAME)
    assert fit(*options, "--trainer.max_epochs=1") == 0
    assert {path.name for path in tmp_path.rglob("*.ckpt")} == {"best.ckpt", "last.ckpt"}
    assert last(tmp_path)["global_step"] == 3
    assert (tmp_path / "logs").is_dir()
    assert fit(*options, "--trainer.max_epochs=2", "--ckpt_path=auto") == 0
    assert last(tmp_path)["global_step"] == 6
    assert [path.name for path in (tmp_path / "runs" / NAME).iterdir()] == ["0"]
    predict = ("--config", "pretrain.yaml", "--config", "phantom.yaml", "--runs", "runs", "--data.predict_split=val")
    root = yaml.safe_load((tmp_path / "runs" / NAME / "0" / "config.yaml").read_text())["data"]["init_args"]["root"]
    assert main(["predict", *predict, "--data.root", root, "--output.folder", "out"]) == 0
    assert (tmp_path / "out" / "features.csv").is_file()


def _own(tmp_path: Path, **options) -> tuple[str, ...]:
    callback = {"class_path": "lightning.pytorch.callbacks.ModelCheckpoint", "init_args": options}
    overlay = tmp_path / "own.yaml"
    overlay.write_text(yaml.safe_dump({"trainer": {"callbacks": [callback]}}))
    return "--config", str(overlay), "--name", NAME


def test_a_stop_is_saved_by_the_run_and_not_by_a_callback_of_the_user(fit, tmp_path, undisturbed, monkeypatch):
    own = _own(tmp_path, dirpath=str(tmp_path / "mine"), every_n_epochs=1000, filename="every")
    with monkeypatch.context() as patch:
        do_at(patch, 4, stop)
        assert fit(*own) == 75
    assert last(tmp_path)["global_step"] == 4
    assert not (tmp_path / "mine").exists() or not list((tmp_path / "mine").iterdir())
    assert fit(*own, "--ckpt_path=last") == 0
    assert same(undisturbed, last(tmp_path))


def test_checkpoints_of_the_user_lie_beside_the_runs_and_do_not_replace_them(fit, tmp_path, capsys):
    logger = ("--trainer.logger=lightning.pytorch.loggers.CSVLogger", f"--trainer.logger.save_dir={tmp_path / 'logs'}")
    own = _own(tmp_path, save_top_k=-1, filename="{step}")
    assert fit(*own, *logger, "--trainer.max_epochs=2") == 0
    found = {path.name for path in (tmp_path / "runs" / NAME / "0" / "checkpoints").iterdir()}
    assert found == {"best.ckpt", "last.ckpt", "step=3.ckpt", "step=6.ckpt"}
    assert fit(*_own(tmp_path, save_last=True, save_weights_only=True)) == 2
    assert "give it a dirpath" in capsys.readouterr().err


def test_what_any_callback_saves_after_max_steps_goes_on_in_the_epoch(fit, tmp_path, undisturbed):
    own = _own(tmp_path, dirpath=str(tmp_path / "mine"), save_on_train_epoch_end=True, filename="own")
    assert fit(*own, "--trainer.max_steps=4") == 0
    newest = sorted((tmp_path / "mine").glob("own*.ckpt"))[-1]
    assert load_checkpoint(newest)["global_step"] == 4
    assert fit(*own, f"--ckpt_path={newest}", runs=tmp_path / "runs") == 0
    assert same(undisturbed, last(tmp_path, "1"))


# ---------------------------------------------------------------------- other devices
def test_smaller_batches_make_the_steps_that_the_run_began_with(fit, tmp_path, monkeypatch):
    plain = ("--model.network.drop_path=0",)
    assert fit(*plain, runs=tmp_path / "whole") == 0
    for batch_size, step in (("2", 4), ("1", 5), ("1", 6)):
        with monkeypatch.context() as patch:
            do_at(patch, step, stop)
            assert fit(*plain, f"--data.batch_size={batch_size}", "--ckpt_path=auto") == 75
        assert last(tmp_path)["global_step"] == step
    assert fit(*plain, "--data.batch_size=8", "--ckpt_path=last") == 0
    whole = load_checkpoint(tmp_path / "whole" / NAME / "0" / "checkpoints" / "last.ckpt")
    got = last(tmp_path)
    assert got["global_step"] == whole["global_step"] == 9
    assert got["lr_schedulers"] == whole["lr_schedulers"]
    for key, value in whole["state_dict"].items():
        assert torch.allclose(value.double(), got["state_dict"][key].double(), atol=5e-5), key


@pytest.mark.parametrize(
    ("devices", "batch_size", "at_once", "epoch"),
    [(1, 16, 16, 40), (2, 16, 32, 20), (4, 16, 64, 10), (8, 16, 64, 10), (1, 100, 64, 10), (4, 12, 32, 20)],
)
def test_a_layout_keeps_its_steps_on_other_devices(devices, batch_size, at_once, epoch):
    before = Layout(planned=64, at_once=64, step=128, epoch=10)
    assert before.on(devices, batch_size) == Layout(64, at_once, 128, epoch)


def test_devices_that_cannot_share_the_batches_are_refused():
    with pytest.raises(CinemaError, match="batches of 16 samples, which 3 devices cannot share"):
        Layout(planned=16, at_once=16, step=16, epoch=4).on(3, 16)


def test_another_length_of_an_epoch_is_refused(fit, tmp_path, capsys):
    assert fit("--trainer.max_epochs=1") == 0
    before = last(tmp_path)
    assert fit("--ckpt_path=last", "--trainer.limit_train_batches=2") == 2
    assert "has 3 batches, and now 2" in capsys.readouterr().err
    assert same(before, last(tmp_path))


# ---------------------------------------------------------------------- what a step draws
def _masks(rank: int = 0, step: int = 0, part: int = 0) -> torch.Tensor:
    trainer = SimpleNamespace(accumulate_grad_batches=2, global_rank=rank, global_step=step)
    task = Task({})
    task._trainer = trainer
    task._seed_draws(part)
    return torch.nn.functional.dropout(torch.ones(64))


def test_masks_are_those_of_rank_step_and_micro_batch():
    first = _masks()
    torch.rand(3)
    assert torch.equal(first, _masks())
    assert torch.equal(first, _masks(part=2)), "the micro-batch counts within its step"
    for other in (_masks(rank=1), _masks(step=1), _masks(part=1)):
        assert not torch.equal(first, other)


@pytest.mark.slow
def test_shipped_dropout_is_drawn_again_after_a_stop(tmp_path, monkeypatch):
    options = ["fit", "--config", "acdc_seg.yaml", "--config", "phantom.yaml", "--phantom.root", str(tmp_path / "data")]
    options += ["--phantom.subjects=8", "--phantom.workers=1", "--data.batch_size=2", "--trainer.max_epochs=2"]
    options += ["--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false"]
    options += ["--pictures.every_n_epochs=0", "--trainer.limit_val_batches=1", "--trainer.limit_train_batches=3"]
    assert main([*options, "--runs", str(tmp_path / "whole")]) == 0
    name = Path("acdc_seg+phantom") / "0"
    config = yaml.safe_load((tmp_path / "whole" / name / "config.yaml").read_text())
    network = config["model"]["init_args"]["network"]["init_args"]
    assert network["dropout"] == network["drop_path"] == 0.1
    with monkeypatch.context() as patch:
        do_at(patch, 2, stop)
        assert main([*options, "--runs", str(tmp_path / "cut")]) == 75
    torch.rand(7)
    assert main([*options, "--runs", str(tmp_path / "cut"), "--ckpt_path=last"]) == 0
    whole, cut = (load_checkpoint(tmp_path / runs / name / "checkpoints" / "last.ckpt") for runs in ("whole", "cut"))
    assert same(whole, cut)
