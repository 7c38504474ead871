"""How far a training, test or prediction is, in one line for the whole of it, with the time that is left."""

from __future__ import annotations

from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar

from cinema_lightning.progress import ProgressLine


class Progress(ProgressBar):
    """Lightning's own bars begin anew in each epoch, so that none of them says when a training ends."""

    def __init__(self) -> None:
        super().__init__()
        self._enabled = True
        self._line: ProgressLine | None = None

    def enable(self) -> None:
        """See :meth:`ProgressBar.enable`."""
        self._enabled = True

    def disable(self) -> None:
        """See :meth:`ProgressBar.disable`."""
        self._enabled = False
        self._close()

    def _close(self) -> None:
        if self._line is not None:
            self._line.close()
        self._line = None

    # ------------------------------------------------------------------ training
    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Begins the line with the first batch, which of a run that goes on is not the first of all."""
        if self._enabled and self._line is None:
            self._line = ProgressLine("fit", 1.0, share_of(trainer, batch_idx))

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """One batch more."""
        if self._line is not None and self._line.due:
            metrics = self.get_metrics(trainer, pl_module)
            figures = [f"{name} {value:.3g}" for name, value in metrics.items() if isinstance(value, float)]
            self._line.show(share_of(trainer, batch_idx + 1), ", ".join([_epoch(trainer), *figures]))

    # ------------------------------------------------------------------ validation, test, prediction
    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """One batch more; within a training it is what is at work."""
        if trainer.state.fn == "validate":
            self._count("validate", trainer.num_val_batches)
        elif self._line is not None:
            self._line.show(self._line.done, f"{_epoch(trainer)}, validating")

    def on_test_batch_end(self, trainer: Trainer, *_: Any, **__: Any) -> None:
        """One batch more."""
        self._count("test", trainer.num_test_batches)

    def on_predict_batch_end(self, trainer: Trainer, *_: Any, **__: Any) -> None:
        """One batch more."""
        self._count("predict", trainer.num_predict_batches)

    def _count(self, title: str, batches: Any) -> None:
        if self._enabled and self._line is None:
            total = sum(batches) if isinstance(batches, list) else batches
            self._line = ProgressLine(title, total, unit="batches")
        if self._line is not None:
            self._line.update()

    # ------------------------------------------------------------------ the end of each
    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Ends the line."""
        self._close()

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Ends the line."""
        self._close()

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Ends the line."""
        self._close()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Ends the line of a validation by itself."""
        if trainer.state.fn == "validate":
            self._close()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Leaves the terminal to the message."""
        self._close()


def share_of(trainer: Trainer, batches: int) -> float:
    """Which part of a training is done, by the limit that is reached first.

    Args:
        trainer: At work.
        batches: Batches done of this epoch.

    Returns:
        0 to 1; 0 where neither epochs nor steps are limited.
    """
    epochs, steps = trainer.max_epochs or 0, trainer.max_steps or 0
    shares = [(trainer.current_epoch + batches / max(trainer.num_training_batches, 1)) / epochs] if epochs > 0 else []
    shares += [trainer.global_step / steps] if steps > 0 else []
    return min(max(shares, default=0.0), 1.0)


def _epoch(trainer: Trainer) -> str:
    epochs = trainer.max_epochs or 0
    return f"epoch {trainer.current_epoch + 1}" + (f" of {epochs}" if epochs > 0 else "")
