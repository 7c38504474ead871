"""What is tested and predicted: which frames, what others did of them, and single batches to draw; and their order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from lightning.fabric.utilities.apply_func import move_data_to_device

from cinema_lightning.data.dataset import FrameDataset
from cinema_lightning.data.open import Opened, Samples, arrays
from cinema_lightning.data.sampler import ViewGroupSampler
from cinema_lightning.data.table import Split, views_of
from cinema_lightning.data.transforms import Fit
from cinema_lightning.errors import CinemaError

Frames = Literal["all", "ed_es"] | list[int]


@dataclass(frozen=True)
class Left:
    """What is left of a prediction or test, without what others do or did.

    Attributes:
        ids: Picks the ids to do out of all of them, as a shard does.
        done: (id, frame) pairs that are done.
    """

    ids: Callable[[Iterable[str]], list[str]] = sorted
    done: frozenset[tuple[str, int]] = frozenset()

    def to_test(self, opened: Opened, splits: Sequence[Split]) -> Samples:
        """Rows and frames that a test of some splits goes through."""
        opened.some(splits[-1], opened.rows)
        samples = [opened.samples[split] for split in splits]
        rows = np.concatenate([rows for rows, _ in samples])
        frames = [frames for _, frames in samples if frames is not None]
        if len(frames) < len(samples):
            return rows, None
        wanted = set(self._of(opened, rows))
        pairs = zip(rows.tolist(), np.concatenate(frames).tolist(), strict=True)
        return arrays([pair for pair in pairs if pair[0] in wanted and not self._has(opened, *pair)])

    def to_predict(
        self, opened: Opened, split: Literal["all"] | Split, frames: Frames, dataset: FrameDataset
    ) -> Samples:
        """Rows and frames to predict, study by study."""
        rows = np.flatnonzero(opened.usable) if split == "all" else opened.some(split, opened.studies)
        pairs = ((row, n) for row in self._of(opened, rows) for n in frames_of(opened, row, frames, dataset))
        return arrays([pair for pair in pairs if not self._has(opened, *pair)])

    def _of(self, opened: Opened, rows: np.ndarray) -> list[int]:
        wanted = set(self.ids(np.unique(opened.cohort.ids[rows]).tolist()))
        return [row for row in rows.tolist() if opened.cohort.ids[row] in wanted]

    def _has(self, opened: Opened, row: int, frame: int) -> bool:
        return (str(opened.cohort.ids[row]), frame) in self.done


def frames_of(opened: Opened, row: int, wanted: Frames, dataset: FrameDataset) -> list[int]:
    """The frames of a study to predict, ED's alone where it is one sample; CinemaError if they are not known."""
    if isinstance(opened.channels, str) and opened.channels == "series":
        return [0]
    if not opened.per_study and wanted == "all":
        return list(range(dataset.count_frames(row, views_of(int(opened.masks[row])))))
    if not opened.per_study and wanted != "ed_es":
        return [int(frame) for frame in wanted]
    phases = opened.phases[row]
    if not np.isfinite(phases).all():
        remedy = "fill them, or set data.assumed_phases"
        if not opened.per_study:
            other = ", or data.assumed_phases" if opened.options.facts else ""
            remedy = f"set predict_frames to all or to a list{other}"
        raise CinemaError(
            f"{opened.cohort.source}: row '{opened.cohort.ids[row]}' has no ed_frame or es_frame; {remedy}."
        )
    return [int(frame) for frame in phases[: 1 if opened.per_study else 2]]


def order_samples(opened: Opened, samples: Samples, **options: Any) -> ViewGroupSampler:
    """Samples of a cohort as batches of one set of views and, where stacks keep it, one depth.

    Args:
        opened: The cohort.
        samples: Rows and frames.
        **options: See :class:`~cinema_lightning.data.sampler.ViewGroupSampler`.

    Returns:
        The sampler.
    """
    rows, frames = samples
    seed, slices = opened.options.run_seed, opened.slices(rows)
    return ViewGroupSampler(rows, opened.masks[rows], seed=seed, frames=frames, slices=slices, **options)


def at_once(trainer: Any, batch_size: int) -> int:
    """Samples of a batch that is not trained on, where nobody said it: of a test or prediction what memory holds.

    Args:
        trainer: The trainer, or None.
        batch_size: Samples of a training batch, which are not exceeded.

    Returns:
        The number, alike on all ranks.
    """
    if trainer is None or not (trainer.testing or trainer.predicting):
        return batch_size
    found = getattr(trainer.lightning_module, "samples_at_once", lambda: None)()
    return int(trainer.strategy.broadcast(min(batch_size, found or batch_size)))


def single_batches(
    opened: Opened, dataset: FrameDataset, transform: Fit, keys: Sequence[tuple[str, int]], device: torch.device
) -> Iterator[Any]:
    """Batches of one sample each, named by id and frame, ready for the network, on this process alone."""
    for name, frame in keys:
        sample = np.array([opened.row_of(name)]), np.array([frame])
        for draws in order_samples(opened, sample, batch_size=1, shuffle=False):
            found = dataset[draws]
            assert isinstance(found, dict)
            yield transform.apply(move_data_to_device(transform.prepare(found), device))
