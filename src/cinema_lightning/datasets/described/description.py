"""The description of own data as one value; see :mod:`cinema_lightning.datasets.described.parse`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from cinema_lightning.datasets.base import CINE_LABELS, Crop
from cinema_lightning.datasets.described.patterns import Pattern

SPLITS = ("train", "val", "test")
BY_VOLUME = "by volume"
"""What ``phases`` says where ED and ES are the frames of the largest and the smallest LV in the label maps."""
# What people call the structures of the published networks, in letters and digits.
_STRUCTURES = {
    "RV blood pool": ("rv", "rvc", "rvbp", "rvcavity", "rvbloodpool", "rightventricle", "rightventricularcavity"),
    "myocardium": ("myo", "myocardium", "lvm", "mlv", "lvmyo", "lvmyocardium", "leftventricularmyocardium"),
    "LV blood pool": ("lv", "lvc", "lvbp", "lvcavity", "lvbloodpool", "leftventricle", "leftventricularcavity"),
}
_OWN_CODES = range(max(CINE_LABELS) + 1, 255)


@dataclass(frozen=True)
class ViewFiles:
    """Where the files of one view are.

    Attributes:
        images: Sequence -> pattern; one of an empty name for a cine or a still, several for sequences as channels.
        labels: Pattern of the label maps.
        pixel_size: Size of a pixel in mm (x, y), which a PNG does not say.
    """

    images: Mapping[str, Pattern] = field(default_factory=dict)
    labels: Pattern | None = None
    pixel_size: tuple[float, float] | None = None


@dataclass(frozen=True)
class TableColumn:
    """What a column of a table becomes.

    Attributes:
        column: Its name in the table.
        factor: What its numbers are multiplied by, such as 0.01 for centimetres.
        values: Cell -> what it means.
    """

    column: str
    factor: float | None = None
    values: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class PeopleTable:
    """A table with a row for each study or person.

    Attributes:
        file: Its path in the raw folder.
        by: Whether a row is of a study (id) or of a person (subject).
        key: The column that says of whom it is.
        columns: Our name -> column; the others are kept under their own names.
        frames_from: Number of its first frame; None: as the description says for all.
    """

    file: str
    by: Literal["id", "subject"]
    key: str
    columns: Mapping[str, TableColumn]
    frames_from: int | None = None


@dataclass(frozen=True)
class LandmarkTable:
    """A table with a row for each landmark of a frame.

    Attributes:
        file: Its path in the raw folder.
        by: Whether a row is of a study (id) or of a person (subject).
        key: The column that says of whom it is.
        view: A view's name, for all rows, or the column that has it.
        frame: Column of the frame, a number or the phase; empty where images have one frame.
        landmark: Column of the landmark's name.
        x: Column of its place along the first axis of the image, voxels from 0.
        y: The same along the second axis.
    """

    file: str
    by: Literal["id", "subject"]
    key: str
    view: str
    frame: str
    landmark: str
    x: str
    y: str


@dataclass(frozen=True)
class SplitRule:
    """Where the splits come from: one of these.

    Attributes:
        column: Column of a table whose cells, by ``values``, are splits.
        values: Word of the column, or of ``{split}`` in the patterns, -> split.
        lists: Split -> ids or subjects.
        shares: Split -> share of the subjects.
        folds: Number of folds; ``fold`` tests, the next one validates.
        fold: From 0.
        seed: What shares and folds are drawn with.
    """

    column: str = ""
    values: Mapping[str, str] = field(default_factory=dict)
    lists: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    shares: Mapping[str, float] = field(default_factory=dict)
    folds: int = 0
    fold: int = 0
    seed: int = 0


DEFAULT_SPLITS = SplitRule(shares={"train": 0.7, "val": 0.1, "test": 0.2})


@dataclass(frozen=True)
class Description:
    """A description, checked.

    Attributes:
        source: The file, for messages.
        content: What it says, in plain values, as it is kept in the store.
        name: Name of the dataset.
        views: View -> its files.
        studies: Pattern of DICOM folders, one a study, whose views are found in them.
        datalist: JSON that lists the files one by one, in place of patterns.
        labels: Class -> codes in the provider's label maps, the first of which is written back.
        phases: ED and ES -> words by which file names call them.
        by_volume: ED and ES are the frames of the largest and smallest LV.
        frames_from: Number of the first frame in file names, and in tables that do not say their own; None where nobody
            says.
        tables: Tables of people.
        landmarks: Table of landmarks.
        splits: Where the splits come from; None where the datalist says.
        spacing: Voxel size in mm by view where it is not the published one; None keeps the image's.
        crop: Around the heart where it is found (auto), in the middle, or none.
        grey_levels: Scaled to eight bits, or stored as they are.
        classes: Column -> its classes in order.
    """

    source: str
    content: Mapping[str, Any]
    name: str
    views: Mapping[str, ViewFiles]
    studies: Pattern | None
    datalist: str
    labels: Mapping[str, tuple[int, ...]]
    phases: Mapping[str, tuple[str, ...]]
    by_volume: bool
    frames_from: int | None
    tables: tuple[PeopleTable, ...]
    landmarks: LandmarkTable | None
    splits: SplitRule | None
    spacing: Mapping[str, tuple[float, ...] | None]
    crop: Crop
    grey_levels: Literal["percentiles", "as read"]
    classes: Mapping[str, tuple[str, ...]]

    @property
    def codes(self) -> dict[str, int]:
        """Class -> its code in the store: structures of the published networks keep theirs."""
        known = {name: code for code, name in CINE_LABELS.items()}
        free = iter(_OWN_CODES)
        return {name: known[name] if name in known else next(free) for name in self.labels}

    @property
    def patterns(self) -> list[Pattern]:
        """All patterns."""
        found = [self.studies] if self.studies else []
        for files in self.views.values():
            found += [*files.images.values(), *([files.labels] if files.labels else [])]
        return found


def structure(word: str) -> str:
    """The name by which a structure is known here ("LV" is the LV blood pool); another word as it is."""
    letters = re.sub(r"[^a-z0-9]", "", word.lower())
    found = next((name for name, words in _STRUCTURES.items() if letters in words), None)
    return found or ("background" if letters == "background" else word.strip())
