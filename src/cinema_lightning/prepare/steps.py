"""One study from raw to store: read, map labels, resample, crop, grey levels, write. The same for every dataset."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cinema_lightning import __version__
from cinema_lightning.columns import frames_column
from cinema_lightning.data.store import series_path, write_series
from cinema_lightning.datasets.base import LV, MYOCARDIUM, RV, CaseRef, Dataset, RawCase, RawSeries
from cinema_lightning.errors import CinemaError
from cinema_lightning.imaging import geometry
from cinema_lightning.imaging.alignment import Volume, on_grid
from cinema_lightning.imaging.geometry import Window
from cinema_lightning.imaging.grid import Grid, check_slices_last
from cinema_lightning.imaging.intensity import to_uint8
from cinema_lightning.imaging.motion import motion_centre
from cinema_lightning.prepare import measure
from cinema_lightning.prepare.failures import StepError, step
from cinema_lightning.prepare.size import Size, crop_size, marked, target_spacing

# Raised whenever the same raw study gives other bytes or cells, so that a second run prepares it anew.
VERSION = 2
# A label may miss a whole number by this much, as after a detour through floating numbers.
WHOLE = 1e-3
# Wrong labels that a message names.
SHOWN = 5
WRONG_FRAME = "mend the list that says so; in a description of your own data, frames_from says from where it counts"
MISPLACED = "mend the header of the view that lies elsewhere than the others"
# Class code -> how the columns begin that are measured from its voxels.
MEASURED = {LV: "lv_e", RV: "rv_e", MYOCARDIUM: "lv_mass"}


@dataclass
class _Work:
    """One view on its way: what was read, and what is known about its preparation."""

    raw: RawSeries
    grid: Grid
    labels: dict[int, np.ndarray]

    def moved(self, x: float, y: float) -> tuple[float, float]:
        """Where a point of the raw plane lies in the stored one, voxels; untouched where the two are the same."""
        raw, stored = np.asarray(self.raw.affine, float), self.grid.network_affine
        if np.array_equal(raw, stored):
            return x, y
        place = np.linalg.solve(stored, raw @ [x, y, 0.0, 1.0])
        # Far below what a landmark can be known to; the digits after it are those of the matrices.
        return round(float(place[0]), 6), round(float(place[1]), 6)


def prepare_case(dataset: Dataset, case: CaseRef, root: Path, size: Size = "full") -> dict[str, Any]:
    """Prepares one study and writes its series.

    Args:
        dataset: The dataset.
        case: The study.
        root: Folder in which the study's own folder is made.
        size: full or small, see :mod:`cinema_lightning.prepare.size`.

    Returns:
        ``row`` (cells of the table), ``landmarks`` (rows) and ``warnings`` (sentences), plain values.

    Raises:
        StepError: If a step does not work.
    """
    with step("read"):
        raw = dataset.read(case)
        _check(raw)
        labels, notes = _labels_on_images(raw)
    works = {view: _start(dataset, view, series, labels[view], size) for view, series in raw.series.items()}
    row: dict[str, Any] = {"views": " ".join(works), "n_frames": min(len(work.raw.frames) for work in works.values())}
    row |= {frames_column(view): len(work.raw.frames) for view, work in works.items()}
    if "sax" in works:
        row["n_slices"] = works["sax"].grid.whole_shape[2]
    row |= _original_spacings(works) | raw.fields
    with step("labels"):
        row |= _proportions(dataset, works)
    with step("crop"):
        row |= _place_windows(dataset, works, row.get("ed_frame"), size)
        _crop_labels(works)
        row |= _volumes(dataset, works, row)
    with step("write"):
        for view, work in works.items():
            _write(dataset, case, root, view, work, size)
    if row.get("lv_esv") == 0:
        notes.append("the ES label map has no LV blood pool, so the ejection fraction is 100%")
    landmarks = [[view, frame, name, *works[view].moved(x, y)] for view, frame, name, x, y in raw.landmarks]
    return {"row": row, "landmarks": landmarks, "warnings": [*raw.warnings, *notes]}


def _check(raw: RawCase) -> None:
    if not raw.series:
        raise CinemaError("there is no image: look whether all of its files are there")
    for view, series in raw.series.items():
        if series.frames.ndim != 4 or 0 in series.frames.shape:
            raise CinemaError(
                f"{view}: an image series of shape {series.frames.shape} cannot be prepared: get it again"
            )
        if not series.frames.any():
            raise CinemaError(f"{view}: every pixel is 0: get it again, or leave the study out")
        check_slices_last(np.asarray(series.affine, float), view)
    _check_phases(raw)


def _labels_on_images(raw: RawCase) -> tuple[dict[str, dict[int, np.ndarray]], list[str]]:
    """View -> frame -> label map on its image's grid, and what there is to say of the headers."""
    maps: dict[str, dict[int, np.ndarray]] = {view: {} for view in raw.series}
    notes = [note for series in raw.series.values() for note in series.notes]
    for view, series in raw.series.items():
        for frame, label in sorted(series.labels.items()):
            try:
                maps[view][frame], said = _on_image(label, series)
            except CinemaError as error:
                raise CinemaError(f"{view}: the label map of frame {frame}: {error}") from None
            notes += said
    return maps, list(dict.fromkeys(notes))


def _on_image(label: np.ndarray | Volume, series: RawSeries) -> tuple[np.ndarray, list[str]]:
    shape = series.frames.shape[1:]
    if isinstance(label, Volume):
        image = Volume(series.frames[0], np.asarray(series.affine, float), "its image", series.place)
        voxels, note = on_grid(label, image, labels=True)
        return voxels, [*label.notes, *filter(None, [note])]
    if label.shape != shape:
        raise CinemaError(f"it has {label.shape} voxels and the image {shape}: give the image's own")
    return label, []


def _check_phases(raw: RawCase) -> None:
    end_diastole, end_systole = raw.fields.get("ed_frame"), raw.fields.get("es_frame")
    if end_diastole is None and end_systole is None:
        return
    if end_diastole == end_systole:
        raise CinemaError(f"ED and ES are the same frame ({end_diastole}, counted from 0): {WRONG_FRAME}")
    # They count in the SAX series, where there is one; other views may be longer or shorter.
    counted = [raw.series["sax"]] if "sax" in raw.series else raw.series.values()
    last = min(len(series.frames) for series in counted) - 1
    for phase, frame in (("ED", end_diastole), ("ES", end_systole)):
        if frame is None or not 0 <= frame <= last:
            raise CinemaError(
                f"{phase} is frame {frame}, counted from 0, but the frames are 0 to {last}: {WRONG_FRAME}"
            )


def _start(dataset: Dataset, view: str, series: RawSeries, labels: Mapping[int, np.ndarray], size: Size) -> _Work:
    with step("resample"):
        shape = series.frames.shape[1:]
        target = target_spacing(dataset, view, geometry.spacing_of(series.affine).tolist(), shape, size)
        work = _Work(series, Grid(np.asarray(series.affine, float), shape, target), {})
    with step("labels"):
        mapped = {
            frame: map_labels(label, dataset.label_map, f"frame {frame} of {view}") for frame, label in labels.items()
        }
    with step("resample"):
        work.labels = {frame: work.grid.to_network(label, label=True) for frame, label in mapped.items()}
    return work


def map_labels(label: np.ndarray, label_map: Mapping[int, int], what: str) -> np.ndarray:
    """Turns a provider's label values into class codes.

    Args:
        label: Raw label map; values within a thousandth of a whole number are it.
        label_map: Raw value -> class code.
        what: What to call the map in a message.

    Returns:
        uint8 class codes.

    Raises:
        CinemaError: If a value is not in the map.
    """
    if label.dtype.kind == "f":
        label = np.where(np.abs(label - np.rint(label)) <= WHOLE, np.rint(label), label)
    values = np.unique(label)
    unknown = [f"{value.item():.6g}" for value in values if value not in label_map]
    if unknown:
        known = ", ".join(map(str, label_map))
        raise CinemaError(
            f"the label map of {what} holds {', '.join(unknown[:SHOWN])}; known are {known}: mend the map, or in a "
            "description of your own data say under labels what it means"
        )
    out = np.zeros(label.shape, np.uint8)
    for value in values:
        out[label == value] = label_map[int(value)]
    return out


def _original_spacings(works: dict[str, _Work]) -> dict[str, float]:
    return {
        f"orig_{view}_spacing_{axis}": float(size)
        for view, work in works.items()
        if work.raw.facts.get("spacing_known", True)
        for axis, size in zip("xyz", work.grid.scan_spacing, strict=True)
    }


def _proportions(dataset: Dataset, works: dict[str, _Work]) -> dict[str, Any]:
    """Before the crop, as published."""
    sax = works.get("sax")
    if dataset.measures != "proportions" or sax is None or not sax.labels:
        return {}
    return measure.proportions(next(iter(sax.labels.values())), [code for code in dataset.labels if code > 0])


def _place_windows(dataset: Dataset, works: dict[str, _Work], ed_frame: int | None, size: Size) -> dict[str, str]:
    """Places the crops; gives the cell that says how the heart was found, where it had to be."""
    if dataset.crop == "plane intersection":
        point, found = _heart(works)
        _crop_around(dataset, works, point, found, size)
        return {"crop_centre": found}
    if dataset.crop == "auto":
        return {"crop_centre": _place_around_heart(dataset, works, size)}
    if dataset.crop == "centre":
        for view, work in works.items():
            work.grid = work.grid.cropped(geometry.centre_window(work.grid.whole_shape, crop_size(dataset, view, size)))
    elif dataset.crop == "label box":
        for view, work in works.items():
            work.grid = work.grid.cropped(_label_window(dataset, view, work, ed_frame, size))
    return {}


def _crop_around(dataset: Dataset, works: dict[str, _Work], point: np.ndarray, found: str, size: Size) -> None:
    for view, work in works.items():
        window = geometry.point_window(point, work.grid.whole_affine, crop_size(dataset, view, size))
        if any(s >= n or s + w <= 0 for s, w, n in zip(*window, work.grid.whole_shape, strict=False)):
            what = "what beats in the SAX images lies" if found == "motion" else "the planes meet"
            raise CinemaError(f"{view}: {what} so far outside the image that the crop would be empty: {MISPLACED}")
        work.grid = work.grid.cropped(window)


def _place_around_heart(dataset: Dataset, works: dict[str, _Work], size: Size) -> str:
    """Crops where planes meet, else around what beats, else not at all; never away from what is labelled."""
    long_axes = [view for view in works if view != "sax"]
    if len(long_axes) < 2 and ("sax" not in works or not _beats(works["sax"].raw)):
        return "none"
    try:
        point, found = _heart(works)
    except CinemaError as error:  # headers that do not say where planes lie
        raise CinemaError(f"{error}; or say crop: centre or crop: none") from None
    _crop_around(dataset, works, point, found, size)
    for view, work in works.items():
        if work.grid.window is None or not work.labels:
            continue
        maps = np.stack(list(work.labels.values()))
        lost = np.count_nonzero(maps) - np.count_nonzero(geometry.apply_window(maps, work.grid.window))
        if lost:
            what = "what beats" if found == "motion" else "where the planes meet"
            raise CinemaError(f"{view}: the crop around {what} would cut {lost} labelled voxels off; say crop: none")
    return found


def _beats(sax: RawSeries) -> bool:
    """Whether there is a cine in which the heart can be looked for."""
    return len(sax.frames) > 1 and "channels" not in sax.facts and bool((sax.frames[1:] != sax.frames[0]).any())


def _heart(works: dict[str, _Work]) -> tuple[np.ndarray, str]:
    """A point on the left ventricle's axis, RAS mm, and by what it was found."""
    planes = [works[view].grid.whole_affine for view in ("lax_2c", "lax_4c", "lax_3c") if view in works]
    if "sax" not in works:
        middles = [geometry.middle(work.grid.whole_affine, work.grid.whole_shape) for work in works.values()]
        if len(planes) > 1:
            return geometry.nearest_on_line(planes[0], planes[1], np.mean(middles, axis=0)), "planes"
        return middles[0], "image"
    if len(planes) > 1:
        return geometry.meeting_point(works["sax"].grid.whole_affine, *planes[:2]), "planes"
    sax = works["sax"].raw
    return motion_centre(sax.frames, sax.affine), "motion"


def _label_window(dataset: Dataset, view: str, work: _Work, ed_frame: int | None, size: Size) -> Window:
    frame = ed_frame if ed_frame is not None else next(iter(work.labels), None)
    if frame is None or frame not in work.labels:
        raise CinemaError(f"{view}: there is no label map of the ED frame: add it, or mend what says which frame is ED")
    mask = work.labels[frame] == dataset.crop_label
    if not mask.any():
        raise CinemaError(
            f"{view}: the ED label map has no {dataset.labels[dataset.crop_label]} to crop around: label it"
        )
    return geometry.box_window(mask, crop_size(dataset, view, size))


def _crop_labels(works: dict[str, _Work]) -> None:
    for work in works.values():
        if work.grid.window is not None and work.labels:
            maps = geometry.apply_window(np.stack(list(work.labels.values())), work.grid.window)
            work.labels = dict(zip(work.labels, maps, strict=True))


def _volumes(dataset: Dataset, works: dict[str, _Work], row: dict[str, Any]) -> dict[str, Any]:
    sax = works.get("sax")
    if dataset.measures != "volumes" or sax is None or not sax.labels:
        return {}
    out: dict[str, Any] = {}
    if dataset.ed_es_from_volumes:
        out["ed_frame"], out["es_frame"] = measure.largest_and_smallest(sax.labels)
        if out["ed_frame"] == out["es_frame"]:
            raise CinemaError(
                "the LV volume is the same in all frames, so ED and ES cannot be told apart: mend the label maps"
            )
    end_diastole, end_systole = (out.get(key, row.get(key)) for key in ("ed_frame", "es_frame"))
    if end_diastole not in sax.labels or end_systole not in sax.labels:
        return out
    found = measure.volumes(sax.labels[end_diastole], sax.labels[end_systole], sax.grid.spacing)
    unlabelled = [name for code, name in MEASURED.items() if code not in dataset.labels]
    return out | {name: value for name, value in found.items() if not name.startswith(tuple(unlabelled))}


def _grey_levels(dataset: Dataset, frame: np.ndarray) -> np.ndarray:
    if dataset.grey_levels == "percentiles":
        return to_uint8(frame)
    if frame.dtype != np.uint8:
        raise CinemaError(
            f"grey levels are stored as read, but these are {frame.dtype}, not uint8: save them as 0 to 255"
        )
    return frame


def _write(dataset: Dataset, case: CaseRef, root: Path, view: str, work: _Work, size: Size) -> None:
    frames = np.empty((len(work.raw.frames), *work.grid.shape), np.uint8)
    for index, frame in enumerate(work.raw.frames):
        with step("resample"):
            resampled = work.grid.to_network(frame)
        with step("intensity"):
            frames[index] = _grey_levels(dataset, resampled)
    labels = np.stack(list(work.labels.values())) if work.labels else None
    if view != "sax":
        if frames.shape[-1] != 1:
            raise StepError(
                "write", f"{view}: a long-axis image of {frames.shape[-1]} slices; one was expected: save that alone"
            )
        frames, labels = frames[..., 0], None if labels is None else labels[..., 0]
    provenance = {
        "software": f"cinema-lightning {__version__}",
        "dataset": dataset.name,
        "source": [path.name for path in case.sources],
        "orig_affine": np.asarray(work.raw.affine, float).tolist(),
        "orig_size": [int(n) for n in work.raw.frames.shape[1:]],
        "resampled_size": [int(n) for n in work.grid.whole_shape],
        "crop_start": [int(n) for n in work.grid.window.start] if work.grid.window else [0, 0],
        **marked(size),
        **work.raw.facts,
    }
    about: dict[str, Any] = {"affine": work.grid.network_affine, "spacing": work.grid.spacing, "provenance": provenance}
    write_series(series_path(root, case.id, view), frames, **about)
    if labels is not None:
        known = list(work.labels)
        every = known == list(range(len(frames)))
        path = series_path(root, case.id, view, "label")
        write_series(path, labels, frames_index=None if every else known, **about)
