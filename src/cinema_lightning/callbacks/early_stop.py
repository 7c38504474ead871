"""Stops a run whose metric no longer improves."""

from __future__ import annotations

from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping
from lightning.pytorch.utilities import rank_zero_info

from cinema_lightning.callbacks.monitor import deciding_metric


class EarlyStop(EarlyStopping):
    """Stops when the task's metric has not improved for some validations.

    Args:
        patience: Validations without an improvement; 0 never stops.
        min_delta: What counts as an improvement.
        monitor: Metric to watch; None takes the task's.
        mode: ``min`` or ``max``; None takes the task's, or min for a loss.

    Raises:
        CinemaError: At setup, if the direction of a metric is not known.
    """

    def __init__(
        self, patience: int = 0, min_delta: float = 1e-4, monitor: str | None = None, mode: str | None = None
    ) -> None:
        self._given = monitor, mode
        super().__init__(
            monitor=monitor or "val/loss",
            mode="min",
            patience=max(patience, 1),
            min_delta=min_delta,
            check_finite=False,  # a metric that is not defined at one validation, such as an MCC, is no reason to stop
            check_on_train_epoch_end=False,
            strict=False,
        )
        self.enabled = patience > 0

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Takes from the task what was not given."""
        if self.enabled:
            self.monitor, self.mode = deciding_metric(pl_module, *self._given, "early_stop")
            rising = self.mode == "max"
            self.min_delta = abs(self.min_delta) if rising else -abs(self.min_delta)
            self.best_score = torch.tensor(-torch.inf if rising else torch.inf)
        super().setup(trainer, pl_module, stage)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on counting; the patience is what the configuration says now."""
        super().load_state_dict(state_dict | {"patience": self.patience})

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """A run that had ended here is not trained further when it is started again."""
        trainer.should_stop = trainer.should_stop or (self.enabled and self.wait_count >= self.patience)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Says so where the run ended before its last epoch."""
        if self.enabled and self.wait_count >= self.patience:
            rank_zero_info(
                f"Stopped after epoch {self.stopped_epoch + 1}: {self.monitor} did not improve in {self.wait_count} "
                f"validations (early_stop.patience); its best was {float(self.best_score):.4g}."
            )

    def _evaluate_stopping_criteria(self, current: torch.Tensor) -> tuple[bool, str | None]:
        if torch.isnan(current):  # not defined at this validation, which says neither better nor worse
            return False, None
        return super()._evaluate_stopping_criteria(current)

    def _should_skip_check(self, trainer: Trainer) -> bool:
        return not self.enabled or super()._should_skip_check(trainer)
