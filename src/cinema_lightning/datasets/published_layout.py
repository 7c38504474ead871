"""Data that went through the published preparation (https://github.com/mathpluscode/CineMA), here or on the hub.

``<split>/<id>/<id>_sax_ed.nii.gz`` and so on, with a table per split: resampled, cropped, eight bits, class codes as in
the store. It arrives there voxel for voxel. One reader serves all datasets of that layout; their facts stay their own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cinema_lightning.columns import look_up
from cinema_lightning.datasets.base import LV, RV, CaseRef, Dataset, RawCase, RawSeries
from cinema_lightning.datasets.files import metres, number, sex, tidy, whole
from cinema_lightning.errors import CinemaError
from cinema_lightning.files import natural_key
from cinema_lightning.imaging.alignment import Volume, one_series
from cinema_lightning.imaging.geometry import spacing_of
from cinema_lightning.imaging.nifti import Geometry, find_nifti, read_series, read_volume
from cinema_lightning.tables import read_table

SPLITS = ("train", "val", "test")
PHASES = ("ed", "es")
_FRAMES = ("ed_frame", "es_frame")
# Dataset -> what its ids look like; those of M&Ms are of letters and digits.
IDS = {
    "acdc": r"patient\d+",
    "mnms": r"(?!patient)(?=.*[A-Za-z])\w+",
    "mnms2": r"\d{1,3}",
    "emidec": r"[NP]\d+",
    "myops": r"\d{3}",
}
# Dataset without a cine -> ends of the names of its images, which are the frames of the series.
STILLS = {"emidec": ("",), "myops": ("_c0", "_de", "_t2")}
# Column of the published tables -> ours.
RENAMED = {"vendor_name": "vendor", "center": "centre", "field": "field_strength"}
RENAMED |= {f"{name}_spacing_{axis}": f"orig_sax_spacing_{axis}" for name in ("original_sax", "orig") for axis in "xyz"}
NUMBERS = (
    *("age", "height", "weight", "bmi", "field", "n_slices", "n_frames", "troponin", "killip_max", "ef", "ntprobnp"),
    *(f"{side}_{volume}" for side in ("lv", "rv") for volume in ("edv", "esv", "ef")),
)
TEXTS = ("pathology", "sex", "vendor", "centre", "scanner", "tobacco")
# A height above it, in metres, is in centimetres: so it stands in the table of M&Ms.
TALLEST = 3.0
# What the table says and the images have to agree with, within this share.
TOLERANCE = 0.01
SPACING_TOLERANCE = 1e-3


def layout_of(dataset: Dataset, raw: Path) -> Dataset:
    """The reader for a raw folder: the dataset's own, or that of the published layout, by what is there.

    Args:
        dataset: The dataset.
        raw: The folder that the user downloaded to.

    Returns:
        The dataset itself, or one of the same name and facts that reads the published layout.

    Raises:
        CinemaError: If the folder holds both layouts, or the published one of another dataset.
    """
    names = [folder.name for folder in _folders(raw)] if dataset.name in IDS else []
    if not names:
        return dataset
    try:
        dataset.cases(raw)
    except CinemaError:
        pass
    else:
        raise CinemaError(
            f"{raw} holds {dataset.display} as its provider ships it and as the published preparation writes it: move "
            "one of them away."
        )
    strange = [name for name in names if re.fullmatch(IDS[dataset.name], name) is None]
    if strange:
        raise CinemaError(f"{raw} holds preprocessed data, but '{strange[0]}' is no id of {dataset.display}.")
    return PublishedLayout(dataset)


def fetched(raw: Path, dataset: Dataset) -> Path:
    """A raw folder, fetched from the Hugging Face hub where it is no folder but the name of a data set there.

    Args:
        raw: A folder, or ``owner/name``.
        dataset: The dataset.

    Returns:
        The folder on this disk.

    Raises:
        CinemaError: If it cannot be fetched.
    """
    if raw.exists() or dataset.name not in IDS or re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", str(raw)) is None:
        return raw
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(str(raw), repo_type="dataset", allow_patterns=["*.nii.gz", "*.csv"]))
    except Exception as error:  # the hub client raises many unrelated kinds
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise CinemaError(
            f"There is no folder {raw}, and no data set of that name could be fetched from the Hugging Face hub "
            f"({reason}); check the path, or the name and the network."
        ) from error


def _folders(raw: Path) -> list[Path]:
    """Folders of the cases, ``<split>/<id>`` with files named after the id."""
    return [
        folder
        for split in SPLITS
        for folder in sorted((raw / split).glob("[!.]*"), key=lambda folder: natural_key(folder.name))
        if any(folder.glob(f"{folder.name}*.nii*"))
    ]


class PublishedLayout(Dataset):
    """A dataset in the published layout.

    Args:
        of: The dataset, whose facts it has; nothing is left to map, to resample, to crop or to scale.
    """

    def __init__(self, of: Dataset) -> None:
        facts = {name: getattr(of, name) for name in Dataset.__annotations__}
        done = {"label_map": {code: code for code in of.labels}, "crop": "none", "grey_levels": "as read"}
        # The table's proportions are those before the crop.
        measures = {"measures": "none"} if of.measures == "proportions" else {}
        vars(self).update(facts | done | measures)
        self._of = of

    def cases(self, raw: Path) -> list[CaseRef]:
        """See :meth:`Dataset.cases`."""
        folders = _folders(raw)
        ids = {folder.name for folder in folders}
        rows: dict[str, tuple[str, Path, dict[str, str]]] = {}
        tables = {split: table for split in SPLITS if (table := _table(raw, split)) is not None}
        for split, table in tables.items():
            for row in read_table(table, ("pid",), numbers=NUMBERS):
                name = next((name for name in (row["pid"], row["pid"].zfill(3)) if name in ids), row["pid"])
                if name in rows:
                    raise CinemaError(f"{table.name} and {rows[name][1].name} list '{name}'; an id has one split.")
                rows[name] = split, table, row
        missing = [
            CaseRef(name, name, split, (), problem=f"{table.name} lists it, but {raw} has no folder of it")
            for name, (split, table, _) in rows.items()
            if name not in ids
        ]
        found = [self._case(folder, rows.get(folder.name), bool(tables)) for folder in folders]
        # Tables may give another split than the folders do.
        given = any(case.split == "val" or case.split != case.sources[0].parent.name for case in found)
        return [*(found if given or "val" in tables else self._of.draw_validation(found)), *missing]

    def read(self, case: CaseRef) -> RawCase:
        """See :meth:`Dataset.read`."""
        folder = case.sources[0]
        if self.name in STILLS:
            raw = _stills(folder, case.id, STILLS[self.name], case.geometry)
        else:
            listed = [case.args.get(name) for name in _FRAMES]
            raw = _cines(folder, case.id, self.views, listed, case.geometry)
        for view, series in raw.series.items():
            series.affine = self._checked(view, series, folder)
            series.facts["preprocessed"] = True
            raw.fields |= {f"orig_{view}_spacing_{axis}": None for axis in "xyz"}  # as far as the images know
        _check_claims(case, raw)
        return raw

    def _case(self, folder: Path, listed: tuple[str, Path, dict[str, str]] | None, tables: bool) -> CaseRef:
        name, split = folder.name, folder.parent.name
        if listed is None:
            lacking = f"no table of {folder.parent.parent} lists it" if tables else "there is no table beside it"
            known = {"pathology": name[:1]} if self.name == "emidec" else {}  # N001 is normal, P001 pathological
            warnings = (f"{lacking}, so clinical fields are empty",)
            return CaseRef(name, name, split, (folder,), known, warnings=warnings)
        where, table, row = listed
        # EMIDEC keeps all cases in one folder.
        if where != split and any((folder.parent.parent / other).is_dir() for other in SPLITS if other != split):
            return CaseRef(name, name, split, (folder,), problem=f"it lies in {split}, but {table.name} lists it")
        try:
            fields, claims = _fields(row, self.column_names, self.name in STILLS), _claims(row, table)
        except CinemaError as error:
            return CaseRef(name, name, where, (folder,), problem=str(error))
        return CaseRef(name, name, where, (folder,), fields, claims)

    def _checked(self, view: str, series: RawSeries, folder: Path) -> np.ndarray:
        """The affine at exactly the spacing that the preparation has, of which a header keeps seven digits."""
        spacing = spacing_of(series.affine)
        target = np.array(self.target_spacing(view, spacing.tolist()))
        size, crop = series.frames.shape[1:3], self.crop_size(view)
        if not np.allclose(spacing, target, rtol=SPACING_TOLERANCE) or any(
            n > most for n, most in zip(size, crop, strict=True)
        ):
            has, wanted = (", ".join(f"{mm:g}" for mm in numbers) for numbers in (spacing, target))
            raise CinemaError(
                f"{folder}: {view} is {size[0]} x {size[1]} pixels of {has} mm; the published preparation leaves at "
                f"most {crop[0]} x {crop[1]} of {wanted} mm."
            )
        affine = np.array(series.affine, float)
        affine[:3, :3] *= target / spacing
        return affine


def _table(raw: Path, split: str) -> Path | None:
    found = [path for name in (f"{split}.csv", f"{split}_metadata.csv") if (path := raw / name).is_file()]
    if len(found) > 1:
        raise CinemaError(f"{raw} has {found[0].name} and {found[1].name}; keep the one that belongs to the images.")
    return found[0] if found else None


def _fields(row: Mapping[str, str], columns: tuple[str, ...], ef_is_measured: bool) -> dict[str, Any]:
    """Cells of the table. The volumes are counted anew: edv, esv and ef of some releases are sums of class codes."""
    named = {
        RENAMED.get(name, name): cell for name, cell in row.items() if name != "vendor" or "vendor_name" not in row
    }
    exact = [name for name in named if re.fullmatch(r"orig_\w+_spacing_[xyz]|cls_\d+_proportion", name)]
    kept = [name for name in named if name in (*TEXTS, *columns, "age", "weight", "field_strength")]
    fields: dict[str, Any] = {name: number(named[name]) for name in exact}
    fields |= {name: named[name] or None if name in TEXTS else _value(named[name]) for name in kept}
    if "sex" in named:
        fields["sex"] = sex(named["sex"])
    if "height" in named:
        height = number(named["height"])
        fields["height"] = metres(height) if height is not None and height > TALLEST else height
        fields["bmi"] = number(named.get("bmi")) or look_up("bmi").of(fields | {"weight": number(named.get("weight"))})
    if ef_is_measured:
        fields["lv_ef"] = tidy(number(named.get("ef")))
    return fields


def _value(cell: str) -> Any:
    found = number(cell)
    return tidy(found) if found is not None else cell or None


def _claims(row: Mapping[str, str], table: Path) -> dict[str, Any]:
    """What the table says of the images: volumes, numbers of frames and slices, and the frames of ED and ES from 0."""
    names = ("n_slices", "n_frames", *(f"{side}_{volume}" for side in ("lv", "rv") for volume in ("edv", "esv")))
    claims: dict[str, Any] = {name: value for name in names if (value := number(row.get(name))) is not None}
    for phase in PHASES:
        for column, first in ((f"{phase}_frame", 1), (f"{phase}_index", 0)):
            if row.get(column):
                claims[f"{phase}_frame"] = whole(row[column], f"{column} in {table.name}") - first
    return claims


def _stills(folder: Path, name: str, ends: tuple[str, ...], geometry: Geometry) -> RawCase:
    """Single images as the frames of one series; the label map belongs to the first."""
    images = [read_volume(folder / f"{name}{end}.nii.gz", dims=3, geometry=geometry) for end in ends]
    labels = _labels(folder, {0: f"{name}_gt.nii.gz"}, geometry)
    facts = {"channels": [end.strip("_").upper() for end in ends]} if len(ends) > 1 else {}
    return RawCase({"sax": RawSeries.of(one_series(images), labels, facts)})


def _cines(folder: Path, name: str, views: tuple[str, ...], listed: list[int | None], geometry: Geometry) -> RawCase:
    """The whole series where ED and ES are the same frames of it in all views, else ED and ES alone.

    Of frames that are the same, those that are listed count as ED and ES.
    """
    there = [view for view in views if any(folder.glob(f"{name}_{view}_*.nii*"))]
    series = {view: _phases(folder, f"{name}_{view}", geometry) for view in there}
    files = {view: find_nifti(folder / f"{name}_{view}_t.nii.gz") for view in there}
    cines = {view: _cine(files[view], phases, listed, geometry) for view, phases in series.items()}
    places = {(cine[1], len(cine[0])) for cine in cines.values() if cine is not None}
    if None in cines.values() or len(places) != 1:
        left_out = any(file.is_file() for file in files.values())
        warnings = ["ED and ES are not frames of its cine, which is left out"] if left_out else []
        return RawCase(series, {"ed_frame": 0, "es_frame": 1}, warnings=warnings)
    ((place, _),) = places
    for view, cine in cines.items():
        assert cine is not None
        series[view].frames = cine[0]
        series[view].labels = {place[entry]: label for entry, label in series[view].labels.items()}
    return RawCase(series, {"ed_frame": place[0], "es_frame": place[1]})


def _phases(folder: Path, stem: str, geometry: Geometry) -> RawSeries:
    images = [read_volume(folder / f"{stem}_{phase}.nii.gz", dims=3, geometry=geometry) for phase in PHASES]
    labels = _labels(folder, {entry: f"{stem}_{phase}_gt.nii.gz" for entry, phase in enumerate(PHASES)}, geometry)
    if len(labels) == 1:
        raise CinemaError(f"{folder}: {stem} has a label map of one phase, not of both.")
    return RawSeries.of(one_series(images), labels)


def _cine(
    path: Path, phases: RawSeries, listed: list[int | None], geometry: Geometry
) -> tuple[np.ndarray, tuple[int, int]] | None:
    """The whole series and where ED and ES lie in it; None where there is none or they are not in it."""
    if not path.is_file():
        return None
    frames, _ = read_series(path, geometry=geometry)
    if frames.shape[1:] != phases.frames.shape[1:]:
        return None
    found = []
    for phase, known in zip(phases.frames, listed, strict=True):
        same = [t for t, frame in enumerate(frames) if np.array_equal(frame, phase)]
        if not same:
            return None
        found.append(known if known in same else same[0])
    return frames, (found[0], found[1])


def _labels(folder: Path, names: Mapping[int, str], geometry: Geometry) -> dict[int, Volume]:
    """The label maps that are there, by frame."""
    there = {frame: path for frame, name in names.items() if (path := find_nifti(folder / name)).is_file()}
    return {frame: read_volume(path, dims=3, geometry=geometry) for frame, path in there.items()}


def _check_claims(case: CaseRef, raw: RawCase) -> None:
    """Refuses a case whose images are not those that its row describes."""
    sax = raw.series.get("sax")
    if sax is None:
        return
    found: dict[str, float] = {"n_slices": sax.frames.shape[3]}
    if len(sax.frames) > len(PHASES):
        found |= {"n_frames": len(sax.frames), **{name: raw.fields[name] for name in _FRAMES if name in raw.fields}}
    millilitres = float(np.prod(spacing_of(sax.affine))) / 1000
    for frame, volume in zip(_FRAMES, ("edv", "esv"), strict=True):
        label = sax.labels.get(raw.fields[frame]) if frame in raw.fields else None
        if isinstance(label, Volume):
            for side, code in (("lv", LV), ("rv", RV)):
                found[f"{side}_{volume}"] = int((label.voxels == code).sum()) * millilitres
    for name, value in found.items():
        said = case.args.get(name, value)
        if abs(said - value) > TOLERANCE * abs(value):
            raise CinemaError(f"its row says {name} {said:g}, its images {value:g}; do they belong together?")
