"""What a raw layout declares and what its writer hands over."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

from cinema_lightning import __version__
from cinema_lightning.registry import Registry

LAYOUTS: Registry[RawLayout] = Registry("raw layout", "cinema_lightning.phantom.raw")


@dataclass(frozen=True)
class RawSettings:
    """What decides the bytes of a raw cohort.

    Attributes:
        dataset: Name of the layout.
        subjects: Number of subjects; the provider's tables list all of them.
        seed: Seed of everything.
        size: full is the providers' usual resolution; small has the same field of view with 2.5 times larger pixels
            and eight slices (MyoPS: the middle of the field of view, and its own few slices).
        frames: Frames over the cycle.
    """

    dataset: str
    subjects: int
    seed: int = 0
    size: Literal["full", "small"] = "full"
    frames: int = 30

    def as_dict(self) -> dict[str, Any]:
        """Plain values, with the version of the software that gives these bytes."""
        return {
            "dataset": self.dataset,
            "seed": self.seed,
            "size": self.size,
            "frames": self.frames,
            "subjects": self.subjects,
            "version": __version__,
        }


@dataclass
class Record:
    """What is known about one subject once its files are written; plain values only.

    Attributes:
        truth: Rows of ``phantom_truth.csv``, one per study or image.
        rows: Rows of the provider's tables, by any name that the layout's :meth:`RawLayout.tables` uses.
    """

    truth: list[dict[str, Any]] = field(default_factory=list)
    rows: dict[str, list[dict[str, Any]]] = field(default_factory=dict)


class RawLayout(ABC):
    """How one provider ships its data.

    Attributes:
        name: Name of the dataset on the command line.
        display: Name in prose.
        most: Largest number of subjects that the provider's numbering has room for; None for no limit.
        frames: Frames over the cycle by size, if none are asked for.
        single_frame: Each image is one moment, so that the number of frames has no meaning.
        owned: Globs of what the writer makes in the output folder; removed with ``--overwrite``.
    """

    name: ClassVar[str]
    display: ClassVar[str]
    most: ClassVar[int | None] = None
    frames: ClassVar[dict[str, int]] = {"full": 30, "small": 6}
    single_frame: ClassVar[bool] = False
    owned: ClassVar[tuple[str, ...]]

    @abstractmethod
    def write(self, root: Path, index: int, settings: RawSettings) -> Record:
        """Writes the files of one subject.

        Args:
            root: Empty folder that stands for the output folder; the files move there together.
            index: Number of the subject, from 0.
            settings: The cohort's settings.

        Returns:
            Rows for the tables.
        """

    def tables(self, root: Path, records: Sequence[Record]) -> None:
        """Writes the tables that the provider ships beside the images.

        Args:
            root: The output folder.
            records: All subjects in order.
        """
        return


def layout(cls: type[RawLayout]) -> type[RawLayout]:
    """Class decorator: registers one instance of the layout under its ``name``."""
    LAYOUTS.add(cls.name, cls())
    return cls


def place(pattern: str, index: int) -> tuple[str, int]:
    """Part of subject ``index`` where parts follow a repeated pattern, and its rank within that part.

    Args:
        pattern: One letter per subject, repeated without end.
        index: Number of the subject, from 0.

    Returns:
        The letter, and how many earlier subjects have the same one. Neither depends on the number of subjects.
    """
    rounds, rest = divmod(index, len(pattern))
    letter = pattern[rest]
    return letter, rounds * pattern.count(letter) + pattern[:rest].count(letter)
