"""The studies of a raw folder: the files that belong together, by patterns or by a list."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from cinema_lightning.datasets.described.description import Description
from cinema_lightning.datasets.described.patterns import Match, Pattern
from cinema_lightning.errors import CinemaError
from cinema_lightning.listing import list_paths

Role = Literal["image", "label", "study"]
SHOWN = 3


@dataclass(frozen=True)
class Entry:
    """One file of a study, or a folder of DICOM files.

    Attributes:
        view: View name; empty where a folder holds several.
        role: Image, label map, or a whole study.
        sequence: Name of the sequence among several; empty otherwise.
        phase: ED, ES or empty.
        frame: Number of the frame as the file's name has it.
        path: The file.
    """

    view: str
    role: Role
    sequence: str
    phase: str
    frame: int | None
    path: Path

    @property
    def place(self) -> tuple[str, Role, str, str, int | None]:
        """What only one file of a study can be."""
        return self.view, self.role, self.sequence, self.phase, self.frame

    @property
    def what(self) -> str:
        """In words."""
        word = {"image": "image", "label": "label map", "study": "folder"}[self.role]
        frame = "" if self.frame is None else f"frame {self.frame}"
        return " ".join(filter(None, (self.view, self.sequence, word, self.phase or frame)))


@dataclass
class FoundStudy:
    """What was found of one study.

    Attributes:
        id: Name in the store.
        subject: The person.
        split: Word at ``{split}``, or the list that names it.
        entries: Its files.
        fields: What a list says of it.
    """

    id: str
    subject: str
    split: str = ""
    entries: list[Entry] = field(default_factory=list)
    fields: dict[str, Any] = field(default_factory=dict)

    @property
    def problem(self) -> str | None:
        """Why it cannot be prepared, as far as the names of its files tell."""
        first: dict[Any, Entry] = {}
        for entry in self.entries:
            other = first.setdefault(entry.place, entry)
            # a view may lie in several folders of DICOM files, one for each slice
            if other is not entry and not entry.path.is_dir():
                return (
                    f"{other.path} and {entry.path} are both its {entry.what}: make the pattern narrower, or move one "
                    "of them away"
                )
        if all(entry.role == "label" for entry in self.entries):
            return f"{self.entries[0].path} is there, but no image that it belongs to"
        return None

    def without_labels(self, views: Iterable[str]) -> list[str]:
        """Those of some views of which it has an image and no label map."""
        there = {(entry.view, entry.role) for entry in self.entries}
        return [view for view in views if (view, "image") in there and (view, "label") not in there]


def find_studies(description: Description, raw: Path) -> list[FoundStudy]:
    """Finds the files of all studies by the patterns of a description.

    Raises:
        CinemaError: If a pattern matches nothing; it says what there is.
    """
    studies: dict[str, FoundStudy] = {}
    if description.studies:
        _gather(studies, _some(description, "studies", description.studies, raw), "", "study", "")
    for view, files in description.views.items():
        for sequence, pattern in files.images.items():
            found = _some(description, f"views.{view}.images", pattern, raw)
            _gather(studies, found, view, "image", sequence)
        if files.labels:
            _gather(studies, _some(description, f"views.{view}.labels", files.labels, raw), view, "label", "")
    return list(studies.values())


def _gather(studies: dict[str, FoundStudy], found: Sequence[Match], view: str, role: Role, sequence: str) -> None:
    for match in found:
        study = studies.setdefault(match.id, FoundStudy(match.id, match.subject, match.split))
        if match.subject != study.subject:
            raise CinemaError(
                f"{match.path} is of {match.subject} and {study.entries[0].path} of {study.subject}, but both would be "
                f"called {match.id}: rename one of them."
            )
        # Folders of label maps may be called otherwise than those of the images.
        if role != "label" and match.split != study.split:
            raise CinemaError(
                f"{match.path} lies in '{match.split}' and other files of {match.id} in '{study.split}'; a study has "
                "one split."
            )
        study.entries.append(Entry(view, role, sequence, match.phase, match.frame, match.path))


def _some(description: Description, key: str, pattern: Pattern, raw: Path) -> list[Match]:
    if not raw.is_dir():
        raise CinemaError(f"{raw} is not a folder: point --raw at the folder that {description.source} describes.")
    found = pattern.find(raw)
    if not found:
        there = [path.relative_to(raw).as_posix() for path in list_paths(raw, "**/*") if path.is_file()]
        what = f"there are {len(there)} files, e.g. {', '.join(there[:SHOWN])}" if there else "it is empty"
        raise CinemaError(
            f"{description.source}: {key} '{pattern.text}' matches nothing in {raw} ({what}): mend the pattern "
            "or --raw."
        )
    return found


def frame_numbers(entries: Sequence[Entry], view: str) -> dict[int, int]:
    """Number of a frame in the names of a view's image files -> its place in the series, from 0."""
    numbers = [entry.frame for entry in entries if entry.view == view and entry.role == "image"]
    return {number: place for place, number in enumerate(sorted({n for n in numbers if n is not None}))}


def by_view(entries: Sequence[Entry], role: Role) -> Mapping[str, list[Entry]]:
    """Files of one role by view, in the order of their phases and frames."""
    out: dict[str, list[Entry]] = {}
    for entry in sorted(entries, key=lambda entry: (entry.phase, entry.frame or 0)):
        if entry.role == role:
            out.setdefault(entry.view, []).append(entry)
    return out
