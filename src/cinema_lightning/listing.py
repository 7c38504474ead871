"""Listing folders and archives without what operating systems leave in them."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path, PurePosixPath

from cinema_lightning.errors import CinemaError

# AppleDouble twins (._name) of files that went through a Mac or an exFAT disk, its archives' folder of them, and the
# notes that file browsers keep in each folder.
_LITTER = re.compile(
    r"\._.*|__MACOSX|\.DS_Store|\.AppleDouble|\.Spotlight-V100|\.Trashes|\.fseventsd|Thumbs\.db|ehthumbs\.db|desktop\.ini|@eaDir",
    re.IGNORECASE,
)
# An archive may hold so many files and bytes; images hardly pack better than this share of their size.
MOST_FILES, MOST_BYTES, PACKED_AT_BEST = 200_000, 32 * 2**30, 100
# Below this, bytes, how well an archive is packed does not matter: blank images pack to nothing.
SMALL = 512 * 2**20


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


def archived(archive: zipfile.ZipFile, path: Path) -> list[zipfile.ZipInfo]:
    """Files of an archive, refused as a whole where one of them is no honest one.

    Args:
        archive: The archive.
        path: Where it is, for messages.

    Returns:
        Its files in their order, without what operating systems leave.

    Raises:
        CinemaError: If a path leads out of it, it is locked, or it would unpack to more than any study holds.
    """
    members = [member for member in archive.infolist() if not member.is_dir() and not is_litter(member.filename)]
    for member in members:
        name = member.filename.replace("\\", "/")
        if name.startswith("/") or re.match(r"[A-Za-z]:", name) or ".." in PurePosixPath(name).parts:
            raise CinemaError(
                f"{path} holds a file whose path leads out of the archive (.. or absolute): it was not opened; "
                "pack the study again."
            )
        if member.flag_bits & 1:
            raise CinemaError(f"{path} is locked with a password: unpack it and give the folder.")
    whole, packed = sum(member.file_size for member in members), sum(member.compress_size for member in members)
    bloated = whole > SMALL and whole > PACKED_AT_BEST * packed
    if bloated or whole > MOST_BYTES or len(members) > MOST_FILES or packed > path.stat().st_size:
        raise CinemaError(
            f"{path} would unpack to {whole / 2**20:,.0f} MB in {len(members):,} files from "
            f"{path.stat().st_size / 2**20:,.1f} MB: that is no study's archive, and it was not opened."
        )
    return members
