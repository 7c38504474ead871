"""Makes a raw cohort: subjects side by side, each moved into place when it is whole, then the tables."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from cinema_lightning.errors import CinemaError
from cinema_lightning.files import write_text
from cinema_lightning.phantom.making import Making, claim, make_subjects, read_note
from cinema_lightning.phantom.raw.base import LAYOUTS, RawLayout, RawSettings, Record
from cinema_lightning.phantom.raw.files import csv_text
from cinema_lightning.phantom.raw.study_files import StudiesLayout

STUDIES = StudiesLayout()
TRUTH = "phantom_truth.csv"
RECORDS = ".phantom"


def layout_of(name: str) -> RawLayout:
    """The layout of a dataset, or of DICOM studies, which are of no dataset.

    Raises:
        CinemaError: If there is none of that name.
    """
    return STUDIES if name == STUDIES.name else LAYOUTS[name]


def settings_for(
    dataset: str, subjects: int, seed: int = 0, size: Literal["full", "small"] = "full", frames: int | None = None
) -> RawSettings:
    """Settings of a raw cohort, with the number of frames that the dataset has where none is asked for.

    Args:
        dataset: Name of the layout, or ``dicom`` for studies of no dataset.
        subjects: Number of subjects.
        seed: Seed of everything.
        size: full or small.
        frames: Frames over the cycle; without meaning where each image is one moment.

    Returns:
        The settings.

    Raises:
        CinemaError: If there is no such layout.
    """
    found = layout_of(dataset)
    return RawSettings(dataset, subjects, seed, size, 1 if found.single_frame else frames or found.frames[size])


def make_raw(root: Path, settings: RawSettings, workers: int = 1, *, overwrite: bool = False) -> int:
    """Makes a phantom cohort in a dataset's raw layout, or the rest of it.

    Args:
        root: Output folder; beside the layout it gets ``phantom_truth.csv``, which no reader looks at.
        settings: What to make.
        workers: Processes; the result does not depend on it.
        overwrite: Remove another raw phantom cohort that lies there first.

    Returns:
        Exit code: 0, or 128 + number of the signal that stopped it.

    Raises:
        CinemaError: If the numbering has no room for so many subjects, the folder holds something else, or something
            cannot be written; subjects that are complete stay.
    """
    layout = layout_of(settings.dataset)
    if layout.most is not None and settings.subjects > layout.most:
        raise CinemaError(
            f"{layout.display} numbers {layout.most} subjects, but --subjects asks for {settings.subjects}; give fewer."
        )
    claim(root, settings.as_dict(), overwrite, _owned)
    everyone, title = range(settings.subjects), f"phantom {settings.dataset}"
    if code := make_subjects(partial(RawMaking, settings=settings), root, everyone, workers, title):
        return code
    records = [Record(**read_note(_record_path(root, index), "it")) for index in everyone]
    layout.tables(root, records)
    rows = [row for record in records for row in record.truth]
    write_text(root / TRUTH, csv_text(rows, list(dict.fromkeys(key for row in rows for key in row))))
    return 0


def _owned(found: Mapping[str, Any]) -> tuple[str, ...]:
    """What a layout made."""
    return (*layout_of(str(found["dataset"])).owned, RECORDS, TRUTH)


def _record_path(root: Path, index: int) -> Path:
    return root / RECORDS / f"{index:05d}.json"


@dataclass(frozen=True)
class RawMaking(Making):
    """How the subjects of a raw cohort are made, whose files lie wherever the provider puts them.

    Attributes:
        settings: The cohort's settings.
    """

    settings: RawSettings

    def called(self, index: int) -> str:
        """See :meth:`Making.called`."""
        return f"Subject {index} of {self.root}"

    def is_complete(self, index: int) -> bool:
        """See :meth:`Making.is_complete`."""
        return _record_path(self.root, index).exists()

    def write(self, folder: Path, index: int) -> None:
        """See :meth:`Making.write`; notes that the subject is complete once all of its files are in place."""
        record = make_subject(folder, index, self.settings)
        for source in sorted(path for path in folder.rglob("*") if path.is_file()):
            target = self.root / source.relative_to(folder)
            target.parent.mkdir(parents=True, exist_ok=True)
            source.replace(target)
        write_text(_record_path(self.root, index), json.dumps(asdict(record)))


def make_subject(root: Path, index: int, settings: RawSettings) -> Record:
    """Writes the files of one subject, see :meth:`RawLayout.write`."""
    return layout_of(settings.dataset).write(root, index, settings)
