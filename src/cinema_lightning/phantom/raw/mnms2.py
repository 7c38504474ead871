"""M&Ms-2 as shipped: ``MnM2/dataset/NNN`` with SAX and 4-chamber images at ED and ES, their labels and the cines."""

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
from cinema_lightning.phantom.raw.scan import LV_FIRST, examination, grey, grey_scale, images_of, relabel, truth_row
from cinema_lightning.phantom.truth import es_frame

COLUMNS = ("SUBJECT_CODE", "DISEASE", "VENDOR", "SCANNER", "FIELD")
PARTS = "TTVTETTTETVE"
# First number of each part, and how many numbers it has.
NUMBERS = {"T": (1, 160), "V": (161, 40), "E": (201, 160)}
# RV and TRI only occur in validation and test.
DISEASES = {
    "T": ("ARR", "CIA", "FALL", "HCM", "LV", "NOR"),
    "V": ("NOR", "RV", "HCM", "TRI", "LV", "CIA"),
    "E": ("LV", "TRI", "NOR", "RV", "HCM", "FALL", "ARR", "CIA"),
}
# Name in the table -> the phantom's scanner, model, pixels and pixel size of SAX and LAX, slice distance
SCANNERS: dict[str, tuple[str, str, Any, Any, float]] = {
    "SIEMENS": ("Siemens", "Avanto", ((208, 256), (1.34, 1.34)), ((208, 256), (1.42, 1.42)), 9.6),
    "Philips Medical Systems": ("Philips", "Achieva", ((256, 256), (1.25, 1.25)), ((256, 256), (1.25, 1.25)), 10.0),
    "GE MEDICAL SYSTEMS": ("GE", "SIGNA EXCITE", ((256, 256), (1.4062, 1.4062)), ((256, 256), (1.4062, 1.4062)), 10.0),
}


@layout
class Mnms2Layout(RawLayout):
    """Multi-Disease, Multi-View and Multi-Centre Right Ventricular Segmentation."""

    name = "mnms2"
    display = "M&Ms-2"
    most = 240  # validation has 40 numbers, and gets a sixth
    owned = ("MnM2",)

    def write(self, root: Path, index: int, settings: RawSettings) -> Record:
        """See :meth:`RawLayout.write`."""
        part, rank = place(PARTS, index)
        number, disease = NUMBERS[part][0] + rank, DISEASES[part][rank % len(DISEASES[part])]
        # Blocks of three subjects have all three vendors, in an order of their own so that none goes with a disease.
        order = generator(settings.seed, "phantom", "mnms2 vendor", part, rank // 3).permutation(3)
        vendor = list(SCANNERS)[order[rank % 3]]
        scanner, model, sax_grid, lax_grid, distance = SCANNERS[vendor]
        heart = Heart(person(settings.seed, index, {"RV": "dilated RV"}.get(disease, disease)))
        scan = examination(settings, heart.subject, scanner, sax=sax_grid, lax=lax_grid, slices=(distance, 8.0))
        views = images_of(heart, scan, ("sax", "lax_4c"))
        es = es_frame(views["sax"].phases)
        folder = root / "MnM2" / "dataset" / f"{number:03d}"
        for short, view in (("SA", "sax"), ("LA", "lax_4c")):
            series = views[view]
            images = _stacks(grey(series.images, grey_scale(settings, heart.subject, view)))
            labels = _stacks(relabel(series.labels, LV_FIRST))
            stem = f"{number:03d}_{short}"
            put_nifti(folder / f"{stem}_CINE.nii.gz", images, series.affine, 0.96 / settings.frames)
            for phase, frame in (("ED", 0), ("ES", es)):
                put_nifti(folder / f"{stem}_{phase}.nii.gz", images[frame], series.affine)
                put_nifti(folder / f"{stem}_{phase}_gt.nii.gz", labels[frame], series.affine)
        row = {
            "SUBJECT_CODE": number,
            "DISEASE": disease,
            "VENDOR": vendor,
            "SCANNER": model,
            "FIELD": 3.0 if index % 6 == 5 else 1.5,
        }
        truth = truth_row(f"{number:03d}", heart, views["sax"], 0, es, pathology=disease, vendor=vendor)
        return Record([truth], {"table": [row]})

    def tables(self, root: Path, records: Sequence[Record]) -> None:
        """See :meth:`RawLayout.tables`."""
        rows = sorted((record.rows["table"][0] for record in records), key=lambda row: row["SUBJECT_CODE"])
        put_csv(root / "MnM2" / "dataset_information.csv", rows, COLUMNS)


def _stacks(frames: np.ndarray) -> np.ndarray:
    """(T, X, Y, Z); long-axis images are stacks of one slice."""
    return frames if frames.ndim == 4 else frames[..., None]
