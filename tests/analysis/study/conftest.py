"""A beating heart of formulas as a study of DICOM files, and a network that knows its grey levels."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from cinema_lightning.analysis.networks import Networks
from cinema_lightning.imaging.planes import LONG_AXIS
from cinema_lightning.phantom.raw.dicom import cine_files

# Apex to base, the patient's left seen from there, and what is at right angles to both; LPS.
LEFT = np.array([1.0, 0, 0]) - LONG_AXIS * LONG_AXIS[0]
LEFT /= np.linalg.norm(LEFT)
UP = np.cross(LONG_AXIS, LEFT)
CENTRE = np.array([20.0, -30.0, 40.0])
TURNS = {"4CH": 3.0, "3CH": 58.0, "2CH": 106.0}
SIZE, PIXEL, FRAMES, SLICES, GAP, RR = 64, 3.0, 12, 9, 10.0, 900.0
GREY = np.array([60, 700, 250, 1000])
"""Grey level of background, RV, myocardium and LV."""


def beat_at(phase: float) -> float:
    """How full the heart is at a share of the beat: about 1 at ED (0.9), 0 at ES (0.3)."""
    if 0.9 > phase > 0.3:
        return 0.5 * (1 - np.cos(np.pi * (phase - 0.3) / 0.6))
    return 0.5 * (1 + np.cos(2 * np.pi * (phase - 0.9)))


def labels_at(points: np.ndarray, phase: float) -> np.ndarray:
    """Codes of points (..., 3), LPS mm, at a share of the beat."""
    u, v, z = ((points - CENTRE) @ axis for axis in (LEFT, UP, LONG_AXIS))
    beat = beat_at(phase)
    # The base comes down in systole, and the ventricles close towards it.
    top = 45 - 14 * (1 - beat)
    closing = np.sqrt(np.clip((top - z) / 20, 0, 1))
    inner = (18 + 7 * beat) * np.sqrt(np.clip((z + 45) / 80, 0, 1)) * closing
    outer = np.sqrt(inner**2 + 27**2 - 20**2)
    wide = (18 + 8 * beat) * np.sqrt(np.clip((z + 40) / 75, 0, 1)) * closing
    radius, inside = np.hypot(u, v), (z > -52) & (z < top)
    out = np.zeros(u.shape, np.uint8)
    out[inside & (np.hypot(u + outer, v) < wide)] = 1
    out[inside & (radius < outer)] = 2
    out[inside & (radius < inner) & (z > -45)] = 3
    return out


@dataclass
class Study:
    """A study to be written.

    Attributes:
        tags: Header fields of every file.
        single: One series for the whole stack, as GE writes it.
        skip: Slices of the stack that are left out.
    """

    tags: dict[str, Any] = field(default_factory=dict)
    single: bool = False
    skip: tuple[int, ...] = ()
    slices: int = SLICES
    gap: float = GAP
    frames: int = FRAMES
    uid: str = "1.2.826.0.1.77"
    volumes: dict[str, list[float]] = field(default_factory=dict)

    def heights(self) -> list[float]:
        return [(place - (self.slices - 1) / 2) * self.gap - 5 for place in range(self.slices)]

    def images(self, origin: np.ndarray, row: np.ndarray, column: np.ndarray) -> np.ndarray:
        """(T, X, Y) codes of a plane."""
        x, y = np.indices((SIZE, SIZE)) * PIXEL
        points = origin + x[..., None] * row + y[..., None] * column
        return np.stack([labels_at(points, frame / self.frames) for frame in range(self.frames)])

    def plane(self, row: np.ndarray, column: np.ndarray, middle: np.ndarray) -> tuple[np.ndarray, dict[str, Any]]:
        origin = middle - (row + column) * PIXEL * (SIZE - 1) / 2
        tags = {
            "ImagePositionPatient": [round(float(value), 6) for value in origin],
            "ImageOrientationPatient": [round(float(value), 9) for value in (*row, *column)],
            "PixelSpacing": [PIXEL, PIXEL],
            "SliceThickness": 8.0,
        }
        return self.images(origin, row, column), tags

    def write(self, folder: Path, views: tuple[str, ...] = ("SAX", "2CH", "3CH", "4CH", "RV")) -> Path:
        """Writes the study, a file a frame, under names that tell nothing."""
        folder.mkdir(parents=True)
        number = 0
        if "SAX" in views:
            counts = []
            for place, height in enumerate(self.heights()):
                codes, tags = self.plane(LEFT, UP, CENTRE + height * LONG_AXIS)
                counts.append(codes)
                number += not self.single or place == 0
                if place not in self.skip:
                    first = place * self.frames if self.single else 0
                    self.put(folder, number, codes, tags, "", first)
            self.volumes = {
                name: [float((frame == code).sum() * PIXEL**2 * self.gap / 1000) for frame in np.stack(counts, axis=1)]
                for name, code in (("rv", 1), ("lv", 3))
            }
        for name, turn in TURNS.items():
            if name in views:
                number += 1
                self.put(folder, number, *self.plane(*_long_axis(turn), CENTRE), f"cine {name}")
        if "RV" in views:
            number += 1
            row, column = _long_axis(TURNS["2CH"])
            self.put(folder, number, *self.plane(row, column, CENTRE - 38 * LEFT), "cine 2CH")
        return folder

    def put(
        self, folder: Path, number: int, codes: np.ndarray, tags: dict[str, Any], words: str, first: int = 0
    ) -> None:
        """Writes one slice's cine."""
        base = {
            "PatientID": "P1", "PatientName": "Doe^Jane", "PatientSex": "F", "PatientAge": "050Y", "PatientSize": 1.7,
            "PatientWeight": 70, "Manufacturer": "GE MEDICAL SYSTEMS", "MagneticFieldStrength": 1.5, "Modality": "MR",
            "StudyInstanceUID": self.uid, "SeriesInstanceUID": f"{self.uid}.{number}",
            "FrameOfReferenceUID": f"{self.uid}.0",
            "SeriesNumber": number, "SeriesDescription": words, "NominalInterval": RR, "StudyDate": "20240102",
            "ImageType": ["ORIGINAL", "PRIMARY", "M"],
        }  # fmt: skip
        noise = np.random.default_rng(number).integers(0, 40, codes.shape)
        frames = (GREY[codes] + noise).astype(np.uint16)
        times = [{"TriggerTime": round(RR / len(codes) * frame, 3)} for frame in range(len(codes))]
        for frame in range(len(codes)):
            own = {
                **times[frame],
                "InstanceNumber": first + frame + 1,
                "SOPInstanceUID": f"{self.uid}.{number}.{first + frame + 1}",
                "CardiacNumberOfImages": len(codes),
            }
            (data,) = cine_files(frames[frame : frame + 1], base | tags | own | self.tags)
            (folder / f"{number:03d}x{first + frame:04d}").write_bytes(data)


def _long_axis(turn: float) -> tuple[np.ndarray, np.ndarray]:
    angle = np.radians(turn)
    return np.cos(angle) * LEFT + np.sin(angle) * UP, -LONG_AXIS


class Thresholds:
    """A network that tells structures by their grey levels, and counts the frames that it was shown."""

    def __init__(self) -> None:
        self.seen = 0

    def __call__(self, scan: Any, *, affine: np.ndarray, probabilities: bool = False) -> Any:
        ((view, images),) = scan.items()
        self.seen += images.shape[3]
        labels = np.searchsorted([150, 450, 850], images).astype(np.int16)  # darkest first: none, myocardium, RV, LV
        codes = np.array([0, 2, 1, 3], np.int16)[labels]
        classes = {0: "background", 1: "RV", 2: "myocardium", 3: "LV"}
        return SimpleNamespace(views={view: SimpleNamespace(labels=codes, classes=classes)}, rows=())


class Hinges:
    """A network for landmarks: hinges 20 mm to either side that move by 14 and 10 mm, above an apex that rests."""

    def __init__(self, view: str) -> None:
        self.row, self.way = _long_axis(TURNS[view])[0], 14

    def __call__(self, scan: Any, *, affine: np.ndarray, probabilities: bool = False) -> Any:
        ((view, images),) = scan.items()
        beats = np.array([beat_at(frame / images.shape[3]) for frame in range(images.shape[3])])

        def point(aside: float, height: np.ndarray) -> np.ndarray:
            return (CENTRE + aside * self.row + height[:, None] * LONG_AXIS) * [-1, -1, 1]  # LPS to RAS

        points = {
            "hinge_1": point(20, 45 - self.way * (1 - beats)),
            "hinge_2": point(-20, 45 - 10 * (1 - beats)),
            "apex": point(0, np.full(len(beats), -50.0)),
        }
        return SimpleNamespace(millimetres={view: points})


@pytest.fixture
def study():
    """Makes studies."""
    return Study


@pytest.fixture
def use(monkeypatch):
    """Puts networks in the place of those that --weights name."""

    def take(networks: Networks) -> None:
        for module in ("command", "study"):
            monkeypatch.setattr(f"cinema_lightning.analysis.{module}.load_networks", lambda _: networks)

    return take


@pytest.fixture
def network(use):
    """One network, for the short axis."""
    one = Thresholds()
    use(Networks({"sax": one}, {}, {"weights_1": "thresholds sha256:00"}))
    return one


@pytest.fixture
def networks(use):
    """Networks for the masks of the short axis and the 2CH, and for landmarks of 2CH and 4CH."""
    one = Thresholds()
    points = {"lax_2c": Hinges("2CH"), "lax_4c": Hinges("4CH")}
    made = Networks({"sax": one, "lax_2c": one}, points, {"weights_1": "thresholds sha256:00"})
    use(made)
    return made
