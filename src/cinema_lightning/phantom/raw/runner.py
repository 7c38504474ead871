"""Makes a raw cohort: subjects side by side, each moved into place when it is whole, then the tables."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from functools import partial
from pathlib import Path

from cinema_lightning.errors import CinemaError
from cinema_lightning.phantom.cohort import SETTINGS, read_settings, write_text
from cinema_lightning.phantom.parallel import make_each
from cinema_lightning.phantom.raw.base import LAYOUTS, RawSettings, Record
from cinema_lightning.phantom.raw.files import csv_text

TRUTH = "phantom_truth.csv"
RECORDS = ".phantom"


def make_raw(root: Path, settings: RawSettings, workers: int = 1, *, overwrite: bool = False) -> None:
    """Makes a phantom cohort in a dataset's raw layout.

    Args:
        root: Output folder; beside the layout it gets ``phantom_truth.csv``, which no reader looks at.
        settings: What to make.
        workers: Processes; the result does not depend on it.
        overwrite: Remove another raw phantom cohort that lies there first.

    Raises:
        CinemaError: If the numbering has no room for so many subjects, the folder holds something else, or something
            cannot be written; subjects that are complete stay.
    """
    layout = LAYOUTS[settings.dataset]
    if layout.most is not None and settings.subjects > layout.most:
        raise CinemaError(
            f"{layout.display} numbers {layout.most} subjects, but --subjects asks for {settings.subjects}; give fewer."
        )
    _claim(root, settings, overwrite)
    _make_all(root, settings, workers)
    records = [_record(root, index) for index in range(settings.subjects)]
    layout.tables(root, records)
    rows = [row for record in records for row in record.truth]
    write_text(root / TRUTH, csv_text(rows, list(dict.fromkeys(key for row in rows for key in row))))


def holds_raw(root: Path) -> bool:
    """Whether a folder holds a raw phantom cohort."""
    return read_settings(root / SETTINGS).get("dataset") is not None


def _claim(root: Path, settings: RawSettings, overwrite: bool) -> None:
    """Marks a folder as this cohort's, or refuses one that is another's."""
    if root.is_file():
        raise CinemaError(f"{root} is a file; give a folder as --out.")
    path, wanted = root / SETTINGS, settings.as_dict()
    if not path.exists():
        if root.is_dir() and any(root.iterdir()):
            raise CinemaError(f"{root} is not empty and holds no phantoms; give an empty or a new folder as --out.")
    else:
        found = read_settings(path)
        if found == wanted and not overwrite:
            return
        if found.get("dataset") not in LAYOUTS:
            raise CinemaError(f"{root} holds prepared phantoms, not raw ones; give another folder as --out.")
        if not overwrite:
            key = next((key for key in wanted if found.get(key) != wanted[key]), "settings")
            raise CinemaError(
                f"{root} holds raw phantoms made with {key} = {found.get(key)}, not {wanted.get(key)}; "
                "give another --out, the same settings, or --overwrite true."
            )
        _clear(root, str(found["dataset"]))
    write_text(path, json.dumps(wanted, indent=1) + "\n")


def _clear(root: Path, dataset: str) -> None:
    """Removes what a layout made, and nothing else."""
    for pattern in (*LAYOUTS[dataset].owned, RECORDS, TRUTH, SETTINGS):
        for path in root.glob(pattern):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()


def _make_all(root: Path, settings: RawSettings, workers: int) -> None:
    missing = [index for index in range(settings.subjects) if not _record_path(root, index).exists()]
    title = f"phantom {settings.dataset}"
    make_each(partial(_make, root, settings), missing, settings.subjects, workers, title)


def _make(root: Path, settings: RawSettings, index: int) -> None:
    make_subject(root, index, settings)


def _record_path(root: Path, index: int) -> Path:
    return root / RECORDS / f"{index:05d}.json"


def _record(root: Path, index: int) -> Record:
    path = _record_path(root, index)
    try:
        return Record(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise CinemaError(f"{path} is missing or damaged; delete it and run the command again.") from error


def make_subject(root: Path, index: int, settings: RawSettings) -> None:
    """Writes one subject under a temporary name, then moves its files into place and notes that it is complete.

    Raises:
        CinemaError: If something cannot be written.
    """
    partial = root / RECORDS / f"{index:05d}.partial"
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        record = LAYOUTS[settings.dataset].write(partial, index, settings)
        for source in sorted(path for path in partial.rglob("*") if path.is_file()):
            target = root / source.relative_to(partial)
            target.parent.mkdir(parents=True, exist_ok=True)
            source.replace(target)
        write_text(_record_path(root, index), json.dumps(asdict(record)))
    except (OSError, CinemaError) as error:
        cause = error if isinstance(error, OSError) else error.__cause__
        if not isinstance(cause, OSError):
            raise
        raise CinemaError(
            f"Subject {index} of {root} could not be written ({cause.strerror or cause}); the subjects made before are "
            "complete: free some space or mend the permissions, then run the command again to make the rest."
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
