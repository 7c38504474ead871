"""Averaged weights: what is validated, what a checkpoint holds, and how a run goes on."""

from __future__ import annotations

import lightning
import pytest
import torch

from cinema_lightning.callbacks.checkpoint import AtomicCheckpointIO, Checkpoints
from cinema_lightning.callbacks.ema import Ema
from cinema_lightning.cli import main
from cinema_lightning.errors import CinemaError
from cinema_lightning.weights.files import load_checkpoint


class Line(lightning.LightningModule):
    """One weight that grows by 1 a step; validation logs its value."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.seen = []

    def training_step(self, batch, _):
        return -self.weight.sum() * batch.new_ones(())

    def validation_step(self, batch, _):
        self.seen.append(self.weight.item())
        self.log("val/loss", self.weight.sum())

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=1.0)


def fitted(folder, epochs=2, **more):
    loader = torch.utils.data.DataLoader(torch.ones(3, 1))
    saver = Checkpoints()
    saver.dirpath = str(folder)
    options = {"accelerator": "cpu", "logger": False, "enable_progress_bar": False, "num_sanity_val_steps": 0}
    trainer = lightning.Trainer(
        max_epochs=epochs, callbacks=[Ema(decay=0.5), saver], plugins=[AtomicCheckpointIO()], **options
    )
    task = Line()
    trainer.fit(task, loader, loader, weights_only=True, **more)
    return task


def averages(steps: int) -> list[float]:
    out = [1.0]
    for weight in range(2, steps + 1):
        out.append(0.5 * out[-1] + 0.5 * weight)
    return out


def test_validation_and_checkpoints_have_the_average_and_training_goes_on_without(tmp_path):
    task = fitted(tmp_path)
    expected = averages(6)
    assert task.seen == pytest.approx([expected[2]] * 3 + [expected[5]] * 3)
    best, last = (load_checkpoint(tmp_path / f"{which}.ckpt") for which in ("best", "last"))
    assert best["state_dict"]["weight"].item() == pytest.approx(expected[2]), "val/loss was smaller in the first epoch"
    assert last["state_dict"]["weight"].item() == pytest.approx(expected[5])
    assert last["current_model_state"]["weight"].item() == 6


def test_a_resumed_average_is_the_undisturbed_one(tmp_path):
    fitted(tmp_path / "whole", epochs=3)
    fitted(tmp_path / "parts", epochs=1)
    fitted(tmp_path / "parts", epochs=3, ckpt_path=str(tmp_path / "parts" / "last.ckpt"))
    whole, parts = (load_checkpoint(tmp_path / name / "last.ckpt") for name in ("whole", "parts"))
    for key in ("state_dict", "current_model_state", "averaging_state"):
        assert whole[key].keys() == parts[key].keys()
        assert all(torch.equal(value, parts[key][name]) for name, value in whole[key].items())


def test_a_decay_that_is_no_share_is_refused():
    with pytest.raises(CinemaError, match=r"ema.decay is 1.0; give a share"):
        Ema(1.0)


TINY = [
    *("--model.network.size=tiny", "--data.batch_size=4", "--data.views=[sax]", "--data.input_size={sax: [64,64,4]}"),
    *("--trainer.check_val_every_n_epoch=1", "--trainer.enable_progress_bar=false", "--pictures.every_n_epochs=0"),
    *("--trainer.enable_model_summary=false", "--model.optim.warmup_epochs=1"),
]


def test_runs_average_resume_to_the_bit_and_keep_numbered_checkpoints(phantom_cohort, tmp_path, capfd):
    def fit(runs: str, *more: str) -> int:
        overlays = ["--config", "pretrain.yaml", "--config", "phantom.yaml"]
        where = ["--data.root", str(phantom_cohort), "--runs", str(tmp_path / runs)]
        return main(["fit", *overlays, *TINY, *where, "--ema.decay=0.9", *more])

    def kept(runs: str, which: str) -> dict:
        return load_checkpoint(tmp_path / runs / "pretrain+phantom" / "0" / "checkpoints" / f"{which}.ckpt")

    assert fit("whole", "--trainer.max_epochs=2", "--checkpoint.keep_every_n_epochs=1") == 0
    assert fit("parts", "--trainer.max_epochs=2", "--trainer.max_steps=1") == 0
    assert fit("parts", "--trainer.max_epochs=2", "--ckpt_path=last") == 0
    whole, parts, first = kept("whole", "last"), kept("parts", "last"), kept("whole", "epoch_0001")
    assert first["epoch"] == 0
    assert kept("whole", "epoch_0002")["epoch"] == 1
    for key in ("state_dict", "current_model_state"):
        assert all(torch.equal(value, parts[key][name]) for name, value in whole[key].items())
    name = next(name for name in whole["state_dict"] if name.startswith("network.") and name.endswith("weight"))
    assert not torch.equal(whole["state_dict"][name], whole["current_model_state"][name])
    assert fit("parts", "--trainer.max_epochs=3", "--ckpt_path=last", "--ema.decay=0", "--allow_changes=true") == 2
    assert "key 'ema.decay': a resumed run averages its weights as it did" in capfd.readouterr().err
