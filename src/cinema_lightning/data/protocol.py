"""Where a task meets the data: what it, and what writes its results, may ask of the data module in use."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Protocol

import torch

from cinema_lightning.data.native import Native
from cinema_lightning.data.open import Opened
from cinema_lightning.data.sampler import ViewGroupSampler


class TaskData(Protocol):
    """A data module as its users see it, after setup.

    ``facts``, ``spacing_known``, ``fields``, ``phase_of`` and ``split_of`` are for what tests against truth: data
    without labels lacks them.
    """

    batch_size: int  # samples per device and step
    n_train: int  # training samples
    opened: Opened  # the cohort
    train_sampler: ViewGroupSampler | None  # order of the training batches; None where nothing trains
    test_splits: tuple[str, ...]  # that a test goes through
    predict_split: str  # that a prediction goes through, or all
    facts: Any  # of the dataset
    spacing_known: bool  # whether the images' voxel size in mm is

    def set_batch_size(self, batch_size: int) -> None:
        """Orders the training samples in smaller or larger batches."""

    def native(self, study: str, view: str) -> Native:
        """How the image of a study came."""

    def restrict_prediction(
        self, ids: Callable[[Iterable[str]], list[str]], done: set[tuple[str, int]] | None = None
    ) -> None:
        """Leaves out of a prediction or test the ids that others do, and the (id, frame) pairs that are done."""

    def batches_of(self, keys: Sequence[tuple[str, int]], device: torch.device) -> Iterator[Any]:
        """Batches of one sample each, ready for the network, in the order of the (id, frame) pairs."""

    def fields(self, study: str) -> dict[str, Any]:
        """Cells of a study's row of the cohort table."""

    def phase_of(self, study: str, frame: int) -> str:
        """ED or ES where the table calls a frame so, else empty."""

    def split_of(self, study: str) -> str:
        """The split that a study is in; empty where it is in none."""


def data_of(trainer: object) -> TaskData:
    """The data module that a trainer runs with."""
    data: TaskData = trainer.datamodule  # type: ignore[attr-defined]
    return data


def planned_data(trainer: object) -> tuple[TaskData, ViewGroupSampler] | None:
    """The data module and the order of its training batches.

    Args:
        trainer: A trainer, or None.

    Returns:
        None where there is no data module, or one that does not plan its batches, such as somebody else's.
    """
    data = getattr(trainer, "datamodule", None)
    sampler = getattr(data, "train_sampler", None)
    return None if data is None or sampler is None else (data, sampler)
