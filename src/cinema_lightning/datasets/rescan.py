"""Rescan: pickled cines with labels in all frames, and scan-rescan pairs (Bhuva et al., Circ CV Imaging 2019)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from cinema_lightning.columns import Column, look_up
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
from cinema_lightning.datasets.files import find_folder, number, safe_id
from cinema_lightning.errors import CinemaError
from cinema_lightning.files import natural_key
from cinema_lightning.imaging.geometry import affine_from_lps, directions_from_cosines
from cinema_lightning.imaging.pickles import load_arrays
from cinema_lightning.listing import list_paths
from cinema_lightning.tables import read_table

RETEST = "test_retest_100"
COLUMNS = ("A", "B1", "B2", "EDV_A", "ESV_A", "EDV_B1", "EDV_B2", "ESV_B1", "ESV_B2")
FILES = {"lax_2c": "2C.pickle", "lax_4c": "4C.pickle", "sax": "SAX.pickle"}
LABELS = "SAX_segs.pickle"


@dataset
class Rescan(Dataset):
    """Scan-rescan cohort; ids scan_NN_A, scan_NN_B1 and scan_NN_B2 are one person's first and second visit."""

    name = "rescan"
    display = "Rescan"
    source = "on request from its authors at UCL, see https://doi.org/10.1161/CIRCIMAGING.119.009214"
    looked_for = "pickle/{train,test}/**/SAX.pickle or pickle/test_retest_100/labels.csv"
    views = ("sax", "lax_2c", "lax_4c")
    labels = CINE_LABELS
    label_map: ClassVar[dict[int, int]] = {0: 0, 1: LV, 2: MYOCARDIUM, 3: RV}
    crop = "plane intersection"
    regression = ("lv_ef",)
    columns = (
        Column("scan", kind="class"),
        Column("lv_edv_scan", "LVEDV of the scan", "ml"),
        Column("lv_esv_scan", "LVESV of the scan", "ml"),
    )
    measures = "volumes"
    ed_es_from_volumes = True
    splits = "of each group of pickle/train the first validates; pickle/test and the scan-rescan pairs are test"

    def cases(self, raw: Path) -> list[CaseRef]:
        """See :meth:`Dataset.cases`."""
        root = find_folder(raw, "t*/**/SAX.pickle", folder="pickle", display=self.display, looked_for=self.looked_for)
        found = _labelled(root / "train", validate=True) + _labelled(root / "test", validate=False)
        if (root / RETEST).is_dir():
            found += _pairs(root / RETEST)
        return found

    def read(self, case: CaseRef) -> RawCase:
        """See :meth:`Dataset.read`."""
        folder = case.sources[0]
        contents = {view: load_arrays(folder / name) for view, name in FILES.items()}
        sax = contents["sax"]
        depth = _spacing(sax, "SliceSpacing", folder / FILES["sax"])[0]
        series = {view: _long_axis(contents[view], depth, folder / FILES[view]) for view in ("lax_2c", "lax_4c")}
        stack = _short_axis(sax, depth, folder / FILES["sax"])
        if case.args["labelled"]:
            maps = _voxels(load_arrays(folder / LABELS), "image_segmentation", 4, folder / LABELS)
            stack.labels = dict(enumerate(_time_first(maps)))
        return RawCase({"sax": stack, **series})


def _labelled(top: Path, *, validate: bool) -> list[CaseRef]:
    """Labelled scans: GROUP/s_NNNN of train, the first of each group validates; scan_NN_A, scan_NN_B of test."""
    folders = sorted({path.parent for path in list_paths(top, "**/*.pickle")}, key=lambda path: natural_key(str(path)))
    first = {folder.parent: folder for folder in reversed(folders)}
    found = []
    for folder in folders:
        name = safe_id(str(folder.relative_to(top)))
        subject = name
        fields: dict[str, Any] = {}
        if not validate:
            # Its folders are called scan_NN_A and scan_NN_B as well, without being the rows of labels.csv.
            name = f"test_{name}"
            pair = re.fullmatch(r"(.*)_([AB]\d?)", name)
            subject = pair[1] if pair else name
            fields = {"scan": pair[2]} if pair else {}
        split = "test" if not validate else "val" if first[folder.parent] == folder else "train"
        missing = [file for file in (*FILES.values(), LABELS) if not (folder / file).is_file()]
        problem = f"{folder / missing[0]} is missing" if missing else None
        found.append(CaseRef(name, subject, split, (folder,), fields, {"labelled": True}, problem))
    return found


def _pairs(folder: Path) -> list[CaseRef]:
    found = []
    for index, row in enumerate(read_table(folder / "labels.csv", COLUMNS, numbers=COLUMNS[3:])):
        volumes = {name: number(row[name]) for name in COLUMNS[3:]}
        mean = {phase: _mean(volumes[f"{phase}_B1"], volumes[f"{phase}_B2"]) for phase in ("EDV", "ESV")}
        for scan in ("A", "B1", "B2"):
            name = _folder_name(row[scan])
            if name is None:
                continue
            # As published, the second visit's volumes are the mean of its two readings.
            edv, esv = (volumes[f"{phase}_A"] if scan == "A" else mean[phase] for phase in ("EDV", "ESV"))
            fields: dict[str, Any] = {
                "scan": scan,
                "lv_edv": edv,
                "lv_esv": esv,
                "lv_edv_scan": volumes[f"EDV_{scan}"],
                "lv_esv_scan": volumes[f"ESV_{scan}"],
            }
            fields["lv_ef"] = look_up("lv_ef").of(fields)
            subject = f"scan_{index:02d}"
            source = folder / name
            problem = None if source.is_dir() else f"labels.csv lists it, but {source} is missing"
            found.append(CaseRef(f"{subject}_{scan}", subject, "test", (source,), fields, {"labelled": False}, problem))
    return found


def _folder_name(cell: str) -> str | None:
    """Folder of a scan: 12, or 12.0 where the column has gaps."""
    value = number(cell)
    if value is not None:
        return str(int(value)) if value == int(value) else cell
    return safe_id(cell) if cell.strip() and cell.strip().lower() != "nan" else None


def _mean(one: float | None, other: float | None) -> float | None:
    known = [value for value in (one, other) if value is not None]
    return sum(known) / len(known) if known else None


def _voxels(content: dict[str, Any], key: str, dims: int, path: Path) -> np.ndarray:
    array = content.get(key)
    if not isinstance(array, np.ndarray) or array.ndim != dims or array.dtype.kind not in "uifb" or 0 in array.shape:
        raise CinemaError(f"{path} has no array '{key}' of {dims} axes.")
    return array


def _numbers(content: dict[str, Any], key: str, path: Path) -> np.ndarray:
    try:
        value = np.asarray(content[key], dtype=float)
    except (KeyError, TypeError, ValueError):
        raise CinemaError(f"{path} has no usable '{key}'.") from None
    if value.size == 0 or not np.isfinite(value).all():
        raise CinemaError(f"{path} has no usable '{key}'.")
    return value


def _spacing(content: dict[str, Any], key: str, path: Path) -> list[float]:
    value = _numbers(content, key, path).reshape(-1)
    if (value <= 0).any():
        raise CinemaError(f"{path} has the {key} {value.tolist()}.")
    return value.tolist()


def _affine(content: dict[str, Any], depth: float, path: Path) -> np.ndarray:
    """Geometry of the last row where there is one per slice, since SAX slices are stored in reverse."""
    origins = _numbers(content, "ImagePositionPatient", path).reshape(-1, 3)
    cosines = _numbers(content, "ImageOrientationPatient", path).reshape(-1, 6)[-1]
    x, y = _spacing(content, "PixelSpacing", path)[-2:]
    directions = directions_from_cosines(cosines.tolist(), name=str(path))
    # Where the positions say so, the reversed slices run against row x column.
    if len(origins) > 1 and (origins[-2] - origins[-1]) @ directions[:, 2] < 0:
        directions[:, 2] *= -1
    return affine_from_lps(origins[-1].tolist(), directions, (x, y, depth))


def _time_first(voxels: np.ndarray) -> np.ndarray:
    """(z, t, y, x), stored last slice first, to (T, X, Y, Z)."""
    return voxels[::-1].transpose(1, 3, 2, 0)


def _short_axis(content: dict[str, Any], depth: float, path: Path) -> RawSeries:
    return RawSeries(_time_first(_voxels(content, "image_voxels", 4, path)), _affine(content, depth, path))


def _long_axis(content: dict[str, Any], depth: float, path: Path) -> RawSeries:
    voxels = _voxels(content, "image_voxels", 3, path)
    return RawSeries(voxels.transpose(0, 2, 1)[..., None], _affine(content, depth, path))
