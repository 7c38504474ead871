"""Where training stands, in samples, so that a run goes on elsewhere with the steps it would have made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lightning import Trainer
from lightning.pytorch.utilities import rank_zero_info

from cinema_lightning.data.sampler import ViewGroupSampler
from cinema_lightning.errors import CinemaError


@dataclass(frozen=True)
class Layout:
    """How samples become batches and steps, counted over all devices.

    Args:
        planned: Samples that are put together by their views; what a device gets of them depends on the hardware.
        at_once: Samples of one micro-batch; a part of the planned ones where the devices do not hold them all.
        step: Samples of an optimiser step.
        epoch: Micro-batches of an epoch.
    """

    planned: int
    at_once: int
    step: int
    epoch: int

    def on(self, devices: int, batch_size: int) -> Layout:
        """The same steps on other devices.

        Args:
            devices: Number of devices.
            batch_size: Samples that one device can take at once.

        Returns:
            The layout with the largest micro-batch that the devices can take.

        Raises:
            CinemaError: If the samples cannot be dealt out evenly.
        """
        if self.planned % devices:
            raise CinemaError(
                f"The run to be resumed makes batches of {self.planned} samples, which {devices} devices cannot share "
                f"evenly; resume it on a number of devices that divides {self.planned}."
            )
        share = self.planned // devices
        own = max(size for size in range(1, min(batch_size, share) + 1) if share % size == 0)
        at_once = own * devices
        if self.epoch * self.at_once % at_once:
            raise CinemaError(
                f"An epoch of the run to be resumed ends in the middle of {at_once} samples; set data.batch_size to "
                f"{max(self.at_once // devices, 1)} or less."
            )
        return Layout(self.planned, at_once, self.step, self.epoch * self.at_once // at_once)


def limited(trainer: Trainer, batches: int) -> int:
    """Training batches of an epoch under ``trainer.limit_train_batches``."""
    limit = trainer.limit_train_batches
    return int(batches * limit) if isinstance(limit, float) else min(batches, int(limit))


def layout_of(trainer: Trainer, sampler: ViewGroupSampler) -> Layout:
    """How samples become batches and steps now."""
    step = sampler.at_once * trainer.accumulate_grad_batches
    return Layout(sampler.planned, sampler.at_once, step, limited(trainer, len(sampler)))


def kept_layout(before: Layout, now: Layout, trainer: Trainer, batch_size: int) -> Layout:
    """How a run that is resumed makes the steps that it began with here; CinemaError where it cannot."""
    kept = before.on(trainer.world_size, batch_size)
    if kept.at_once == before.at_once and kept.planned == now.planned and kept.epoch != now.epoch:
        raise CinemaError(
            f"An epoch of the run to be resumed has {kept.epoch} batches, and now {now.epoch}: give the "
            "trainer.limit_train_batches and trainer.accumulate_grad_batches that it was started with."
        )
    if kept.at_once != before.at_once and getattr(trainer.lightning_module, "compares_samples", False):
        raise CinemaError(
            f"The loss compares the {before.at_once} samples of a batch with each other, so that the run cannot be "
            f"resumed in smaller ones: data.batch_size times the number of devices has to be {before.at_once}."
        )
    return kept


def go_on(layout: Layout, trainer: Trainer, sampler: ViewGroupSampler) -> None:
    """Makes a trainer take the steps of the run that is resumed, with a sampler that was cut for the devices."""
    trainer.accumulate_grad_batches = layout.step // layout.at_once
    if layout.epoch != len(sampler):
        trainer.limit_train_batches = layout.epoch
    rank_zero_info(
        f"Goes on with the steps of {layout.step} samples that the run began with: {trainer.accumulate_grad_batches} "
        f"batches of {layout.at_once // trainer.world_size} on {trainer.world_size} device(s) make one."
    )


def position(trainer: Trainer) -> tuple[int, int]:
    """Epoch of the next training batch, and how many batches of it were used in whole optimiser steps.

    An epoch that max_steps or max_time ended early counts as unfinished, though Lightning takes it for done.
    """
    loop = trainer.fit_loop
    epochs: Any = loop.epoch_progress.current  # typed as its base class, without "processed"
    used = loop.epoch_loop.batch_progress.current.ready
    whole = used - used % trainer.accumulate_grad_batches
    if epochs.ready <= epochs.processed:  # after the end of an epoch, or before the first
        return (epochs.processed - 1, whole) if ended_early(trainer) else (epochs.processed, 0)
    return (epochs.processed + 1, 0) if used >= trainer.num_training_batches else (epochs.processed, whole)


def ended_early(trainer: Trainer) -> bool:
    """Whether the last epoch is over for Lightning, but not all of its batches were used."""
    epochs: Any = trainer.fit_loop.epoch_progress.current
    used = trainer.fit_loop.epoch_loop.batch_progress.current.ready
    return epochs.ready <= epochs.processed and 0 < used < trainer.num_training_batches


def within_step(trainer: Trainer) -> bool:
    """Whether gradients of some micro-batches are accumulated that no optimiser step has used."""
    used = trainer.fit_loop.epoch_loop.batch_progress.current.ready
    return used < trainer.num_training_batches and used % trainer.accumulate_grad_batches > 0


def between_epochs(trainer: Trainer) -> None:
    """Starts a new epoch after the end of another; with max_steps Lightning would leave out the first one."""
    loop = trainer.fit_loop
    epochs: Any = loop.epoch_progress.current
    if epochs.ready == epochs.started == epochs.processed:
        loop._restarting = False  # its setter says the opposite where there is max_steps
        loop.epoch_loop.restarting = False


def unfinished(loops: dict[str, Any], batches: int) -> dict[str, Any]:
    """Lightning's progress as it is in the middle of an epoch, for one that ended early or in the middle of a step.

    Args:
        loops: The state of the fit loop.
        batches: Batches of the epoch that were used in whole steps.

    Returns:
        The state with which Lightning goes on after those batches.
    """
    epoch, progress, stepped = "epoch_progress", "epoch_loop.batch_progress", "epoch_loop.state_dict"
    done = loops[epoch]["current"]["ready"] - 1
    extra = loops[progress]["current"]["ready"] - batches
    lost = loops[epoch]["total"]["ready"] - loops[epoch]["current"]["ready"]
    begun = 1 if batches else 0
    of_epochs = {
        kind: {"ready": n + begun, "started": n + begun, "processed": n, "completed": n}
        for kind, n in (("current", done), ("total", done + lost))
    }
    of_batches = {
        kind: {"ready": n, "started": n, "processed": n, "completed": n - begun}
        for kind in ("current", "total")
        for n in [loops[progress][kind]["ready"] - extra]
    }
    steps = loops[stepped]["_batches_that_stepped"] - begun  # Lightning adds the last one when it goes on
    return loops | {
        epoch: of_epochs,
        progress: of_batches | {"is_last_batch": False},
        stepped: loops[stepped] | {"_batches_that_stepped": steps},
    }


def rescaled(loops: dict[str, Any], before: int, now: int) -> dict[str, Any]:
    """Lightning's count of batches, for micro-batches of another size.

    Args:
        loops: The state of the fit loop.
        before: Samples of a micro-batch when it was saved.
        now: Samples of a micro-batch now.

    Returns:
        The state that stands for the same samples.
    """
    key = "epoch_loop.batch_progress"
    counts = {}
    for kind in ("current", "total"):
        old = loops[key][kind]
        ready = old["ready"] * before // now
        open_ = old["ready"] - old["completed"]
        counts[kind] = {"ready": ready, "started": ready, "processed": ready, "completed": ready - open_}
    return loops | {key: loops[key] | counts}
