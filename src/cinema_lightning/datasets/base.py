"""What a dataset declares and what its reader hands over."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from cinema_lightning.columns import Column, declare
from cinema_lightning.errors import CinemaError
from cinema_lightning.imaging.alignment import Place, Volume
from cinema_lightning.imaging.nifti import Geometry
from cinema_lightning.registry import Registry
from cinema_lightning.views import get_view

Crop = Literal["label box", "plane intersection", "auto", "centre", "none"]
Measure = Literal["volumes", "proportions", "none"]

RV, MYOCARDIUM, LV = 1, 2, 3
CINE_LABELS: dict[int, str] = {0: "background", RV: "RV blood pool", MYOCARDIUM: "myocardium", LV: "LV blood pool"}

DATASETS: Registry[Dataset] = Registry("dataset", "cinema_lightning.datasets")


@dataclass(frozen=True)
class CaseRef:
    """One study that was found in the raw folder; cheap to make, nothing of it has been read.

    Attributes:
        id: Name of the study's folder in the store.
        subject: The person; splits are by person.
        split: train, val, test or empty.
        sources: Files, or folders with all that is in them, whose sizes and times say whether the study is up to date.
        fields: Cells of the table that come from a list; they do not change the images, so a change of them costs no
            new preparation.
        args: What the reader needs beside the files; a change of it means a new preparation.
        problem: Why the study cannot be prepared, where that is already known.
        warnings: What the user should know though the study can be used.
    """

    id: str
    subject: str
    split: str
    sources: tuple[Path, ...]
    fields: Mapping[str, Any] = field(default_factory=dict)
    args: Mapping[str, Any] = field(default_factory=dict)
    problem: str | None = None
    warnings: tuple[str, ...] = ()

    @property
    def geometry(self) -> Geometry:
        """What to believe where a NIfTI header contradicts itself, as the user chose for the dataset."""
        return self.args.get("geometry", "refuse")


@dataclass
class RawSeries:
    """One view of a study as it was acquired.

    Attributes:
        frames: (T, X, Y, Z), any integer or floating type; Z = 1 for a long-axis image.
        affine: (4, 4), voxel to RAS mm.
        labels: Frame number from 0 -> raw label map. One with a geometry of its own is brought onto the image's grid
            by it (or fails the study); a plain array (X, Y, Z) lies on the image voxel by voxel.
        facts: Plain values for the stored file's provenance (the names of channels, that the spacing is unknown).
        place: Whether the header says where the image lies, see :class:`~cinema_lightning.imaging.alignment.Volume`.
        notes: What the user should know of the image's header.
    """

    frames: np.ndarray
    affine: np.ndarray
    labels: Mapping[int, np.ndarray | Volume] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    place: Place = "known"
    notes: tuple[str, ...] = ()

    @classmethod
    def of(cls, image: Volume, labels: Mapping[int, Volume], facts: dict[str, Any] | None = None) -> RawSeries:
        """A series from an image file, (X, Y, Z) or (X, Y, Z, T), and the label maps of its frames."""
        voxels = image.voxels if image.voxels.ndim == 4 else image.voxels[..., None]
        return cls(np.moveaxis(voxels, -1, 0), image.affine, labels, facts or {}, image.place, image.notes)


@dataclass
class RawCase:
    """One study, read.

    Attributes:
        series: View name -> series.
        fields: Cells of the table that were read with the images; ``ed_frame`` and ``es_frame`` count from 0.
        landmarks: Rows (view, frame, landmark, x, y) in voxels of the series as it is handed over.
        warnings: What was left out or repaired on the way.
    """

    series: dict[str, RawSeries]
    fields: dict[str, Any] = field(default_factory=dict)
    landmarks: list[tuple[str, int, str, float, float]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


class Dataset(ABC):
    """A dataset's facts, as class attributes, and its reader.

    Attributes:
        name: Lower-case name on the command line, in YAML and in the registry.
        display: Name in prose.
        source: Where to get it and under which conditions.
        looked_for: Where in the raw folder its files lie, for messages.
        views: View names that a complete study has.
        labels: Class code in the store -> name; empty where there are no label maps.
        label_map: Raw label -> class code; another raw label fails the study.
        crop: In-plane crop: around the box of ``crop_label`` in the ED label, around the point where the 2-chamber,
            4-chamber and first SAX planes meet (without two long axes, around what beats in the SAX images), the same
            or none where neither can be found (auto), in the middle, or none.
        crop_label: Class code that "label box" looks at.
        spacing: Target spacing per view where it differs from the view's own; None keeps the image's.
        grey_levels: "percentiles" clips and scales each frame; "as read" stores the reader's uint8 as it is.
        classes: Column -> its classes in the order of the network's outputs; rows with another value are left out.
        regression: Columns that are regressed.
        columns: Columns of the table beside the common ones; of a name alone nothing is known.
        measures: What is computed from the label maps: ventricular volumes, class proportions, or nothing.
        ed_es_from_volumes: ED and ES are the first largest and smallest LV volume over all frames.
        split_by_view: Each view is split by itself.
        splits: How the splits are made, in words.
        nifti: Whether it is read from NIfTI files, whose headers ``--geometry`` is about.
        excluded: id -> why it is left out.
    """

    name: ClassVar[str]
    display: ClassVar[str]
    source: ClassVar[str]
    looked_for: ClassVar[str]
    views: ClassVar[tuple[str, ...]]
    labels: ClassVar[dict[int, str]] = {}
    label_map: ClassVar[dict[int, int]] = {}
    crop: ClassVar[Crop] = "label box"
    crop_label: ClassVar[int] = LV
    spacing: ClassVar[dict[str, tuple[float, float, float] | None]] = {}
    grey_levels: ClassVar[Literal["percentiles", "as read"]] = "percentiles"
    classes: ClassVar[dict[str, tuple[str, ...]]] = {}
    regression: ClassVar[tuple[str, ...]] = ()
    columns: ClassVar[tuple[Column | str, ...]] = ()
    measures: ClassVar[Measure] = "none"
    ed_es_from_volumes: ClassVar[bool] = False
    split_by_view: ClassVar[bool] = False
    splits: ClassVar[str]
    nifti: ClassVar[bool] = False
    excluded: ClassVar[dict[str, str]] = {}

    @property
    def column_names(self) -> tuple[str, ...]:
        """Names of its own columns."""
        return tuple(column if isinstance(column, str) else column.name for column in self.columns)

    @abstractmethod
    def cases(self, raw: Path) -> list[CaseRef]:
        """Lists the studies of a raw folder: names, splits and table cells, no images.

        Args:
            raw: The folder that the user downloaded to.

        Returns:
            The studies in the order of the table.

        Raises:
            CinemaError: If the folder is not this dataset's (it says what was looked for), or a list lacks a column.
        """

    @abstractmethod
    def read(self, case: CaseRef) -> RawCase:
        """Reads the images of one study.

        Raises:
            CinemaError: If something is missing or broken, with the file's name.
        """

    def notes(self, raw: Path) -> list[str]:
        """What the user should know of the raw folder and is of none of its studies; nothing by default."""
        return []

    def draw_validation(self, cases: list[CaseRef]) -> list[CaseRef]:
        """Gives cases the published splits where those are drawn; by default the provider's folders or lists say.

        Args:
            cases: All cases, in the splits that they have as shipped.

        Returns:
            The same in their order, some in another split.
        """
        return cases

    def join_outcomes(self, cases: list[CaseRef], outcomes: Path) -> tuple[list[CaseRef], list[str]]:
        """Adds the cells of an outcome table to the studies; only UK Biobank has one.

        Returns:
            The studies, and sentences about what did not match.
        """
        raise CinemaError(f"{self.display} has no outcome table ({outcomes}): leave --outcomes out.")

    def clean_prediction(self, labels: np.ndarray) -> np.ndarray:
        """What the dataset's challenge wants done to a predicted label map before it is handed in; nothing by default.

        Args:
            labels: (X, Y, Z) class codes of the store, in the geometry of the image as it was acquired.

        Returns:
            The same, changed or not.
        """
        return labels

    def target_spacing(self, view: str, spacing: Sequence[float]) -> tuple[float, float, float]:
        """Voxel size after preparation, mm.

        Args:
            view: View name.
            spacing: Voxel size of the raw image, mm; the long axis keeps its z.

        Returns:
            x, y, z.
        """
        target: Sequence[float] | None = self.spacing[view] if view in self.spacing else get_view(view).spacing
        full = (*target, *spacing[len(target) :]) if target is not None else tuple(spacing)
        return float(full[0]), float(full[1]), float(full[2])

    def crop_size(self, view: str) -> tuple[int, int]:
        """In-plane size after the crop."""
        return get_view(view).crop


def dataset(cls: type[Dataset]) -> type[Dataset]:
    """Class decorator: registers one instance of the dataset under its ``name``, and its columns."""
    declare(*(column for column in cls.columns if isinstance(column, Column)))
    DATASETS.add(cls.name, cls())
    return cls
