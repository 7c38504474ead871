"""What is tested and predicted: the samples, what others did of them, and single batches to draw."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Literal

import numpy as np
import torch
from lightning.fabric.utilities.apply_func import move_data_to_device
from torch.utils.data import DataLoader

from cinema_lightning.data.dataset import FrameDataset
from cinema_lightning.data.native import Native, native_of
from cinema_lightning.data.sampler import ViewGroupSampler
from cinema_lightning.data.table import Cohort, views_of
from cinema_lightning.data.transforms import Fit
from cinema_lightning.errors import CinemaError

Split = Literal["train", "val", "test"]


class Evaluation:
    """The half of :class:`cinema_lightning.data.datamodule.CineDataModule` that tests and predicts."""

    cohort: Cohort
    rows: dict[str, np.ndarray]
    predict_split: Literal["all", "train", "val", "test"]
    predict_frames: Literal["all", "ed_es"] | list[int]
    test_splits: tuple[Split, ...] = ("test",)
    _masks: np.ndarray
    _predict_ids: Callable[[Iterable[str]], list[str]] = staticmethod(sorted)
    _predict_done: frozenset[tuple[str, int]] = frozenset()
    samples: Callable[[Split], tuple[np.ndarray, np.ndarray | None]]
    make_dataset: Callable[[], FrameDataset]
    eval_transform: Callable[[], Fit]
    run_seed: Any  # a property of the data module
    _usable: Callable[[np.ndarray], np.ndarray]
    _loader: Callable[..., DataLoader[Any]]
    _eval_sampler: Callable[..., ViewGroupSampler]

    def test_dataloader(self) -> DataLoader[Any] | list[Any]:
        """Batches of the samples to test in a fixed order; no loader where none are left."""
        self._some(self.test_splits[-1])
        rows, frames = self.test_samples()
        if frames is None:
            return self._loader(self._eval_sampler(rows))
        wanted = set(self._predict_ids(self.cohort.ids[row] for row in rows))
        kept = [
            self.cohort.ids[row] in wanted and (str(self.cohort.ids[row]), int(frame)) not in self._predict_done
            for row, frame in zip(rows, frames, strict=True)
        ]
        if not any(kept):
            return []
        return self._loader(self._eval_sampler(rows[kept], frames[kept]))

    def test_samples(self) -> tuple[np.ndarray, np.ndarray | None]:
        """Rows and frames that a test goes through."""
        samples = [self.samples(split) for split in self.test_splits]
        rows = np.concatenate([rows for rows, _ in samples])
        frames = [frames for _, frames in samples if frames is not None]
        return rows, np.concatenate(frames) if len(frames) == len(samples) else None

    def batches_of(self, keys: Sequence[tuple[str, int]], device: torch.device) -> Iterator[Any]:
        """Batches of one sample each, ready for the network, on this process alone.

        Args:
            keys: (id, frame) of the samples.
            device: Where to put them.

        Yields:
            The batches, in the order of the samples.
        """
        places = {name: row for row, name in enumerate(self.cohort.ids.tolist())}
        transform, dataset = self.eval_transform(), self.make_dataset()
        for name, frame in keys:
            row = np.array([places[name]])
            options: dict[str, Any] = {"batch_size": 1, "seed": self.run_seed, "shuffle": False}
            sampler = ViewGroupSampler(row, self._masks[row], frames=np.array([frame]), **options)
            for draws in sampler:
                found = dataset[draws]
                assert isinstance(found, dict)
                yield transform.apply(move_data_to_device(transform.prepare(found), device))

    def native(self, study: str, view: str) -> Native:
        """How the image of a study came: its own grid, and its dataset's codes.

        Args:
            study: The id.
            view: View name.
        """
        series = self.cohort.reader.open(study, view)
        return native_of(series.info, series.shape)

    def restrict_prediction(
        self, ids: Callable[[Iterable[str]], list[str]], done: set[tuple[str, int]] | None = None
    ) -> None:
        """Leaves out of a prediction or test what others do or did.

        Args:
            ids: Picks the ids to do out of all of them, as a shard does.
            done: (id, frame) pairs that are done.
        """
        self._predict_ids = ids
        self._predict_done = frozenset(done or ())

    def predict_dataloader(self) -> DataLoader[Any] | list[Any]:
        """Batches of the frames to predict, study by study; no loader where none are left."""
        split = self.predict_split
        rows = self._usable(np.arange(len(self.cohort))) if split == "all" else self._predictable(split)
        wanted = set(self._predict_ids(self.cohort.ids[row] for row in rows))
        dataset = self._prediction_dataset()
        phases = np.stack([self.cohort.numbers("ed_frame"), self.cohort.numbers("es_frame")], axis=1)
        pairs = [
            (row, frame)
            for row in rows
            if self.cohort.ids[row] in wanted
            for frame in self._frames_of(int(row), dataset, phases[row])
            if (str(self.cohort.ids[row]), frame) not in self._predict_done
        ]
        if not pairs:
            return []
        left, frames = np.array(pairs, dtype=int).T
        return self._loader(self._eval_sampler(left, frames), dataset)

    def _some(self, split: Split) -> np.ndarray:
        if not len(self.rows[split]):
            raise CinemaError(f"{self.cohort.source} has no {split} studies; see its split column.")
        return self.rows[split]

    def _prediction_dataset(self) -> FrameDataset:
        return self.make_dataset()

    def _predictable(self, split: Split) -> np.ndarray:
        return self._some(split)

    def _frames_of(self, row: int, dataset: FrameDataset, phases: np.ndarray) -> list[int]:
        if self.predict_frames == "all":
            return list(range(dataset.count_frames(row, views_of(int(self._masks[row])))))
        if self.predict_frames != "ed_es":
            return [int(frame) for frame in self.predict_frames]
        if not np.isfinite(phases).all():
            raise CinemaError(
                f"{self.cohort.source}: row '{self.cohort.ids[row]}' has no ed_frame or es_frame; "
                f"set predict_frames to all or to a list{', or data.assumed_phases' * hasattr(self, 'assumed_phases')}."
            )
        return [int(frame) for frame in phases]
