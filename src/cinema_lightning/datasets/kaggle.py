"""Kaggle's Second Annual Data Science Bowl: DICOM cines of 1,140 studies with LV volumes, for testing only."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from cinema_lightning.datasets.base import CaseRef, Dataset, RawCase, RawSeries, dataset
from cinema_lightning.datasets.files import find_folder, natural_key, number
from cinema_lightning.errors import CinemaError
from cinema_lightning.imaging.dicom import Cine, DicomFile, read_cine
from cinema_lightning.imaging.stack import single, stack
from cinema_lightning.tables import read_table

PARTS = ("train", "validate", "test")
LONG_AXIS = {"lax_2c": "2ch", "lax_4c": "4ch"}


@dataset
class Kaggle(Dataset):
    """Second Annual Data Science Bowl."""

    name = "kaggle"
    display = "Kaggle DSB 2"
    source = "https://www.kaggle.com/c/second-annual-data-science-bowl (free account, competition's rules)"
    looked_for = "second-annual-data-science-bowl/{train,validate,test}/{train,validate,test}/ID/study/"
    views = ("sax", "lax_2c", "lax_4c")
    crop = "plane intersection"
    regression = ("lv_ef",)
    columns = ("part",)
    splits = "all is test; column 'part' keeps the competition's train, validate and test"
    excluded: ClassVar[dict[str, str]] = {"761": "left out: its images are all black"}

    def cases(self, raw: Path) -> list[CaseRef]:
        """See :meth:`Dataset.cases`."""
        root = find_folder(
            raw,
            "*/*/*/study",
            folder="second-annual-data-science-bowl",
            display=self.display,
            looked_for=self.looked_for,
        )
        found = []
        for part in PARTS:
            folders = [folder for folder in sorted((root / part / part).glob("*")) if (folder / "study").is_dir()]
            if not folders:
                continue
            volumes = _volumes(root, part)
            found += [_case(folder, part, volumes.get(folder.name, {})) for folder in folders]
        return found

    def read(self, case: CaseRef) -> RawCase:
        """See :meth:`Dataset.read`."""
        study = case.sources[0]
        warnings: list[str] = []
        series = {}
        slices = _slices(study, warnings)
        frames, affine, left_out = stack(slices)
        warnings += left_out
        series["sax"] = RawSeries(frames, affine)
        for view, prefix in LONG_AXIS.items():
            folders = _folders(study, prefix)
            if not folders:
                raise CinemaError(f"{study} has no folder {prefix}_K")
            cine = _cine(folders[-1], warnings)
            series[view] = RawSeries(*single(cine))
        return RawCase(series, warnings=warnings)


def _case(folder: Path, part: str, volumes: dict[str, float]) -> CaseRef:
    esv, edv = volumes.get("Systole"), volumes.get("Diastole")
    fields: dict[str, Any] = {"part": part, "lv_edv": edv, "lv_esv": esv}
    fields["lv_ef"] = (edv - esv) / edv * 100 if edv and esv is not None else None
    warnings = () if volumes else (f"no volumes are listed for it ({part})",)
    return CaseRef(folder.name, folder.name, "test", (folder / "study",), fields, warnings=warnings)


def _volumes(root: Path, part: str) -> dict[str, dict[str, float]]:
    """Systole and Diastole in ml by id, from the table of one part."""
    out: dict[str, dict[str, float]] = {}
    if part == "test":
        for row in read_table(root / "solution.csv", ("Id", "Volume"), numbers=("Volume",)):
            name, _, phase = row["Id"].partition("_")
            volume = number(row["Volume"])
            if volume is not None:
                out.setdefault(name, {})[phase] = volume
        return out
    phases = ("Systole", "Diastole")
    for row in read_table(root / f"{part}.csv", ("Id", *phases), numbers=phases):
        cells = {phase: number(row[phase]) for phase in phases}
        out[row["Id"]] = {phase: value for phase, value in cells.items() if value is not None}
    return out


def _folders(study: Path, prefix: str) -> list[Path]:
    found = [folder for folder in study.glob(f"{prefix}_*") if folder.is_dir()]
    return sorted(found, key=lambda folder: natural_key(folder.name))


def _cine(folder: Path, warnings: list[str]) -> Cine:
    files = [DicomFile.from_path(path) for path in sorted(folder.glob("*.dcm"))]
    cine = read_cine(files, folder.name)
    warnings += cine.warnings
    return cine


def _slices(study: Path, warnings: list[str]) -> list[tuple[str, Cine]]:
    slices = []
    for folder in _folders(study, "sax"):
        try:
            slices.append((folder.name, _cine(folder, warnings)))
        except CinemaError as error:
            warnings.append(f"{folder.name} is left out: {error}")
    return slices
