"""The record of a run: its log, and its options where it is resumed."""

from __future__ import annotations

from pathlib import Path

from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger

from cinema_lightning.runs import write_record


class RunLogger(TensorBoardLogger):
    """TensorBoard events in the run's folder; config.yaml is the record of options, not a second hparams.yaml."""

    def save(self) -> None:
        """Nothing: see above."""


class RecordWhenItGoesOn(Callback):
    """Writes the record of a resumed run when it trains, so that one that is refused before leaves none.

    Args:
        run: Folder of the run.
        text: The configuration as YAML.
    """

    def __init__(self, run: Path, text: str) -> None:
        self.run = run
        self.text = text

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """All was accepted, and there is something left to train."""
        if trainer.is_global_zero:
            write_record(self.run, self.text)
