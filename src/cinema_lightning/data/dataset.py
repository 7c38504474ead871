"""The dataset: one study, one frame, all its views; and the batch that everything after it works on.

The batch, stated here once, is a plain dict. For each view V that its samples have (all samples of a batch have the
same views):

======================  ==================================================================================
``V``                   uint8 (B, C, X, Y[, Z]), padded with zeros AT THE END to the largest of the batch
``V_size``              int64 (B, dims), true sizes
``V_spacing``           float32 (B, 3), voxel size x, y, z in mm
``V_affine``            float32 (B, 4, 4), voxel (x, y, z) to RAS mm
======================  ==================================================================================

and for the sample: ``id`` (list of str), ``frame`` int64 (B,), ``weight`` float32 (B,) (0 for a repeat that only fills
the last batch of a distributed validation, else 1), and ``epoch`` (int), which keys the random draws.

After the device-side transform (:mod:`cinema_lightning.data.transforms`) ``V`` is float32 in [0, 1] of exactly the
input size, ``V_size`` is the true size inside it, and ``V_affine`` knows about a crop; all else is unchanged.

The memory of a stack runs z, x, y (see :mod:`cinema_lightning.data.store`); its shape is as stated.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset, get_worker_info

from cinema_lightning.data.draws import generator
from cinema_lightning.data.sampler import Draw
from cinema_lightning.data.table import Reader, SeriesLike
from cinema_lightning.errors import CinemaError

Sample = dict[str, Any]


class FrameDataset(Dataset[Any]):
    """Reads batches of frames; stateless but for the last study that was opened.

    Args:
        ids: (n,) id of each row of the cohort.
        reader: Opens series.
        seed: The run's seed.
        source: What the rows are rows of, for messages.
    """

    def __init__(self, ids: np.ndarray, reader: Reader, seed: int, source: str) -> None:
        # A numpy array of text rather than objects: forked workers would copy those by counting references.
        self.ids = np.asarray(ids, dtype=str)
        self.reader = reader
        self.seed = seed
        self.source = source
        self._last: tuple[int, tuple[str, ...], dict[str, SeriesLike]] | None = None
        self._warned: set[str] = set()

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, draws: Sequence[Draw]) -> dict[str, Any] | CinemaError:
        """Reads one batch.

        Args:
            draws: The samples, all with the same views.

        Returns:
            The batch, see the module's docstring; in a worker process, the error in place of the batch.

        Raises:
            CinemaError: If a file is missing, damaged or unsuitable; names row, id and file.
        """
        try:
            return collate([self.sample(draw) for draw in draws])
        except CinemaError as error:
            if get_worker_info() is None:
                raise
            return error

    def sample(self, draw: Draw) -> Sample:
        """Reads one sample: for each view V ``V`` (X, Y[, Z]) uint8, ``V_spacing``, ``V_affine``; and the scalars."""
        name = str(self.ids[draw.row])
        try:
            series = self._open(draw, name)
            frame, frames = self._frames(draw, name, series)
            sample: Sample = {"id": name, "frame": frame, "weight": draw.weight, "epoch": draw.epoch}
            for view in draw.views:
                voxels = series[view].read([frames[view]])[0]
                self._warn_if_constant(voxels, series[view], frames[view])
                sample[view] = voxels
                sample[f"{view}_spacing"] = np.asarray(series[view].info.spacing, dtype=np.float32)
                sample[f"{view}_affine"] = series[view].info.affine.astype(np.float32)
        except CinemaError as error:
            raise self._located(error, draw.row) from None
        return sample

    def count_frames(self, index: int, views: Sequence[str]) -> int:
        """Number of frames of a study: of its longest series, which the others follow by phase.

        Args:
            index: Row of the cohort.
            views: Views to look at.

        Returns:
            The number; reads headers only.

        Raises:
            CinemaError: If a file is missing or damaged.
        """
        name = str(self.ids[index])
        try:
            return max(self.reader.open(name, view).n_frames for view in views)
        except CinemaError as error:
            raise self._located(error, index) from None

    def _located(self, error: CinemaError, index: int) -> CinemaError:
        return CinemaError(f"{error} (row {index + 1} of {self.source}, id '{self.ids[index]}')")

    def _open(self, draw: Draw, name: str) -> dict[str, SeriesLike]:
        # Prediction visits the frames of a study in a row; a compressed NIfTI file is then unpacked once.
        key = (draw.row, draw.views)
        if self._last is None or self._last[:2] != key:
            self._last = None
            self._last = (*key, {view: self.reader.open(name, view) for view in draw.views})
        return self._last[2]

    def _frames(self, draw: Draw, name: str, series: dict[str, SeriesLike]) -> tuple[int, dict[str, int]]:
        """The frame, and for each view the frame of the same phase where the numbers of frames differ."""
        most = max(one.n_frames for one in series.values())
        frame = draw.frame
        if frame is None:
            frame = int(generator(self.seed, draw.epoch, name, "frame").integers(most))
        elif frame >= most:
            raise CinemaError(f"Frame {frame} was asked for, but there are {most}.")
        phase = frame / max(most - 1, 1)
        return frame, {view: round(phase * (one.n_frames - 1)) for view, one in series.items()}

    def _warn_if_constant(self, voxels: np.ndarray, series: SeriesLike, frame: int) -> None:
        if voxels.min() == voxels.max() and str(series.path) not in self._warned:
            self._warned.add(str(series.path))
            warnings.warn(f"{series.path}: frame {frame} is constant and is used as zeros.", stacklevel=3)


def collate(samples: Sequence[Sample]) -> dict[str, Any]:
    """Puts samples into a batch, padding at the end.

    Args:
        samples: What :meth:`FrameDataset.sample` gives; all with the same keys.

    Returns:
        The batch, see the module's docstring.
    """
    batch: dict[str, Any] = {
        "id": [sample["id"] for sample in samples],
        "frame": torch.tensor([sample["frame"] for sample in samples]),
        "weight": torch.tensor([sample["weight"] for sample in samples], dtype=torch.float32),
        "epoch": samples[0]["epoch"],
    }
    for view in (key.removesuffix("_affine") for key in samples[0] if key.endswith("_affine")):
        images = [sample[view] for sample in samples]
        batch[view] = _pad_and_stack(images)
        batch[f"{view}_size"] = torch.tensor([image.shape for image in images])
        for key in (f"{view}_spacing", f"{view}_affine"):
            batch[key] = torch.from_numpy(np.stack([sample[key] for sample in samples]))
    return batch


def _pad_and_stack(images: Sequence[np.ndarray]) -> torch.Tensor:
    """(X, Y[, Z]) to (B, 1, X, Y[, Z]); the memory of stacks stays z, x, y, so that each copy runs straight."""
    shape = tuple(max(sizes) for sizes in zip(*(image.shape for image in images), strict=True))
    # empty, then zero what is not covered: most batches need no padding.
    stack = len(shape) == 3
    memory = np.empty((len(images), *((shape[2], *shape[:2]) if stack else shape)), dtype=np.uint8)
    for place, image in zip(memory.transpose(0, 2, 3, 1) if stack else memory, images, strict=True):
        if image.shape != shape:
            place[...] = 0
        place[tuple(slice(size) for size in image.shape)] = image
    padded = torch.from_numpy(memory)
    return (padded.permute(0, 2, 3, 1) if stack else padded).unsqueeze(1)
