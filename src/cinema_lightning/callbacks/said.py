"""One line before a training, what is trained on what, and one after it, what was learnt."""

from __future__ import annotations

import math
import time

from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info

from cinema_lightning.callbacks.checkpoint import Checkpoints
from cinema_lightning.data.protocol import data_of
from cinema_lightning.progress import duration
from cinema_lightning.tasks.base import Task


class Said(Callback):
    """Says both; how far it is in between is said by :class:`~cinema_lightning.callbacks.progress.Progress`."""

    def __init__(self) -> None:
        self._began = 0.0
        self._scores: list[tuple[int, float]] = []

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """What is trained, on what, and how long."""
        self._began, self._scores = time.monotonic(), []
        if isinstance(pl_module, Task):
            rank_zero_info(opening(trainer, pl_module))

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Notes what decides which weights are the best."""
        score = trainer.callback_metrics.get(_kept(trainer).monitor or "")
        if score is not None and not trainer.sanity_checking and math.isfinite(float(score)):
            self._scores.append((trainer.current_epoch + 1, float(score)))

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """What was learnt; nothing of a run that had no epoch left."""
        if self._scores:
            rank_zero_info(closing(_kept(trainer), self._scores, time.monotonic() - self._began))


def _kept(trainer: Trainer) -> Checkpoints:
    return next(callback for callback in trainer.checkpoint_callbacks if isinstance(callback, Checkpoints))


def opening(trainer: Trainer, task: Task) -> str:
    """What is trained, on what and how long.

    Args:
        trainer: At the start.
        task: With its network and the facts of the data.

    Returns:
        One sentence.
    """
    trained = sum(part.numel() for part in task.parameters() if part.requires_grad)
    samples = f"{data_of(trainer).n_train} samples"
    people = f"{samples} of {task.spec['n_subjects']} subjects" if "n_subjects" in task.spec else samples
    limits = (("epoch", trainer.max_epochs or 0), ("step", trainer.max_steps or 0))
    length = " or ".join(f"{count} {name}{'s' if count > 1 else ''}" for name, count in limits if count > 0) or "no end"
    device, count = trainer.strategy.root_device.type, trainer.world_size
    name = f"{type(task).__name__} trains {type(task.network).__name__} ({trained / 1e6:.1f} million parameters)"
    return f"{name} on {people}: {length}, {f'{count} x ' if count > 1 else ''}{device}, {trainer.precision}."


def closing(kept: Checkpoints, scores: list[tuple[int, float]], seconds: float) -> str:
    """How the metric that decides went.

    Args:
        kept: Knows the metric and the best value of the whole run.
        scores: Epoch and value of each validation since this start, at least one.
        seconds: Length of the training.

    Returns:
        One sentence.
    """
    first = scores[0]
    best = float(kept.best_model_score) if kept.best_model_score is not None else first[1]
    epoch = next((epoch for epoch, score in scores if math.isclose(score, best, rel_tol=1e-5)), None)
    where = "" if epoch is None else f" in epoch {epoch}"
    before = "" if epoch in (None, first[0]) else f", from {first[1]:.4g} in epoch {first[0]}"
    return f"Trained for {duration(seconds)}: {kept.monitor} {best:.4g} at its best{where}{before}."
