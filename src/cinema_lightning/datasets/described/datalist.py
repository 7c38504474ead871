"""Descriptions that are JSON already: nnU-Net's ``dataset.json``, and lists of files as MONAI reads them."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cinema_lightning.datasets.base import DATASETS
from cinema_lightning.datasets.described.description import BY_VOLUME, Description, structure
from cinema_lightning.datasets.described.patterns import PHASES
from cinema_lightning.datasets.described.people import TAKEN
from cinema_lightning.datasets.described.studies import Entry, FoundStudy, Role
from cinema_lightning.errors import CinemaError
from cinema_lightning.files import natural_key
from cinema_lightning.listing import list_paths

LISTS = {"training": "train", "train": "train", "validation": "val", "val": "val", "test": "test", "testing": "test"}
NNUNET_SPLITS = {"Tr": "train", "Ts": "test"}
_ENDINGS = re.compile(r"\.(nii(\.gz)?|png|mha|nrrd)$", re.IGNORECASE)
_FRAMES = re.compile(r"(?P<subject>.+?)(?P<between>_frame_?|_phase_?|_t)(?P<frame>\d+)")


def read_json(path: Path) -> dict[str, Any]:
    """Reads a JSON object; CinemaError where it is none."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CinemaError(f"{path} cannot be read ({error.strerror or error}).") from None
    except ValueError as error:
        raise CinemaError(f"{path} is not valid JSON: {error}.") from None
    if not isinstance(content, dict):
        raise CinemaError(f"{path} is a {type(content).__name__}, not an object: give a dataset.json or a datalist.")
    return content


def content_of(path: Path, view: str = "sax", phases: Sequence[str] = ()) -> dict[str, Any]:
    """What a JSON says, as the content of a description.

    Args:
        path: nnU-Net's dataset.json, or a datalist.
        view: View of its images.
        phases: How file names call ED and ES at their end; by default names say no phase.

    Returns:
        See :func:`~cinema_lightning.datasets.described.description.parse`.

    Raises:
        CinemaError: If it is neither, or cannot be taken.
    """
    path = Path(path)
    data = read_json(path)
    if len(phases) not in (0, 2):
        raise CinemaError(f"--phases is {list(phases)}; give the words for ED and ES, such as [ED,ES].")
    words = {"phases": dict(zip(("ED", "ES"), phases, strict=True))} if phases else {}
    name = usable_name(str(data.get("name") or path.resolve().parent.name))
    channels = data.get("channel_names") or data.get("modality") or {"0": "image"}
    ending = str(data.get("file_ending") or ".nii.gz")
    if list_paths(path.parent, f"imagesTr/*_0000{ending}"):
        return {"name": name, **_nnunet(path, data, channels, ending, view, words)}
    if not any(isinstance(data.get(key), list) for key in LISTS):
        raise CinemaError(
            f"{path} is neither nnU-Net's dataset.json (there is no imagesTr/*_0000{ending} beside it) nor a datalist "
            "(it lists no training, validation or test)."
        )
    labels = _named_labels(path, data)
    return {"name": name, "views": {view: {}}, "datalist": path.name, **({"labels": labels} if labels else {}), **words}


def usable_name(text: str) -> str:
    """The name of a dataset from that of a folder; of one that is known, another."""
    name = re.sub(r"\W+", "_", text).strip("_").lower() or "mine"
    return f"my_{name}" if name in DATASETS or name == "phantom" else name


def _nnunet(
    path: Path, data: Mapping[str, Any], channels: Mapping[str, Any], ending: str, view: str, words: dict[str, Any]
) -> dict[str, Any]:
    """Patterns of imagesTr, imagesTs and labelsTr; channels are sequences."""
    labels = _named_labels(path, data)
    names = [file.name.removesuffix(f"_0000{ending}") for file in list_paths(path.parent, f"imagesTr/*_0000{ending}")]
    stem, more = _stem(names, labels, words)
    images = {str(name): f"images{{split}}/{stem}_{int(number):04d}{ending}" for number, name in channels.items()}
    files: dict[str, Any] = {"images": images if len(images) > 1 else next(iter(images.values()))}
    if labels:
        files["labels"] = f"labels{{split}}/{stem}{ending}"
    return {"views": {view: files}, "labels": labels, **more, "splits": {"values": dict(NNUNET_SPLITS)}}


def _stem(names: Sequence[str], labels: Mapping[str, Any], words: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """How cases are called; those of one person (``_ED``, ``_frame01``) are one study, or they would train and test."""
    if words or all(_phase_at_end(name) for name in names):
        return "{id}_{phase}", words
    found = [_FRAMES.fullmatch(name) for name in names]
    matches = [match for match in found if match]
    repeated = max(Counter(match["subject"] for match in matches).values(), default=0) > 1
    if len(matches) < len(names) or len({match["between"] for match in matches}) > 1 or not repeated:
        return "{id}", words
    by_volume = "LV blood pool" in map(structure, labels)
    return f"{{id}}{matches[0]['between']}{{frame}}", {"phases": BY_VOLUME} if by_volume else {}


def _phase_at_end(name: str) -> bool:
    return name.rpartition("_")[2].upper() in PHASES


def _named_labels(path: Path, data: Mapping[str, Any]) -> dict[str, Any]:
    """Class -> code; older files say it the other way round."""
    labels = data.get("labels") or {}
    if not isinstance(labels, dict):
        raise CinemaError(f"{path}: labels is {labels!r}; it has to map the names of the classes to their codes.")
    if "ignore" in labels:
        raise CinemaError(f"{path} has voxels to ignore (labels.ignore), for which there is no place here.")
    if labels and all(re.fullmatch(r"\d+", str(key)) for key in labels):
        return {str(name): int(code) for code, name in labels.items()}
    return dict(labels)


def listed_studies(description: Description, raw: Path) -> list[FoundStudy]:
    """The studies of a datalist.

    Raises:
        CinemaError: If an item cannot be understood; names it.
    """
    beside = [raw / description.datalist, Path(description.source).parent / description.datalist]
    path = next((path for path in beside if path.is_file()), beside[0])
    data, (view,) = read_json(path), tuple(description.views) or ("sax",)
    items = [
        (key, number, item) for key in LISTS if isinstance(data.get(key), list) for number, item in enumerate(data[key])
    ]
    names = [_name(_first(path, key, number, item)) for key, number, item in items]
    ambiguous = {name for name, count in Counter(names).items() if count > 1}
    studies: dict[str, FoundStudy] = {}
    for (key, number, item), name in zip(items, names, strict=True):
        image = _first(path, key, number, item)
        own = _name(image, whole=True) if name in ambiguous else name
        own, phase = _without_phase(own, description.phases)
        about = item if isinstance(item, dict) else {}
        subject = str(about.get("subject") or about.get("patient") or own)
        study = studies.setdefault(own, FoundStudy(own, subject, _split(LISTS[key], about)))
        if study.split != _split(LISTS[key], about):
            raise CinemaError(f"{path}: {own} is in two of the lists; a study has one split.")
        study.entries += _entries(item, view, phase, raw)
        study.fields |= _fields(about)
        if taken := TAKEN & set(study.fields):
            raise CinemaError(f"{path}: item {number} of {key} has the key '{min(taken)}', which is needed: rename it.")
    if not description.labels and any(entry.role == "label" for study in studies.values() for entry in study.entries):
        raise CinemaError(
            f"{path} does not say what the codes of its label maps mean: add labels to it, such as "
            '"labels": {"background": 0, "LV": 1}.'
        )
    return sorted(studies.values(), key=lambda study: natural_key(study.id))


def _split(split: str, item: Mapping[str, Any]) -> str:
    """Of folds, the first validates, as MONAI's own recipes have it."""
    return "val" if split == "train" and item.get("fold") == 0 else split


def _first(path: Path, key: str, number: int, item: Any) -> str:
    image = item.get("image") if isinstance(item, dict) else item
    image = image[0] if isinstance(image, list) and image else image
    if not isinstance(image, str):
        raise CinemaError(f"{path}: item {number} of {key} names no image; it needs the key image.")
    return image


def _name(image: str, *, whole: bool = False) -> str:
    """Of a file's path its name; the folders in front where names alone are not unique."""
    stem = _ENDINGS.sub("", image).removeprefix("./")
    return re.sub(r"[/\\]+", "_", stem) if whole else Path(stem).name


def _without_phase(name: str, phases: Mapping[str, Sequence[str]]) -> tuple[str, str]:
    front, _, end = name.rpartition("_")
    phase = next((phase for phase, words in phases.items() if end.lower() in map(str.lower, words)), "")
    return (front, phase) if phase and front else (name, "")


def _entries(item: Any, view: str, phase: str, raw: Path) -> list[Entry]:
    about = item if isinstance(item, dict) else {"image": item}
    images = about["image"] if isinstance(about["image"], list) else [about["image"]]
    files: list[tuple[Role, str, str]] = [
        ("image", str(number) if len(images) > 1 else "", image) for number, image in enumerate(images)
    ]
    if isinstance(about.get("label"), str):
        files.append(("label", "", about["label"]))
    return [Entry(view, role, sequence, phase, None, raw / name) for role, sequence, name in files]


def _fields(item: Mapping[str, Any]) -> dict[str, Any]:
    """What an item says of a person: anything but files and what they are."""
    used = ("image", "fold", "subject", "patient")
    label = item.get("label")
    kept = {name: value for name, value in item.items() if name not in used and isinstance(value, int | float | str)}
    return {name: value for name, value in kept.items() if name != "label" or not isinstance(label, str)}
