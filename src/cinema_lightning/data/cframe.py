"""A Blosc2 file read by as few calls as can be: one open, and one read for each part that is wanted.

Blosc2 itself opens a file once for each part (header, metadata, each chunk) and reads it in small pieces, which a
shared file system pays for with a round trip each. Here the file is opened once; its beginning and its end are read
into otherwise empty memory of the file's size, of which the system keeps only what is touched, and Blosc2 takes header,
metadata and index from there. Chunks are read by themselves, at the places that the index names.
"""

from __future__ import annotations

import mmap
import os
import struct
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

_MAGIC = b"b2frame\x00"
# Enough for the header of any series and the beginning of its first chunk; what is longer is read again.
_HEAD = 4096
_FIXED = 47
_CHUNK_HEADER = 32


class CutShortError(Exception):
    """The file ends before its header says."""


class DamagedError(Exception):
    """The file's index of chunks cannot be read."""


class ForeignError(Exception):
    """The file is of another kind."""


class FrameFile:
    """One contiguous Blosc2 frame, whose chunks are read when they are asked for.

    Args:
        path: The file.

    Raises:
        OSError: If it cannot be opened or read.
        CutShortError: If it is shorter than its header says.
        DamagedError: If its index of chunks cannot be read.
        ForeignError: If it is of another kind.
    """

    def __init__(self, path: Path) -> None:
        self._file = -1
        # os.open rather than open: a tenth of the time, and this is done for every frame that is read.
        self._file = os.open(path, os.O_RDONLY)
        head = os.pread(self._file, _HEAD, 0)
        if len(head) and head[2:10] != _MAGIC:
            raise ForeignError
        if len(head) < _FIXED:
            raise CutShortError
        (self._header,), (size,), (self._packed,) = (
            struct.unpack_from(form, head, at) for form, at in ((">i", 11), (">q", 16), (">q", 39))
        )
        # What comes after the chunks: their index, and the metadata.
        self._index = self._header + self._packed
        if os.fstat(self._file).st_size < size or not _FIXED <= self._header <= self._index <= size:
            raise CutShortError
        self.memory = _empty(size)
        """The frame without its chunks."""
        self._put(0, head[: self._index] if self._header <= len(head) else self._read(0, self._header))
        self._put(self._index, self._read(self._index, size - self._index))
        first = self._header + int(self._starts[0])  # Blosc2 looks at the header of the first chunk
        if first >= self._header and first + _CHUNK_HEADER > len(head):
            self._put(first, self._read(first, _CHUNK_HEADER))

    def chunk(self, number: int) -> bytes | None:
        """Reads a chunk, compressed as it is; None where it is all of one value and has no bytes of its own."""
        start = int(self._starts[number])
        if start < 0:
            return None
        return self._read(self._header + start, int(self._ends[np.searchsorted(self._ends, start, "right")]) - start)

    @cached_property
    def _starts(self) -> np.ndarray:
        """(n,) first byte of each chunk after the header; below 0 where it has none."""
        import blosc2

        try:
            starts = np.frombuffer(blosc2.decompress2(self.memory[self._index :]), dtype="<i8")
        except Exception as error:  # whatever Blosc2 finds wrong
            raise DamagedError from error
        if not len(starts):
            raise DamagedError
        return starts

    @cached_property
    def _ends(self) -> np.ndarray:
        """Where chunks begin, ascending, and where the last one ends."""
        return np.append(np.unique(self._starts[self._starts >= 0]), self._packed)

    def _read(self, start: int, length: int) -> bytes:
        found = b""
        while len(found) < length:  # a read may give less than was asked for
            more = os.pread(self._file, length - len(found), start + len(found))
            if not more:
                raise CutShortError
            found += more
        return found

    def _put(self, start: int, found: bytes) -> None:
        self.memory[start : start + len(found)] = found

    def __reduce__(self) -> Any:
        raise TypeError("an open file cannot be sent to another process")

    def __del__(self) -> None:
        if self._file >= 0:
            os.close(self._file)


def _empty(size: int) -> mmap.mmap:
    """Memory of zeros, of which only the pages that are written are ever made."""
    memory = mmap.mmap(-1, size)
    if hasattr(mmap, "MADV_NOHUGEPAGE"):  # else the system would make and clear two megabytes for the first byte
        with suppress(OSError):  # of a system without such pages
            memory.madvise(mmap.MADV_NOHUGEPAGE)
    return memory
