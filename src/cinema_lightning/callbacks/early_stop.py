"""Stops a run whose metric no longer improves."""

from __future__ import annotations

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping


class EarlyStop(EarlyStopping):
    """Stops when the task's metric has not improved for some validations.

    Args:
        patience: Validations without an improvement; 0 never stops.
        min_delta: What counts as an improvement.
        monitor: Metric to watch; None takes the task's.
        mode: ``min`` or ``max``; None takes the task's.
    """

    def __init__(
        self, patience: int = 0, min_delta: float = 1e-4, monitor: str | None = None, mode: str | None = None
    ) -> None:
        self._task_decides = monitor is None
        super().__init__(
            monitor=monitor or "val/loss",
            mode=mode or "min",
            patience=max(patience, 1),
            min_delta=min_delta,
            check_finite=False,  # a metric that is not defined at one validation, such as an MCC, is no reason to stop
            check_on_train_epoch_end=False,
            strict=False,
        )
        self.enabled = patience > 0

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Takes the metric from the task where none was given."""
        if self._task_decides:
            self.monitor = getattr(pl_module, "monitor", self.monitor)
            self.mode = getattr(pl_module, "monitor_mode", "min")
            rising = self.mode == "max"
            self.min_delta = abs(self.min_delta) if rising else -abs(self.min_delta)
            self.best_score = torch.tensor(-torch.inf if rising else torch.inf)
        super().setup(trainer, pl_module, stage)

    def _should_skip_check(self, trainer: Trainer) -> bool:
        return not self.enabled or super()._should_skip_check(trainer)
