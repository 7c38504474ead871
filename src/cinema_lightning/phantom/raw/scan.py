"""How the subjects of the raw layouts are imaged, and what is known about each image."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from cinema_lightning.data.draws import generator
from cinema_lightning.phantom.acquisition import Acquisition
from cinema_lightning.phantom.anatomy import Heart
from cinema_lightning.phantom.cohort import SCANNERS
from cinema_lightning.phantom.imaging import Imager, ViewSeries
from cinema_lightning.phantom.raw.base import RawSettings
from cinema_lightning.phantom.subject import Subject
from cinema_lightning.phantom.truth import es_frame, voxel_volumes

SHRINK = 2.5  # pixel size of small phantoms relative to full ones
SMALL_SLICES = 8
# name -> noise, blur (mm), shading
LOOKS = {name: (noise, blur, shading) for name, _, noise, blur, shading in SCANNERS} | {"Canon": (0.017, 2.2, 0.9)}
Grid = tuple[tuple[int, int], tuple[float, float]]
# What labels are in the store's cine set and in the M&Ms and Rescan files, by the phantom's RV 1, myocardium 2, LV 3.
LV_FIRST = {1: 3, 2: 2, 3: 1}


def sized(size: Literal["full", "small"], grid: Grid) -> Grid:
    """In-plane grid at the wanted size: same field of view, fewer pixels for small."""
    if size == "full":
        return grid
    (nx, ny), (sx, sy) = grid
    return (round(nx / SHRINK), round(ny / SHRINK)), (sx * SHRINK, sy * SHRINK)


def examination(
    settings: RawSettings,
    subject: Subject,
    vendor: str,
    *,
    sax: Grid,
    slices: tuple[float, float] = (10.0, 8.0),
    lax: Grid = ((208, 208), (1.8, 1.8)),
    visit: int = 0,
    **more: Any,
) -> Acquisition:
    """The examination of a subject on a scanner of one vendor.

    Args:
        settings: The cohort's settings.
        subject: The subject.
        vendor: A key of ``LOOKS``.
        sax: Pixels and pixel size (mm) of the short axis at full size.
        slices: Distance and thickness of its slices, mm, at full size.
        lax: Pixels and pixel size of the long-axis images at full size.
        visit: Another number puts the patient, the planes and the noise anew; the heart stays.
        **more: Further fields of the acquisition.

    Returns:
        The acquisition.
    """
    rng = generator(settings.seed, "phantom", "raw look", subject.index)
    noise, blur, shading = LOOKS[vendor]
    (sax_size, sax_spacing), (lax_size, lax_spacing) = sized(settings.size, sax), sized(settings.size, lax)
    small = settings.size == "small"
    fields: dict[str, Any] = {
        "n_frames": settings.frames,
        "sax_size": sax_size,
        "sax_spacing": sax_spacing,
        "slice_distance": None if small else slices[0],
        "n_slices": SMALL_SLICES if small else None,
        "slice_thickness": None if small else slices[1],
        "lax_size": lax_size,
        "lax_spacing": lax_spacing,
        "noise": noise * float(rng.uniform(0.7, 1.4)),
        "blur": blur * float(rng.uniform(0.9, 1.15)),
        "shading": shading * float(rng.uniform(0.6, 1.5)),
        "seed": settings.seed + 1000003 * visit,
    }
    return Acquisition(**(fields | more))


def images_of(heart: Heart, acquisition: Acquisition, views: tuple[str, ...], ed: int = 0) -> dict[str, ViewSeries]:
    """Images some views of a heart over its cycle.

    Args:
        heart: The heart.
        acquisition: The examination.
        views: View names.
        ed: Frame of end diastole; the cycle is turned so that it lies there.

    Returns:
        View name -> series.
    """
    n = acquisition.n_frames
    imager = Imager(heart, acquisition, [(frame - ed) % n / n for frame in range(n)])
    return {view: imager.image(view) for view in views}


def late_start(settings: RawSettings, wanted: bool) -> int:
    """Frame of ED: a few series start before the R wave."""
    return min(2, settings.frames - 1) if wanted and settings.frames > 4 else 0


def grey(images: np.ndarray, scale: float, kind: type[np.generic] = np.int16, top: int = 4095) -> np.ndarray:
    """Whole grey levels as scanners store them, 0 to ``top``."""
    return np.clip(np.rint(images * scale), 0, top).astype(kind)


def grey_scale(settings: RawSettings, subject: Subject, *key: str | int) -> float:
    """Grey level of blood: it means nothing in MRI and differs between examinations."""
    return float(generator(settings.seed, "phantom", "grey scale", subject.index, *key).uniform(220, 900))


def relabel(labels: np.ndarray, codes: dict[int, int], kind: type[np.generic] = np.uint8) -> np.ndarray:
    """Label map in a dataset's codes; codes that are not named become 0."""
    table = np.zeros(256, kind)
    for old, new in codes.items():
        table[old] = new
    return table[labels]


def truth_row(name: str, heart: Heart, sax: ViewSeries, ed: int, es: int | None = None, **more: Any) -> dict[str, Any]:
    """One row of ``phantom_truth.csv``.

    Args:
        name: Id that the dataset's reader gives the study.
        heart: The heart.
        sax: Its short-axis series.
        ed: Frame of ED.
        es: Frame of ES; None for the one in which the LV has emptied most.
        **more: Further cells.

    Returns:
        Volumes by voxels in the native label maps (``lv_edv``) and by integration over the surfaces
        (``lv_edv_true``), ml; EF in percent; demographics.
    """
    es = es_frame(sax.phases) if es is None else es
    subject = heart.subject
    row: dict[str, Any] = {"id": name, "phantom": subject.index, "ed_frame": ed, "es_frame": es}
    (rv_ed, _, lv_ed), (rv_es, _, lv_es) = voxel_volumes(sax, ed), voxel_volumes(sax, es)
    true_ed, true_es = heart.ventricles.volumes(sax.phases[ed]), heart.ventricles.volumes(sax.phases[es])
    for side, edv, esv in (
        ("lv_{}", lv_ed, lv_es),
        ("rv_{}", rv_ed, rv_es),
        ("lv_{}_true", true_ed[0], true_es[0]),
        ("rv_{}_true", true_ed[1], true_es[1]),
    ):
        values = {"edv": edv, "esv": esv, "ef": 100 * (1 - esv / edv) if edv else 0.0}
        row |= {side.format(key): round(float(value), 2) for key, value in values.items()}
    row |= {"sex": subject.sex, "age": subject.age, "height": subject.height, "weight": subject.weight}
    return row | {"bmi": round(subject.bmi, 2), **more}
