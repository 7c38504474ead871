"""How workers send batches: through shared memory, which containers keep small; a worker that cannot send must end."""

from __future__ import annotations

import multiprocessing.queues
import os
import shutil
import sys
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch.utils.data import get_worker_info

from cinema_lightning.errors import CinemaError

SHARED = Path("/dev/shm")
PAGE = 4096
ADVICE = (
    "lower data.num_workers (0 needs none of it), data.prefetch_factor or data.batch_size, or give the container more "
    "(docker run --shm-size=8g)"
)


class RoomToSend:
    """Hands a batch on as it is, or in a worker an error in its place where shared memory has no room for it.

    PyTorch would wait for ever for a batch that could not be sent.

    Args:
        workers: Processes that send.
        prefetch: Batches that each of them reads ahead.
    """

    def __init__(self, workers: int, prefetch: int) -> None:
        self.batches = workers * prefetch

    def __call__(self, batch: Any) -> Any:
        """Returns the batch, or a CinemaError to be raised where it arrives."""
        if get_worker_info() is None or not SHARED.is_dir():
            return batch
        size = _size(batch)
        room = shutil.disk_usage(SHARED)
        if size * self.batches > room.total:
            return CinemaError(
                f"{SHARED} holds {_megabytes(room.total)}, but the {self.batches} batches that the workers read ahead "
                f"are {_megabytes(size * self.batches)}: {ADVICE}."
            )
        if size > room.free:
            return CinemaError(
                f"{SHARED} has {_megabytes(room.free)} left for a batch of {_megabytes(size)} that a worker is to send "
                f"through it: {ADVICE}."
            )
        return batch


def end_if_unsent(_: int) -> None:
    """Prepares a worker to end when a batch cannot be sent, which the main process notices."""
    multiprocessing.queues.Queue._on_queue_feeder_error = staticmethod(_end)  # type: ignore[attr-defined]


def explained(error: RuntimeError) -> CinemaError | None:
    """The sentence for a worker that ended, from what PyTorch says; None for any other error."""
    text = str(error)
    if not text.startswith("DataLoader worker"):
        return None
    what = text.split("\n", 1)[0].split(". ", 1)[0].removeprefix("DataLoader worker ")
    room = f"; {SHARED} has {_megabytes(shutil.disk_usage(SHARED).total)}" if SHARED.is_dir() else ""
    return CinemaError(
        f"A worker that reads data {what}, for want of shared memory or of memory{room}: {ADVICE}. With "
        "data.num_workers 0 any other reason is said."
    )


def _end(error: Exception, _: object) -> NoReturn:
    sys.stderr.write(f"A worker cannot send its batch: {str(error)[:200]}\n")
    sys.stderr.flush()
    os._exit(1)


def _size(value: Any) -> int:
    """Bytes of shared memory that the tensors of a batch take, in whole pages."""
    if isinstance(value, torch.Tensor):
        return -(-value.untyped_storage().nbytes() // PAGE) * PAGE
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return sum(map(_size, parts))


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.3g} MB"
