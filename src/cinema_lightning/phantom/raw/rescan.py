"""The scan-rescan cohort as shipped: pickled arrays, labels in all frames, and pairs of scans of the same heart."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cinema_lightning.imaging.geometry import LPS_TO_RAS
from cinema_lightning.phantom.anatomy import Heart
from cinema_lightning.phantom.imaging import ViewSeries
from cinema_lightning.phantom.raw.base import RawLayout, RawSettings, Record, layout, place
from cinema_lightning.phantom.raw.dicom import geometry
from cinema_lightning.phantom.raw.files import put_csv, put_pickle
from cinema_lightning.phantom.raw.people import person
from cinema_lightning.phantom.raw.scan import (
    LV_FIRST,
    examination,
    grey,
    grey_scale,
    images_of,
    relabel,
    truth_row,
)
from cinema_lightning.phantom.subject import PATHOLOGIES

COLUMNS = ("A", "B1", "B2", "EDV_A", "ESV_A", "EDV_B1", "EDV_B2", "ESV_B1", "ESV_B2")
PARTS = "TTPETPTT"
VIEWS = {"lax_2c": "2C", "lax_4c": "4C", "sax": "SAX"}
SAX, LAX = ((208, 256), (1.4, 1.4)), ((208, 208), (1.6, 1.6))
SCANS = ("A", "B1", "B2")
GROUPS, GROUP_SIZE = 2, 16  # two groups grow side by side, then the next two


@layout
class RescanLayout(RawLayout):
    """Scan-rescan cohort of the Volumes Resource."""

    name = "rescan"
    display = "Rescan"
    owned = ("pickle",)

    def write(self, root: Path, index: int, settings: RawSettings) -> Record:
        """See :meth:`RawLayout.write`."""
        part, rank = place(PARTS, index)
        heart = Heart(person(settings.seed, index, PATHOLOGIES[index % len(PATHOLOGIES)]))
        if part == "P":
            return self._pair(root, rank, heart, settings)
        if part == "E":
            return self._labelled_pair(root, rank, heart, settings)
        group = GROUPS * (rank // (GROUPS * GROUP_SIZE)) + rank % GROUPS + 1
        name = f"group_{group}/s_{index:04d}"
        sax = _scan(root / "pickle" / "train" / name, heart, settings, visit=0, labelled=True)
        return Record([_truth(name.replace("/", "_"), heart, sax)])

    def _labelled_pair(self, root: Path, rank: int, heart: Heart, settings: RawSettings) -> Record:
        """Two labelled scans of one person; their numbers are not the rows of labels.csv."""
        record = Record()
        for visit, scan in enumerate(("A", "B")):
            name = f"scan_{rank:02d}_{scan}"
            sax = _scan(root / "pickle" / "test" / name, heart, settings, visit=visit, labelled=True)
            record.truth.append(_truth(f"test_{name}", heart, sax, scan=scan))
        return record

    def _pair(self, root: Path, rank: int, heart: Heart, settings: RawSettings) -> Record:
        row: dict[str, Any] = {}
        record = Record(rows={"labels": [row]})
        # Every second person was scanned once only on the second day.
        for number, scan in enumerate(SCANS if rank % 2 == 0 else SCANS[:2]):
            folder = root / "pickle" / "test_retest_100" / str(3 * rank + number + 1)
            sax = _scan(folder, heart, settings, visit=number, labelled=False)
            truth = _truth(f"scan_{rank:02d}_{scan}", heart, sax, scan=scan)
            row |= {scan: int(folder.name), f"EDV_{scan}": truth["lv_edv"], f"ESV_{scan}": truth["lv_esv"]}
            record.truth.append(truth)
        return record

    def tables(self, root: Path, records: Sequence[Record]) -> None:
        """See :meth:`RawLayout.tables`."""
        rows = [row for record in records for row in record.rows.get("labels", [])]
        if rows:
            put_csv(root / "pickle" / "test_retest_100" / "labels.csv", rows, COLUMNS)


def _scan(folder: Path, heart: Heart, settings: RawSettings, *, visit: int, labelled: bool) -> ViewSeries:
    """Images the heart once; another visit differs by position, planes and noise only."""
    acquisition = examination(settings, heart.subject, "Siemens", sax=SAX, lax=LAX, visit=visit)
    series = images_of(heart, acquisition, tuple(VIEWS))
    for view, name in VIEWS.items():
        images = grey(series[view].images, grey_scale(settings, heart.subject), np.uint16)
        put_pickle(folder / f"{name}.pickle", _content(images, series[view]))
    sax = series["sax"]
    if labelled:
        stored = _slices_last_to_first(relabel(sax.labels, LV_FIRST), sax.affine)
        put_pickle(folder / "SAX_segs.pickle", {"image_segmentation": stored})
    return sax


def _content(images: np.ndarray, series: ViewSeries) -> dict[str, Any]:
    header = geometry(series.affine)
    spacing = header["PixelSpacing"]
    content: dict[str, Any] = {
        "ImageOrientationPatient": np.array(header["ImageOrientationPatient"]),
        "PixelSpacing": np.array([spacing[1], spacing[0]]),  # x first here
        "SliceSpacing": round(series.spacing[2], 6),
    }
    if series.view != "sax":
        position = np.array(header["ImagePositionPatient"])
        return content | {"image_voxels": images.transpose(0, 2, 1), "ImagePositionPatient": position}
    positions = np.array([geometry(series.affine, z)["ImagePositionPatient"] for z in range(images.shape[-1])])
    if not _runs_against_normal(series.affine):
        positions = positions[::-1]
    return content | {
        "image_voxels": _slices_last_to_first(images, series.affine),
        "ImagePositionPatient": positions,
    }


def _slices_last_to_first(stack: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """(T, X, Y, Z) to (Z, T, Y, X), the slices in such an order that the reverse runs along row x column."""
    stored = stack.transpose(3, 0, 2, 1)
    return stored if _runs_against_normal(affine) else stored[::-1]


def _runs_against_normal(affine: np.ndarray) -> bool:
    return bool(np.linalg.det((LPS_TO_RAS @ affine)[:3, :3]) < 0)


def _truth(name: str, heart: Heart, sax: ViewSeries, **more: Any) -> dict[str, Any]:
    """Truth with ED and ES where the LV is largest and smallest by voxels, as this dataset has them."""
    volumes = (sax.labels == 3).sum(axis=(1, 2, 3))
    return truth_row(name, heart, sax, int(volumes.argmax()), int(volumes.argmin()), **more)
