"""Checkpoints that are never half written, and a clean stop on a signal.

Lightning writes its own SLURM checkpoint inside the signal handler, in the middle of whatever was running, which can
hang or tear files (Lightning issue 21406). Here a handler only sets a flag; the run stops at the next batch end.
"""

from __future__ import annotations

import math
import shutil
import signal
import sys
import threading
import time
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch.callbacks import ModelCheckpoint

from cinema_lightning.callbacks.monitor import deciding_metric
from cinema_lightning.data.protocol import planned_data
from cinema_lightning.data.resume import ended_early, position, rescaled, unfinished, within_step
from cinema_lightning.errors import CinemaError
from cinema_lightning.runs import checkpoint_path
from cinema_lightning.tasks.base import Task
from cinema_lightning.weights.files import load_checkpoint


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes beside the target and renames; reads weights and plain values only."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Saves to ``<path>.tmp`` and renames, so that a full disk or a kill leaves the previous checkpoint.

        Raises:
            CinemaError: If the file cannot be written.
        """
        path = Path(path)
        temporary = path.with_name(path.name + ".tmp")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.save(checkpoint, temporary)
            temporary.replace(path)
        except (OSError, RuntimeError) as error:  # torch wraps a failed write in RuntimeError
            temporary.unlink(missing_ok=True)
            before = "; the previous one is intact" if path.exists() else ""
            hint = "resume with --ckpt_path last" if before else "start again"
            raise CinemaError(
                f"The checkpoint {path} could not be written ({_why(error, path)}){before}. Mend that and {hint}."
            ) from error

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        """Loads tensors and plain values, never code.

        Raises:
            CinemaError: If the file is missing, truncated, or holds more than that.
        """
        return load_checkpoint(path)


def _why(error: BaseException, path: Path) -> str:
    """The system's reason; torch's writer reports a full disk as a position that it did not expect."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    free = shutil.disk_usage(path.parent).free if path.parent.is_dir() else 0
    return f"{_first_line(error)}; {free / 1e6:.0f} MB are free there"


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n", 1)[0][:160]


class Checkpoints(ModelCheckpoint):
    """Keeps ``best.ckpt`` on the task's metric and ``last.ckpt`` for resuming, and numbered ones where asked.

    Args:
        every_n_epochs: Epochs between checkpoints to resume from; the best one is kept after every validation.
        monitor: Metric that chooses the best; None takes the task's.
        mode: ``min`` or ``max``; None takes the task's, or min for a loss.
        keep_every_n_epochs: Epochs between checkpoints that stay (``epoch_0100.ckpt`` after 100); 0 keeps none.

    Raises:
        CinemaError: If the epochs are none; at setup, if the direction of a metric is not known.
    """

    CHECKPOINT_EQUALS_CHAR = "_"

    def __init__(
        self,
        every_n_epochs: int = 1,
        monitor: str | None = None,
        mode: str | None = None,
        keep_every_n_epochs: int = 0,
    ) -> None:
        if every_n_epochs < 1:
            raise CinemaError(f"checkpoint.every_n_epochs is {every_n_epochs}; it has to be at least 1.")
        if keep_every_n_epochs < 0:
            raise CinemaError(f"checkpoint.keep_every_n_epochs is {keep_every_n_epochs}; write 0 to keep none.")
        self.keep_every_n_epochs = keep_every_n_epochs
        self._given = monitor, mode
        self._validated = False
        super().__init__(
            filename="best",
            monitor=monitor,
            mode="min",
            save_top_k=1,
            save_last=True,
            every_n_epochs=every_n_epochs,
            save_on_train_epoch_end=True,  # the epoch is complete then: resuming from here is bit-identical
            enable_version_counter=False,
            auto_insert_metric_name=False,
        )

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Takes from the task what was not given; the place is the run's, whatever logger there is."""
        if self.dirpath is None:
            self.dirpath = str(checkpoint_path(Path(trainer.default_root_dir), "last").parent)
        self.monitor, self.mode = deciding_metric(pl_module, *self._given, "checkpoint")
        self.kth_value = torch.tensor(torch.inf if self.mode == "min" else -torch.inf)
        super().setup(trainer, pl_module, stage)

    def check_monitor_top_k(self, trainer: Trainer, current: torch.Tensor | None = None) -> bool:
        """As Lightning's; but while the metric was never defined, the newest state is the best there is."""
        if current is not None and torch.isnan(current):
            return not any(math.isfinite(score) for score in self.best_k_models.values())
        return super().check_monitor_top_k(trainer, current)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Considers a validation in the middle of an epoch at once; one at its end when the epoch is complete."""
        used = trainer.fit_loop.epoch_loop.batch_progress.current.ready
        self._validated = not trainer.sanity_checking and used >= trainer.num_training_batches
        if not self._validated and not self._should_skip_saving_checkpoint(trainer):
            saved_at = self._last_global_step_saved
            self._save_topk_checkpoint(trainer, self._monitor_candidates(trainer))
            self._last_global_step_saved = saved_at  # this was the best: of this very step last.ckpt may still be due

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Saves ``best.ckpt`` after a better validation and ``last.ckpt`` when due; ends a run that was told to stop.

        Raises:
            RunStopped: If a signal came in the last batch of the epoch, or during its validation.
        """
        stops = [callback for callback in trainer.callbacks if isinstance(callback, CleanStop)]  # type: ignore[attr-defined]
        last_epoch = trainer.max_epochs is not None and trainer.current_epoch + 1 >= trainer.max_epochs
        stop = any(callback.wanted(trainer) for callback in stops) and not last_epoch
        ending = last_epoch or stop or trainer.should_stop or 0 < trainer.max_steps <= trainer.global_step
        if not self._should_skip_saving_checkpoint(trainer):
            candidates = self._monitor_candidates(trainer)
            if self._validated:
                self._save_topk_checkpoint(trainer, candidates)
            if ending or (trainer.current_epoch + 1) % self._every_n_epochs == 0:
                self._save_last_checkpoint(trainer, candidates)
            self._keep(trainer)
        self._validated = False
        if stop:
            raise stops[0].stopped(trainer)

    def _keep(self, trainer: Trainer) -> None:
        assert self.dirpath is not None
        done = trainer.current_epoch + 1
        if self.keep_every_n_epochs and done % self.keep_every_n_epochs == 0:
            trainer.save_checkpoint(Path(self.dirpath) / f"epoch_{done:04d}.ckpt")

    def save_now(self, trainer: Trainer) -> None:
        """Saves ``last.ckpt`` now, on all ranks."""
        assert self.dirpath is not None
        trainer.save_checkpoint(Path(self.dirpath) / "last.ckpt")

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Whatever is saved goes on with the next batch, though max_steps or max_time ended the epoch in its middle."""
        if ended_early(trainer) or within_step(trainer):
            _, batches = position(trainer)
            checkpoint["loops"]["fit_loop"] = unfinished(checkpoint["loops"]["fit_loop"], batches)

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Counts in the batches of the devices at hand; ``max_time`` counts from this start."""
        checkpoint.get("callbacks", {}).pop("Timer", None)
        data, sampler = planned_data(trainer) or (None, None)
        before = checkpoint.get(type(data).__qualname__, {}).get("layout")
        if before is not None and sampler is not None and before["at_once"] != sampler.at_once:
            loops = checkpoint["loops"]["fit_loop"]
            checkpoint["loops"]["fit_loop"] = rescaled(loops, before["at_once"], sampler.at_once)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes over the best score also where the run's folder was moved."""
        if self.dirpath is not None:
            best = Path(self.dirpath) / "best.ckpt"
            moved: dict[str, Any] = {
                "dirpath": self.dirpath,
                "best_model_path": str(best),
                "kth_best_model_path": str(best),
            }
            moved["best_k_models"] = {str(best): score for score in state_dict.get("best_k_models", {}).values()}
            moved["last_model_path"] = str(Path(self.dirpath) / "last.ckpt")
            state_dict = state_dict | moved if best.is_file() else state_dict
        super().load_state_dict(state_dict)


def keep_apart(callbacks: list[Callback], run: Path) -> None:
    """Lets the user's own ModelCheckpoints, which have no folder of their own, keep theirs beside the run's.

    Lightning would put them where the logger writes.

    Args:
        callbacks: The user's callbacks.
        run: Folder of the run.

    Raises:
        CinemaError: If one would overwrite what the run keeps itself.
    """
    for callback in callbacks:
        if not isinstance(callback, ModelCheckpoint) or callback.dirpath:
            continue
        if callback.save_last or callback.filename in ("best", "last"):
            raise CinemaError(
                "A ModelCheckpoint of trainer.callbacks would overwrite the best.ckpt or last.ckpt that the run keeps "
                "itself; give it a dirpath of its own, or another filename and no save_last."
            )
        callback.dirpath = str(checkpoint_path(run, "last").parent)


class RunStopped(Exception):  # noqa: N818  (it is no error)
    """A signal ended the run after its state was saved."""


class CleanStop(Callback):
    """Saves ``last.ckpt`` and stops at the next batch end after SIGTERM, SIGUSR2 or Ctrl-C, and now and then between.

    The run then ends with exit code 75, which batch scripts can turn into a requeue. A second Ctrl-C stops at once.

    Args:
        save_every_minutes: Also save ``last.ckpt`` within an epoch this often; 0 saves at epoch ends only.
    """

    def __init__(self, save_every_minutes: float = 30.0) -> None:
        self.save_every_minutes = save_every_minutes
        self.signal_name: str | None = None
        self._previous: dict[int, Any] = {}
        self._saved_at = time.monotonic()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Installs the handlers over Lightning's own, in the main thread only; the task asks all ranks at each step."""
        self._saved_at = time.monotonic()
        if isinstance(pl_module, Task):
            pl_module.questions |= {"stop": self._told, "save": self._due}
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGUSR2, signal.SIGINT):
                self._previous[number] = signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.signal_name and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal_name = signal.Signals(number).name
        sys.stderr.write(f"\n{self.signal_name} received: saving at the end of this batch, then stopping.\n")

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Saves where a signal or the clock asks for it, on all ranks alike, never within an accumulated step.

        Raises:
            RunStopped: After saving for a signal.
        """
        if (batch_idx + 1) % trainer.accumulate_grad_batches or batch_idx + 1 == trainer.num_training_batches:
            return  # in the middle of a step; or at the end of the epoch, which is validated before it is saved
        stop, due = self._told(), self._due()
        if trainer.world_size > 1:  # as all ranks agreed at the end of the step
            assert isinstance(pl_module, Task)
            stop, due = pl_module.answers["stop"], pl_module.answers["save"]
        if not (stop or due):
            return
        self._saved_at = time.monotonic()
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, Checkpoints):  # not one that the user added
                callback.save_now(trainer)
        if stop:
            trainer._logger_connector.update_train_step_metrics()  # Lightning would log this step after this hook
            raise self.stopped(trainer)

    def _told(self) -> bool:
        return self.signal_name is not None

    def _due(self) -> bool:
        return 0 < self.save_every_minutes < (time.monotonic() - self._saved_at) / 60

    def wanted(self, trainer: Trainer) -> bool:
        """Whether a signal reached any of the ranks."""
        stop = self._told()
        return trainer.strategy.reduce_boolean_decision(stop, all=False) if trainer.world_size > 1 else stop

    def stopped(self, trainer: Trainer) -> RunStopped:
        """What to raise when the state is saved."""
        name = self.signal_name or "a signal to another rank"
        return RunStopped(f"Stopped by {name} in epoch {trainer.current_epoch}; resume with --ckpt_path last.")

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Gives the signals back."""
        self._give_back()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Gives the signals back."""
        self._give_back()

    def _give_back(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous.clear()
