"""The store: one Blosc2 array per series, ``<root>/<id>/<view>.b2nd``.

An array is uint8 and time first, (T, X, Y, Z) for a stack and (T, X, Y) for a single plane. Label maps lie beside the
images as ``<view>_label.b2nd``. One chunk holds one frame, so that a random frame costs one read of some 100 KB; one
block holds one plane, because neighbours in plane resemble each other and neighbours 10 mm apart do not. On real cine
frames that is 10% smaller than blocks that follow the array's order, and 5% smaller than the .nii.gz (zstd level 5
after bit-shuffle; level 9 gains 1% more for ten times the time to write). Affine, spacing and provenance are in the
file's own metadata.

Frames are handed out as views whose memory runs plane by plane (z slowest), as they were decompressed: turning them
round on the host would cost as much as a third of the decompression, and the device does it for nothing.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import numpy as np

from cinema_lightning.data.cframe import CutShortError, DamagedError, ForeignError, FrameFile
from cinema_lightning.errors import CinemaError
from cinema_lightning.files import replacing

SUFFIX = ".b2nd"
CODEC_LEVEL = 5
_META = "cinema"
AGAIN = "prepare the study again or take its row out of cohort.csv"


@dataclass(frozen=True)
class SeriesInfo:
    """What is known about a series beside its voxels.

    Attributes:
        affine: (4, 4) float64, voxel (x, y, z) to RAS mm as in nibabel; a long-axis image is the plane z = 0.
        spacing: Voxel size x, y, z in mm (z: distance between slices).
        frames: For label maps of some frames only, which frames of the image series the entries are; None means all.
        provenance: Where the series came from: software version, source, options.
    """

    affine: np.ndarray
    spacing: tuple[float, float, float]
    frames: list[int] | None
    provenance: dict[str, Any]


def series_path(root: Path, subject: str, view: str, kind: Literal["image", "label"] = "image") -> Path:
    """Where the series of one study and view lies.

    Args:
        root: Folder of the store.
        subject: The study's id, which is the name of its folder.
        view: A view name.
        kind: The image series or its label maps.

    Returns:
        The path; the file need not exist.
    """
    return Path(root) / subject / f"{view}{'_label' if kind == 'label' else ''}{SUFFIX}"


def write_series(
    path: Path,
    frames: np.ndarray,
    *,
    affine: np.ndarray,
    spacing: Sequence[float] | None = None,
    frames_index: Sequence[int] | None = None,
    provenance: dict[str, Any] | None = None,
) -> None:
    """Writes one series: whole or not at all, the same bytes for the same arguments.

    Args:
        path: The file, see :func:`series_path`.
        frames: uint8, (T, X, Y, Z) or (T, X, Y).
        affine: (4, 4), voxel to RAS mm.
        spacing: Voxel size x, y, z in mm; None takes it from the affine's columns.
        frames_index: For label maps of some frames, the frame of the image series that each entry belongs to.
        provenance: Plain values (str, int, float, bool, None, lists and dicts of them).

    Raises:
        CinemaError: If the array or the metadata have another form, or the file cannot be written.
    """
    import blosc2

    frames = np.asarray(frames)
    _check(path, frames, frames_index)
    affine = np.asarray(affine, dtype=np.float64)
    if affine.shape != (4, 4) or not np.isfinite(affine).all():
        raise CinemaError(f"{path}: the affine must be a 4 x 4 matrix of finite numbers; mend the source's header.")
    if spacing is None:
        spacing = np.linalg.norm(affine[:3, :3], axis=0).tolist()
    meta = {
        "affine": affine.tolist(),
        "spacing": [float(value) for value in spacing],
        "frames": None if frames_index is None else [int(index) for index in frames_index],
        "provenance": provenance or {},
    }
    shape = frames.shape[1:]
    array = blosc2.empty(
        frames.shape,
        dtype=np.uint8,
        chunks=(1, *shape),
        blocks=_blocks(shape),
        contiguous=True,
        # One thread: with more, the order of the blocks in a chunk is the order in which the threads finish.
        cparams=blosc2.CParams(
            codec=blosc2.Codec.ZSTD,
            clevel=CODEC_LEVEL,
            filters=[blosc2.Filter.BITSHUFFLE],
            filters_meta=[0],
            typesize=1,
            nthreads=1,
        ),
        dparams=blosc2.DParams(nthreads=1),
    )
    for index, frame in enumerate(frames):
        array[index] = np.ascontiguousarray(frame)
    array.schunk.vlmeta[_META] = meta
    # Compressed in memory and written by Python, so that a full disk is an error rather than a broken file.
    with replacing(path) as temporary:
        temporary.write_bytes(array.to_cframe())


def _blocks(shape: tuple[int, ...]) -> tuple[int, ...]:
    return (1, *shape[:2], 1) if len(shape) == 3 else (1, *shape)


def _check(path: Path, frames: np.ndarray, frames_index: Sequence[int] | None) -> None:
    if frames.dtype != np.uint8:
        raise CinemaError(f"{path}: a series is stored as uint8, not {frames.dtype}; scale it to 0..255 first.")
    if frames.ndim not in (3, 4) or 0 in frames.shape:
        raise CinemaError(f"{path}: a series is (T, X, Y, Z) or (T, X, Y) and not empty, but this is {frames.shape}.")
    if frames_index is not None and len(frames_index) != len(frames):
        raise CinemaError(f"{path}: {len(frames_index)} frame numbers were given for {len(frames)} frames.")


class Series:
    """One series of the store, opened but not read: each frame is read when it is asked for.

    Sent to another process, it is opened anew there.

    Attributes:
        path: The file.
        shape: Shape of one frame, (X, Y, Z) or (X, Y).
        n_frames: Number of frames.
        phases: Nothing: which frames are ED and ES stands in the table.
    """

    phases: Mapping[str, int] = MappingProxyType({})

    def __init__(self, path: Path) -> None:
        import blosc2

        self.path = Path(path)
        self._file = _opened(self.path)
        try:
            array = blosc2.ndarray_from_cframe(self._file.memory)
        except Exception as error:
            raise _broken(self.path, "damaged") from error
        if array.dtype != np.uint8 or array.ndim not in (3, 4):
            raise _broken(self.path, "not a series of this store")
        self.shape: tuple[int, ...] = tuple(array.shape[1:])
        self.n_frames: int = array.shape[0]
        if array.chunks != (1, *self.shape) or array.blocks != _blocks(self.shape):
            raise _broken(self.path, "laid out otherwise than this store's series (one chunk per frame)")
        # The array owns the memory behind its schunk, so it has to live as long as the schunk is used.
        self._array = array
        self._schunk = array.schunk

    def __reduce__(self) -> tuple[type[Series], tuple[Path]]:
        return Series, (self.path,)

    @cached_property
    def info(self) -> SeriesInfo:
        """Affine, spacing, frame numbers and provenance; read at first use.

        Raises:
            CinemaError: If the file lacks them.
        """
        try:
            meta = self._schunk.vlmeta[_META]
            x, y, z = (float(value) for value in meta["spacing"])
            affine = np.asarray(meta["affine"], dtype=np.float64).reshape(4, 4)
            return SeriesInfo(affine, (x, y, z), meta["frames"], meta["provenance"])
        except Exception as error:
            raise _broken(self.path, "without readable metadata (affine, spacing)") from error

    def read(self, frames: Sequence[int] | slice | None = None) -> np.ndarray:
        """Reads frames, each by one read of its chunk.

        Args:
            frames: Frame numbers from 0, a slice, or None for all.

        Returns:
            uint8 (n, X, Y) or (n, X, Y, Z), writable; of a stack a view whose memory runs z, x, y.

        Raises:
            CinemaError: If a frame does not exist or its bytes are damaged.
        """
        import blosc2

        indices = frame_indices(self.path, self.n_frames, frames)
        # Blocks are planes, so a decompressed chunk is (Z, X, Y) in memory; written straight into the result.
        plane_first = (self.shape[2], *self.shape[:2]) if len(self.shape) == 3 else self.shape
        out = np.empty((len(indices), *plane_first), dtype=np.uint8)
        for row, index in enumerate(indices):
            try:
                chunk = self._file.chunk(index) or self._schunk.get_chunk(index)
                if struct.unpack("<i", chunk[4:8])[0] != out[row].nbytes:
                    raise ValueError("the chunk's header gives another size")
                blosc2.decompress2(chunk, dst=out[row], nthreads=1)
            except Exception as error:
                raise _broken(self.path, f"damaged at frame {index}") from error
        return out.transpose(0, 2, 3, 1) if len(self.shape) == 3 else out


def frame_indices(path: Path, n_frames: int, frames: Sequence[int] | slice | None) -> Sequence[int]:
    """Turns a choice of frames into frame numbers, all of which exist.

    Args:
        path: The file, for the message.
        n_frames: How many frames it has.
        frames: Frame numbers, a slice, or None for all.

    Returns:
        Frame numbers from 0.

    Raises:
        CinemaError: If there is no such frame.
    """
    if frames is None or isinstance(frames, slice):
        return range(n_frames)[frames or slice(None)]
    wrong = [int(index) for index in frames if not 0 <= index < n_frames]
    if wrong:
        raise CinemaError(f"{path} has frames 0 to {n_frames - 1}, but frame {wrong[0]} was asked for.")
    return [int(index) for index in frames]


def open_series(path: Path) -> Series:
    """Opens a series of the store; reads its header only.

    Args:
        path: The file, see :func:`series_path`.

    Returns:
        The series.

    Raises:
        CinemaError: If the file is missing, truncated or not a series of this store.
    """
    return Series(path)


def _opened(path: Path) -> FrameFile:
    """Opens a file; refuses what is missing, cut short or another kind of file before Blosc2 trusts its header."""
    try:
        return FrameFile(path)
    except FileNotFoundError:
        raise CinemaError(f"{path} does not exist; {AGAIN}.") from None
    except OSError as error:
        raise CinemaError(f"{path} cannot be read ({error.strerror}); {AGAIN}.") from error
    except CutShortError:
        raise _broken(path, "cut short") from None
    except DamagedError as error:
        raise _broken(path, "damaged") from error
    except ForeignError:
        raise _broken(path, "not a series of this store") from None


def _broken(path: Path, what: str) -> CinemaError:
    return CinemaError(f"{path} is {what}; {AGAIN}.")
