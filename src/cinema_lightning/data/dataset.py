"""The dataset: one study, one frame, all its views; and the batch that everything after it works on.

The batch, stated here once, is a plain dict. For each view V that its samples have (all samples of a batch have the
same views):

======================  ==================================================================================
``V``                   uint8 (B, C, X, Y[, Z]), padded with zeros AT THE END to the largest of the batch, a stack
                        to the depth that the batch was planned with
``V_size``              int64 (B, dims), true sizes
``V_spacing``           float32 (B, 3), voxel size x, y, z in mm
``V_affine``            float32 (B, 4, 4), voxel (x, y, z) to RAS mm
======================  ==================================================================================

and for the sample: ``id`` (list of str), ``frame`` int64 (B,), ``weight`` float32 (B,) (0 for a repeat that only fills
the last batch of a distributed validation, else 1), and ``epoch`` (int), which keys the random draws; where a sample
comes again within an epoch also ``epochs``, the key of each (list of int).

A transform's plan and, in pretraining, which patches are hidden (:mod:`cinema_lightning.tasks.pretrain`) are added by
the workers too (:class:`Prepared`), so that nothing has to be decided where the device would wait for it.

After the device-side transform (:mod:`cinema_lightning.data.transforms`) ``V`` is float32 in [0, 1] of exactly the
input size (where stacks keep their own depth, of as many slices as the batch has, if that is less), ``V_size`` is the
true size inside it, and ``V_affine`` and ``V_spacing`` are those of its new grid; all else is unchanged.

Batches with labels (:mod:`cinema_lightning.data.labels`) hold besides, by kind of target:

======================  ==================================================================================
``V_label``             segmentation: uint8 (B, X, Y[, Z]) class indices, padded with 0 (background) at the end;
                        255 all over where the frame has no label map (test cases, views without labels)
``V_labelled``          segmentation: bool (B,), whether there was a label map
``label``               classification: int64 (B,) class index; regression: float32 (B,) standardised target
``time``, ``event``     survival: float32 (B,) days, and 1 for an event or 0 for censoring
``V_points``            landmarks: float32 (B, L, 2), x and y in voxels of the image as it is, centres at integers
``V_points_valid``      landmarks: bool (B, L), false where a landmark is not marked or has left the image
======================  ==================================================================================

Their images have as many channels as the data's ``spec`` says: ED and ES for classification, regression and survival
(``frame`` is ED's), the sequences of a study that has several, else one. A loss leaves out voxels that are 255.
Padding counts as background, as published; ``V_size`` says where it begins, and it is cropped away before metrics.
Training batches are augmented and of exactly the input size; a rotated image's ``V_affine`` and ``V_spacing`` are those
of its new grid, and points and labels follow. In evaluation nothing is cropped: a view is padded to at least the input
size and is larger where an image is, which the task tiles.

The memory of a stack runs z, x, y (see :mod:`cinema_lightning.data.store`); its shape is as stated.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset, get_worker_info

from cinema_lightning.columns import frames_column
from cinema_lightning.data.draws import generator
from cinema_lightning.data.sampler import REPEATS, Draw
from cinema_lightning.data.table import Reader, SeriesLike
from cinema_lightning.errors import CinemaError
from cinema_lightning.views import get_view

Sample = dict[str, Any]
Batch = dict[str, Any]
Step = Callable[[Batch], Batch]
"""Adds to a batch on the host; a pure function of the batch, that can be pickled."""


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

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_last": None}  # open files stay with the process that opened them

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
            return collate([self.sample(draw) for draw in draws], draws[0].depth)
        except CinemaError as error:
            if get_worker_info() is None:
                raise
            return error

    def sample(self, draw: Draw) -> Sample:
        """Reads one sample: for each view V ``V`` ([C,] X, Y[, Z]) uint8, ``V_spacing``, ``V_affine``; the scalars."""
        name = str(self.ids[draw.row])
        try:
            series = self._open(draw, name)
            frame, frames = self._frames(draw, name, series)
            sample: Sample = {"id": name, "frame": frame, "weight": draw.weight, "epoch": draw.epoch}
            for view in draw.views:
                sample[view] = self._image(series[view], frames[view])
                _check_slices(series[view], draw.slices)
                sample[f"{view}_spacing"] = np.asarray(series[view].info.spacing, dtype=np.float32)
                sample[f"{view}_affine"] = series[view].info.affine.astype(np.float32)
            self._add(sample, draw, frames)
        except CinemaError as error:
            raise self._located(error, draw.row) from None
        return sample

    def count_frames(self, index: int, views: Sequence[str]) -> int:
        """Number of frames of a study: of its longest series, which the others follow by phase.

        Args:
            index: Row of the cohort.
            views: Views to look at.

        Returns:
            The number, which the table says where it was made to; else the files' headers are read.

        Raises:
            CinemaError: If a file is missing or damaged.
        """
        name = str(self.ids[index])
        try:
            return max(self._said(index, view) or self.reader.open(name, view).n_frames for view in views)
        except CinemaError as error:
            raise self._located(error, index) from None

    def _said(self, index: int, view: str) -> int:
        """Frames of a series as the table counts them; 0 where it does not."""
        counts = self.reader.frames.get(view)
        return 0 if counts is None else int(counts[index])

    def _checked(self, index: int, view: str, series: SeriesLike) -> SeriesLike:
        said = self._said(index, view)
        if said not in (0, series.n_frames):
            raise CinemaError(
                f"{series.path} has {series.n_frames} frames, but {self.source} says {said} "
                f"({frames_column(view)}): mend that cell, or prepare the study again"
            )
        return series

    def _located(self, error: CinemaError, index: int) -> CinemaError:
        return CinemaError(f"{error} (row {index + 1} of {self.source}, id '{self.ids[index]}')")

    def _open(self, draw: Draw, name: str) -> dict[str, SeriesLike]:
        # Prediction visits the frames of a study in a row; a compressed NIfTI file is then unpacked once.
        key = (draw.row, draw.views)
        if self._last is None or self._last[:2] != key:
            self._last = None
            opened = {view: self.reader.open(name, view) for view in draw.views}
            self._last = (*key, {view: self._checked(draw.row, view, one) for view, one in opened.items()})
        return self._last[2]

    def _image(self, series: SeriesLike, frames: Sequence[int]) -> np.ndarray:
        """Image of one view, from the frames that :meth:`_frames` chose."""
        voxels = series.read(frames)[0]
        self._warn_if_constant(voxels, series, frames[0])
        return voxels

    def _add(self, sample: Sample, draw: Draw, frames: Mapping[str, Sequence[int]]) -> None:
        """What a subclass reads beside the images."""

    def _frames(self, draw: Draw, name: str, series: dict[str, SeriesLike]) -> tuple[int, dict[str, list[int]]]:
        """The frame, and for each view the frame of the same phase where the numbers of frames differ."""
        most = max(one.n_frames for one in series.values())
        frame = draw.frame
        if frame is None:
            frame = int(generator(self.seed, draw.epoch, name, "frame").integers(most))
        elif frame >= most:
            raise CinemaError(f"Frame {frame} was asked for, but there are {most}.")
        longest = next(one for one in series.values() if one.n_frames == most)
        phase = phase_name(frame, longest.phases)
        return frame, {view: [same_phase(frame, most, one, phase)] for view, one in series.items()}

    def _warn_if_constant(self, voxels: np.ndarray, series: SeriesLike, frame: int) -> None:
        if voxels.min() == voxels.max() and str(series.path) not in self._warned:
            self._warned.add(str(series.path))
            warnings.warn(f"{series.path}: frame {frame} is constant and is used as zeros.", stacklevel=3)


class Prepared(Dataset[Any]):
    """Batches of a dataset with all that is known about them on the host, worked out where they are read.

    Args:
        dataset: Gives batches.
        steps: What is added to each, in this order.
    """

    def __init__(self, dataset: FrameDataset, steps: Sequence[Step]) -> None:
        self.dataset = dataset
        self.steps = tuple(steps)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, draws: Sequence[Draw]) -> dict[str, Any] | CinemaError:
        """See :meth:`FrameDataset.__getitem__`."""
        batch = self.dataset[draws]
        if isinstance(batch, CinemaError):
            return batch
        for step in self.steps:
            batch = step(batch)
        return batch


def phase_name(frame: int, phases: Mapping[str, int]) -> str:
    """What a frame is called, ``ed`` or ``es``; empty where it has no name."""
    return next((name for name, number in phases.items() if number == frame), "")


def same_phase(frame: int, of: int, series: SeriesLike, phase: str = "") -> int:
    """The frame of a series that belongs to a frame of another.

    Args:
        frame: The frame, of a series of ``of`` frames.
        of: Their number.
        series: The series to find one in.
        phase: What the frame is called, see :func:`phase_name`.

    Returns:
        The frame that the series calls so too, else the one that is as far in the cycle.
    """
    if phase in series.phases:
        return series.phases[phase]
    count = series.n_frames
    return frame if of == count else round(frame / max(of - 1, 1) * (count - 1))


def _check_slices(series: SeriesLike, planned: int) -> None:
    """Refuses a stack of another depth than its batch was planned for."""
    if planned and len(series.shape) == 3 and series.shape[2] != planned:
        raise CinemaError(
            f"{series.path} has {series.shape[2]} slices, but column n_slices says {planned}: mend the cell, or leave "
            "it empty, so that the file counts"
        )


def collate(samples: Sequence[Sample], depth: int = 0) -> dict[str, Any]:
    """Puts samples into a batch, padding at the end.

    Args:
        samples: What :meth:`FrameDataset.sample` gives; all with the same keys.
        depth: Slices that stacks are padded to at least.

    Returns:
        The batch, see the module's docstring.
    """
    batch: dict[str, Any] = {
        "id": [sample["id"] for sample in samples],
        "frame": torch.tensor([sample["frame"] for sample in samples]),
        "weight": torch.tensor([sample["weight"] for sample in samples], dtype=torch.float32),
        "epoch": samples[0]["epoch"] % REPEATS,
    }
    if any(sample["epoch"] >= REPEATS for sample in samples):
        batch["epochs"] = [sample["epoch"] for sample in samples]
    for view in (key.removesuffix("_affine") for key in samples[0] if key.endswith("_affine")):
        dims = get_view(view).dims
        images = [_with_channels(sample[view], dims) for sample in samples]
        batch[view] = _pad_and_stack(images, depth)
        batch[f"{view}_size"] = torch.tensor([image.shape[1:] for image in images])
        if f"{view}_label" in samples[0]:
            batch[f"{view}_label"] = _pad_and_stack([sample[f"{view}_label"][None] for sample in samples], depth)[:, 0]
    for key in samples[0]:
        if key not in batch:
            batch[key] = torch.from_numpy(np.stack([sample[key] for sample in samples]))
    return batch


def _with_channels(image: np.ndarray, dims: int) -> np.ndarray:
    return image if image.ndim > dims else image[None]


def _pad_and_stack(images: Sequence[np.ndarray], depth: int = 0) -> torch.Tensor:
    """(C, X, Y[, Z]) to (B, C, X, Y[, Z]); the memory of stacks stays z, x, y, so that each copy runs straight."""
    channels, *shape = (max(sizes) for sizes in zip(*(image.shape for image in images), strict=True))
    # empty, then zero what is not covered: most batches need no padding.
    stack = len(shape) == 3
    if stack:
        shape[2] = max(shape[2], depth)
    memory = np.empty((len(images), channels, *((shape[2], *shape[:2]) if stack else shape)), dtype=np.uint8)
    for place, image in zip(memory.transpose(0, 1, 3, 4, 2) if stack else memory, images, strict=True):
        if image.shape[1:] != tuple(shape):
            place[...] = 0
        place[(slice(None), *(slice(size) for size in image.shape[1:]))] = image
    padded = torch.from_numpy(memory)
    return padded.permute(0, 1, 3, 4, 2) if stack else padded
