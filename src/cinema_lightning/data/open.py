"""A cohort, opened: what a user says, and what a network was trained with, become one value that nothing changes."""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal, get_args

import numpy as np

from cinema_lightning.data.labels import Extra
from cinema_lightning.data.native import Native, native_of
from cinema_lightning.data.spacing import Option, Spacing, check_option, plain_spacing, spacing_here, wanted_spacing
from cinema_lightning.data.splits import fold_rows, limit_subjects, parse_fold, split_rows, strata_of
from cinema_lightning.data.table import Cohort, Split, mask_of, read_cohort
from cinema_lightning.datasets.base import Dataset
from cinema_lightning.errors import CinemaError
from cinema_lightning.imaging.nifti import Geometry
from cinema_lightning.views import Depth, get_view

Spec = Mapping[str, Any]
"""Facts that a network is built from, plain types only; what a checkpoint keeps of the data."""
Samples = tuple[np.ndarray, np.ndarray | None]
"""Rows of the cohort and frames; None draws a frame at each visit."""

NATIVES_KEPT = 256
"""Series of which is remembered how their images came: more than the studies of one batch have."""


@dataclass(frozen=True)
class Options:
    """What a user says of the studies to use, see :class:`cinema_lightning.data.datamodule.CineDataModule`.

    ``facts`` (of the dataset), ``fraction`` and ``assumed_phases`` are of data with labels, as is ``stratum``, the
    column that folds are balanced by.

    Raises:
        CinemaError: If views, sizes or voxel sizes cannot be.
    """

    root: str
    views: Sequence[str]
    input_size: Mapping[str, Sequence[int]]
    spacing: Option = "auto"
    geometry: Geometry = "refuse"
    val_fraction: float = 0.1
    test_fraction: float = 0.0
    min_views: int = 1
    limit_subjects: int | None = None
    seed: int | None = None
    facts: Dataset | None = None
    fraction: float = 1.0
    assumed_phases: Sequence[float] | None = None
    fold: str | None = None
    stratum: str | None = None
    depth: Depth = "own"

    def __post_init__(self) -> None:
        for view in self.views:
            get_view(view)
        if not self.views or len(set(self.views)) < len(self.views):
            raise CinemaError(f"views is {list(self.views)}; name at least one view, and each once.")
        for view, size in self.input_size.items():
            dims = get_view(view).dims
            if len(size) != dims or min(size) < 1:
                raise CinemaError(f"input_size of {view} is {list(size)}; it needs {dims} whole numbers above 0.")
        check_option(self.spacing)
        if self.depth not in get_args(Depth):
            raise CinemaError(f"depth is {self.depth!r}; it is own or padded.")
        if self.fold is not None:
            parse_fold(self.fold)

    @property
    def sizes(self) -> dict[str, tuple[int, ...]]:
        """Size of the network's input in voxels by view, the published one where none is given."""
        return {view: tuple(self.input_size.get(view, get_view(view).input_size)) for view in self.views}

    @property
    def run_seed(self) -> int:
        """The seed given, else the run's, else 0."""
        return int(os.environ.get("PL_GLOBAL_SEED", 0)) if self.seed is None else self.seed

    def following(self, spec: Spec | None) -> Options:
        """The options that feed a network what it was trained with: its views, sizes and splits."""
        if spec is None:
            return self
        depth = spec.get("depth", "padded")  # as networks were trained before there was a choice
        out = replace(self, views=list(spec["views"]), input_size=spec["input_size"], depth=depth)
        if self.facts is None or "split" not in spec or spec["dataset"] != self.facts.name:
            return out
        names = ("seed", "val_fraction", "test_fraction")  # whoever was trained on must not be tested
        fold = spec["split"].get("fold")
        if self.fold is not None and self.fold != fold:
            raise CinemaError(
                f"data.fold is {self.fold}, but the network in use was trained with "
                f"{f'fold {fold}' if fold else 'no fold'}; leave data.fold out, for it follows the network."
            )
        return replace(out, fold=fold, **{name: spec["split"][name] for name in names})

    def split(self, cohort: Cohort) -> dict[Split, np.ndarray]:
        """Rows that train, validate and test."""
        if self.fold is None:
            return split_rows(cohort, self.val_fraction, self.run_seed, self.test_fraction)
        known = list(self.facts.classes) if self.facts else []
        column = next((name for name in (self.stratum, *known) if name in cohort.table), None)
        strata = None if column is None else strata_of(cohort, column)
        return fold_rows(cohort, self.fold, self.run_seed, self.test_fraction, strata)

    def wanted_spacing(self, spec: Spec | None) -> Spacing:
        """The voxel size in mm that images are brought to, by view."""
        return wanted_spacing(self.views, self.spacing, trained_at(spec), self.dataset_spacing)

    @property
    def dataset_spacing(self) -> dict[str, Any]:
        """Voxel sizes that the dataset declares where they are not the views' own; None keeps each image's."""
        return dict(self.facts.spacing) if self.facts else {}

    def spec(self, spacing: Spacing, channels: int = 1) -> dict[str, Any]:
        """What a network has to know of any data: views, sizes, voxel sizes, channels and, of stacks, the depth."""
        stacks = any(len(size) == 3 for size in self.sizes.values())
        return {
            "views": list(self.views),
            "input_size": {view: list(size) for view, size in self.sizes.items()},
            "spacing": plain_spacing(spacing),
            "channels": channels,
        } | ({"depth": self.depth} if stacks else {})


@dataclass(frozen=True, eq=False)
class Opened:
    """An opened cohort.

    Attributes:
        options: What it was opened with.
        cohort: The table.
        masks: (n,) uint8, the views of each row that are in use.
        usable: (n,) bool, rows that have enough of the views.
        studies: Rows by split, whether or not they have a target.
        samples: What is trained, validated and tested on, by split.
        channels: What the channels of an image are, see :class:`~cinema_lightning.data.labels.LabelledDataset`.
        channel_names: Their names.
        found_phases: (n, 2) ED and ES frame of each row, NaN where unknown; None: those that the table names.
        still: Images have no time axis.
        per_study: A study is one sample, all its channels together.
        strata: (n,) number of each row's class, by which training can be balanced; None where there are none.
        spacing_known: Whether the images' voxel size in mm is known.
        targets: Key of the batch -> (n,) number of each row.
        extras: What else is read beside the images.
        facts: What ``spec`` says of the target.
        notes: Sentences for the user: who is left out, and why.
        untrainable: Why nothing can be learnt from it; empty where it can.
        unreadable: Why no batch can be read of it; empty where one can.
    """

    options: Options
    cohort: Cohort
    masks: np.ndarray
    usable: np.ndarray
    studies: Mapping[Split, np.ndarray]
    samples: Mapping[Split, Samples]
    channels: Literal["frame", "series"] | np.ndarray = "frame"
    channel_names: Sequence[str] = ("image",)
    found_phases: np.ndarray | None = None
    still: bool = False
    per_study: bool = False
    strata: np.ndarray | None = None
    spacing_known: bool = True
    targets: Mapping[str, np.ndarray] = field(default_factory=dict)
    extras: Sequence[Extra] = ()
    facts: Spec = field(default_factory=dict)
    notes: Sequence[str] = ()
    untrainable: str = ""
    unreadable: str = ""

    @cached_property
    def rows(self) -> dict[Split, np.ndarray]:
        """Rows of the samples by split, each once."""
        return {split: np.unique(rows) for split, (rows, _) in self.samples.items()}

    @cached_property
    def spacing(self) -> Spacing:
        """Voxel size in mm by view, None where images keep their own; takes a look at some."""
        return spacing_here(self.cohort, self.masks, self.options.views, self.options.dataset_spacing)

    @cached_property
    def phases(self) -> np.ndarray:
        """(n, 2) ED and ES frame of each row, NaN where unknown."""
        return named_phases(self.cohort) if self.found_phases is None else self.found_phases

    @cached_property
    def _slices(self) -> np.ndarray:
        """(n,) slices of each row's stack: those that the table names, -1 where they have to be looked up."""
        named = self.cohort.numbers("n_slices")
        return np.where((named > 0) & (named % 1 == 0), np.nan_to_num(named), -1).astype(int)

    def slices(self, rows: np.ndarray) -> np.ndarray | None:
        """Slices of the stacks of some rows.

        Args:
            rows: (n,) rows of the cohort.

        Returns:
            (n,) slices, 0 where a row has no stack; from the table, else from the file's header, which is opened once.
            None where stacks are padded, so that it does not matter.

        Raises:
            CinemaError: If a file whose slices the table does not name is missing or damaged.
        """
        stack = next((view for view in self.options.views if get_view(view).dims == 3), None)
        if self.options.depth != "own" or stack is None:
            return None
        has = (self.masks & mask_of([stack])) > 0
        for row in np.unique(rows[has[rows] & (self._slices[rows] < 0)]).tolist():
            name = str(self.cohort.ids[row])
            try:
                self._slices[row] = self.cohort.reader.open(name, stack).shape[2]
            except CinemaError as error:
                raise CinemaError(f"{error} (row {row + 1} of {self.cohort.source}, id '{name}')") from None
        found: np.ndarray = np.where(has, self._slices, 0)[rows]
        return found

    def check_training(self) -> None:
        """Refuses to train on studies from which nothing can be learnt; CinemaError."""
        if self.untrainable:
            raise CinemaError(self.untrainable)
        if not len(self.rows["train"]):
            raise CinemaError(f"{self.cohort.source} has no training studies; see its split column and val_fraction.")

    @property
    def spec(self) -> dict[str, Any]:
        """Facts that a network and its task are built from."""
        return self.options.spec(self.spacing, len(self.channel_names)) | dict(self.facts)

    @property
    def fingerprint(self) -> str:
        """A digest of who trains, and with which views."""
        rows = self.rows["train"]
        lines = (f"{name} {mask}" for name, mask in zip(self.cohort.ids[rows], self.masks[rows], strict=True))
        return hashlib.blake2b("/".join(lines).encode("utf-8"), digest_size=8).hexdigest()

    def digest(self, columns: Sequence[str] = ()) -> str:
        """A digest of the table's cells, of some columns or of all."""
        table = self.cohort.table
        text: str = table[[name for name in columns or table.columns if name in table]].to_csv(index=False)
        return hashlib.blake2b(text.encode("utf-8"), digest_size=8).hexdigest()

    def check_same(self, fingerprint: str) -> None:
        """Refuses to go on with a run whose training studies were others; CinemaError."""
        if fingerprint != self.fingerprint:
            raise CinemaError(
                f"The training studies of {self.options.root} are others than those of the run that is to be resumed; "
                "give the same data, or start a new run without --ckpt_path."
            )

    @cached_property
    def in_a_split(self) -> np.ndarray:
        """(n,) bool, rows that are in one of the splits, whether or not they have a target."""
        inside = np.zeros(len(self.cohort), dtype=bool)
        inside[np.concatenate(list(self.studies.values()))] = True
        return inside

    def note(self, text: str) -> str:
        """A sentence about this cohort."""
        return f"{self.cohort.source}: {text}"

    def left_out(self, rows: np.ndarray, why: str, advice: str = "") -> list[str]:
        """Says that studies are left out: how many, why, the first of them, and what can be done; empty for none."""
        if not len(rows):
            return []
        first = f"the first is '{self.cohort.ids[rows[0]]}'"
        what = f"1 study {why} is" if len(rows) == 1 else f"{len(rows)} studies {why} are"
        return [self.note(f"{what} left out ({first}){advice and f'; {advice}'}.")]

    def some(self, split: Split, rows: Mapping[Split, np.ndarray]) -> np.ndarray:
        """The rows of a split; CinemaError where there are none."""
        if not len(rows[split]):
            raise CinemaError(f"{self.cohort.source} has no {split} studies; see its split column.")
        return rows[split]

    def native(self, study: str, view: str) -> Native:
        """How the image of a study came: its own grid, and its dataset's codes; its header is read once for all frames.

        Raises:
            CinemaError: If the series cannot be opened.
        """
        found = self._natives.get((study, view))
        if found is None:
            series = self.cohort.reader.open(study, view)
            found = native_of(series.info, series.shape)
            if len(self._natives) >= NATIVES_KEPT:
                self._natives.clear()
            self._natives[study, view] = found
        return found

    @cached_property
    def _natives(self) -> dict[tuple[str, str], Native]:
        return {}

    @cached_property
    def _places(self) -> dict[str, int]:
        return {name: row for row, name in enumerate(self.cohort.ids.tolist())}

    def row_of(self, study: str) -> int:
        """The row of a study; CinemaError where there is none."""
        if study not in self._places:
            raise CinemaError(f"{self.cohort.source} has no row '{study}'.")
        return self._places[study]


def arrays(pairs: Sequence[tuple[int, int]]) -> Samples:
    """Samples from (row, frame)."""
    table = np.array(pairs, dtype=int).reshape(-1, 2)
    return table[:, 0], table[:, 1]


def trained_at(spec: Spec | None) -> dict[str, Any] | None:
    """The voxel sizes that a network was trained at, empty where they are not known; None before training."""
    return None if spec is None else dict(spec.get("spacing") or {})


def named_phases(cohort: Cohort) -> np.ndarray:
    """(n, 2) ED and ES frame that the table names, NaN where it does not."""
    return np.stack([cohort.numbers("ed_frame"), cohort.numbers("es_frame")], axis=1)


def open_cohort(options: Options, spec: Spec | None = None) -> Opened:
    """Reads the table and splits it; all studies that have the views are samples.

    Args:
        options: What the user says.
        spec: What a network was trained with that is to be fed; None before training.

    Returns:
        The opened cohort.

    Raises:
        CinemaError: If there is no data that can be used.
    """
    options = options.following(spec)
    cohort = read_cohort(options.root, options.views, options.wanted_spacing(spec), options.geometry)
    # The masks of the views asked for; other views are as if they were not there.
    masks = cohort.view_masks & np.uint8(mask_of(options.views))
    needed, names = max(options.min_views, 1), ", ".join(options.views)
    usable = np.array([mask.bit_count() for mask in range(256)])[masks] >= needed
    split = options.split(cohort)
    studies = {name: rows[usable[rows]] for name, rows in split.items()}
    unusable = sum(map(len, split.values())) - sum(map(len, studies.values()))
    if unusable:
        warnings.warn(
            f"{cohort.source}: {unusable} studies have fewer than {needed} of the views {names} and are left out.",
            stacklevel=2,
        )
    if not any(map(len, studies.values())):
        raise CinemaError(
            f"No study of {cohort.source} has {needed} of the views {names}; ask for other views or set "
            "min_views lower."
        )
    if options.limit_subjects is not None:
        studies["train"] = limit_subjects(cohort, studies["train"], options.limit_subjects, options.run_seed)
    return Opened(options, cohort, masks, usable, studies, {name: (rows, None) for name, rows in studies.items()})
