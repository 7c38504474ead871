"""M&Ms as shipped: ``OpenDataset`` with one table, 4D images and labels, and unlabelled cases with empty labels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cinema_lightning.data.draws import generator
from cinema_lightning.phantom.anatomy import Heart
from cinema_lightning.phantom.raw.base import RawLayout, RawSettings, Record, layout, place
from cinema_lightning.phantom.raw.files import put_csv, put_nifti
from cinema_lightning.phantom.raw.people import person
from cinema_lightning.phantom.raw.scan import (
    LV_FIRST,
    examination,
    grey,
    grey_scale,
    images_of,
    late_start,
    relabel,
    truth_row,
)
from cinema_lightning.phantom.truth import es_frame

TABLE = "211230_M&Ms_Dataset_information_diagnosis_opendataset.csv"
COLUMNS = (
    *("", "External code", "VendorName", "Vendor", "Centre", "ED", "ES"),
    *("Age", "Pathology", "Sex", "Height", "Weight"),
)
PARTS = "TTVTETUTETVE"
FOLDERS = {"T": "Training/Labeled", "U": "Training/Unlabeled", "V": "Validation", "E": "Testing"}
# Labelled training has two vendors, unlabelled training a third; validation and test have all four.
VENDORS = {
    "T": ("Siemens", "Philips"),
    "U": ("GE",),
    "V": ("Canon", "GE", "Philips", "Siemens"),
    "E": ("GE", "Siemens", "Canon", "Philips"),
}
# Diseases that training lacks occur in validation and test.
DISEASES = {
    "T": ("DCM", "HCM", "NOR", "ARV", "HHD"),
    "U": ("NOR", "DCM", "HCM"),
    "V": ("NOR", "HCM", "IHD", "DCM", "AHS"),
    "E": ("HCM", "NOR", "DCM", "HHD", "IHD", "ARV"),
}
# Vendor -> letter, centres, pixels and pixel size, slice distance
SCANNERS: dict[str, tuple[str, tuple[int, ...], tuple[tuple[int, int], tuple[float, float]], float]] = {
    "Siemens": ("A", (1,), ((256, 208), (1.32, 1.32)), 9.2),
    "Philips": ("B", (2, 3), ((240, 240), (1.45, 1.45)), 9.6),
    "GE": ("C", (4,), ((256, 256), (1.4062, 1.4062)), 10.0),
    "Canon": ("D", (5,), ((224, 224), (1.5, 1.5)), 10.0),
}
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"


@layout
class MnmsLayout(RawLayout):
    """Multi-Centre, Multi-Vendor and Multi-Disease Cardiac Segmentation Challenge."""

    name = "mnms"
    display = "M&Ms"
    owned = ("OpenDataset",)

    def write(self, root: Path, index: int, settings: RawSettings) -> Record:
        """See :meth:`RawLayout.write`."""
        part, rank = place(PARTS, index)
        vendor, disease = VENDORS[part][rank % len(VENDORS[part])], DISEASES[part][rank % len(DISEASES[part])]
        heart = Heart(person(settings.seed, index, disease))
        subject, code = heart.subject, code_of(settings.seed, index)
        letter, centres, grid, distance = SCANNERS[vendor]
        scan = examination(settings, subject, vendor, sax=grid, slices=(distance, distance))
        ed = late_start(settings, index % 5 == 1)
        sax = images_of(heart, scan, ("sax",), ed)["sax"]
        es = es_frame(sax.phases)
        labels = np.zeros_like(sax.labels)
        if part != "U":
            for frame in (ed, es):
                labels[frame] = relabel(sax.labels[frame], LV_FIRST)
        folder = root / "OpenDataset" / FOLDERS[part] / code
        images = grey(sax.images, grey_scale(settings, subject))
        put_nifti(folder / f"{code}_sa.nii.gz", images, sax.affine, 0.96 / settings.frames)
        put_nifti(folder / f"{code}_sa_gt.nii.gz", labels, sax.affine, 0.96 / settings.frames)
        row: dict[str, Any] = {
            "External code": code,
            "VendorName": vendor,
            "Vendor": letter,
            "Centre": centres[rank % len(centres)],
            "ED": ed,
            "ES": es,
            "Age": int(subject.age),
            "Pathology": disease,
            "Sex": subject.sex,
            "Height": None if index % 7 == 3 else round(100 * subject.height, 1),
            "Weight": None if index % 4 == 2 else subject.weight,
        }
        truth = truth_row(code, heart, sax, ed, es, pathology=disease, vendor=vendor, part=FOLDERS[part])
        return Record([truth], {"table": [row]})

    def tables(self, root: Path, records: Sequence[Record]) -> None:
        """See :meth:`RawLayout.tables`."""
        rows = [{"": number} | record.rows["table"][0] for number, record in enumerate(records)]
        put_csv(root / "OpenDataset" / TABLE, rows, COLUMNS)


def code_of(seed: int, index: int) -> str:
    """The case's code of six letters and digits."""
    picks = generator(seed, "phantom", "mnms code", index).integers(len(LETTERS), size=6)
    return "".join(LETTERS[pick] for pick in picks)
