"""A loader whose workers' mistakes arrive as the sentence that they are."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from cinema_lightning.data.sampler import ViewGroupSampler
from cinema_lightning.data.sending import RoomToSend, end_if_unsent
from cinema_lightning.errors import CinemaError


class BatchLoader(DataLoader[Any]):
    """A DataLoader that raises an error which a worker returned in place of a batch.

    PyTorch would hand on an exception of a worker as a text that holds the whole traceback, and wait for the other
    workers before it ends.

    Attributes:
        waited: Seconds spent waiting for batches so far, without what is done to them afterwards.
    """

    waited: float = 0.0

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        """Batches in order.

        Raises:
            CinemaError: What a worker found wrong with a file.
        """
        batches = super().__iter__()
        while True:
            since = time.perf_counter()
            batch = next(batches, None)
            self.waited += time.perf_counter() - since
            if batch is None:
                return
            if isinstance(batch, CinemaError):
                stop = getattr(batches, "_shutdown_workers", None)
                if stop is not None:
                    stop()
                self._iterator = None  # persistent workers are gone; a later iteration starts new ones
                raise batch
            yield batch


def open_loader(
    dataset: Dataset[Any], sampler: ViewGroupSampler, workers: int, prefetch_factor: int, pin_memory: bool
) -> BatchLoader:
    """A loader of the batches that a sampler plans; ``workers`` 0 reads in this process."""
    # batch_size None: the sampler gives whole batches and the dataset returns them collated, which leaves
    # Lightning nothing to replace, in prediction and across processes either.
    return BatchLoader(
        dataset,
        batch_size=None,
        sampler=sampler,
        num_workers=workers,
        persistent_workers=workers > 0,
        prefetch_factor=prefetch_factor if workers else None,
        pin_memory=pin_memory and torch.cuda.is_available(),
        collate_fn=RoomToSend(workers, prefetch_factor),
        worker_init_fn=end_if_unsent,
    )


def at_least(least: int, key: str, value: int) -> int:
    """An option of the loaders; CinemaError where it is less."""
    if value < least:
        raise CinemaError(f"data.{key} is {value}; it has to be at least {least}.")
    return value
