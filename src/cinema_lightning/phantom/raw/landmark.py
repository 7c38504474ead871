"""The landmark data as shipped: PNG images of 2- and 4-chamber views, masks of three points, tables without header."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cinema_lightning.phantom.anatomy import Heart
from cinema_lightning.phantom.imaging import Imager, ViewSeries
from cinema_lightning.phantom.raw.base import RawLayout, RawSettings, Record, layout
from cinema_lightning.phantom.raw.files import put_csv, put_png
from cinema_lightning.phantom.raw.people import person
from cinema_lightning.phantom.raw.scan import examination
from cinema_lightning.phantom.subject import PATHOLOGIES
from cinema_lightning.phantom.truth import landmarks

COLUMNS = ("cohort", "uid", "view", "landmark", "x", "y")
LEVELS = (85, 170, 255)
ENLARGED = 4  # the images were interpolated before they were marked
RADIUS = 5  # of a mark, pixels of the enlarged image
# Hinge points in an order that turns with the apex as the views do: one sign in 2-chamber, the other in 4-chamber.
ORDER = {
    "lax_2c": ("mitral_inferior", "mitral_anterior", "apex"),
    "lax_4c": ("mitral_lateral", "mitral_septal", "apex"),
}


@layout
class LandmarkLayout(RawLayout):
    """Landmark detection in long-axis cines."""

    name = "landmark"
    display = "Landmark"
    owned = ("raw",)

    def write(self, root: Path, index: int, settings: RawSettings) -> Record:
        """See :meth:`RawLayout.write`."""
        heart = Heart(person(settings.seed, index, PATHOLOGIES[index % len(PATHOLOGIES)]))
        # ED and the frame nearest to ES are marked.
        n = settings.frames
        frames = sorted({0, min(round(heart.subject.es_phase * n), n - 1)})
        scan = examination(settings, heart.subject, "Siemens", sax=((8, 8), (8.0, 8.0)), lax=((208, 192), (1.6, 1.6)))
        imager = Imager(heart, scan, [frame / n for frame in frames])
        record = Record()
        for view in ORDER:
            series = imager.image(view)
            points = landmarks(heart, series.plane, view, series.phases)
            for place, frame in enumerate(frames):
                named = {point["landmark"]: (point["x"], point["y"]) for point in points if point["frame"] == place}
                where = np.array([named[name] for name in ORDER[view]])
                uid = f"{index:04d}__{frame:02d}"
                # A mirrored image is one that somebody stored upside down, in one view or the other.
                flip = (index + (view == "lax_4c")) % 3 == 2
                self._write_image(root, record, uid, series, place, where, flip)
        return record

    def _write_image(
        self, root: Path, record: Record, uid: str, series: ViewSeries, place: int, where: np.ndarray, flip: bool
    ) -> None:
        image = enlarged(series.images[place])
        # Voxel centres stay in the middle of their blocks of pixels.
        points = (where + 0.5) * ENLARGED - 0.5
        if flip:
            image, points = image[:, ::-1], np.stack([points[:, 0], image.shape[1] - 1 - points[:, 1]], axis=1)
        folder = root / "raw" / series.view
        put_png(folder / "images" / f"{uid}.png", image)
        put_png(folder / "masks" / f"{uid}.png", marks(image.shape, points))
        rows = [
            {"cohort": "phantom", "uid": uid, "view": series.view, "landmark": number, "x": round(x), "y": round(y)}
            for number, (x, y) in enumerate(points.tolist(), start=1)
        ]
        record.rows.setdefault(series.view, []).extend(rows)
        truth: dict[str, Any] = {"id": f"{uid}_{series.view}", "flipped": int(flip)}
        for name, (x, y) in zip(("hinge_1", "hinge_2", "apex"), points.tolist(), strict=True):
            truth |= {f"{name}_x": round(x, 2), f"{name}_y": round(y, 2)}
        record.truth.append(truth)

    def tables(self, root: Path, records: Sequence[Record]) -> None:
        """See :meth:`RawLayout.tables`."""
        for view in ORDER:
            rows = [row for record in records for row in record.rows[view]]
            put_csv(root / "raw" / f"{view}.csv", rows, COLUMNS, header=False)


def enlarged(image: np.ndarray) -> np.ndarray:
    """Linear interpolation to four times the pixels, and an eight-bit window, (X, Y) to (4 X, 4 Y)."""
    from scipy import ndimage

    large = ndimage.zoom(image, ENLARGED, order=1, mode="nearest", grid_mode=True)
    return np.clip(large / np.percentile(image, 99.5) * 255, 0, 255).astype(np.uint8)


def marks(shape: tuple[int, ...], points: np.ndarray) -> np.ndarray:
    """Mask (X, Y) with a disc of 85, 170 and 255 around the three points."""
    x, y = np.ogrid[: shape[0], : shape[1]]
    mask = np.zeros(shape, np.uint8)
    for level, (px, py) in zip(LEVELS, points, strict=True):
        mask[(x - px) ** 2 + (y - py) ** 2 <= RADIUS**2] = level
    return mask
