"""Writes a cohort of phantoms as preparation leaves real ones: a store of series, ``cohort.csv``, ``landmarks.csv``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from cinema_lightning import __version__
from cinema_lightning.data.draws import generator
from cinema_lightning.data.store import series_path, write_series
from cinema_lightning.files import write_text
from cinema_lightning.imaging.intensity import to_uint8
from cinema_lightning.phantom.acquisition import Acquisition
from cinema_lightning.phantom.anatomy import Heart
from cinema_lightning.phantom.imaging import Imager, ViewSeries
from cinema_lightning.phantom.making import Making, claim, make_subjects, read_note, subject_id
from cinema_lightning.phantom.subject import Subject, draw_subject
from cinema_lightning.phantom.truth import landmarks, table_row
from cinema_lightning.prepare.scratch import move_folder
from cinema_lightning.shards import Shard

# Frames over the cycle by size, if none are asked for.
FRAMES = {"full": 50, "small": 8}
ROW = "row.json"
# What belongs to a store of phantoms.
OWNED = ("phantom_[0-9]*", "cohort*.csv", "landmarks*.csv")
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
        slice_distance: Between short-axis slices, mm; None for the size's own: 10, or six slices spread over the LV.
        variety: How far subjects deviate from the usual look, 0 to 1.
    """

    seed: int = 0
    size: Literal["full", "small"] = "full"
    frames: int = 50
    missing_views: float = 0.0
    slice_distance: float | None = None
    variety: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        """Plain values, with the version of the software that gives these bytes."""
        # where they are not asked for, a store says what it always said, so that its bytes stay and it is gone on with
        given = {key: value for key, value in asdict(self).items() if value or key not in ("slice_distance", "variety")}
        return {**given, "version": __version__}


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
            slice_distance=settings.slice_distance,
            n_slices=None if settings.slice_distance else 6,
            slice_thickness=None,
            lax_size=(64, 64),
            lax_spacing=(4.0, 4.0),
            seed=settings.seed,
            **look,
        )
    distance = settings.slice_distance or Acquisition.slice_distance
    return Acquisition(n_frames=settings.frames, seed=settings.seed, slice_distance=distance, **look)


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
    """Makes the folder of one subject.

    Args:
        root: Folder in which it is made.
        index: Number of the subject.
        settings: The cohort's settings.

    Returns:
        The subject's id.

    Raises:
        CinemaError: If a series cannot be written.
        OSError: If the folder cannot be.
    """
    subject = draw_subject(settings.seed, index, settings.variety)
    folder = root / subject.id
    record = _write_views(folder, subject, settings)
    (folder / ROW).write_text(json.dumps(record, sort_keys=False), encoding="utf-8")
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


@dataclass(frozen=True)
class StoreMaking(Making):
    """How the subjects of a store are made, each in a folder.

    Attributes:
        settings: The cohort's settings.
    """

    settings: Settings

    def called(self, index: int) -> str:
        """See :meth:`Making.called`."""
        return str(self.root / subject_id(index))

    def is_complete(self, index: int) -> bool:
        """See :meth:`Making.is_complete`; folders appear whole."""
        return is_complete(self.root, index)

    def write(self, folder: Path, index: int) -> None:
        """See :meth:`Making.write`."""
        make_subject(folder.parent, index, self.settings)
        move_folder(folder, self.root / folder.name)


def is_complete(root: Path, index: int) -> bool:
    """Whether a subject of a store is there."""
    return (root / subject_id(index) / ROW).exists()


def make_cohort(
    root: Path,
    subjects: int,
    settings: Settings,
    workers: int = 1,
    *,
    shard: Shard | None = None,
    overwrite: bool = False,
) -> int:
    """Makes a store of phantoms, or the rest of it, and its tables.

    Args:
        root: Folder of the store.
        subjects: Number of subjects.
        settings: The cohort's settings.
        workers: Processes; the result does not depend on it.
        shard: Make only this part; the part that is ready last puts the tables together.
        overwrite: Remove another store of phantoms that lies there first.

    Returns:
        Exit code: 0, or 128 + number of the signal that stopped it.

    Raises:
        CinemaError: If the folder holds something else, or something cannot be written; complete subjects stay.
    """
    claim(root, settings.as_dict(), overwrite, lambda _: OWNED)
    everyone = range(subjects)
    mine = everyone if shard is None else everyone[shard.index - 1 :: shard.count]
    part = "" if shard is None else f"{shard.index}-of-{shard.count}"
    if code := make_subjects(partial(StoreMaking, settings=settings), root, mine, workers, "phantom", part):
        return code
    if part:
        write_tables(root, mine, f".{part}")
    # Looking at the subjects rather than at the other parts' tables: two parts that end together write the same table.
    if all(is_complete(root, index) for index in everyone):
        write_tables(root, everyone)
    return 0


def write_tables(root: Path, indices: Sequence[int], name: str = "") -> None:
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
        folder = root / subject_id(index)
        record = read_note(folder / ROW, f"the folder {folder}")
        rows.append(record["row"])
        points += record["landmarks"]
    columns = ["id", "view", "frame", "landmark", "x", "y"]
    write_text(root / f"landmarks{name}.csv", pd.DataFrame(points, columns=columns).to_csv(index=False))
    table = pd.DataFrame(rows)
    table["n_slices"] = table["n_slices"].astype("Int64")
    write_text(root / f"cohort{name}.csv", table.to_csv(index=False))
