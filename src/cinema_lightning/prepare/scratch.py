"""Where studies are made before they move into place: a folder inside the store that one run holds."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cinema_lightning.errors import CinemaError
from cinema_lightning.files import lock

SCRATCH = ".prepare"


@contextmanager
def scratch_of(out: Path, label: str) -> Iterator[Path]:
    """A folder for unfinished studies, held by one run at a time; what an earlier run left in it is removed."""
    scratch = out / SCRATCH / (label or "all")
    held = scratch.with_name(f"{scratch.name}.lock")
    try:
        held.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(held, os.O_CREAT | os.O_RDWR, 0o666)
    except OSError as error:
        raise CinemaError(f"{out} cannot be written ({error.strerror or error}); give another --out.") from None
    # A file without a name is that of a run which ends at this moment.
    if not lock(handle, held) or os.fstat(handle).st_nlink == 0:
        os.close(handle)
        raise CinemaError(f"Another run prepares into {out}; wait for it, or give each its own --shard.")
    try:
        scratch.mkdir(exist_ok=True)
        for left in scratch.iterdir():
            shutil.rmtree(left, ignore_errors=True)
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        held.unlink(missing_ok=True)
        os.close(handle)
        with suppress(OSError):  # another shard is at work
            scratch.parent.rmdir()


@contextmanager
def scratch_folder(path: Path) -> Iterator[Path]:
    """An empty folder to work in, which is gone afterwards whatever happens."""
    shutil.rmtree(path, ignore_errors=True)
    try:
        path.mkdir(parents=True)
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def move_folder(made: Path, final: Path) -> None:
    """Puts a finished folder in the place of an earlier one, which stays where that does not work.

    Args:
        made: The folder.
        final: Its place, on the same file system.

    Raises:
        OSError: If it cannot be moved.
    """
    earlier = final.exists()
    with scratch_folder(made.with_name(f"{made.name}.old")) as old:
        if earlier:
            final.rename(old)
        try:
            made.rename(final)
        except OSError:
            if earlier:
                old.rename(final)
            raise
