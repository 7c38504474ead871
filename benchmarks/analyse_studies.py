"""Phantom studies as DICOM of three vendors' habits, in memory, for `analyse.py`; measures nothing by itself."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from io import BytesIO
from types import SimpleNamespace
from typing import IO, Any

import numpy as np

from cinema_lightning.analysis.sources import Source
from cinema_lightning.data.draws import generator
from cinema_lightning.phantom.acquisition import LAX_ANGLES, Acquisition, Plane, patient_position
from cinema_lightning.phantom.anatomy import Heart
from cinema_lightning.phantom.cohort import scanner
from cinema_lightning.phantom.imaging import Imager, ViewSeries
from cinema_lightning.phantom.raw.dicom import frame_bytes, geometry, patient, uid
from cinema_lightning.phantom.subject import Subject, draw_subject

HABITS = ("Siemens", "GE", "Philips")
"""One series a slice; one series for the whole stack; one enhanced file for it."""
FRAMES, SIZE, PIXEL, LONG_PIXEL, LEVEL = 16, 68, 2.8, 3.4, 500
CINE = {
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


class Truth:
    """In the place of a network: the labels that belong to a slice's pixels, wherever the slice was put."""

    def __init__(self, study: PhantomStudy) -> None:
        images, labels = study.scans[0].images, study.sax.labels
        slices = [(t, z) for t in range(images.shape[0]) for z in range(images.shape[3])]
        self.labels = {images[t, :, :, z].tobytes(): labels[t, :, :, z] for t, z in slices}

    def __call__(self, scan: Any, **_: Any) -> Any:
        """The labels of one view's frames; of what was filled there are none."""
        ((view, images),) = scan.items()
        nothing = np.zeros(images.shape[:2], np.uint8)
        labels = np.zeros(images.shape, np.uint8)
        for z, t in np.ndindex(images.shape[2:]):
            labels[:, :, z, t] = self.labels.get(np.ascontiguousarray(images[:, :, z, t]).tobytes(), nothing)
        classes = {0: "background", 1: "RV", 2: "myocardium", 3: "LV"}
        return SimpleNamespace(views={view: SimpleNamespace(labels=labels, classes=classes)}, rows=())


def make(
    seed: int, index: int, *, views: bool = True, beat: float = 1.0, frames: int = FRAMES, **options: Any
) -> PhantomStudy:
    """Images one subject.

    Args:
        seed: Seed of the cohort.
        index: Number of the subject, which also chooses the habit.
        views: With long axes and series that are no views of ours; else the short axis alone.
        beat: Share of the beat that is scanned, from ED on.
        frames: How many frames it has.
        **options: Fields of the acquisition.

    Returns:
        The study.
    """
    habit = HABITS[index % len(HABITS)]
    subject = _without_shunt(draw_subject(seed, index))
    heart = Heart(subject)
    grid = {"sax_size": (SIZE, SIZE), "sax_spacing": (PIXEL, PIXEL)}
    grid |= {"lax_size": (SIZE, SIZE), "lax_spacing": (LONG_PIXEL, LONG_PIXEL)}
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
    out = {}
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
    cine, heart = partial(_cine, habit), imager.heart
    centre = heart.to_patient(np.array([0.0, 0.0, 0.6 * heart.length]))
    position = patient_position(heart, imager.acquisition)
    middle, still = (position @ [*centre, 1])[:3], {"SliceThickness": 6.0}
    axial = [np.array(axis, float) for axis in ((-1, 0, 0), (0, -1, 0), (0, 0, 1))]
    for number, (one, other, normal) in enumerate(((0, 1, 2), (0, 2, 1), (1, 2, 0))):
        shown = imager.image_plane(f"loc{number}", _plane(sax, middle, [axial[one], axial[other], axial[normal]], 1))
        yield Scan("none", levels(shown.images[:1, ..., None]), shown.affine, words[4], _kind("LOCALIZER") | still)
    yield cine("none", imager.image_plane("axial", _plane(sax, middle, axial, 5, 10.0)), words[5])
    # Beside the axis of the left ventricle: the right 2CH as the left one is turned, the outflow tract 25 degrees more.
    outflow = bool(rng.integers(2))
    angle = LAX_ANGLES["lax_2c"] + math.radians(25 if outflow else 2)
    x, y, z = (position[:3, :3] @ heart.axes[:, k] for k in range(3))
    across = math.cos(angle) * x + math.sin(angle) * y
    beside = middle + x * float(rng.uniform(24, 30) if outflow else rng.uniform(34, 42))
    right = _plane(sax, beside, [across, -z, np.cross(across, -z)], 1)
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


def _plane(sax: ViewSeries, centre: np.ndarray, axes: list[np.ndarray], n: int, distance: float = 8.0) -> Plane:
    """A grid of ``n`` slices about a point of the scanner, RAS mm."""
    shape, affine = (SIZE, SIZE, n), np.eye(4)
    affine[:3, :3] = np.stack(axes, axis=1) * [LONG_PIXEL, LONG_PIXEL, distance]
    affine[:3, 3] = centre - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return Plane(affine, shape, 7.0, sax.plane.to_patient)


def sources(study: PhantomStudy, index: int, *, shuffle: bool = True) -> tuple[list[Source], dict[int, str]]:
    """Writes a study.

    Args:
        study: The study.
        index: Number of the subject.
        shuffle: Series come in any order.

    Returns:
        Its files, and the view of each series by its running number.
    """
    root = uid(0, "analyse", index)
    subject = study.heart.subject
    common = patient(subject, f"P{index}", root, {"GE": "GE MEDICAL SYSTEMS"}.get(study.habit, study.habit.upper()))
    common |= {"FrameOfReferenceUID": f"{root}.9", "MagneticFieldStrength": 1.5}
    parts = [part for scan in study.scans for part in (_slices(scan) if study.habit == "Siemens" else [scan])]
    order = generator(0, "analyse", "order", index).permutation(len(parts)) if shuffle else range(len(parts))
    files, truth, beat = [], {}, float(generator(0, "analyse", "beat", index).integers(650, 1150))
    for number, place in enumerate(order, start=1):
        part = parts[place]
        tags = {**common, "SeriesNumber": number, "SeriesInstanceUID": f"{root}.{number}"}
        tags |= {"SeriesDescription": part.words, **part.tags}
        truth[number] = part.view
        enhanced = study.habit == "Philips" and not part.coloured
        files += [_enhanced(part, tags, beat)] if enhanced else list(_classic(study.habit, part, tags, beat))
    rng = generator(0, "analyse", "files", index)
    return [Source(n + 1, "", partial(_opened, files[k])) for n, k in enumerate(rng.permutation(len(files)))], truth


@contextmanager
def _opened(data: bytes) -> Iterator[IO[bytes]]:
    yield BytesIO(data)


def _slices(scan: Scan) -> Iterator[Scan]:
    """One series a slice."""
    for z, place in scan.slices:
        yield replace(scan, images=scan.images[:, :, :, z : z + 1], places=(place,))


def _classic(habit: str, scan: Scan, tags: dict[str, Any], rr: float) -> Iterator[bytes]:
    """A file a frame; GE says how far slices are apart, and starts late and at other rates in each slice."""
    count, number = scan.images.shape[0], 0
    apart = round(float(np.linalg.norm(scan.affine[:3, 2])), 3) if habit == "GE" and len(scan.slices) > 1 else None
    for z, place in scan.slices:
        beat, start = (rr * (1 + 0.03 * (z * 7 % 3 - 1)), 10.0 + z % 5) if habit == "GE" else (rr, 0.0)
        for frame in range(count):
            number += 1
            own = {"InstanceNumber": number, "SOPInstanceUID": f"{tags['SeriesInstanceUID']}.{number}"}
            own |= {"SpacingBetweenSlices": apart, **geometry(scan.affine, place)}
            if count > 1:
                own |= {"TriggerTime": round(start + scan.share * beat * frame / count, 2)}
                own |= {"CardiacNumberOfImages": count, "NominalInterval": round(beat) if scan.says_beat else None}
            yield frame_bytes(scan.images[frame, :, :, z], own | tags)


def _enhanced(scan: Scan, tags: dict[str, Any], rr: float) -> bytes:
    """One file for all frames, with what differs between them in functional groups."""
    import pydicom
    from pydicom.uid import EnhancedMRImageStorage

    lone = {"SOPInstanceUID": f"{tags['SeriesInstanceUID']}.1", "InstanceNumber": 1}
    shared = {name: tags[name] for name in ("SliceThickness", "SpacingBetweenSlices") if name in tags}
    top = {name: value for name, value in tags.items() if name not in shared}
    file = pydicom.dcmread(BytesIO(frame_bytes(scan.images[0, :, :, 0], top | lone)))
    file.file_meta.MediaStorageSOPClassUID = file.SOPClassUID = EnhancedMRImageStorage
    groups, planes, count = [], [], scan.images.shape[0]
    for z, place in scan.slices:
        where = geometry(scan.affine, place)
        for frame in range(count):
            group = _item(
                PlanePositionSequence=[_item(ImagePositionPatient=where["ImagePositionPatient"])],
                PlaneOrientationSequence=[_item(ImageOrientationPatient=where["ImageOrientationPatient"])],
                PixelMeasuresSequence=[_item(PixelSpacing=where["PixelSpacing"], **shared)],
                FrameContentSequence=[
                    _item(StackID="1", InStackPositionNumber=place + 1, TemporalPositionIndex=frame + 1)
                ],
            )
            if count > 1:
                delay = {"NominalCardiacTriggerDelayTime": scan.share * rr * frame / count}
                beat = {"RRIntervalTimeNominal": rr} if scan.says_beat else {}
                group.CardiacSynchronizationSequence = [_item(**delay, **beat)]
            groups.append(group)
            planes.append(scan.images[frame, :, :, z].T)
    file.PerFrameFunctionalGroupsSequence, file.NumberOfFrames = groups, len(groups)
    file.PixelData = np.stack(planes).tobytes()
    buffer = BytesIO()
    file.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def _item(**values: Any) -> Any:
    import pydicom

    item = pydicom.Dataset()
    for name, value in values.items():
        setattr(item, name, value)
    return item
