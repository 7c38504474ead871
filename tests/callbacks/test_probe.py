"""A probe of pretraining: its figures are logged, its subjects are kept apart."""

from __future__ import annotations

import pytest

from cinema_lightning.callbacks.probe import Probe
from cinema_lightning.cli import main

TINY = [
    *("--model.network.size=tiny", "--data.batch_size=2", "--data.views=[sax,lax_2c]", "--data.fold=1/2"),
    *("--data.input_size={sax: [64,64,4], lax_2c: [64,64]}", "--trainer.max_epochs=1"),
    *("--trainer.check_val_every_n_epoch=1", "--trainer.enable_progress_bar=false", "--pictures.every_n_epochs=0"),
    *("--trainer.enable_model_summary=false", "--model.optim.warmup_epochs=1"),
]


@pytest.fixture
def fit(phantom_cohort, tmp_path):
    def run(*more: str) -> int:
        overlays = ["--config", "pretrain.yaml", "--config", "phantom.yaml"]
        return main(["fit", *overlays, *TINY, "--data.root", str(phantom_cohort), "--runs", str(tmp_path), *more])

    return run


@pytest.mark.parametrize("column", ["lv_ef", "sex"])
def test_a_probe_is_logged_and_no_subject_is_on_both_sides(column, fit, monkeypatch):
    seen = {}
    original = Probe._figures

    def figures(self, trainer, task):
        seen.update(keys=self._keys, found=original(self, trainer, task), trainer=trainer)
        return seen["found"]

    monkeypatch.setattr(Probe, "_figures", figures)
    assert fit("--probe", column) == 0
    train, val = ({name for name, _ in seen["keys"][split]} for split in ("train", "val"))
    assert train
    assert val
    assert not train & val
    logged = seen["trainer"].logged_metrics
    for name in ("linear", "knn"):
        assert float(logged[f"val/probe_{name}"]) == pytest.approx(seen["found"][name], nan_ok=True)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--probe", "colour"], "there is no column 'colour'"),
        (["--probe", "lv_ef", "--data.fold=1/8"], "1 val subjects have a value in column lv_ef"),
    ],
)
def test_what_cannot_be_probed_is_said_before_training(options, words, fit, capfd):
    assert fit(*options) == 2
    assert words in capfd.readouterr().err.strip().splitlines()[-1]
