"""Checkpoints: atomic writing, safe reading."""

import os
import resource
import subprocess
import sys

import lightning
import pytest
import torch

from cinema_lightning.callbacks.checkpoint import AtomicCheckpointIO, Checkpoints
from cinema_lightning.callbacks.early_stop import EarlyStop
from cinema_lightning.callbacks.monitor import deciding_metric
from cinema_lightning.errors import CinemaError
from cinema_lightning.weights.files import load_checkpoint


def test_a_full_disk_leaves_the_previous_checkpoint(tmp_path):
    path = tmp_path / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint({"state_dict": {"w": torch.ones(3)}}, path)
    code = (
        "import resource, signal, torch, sys\n"
        "from cinema_lightning.callbacks.checkpoint import AtomicCheckpointIO\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        f"AtomicCheckpointIO().save_checkpoint({{'state_dict': {{'w': torch.zeros(100000)}}}}, {str(path)!r})\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode != 0
    assert "previous one is intact" in result.stderr
    assert load_checkpoint(path)["state_dict"]["w"].sum() == 3
    assert [p.name for p in tmp_path.iterdir()] == ["last.ckpt"]
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 4096


class Evil:
    def __reduce__(self):
        return os.system, ("touch /tmp/evil",)


@pytest.mark.parametrize("kind", ["missing", "truncated", "evil", "other"])
def test_what_is_no_checkpoint_is_refused_with_a_sentence(tmp_path, kind):
    path = tmp_path / "x.ckpt"
    if kind == "truncated":
        torch.save({"state_dict": {"w": torch.ones(1000)}}, path)
        path.write_bytes(path.read_bytes()[:500])
    elif kind == "evil":
        torch.save({"state_dict": Evil()}, path)
    elif kind == "other":
        torch.save({"weights": 1}, path)
    with pytest.raises(CinemaError, match=r"x\.ckpt"):
        load_checkpoint(path)


class Judged:
    monitor = "val/dice"
    monitor_mode = "max"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ((None, None), ("val/dice", "max")),
        (("val/dice", None), ("val/dice", "max")),
        (("val/loss", None), ("val/loss", "min")),
        (("val/accuracy", "max"), ("val/accuracy", "max")),
        ((None, "min"), ("val/dice", "min")),
    ],
)
def test_what_decides_is_what_was_said(given, expected):
    assert deciding_metric(Judged(), *given, "checkpoint") == expected


def test_a_metric_of_unknown_direction_is_asked_about():
    with pytest.raises(CinemaError, match=r"checkpoint.monitor is val/accuracy: say with checkpoint.mode"):
        deciding_metric(Judged(), "val/accuracy", None, "checkpoint")
    with pytest.raises(CinemaError, match=r"early_stop.mode is 'up'; write min or max"):
        deciding_metric(Judged(), None, "up", "early_stop")


class Scripted(lightning.LightningModule):
    """Logs what it is told as val/score."""

    monitor, monitor_mode = "val/score", "max"

    def __init__(self, scores):
        super().__init__()
        self.weight, self.scores = torch.nn.Parameter(torch.zeros(1)), scores

    def training_step(self, batch, _):
        return (self.weight - batch).square().sum()

    def validation_step(self, batch, _):
        self.log("val/score", torch.tensor(self.scores[self.current_epoch]))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


@pytest.mark.parametrize(
    ("scores", "best", "epochs"),
    [
        ([float("nan")] * 4, 3, 4),  # never defined: the newest is kept, and nothing stops
        ([float("nan"), 0.5, float("nan"), 0.7], 3, 4),
        ([float("nan"), 0.7, float("nan"), 0.5], 1, 4),
        ([0.7, 0.5, 0.5, 0.9], 0, 3),
    ],
)
def test_a_metric_that_is_not_defined_neither_wins_nor_stops(scores, best, epochs, tmp_path, capsys, caplog):
    loader = torch.utils.data.DataLoader(torch.ones(2, 1))
    saver, stopper = Checkpoints(), EarlyStop(patience=2)
    saver.dirpath = str(tmp_path)
    options = {"accelerator": "cpu", "logger": False, "num_sanity_val_steps": 0, "enable_progress_bar": False}
    trainer = lightning.Trainer(max_epochs=4, callbacks=[saver, stopper], **options)
    with caplog.at_level("INFO"):
        trainer.fit(Scripted(scores), loader, loader)
    assert load_checkpoint(tmp_path / "best.ckpt")["epoch"] == best
    assert trainer.current_epoch == epochs
    said = "Stopped after epoch 3: val/score did not improve in 2 validations (early_stop.patience); its best was 0.7."
    assert (said in caplog.text + capsys.readouterr().err) == (epochs < 4)


class Twice(Scripted):
    """Two validations an epoch, of which the first is scripted to be better."""

    def validation_step(self, batch, _):
        self.log("val/score", torch.tensor(self.scores.pop(0)))


def test_each_validation_of_an_epoch_is_considered(tmp_path):
    train, val = torch.utils.data.DataLoader(torch.ones(4, 1)), torch.utils.data.DataLoader(torch.ones(1, 1))
    saver = Checkpoints()
    saver.dirpath = str(tmp_path)
    options = {"accelerator": "cpu", "logger": False, "num_sanity_val_steps": 0, "enable_progress_bar": False}
    trainer = lightning.Trainer(max_epochs=2, callbacks=[saver], val_check_interval=0.5, **options)
    trainer.fit(Twice([0.3, 0.4, 0.9, 0.1]), train, val)
    assert load_checkpoint(tmp_path / "best.ckpt")["global_step"] == 6, "the third validation, in mid-epoch"
    assert load_checkpoint(tmp_path / "last.ckpt")["global_step"] == 8
