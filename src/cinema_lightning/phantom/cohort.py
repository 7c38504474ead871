"""Writes a cohort of phantoms as preparation leaves real ones: a store of series, ``cohort.csv``, ``landmarks.csv``."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from cinema_lightning import __version__
from cinema_lightning.data.draws import generator
from cinema_lightning.data.store import series_path, write_series
from cinema_lightning.errors import CinemaError
from cinema_lightning.files import replacing
from cinema_lightning.imaging.intensity import to_uint8
from cinema_lightning.phantom.acquisition import Acquisition
from cinema_lightning.phantom.anatomy import Heart
from cinema_lightning.phantom.imaging import Imager, ViewSeries
from cinema_lightning.phantom.parallel import make_each
from cinema_lightning.phantom.subject import Subject, draw_subject
from cinema_lightning.phantom.truth import landmarks, table_row

# Frames over the cycle by size, if none are asked for.
FRAMES = {"full": 50, "small": 8}
SETTINGS, ROW = "phantom.json", "row.json"
# name, share, noise, blur in mm, shading: what tells scanners apart in cine images
SCANNERS = (
    ("Siemens", 0.45, 0.014, 1.8, 0.85),
    ("Philips", 0.30, 0.012, 2.1, 0.7),
    ("GE", 0.25, 0.019, 2.0, 1.0),
)


@dataclass(frozen=True)
class Settings:
    """What decides the bytes of a cohort, apart from the number of subjects.

    Attributes:
        seed: Seed of everything.
        size: full (192 x 192 x ~11 and 256 x 256) or small.
        frames: Frames over the cycle.
        missing_views: Chance of a view to be missing.
    """

    seed: int = 0
    size: Literal["full", "small"] = "full"
    frames: int = 50
    missing_views: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        """Plain values, with the version of the software that gives these bytes."""
        return {
            "seed": self.seed,
            "size": self.size,
            "frames": self.frames,
            "missing_views": self.missing_views,
            "version": __version__,
        }


def scanner(subject: Subject) -> tuple[str, str, float, dict[str, Any]]:
    """Vendor, centre, field strength (T) and the acquisition's noise, blur (mm) and shading for a subject."""
    rng = generator(subject.seed, "phantom", "scanner", subject.index)
    number = int(rng.choice(len(SCANNERS), p=[share for _, share, *_ in SCANNERS]))
    name, _, noise, blur, shading = SCANNERS[number]
    field = 3.0 if rng.random() < 0.3 else 1.5
    look = {
        "noise": noise * float(rng.uniform(0.7, 1.4)) * (0.8 if field == 3.0 else 1.0),
        "blur": blur * float(rng.uniform(0.9, 1.15)),
        "shading": shading * float(rng.uniform(0.6, 1.5)) * (1.15 if field == 3.0 else 1.0),
    }
    return name, f"C{2 * number + 1 + int(rng.integers(2))}", field, look


def acquisition_for(subject: Subject, settings: Settings) -> Acquisition:
    """The examination of a subject: prepared sizes, and the look of its scanner."""
    look = scanner(subject)[3]
    if settings.size == "small":
        return Acquisition(
            n_frames=settings.frames,
            sax_size=(64, 64),
            sax_spacing=(3.0, 3.0),
            slice_distance=None,
            n_slices=6,
            slice_thickness=None,
            lax_size=(64, 64),
            lax_spacing=(4.0, 4.0),
            seed=settings.seed,
            **look,
        )
    return Acquisition(n_frames=settings.frames, seed=settings.seed, **look)


def present_views(subject: Subject, acquisition: Acquisition, chance: float) -> tuple[str, ...]:
    """Views that were taken; at least one always is."""
    draws = {
        view: generator(subject.seed, "phantom", "missing", subject.index, view).random() for view in acquisition.views
    }
    kept = tuple(view for view, draw in draws.items() if draw >= chance)
    return kept or (max(draws, key=lambda view: draws[view]),)


def normalised(images: np.ndarray) -> np.ndarray:
    """Frames (T, ...) as preparation stores them, uint8."""
    return np.stack([to_uint8(frame) for frame in images])


def make_subject(root: Path, index: int, settings: Settings) -> str:
    """Makes the folder of one subject: complete, or not at all.

    Args:
        root: Folder of the store.
        index: Number of the subject.
        settings: The cohort's settings.

    Returns:
        The subject's id.

    Raises:
        CinemaError: If the folder cannot be written.
    """
    subject = draw_subject(settings.seed, index)
    partial = root / f".{subject.id}.partial"
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        record = _write_views(partial, subject, settings)
        (partial / ROW).write_text(json.dumps(record, sort_keys=False), encoding="utf-8")
        partial.replace(root / subject.id)
    except (OSError, CinemaError) as error:
        cause = error if isinstance(error, OSError) else error.__cause__
        if not isinstance(cause, OSError):
            raise
        raise CinemaError(
            f"{root / subject.id} could not be written ({cause.strerror or cause}); the subjects made before are "
            "complete: free some space or mend the permissions, then run the command again to make the rest."
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return subject.id


def _write_views(folder: Path, subject: Subject, settings: Settings) -> dict[str, Any]:
    heart = Heart(subject)
    acquisition = acquisition_for(subject, settings)
    imager = Imager(heart, acquisition)
    vendor, centre, field, _ = scanner(subject)
    series: dict[str, ViewSeries] = {}
    points: list[dict[str, Any]] = []
    provenance = {"software": f"cinema-lightning {__version__}", "source": "phantom", "options": settings.as_dict()}
    for view in present_views(subject, acquisition, settings.missing_views):
        image = imager.image(view)
        common: dict[str, Any] = {"affine": image.affine, "spacing": image.spacing, "provenance": provenance}
        write_series(series_path(folder.parent, folder.name, view), normalised(image.images), **common)
        write_series(series_path(folder.parent, folder.name, view, "label"), image.labels, **common)
        points += landmarks(heart, image.plane, view, imager.phases)
        series[view] = image
    row = table_row(heart, acquisition, series, imager.phases)
    row |= {"vendor": vendor, "centre": centre, "field_strength": field}
    return {"row": row, "landmarks": points}


def claim(root: Path, settings: Settings, overwrite: bool) -> None:
    """Marks a folder as this cohort's, or refuses one that is another's.

    Raises:
        CinemaError: If the folder holds a cohort made with other settings, or something else.
    """
    path = root / SETTINGS
    wanted = settings.as_dict()
    if path.exists() and not overwrite:
        found = read_settings(path)
        different = [key for key in wanted if found.get(key) != wanted[key]]
        if different:
            key = different[0]
            raise CinemaError(
                f"{root} holds phantoms made with {key} = {found.get(key)}, not {wanted[key]}; "
                "give another --out, the same settings, or --overwrite true."
            )
        return
    if root.is_file():
        raise CinemaError(f"{root} is a file; give a folder as --out.")
    if root.is_dir() and not path.exists() and any(not entry.name.startswith(".") for entry in root.iterdir()):
        raise CinemaError(f"{root} is not empty and holds no phantoms; give an empty or a new folder as --out.")
    if overwrite and path.exists():
        _clear(root)
    write_text(path, json.dumps(wanted, indent=1) + "\n")


def read_settings(path: Path) -> dict[str, Any]:
    """What the phantoms of a folder were made with, from its ``phantom.json``; empty where that cannot be read."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _clear(root: Path) -> None:
    for folder in [*root.glob("phantom_[0-9]*"), *root.glob(".phantom_*.partial")]:
        shutil.rmtree(folder)
    for table in (*root.glob("cohort*.csv"), *root.glob("landmarks*.csv")):
        table.unlink()


def write_text(path: Path, text: str) -> None:
    """Writes a text file whole or not at all; CinemaError if it cannot be written, and an earlier file stays."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def make_cohort(root: Path, indices: list[int], settings: Settings, workers: int) -> None:
    """Makes the subjects that are not there yet.

    Args:
        root: Folder of the store.
        indices: Numbers of the subjects.
        settings: The cohort's settings.
        workers: Processes; the result does not depend on it.

    Raises:
        CinemaError: If something cannot be written; subjects that are complete stay.
    """
    wanted = [index for index in indices if not is_complete(root, index)]
    make_each(partial(_make, root, settings), wanted, len(indices), workers, "phantom")


def _make(root: Path, settings: Settings, index: int) -> None:
    make_subject(root, index, settings)


def subject_id(index: int) -> str:
    """Folder name of subject number ``index``."""
    return f"phantom_{index:05d}"


def is_complete(root: Path, index: int) -> bool:
    """Whether a subject's folder is there; folders appear whole."""
    return (root / subject_id(index) / ROW).exists()


def write_tables(root: Path, indices: list[int], name: str = "") -> None:
    """Gathers the rows of complete subjects into ``cohort.csv`` and ``landmarks.csv``.

    Args:
        root: Folder of the store.
        indices: Numbers of the subjects, in the table's order.
        name: Part of the file names, for shards.
    """
    import pandas as pd

    rows: list[dict[str, Any]] = []
    points: list[dict[str, Any]] = []
    for index in indices:
        path = root / subject_id(index) / ROW
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise CinemaError(
                f"{path} is missing or damaged; delete the folder {path.parent} and run the command again."
            ) from error
        rows.append(record["row"])
        points += record["landmarks"]
    columns = ["id", "view", "frame", "landmark", "x", "y"]
    write_text(root / f"landmarks{name}.csv", pd.DataFrame(points, columns=columns).to_csv(index=False))
    table = pd.DataFrame(rows)
    for column in ("n_slices",):
        table[column] = table[column].astype("Int64")
    write_text(root / f"cohort{name}.csv", table.to_csv(index=False))
