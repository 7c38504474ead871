"""What the steps of an analysis hand to each other: plain values, made once and never changed.

Arrays are on the scan's own grid: frames and labels (X, Y, Z, T), with Z = 1 for a long axis. Affines go from voxels to
RAS mm. Nothing here holds a name, a number or a date of the person; what the headers say reaches a value only where it
is on the list of :class:`Person` or :class:`Scanner`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

Verdict = Literal["pass", "warn", "refuse"]
"""What a check says; the worst of all is the study's quality."""
Ventricle = Literal["lv", "rv"]

# A beat of which less than this share was scanned is no circle.
WHOLE_BEAT = 0.9
RV, MYOCARDIUM, LV = 1, 2, 3
"""Codes of the labels. Papillary muscles and trabeculae count as blood, as in the sets that networks are trained on."""


@dataclass(frozen=True)
class Person:
    """What may be known of the person; None where the headers do not say.

    Attributes:
        sex: M or F.
        age: Years; above 89 it is 90 and ``aged`` is true.
        aged: Whether the age is 90 or more.
        height: Metres.
        weight: Kilograms.
    """

    sex: str | None = None
    age: float | None = None
    aged: bool = False
    height: float | None = None
    weight: float | None = None

    @property
    def age_text(self) -> str:
        """Age as tables show it: whole years, 90+, or nothing."""
        if self.age is None:
            return ""
        return "90+" if self.aged else f"{self.age:g}"


@dataclass(frozen=True)
class Scanner:
    """What may be known of the scanner.

    Attributes:
        vendor: Siemens, GE, Philips, Canon, or United Imaging; None where it is none of them or not said.
        field_strength: Tesla.
        kind: dicom or nifti, in which the study came.
    """

    vendor: str | None = None
    field_strength: float | None = None
    kind: Literal["dicom", "nifti"] = "dicom"


@dataclass(frozen=True)
class Series:
    """A series of the study, and what it was taken for.

    Attributes:
        number: Running number in the study, from 1, by which ``series.csv`` and corrections name it.
        taken_for: View (``sax``, ``lax_2c``, ``lax_3c``, ``lax_4c``), several joined by ``+``, or ``none``.
        why: One sentence; of what the headers say recognised words only.
        words: Recognised words of its description: a view, or a kind of image that is no cine.
        images: Frames in its files.
        slices: Places at which they lie.
        phases: Frames of most slices.
        size: Pixels along x and y; None for what holds no image.
        spacing: Pixel size along x and y, mm.
        thickness: Slice thickness, mm.
        angle: Between its normal and that of the short axis, degrees.
        axis_distance: From its plane to a point of the left ventricle's axis, mm.
    """

    number: int
    taken_for: str
    why: str
    words: str = ""
    images: int = 0
    slices: int = 0
    phases: int = 0
    size: tuple[int, int] | None = None
    spacing: tuple[float, float] | None = None
    thickness: float | None = None
    angle: float | None = None
    axis_distance: float | None = None


@dataclass(frozen=True)
class AsScanned:
    """A view before anything was filled, repeated or interpolated: what the gate judges.

    Attributes:
        heights: Positions of the slices along their normal, mm, ascending from 0; one for a long axis.
        phases: Frames that were read of each of these slices, in the same order.
        asked: Frames that the headers ask for, where they do.
        filled: Slices (index along z) of the view that were not scanned but filled between neighbours.
        left_out: Slices that were read and not used.
        thickness: Slice thickness, mm, where the headers say it.
        between: SpacingBetweenSlices of the headers, mm, where they say it.
        beat: Time from the first to the last frame and one step more, as a share of RR; None where it is not known.
            Half a beat gives 0.5.
    """

    heights: tuple[float, ...] = (0.0,)
    phases: tuple[int, ...] = ()
    asked: int | None = None
    filled: tuple[int, ...] = ()
    left_out: int = 0
    thickness: float | None = None
    between: float | None = None
    beat: float | None = None

    @property
    def gaps(self) -> tuple[float, ...]:
        """Distances from each slice to the next, mm."""
        return tuple(float(step) for step in np.diff(self.heights))


@dataclass(frozen=True, eq=False)
class View:
    """The images of one view.

    Attributes:
        name: ``sax``, ``lax_2c``, ``lax_3c`` or ``lax_4c``.
        frames: (X, Y, Z, T), grey levels as scanned.
        affine: (4, 4), voxel to RAS mm; for NIfTI only its lengths can be trusted, see ``trusted``.
        scanned: The same before anything was filled.
        rr: Median RR over its slices, ms; None where the headers do not say.
        rr_range: Shortest and longest RR of its slices, ms.
        trusted: Whether the affine's directions are the patient's (DICOM); otherwise labels tell base from apex.
        phases: Frame numbers (ED, ES) that the input itself names, for two frames instead of a cine.
        warnings: A sentence for whatever was left out, filled, moved, or disagrees.
        files: Of a short axis of DICOM (slice, frame) -> running number of the file, and number of the frame in it from
            1, that was read there; nothing where slices were filled or phases interpolated.
    """

    name: str
    frames: np.ndarray
    affine: np.ndarray
    scanned: AsScanned = field(default_factory=AsScanned)
    rr: float | None = None
    rr_range: tuple[float, float] | None = None
    trusted: bool = True
    phases: tuple[int, int] | None = None
    warnings: tuple[str, ...] = ()
    files: Mapping[tuple[int, int], tuple[int, int]] = field(default_factory=dict)

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Voxel size along x, y and z, mm."""
        x, y, z = np.linalg.norm(self.affine[:3, :3], axis=0).tolist()
        return x, y, z

    @property
    def voxel(self) -> float:
        """Volume of a voxel, ml."""
        return float(np.prod(self.spacing)) / 1000

    @property
    def n_frames(self) -> int:
        """Frames over the beat."""
        return self.frames.shape[3]

    @property
    def is_cine(self) -> bool:
        """Whether it shows a beat, not only ED and ES."""
        return self.phases is None and self.n_frames > 2

    @property
    def times(self) -> np.ndarray | None:
        """(T,) ms from the first frame, by fraction of the part of RR that they cover; None without RR or a cine."""
        if not self.rr or not self.is_cine:
            return None
        covered = self.rr * (1.0 if self.scanned.beat is None else self.scanned.beat)
        return np.arange(self.n_frames) * covered / self.n_frames

    @property
    def is_circle(self) -> bool:
        """Whether the last frame leads into the first: not where less than 90% of the beat was scanned."""
        return self.scanned.beat is None or self.scanned.beat >= WHOLE_BEAT


@dataclass(frozen=True, eq=False)
class Study:
    """A study as it was read and sorted.

    Attributes:
        key: Name without identity (keyed hash), by which everything of it is called.
        views: View name -> images.
        series: Every series, and what it was taken for.
        person: What may be known of the person.
        scanner: What may be known of the scanner.
        phantom: Whether it says that it is of a phantom.
        warnings: Sentences about the whole study.
        problems: View -> why there is none of it though its slices were found, such as a stack with holes.
        pictures: Number of a series -> (X, Y) grey levels of one frame, for each series that could be a cine.
    """

    key: str
    views: Mapping[str, View]
    series: tuple[Series, ...] = ()
    person: Person = field(default_factory=Person)
    scanner: Scanner = field(default_factory=Scanner)
    phantom: bool = False
    warnings: tuple[str, ...] = ()
    problems: Mapping[str, str] = field(default_factory=dict)
    pictures: Mapping[int, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True)
class Phases:
    """Frame numbers, from 0, of ED and ES of one ventricle."""

    ed: int
    es: int


@dataclass(frozen=True, eq=False)
class Segmented:
    """What the networks found in one view.

    Attributes:
        labels: (X, Y, Z, T) uint8 on the view's grid: 0 none, 1 RV, 2 myocardium, 3 LV.
        looked_at: Frames that were segmented, ascending; labels of others are 0 and mean nothing.
        volumes: Structure (``lv``, ``rv``, ``myocardium``) -> (T,) ml by counting voxels, NaN where not looked at; of a
            long axis areas in ml of its one slice, good only for comparing frames.
        phases: Ventricle -> ED and ES from its own smoothed curve; without a ventricle that was not found.
        spread: Structure -> (T,) ml, standard deviation of the volumes that the networks of an ensemble find; good as a
            scale and no interval; None for a single network.
        slices: First and last + 1 slice that count, where a person said so; None takes all.
        warnings: Sentences about the segmentation.
    """

    labels: np.ndarray
    looked_at: tuple[int, ...]
    volumes: Mapping[str, np.ndarray]
    phases: Mapping[Ventricle, Phases]
    spread: Mapping[str, np.ndarray] | None = None
    slices: tuple[int, int] | None = None
    warnings: tuple[str, ...] = ()

    @property
    def is_whole(self) -> bool:
        """Whether every frame was segmented, so that a curve can be judged."""
        return len(self.looked_at) == self.labels.shape[3]


@dataclass(frozen=True, eq=False)
class Landmarks:
    """Points of a long axis over time.

    Attributes:
        points: Name (``hinge_1``, ``hinge_2``, ``apex``) -> (T, 3) RAS mm, NaN where not found.
    """

    points: Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Measured:
    """Numbers of one study.

    Attributes:
        numbers: Column of ``columns.py`` -> number in its unit; None where it is not defined.
        segments: AHA segment 1 to 16 -> wall thickness at ED and at ES, mm; None where the wall is not closed there.
        notes: How they were measured, and why something is missing.
    """

    numbers: Mapping[str, float | None]
    segments: Mapping[int, tuple[float | None, float | None]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Reference:
    """What a number is compared with.

    Attributes:
        column: The number's column.
        low: Lower end of the range, in the column's unit.
        high: Upper end.
        z: Distance from the mean in SD; None where no mean is known or can be had from limits.
        source: Citation, cohort, sex and ages, papillary convention, and how the range was made.
    """

    column: str
    low: float
    high: float
    z: float | None
    source: str


@dataclass(frozen=True)
class Interval:
    """A calibrated interval of a number.

    Attributes:
        column: The number's column.
        low: Lower end, in the column's unit.
        high: Upper end.
        coverage: Nominal, such as 0.9.
        valid: Whether the study lies inside the calibration's cohort.
        note: On what it was calibrated, and why it is not valid here if so.
    """

    column: str
    low: float
    high: float
    coverage: float
    valid: bool = True
    note: str = ""


@dataclass(frozen=True)
class Check:
    """One check of the gate.

    Attributes:
        name: Which check, as in the thresholds' file.
        verdict: pass, warn or refuse.
        sentence: What was found, and what follows.
    """

    name: str
    verdict: Verdict
    sentence: str


@dataclass(frozen=True, eq=False)
class Result:
    """An analysed study.

    Attributes:
        study: The study.
        segmented: View -> what was found in it.
        measured: Its numbers, without any where the gate refuses.
        checks: What the gate said.
        references: Ranges and z-scores.
        intervals: Calibrated intervals.
        landmarks: View -> points.
        corrections: Sentences about what a person changed, by which file and when.
        made_with: Name -> version of the packages, and name -> digest of the weights.
        by_phantoms: Views whose masks or landmarks are by a network that was trained on phantoms only.
    """

    study: Study
    segmented: Mapping[str, Segmented]
    measured: Measured
    checks: tuple[Check, ...] = ()
    references: tuple[Reference, ...] = ()
    intervals: tuple[Interval, ...] = ()
    landmarks: Mapping[str, Landmarks] = field(default_factory=dict)
    corrections: tuple[str, ...] = ()
    made_with: Mapping[str, str] = field(default_factory=dict)
    by_phantoms: tuple[str, ...] = ()

    @property
    def quality(self) -> Verdict:
        """The worst verdict of all checks."""
        verdicts = {check.verdict for check in self.checks}
        return "refuse" if "refuse" in verdicts else "warn" if "warn" in verdicts else "pass"

    @property
    def reasons(self) -> tuple[str, ...]:
        """Sentences of the checks that did not pass, refusals first."""
        told = [check for check in self.checks if check.verdict != "pass"]
        return tuple(check.sentence for check in sorted(told, key=lambda check: check.verdict != "refuse"))
