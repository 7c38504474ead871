"""UK Biobank as shipped: one folder or zip of DICOMs per participant, visit and bulk field, with a manifest."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from cinema_lightning.data.draws import generator
from cinema_lightning.phantom.anatomy import Heart
from cinema_lightning.phantom.imaging import ViewSeries
from cinema_lightning.phantom.raw.base import RawLayout, RawSettings, Record, layout
from cinema_lightning.phantom.raw.dicom import cine_files, frame_bytes, geometry, patient, uid
from cinema_lightning.phantom.raw.files import put, put_csv, put_zip
from cinema_lightning.phantom.raw.people import person
from cinema_lightning.phantom.raw.scan import examination, grey, grey_scale, images_of, truth_row
from cinema_lightning.phantom.subject import PATHOLOGIES, Subject
from cinema_lightning.phantom.truth import survival
from cinema_lightning.views import VIEWS

LONG_AXIS, SHORT_AXIS = "20208", "20209"
SERIES = {"lax_2c": "CINE_segmented_LAX_2Ch", "lax_3c": "CINE_segmented_LAX_3Ch", "lax_4c": "CINE_segmented_LAX_4Ch"}
COLUMNS = ("filename", "patientid", "studyid", "seriesid", "series discription", "date", "modality")
DATE = "Aug 30, 2015"  # its comma is not quoted
OUTCOMES = (
    *("eid", "sex", "age", "height", "weight", "bmi"),
    *("diabetes", "hypertension", "cancer", "time", "event"),
)
# Every fifth study is the second visit of the participant before.
AGAIN = 5
OVERLAY_SLICE = 2


@dataclass(frozen=True)
class _File:
    """A file of an archive and its line in the manifest."""

    name: str
    data: bytes
    series: str
    description: str


@layout
class UkbLayout(RawLayout):
    """UK Biobank cardiac MRI, bulk fields 20208 and 20209, and a table of outcomes."""

    name = "ukb"
    display = "UK Biobank"
    frames: ClassVar[dict[str, int]] = {"full": 50, "small": 6}
    owned = ("*_2020[89]_*", "outcomes.csv")

    def write(self, root: Path, index: int, settings: RawSettings) -> Record:
        """See :meth:`RawLayout.write`."""
        number, again = (index - 1, True) if index % AGAIN == AGAIN - 1 else (index, False)
        eid, visit = eid_of(number), "3" if again else "2"
        heart = Heart(person(settings.seed, number, PATHOLOGIES[number % len(PATHOLOGIES)]))
        scan = examination(
            settings,
            heart.subject,
            "Siemens",
            sax=((208, 210), (1.8269, 1.8269)),
            lax=((210, 208), (1.8269, 1.8269)),
            visit=int(again),
        )
        series = images_of(heart, scan, tuple(VIEWS))
        study = _Study(eid, index, heart.subject, settings)
        for field, files in ((LONG_AXIS, study.long_axis(series)), (SHORT_AXIS, study.short_axis(series["sax"]))):
            _archive(root, f"{eid}_{field}_{visit}_0", list(files), eid, study.study, index)
        truth = truth_row(f"{eid}_{visit}", heart, series["sax"], 0, eid=eid)
        rows = {} if again else {"outcomes": [outcome_row(eid, heart.subject)]}
        return Record([truth], rows)

    def tables(self, root: Path, records: Sequence[Record]) -> None:
        """Writes the outcomes, among them a participant who was not imaged."""
        rows = [row for record in records for row in record.rows.get("outcomes", [])]
        rows.append(rows[0] | {"eid": str(int(eid_of(0)) - 1)})
        put_csv(root / "outcomes.csv", rows, OUTCOMES)


def eid_of(number: int) -> str:
    """The participant's number of seven digits."""
    return str(1000011 + 13 * number)


def outcome_row(eid: str, subject: Subject) -> dict[str, Any]:
    """Covariates, diagnoses and follow-up of a participant; sex as UK Biobank codes it, 0 female and 1 male."""
    rng = generator(subject.seed, "phantom", "diagnoses", subject.index)
    time, event = survival(subject)
    overweight, old = subject.bmi - 27, subject.age - 55
    # Oftener than in the population, so that of a few dozen some have each in training, validation and test.
    return {
        "eid": eid,
        "sex": int(subject.sex == "M"),
        "age": subject.age,
        "height": subject.height,
        "weight": subject.weight,
        "bmi": round(subject.bmi, 2),
        "diabetes": int(rng.random() < np.clip(0.25 + 0.03 * overweight, 0.03, 0.8)),
        "hypertension": int(rng.random() < np.clip(0.35 + 0.02 * old + 0.02 * overweight, 0.05, 0.95)),
        "cancer": int(rng.random() < np.clip(0.25 + 0.006 * old, 0.03, 0.6)),
        "time": time,
        "event": event,
    }


class _Study:
    """Makes the files of one visit.

    Args:
        eid: The participant.
        index: Number of the study; every third has run-length encoded long-axis images.
        subject: The subject.
        settings: The cohort's settings.
    """

    def __init__(self, eid: str, index: int, subject: Subject, settings: RawSettings) -> None:
        self.index, self.settings, self.subject = index, settings, subject
        self.study = uid(settings.seed, "ukb", index)
        self.person = patient(subject, eid, self.study, "SIEMENS")

    def long_axis(self, series: dict[str, ViewSeries]) -> Iterator[_File]:
        """Files of field 20208."""
        for number, (view, name) in enumerate(SERIES.items(), start=1):
            frames = self._grey(series[view])
            yield from self._cine(number, name, frames, series[view], 0, compressed=self.index % 3 == 1)

    def short_axis(self, sax: ViewSeries) -> Iterator[_File]:
        """Files of field 20209: the stack, and what the scanner's automatic analysis left beside it."""
        frames = self._grey(sax)
        for z in range(frames.shape[-1]):
            yield from self._cine(10 + z, f"CINE_segmented_SAX_b{z + 1}", frames[..., z], sax, z)
        # A copy of one slice with the contours burned in, whose name contains that of the real series.
        drawn = np.where(_edges(sax.labels[..., OVERLAY_SLICE]), 4095, frames[..., OVERLAY_SLICE]).astype(np.uint16)
        name = f"CINE_segmented_SAX_b{OVERLAY_SLICE + 1}_InlineVF"
        yield from self._cine(60, name, drawn, sax, OVERLAY_SLICE)
        yield self._results(sax)

    def _grey(self, series: ViewSeries) -> np.ndarray:
        return grey(series.images, grey_scale(self.settings, self.subject), np.uint16)

    def _cine(
        self, number: int, name: str, frames: np.ndarray, series: ViewSeries, z: int, *, compressed: bool = False
    ) -> Iterator[_File]:
        tags = self.person | {
            "SeriesNumber": number,
            "SeriesDescription": name,
            "SeriesInstanceUID": f"{self.study}.{number}",
            "SliceThickness": round(min(series.plane.thickness, series.spacing[2]), 3),
            "SpacingBetweenSlices": round(series.spacing[2], 3) if series.view == "sax" else None,
            **geometry(series.affine, z),
        }
        for frame, data in enumerate(cine_files(frames, tags, compressed=compressed), start=1):
            yield _File(f"{tags['SeriesInstanceUID']}.{frame}.dcm", data, tags["SeriesInstanceUID"], name)

    def _results(self, sax: ViewSeries) -> _File:
        """A coloured page of curves instead of an image of the heart."""
        page = np.zeros((64, 48, 3), np.uint8)
        volumes = (sax.labels == 3).sum(axis=(1, 2, 3))
        for x in range(64):
            page[x, 47 - int(46 * volumes[x * len(volumes) // 64] / max(int(volumes.max()), 1)), 1] = 255
        series, name = f"{self.study}.61", "Inline_VF_Results"
        tags = self.person | {"SeriesInstanceUID": series, "SOPInstanceUID": f"{series}.1", "SeriesDescription": name}
        return _File(f"{series}.1.dcm", frame_bytes(page, tags), series, name)


def _edges(labels: np.ndarray) -> np.ndarray:
    """Where a label map (T, X, Y) changes along x or y."""
    edge = np.zeros(labels.shape, bool)
    edge[:, 1:] |= labels[:, 1:] != labels[:, :-1]
    edge[:, :, 1:] |= labels[:, :, 1:] != labels[:, :, :-1]
    return edge


def _archive(root: Path, name: str, files: list[_File], eid: str, study: str, index: int) -> None:
    """Every third study is a folder, the others zips; in every third the manifest's suffix is misspelt."""
    lines = [",".join(COLUMNS)]
    lines += [f"{file.name},{eid},{study},{file.series},{file.description},{DATE},MR" for file in files]
    manifest = ("manifest.cvs" if index % 3 == 2 else "manifest.csv", ("\n".join(lines) + "\n").encode())
    members = [(file.name, file.data) for file in files] + [manifest]
    if index % 3 == 1:
        for member, data in members:
            put(root / name / member, data)
    else:
        put_zip(root / f"{name}.zip", members)
