"""The files of a study, in a folder or a zip, under numbers instead of their names: names may say who it is."""

from __future__ import annotations

import errno
import logging
import os
import shutil
import warnings
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from cinema_lightning.errors import CinemaError
from cinema_lightning.files import natural_key
from cinema_lightning.imaging.stack import Stack
from cinema_lightning.listing import archived, list_paths

NIFTI = (".nii", ".nii.gz")


@dataclass(frozen=True)
class Source:
    """One file of a study.

    Attributes:
        number: Running number in natural order of the paths, from 1.
        folder: Words of the folder that it lies in; a vote for a view, never written.
        open: Opens it for reading, to be used with ``with``.
    """

    number: int
    folder: str
    open: Callable[[], AbstractContextManager[IO[bytes]]]

    def read(self) -> bytes:
        """All of its bytes."""
        with self.open() as file:
            return file.read()


@contextmanager
def unquoted() -> Iterator[None]:
    """Keeps the remarks of DICOM libraries, which quote names and dates of headers, out of streams and logs."""
    import pydicom

    loggers = [logging.getLogger(name) for name in ("pydicom", "highdicom")]
    before = [logger.disabled for logger in loggers]
    with warnings.catch_warnings(), pydicom.config.disable_value_validation():
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.disabled = True
        try:
            yield
        finally:
            for logger, was in zip(loggers, before, strict=True):
                logger.disabled = was


def is_nifti(path: Path) -> bool:
    """Whether a file is called one."""
    return path.name.lower().endswith(NIFTI)


@contextmanager
def sources_of(study: Path) -> Iterator[list[Source]]:
    """Lists a folder or a zip; nothing is unpacked.

    Args:
        study: The folder or archive.

    Yields:
        Its files, usable as long as the block runs.

    Raises:
        CinemaError: If it is not there, cannot be read, is empty, or is an archive that should not be opened.
    """
    if study.is_dir():
        yield _some([(path.relative_to(study).as_posix(), on_disk(path)) for path in _files(study)], study)
    elif not study.exists():
        raise CinemaError(f"{study} does not exist.")
    elif not zipfile.is_zipfile(study):
        raise CinemaError(
            f"{study} is neither a folder, a zip nor NIfTI (or the zip is cut short): give a folder or zip of DICOM, "
            "or a .nii.gz."
        )
    else:
        with zipfile.ZipFile(study) as archive:
            members = archived(archive, study)
            yield _some([(member.filename, _in_zip(archive, member)) for member in members], study)


def _files(folder: Path) -> list[Path]:
    try:
        if not os.access(folder, os.R_OK | os.X_OK):  # listing it would find nothing, without an error
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return [path for path in list_paths(folder, "**/*") if path.is_file()]
    except OSError as error:
        raise CinemaError(f"{folder} cannot be read ({error.strerror or error}): mend its permissions.") from None


Opens = Callable[[], AbstractContextManager[IO[bytes]]]


def _some(files: Sequence[tuple[str, Opens]], study: Path) -> list[Source]:
    if not files:
        raise CinemaError(f"{study} holds no files: give the folder or zip that the scanner or PACS exported.")
    return numbered(files)


def numbered(files: Sequence[tuple[str, Opens]]) -> list[Source]:
    """Files in the natural order of their paths.

    Args:
        files: (path in the study, what opens it).

    Returns:
        The same under numbers, from 1.
    """
    ordered = sorted(files, key=lambda item: natural_key(item[0]))
    return [
        Source(number, PurePosixPath(name.replace("\\", "/")).parent.name, opens)
        for number, (name, opens) in enumerate(ordered, start=1)
    ]


def on_disk(path: Path) -> Opens:
    """What opens a file of a folder."""
    return lambda: path.open("rb")


def _in_zip(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Opens:
    return lambda: archive.open(member)


def nifti_files(study: Path) -> list[Path]:
    """NIfTI files right in a folder, or the file itself.

    Args:
        study: A folder or file.

    Returns:
        The paths, sorted; empty where it is something else.
    """
    if study.is_dir():
        return [path for path in list_paths(study) if path.is_file() and is_nifti(path)]
    return [study] if is_nifti(study) else []


def writable(folder: Path) -> None:
    """Refuses a folder for results before any work is done.

    Raises:
        CinemaError: If it cannot be made or written to, or the disk is full.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".writable"
        probe.touch()
        probe.unlink()
        free = shutil.disk_usage(folder).free
    except OSError as error:
        raise CinemaError(
            f"{folder} cannot be written to ({error.strerror or error}): give another --out, or mend its permissions."
        ) from None
    if free < 2**20:
        raise CinemaError(f"the disk of {folder} is full: free some space, or give another --out.")


def files_of(sax: Stack) -> dict[tuple[int, int], tuple[int, int]]:
    """Which file, and which frame in it, is at each (slice, moment) of a stack; none where phases were interpolated."""
    whole = {
        place: cine.files
        for place, cine in enumerate(sax.slices)
        if cine is not None and len(cine.files) == len(sax.frames)
    }
    return {(place, moment): _numbers(name) for place, names in whole.items() for moment, name in enumerate(names)}


def _numbers(name: str) -> tuple[int, int]:
    """Numbers of a file and of the frame in it: ``series 3/file 00012#7``."""
    number, _, frame = name.rpartition("/file ")[2].partition("#")
    return int(number), int(frame or 1)
