"""What a folder of images seems to hold: file names as patterns, and what each of them is likely of."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from cinema_lightning.datasets.described.datalist import LISTS
from cinema_lightning.errors import CinemaError
from cinema_lightning.imaging.nifti import open_nifti
from cinema_lightning.listing import list_paths
from cinema_lightning.views import VIEWS

_ENDING = re.compile(r"\.nii(\.gz)?$|\.png$", re.IGNORECASE)
_LABEL = re.compile(r"(^|[^a-z])(gt|labels?|masks?|segs?|dseg|segmentations?|contours?|annotations?)([^a-z]|$)", re.I)
_VIEWS = {
    "lax_4c": r"4ch|4c|la4|lax4|fourchamber|four_chamber",
    "lax_3c": r"3ch|3c|la3|lax3|threechamber|three_chamber",
    "lax_2c": r"2ch|2c|la2|lax2|twochamber|two_chamber",
    "sax": r"sax|sa|shortaxis|short_axis",
}
_WORD = r"(?<![A-Za-z0-9])(?:{})(?![A-Za-z0-9])"
_PHASE = re.compile(_WORD.format("ed|es"), re.IGNORECASE)
_FRAME = re.compile(r"(?<=frame)[-_]?(\d+)|(?<![A-Za-z0-9])(?<=t)(\d+)", re.IGNORECASE)
_SPLITS = (*LISTS, "valid", "testing", "labeled", "unlabeled")
# What no folder or file of a person is called.
_KINDS = re.compile(
    r"images?|scans?|data|cines?|derivatives|anat|func|raw|nifti|dicom|imagests|imagestr", re.IGNORECASE
)
LOOKED_AT = 3


@dataclass
class Template:
    """Files whose names differ by person, phase and frame only.

    Attributes:
        pattern: As in a description.
        ids: Names of the studies.
        subjects: Names of the people.
        files: The files.
        splits: Words found at ``{split}``.
    """

    pattern: str
    ids: set[str] = field(default_factory=set)
    subjects: set[str] = field(default_factory=set)
    files: list[Path] = field(default_factory=list)
    splits: set[str] = field(default_factory=set)

    @property
    def view(self) -> str:
        """The view that its words name; empty for none."""
        words = re.sub(r"\{\w+\}", " ", self.pattern)
        words = f"{words} {words.replace('_', ' ')}"
        found = (view for view, names in _VIEWS.items() if re.search(_WORD.format(f"{names}|{view}"), words, re.I))
        return next(found, "")

    @property
    def numbers(self) -> set[int]:
        """The frames that its files name."""
        found = (_FRAME.search(_PHASE.sub("", path.name.replace("_", " "))) for path in self.files)
        return {int(match[1] or match[2]) for match in found if match}

    @property
    def is_label(self) -> bool:
        """Whether its words say label maps."""
        return _LABEL.search(re.sub(r"\{\w+\}", " ", self.pattern)) is not None

    @property
    def is_prepared(self) -> bool:
        """Whether its first file is as the published preparation leaves it: eight bits and no larger than its crop."""
        try:
            file = open_nifti(self.files[0], geometry="sform")
            size = zip(file.shape[:2], VIEWS[self.view or "sax"].crop, strict=True)
            return all(n <= most for n, most in size) and file.voxels().dtype == np.uint8
        except CinemaError:  # a PNG, or a broken file, which preparation will name
            return False

    @property
    def frames(self) -> int:
        """Frames of its first file; 1 where that cannot be told."""
        try:
            shape = open_nifti(self.files[0], geometry="sform").shape
        except CinemaError:  # a PNG, or a broken file, which preparation will name
            return 1
        return shape[3] if len(shape) > 3 else 1


def templates(folder: Path, paths: Iterable[Path]) -> list[Template]:
    """Groups files by the patterns of their names, those of most people first."""
    relative = {path: path.relative_to(folder) for path in paths if _ENDING.search(path.name)}
    depth = _person_depth(list(relative.values()))
    found: dict[str, Template] = {}
    for path, parts in relative.items():
        pattern, name, subject, split = _abstract(parts, depth)
        one = found.setdefault(pattern, Template(pattern))
        one.ids.add(name)
        one.subjects.add(subject)
        one.files.append(path)
        one.splits |= {split} - {""}
    return sorted(found.values(), key=lambda one: (-len(one.ids), one.pattern))


def _person_depth(paths: Sequence[Path]) -> int | None:
    """Depth at which folders are people's: the first whose names differ and mean nothing else; None for file names."""
    depths: dict[int, set[str]] = defaultdict(set)
    for path in paths:
        for depth, part in enumerate(path.parts[:-1]):
            depths[depth].add(part)
    for depth in sorted(depths):
        names = {name for name in depths[depth] if not _means_something(name)}
        if len(names) > 1 and len(names) == len(depths[depth]):
            return depth
    return None


def _means_something(name: str) -> bool:
    word = name.lower()
    return word in _SPLITS or bool(_KINDS.fullmatch(word) or _LABEL.fullmatch(word))


def _abstract(path: Path, depth: int | None) -> tuple[str, str, str, str]:
    """Pattern, name of the study, of the person, and word of the split."""
    parts = list(path.parts)
    split = next((part for part in parts[:-1] if part.lower() in _SPLITS), "")
    if split:
        parts[parts.index(split)] = "{split}"
    bids = [part for part in parts[:-1] if re.match(r"sub-.", part)]
    if bids:
        visit = next((part for part in parts[:-1] if re.match(r"ses-.", part)), "")
        names = {bids[0]: "{subject}", visit: "{id}"} if visit else {bids[0]: "{id}"}
        name, subject = (f"{bids[0]}_{visit}", bids[0]) if visit else (bids[0], bids[0])
    else:
        person = parts[depth] if depth is not None and depth < len(parts) - 1 else _front(parts[-1])
        names, name, subject = {person: "{id}"}, person, person
    text = "/".join(parts)
    for known, placeholder in names.items():
        text = re.sub(rf"(?<![A-Za-z0-9]){re.escape(known)}(?![A-Za-z0-9])", placeholder, text)
    head, _, tail = text.rpartition("/")
    tail = _PHASE.sub("{phase}", tail.replace("_", "\0")).replace("\0", "_")
    if "{phase}" not in tail:
        tail = _FRAME.sub(lambda found: found[0].rstrip("0123456789") + "{frame}", tail, count=1)
    return f"{head}/{tail}" if head else tail, name, subject, split


def _front(name: str) -> str:
    """Of a file's name what comes before words that mean a view, a phase, a frame or a label map."""
    stem = _ENDING.sub("", name)
    tokens = re.split(r"(_)", stem)
    kept: list[str] = []
    for token in tokens:
        word = f" {token} "
        view = any(re.search(_WORD.format(names), word, re.I) for names in (*_VIEWS.values(), *VIEWS))
        means = (
            view or _PHASE.search(word) or _LABEL.search(word) or re.fullmatch(r"(?i)frame\d+|lax|cine|t\d+|4d", token)
        )
        if means:
            break
        kept.append(token)
    return "".join(kept).rstrip("_") or stem


def is_dicom(path: Path) -> bool:
    """Whether a file is DICOM, by its ending or its first bytes."""
    if path.suffix.lower() in (".dcm", ".ima"):
        return True
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False


def dicom_pattern(folder: Path) -> str:
    """Pattern of the folders, one a study, that DICOM files lie in; empty where there are none."""
    level = folder
    while True:
        inside = [path for path in list_paths(level) if path.is_dir()]
        if len(inside) != 1 or any(path.is_file() for path in list_paths(level)):
            break
        level = inside[0]
    studies = [path for path in inside if any(is_dicom(file) for file in _some(path))]
    if not studies:
        return ""
    return (level.relative_to(folder) / "{id}").as_posix()


def _some(folder: Path) -> list[Path]:
    return [path for path in list_paths(folder, "**/*") if path.is_file()][:LOOKED_AT]


def codes_of(files: Sequence[Path]) -> dict[int, str]:
    """Codes of some label maps, and what they look like: the myocardium is a ring around the LV, the RV lies beside."""
    counts: dict[int, int] = defaultdict(int)
    rings: dict[tuple[int, int], int] = defaultdict(int)
    for path in files[:LOOKED_AT]:
        try:
            voxels = np.rint(open_nifti(path, geometry="sform").voxels()).astype(int)
        except CinemaError:  # a broken file, which preparation will name
            continue
        for code in np.unique(voxels[voxels != 0]).tolist():
            counts[code] += int((voxels == code).sum())
        for pair, size in _holes(voxels.reshape(*voxels.shape[:2], -1)).items():
            rings[pair] += size
    return _names(counts, rings)


def _holes(slices: np.ndarray) -> Mapping[tuple[int, int], int]:
    """(Ring, what fills it) -> pixels, over all slices."""
    from scipy.ndimage import binary_fill_holes

    found: dict[tuple[int, int], int] = defaultdict(int)
    for plane in np.moveaxis(slices, -1, 0):
        for code in np.unique(plane[plane != 0]).tolist():
            hole = plane[binary_fill_holes(plane == code) & (plane != code)]
            for inner in np.unique(hole[hole != 0]).tolist():
                found[code, inner] += int((hole == inner).sum())
    return found


def _names(counts: Mapping[int, int], rings: Mapping[tuple[int, int], int]) -> dict[int, str]:
    names = {code: f"class_{code}" for code in sorted(counts)}
    if rings:
        ring, inner = max(rings, key=lambda pair: rings[pair])
        names |= {ring: "myocardium", inner: "LV"}
        others = [code for code in names if code not in (ring, inner)]
        if len(others) == 1:
            names[others[0]] = "RV"
    return names
