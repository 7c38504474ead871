"""What is read beside the images: label maps, one number per study, landmarks; and the dataset that reads both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from cinema_lightning.data.dataset import FrameDataset, Sample, phase_name, same_phase
from cinema_lightning.data.sampler import Draw
from cinema_lightning.data.store import Series, open_series, series_path
from cinema_lightning.data.table import Reader, SeriesLike, numbers_of, read_cells
from cinema_lightning.errors import CinemaError

IGNORE = 255
"""Class index of voxels about which nothing is known."""
LANDMARKS = "landmarks.csv"

# View -> what is marked on it: frame -> (L, 2), NaN where a landmark is not marked.
Marks = dict[str, dict[int, np.ndarray]]


class Extra(Protocol):
    """Something that a sample holds beside its images."""

    def __call__(self, sample: Sample, row: int, frames: Mapping[str, int]) -> None:
        """Adds it to the sample of a row of the cohort; ``frames`` is the frame of each view."""


@dataclass
class LabelMaps:
    """Label maps of a store, as class indices.

    Attributes:
        root: Folder of the store.
        codes: Code in the store of each class, in the order of the classes.
    """

    root: Path
    codes: Sequence[int]
    _last: dict[str, tuple[Path, Series | None]] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        self._index = np.full(256, IGNORE, dtype=np.uint8)
        self._index[list(self.codes)] = np.arange(len(self.codes))

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_last": {}}  # open files stay with the process that opened them

    def open(self, study: str, view: str) -> Series | None:
        """Opens a study's label maps; None where there are none. The last ones of each view stay open."""
        path = series_path(self.root, study, view, "label")
        if view not in self._last or self._last[view][0] != path:
            self._last[view] = path, open_series(path) if path.is_file() else None
        return self._last[view][1]

    def frames(self, study: str, view: str) -> list[int]:
        """Frames that have a label map; reads the header only."""
        series = self.open(study, view)
        return [] if series is None else list(_frames_of(series))

    def read(self, study: str, view: str, frame: int) -> np.ndarray | None:
        """Reads one label map.

        Args:
            study: The id.
            view: View name.
            frame: Frame of the image series.

        Returns:
            uint8 (X, Y[, Z]) class indices, or None where the frame has none.

        Raises:
            CinemaError: If the file is damaged or holds a code that is no class.
        """
        series = self.open(study, view)
        if series is None or frame not in _frames_of(series):
            return None
        codes = series.read([_frames_of(series).index(frame)])[0]
        label = self._index[codes]
        if (label == IGNORE).any():
            strange = sorted(set(np.unique(codes).tolist()) - set(self.codes))
            raise CinemaError(
                f"{series.path} holds the code {', '.join(map(str, strange))} in frame {frame}, but the classes have "
                f"the codes {', '.join(map(str, self.codes))}: set data.dataset to what the store was made of"
            )
        return label

    def __call__(self, sample: Sample, row: int, frames: Mapping[str, int]) -> None:
        """Adds ``V_label`` and ``V_labelled``; 255 all over where there is no label map."""
        for view, frame in frames.items():
            shape = sample[view].shape[1:]
            label = self.read(sample["id"], view, frame)
            if label is not None and label.shape != shape:
                path = series_path(self.root, sample["id"], view, "label")
                raise CinemaError(f"{path} is {label.shape} voxels, its image {shape}; prepare the study again")
            sample[f"{view}_labelled"] = np.bool_(label is not None)
            sample[f"{view}_label"] = np.full(shape, IGNORE, np.uint8) if label is None else label


def _frames_of(series: Series) -> Sequence[int]:
    """Which frames of the image series the label maps are of."""
    return range(series.n_frames) if series.info.frames is None else series.info.frames


@dataclass(frozen=True)
class Points:
    """Landmarks of a cohort.

    Attributes:
        names: Landmarks in the order of the network's outputs.
        marks: id -> view -> frame -> (L, 2) voxel coordinates, NaN where a landmark is not marked.
    """

    names: Sequence[str]
    marks: Mapping[str, Marks]

    def frames(self, study: str, view: str) -> list[int]:
        """Frames that have at least one landmark."""
        return sorted(self.marks.get(study, {}).get(view, {}))

    def __call__(self, sample: Sample, row: int, frames: Mapping[str, int]) -> None:
        """Adds ``V_points`` (0 where not valid) and ``V_points_valid``."""
        unknown = np.full((len(self.names), 2), np.nan, np.float32)
        for view, frame in frames.items():
            points = self.marks.get(sample["id"], {}).get(view, {}).get(frame, unknown)
            sample[f"{view}_points"] = np.nan_to_num(points).astype(np.float32)
            sample[f"{view}_points_valid"] = np.isfinite(points).all(axis=1)


def read_landmarks(root: Path) -> Any:
    """Reads the landmark table of a store.

    Args:
        root: Folder of the store.

    Returns:
        Data frame with the columns id, view, frame, landmark, x and y.

    Raises:
        CinemaError: If there is none, or a cell cannot be used.
    """
    path = Path(root) / LANDMARKS
    if not path.is_file():
        raise CinemaError(
            f"{path} is missing, so there are no landmarks to train on: prepare a dataset that has them "
            "(`cinema prepare landmark`), or make phantoms with `cinema phantom --out DIR`."
        )
    table = read_cells(path, ("id", "view", "landmark"))
    missing = [name for name in ("id", "view", "frame", "landmark", "x", "y") if name not in table]
    if missing:
        raise CinemaError(f"{path} has no column '{missing[0]}'; prepare the data again.")
    for column in ("frame", "x", "y"):
        values = numbers_of(table[column], f"{path}, column '{column}'")
        wrong = np.flatnonzero(~np.isfinite(values))
        if len(wrong):
            cell = table[column].iloc[wrong[0]]
            raise CinemaError(f"{path}, row {wrong[0] + 2}: '{cell}' in column {column} is not a number; mend it.")
        table[column] = values
    return table


def gather_points(table: Any, views: Sequence[str], names: Sequence[str]) -> Points:
    """Arranges the landmark table by study, view and frame.

    Args:
        table: What :func:`read_landmarks` gives.
        views: Views to keep.
        names: Landmarks to keep, in the order of the network's outputs.

    Returns:
        The landmarks.
    """
    order = {name: place for place, name in enumerate(names)}
    kept = table[table["view"].isin(list(views)) & table["landmark"].isin(list(names))]
    marks: dict[str, Marks] = {}
    cells = (kept[column].tolist() for column in ("id", "view", "frame", "landmark", "x", "y"))
    for study, view, frame, name, x, y in zip(*cells, strict=True):
        points = marks.setdefault(study, {}).setdefault(view, {})
        points.setdefault(int(frame), np.full((len(order), 2), np.nan))[order[name]] = x, y
    return Points(list(names), marks)


class LabelledDataset(FrameDataset):
    """Frames, or several frames of a study as channels, and what belongs to them.

    Where the views of a study have different numbers of frames, the number of a frame counts in the SAX series (or,
    without one, the longest), which the phases of the table count in too; the other views follow by phase.

    Args:
        ids: (n,) id of each row of the cohort.
        reader: Opens series.
        seed: The run's seed.
        source: What the rows are rows of, for messages.
        channels: ``frame``: the frame alone; ``series``: all frames of the series, which are sequences; or (n, C)
            frames of each row, -1 where unknown.
        extras: What to read beside the images.
        phases: (n, 2) ED and ES frame of each row, NaN where unknown; a view whose files are named after phases follows
            by name.
        targets: Key of the batch -> (n,) one number for each row.
    """

    def __init__(
        self,
        ids: np.ndarray,
        reader: Reader,
        seed: int,
        source: str,
        channels: Literal["frame", "series"] | np.ndarray = "frame",
        extras: Sequence[Extra] = (),
        phases: np.ndarray | None = None,
        targets: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        super().__init__(ids, reader, seed, source)
        self.phases = np.full((len(ids), 2), np.nan) if phases is None else phases
        self.channels = channels
        self.extras = tuple(extras)
        self.targets = dict(targets or {})

    def count_frames(self, index: int, views: Sequence[str]) -> int:
        """Number of frames of a study: of its SAX series, or without one of its longest."""
        return super().count_frames(index, ("sax",) if "sax" in views else views)

    def _image(self, series: SeriesLike, frames: Sequence[int]) -> np.ndarray:
        voxels = series.read(frames)
        self._warn_if_constant(voxels, series, frames[0])
        return voxels

    def _add(self, sample: Sample, draw: Draw, frames: Mapping[str, Sequence[int]]) -> None:
        sample.update({key: values[draw.row] for key, values in self.targets.items()})
        first = {view: numbers[0] for view, numbers in frames.items()}
        for extra in self.extras:
            extra(sample, draw.row, first)

    def _frames(self, draw: Draw, name: str, series: dict[str, SeriesLike]) -> tuple[int, dict[str, list[int]]]:
        if isinstance(self.channels, str) and self.channels == "series":
            return 0, {view: list(range(one.n_frames)) for view, one in series.items()}
        wanted = [draw.frame or 0] if isinstance(self.channels, str) else [int(n) for n in self.channels[draw.row]]
        most = max((one.n_frames for one in series.values()), default=0)
        count = series["sax"].n_frames if "sax" in series else most
        for frame in wanted:
            if not 0 <= frame < count:
                raise CinemaError(f"Frame {frame} was asked for, but there are {count}.")
        reference = series["sax"] if "sax" in series else next(one for one in series.values() if one.n_frames == most)
        table = zip(("ed", "es"), self.phases[draw.row], strict=True)
        names = reference.phases or {name: int(number) for name, number in table if np.isfinite(number)}
        phases = [phase_name(frame, names) for frame in wanted]
        return wanted[0], {
            view: [same_phase(frame, count, one, phase) for frame, phase in zip(wanted, phases, strict=True)]
            for view, one in series.items()
        }


def plain(cell: Any) -> Any:
    """A cell of the table as a plain value: numpy numbers as Python's, None where it is empty."""
    if cell is None or cell != cell:
        return None
    return cell.item() if isinstance(cell, np.generic) else cell
