"""60 phantom studies of three vendors' habits, with series that are none of ours: each series as it should be taken."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest

from cinema_lightning.analysis.study import read_study
from cinema_lightning.errors import CinemaError
from cinema_lightning.phantom.anatomy import Heart
from cinema_lightning.phantom.imaging import ViewSeries
from cinema_lightning.phantom.raw.base import RawSettings
from cinema_lightning.phantom.raw.dicom import cine_files, geometry, patient, uid
from cinema_lightning.phantom.raw.people import person
from cinema_lightning.phantom.raw.scan import examination, grey, images_of
from cinema_lightning.phantom.subject import PATHOLOGIES

VIEWS = ("sax", "lax_2c", "lax_3c", "lax_4c")
VENDORS = ("SIEMENS", "GE MEDICAL SYSTEMS", "Philips Medical Systems")
SUBJECTS, WANTED = 60, 57
CALLED = {"lax_2c": "cine 2CH", "lax_3c": "cine 3CH", "lax_4c": "cine 4CH"}


class _Writer:
    """Writes one study in the habit of a vendor and keeps what each series is."""

    def __init__(self, folder: Path, index: int, heart: Heart) -> None:
        self.folder, self.vendor = folder, VENDORS[index % 3]
        self.study = uid(1, "sorting", index)
        self.person = patient(heart.subject, f"P{index}", self.study, self.vendor)
        self.number = 0
        self.truth: list[str] = []
        folder.mkdir()

    def series(self, truth: str, slices: list[tuple[np.ndarray, dict[str, Any]]], words: str = "", **tags: Any) -> None:
        """Slices (T, X, Y) with their places, as one series."""
        self.number += 1
        self.truth.append(truth)
        common = self.person | {
            "SeriesNumber": self.number,
            "SeriesDescription": words,
            "SeriesInstanceUID": f"{self.study}.{self.number}",
            "SliceThickness": 8.0,
            "FrameOfReferenceUID": f"{self.study}.0",
        }
        instance = 0
        files = []
        for frames, place in slices:
            for frame in range(len(frames)):
                own = {
                    "InstanceNumber": instance + 1,
                    "SOPInstanceUID": f"{self.study}.{self.number}.{instance + 1}",
                    "TriggerTime": 960.0 / len(frames) * frame,
                    "CardiacNumberOfImages": len(frames),
                }
                files += cine_files(frames[frame : frame + 1], common | place | own | tags)
                instance += 1
        if self.vendor.startswith("Philips") and len(files) > 1:
            files = [_enhanced(files)]
        for place_in_series, data in enumerate(files):
            (self.folder / f"{self.number:02d}_{place_in_series:04d}").write_bytes(data)


def _item(**values: Any) -> pydicom.Sequence:
    item = pydicom.Dataset()
    for name, value in values.items():
        setattr(item, name, value)
    return pydicom.Sequence([item])


def _enhanced(files: list[bytes]) -> bytes:
    """One object of many frames."""
    headers = [pydicom.dcmread(pydicom.filebase.DicomBytesIO(data)) for data in files]
    out = headers[0]
    out.file_meta.MediaStorageSOPClassUID = out.SOPClassUID = pydicom.uid.EnhancedMRImageStorage
    out.PerFrameFunctionalGroupsSequence = [
        _item(
            PlanePositionSequence=_item(ImagePositionPatient=list(header.ImagePositionPatient)),
            PlaneOrientationSequence=_item(ImageOrientationPatient=list(header.ImageOrientationPatient)),
            PixelMeasuresSequence=_item(PixelSpacing=list(header.PixelSpacing), SliceThickness=header.SliceThickness),
            CardiacSynchronizationSequence=_item(NominalCardiacTriggerDelayTime=float(header.TriggerTime)),
        )[0]
        for header in headers
    ]
    out.NumberOfFrames = len(headers)
    out.PixelData = b"".join(header.PixelData for header in headers)
    for tag in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "TriggerTime", "SliceThickness"):
        delattr(out, tag)
    buffer = pydicom.filebase.DicomBytesIO()
    out.save_as(buffer)
    return buffer.getvalue()


def _slices(series: ViewSeries) -> list[tuple[np.ndarray, dict[str, Any]]]:
    images = grey(series.images, 900.0, np.uint16)
    images = images if images.ndim == 4 else images[..., None]
    return [(images[..., z], geometry(series.affine, z)) for z in range(images.shape[-1])]


def _shifted(affine: np.ndarray, along: np.ndarray, distance: float) -> np.ndarray:
    out = affine.copy()
    out[:3, 3] += along * distance
    return out


def _straight(series: ViewSeries, normal: int) -> list[tuple[np.ndarray, dict[str, Any]]]:
    """A cine stack at right angles to an axis of the body, around the heart."""
    frames = grey(series.images[..., 0], 900.0, np.uint16)
    size = np.array(frames.shape[1:])
    middle = (series.affine @ [*(np.array(series.images.shape[1:]) - 1) / 2, 1.0])[:3]
    axes = [axis for axis in range(3) if axis != normal]
    affine = np.zeros((4, 4))
    affine[axes[0], 0], affine[axes[1], 1], affine[normal, 2] = -2.5, -2.5, 8.0
    affine[3, 3] = 1
    affine[:3, 3] = middle - affine[:3, :3] @ [*(size - 1) / 2, 4.0]
    return [(frames, geometry(affine, z)) for z in range(9)]


def _write(folder: Path, index: int) -> list[str]:
    """Writes a study; what each of its series is."""
    rng = np.random.default_rng(index)
    settings = RawSettings("kaggle", SUBJECTS, seed=11, size="small", frames=12)
    heart = Heart(person(settings.seed, index, PATHOLOGIES[index % len(PATHOLOGIES)]))
    sax_grid = ((256, 208), (1.4063, 1.4063))
    found = images_of(heart, examination(settings, heart.subject, "Siemens", sax=sax_grid, lax=sax_grid), VIEWS)
    writer = _Writer(folder, index, heart)
    sax = _slices(found["sax"])
    localiser = [(frames[:1], place) for frames, place in _straight(found["sax"], 2)[3:6]]
    writer.series("none", localiser, "survey", ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    writer.series("none", _straight(found["sax"], 2), "cine AX")
    writer.series("none", [(frames[:1], place) for frames, place in sax], "LGE", InversionTime=280.0)
    # A quarter of the descriptions is another view's, a quarter is empty.
    for view in ("lax_4c", "lax_2c", "lax_3c"):
        draw = rng.random()
        words = "" if draw < 0.25 else CALLED[str(rng.choice(list(CALLED)))] if draw < 0.5 else CALLED[view]
        writer.series(view, _slices(found[view]), words)
    if index % 2:  # a 2-chamber view of the right heart
        two = found["lax_2c"]
        right = _shifted(two.affine, two.affine[:3, 2] / np.linalg.norm(two.affine[:3, 2]), _to_the_right(two.affine))
        writer.series("none", [(_slices(two)[0][0], geometry(right, 0))], "cine 2CH")
    if writer.vendor == "SIEMENS":
        first = int(rng.integers(len(sax)))
        for place, one in enumerate(sax):
            if place == first:  # broken off, and taken again
                writer.series("none", [(one[0][:7], one[1])], "")
            writer.series("sax", [one], "")
    else:
        writer.series("sax", sax, "short axis" if rng.random() < 0.5 else "")
    writer.series("none", sax[3:4], "", SequenceName="*fl2d1_v150in", ImageType=["DERIVED", "PRIMARY", "P"])
    return writer.truth


def _to_the_right(affine: np.ndarray) -> float:
    """40 mm along the normal, towards the right of the body."""
    return 40.0 if affine[0, 2] > 0 else -40.0  # RAS


@pytest.mark.slow
def test_60_studies_are_sorted_or_left_alone(tmp_path):
    right, wrong = 0, []
    for index in range(SUBJECTS):
        truth = _write(tmp_path / str(index), index)
        try:
            found = [line.taken_for for line in read_study(tmp_path / str(index), lambda key: key).series]
        except CinemaError as error:
            found = [str(error)]
        right += found == truth
        # Left alone is no view; another view than it is is wrong.
        wrong += [(index, is_, taken) for is_, taken in zip(truth, found, strict=False) if taken not in (is_, "none")]
    assert not wrong
    assert right >= WANTED, f"{right} of {SUBJECTS}"
