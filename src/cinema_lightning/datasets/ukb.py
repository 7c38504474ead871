"""UK Biobank: bulk fields 20208 (long axis) and 20209 (short axis), one archive per participant and visit."""

from __future__ import annotations

import csv
import os
import re
import zipfile
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path, PurePosixPath

from cinema_lightning.datasets.base import CaseRef, Dataset, RawCase, dataset
from cinema_lightning.datasets.dicom_study import StudyFiles, read_study
from cinema_lightning.datasets.outcomes import read_outcomes
from cinema_lightning.errors import CinemaError
from cinema_lightning.files import natural_key
from cinema_lightning.imaging.dicom_file import DicomFile
from cinema_lightning.imaging.planes import is_called_no_cine
from cinema_lightning.listing import is_litter, list_paths

LONG_AXIS, SHORT_AXIS = "20208", "20209"
AXES = {LONG_AXIS: "long axis", SHORT_AXIS: "short axis"}
ARCHIVE = re.compile(r"(\d+)_(20208|20209)_(\d+)_(\d+)(\.zip)?", re.IGNORECASE)
# How far below the raw folder archives are looked for.
DEPTH = 4
MANIFESTS = ("manifest.csv", "manifest.cvs")
# Series of one view; other cines (CINE_segmented_LAX, with all long axes) are sorted by where their images lie.
# InlineVF series have contours burned in, though their names contain those of real ones.
VIEW_SERIES = re.compile(r"CINE_segmented_(?:LAX_([234])Ch|SAX(?:_b\d+)?)", re.IGNORECASE)
CINE_SERIES = re.compile(r"CINE_segmented_.*", re.IGNORECASE)
# "Aug 30, 2015" stands in the manifest without quotes.
DATE = re.compile(r"\b([A-Z][a-z]{2,8}\.? \d{1,2}), (\d{4})\b")
# No file of a cine is near this; an archive that claims more is damaged or hostile.
LARGEST_FILE = 256 * 2**20


@dataset
class Ukb(Dataset):
    """UK Biobank cardiac MRI."""

    name = "ukb"
    display = "UK Biobank"
    source = "https://www.ukbiobank.ac.uk/ (application and fee; bulk fields 20208 and 20209)"
    looked_for = "EID_20208_2_0(.zip) and EID_20209_2_0(.zip), in the folder or up to four below"
    views = ("sax", "lax_2c", "lax_3c", "lax_4c")
    crop = "plane intersection"
    columns = ("diabetes", "hypertension", "cancer")
    splits = "none: pretraining draws its own validation studies, by participant"

    def cases(self, raw: Path) -> list[CaseRef]:
        """See :meth:`Dataset.cases`."""
        raw = Path(raw)
        if not raw.is_dir():
            raise CinemaError(f"{raw} is not a folder: point --raw at the folder that holds the archives.")
        studies: dict[tuple[str, str], dict[str, list[tuple[int, Path]]]] = defaultdict(lambda: defaultdict(list))
        for path in _archives(raw, depth=DEPTH):
            match = ARCHIVE.fullmatch(path.name)
            if match is not None:
                studies[match[1], match[3]][match[2]].append((int(match[4]), path))
        if not studies:
            raise CinemaError(
                f"{raw} does not hold {self.display}: looked for {self.looked_for} and found none; mend --raw."
            )
        return [_case(eid, visit, fields) for (eid, visit), fields in sorted(studies.items())]

    def read(self, case: CaseRef) -> RawCase:
        """See :meth:`Dataset.read`."""
        study = StudyFiles()
        with ExitStack() as opened:
            for source in case.sources:
                _list_archive(opened.enter_context(_open(source)), study)
            return read_study(study, self.views)

    def join_outcomes(self, cases: list[CaseRef], outcomes: Path) -> tuple[list[CaseRef], list[str]]:
        """Adds the cells of a CSV keyed by EID (age, sex, BMI, diagnoses, time, event)."""
        rows, notes = read_outcomes(outcomes, {case.subject for case in cases})
        joined = [
            replace(case, fields={**case.fields, **rows[case.subject]})
            if case.subject in rows
            else replace(case, warnings=(*case.warnings, f"{outcomes.name} has no row for EID {case.subject}"))
            for case in cases
        ]
        return joined, notes


def _archives(folder: Path, depth: int) -> Iterator[Path]:
    try:
        entries = [entry for entry in os.scandir(folder) if not is_litter(entry.name)]
    except OSError as error:
        raise CinemaError(f"{folder} cannot be listed ({error.strerror or error}).") from None
    for entry in sorted(entries, key=lambda entry: entry.name):
        if ARCHIVE.fullmatch(entry.name):
            yield Path(entry.path)
        elif depth > 0 and entry.is_dir():
            yield from _archives(Path(entry.path), depth - 1)


def _case(eid: str, visit: str, fields: dict[str, list[tuple[int, Path]]]) -> CaseRef:
    name = f"{eid}_{visit}"
    warnings = []
    sources = []
    for field in (SHORT_AXIS, LONG_AXIS):
        found = sorted(fields.get(field, []))
        if len(found) > 1:
            warnings.append(f"{len(found)} archives of field {field}; the last is used ({found[-1][1].name})")
        sources += [found[-1][1]] if found else []
        warnings += [] if found else [f"there is no archive of field {field} ({AXES[field]})"]
    return CaseRef(name, eid, "", tuple(sources), warnings=tuple(warnings))


class _Archive(ABC):
    """A folder or a zip that holds a manifest and the DICOM files that it names."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @abstractmethod
    def names(self) -> list[str]:
        """Relative names of all files, with forward slashes."""

    @abstractmethod
    def read(self, name: str) -> bytes:
        """Bytes of one file."""

    @abstractmethod
    def check(self, name: str) -> None:
        """Refuses a name that leads outside by a link."""

    def manifest(self) -> tuple[str, PurePosixPath]:
        """The manifest's text and the folder that its names are relative to."""
        found = [name for name in self.names() if PurePosixPath(name).name.lower() in MANIFESTS]
        if not found:
            raise CinemaError(f"{self.path} has no {' or '.join(MANIFESTS)}.")
        name = min(found, key=lambda name: (name.count("/"), name))
        return self.read(name).decode("utf-8", errors="replace").removeprefix("\ufeff"), PurePosixPath(name).parent


class _Folder(_Archive):
    def names(self) -> list[str]:
        return [path.relative_to(self.path).as_posix() for path in list_paths(self.path, "**/*") if path.is_file()]

    def read(self, name: str) -> bytes:
        self.check(name)
        return (self.path / name).read_bytes()

    def check(self, name: str) -> None:
        if not (self.path / name).resolve().is_relative_to(self.path.resolve()):
            raise CinemaError(f"{name} points outside {self.path}")


class _Zip(_Archive):
    def __init__(self, path: Path, file: zipfile.ZipFile) -> None:
        super().__init__(path)
        self.file = file

    def names(self) -> list[str]:
        names = [info.filename for info in self.file.infolist() if not info.is_dir()]
        return [name for name in names if not is_litter(name)]

    def read(self, name: str) -> bytes:
        try:
            info = self.file.getinfo(name)
        except KeyError:
            raise FileNotFoundError(f"{name} is not in {self.path.name}") from None
        if info.file_size > LARGEST_FILE:
            raise CinemaError(f"{name} in {self.path} claims {info.file_size} bytes")
        return self.file.read(info)

    def check(self, name: str) -> None:
        """Names in an archive are no links."""


@contextmanager
def _open(path: Path) -> Iterator[_Archive]:
    if path.is_dir():
        yield _Folder(path)
        return
    try:
        file = zipfile.ZipFile(path)
    except (OSError, zipfile.BadZipFile) as error:
        raise CinemaError(f"{path} cannot be opened ({error}); it may be half downloaded: get it again.") from None
    with file:
        yield _Zip(path, file)


def read_manifest(text: str, where: str) -> dict[str, list[str]]:
    """Sorts a manifest's files by series.

    Args:
        text: Content of manifest.csv, with dates whose comma is not quoted.
        where: Name of the archive, for messages.

    Returns:
        Series description -> file names.

    Raises:
        CinemaError: If a column is missing (it is named) or a row has another number of cells than the header.
    """
    rows = [row for row in csv.reader(DATE.sub(r"\1 \2", text).splitlines()) if any(cell.strip() for cell in row)]
    header = [name.strip().lower() for name in rows[0]] if rows else []
    columns = []
    # "discription" is how UK Biobank spells it.
    for names in (("filename",), ("series discription", "series description", "seriesdescription")):
        column = next((header.index(name) for name in names if name in header), None)
        if column is None:
            raise CinemaError(f"The manifest of {where} lacks the column '{names[0]}'; it has {', '.join(header)}.")
        columns.append(column)
    series: dict[str, list[str]] = defaultdict(list)
    for line, row in enumerate(rows[1:], start=2):
        if len(row) != len(header):
            raise CinemaError(f"The manifest of {where}, row {line}: {len(row)} cells for {len(header)} columns.")
        series[row[columns[1]].strip()].append(row[columns[0]].strip())
    return dict(series)


def _list_archive(archive: _Archive, study: StudyFiles) -> None:
    """Sorts an archive's cine series by what the manifest calls them."""
    text, folder = archive.manifest()
    series = read_manifest(text, str(archive.path))
    for name in sorted(series, key=natural_key):
        if CINE_SERIES.fullmatch(name) and not is_called_no_cine(name):
            match = VIEW_SERIES.fullmatch(name)
            view = None if match is None else f"lax_{match[1]}c" if match[1] else "sax"
            study.add(view, name, _files(archive, folder, series[name]))


def _files(archive: _Archive, folder: PurePosixPath, files: list[str]) -> list[DicomFile]:
    dicoms = []
    for file in sorted(files, key=natural_key):
        _check_name(file, archive.path)
        member = (folder / file).as_posix()
        archive.check(member)
        dicoms.append(DicomFile(file, lambda member=member: archive.read(member)))  # type: ignore[misc]
    return dicoms


def _check_name(name: str, path: Path) -> None:
    """A manifest may name files of its own folder only."""
    parts = re.split(r"[/\\]", name)
    if not name or ".." in parts or name.startswith(("/", "\\")) or re.match(r"[A-Za-z]:", name):
        raise CinemaError(f"The manifest of {path} names '{name}', which lies outside its folder.")
