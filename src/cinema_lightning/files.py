"""Files that are written as a whole or not at all, locks that one process holds, and names in natural order."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import uuid
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cinema_lightning.errors import CinemaError

_TAKEN = (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Writes a file as a whole or not at all.

    Args:
        path: The file to make or to replace; its folder is made where it is missing.

    Yields:
        A temporary path in the same folder with the same suffixes. It replaces ``path`` when the block ends well,
        and is removed when it does not, which leaves an earlier file as it was.

    Raises:
        CinemaError: If the system refuses to write (disk full, no permission).
    """
    path = Path(path)
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        stem, _, suffixes = path.name.partition(".")
        name = path.with_name(f".{stem}-{uuid.uuid4().hex[:12]}.{suffixes}")
        # made with the permissions of any new file: some file systems know no chmod
        os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        temporary = name
        yield temporary
        temporary.replace(path)
    except OSError as error:
        reason = error.strerror or str(error)
        raise CinemaError(
            f"{path} could not be written ({reason}); an earlier file of that name is untouched: "
            "free some space or mend the permissions, then run the command again."
        ) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Writes a text file as a whole or not at all, see :func:`replacing`."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def lock(handle: int, path: Path, *, wait: bool = False) -> bool:
    """Locks an open file for this process; the system lets go of it when the file is closed or the process ends.

    Args:
        handle: File descriptor, open for writing (NFS locks no other).
        path: The file's path, for messages.
        wait: Wait for another holder.

    Returns:
        False if another process holds the lock. True if it is held now, or if the file system knows no locks: that is
        said in a warning, and the work goes on without.
    """
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError as error:
        if error.errno in _TAKEN:
            return False
        warnings.warn(
            f"{path} cannot be locked on this file system ({error.strerror or error}), so nothing keeps two runs apart "
            "there: start one at a time.",
            stacklevel=2,
        )
    return True


def natural_key(text: str) -> list[tuple[int, int | str]]:
    """Sort key by which sax_9 comes before sax_10."""
    return [(0, int(part)) if part.isdecimal() else (1, part) for part in re.split(r"(\d+)", text) if part]
