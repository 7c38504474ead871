"""Files that are written as a whole or not at all, and their names in the order that people expect."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cinema_lightning.errors import CinemaError


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
        handle, name = tempfile.mkstemp(prefix=f".{stem}-", suffix=f".{suffixes}", dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        yield temporary
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
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


def natural_key(text: str) -> list[tuple[int, int | str]]:
    """Sort key by which sax_9 comes before sax_10."""
    return [(0, int(part)) if part.isdecimal() else (1, part) for part in re.split(r"(\d+)", text) if part]
