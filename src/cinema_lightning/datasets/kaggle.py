"""Kaggle's Second Annual Data Science Bowl: DICOM cines of 1,140 studies with LV volumes, for testing only."""

from __future__ import annotations

from collections import Counter
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

from cinema_lightning.columns import Column, look_up
from cinema_lightning.datasets.base import CaseRef, Dataset, RawCase, dataset
from cinema_lightning.datasets.dicom_study import read_study, study_of
from cinema_lightning.datasets.files import find_folder, number
from cinema_lightning.errors import CinemaError
from cinema_lightning.imaging.dicom_file import DicomFile
from cinema_lightning.listing import list_paths
from cinema_lightning.tables import read_table

# Part of the competition -> the table of its volumes.
TABLES = {"train": "train.csv", "validate": "validate.csv", "test": "solution.csv"}
PARTS = tuple(TABLES)


@dataset
class Kaggle(Dataset):
    """Second Annual Data Science Bowl."""

    name = "kaggle"
    display = "Kaggle DSB 2"
    source = "https://www.kaggle.com/c/second-annual-data-science-bowl (free account, competition's rules)"
    looked_for = "second-annual-data-science-bowl/{train,validate,test}/ID/study/, or with the middle folder twice"
    views = ("sax", "lax_2c", "lax_4c")
    crop = "plane intersection"
    regression = ("lv_ef",)
    columns = (Column("part", kind="class"),)
    splits = "all is test; column 'part' keeps the competition's train, validate and test"
    excluded: ClassVar[dict[str, str]] = {"761": "left out: its images are all black"}

    def cases(self, raw: Path) -> list[CaseRef]:
        """See :meth:`Dataset.cases`."""
        root = find_folder(
            raw,
            [f"{base}/*/study" for part in PARTS for base in (f"{part}/{part}", part)],
            folder="second-annual-data-science-bowl",
            display=self.display,
            looked_for=self.looked_for,
        )
        found = []
        for part in PARTS:
            folders = _studies(root, part)
            volumes = _volumes(root, part) if folders else {}
            found += [_case(folder, part, volumes) for folder in folders]
        twice = [name for name, count in Counter(case.id for case in found).items() if count > 1]
        if twice:
            raise CinemaError(f"{root} holds a study {twice[0]} in several of {', '.join(PARTS)}: rename one of them.")
        return found

    def read(self, case: CaseRef) -> RawCase:
        """See :meth:`Dataset.read`."""
        top = case.sources[0]
        files = (
            (PurePosixPath(path.relative_to(top).as_posix()), DicomFile.from_path(path) if path.is_file() else None)
            for path in list_paths(top, "**/*")
        )
        return read_study(study_of(files, top.name), self.views)


def _studies(root: Path, part: str) -> list[Path]:
    """Studies of one part, in the folder twice (as unpacked in place) or once; each id once."""
    folders = [folder for base in (root / part / part, root / part) for folder in list_paths(base)]
    studies: dict[str, Path] = {}
    for folder in folders:
        if (folder / "study").is_dir():
            studies.setdefault(folder.name, folder)
    return list(studies.values())


def _case(folder: Path, part: str, listed: dict[str, dict[str, float]] | None) -> CaseRef:
    volumes = (listed or {}).get(folder.name, {})
    esv, edv = volumes.get("Systole"), volumes.get("Diastole")
    fields: dict[str, Any] = {"part": part, "lv_edv": edv, "lv_esv": esv}
    fields["lv_ef"] = look_up("lv_ef").of(fields)
    reason = f"there is no {TABLES[part]}, so" if listed is None else f"{TABLES[part]} does not list it:"
    warnings = () if volumes else (f"{reason} no volumes are known",)
    return CaseRef(folder.name, folder.name, "test", (folder / "study",), fields, warnings=warnings)


def _volumes(root: Path, part: str) -> dict[str, dict[str, float]] | None:
    """Systole and Diastole in ml by id, from the table of one part; None where there is no table."""
    out: dict[str, dict[str, float]] = {}
    table = root / TABLES[part]
    if not table.is_file():
        return None
    if part == "test":
        for row in read_table(table, ("Id", "Volume"), numbers=("Volume",)):
            name, _, phase = row["Id"].partition("_")
            volume = number(row["Volume"])
            if volume is not None:
                out.setdefault(name, {})[phase] = volume
        return out
    phases = ("Systole", "Diastole")
    for row in read_table(table, ("Id", *phases), numbers=phases):
        cells = {phase: number(row[phase]) for phase in phases}
        out[row["Id"]] = {phase: value for phase, value in cells.items() if value is not None}
    return out
