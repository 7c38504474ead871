"""A loader whose workers' mistakes arrive as the sentence that they are."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from torch.utils.data import DataLoader

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
