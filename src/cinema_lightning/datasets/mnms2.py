"""M&Ms-2: pairs of SAX and 4-chamber series with labels at ED and ES (Martin-Isla et al., JBHI 2023)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from cinema_lightning.columns import Column
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
from cinema_lightning.datasets.files import find_folder, number, tidy, whole
from cinema_lightning.errors import CinemaError
from cinema_lightning.imaging.alignment import Volume, on_grid, one_series
from cinema_lightning.imaging.nifti import Geometry, find_nifti, read_volume
from cinema_lightning.tables import read_table

TABLE = "dataset_information.csv"
COLUMNS = ("SUBJECT_CODE", "DISEASE", "VENDOR", "SCANNER", "FIELD")
FILES = {"sax": "SA", "lax_4c": "LA"}
LAST_TRAIN, LAST_VAL = 160, 200


@dataset
class Mnms2(Dataset):
    """Multi-Disease, Multi-View and Multi-Centre Right Ventricular Segmentation."""

    name = "mnms2"
    display = "M&Ms-2"
    source = "https://www.ub.edu/mnms-2/ (free on request, for research, CC BY-NC-SA 4.0)"
    looked_for = "MnM2/dataset_information.csv and MnM2/dataset/NNN/NNN_SA_ED.nii.gz"
    views = ("sax", "lax_4c")
    labels = CINE_LABELS
    label_map: ClassVar[dict[int, int]] = {0: 0, 1: LV, 2: MYOCARDIUM, 3: RV}
    classes: ClassVar[dict[str, tuple[str, ...]]] = {
        "pathology": ("ARR", "CIA", "FALL", "HCM", "LV", "NOR"),
        "vendor": ("GE MEDICAL SYSTEMS", "Philips Medical Systems", "SIEMENS"),
    }
    regression = ("lv_ef", "rv_ef")
    columns = (Column("scanner", kind="class"),)
    measures = "volumes"
    nifti = True
    splits = "subjects 001-160 train, 161-200 val, 201-360 test"

    def cases(self, raw: Path) -> list[CaseRef]:
        """See :meth:`Dataset.cases`."""
        root = find_folder(raw, TABLE, folder="MnM2", display=self.display, looked_for=self.looked_for)
        return [_case(root, row) for row in read_table(root / TABLE, COLUMNS, numbers=("FIELD",))]

    def read(self, case: CaseRef) -> RawCase:
        """The cine of both views where ED and ES are the same frames of equally many in both, else ED and ES alone."""
        folder = case.sources[0]
        read = {view: _phases(folder, short, case.geometry) for view, short in FILES.items()}
        files = {view: find_nifti(folder / f"{folder.name}_{short}_CINE.nii.gz") for view, short in FILES.items()}
        warnings: list[str] = []
        cines: dict[str, tuple[Volume, tuple[int, int]] | None] = dict.fromkeys(FILES)
        for view, file in files.items():
            cine = read_volume(file, dims=4, geometry=case.geometry) if file.is_file() else None
            try:
                cines[view] = _cine(cine, read[view][0]) if cine is not None else None
            except CinemaError as error:
                warnings.append(f"{error}; the cine was left out")
        # a study has one ED and one ES; in series of other lengths they would be looked for at the same phase
        places = {(cine[1], cine[0].voxels.shape[-1]) for cine in cines.values() if cine is not None}
        if None in cines.values() or len(places) != 1:
            series = {view: RawSeries.of(image, dict(enumerate(labels))) for view, (image, labels) in read.items()}
            return RawCase(series, {"ed_frame": 0, "es_frame": 1}, warnings=warnings)
        ((place, _),) = places
        series = {
            view: RawSeries.of(cine[0], dict(zip(place, read[view][1], strict=True)))
            for view, cine in cines.items()
            if cine is not None
        }
        return RawCase(series, {"ed_frame": place[0], "es_frame": place[1]}, warnings=warnings)


def _case(root: Path, row: dict[str, str]) -> CaseRef:
    code = row["SUBJECT_CODE"]
    try:
        number_of_subject = whole(code, f"SUBJECT_CODE in {root / TABLE}")
    except CinemaError as error:
        return CaseRef(code, code, "", (), problem=str(error))
    name = f"{number_of_subject:03d}"
    split = "train" if number_of_subject <= LAST_TRAIN else "val" if number_of_subject <= LAST_VAL else "test"
    fields: dict[str, Any] = {
        "pathology": row["DISEASE"],
        "vendor": row["VENDOR"],
        "scanner": row["SCANNER"],
        "field_strength": tidy(number(row["FIELD"])),
    }
    return CaseRef(name, name, split, (root / "dataset" / name,), fields)


def _phases(folder: Path, short: str, geometry: Geometry) -> tuple[Volume, list[Volume]]:
    """ED and ES as a series of two, and their label maps."""
    images, labels = (
        [
            read_volume(folder / f"{folder.name}_{short}_{phase}{kind}.nii.gz", dims=3, geometry=geometry)
            for phase in ("ED", "ES")
        ]
        for kind in ("", "_gt")
    )
    return one_series(images), labels


def _cine(cine: Volume, phases: Volume) -> tuple[Volume, tuple[int, int]] | None:
    """The whole series on the grid of ED and ES, and where they lie in it; None where they do not."""
    voxels, note = on_grid(cine, phases)
    found = [
        next((t for t in range(voxels.shape[-1]) if np.array_equal(voxels[..., t], phases.voxels[..., phase])), None)
        for phase in range(2)
    ]
    if found[0] is None or found[1] is None:
        return None
    notes = (*phases.notes, *cine.notes, *filter(None, [note]))
    return replace(phases, voxels=voxels, notes=notes), (found[0], found[1])
