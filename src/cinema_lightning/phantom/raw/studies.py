"""A whole examination of a phantom heart as three vendors' scanners make it: views, and series that are no views."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal

import numpy as np

from cinema_lightning.data.draws import generator
from cinema_lightning.phantom.acquisition import LAX_ANGLES, Acquisition, Plane, patient_position
from cinema_lightning.phantom.anatomy import Heart
from cinema_lightning.phantom.cohort import scanner
from cinema_lightning.phantom.imaging import Imager, ViewSeries
from cinema_lightning.phantom.subject import Subject, draw_subject

HABITS = ("Siemens", "GE", "Philips")
"""One series a slice; one series for the whole stack; one enhanced file for it."""
FRAMES, LEVEL = {"full": 30, "small": 16}, 500
GRIDS = {"full": (192, 1.4, 1.5), "small": (68, 2.8, 3.4)}
"""Pixels, and their size in the short and in the long axis, mm."""
CINE: dict[str, dict[str, Any]] = {
    "Siemens": {"ImageType": ["ORIGINAL", "PRIMARY", "M", "RETRO", "NORM", "DIS2D"], "SequenceName": "*tfi2d1_10"},
    "GE": {"ImageType": ["ORIGINAL", "PRIMARY", "OTHER"], "ScanOptions": ["FAST_GEMS", "SEQ_GEMS", "CG"]},
    "Philips": {"ImageType": ["ORIGINAL", "PRIMARY", "M_FFE", "M"]},
}
WORDS = {
    "Siemens": ("cine_sax", "cine_2CH", "cine_3CH", "cine_4CH", "localizer", "trufi_AX", "cine_RVOT", "PSIR_sax"),
    "GE": ("", "", "3CH FIESTA", "4CH FIESTA", "3-pl Loc Fiesta", "AX_MFIESTA_BH", "FIESTA", "MDE"),
    "Philips": ("sBTFE_BH_SA", "VLA", "LVOT", "4_Chamber", "SURVEY_BFFE", "bFFE_BH_AX", "BFFE", "IR_TFE"),
}


@dataclass(frozen=True)
class Scan:
    """What one series shows.

    Attributes:
        view: View that it should be taken for; none for what is no view of ours.
        images: (T, X, Y, Z) levels as scanned.
        affine: (4, 4), voxel to RAS mm.
        words: Its description.
        tags: Header fields of all of its files.
        coloured: Whether it is a coloured picture.
        places: Of each slice along the affine's third axis; empty for one after the other.
        share: Part of the beat over which the frames go.
        says_beat: Whether the headers say how long the beat is.
    """

    view: str
    images: np.ndarray
    affine: np.ndarray
    words: str
    tags: dict[str, Any] = field(default_factory=dict)
    coloured: bool = False
    places: tuple[int, ...] = ()
    share: float = 1.0
    says_beat: bool = True

    @property
    def slices(self) -> list[tuple[int, int]]:
        """Number and place of each slice."""
        return list(enumerate(self.places or range(self.images.shape[3])))


@dataclass(frozen=True)
class PhantomStudy:
    """A heart, how it was scanned, and what is true of it.

    Attributes:
        heart: The heart.
        habit: One of :data:`HABITS`.
        scans: Its series; a stack is one, however many series it is written as.
        sax: The short axis with its labels.
        truth: ``lv_edv`` and so on, ml, % and g, by integration over the surfaces.
    """

    heart: Heart
    habit: str
    scans: tuple[Scan, ...]
    sax: ViewSeries
    truth: dict[str, float]


def make(
    seed: int,
    index: int,
    *,
    views: bool = True,
    beat: float = 1.0,
    frames: int = FRAMES["small"],
    size: Literal["full", "small"] = "small",
    **options: Any,
) -> PhantomStudy:
    """Images one subject.

    Args:
        seed: Seed of the cohort.
        index: Number of the subject, which also chooses the habit.
        views: With long axes and series that are no views of ours; else the short axis alone.
        beat: Share of the beat that is scanned, from ED on.
        frames: How many frames it has.
        size: Resolution, see :data:`GRIDS`.
        **options: Fields of the acquisition.

    Returns:
        The study.
    """
    habit = HABITS[index % len(HABITS)]
    subject = _without_shunt(draw_subject(seed, index))
    heart = Heart(subject)
    pixels, pixel, long_pixel = GRIDS[size]
    grid = {"sax_size": (pixels, pixels), "sax_spacing": (pixel, pixel)}
    grid |= {"lax_size": (pixels, pixels), "lax_spacing": (long_pixel, long_pixel)}
    look = scanner(subject)[3]
    acquisition = Acquisition(n_frames=frames, seed=seed, base_first=index % 2 == 0, **(grid | look | options))
    # ED is not the first frame everywhere.
    first = int(generator(seed, "analyse", "first", index).integers(frames)) if habit == "GE" and beat == 1 else 0
    imager = Imager(heart, acquisition, [beat * ((frame + first) % frames) / frames for frame in range(frames)])
    sax = imager.image("sax")
    words = WORDS[habit]
    scans = [_cine(habit, "sax", sax, words[0])]
    if views:
        names = dict(zip(("lax_2c", "lax_3c", "lax_4c"), words[1:4], strict=True))
        names["lax_3c"] = words[3] or "4CH"  # as in the one real study: a 3CH that is called 4CH
        scans += [_cine(habit, view, imager.image(view), name) for view, name in names.items()]
        scans += _others(habit, imager, sax, words, generator(seed, "analyse", "others", index))
    return PhantomStudy(heart, habit, tuple(scans), sax, _truth(heart))


def _without_shunt(subject: Subject) -> Subject:
    """The subject with an RV that pumps what the LV pumps, as without shunts and regurgitation they do.

    The cohort's ventricles are drawn each by itself: its stroke volumes are as apart as 86 and 47 ml.
    """
    stroke = subject.lv_edv * subject.lv_ef
    edv = max(subject.rv_edv, stroke / 0.7)
    return replace(subject, rv_edv=edv, rv_ef=stroke / edv)


def _truth(heart: Heart) -> dict[str, float]:
    moments = [heart.at(time) for time in np.arange(200) / 200]
    volumes = np.array([heart.ventricles.volumes(moment) for moment in moments])
    out: dict[str, float] = {}
    for side, curve in zip(("lv", "rv"), volumes.T, strict=True):
        edv, esv = float(curve.max()), float(curve.min())
        out |= {f"{side}_edv": edv, f"{side}_esv": esv, f"{side}_ef": 100 * (edv - esv) / edv}
    return out | {"lv_mass": heart.ventricles.lv_mass}


def levels(images: np.ndarray) -> np.ndarray:
    """Images as a scanner stores them."""
    return np.clip(np.rint(images * LEVEL), 0, 4095).astype(np.uint16)


def _cine(habit: str, view: str, series: ViewSeries, words: str) -> Scan:
    images = series.images if series.images.ndim == 4 else series.images[..., None]
    return Scan(view, levels(images), series.affine, words, {**CINE[habit], "SliceThickness": series.plane.thickness})


def _others(
    habit: str, imager: Imager, sax: ViewSeries, words: tuple[str, ...], rng: np.random.Generator
) -> Iterator[Scan]:
    """Series that are no views of ours; right 2CH or RVOT in turns, called 2CH."""
    cine, plane, heart = partial(_cine, habit), partial(_plane, sax, imager.acquisition), imager.heart
    centre = heart.to_patient(np.array([0.0, 0.0, 0.6 * heart.length]))
    position = patient_position(heart, imager.acquisition)
    middle, still = (position @ [*centre, 1])[:3], {"SliceThickness": 6.0}
    axial = [np.array(axis, float) for axis in ((-1, 0, 0), (0, -1, 0), (0, 0, 1))]
    for number, (one, other, normal) in enumerate(((0, 1, 2), (0, 2, 1), (1, 2, 0))):
        shown = imager.image_plane(f"loc{number}", plane(middle, [axial[one], axial[other], axial[normal]], 1))
        yield Scan("none", levels(shown.images[:1, ..., None]), shown.affine, words[4], _kind("LOCALIZER") | still)
    yield cine("none", imager.image_plane("axial", plane(middle, axial, 5, 10.0)), words[5])
    # Beside the axis of the left ventricle: the right 2CH as the left one is turned, the outflow tract 25 degrees more.
    outflow = bool(rng.integers(2))
    angle = LAX_ANGLES["lax_2c"] + math.radians(25 if outflow else 2)
    x, y, z = (position[:3, :3] @ heart.axes[:, k] for k in range(3))
    across = math.cos(angle) * x + math.sin(angle) * y
    beside = middle + x * float(rng.uniform(24, 30) if outflow else rng.uniform(34, 42))
    right = plane(beside, [across, -z, np.cross(across, -z)], 1)
    yield cine("none", imager.image_plane("right", right), "cine RVOT" if outflow and rng.integers(2) else "2CH")
    late = {**_kind("M"), "InversionTime": 280.0, "SliceThickness": 8.0}
    yield Scan("none", levels(sax.images[:1]), sax.affine, words[7], late)
    yield Scan("none", levels(sax.images[:1, ..., 3:6]), _moved(sax.affine, 3), "T1Map_MOCO", _kind("T1 MAP") | still)
    saved = np.repeat(levels(sax.images[:1, ..., 4:5])[..., None] // 16, 3, axis=-1).astype(np.uint8)
    kind = {"ImageType": ["DERIVED", "SECONDARY", "SCREEN SAVE"]}
    yield Scan("none", saved, sax.affine, "screen save", kind, coloured=True)


def _kind(word: str) -> dict[str, Any]:
    return {"ImageType": ["ORIGINAL", "PRIMARY", word]}


def _moved(affine: np.ndarray, z: int) -> np.ndarray:
    out = affine.copy()
    out[:3, 3] += z * out[:3, 2]
    return out


def _plane(
    sax: ViewSeries, like: Acquisition, centre: np.ndarray, axes: list[np.ndarray], n: int, distance: float = 8.0
) -> Plane:
    """A grid of ``n`` slices about a point of the scanner, RAS mm, with the pixels of the long axes."""
    shape, affine = (*like.lax_size, n), np.eye(4)
    affine[:3, :3] = np.stack(axes, axis=1) * [*like.lax_spacing, distance]
    affine[:3, 3] = centre - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return Plane(affine, shape, 7.0, sax.plane.to_patient)
