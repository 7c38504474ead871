"""What a training says: what is trained on what, how far it is, what was learnt; nothing of its libraries' own."""

from __future__ import annotations

import re
from types import SimpleNamespace

import pytest

from cinema_lightning.callbacks.progress import Progress, share_of
from cinema_lightning.cli import main

TINY = [
    *("--model.network.size=tiny", "--data.batch_size=4", "--data.views=[lax_2c]", "--trainer.max_epochs=2"),
    *("--trainer.check_val_every_n_epoch=1", "--pictures.every_n_epochs=0", "--model.optim.warmup_epochs=1"),
]


def test_a_training_says_what_matters_and_nothing_else(phantom_cohort, tmp_path, monkeypatch, caplog, capfd):
    shown = []
    monkeypatch.setattr("cinema_lightning.progress.SPARSE", 0.0)
    show = "cinema_lightning.callbacks.progress.ProgressLine.show"
    monkeypatch.setattr(show, lambda self, done, text: shown.append((done, text)))
    overlays = ["--config", "pretrain.yaml", "--config", "phantom.yaml"]
    command = [*overlays, *TINY, "--data.root", str(phantom_cohort), "--runs", str(tmp_path)]
    assert main(["fit", *command]) == 0
    first, last = re.findall(r"^.*(?:trains|Trained).*$", caplog.text, re.MULTILINE)
    samples = r"on \d+ samples: 2 epochs, cpu, 32-true\.$"
    assert re.search(r"Pretrain trains MaskedAutoencoder \(\d+\.\d million parameters\) " + samples, first)
    assert re.search(r"Trained for .* s: val/loss 0\.\d+ at its best in epoch \d", last)
    trained = [(done, text) for done, text in shown if "validating" not in text]
    assert [done for done, _ in trained] == [0.5, 1.0]
    assert trained[-1][1].startswith("epoch 2 of 2, train/loss ")
    said = caplog.text + "".join(capfd.readouterr())
    for word in ("FLOPs", "it/s", "Seed set", "`Trainer.fit` stopped", "GPU available", "litlogger"):
        assert word not in said, word


@pytest.mark.parametrize(
    ("epochs", "steps", "share"), [(10, -1, 0.25), (10, 100, 0.4), (-1, 100, 0.4), (-1, -1, 0.0), (2, -1, 1.0)]
)
def test_how_far_a_training_is(epochs, steps, share):
    trainer = SimpleNamespace(
        max_epochs=epochs, max_steps=steps, current_epoch=2, num_training_batches=10, global_step=40
    )
    assert share_of(trainer, 5) == pytest.approx(share)


def test_a_test_counts_batches_of_all_loaders_and_can_be_silent(monkeypatch):
    trainer = SimpleNamespace(num_test_batches=[2, 3])
    progress = Progress()
    progress.on_test_batch_end(trainer)
    assert (progress._line.title, progress._line.total, progress._line.done) == ("test", 5, 1)
    progress.disable()
    progress.on_test_batch_end(trainer)
    assert progress._line is None
