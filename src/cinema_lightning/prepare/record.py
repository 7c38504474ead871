"""What is kept beside a prepared study, so that a second run knows whether anything changed."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cinema_lightning.data.facts import OF_PHANTOMS
from cinema_lightning.data.table import TABLE
from cinema_lightning.datasets.base import CaseRef, Dataset
from cinema_lightning.files import replacing, write_text
from cinema_lightning.listing import is_litter
from cinema_lightning.prepare.size import Size, marked, size_of
from cinema_lightning.prepare.steps import VERSION

RECORD = "record.json"


def fingerprint(dataset: Dataset, case: CaseRef, size: Size = "full") -> str:
    """A hash of all that decides a prepared study's bytes.

    Args:
        dataset: Its labels, crop and spacings count.
        case: Its arguments count, and the names, sizes and times of modification of its source files.
        size: Size of the prepared pictures.

    Returns:
        Hexadecimal digest.

    Raises:
        OSError: If a source cannot be looked at.
    """
    targets = {
        view: [*dataset.target_spacing(view, (0.0, 0.0, 0.0)), *dataset.crop_size(view)] for view in dataset.views
    }
    sources = [entry for number, source in enumerate(case.sources) for entry in _entries(source, f"{number}")]
    content: list[Any] = [
        VERSION,
        dataset.name,
        sorted(dataset.label_map.items()),
        dataset.crop,
        dataset.crop_label,
        targets,
        dict(case.args),
        sources,
        # The full size, which was the only one once, leaves no trace, so that its studies stay up to date.
        *marked(size).values(),
    ]
    text = json.dumps(content, sort_keys=True, ensure_ascii=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _entries(path: Path, name: str) -> Iterator[list[Any]]:
    if path.is_dir():
        entries = (entry for entry in os.scandir(path) if not is_litter(entry.name))
        for entry in sorted(entries, key=lambda entry: entry.name):
            yield from _entries(Path(entry.path), f"{name}/{entry.name}")
    elif path.exists():
        stat = path.stat()
        yield [name, stat.st_size, stat.st_mtime_ns]
    else:
        yield [name, None, None]


def write_record(folder: Path, mark: str, content: dict[str, Any], size: Size = "full") -> None:
    """Writes a study's record, with the sizes of the files beside it."""
    files = {path.name: path.stat().st_size for path in sorted(folder.iterdir())}
    with replacing(folder / RECORD) as temporary:
        record = {"fingerprint": mark, **marked(size), "files": files, **content}
        text = json.dumps(record, indent=1, ensure_ascii=False, default=_plain)
        temporary.write_text(text, encoding="utf-8")


def _plain(value: Any) -> Any:
    """A reader's numpy numbers as Python's."""
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"a cell of the table is a {type(value).__name__}; give text or a number")


def recorded_size(root: Path) -> Size | None:
    """The size that the studies of a store have; None where there is none yet.

    Args:
        root: Folder of the store.
    """
    if not root.is_dir():
        return None
    for entry in os.scandir(root):
        if entry.is_dir() and not entry.name.startswith("."):
            try:
                record = json.loads((Path(entry.path) / RECORD).read_text(encoding="utf-8"))
                return size_of(record)
            except (OSError, ValueError, AttributeError):  # not a study, or a damaged one
                continue
    return None


def read_record(folder: Path) -> dict[str, Any] | None:
    """Reads a study's record; None where there is none, or where a file beside it is missing or has another size."""
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        for name, size in record["files"].items():
            if (folder / name).stat().st_size != size:
                return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return record


def note_phantoms(out: Path, cases: Sequence[CaseRef]) -> None:
    """Says in a store that it was made of phantoms only, as their raw data say; of one with people in it nothing.

    Args:
        out: Folder of the store.
        cases: All studies, of every shard.
    """
    sources = [source for case in cases for source in case.sources]
    text = _phantoms_said(sources[0]) if sources else ""
    # more than were made: somebody else's images lie among them; Landmark names a subject with the view
    people = {case.subject.removesuffix(f"_{case.args.get('view')}") for case in cases}
    made = text and len(people) <= int(json.loads(text).get("subjects") or 0)
    if made and all(map(_phantoms_said, sources)):
        write_text(out / OF_PHANTOMS, text)
    else:
        (out / OF_PHANTOMS).unlink(missing_ok=True)


def _phantoms_said(source: Path) -> str:
    """What the raw phantoms say of themselves that a file or folder is of; empty where it is of none."""
    for folder in (source, *source.parents, *Path(os.path.realpath(source)).parents):
        try:
            text = (folder / OF_PHANTOMS).read_text(encoding="utf-8")
            if json.loads(text).get("dataset") and not (folder / TABLE).is_file():  # raw ones, and no store of them
                return text
        except (OSError, ValueError, AttributeError):
            continue
    return ""
