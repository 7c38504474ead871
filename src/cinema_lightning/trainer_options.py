"""Options of Lightning's Trainer: those that cannot be honoured are refused, the arithmetic suits the device."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from lightning import Callback, Trainer
from lightning.fabric.plugins.environments import ClusterEnvironment
from lightning.pytorch.callbacks import ProgressBar
from lightning.pytorch.utilities import rank_zero_warn

from cinema_lightning import launch
from cinema_lightning.callbacks.checkpoint import AtomicCheckpointIO
from cinema_lightning.callbacks.progress import Progress
from cinema_lightning.callbacks.record import RunLogger
from cinema_lightning.callbacks.said import Said
from cinema_lightning.errors import CinemaError
from cinema_lightning.models.precision import has_fast_bf16, instead_of_bf16

PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")
_SPELT = {"32": "32-true", "bf16": "bf16-mixed", "16": "16-mixed"}


def refuse_unsupported(trainer: Any, verb: str) -> None:
    """Says which option cannot be had, and what to take instead.

    Args:
        trainer: The options, as a mapping with ``get``.
        verb: ``fit``, ``validate``, ``test`` or ``predict``.

    Raises:
        CinemaError: For the first option that would break, or that would be accepted and do nothing.
    """
    for check in (_barebones, _checkpointing, _strategy, _precision):
        check(trainer)
    if verb == "fit":
        _nothing(trainer)


def _nothing(trainer: Any) -> None:
    for key in ("limit_train_batches", "max_steps", "max_epochs"):
        if trainer.get(key) == 0:
            raise CinemaError(f"key 'trainer.{key}': 0 trains nothing; leave it out, or give a number above 0.")


def refuse_untrained(trainer: Trainer, fresh: bool) -> None:
    """Says so where a run that was started afresh ends without having trained at all.

    Args:
        trainer: After the run.
        fresh: Whether it was started afresh.

    Raises:
        CinemaError: If it saw no batch.
    """
    if fresh and trainer.fit_loop.epoch_loop.batch_progress.total.completed == 0:
        raise CinemaError(
            "nothing was trained: not one batch was seen within trainer.max_time, trainer.max_steps and "
            "trainer.limit_train_batches."
        )


def _barebones(trainer: Any) -> None:
    if trainer.get("barebones"):
        raise CinemaError(
            "key 'trainer.barebones': such a run keeps no checkpoint, log or picture, so that nothing would be left of "
            "it; leave it out, and measure speed with `make bench` or with trainer.limit_train_batches."
        )


def _checkpointing(trainer: Any) -> None:
    if trainer.get("enable_checkpointing") is False:
        raise CinemaError(
            "key 'trainer.enable_checkpointing': a run without checkpoints could be neither tested nor resumed; leave "
            "it out (for a trial that keeps nothing there is trainer.fast_dev_run)."
        )


def _strategy(trainer: Any) -> None:
    given = trainer.get("strategy") or "auto"
    # a mapping with a class path, a name, or the last part of a class path
    name = given if isinstance(given, str) else str(given.get("class_path", given))
    short = name.rsplit(".", 1)[-1].lower()
    if not short.startswith(("auto", "ddp", "single")):
        raise CinemaError(
            f"key 'trainer.strategy': {name} divides the network over devices, but clipping, checkpoints and exports "
            "here need it whole on each (size huge takes 16 bytes a parameter with AdamW's moments in float32); take "
            "auto or ddp."
        )


def _precision(trainer: Any) -> None:
    given = str(trainer.get("precision") or "32-true")
    if _SPELT.get(given, given) not in PRECISIONS:
        raise CinemaError(
            f"key 'trainer.precision': {given} is not to be had: images, metrics and volumes are float32, and weights "
            f"in 16 bits lose most steps of AdamW to rounding; take {', '.join(PRECISIONS)}."
        )


def as_list(value: Any) -> list[Any]:
    """One thing, several, or none."""
    return value if isinstance(value, list) else [] if value is None else [value]


def of_run(trainer: Any, run: Path, training: bool) -> dict[str, Any]:
    """What every run has: folder, logger, atomic checkpoints, no requeueing behind our back.

    Args:
        trainer: The options, as a mapping with ``get``.
        run: Folder of the run.
        training: Whether a network is trained.

    Returns:
        What to give to the Trainer in the place of the options.
    """
    plugins = [*as_list(trainer.get("plugins")), AtomicCheckpointIO()]
    environment = launch.environment(trainer)
    if environment is not None and not any(isinstance(plugin, ClusterEnvironment) for plugin in plugins):
        plugins.append(environment)
    logger = trainer.get("logger")
    if logger in (None, True):
        logger = RunLogger(save_dir=str(run), name="", version="") if training else False
    return {"default_root_dir": str(run), "plugins": plugins, "logger": logger, **_adapted(trainer)}


def speakers(trainer: Any, training: bool) -> list[Callback]:
    """What says how a run goes: the line of progress, unless there is a bar of the user's own or none is wanted.

    Args:
        trainer: The options, as a mapping with ``get``.
        training: Whether a network is trained, of which is said at both ends what it is about.

    Returns:
        Callbacks.
    """
    own = any(isinstance(callback, ProgressBar) for callback in as_list(trainer.get("callbacks")))
    silent = own or trainer.get("enable_progress_bar") is False
    return [*([Said()] if training else []), *([] if silent else [Progress()])]


def _adapted(trainer: Any) -> dict[str, Any]:
    """Options that Lightning has to be asked for in other words."""
    # Lightning's table of the network's parts says nothing of the training; the line before it says the rest
    out: dict[str, Any] = {"enable_model_summary": bool(trainer.get("enable_model_summary"))}
    every, epochs = trainer.get("check_val_every_n_epoch"), trainer.get("max_epochs")
    if every and epochs and 0 < epochs < every:  # a run shorter than that is validated at its end
        out["check_val_every_n_epoch"] = epochs
    if overfit := trainer.get("overfit_batches"):
        # Lightning would put a sampler of its own into the loaders: the same batches in each epoch are ours to give
        out |= {"overfit_batches": 0.0, "limit_train_batches": overfit}
        if isinstance(overfit, int):  # of a few validation batches a share may be none
            out["limit_val_batches"] = overfit
    return out


def choose_precision(trainer: Any, training: bool) -> None:
    """Takes another precision where bf16 would be emulated, and the fastest convolutions for a training's sizes.

    Args:
        trainer: The options, as a namespace; changed in place.
        training: Whether a network is about to be trained.
    """
    cuda = torch.cuda.is_available() and trainer.accelerator in ("auto", "gpu", "cuda")
    device = torch.device("cuda" if cuda else "cpu")
    # where there is no CUDA device Lightning would take bf16 instead of float16, without a word
    asked = ("bf16-mixed", "bf16") if cuda else ("bf16-mixed", "bf16", "16-mixed", "16")
    if str(trainer.precision) in asked and not has_fast_bf16(device):
        instead = instead_of_bf16(device)
        rank_zero_warn(
            f"This {'GPU' if cuda else 'CPU'} has no bf16 arithmetic and would emulate it many times slower: "
            f"training in {instead} instead of {trainer.precision}."
        )
        trainer.precision = instead
    if cuda and training and trainer.benchmark is None and not trainer.deterministic:
        trainer.benchmark = True  # batches are of one size for each set of views and depth; those of a test are of many
