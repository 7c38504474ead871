"""ACDC: 150 subjects of one centre, five pathologies, SAX with labels at ED and ES (Bernard et al., TMI 2018)."""

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
from cinema_lightning.datasets.files import find_folder, metres, number, tidy, whole
from cinema_lightning.errors import CinemaError
from cinema_lightning.imaging.nifti import read_volume
from cinema_lightning.listing import list_paths

FOLDERS = {"training": "train", "testing": "test"}
VALIDATION_PER_GROUP = 2


@dataset
class Acdc(Dataset):
    """Automated Cardiac Diagnosis Challenge."""

    name = "acdc"
    display = "ACDC"
    source = "https://humanheart-project.creatis.insa-lyon.fr/database/ (free, for research, CC BY-NC-SA 4.0)"
    looked_for = "database/{training,testing}/patientNNN/Info.cfg"
    views = ("sax",)
    labels = CINE_LABELS
    label_map: ClassVar[dict[int, int]] = {0: 0, 1: RV, 2: MYOCARDIUM, 3: LV}
    classes: ClassVar[dict[str, tuple[str, ...]]] = {"pathology": ("DCM", "HCM", "MINF", "NOR", "RV")}
    regression = ("lv_ef", "rv_ef", "bmi")
    measures = "volumes"
    nifti = True
    splits = "testing/ is test; of training/, two subjects per pathology (seed 0) validate"

    def cases(self, raw: Path) -> list[CaseRef]:
        """See :meth:`Dataset.cases`."""
        root = find_folder(raw, "*/*/Info.cfg", folder="database", display=self.display, looked_for=self.looked_for)
        found = [
            _case(folder, split)
            for part, split in FOLDERS.items()
            for folder in list_paths(root / part)
            if folder.is_dir()
        ]
        return self.draw_validation(found)

    def draw_validation(self, cases: list[CaseRef]) -> list[CaseRef]:
        """Two training subjects per pathology validate."""
        known = [case for case in cases if case.split == "train" and case.fields.get("pathology")]
        validate = _validation([case for case in known if case.problem is None])
        return [replace(case, split="val") if case.id in validate else case for case in cases]

    def read(self, case: CaseRef) -> RawCase:
        """See :meth:`Dataset.read`."""
        folder, name = case.sources[0], case.args["name"]
        image = read_volume(folder / f"{name}_4d.nii.gz", dims=4, geometry=case.geometry)
        labels = {
            frame: read_volume(folder / f"{name}_frame{frame + 1:02d}_gt.nii.gz", dims=3, geometry=case.geometry)
            for frame in sorted({case.args["ed_frame"], case.args["es_frame"]})
        }
        fields = {key: case.args[key] for key in ("ed_frame", "es_frame")}
        return RawCase({"sax": RawSeries.of(image, labels)}, fields)


def _case(folder: Path, split: str) -> CaseRef:
    try:
        info = _info(folder / "Info.cfg")
        # The file counts frames from 1.
        args = {"name": folder.name} | {
            f"{phase}_frame": whole(info[phase.upper()], f"{phase.upper()} in {folder / 'Info.cfg'}") - 1
            for phase in ("ed", "es")
        }
        height, weight = metres(info.get("Height")), number(info.get("Weight"))
    except CinemaError as error:
        return CaseRef(folder.name, folder.name, split, (folder,), problem=str(error))
    fields: dict[str, Any] = {
        "pathology": info["Group"],
        "height": height,
        "weight": tidy(weight),
    }
    fields["bmi"] = look_up("bmi").of(fields)
    return CaseRef(folder.name, folder.name, split, (folder,), fields, args)


def _info(path: Path) -> dict[str, str]:
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        raise CinemaError(f"{path} cannot be read ({error.strerror or error}).") from None
    info = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    for key in ("ED", "ES", "Group"):
        if not info.get(key):
            raise CinemaError(f"{path} lacks the line '{key}: ...'.")
    return info


def _validation(cases: list[CaseRef]) -> set[str]:
    """The published validation subjects: ``groupby("pathology").sample(n=2, random_state=0)`` on sorted ids."""
    import pandas as pd

    table = pd.DataFrame({"id": [case.id for case in cases], "pathology": [case.fields["pathology"] for case in cases]})
    # A part of the dataset keeps at least one training subject of each group.
    sizes = table["pathology"].map(table["pathology"].value_counts())
    table = table[sizes > VALIDATION_PER_GROUP]
    if table.empty:
        return set()
    return set(table.groupby("pathology").sample(n=VALIDATION_PER_GROUP, random_state=0)["id"])
