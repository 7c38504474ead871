"""From opened scans to batches that a network sees: the dataset, the transform and the frames of `cinema predict`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from lightning.fabric.utilities.apply_func import move_data_to_device

from cinema_lightning.data.dataset import Batch, FrameDataset
from cinema_lightning.data.labelled import LabelledData
from cinema_lightning.data.labels import LabelledDataset
from cinema_lightning.data.nifti import shared_phases
from cinema_lightning.data.sampler import Draw
from cinema_lightning.data.transforms import Fit, Whole
from cinema_lightning.errors import CinemaError
from cinema_lightning.inference.scans import STUDY, OpenStudy
from cinema_lightning.inference.spec import ModelSpec
from cinema_lightning.registry import DATA

Frames = Literal["all"] | Sequence[int]


@dataclass(frozen=True)
class Phases:
    """Frames of ED and ES that the user names, counted in the SAX series or, without one, in the longest."""

    ed: int | None = None
    es: int | None = None

    def of(self, study: OpenStudy) -> np.ndarray:
        """(1, 2) ED and ES of a study, by the user or by the names of its files; NaN where unknown."""
        named = {view: dict(one.phases) for view, one in study.series.items()}
        found, _ = shared_phases(named, lambda view: study.series[view].n_frames > 1)
        given = {"ed": self.ed, "es": self.es}
        frames = [found.get(name) if frame is None else frame for name, frame in given.items()]
        return np.array([[np.nan if frame is None else float(frame) for frame in frames]])


@dataclass(frozen=True)
class Scanned:
    """The frames of an opened scan that are asked for."""

    study: OpenStudy
    phases: Phases
    frames: Sequence[int]
    batch_size: int


def whole_numbers(frames: Any, *words: str) -> list[int]:
    """Frames that are named one by one.

    Args:
        frames: What was given.
        words: What else could have been.

    Raises:
        CinemaError: If it is no list of whole numbers.
    """
    listed: list[Any] = (
        list(frames) if isinstance(frames, Sequence | np.ndarray) and not isinstance(frames, str) else [None]
    )
    if not all(isinstance(frame, int | np.integer) and not isinstance(frame, bool) for frame in listed):
        raise CinemaError(f"frames is {frames!r}; give numbers from 0, such as [0, 12], or {' or '.join(words)}.")
    return [int(frame) for frame in listed]


def _is_all(frames: Frames) -> bool:
    return isinstance(frames, str) and frames == "all"


class Pipe:
    """Batches of one study's frames, as a network of a kind sees them.

    Args:
        spec: The network's facts.
    """

    def __init__(self, spec: ModelSpec) -> None:
        self.spec = spec
        kinds = {DATA[name].kind: DATA[name] for name in DATA if issubclass(DATA[name], LabelledData)}
        self.data: type[LabelledData] | None = kinds.get(spec.kind)

    @property
    def per_study(self) -> bool:
        """Whether a study is one answer."""
        return self.data is not None and self.data.per_study

    def frames(self, study: OpenStudy, phases: Phases, wanted: Frames) -> list[int]:
        """The frames of a study that are asked for.

        Raises:
            CinemaError: If ED or ES are needed and not known, or there is no such frame.
        """
        dataset = self._dataset(study, phases)
        count = dataset.count_frames(0, study.views)
        if self.spec.channels != ("image",) or self.per_study:
            return [self._one_answer(study, phases, count, wanted)]
        frames = list(range(count)) if _is_all(wanted) else whole_numbers(wanted, "all")
        wrong = [frame for frame in frames if not 0 <= frame < count]
        if wrong or not frames:
            what = f"has no frame {wrong[0]}" if wrong else "is asked for no frame"
            raise CinemaError(f"{study.name} {what}; its frames are 0 to {count - 1}.")
        return frames

    def _one_answer(self, study: OpenStudy, phases: Phases, count: int, wanted: Frames) -> int:
        """The frame that one answer for the study is named after."""
        if not _is_all(wanted):
            raise CinemaError(f"frames is {wanted!r}, but this network gives one answer a study; leave it out.")
        channels = self.spec.channels
        if channels != ("ED", "ES"):
            if count != len(channels):
                raise CinemaError(f"{study.name} has {count} frames; the network takes {', '.join(channels)}.")
            return 0
        known = phases.of(study)[0]
        if not np.isfinite(known).all():
            raise CinemaError(
                f"{study.name}: the network sees ED and ES together; say which frames they are, ed=0, es=12, or name "
                "the files <view>_ed.nii.gz and <view>_es.nii.gz."
            )
        if len(set(known)) < 2:
            raise CinemaError(f"{study.name}: ed and es are both frame {int(known[0])}; they are two frames.")
        return int(known[0])

    def batches(self, scanned: Scanned, device: torch.device, *, whole: bool = True) -> Iterator[Batch]:
        """Batches of frames in their order, on a device, ready for the network.

        Args:
            scanned: The frames.
            device: The device.
            whole: Nothing is cropped, for tasks that tile; else all is of the input size, as in pretraining.
        """
        dataset, views = self._dataset(scanned.study, scanned.phases), scanned.study.views
        kind = Whole if whole and self.data is not None else Fit
        transform = kind(self.spec.input_size, depth=self.spec.depth)
        for start in range(0, len(scanned.frames), scanned.batch_size):
            chosen = scanned.frames[start : start + scanned.batch_size]
            found = dataset[[Draw(0, 0, views, 1.0, frame) for frame in chosen]]
            assert isinstance(found, dict)  # an error takes its place in worker processes only
            batch: Any = transform.prepare(found)
            yield transform.apply(move_data_to_device(batch, device))

    def _dataset(self, study: OpenStudy, phases: Phases) -> FrameDataset:
        ids = np.array([STUDY])
        if self.data is None:
            return FrameDataset(ids, study, 0, study.name)
        known = phases.of(study)
        channels: Any = "frame"
        if self.spec.channels == ("ED", "ES"):
            channels = np.nan_to_num(known, nan=-1).astype(int)
        elif len(self.spec.channels) > 1:
            channels = "series"
        return LabelledDataset(ids, study, 0, study.name, channels, (), known)
