"""Which studies there are to analyse, in arguments, folders and lists; and which of them are done."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from cinema_lightning.analysis.headers import read_headers
from cinema_lightning.analysis.keys import archive_folder, secret_folder
from cinema_lightning.analysis.sources import is_nifti, nifti_files, numbered, on_disk, sources_of
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
        path: Folder, zip or file, from the root.
        number: Running number among those that were given, from 1.
    """

    path: Path
    number: int

    @property
    def token(self) -> str:
        """What its private record is called."""
        return hashlib.sha256(str(self.path.resolve()).encode()).hexdigest()[:20]

    def files(self) -> str:
        """A digest of its files' paths, sizes and times."""
        top = self.path
        files = [top] if top.is_file() else [path for path in list_paths(top, "**/*") if path.is_file()]
        found = [(path.relative_to(top.parent).as_posix(), path.stat()) for path in files]
        return digest_of(f"{name} {stat.st_size} {stat.st_mtime_ns}" for name, stat in found)


def digest_of(lines: Iterable[str]) -> str:
    """SHA-256 of lines of text."""
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def places_of(arguments: Sequence[str | Path], out: Path) -> list[Place]:
    """Studies of the command line.

    Args:
        arguments: Studies (a folder or zip of DICOM, a NIfTI file or folder of them), folders of studies, or text files
            with one path a line, relative to the file.
        out: Folder of the results, which is no study, though it may lie among them.

    Returns:
        The studies, each once.

    Raises:
        CinemaError: If there is none, a path does not exist, or the results would lie within a study.
    """
    made = {out.resolve(), secret_folder(out), archive_folder(out)}
    found = [path for argument in arguments for path in _expanded(Path(argument).expanduser(), str(argument), made)]
    unique = list({path.resolve(): path.absolute() for path in found}.values())
    if not unique:
        raise CinemaError("there is no study to analyse: give a folder or zip of DICOM, or NIfTI.")
    if any(folder.is_relative_to(path.resolve()) for folder in made for path in unique):
        raise CinemaError(f"the results in {out} would lie within a study: give an --out outside of it.")
    return [Place(path, number) for number, path in enumerate(unique, start=1)]


def _expanded(path: Path, said: str, made: Collection[Path]) -> list[Path]:
    """Studies of an argument, or of a line of a list: said by its number, since paths often name a person."""
    if not path.exists():
        raise CinemaError(f"{said} does not exist: check the path of the study.")
    if path.is_file() and path.suffix.lower() in LISTS:
        inner = {f"what line {number} of {path} names": path.parent / line for number, line in _lines(path)}
        return [study for words, line in inner.items() for study in _expanded(line, words, made)]
    return _studies_in(path, made) if path.is_dir() else [path]


def _lines(path: Path) -> list[tuple[int, Path]]:
    """Paths of a list, by the number of their line."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeError):
        raise CinemaError(f"{path} cannot be read as a list: it is text (UTF-8) with one path a line.") from None
    lines = [(number, line.strip().strip('"')) for number, line in enumerate(text.splitlines(), start=1)]
    return [(number, Path(line).expanduser()) for number, line in lines if line and not line.startswith("#")]


def _studies_in(folder: Path, made: Collection[Path]) -> list[Path]:
    """The folder itself, or what it holds where that are whole studies: each entry is of another one."""
    if nifti_files(folder):
        return [folder]
    there = [path for path in list_paths(folder) if path.resolve() not in made and not path.name.startswith(".")]
    entries = sorted(there, key=lambda path: natural_key(path.name))
    inner = [path for path in entries if path.is_dir() or path.suffix.lower() == ".zip" or is_nifti(path)]
    if len(inner) == 1 and len(entries) == 1 and inner[0].suffix.lower() == ".zip":
        return inner
    if len(inner) < 2 or _holds_images([path for path in entries if path.is_file() and path not in inner]):
        return [folder]
    studies = [study for path in inner if (study := _study_of(path))]
    # Series of one study in a folder each have one StudyInstanceUID.
    return inner if len(studies) > 1 and len(set(studies)) == len(studies) else [folder]


def _holds_images(files: Sequence[Path]) -> bool:
    """Whether one of the files that lie beside folders is of a study, and no table, note or DICOMDIR."""
    sources = numbered([(path.name, on_disk(path)) for path in files])
    return any(header.has_image for source in sources for header in read_headers([source])[0])


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

    def note(self, place: Place, **facts: str) -> None:
        """Keeps where a study came from, and what is new of it.

        Args:
            place: The study.
            facts: ``id``, its key; ``files`` and ``fingerprint``, what it was made of; ``failure``, what it is called
                in failures.csv.
        """
        record = {
            "id": "",
            "files": "",
            "fingerprint": "",
            **self.of(place),
            **facts,
            "source": str(place.path.resolve()),
        }
        with replacing(self.folder / f"{place.token}.json") as temporary:
            temporary.chmod(0o600)
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
    return record if isinstance(record, dict) and {"id", "source", "files", "fingerprint"} <= record.keys() else {}
