"""M&Ms: six centres, four vendors, SAX series with labels at ED and ES (Campello et al., TMI 2021)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from cinema_lightning.columns import look_up
from cinema_lightning.datasets.base import (
    CINE_LABELS,
    LV,
    MYOCARDIUM,
    RV,
    CaseRef,
    Dataset,
    RawCase,
    RawSeries,
    dataset,
)
from cinema_lightning.datasets.files import find_folder, metres, number, sex, tidy, whole
from cinema_lightning.errors import CinemaError
from cinema_lightning.imaging.nifti import read_volume
from cinema_lightning.listing import list_paths
from cinema_lightning.tables import read_table

# 201014 and 211006_M&Ms_Dataset_Information_-_opendataset.csv of earlier releases lack the clinical columns.
TABLE = "[!.]*M&Ms_Dataset_[iI]nformation*.csv"
COLUMNS = ("External code", "ED", "ES")
# What the table should say of every subject; height and weight are often missing.
CLINICAL = ("pathology", "sex", "age", "vendor", "centre")
FOLDERS = {"Training/Labeled": "train", "Validation": "val", "Testing": "test"}
# Its cases have _gt files too, but they hold nothing.
UNLABELED = "Training/Unlabeled"


@dataset
class Mnms(Dataset):
    """Multi-Centre, Multi-Vendor and Multi-Disease Cardiac Segmentation Challenge."""

    name = "mnms"
    display = "M&Ms"
    source = "https://www.ub.edu/mnms/ (free on request, for research, CC BY-NC-SA 4.0)"
    looked_for = "OpenDataset/211230_M&Ms_Dataset_information_diagnosis_opendataset.csv, or that of an earlier release"
    views = ("sax",)
    labels = CINE_LABELS
    label_map: ClassVar[dict[int, int]] = {0: 0, 1: LV, 2: MYOCARDIUM, 3: RV}
    classes: ClassVar[dict[str, tuple[str, ...]]] = {
        "pathology": ("DCM", "HCM", "NOR", "ARV", "HHD"),
        "sex": ("M", "F"),
        "vendor": ("Canon", "GE", "Philips", "Siemens"),
    }
    regression = ("lv_ef", "rv_ef", "age")
    measures = "volumes"
    nifti = True
    splits = "the folder that holds the case; Training/Unlabeled is left out"

    def cases(self, raw: Path) -> list[CaseRef]:
        """See :meth:`Dataset.cases`."""
        root = find_folder(raw, TABLE, folder="OpenDataset", display=self.display, looked_for=self.looked_for)
        table = max(list_paths(root, TABLE))  # their names begin with a date: the latest
        rows = read_table(table, COLUMNS, numbers=("ED", "ES", "Age", "Height", "Weight"))
        found = [_case(root, table, row) for row in rows]
        listed = {case.id for case in found if case is not None}
        strays = [
            CaseRef(folder.name, folder.name, split, (folder,), problem=f"it has no row in {table.name}")
            for part, split in FOLDERS.items()
            for folder in list_paths(root / part)
            if folder.is_dir() and folder.name not in listed
        ]
        return [case for case in found if case is not None] + strays

    def read(self, case: CaseRef) -> RawCase:
        """See :meth:`Dataset.read`."""
        folder = case.sources[0]
        image = read_volume(folder / f"{folder.name}_sa.nii.gz", dims=4, geometry=case.geometry)
        maps = read_volume(folder / f"{folder.name}_sa_gt.nii.gz", dims=4, geometry=case.geometry)
        phases = {key: int(case.args[key]) for key in ("ed_frame", "es_frame")}
        count, wanted = maps.voxels.shape[-1], image.voxels.shape[-1]
        if count != wanted:
            raise CinemaError(f"{maps.name} has {count} frames and its image {wanted}.")
        labels = {
            frame: replace(maps, voxels=maps.voxels[..., frame])
            for frame in sorted(set(phases.values()))
            if 0 <= frame < count
        }
        return RawCase({"sax": RawSeries.of(image, labels)}, dict(phases))


def _case(root: Path, table: Path, row: dict[str, str]) -> CaseRef | None:
    code = row["External code"]
    if (root / UNLABELED / code).is_dir():
        return None
    folder, split = next(
        ((root / part / code, split) for part, split in FOLDERS.items() if (root / part / code).is_dir()), (None, "")
    )
    if folder is None:
        return CaseRef(code, code, "", (), problem=f"{table.name} lists it, but no folder of {root} holds it")
    try:
        args = {
            f"{phase}_frame": whole(row[phase.upper()], f"{phase.upper()} in {table.name}") for phase in ("ed", "es")
        }
    except CinemaError as error:
        return CaseRef(code, code, split, (folder,), problem=str(error))
    height, weight = metres(row.get("Height")), number(row.get("Weight"))
    fields: dict[str, Any] = {
        "pathology": row.get("Pathology"),
        "sex": sex(row.get("Sex")),
        "age": tidy(number(row.get("Age"))),
        "vendor": row.get("VendorName"),
        "centre": row.get("Centre"),
        "height": height,
        "weight": tidy(weight),
    }
    fields["bmi"] = look_up("bmi").of(fields)
    unknown = [name for name in CLINICAL if not fields[name]]
    warnings = (f"{table.name} does not say its {', '.join(unknown)}",) if unknown else ()
    return CaseRef(code, code, split, (folder,), fields, args, warnings=warnings)
