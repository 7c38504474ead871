"""Listing folders and archives without what operating systems leave in them."""

from __future__ import annotations

import re
from pathlib import Path

# AppleDouble twins (._name) of files that went through a Mac or an exFAT disk, its archives' folder of them, and the
# notes that file browsers keep in each folder.
_LITTER = re.compile(
    r"\._.*|__MACOSX|\.DS_Store|\.AppleDouble|\.Spotlight-V100|\.Trashes|\.fseventsd|Thumbs\.db|ehthumbs\.db|desktop\.ini|@eaDir",
    re.IGNORECASE,
)


def is_litter(path: str) -> bool:
    """Whether a file was left by an operating system, or lies in a folder that was.

    Args:
        path: Its name, or its path relative to the folder or archive that is listed.
    """
    return any(_LITTER.fullmatch(part) for part in re.split(r"[/\\]", path))


def list_paths(folder: Path, pattern: str = "*") -> list[Path]:
    """Files and folders that match a pattern, sorted by path.

    Args:
        folder: Where to look; a folder that does not exist holds nothing.
        pattern: Glob relative to it.

    Returns:
        The paths, without what operating systems leave.
    """
    folder = Path(folder)
    return sorted(path for path in folder.glob(pattern) if not is_litter(path.relative_to(folder).as_posix()))
