"""M&Ms-2: pairs of SAX and 4-chamber series with labels at ED and ES (Martin-Isla et al., JBHI 2023)."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np

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
from cinema_lightning.imaging.nifti import read_frame, read_nifti, read_series
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
    columns = ("scanner",)
    measures = "volumes"
    splits = "subjects 001-160 train, 161-200 val, 201-360 test"

    def cases(self, raw: Path) -> list[CaseRef]:
        """See :meth:`Dataset.cases`."""
        root = find_folder(raw, TABLE, folder="MnM2", display=self.display, looked_for=self.looked_for)
        return [_case(root, row) for row in read_table(root / TABLE, COLUMNS, numbers=("FIELD",))]

    def read(self, case: CaseRef) -> RawCase:
        """The cine of both views where ED and ES are the same frames of equally many in both, else ED and ES alone."""
        folder = case.sources[0]
        read = {view: _phases(folder, short) for view, short in FILES.items()}
        cines = {view: _cine(folder, short, read[view]) for view, short in FILES.items()}
        # a study has one ED and one ES; in series of other lengths they would be looked for at the same phase
        places = {(cine[1], len(cine[0])) for cine in cines.values() if cine is not None}
        if None in cines.values() or len(places) != 1:
            series = {
                view: RawSeries(frames, affine, dict(enumerate(labels)))
                for view, (frames, affine, labels) in read.items()
            }
            return RawCase(series, {"ed_frame": 0, "es_frame": 1})
        ((place, _),) = places
        series = {
            view: RawSeries(cine[0], read[view][1], dict(zip(place, read[view][2], strict=True)))
            for view, cine in cines.items()
            if cine is not None
        }
        return RawCase(series, {"ed_frame": place[0], "es_frame": place[1]})


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


def _phases(folder: Path, short: str) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    """ED and ES as a series of two, their affine and their label maps."""
    files = [folder / f"{folder.name}_{short}_{phase}.nii.gz" for phase in ("ED", "ES")]
    images = [read_frame(file) for file in files]
    labels = [read_nifti(file.with_name(file.name.replace(".nii.gz", "_gt.nii.gz")), dims=3)[0] for file in files]
    if images[0][0].shape != images[1][0].shape:
        raise CinemaError(f"{files[1]} is {images[1][0].shape[1:]} voxels, the ED frame {images[0][0].shape[1:]}.")
    return np.concatenate([image for image, _ in images]), images[0][1], labels


def _cine(
    folder: Path, short: str, phases: tuple[np.ndarray, np.ndarray, list[np.ndarray]]
) -> tuple[np.ndarray, tuple[int, int]] | None:
    """The whole series and where ED and ES lie in it; None where there is none or they are not in it."""
    path = folder / f"{folder.name}_{short}_CINE.nii.gz"
    if not path.is_file():
        return None
    frames, _ = read_series(path)
    if frames.shape[1:] != phases[0].shape[1:]:
        return None
    found = [next((t for t, frame in enumerate(frames) if np.array_equal(frame, phase)), None) for phase in phases[0]]
    return None if found[0] is None or found[1] is None else (frames, (found[0], found[1]))
