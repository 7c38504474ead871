"""Which studies there are to analyse, in arguments, folders and lists; and which of them are done."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from cinema_lightning.analysis.headers import read_headers
from cinema_lightning.analysis.sources import is_nifti, nifti_files, sources_of
from cinema_lightning.errors import CinemaError
from cinema_lightning.files import natural_key, replacing
from cinema_lightning.listing import list_paths

# Files of a folder that are looked at to find out of which study it is.
PEEKED = 20
LISTS = (".txt", ".csv", ".tsv", ".lst")


@dataclass(frozen=True)
class Place:
    """Where a study lies.

    Attributes:
        path: Folder, zip or file.
        number: Running number among those that were given, from 1.
    """

    path: Path
    number: int

    @property
    def token(self) -> str:
        """What its private record is called."""
        return hashlib.sha256(str(self.path.resolve()).encode()).hexdigest()[:20]

    def fingerprint(self, settings: Sequence[str]) -> str:
        """Of its files' paths, sizes and times, and of what it is analysed with."""
        top = self.path
        files = [top] if top.is_file() else [path for path in list_paths(top, "**/*") if path.is_file()]
        found = [(path.relative_to(top.parent).as_posix(), path.stat()) for path in files]
        lines = [f"{name} {stat.st_size} {stat.st_mtime_ns}" for name, stat in found]
        return hashlib.sha256("\n".join([*lines, *settings]).encode()).hexdigest()


def places_of(arguments: Sequence[str | Path]) -> list[Place]:
    """Studies of the command line.

    Args:
        arguments: Studies (a folder or zip of DICOM, a NIfTI file or folder of them), folders of studies, or text files
            with one path a line, relative to the file.

    Returns:
        The studies, each once.

    Raises:
        CinemaError: If there is none, or a path does not exist.
    """
    found = [path for argument in arguments for path in _expanded(Path(argument).expanduser())]
    unique = list({path.resolve(): path for path in found}.values())
    if not unique:
        raise CinemaError("there is no study to analyse: give a folder or zip of DICOM, or NIfTI.")
    return [Place(path, number) for number, path in enumerate(unique, start=1)]


def _expanded(path: Path) -> list[Path]:
    if not path.exists():
        raise CinemaError(f"{path} does not exist: check the path of the study.")
    if path.is_file() and path.suffix.lower() in LISTS:
        return [inner for line in _lines(path) for inner in _expanded(path.parent / Path(line).expanduser())]
    return _studies_in(path) if path.is_dir() else [path]


def _lines(path: Path) -> list[str]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeError):
        raise CinemaError(f"{path} cannot be read as a list: it is text (UTF-8) with one path a line.") from None
    lines = [line.strip().strip('"') for line in text.splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


def _studies_in(folder: Path) -> list[Path]:
    """The folder itself, or what it holds where that are whole studies: each entry is of another one."""
    if nifti_files(folder):
        return [folder]
    entries = sorted(list_paths(folder), key=lambda path: natural_key(path.name))
    inner = [path for path in entries if path.is_dir() or path.suffix.lower() == ".zip" or is_nifti(path)]
    if len(inner) == 1 and len(entries) == 1 and inner[0].suffix.lower() == ".zip":
        return inner
    if len(inner) < 2 or any(path.is_file() and path not in inner for path in entries):
        return [folder]
    studies = [study for path in inner if (study := _study_of(path))]
    # Series of one study in a folder each have one StudyInstanceUID.
    return inner if len(studies) > 1 and len(set(studies)) == len(studies) else [folder]


def _study_of(path: Path) -> str:
    """What identifies the study of an entry: of NIfTI and unreadable archives the entry itself."""
    if nifti_files(path):
        return str(path)
    try:
        with sources_of(path) as sources:
            headers, _ = read_headers(list(islice(sources, PEEKED)))
    except CinemaError:
        return "" if path.is_dir() else str(path)
    studies = [header.study for header in headers if header.study]
    return studies[0] if studies else ""


class Done:
    """What is kept, beside the secret, of studies that are done: where each came from, and what it was made of.

    Args:
        private: Folder of the secret.
    """

    def __init__(self, private: Path) -> None:
        self.folder = private / "studies"

    def of(self, place: Place) -> dict[str, Any]:
        """The record of a study; empty where there is none."""
        return _record(self.folder / f"{place.token}.json")

    def check(self, place: Place, key: str) -> None:
        """Refuses a study that was done under another path.

        Raises:
            CinemaError: If there is one.
        """
        for other in self._all():
            if other["id"] == key and other["source"] != str(place.path.resolve()) and Path(other["source"]).exists():
                raise CinemaError("it is the same study as another one that was given: leave one of them out.")

    def note(self, place: Place, key: str, fingerprint: str) -> None:
        """Keeps where a study came from."""
        with replacing(self.folder / f"{place.token}.json") as temporary:
            temporary.chmod(0o600)
            record = {"id": key, "source": str(place.path.resolve()), "fingerprint": fingerprint}
            temporary.write_text(json.dumps(record) + "\n", encoding="utf-8")

    def _all(self) -> Iterator[dict[str, Any]]:
        for path in list_paths(self.folder, "*.json"):
            if record := _record(path):
                yield record


def _record(path: Path) -> dict[str, Any]:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) and {"id", "source", "fingerprint"} <= record.keys() else {}
