"""Kaggle's Second Annual Data Science Bowl as shipped: DICOM trees, one file per frame, with the flaws that occur."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cinema_lightning.data.draws import generator
from cinema_lightning.phantom.anatomy import Heart
from cinema_lightning.phantom.imaging import ViewSeries
from cinema_lightning.phantom.raw.base import RawLayout, RawSettings, Record, layout, place
from cinema_lightning.phantom.raw.dicom import cine_files, geometry, patient, uid
from cinema_lightning.phantom.raw.files import put, put_csv
from cinema_lightning.phantom.raw.people import person
from cinema_lightning.phantom.raw.scan import examination, grey, grey_scale, images_of, truth_row
from cinema_lightning.phantom.subject import PATHOLOGIES

TOP = "second-annual-data-science-bowl"
PARTS = "TVETETVE"
FOLDERS = {"T": "train", "V": "validate", "E": "test"}
FIRST = {"T": 1, "V": 501, "E": 701}
BLACK = 761
# What is wrong with the first subjects; the others are as they should be.
TWO_SERIES, MISSING_FRAME, UNREADABLE, NO_UID, OTHER_SIZE, NO_SPACING, ALL_BLACK = range(1, 8)
FLAWED = 2  # the slice that has the flaw, counted from 0
VIEWS = ("sax", "lax_2c", "lax_4c")


@layout
class KaggleLayout(RawLayout):
    """Second Annual Data Science Bowl."""

    name = "kaggle"
    display = "Kaggle DSB 2"
    owned = (TOP,)

    def write(self, root: Path, index: int, settings: RawSettings) -> Record:
        """See :meth:`RawLayout.write`."""
        part, rank = place(PARTS, index)
        number = BLACK if index == ALL_BLACK else FIRST[part] + rank + (FIRST[part] + rank >= BLACK)
        heart = Heart(person(settings.seed, index, PATHOLOGIES[index % len(PATHOLOGIES)]))
        scan = examination(
            settings,
            heart.subject,
            "Siemens",
            sax=((256, 208), (1.4063, 1.4063)),
            lax=((256, 208), (1.4063, 1.4063)),
        )
        series = images_of(heart, scan, VIEWS)
        study = root / TOP / FOLDERS[part] / FOLDERS[part] / str(number) / "study"
        _Study(study, number, index, heart, settings).write(series)
        truth = truth_row(str(number), heart, series["sax"], 0, part=FOLDERS[part])
        row = {
            "Id": number,
            "Systole": round(truth["lv_esv_true"], 1),
            "Diastole": round(truth["lv_edv_true"], 1),
        }
        return Record([truth], {FOLDERS[part]: [row]})

    def tables(self, root: Path, records: Sequence[Record]) -> None:
        """See :meth:`RawLayout.tables`."""
        rows = {
            part: sorted((row for r in records for row in r.rows.get(part, [])), key=lambda row: row["Id"])
            for part in FOLDERS.values()
        }
        for part in ("train", "validate"):
            put_csv(root / TOP / f"{part}.csv", rows[part], ("Id", "Systole", "Diastole"))
        solution = [
            {"Id": f"{row['Id']}_{phase}", "Volume": row[phase]}
            for row in rows["test"]
            for phase in ("Diastole", "Systole")
        ]
        put_csv(root / TOP / "solution.csv", solution, ("Id", "Volume"))


class _Study:
    """Writes the folders of one study.

    Args:
        folder: Its ``study`` folder.
        number: The competition's id.
        index: Number of the subject, which decides what is wrong with the study.
        heart: The heart.
        settings: The cohort's settings.
    """

    def __init__(self, folder: Path, number: int, index: int, heart: Heart, settings: RawSettings) -> None:
        self.folder, self.index, self.settings, self.subject = folder, index, settings, heart.subject
        self.study = uid(settings.seed, "kaggle", index)
        self.person = patient(heart.subject, str(number), self.study, "SIEMENS")
        self.image = 1000 + 60 * index  # runs on over the study's series, as in the names of the provider's files

    def write(self, series: dict[str, ViewSeries]) -> None:
        """Writes all views; the folders' numbers are those of the series, with gaps."""
        levels = {view: self._grey(series[view]) for view in VIEWS}
        self._cine("2ch_4", 4, levels["lax_2c"], series["lax_2c"], 0)
        self._cine("4ch_7", 7, levels["lax_4c"], series["lax_4c"], 0)
        for z in range(levels["sax"].shape[-1]):
            frames, tags = levels["sax"][..., z], {}
            flaw = self.index if z == FLAWED else None
            # The last slice was taken again with another matrix.
            if self.index == OTHER_SIZE and z == levels["sax"].shape[-1] - 1:
                frames = np.pad(frames, ((0, 0), (2, 2), (0, 0)))
            if self.index == NO_SPACING:
                tags = {"SpacingBetweenSlices": None}
            self._cine(f"sax_{8 + z}", 8 + z, frames, series["sax"], z, flaw, tags)

    def _grey(self, series: ViewSeries) -> np.ndarray:
        scale = 0.0 if self.index == ALL_BLACK else grey_scale(self.settings, self.subject)
        return grey(series.images, scale, np.uint16)

    def _cine(
        self,
        name: str,
        number: int,
        frames: np.ndarray,
        series: ViewSeries,
        z: int,
        flaw: int | None = None,
        tags: dict[str, Any] | None = None,
    ) -> None:
        common = self.person | {
            "SeriesNumber": number,
            "SeriesDescription": name.split("_")[0],
            # Series of one slice are told apart by the last part of the UID, which grows with time.
            "SeriesInstanceUID": f"{self.study}.{number}.2",
            "SliceThickness": round(min(series.plane.thickness, series.spacing[2]), 3),
            "SpacingBetweenSlices": round(series.spacing[2], 3) if series.view == "sax" else None,
            **geometry(series.affine, z),
            **(tags or {}),
        }
        if flaw == NO_UID:
            common["SeriesInstanceUID"] = None
        self.image += 1
        files = list(cine_files(frames, common))
        if flaw == TWO_SERIES:
            first = common | {"SeriesInstanceUID": f"{self.study}.{number}.1"}
            for frame, data in enumerate(cine_files(self._failed(frames), first), start=1):
                put(self.folder / name / f"IM-{self.image:04d}-{frame:04d}-0001.dcm", data)
        for frame, data in enumerate(files, start=1):
            if flaw == MISSING_FRAME and frame == 2:
                continue
            cut = data[: len(data) // 2] if flaw == UNREADABLE and frame == len(files) else data
            put(self.folder / name / f"IM-{self.image:04d}-{frame:04d}.dcm", cut)

    def _failed(self, frames: np.ndarray) -> np.ndarray:
        """The first try of a slice, out of step with the heart: a third of the cycle late, and noisier."""
        rng = generator(self.settings.seed, "phantom", "kaggle failed", self.index)
        late = np.roll(frames, len(frames) // 3, axis=0)
        return np.clip(late + np.abs(rng.normal(0, 40, frames.shape)), 0, 4095).astype(np.uint16)
