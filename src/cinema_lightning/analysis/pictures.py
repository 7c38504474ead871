"""Pictures of a study: contours over all slices at ED and ES and over the beat, and one of each candidate series."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from cinema_lightning.analysis.values import LV, MYOCARDIUM, RV, Segmented, View
from cinema_lightning.files import replacing

COLOURS = {RV: (230, 159, 0), MYOCARDIUM: (86, 180, 233), LV: (213, 94, 0)}
"""Okabe and Ito's palette, which colour-blind readers can tell apart."""
# Width of a slice in a picture, pixels; around the masks it shows as much again as this share of their width.
TILE, MARGIN = 168, 0.35
# Length of a beat on the screen, ms.
BEAT = 1200


def grey(image: np.ndarray, levels: tuple[float, float] | None = None) -> np.ndarray:
    """Grey levels from the 1st to the 99.5th percentile as bytes.

    Args:
        image: Any shape.
        levels: What becomes black and white, where it was fixed before.

    Returns:
        uint8 of the same shape.
    """
    low, high = np.percentile(image, (1, 99.5)) if levels is None else levels
    return (np.clip((image - low) / max(float(high - low), 1e-6), 0, 1) * 255).astype(np.uint8)


def overlay(view: View, found: Segmented, frame: int, *, contours: bool = True) -> np.ndarray:
    """All slices of one frame, side by side.

    Args:
        view: The images.
        found: Their masks.
        frame: Frame number.
        contours: Whether to draw the outlines of the masks.

    Returns:
        (height, width, 3) bytes; cut to the same part in every frame.
    """
    window = _window(found.labels)
    levels = np.percentile(view.frames[window], (1, 99.5))
    tiles = []
    for z in range(view.frames.shape[2]):
        image = grey(view.frames[(*window, z, frame)], (levels[0], levels[1]))
        labels = found.labels[(*window, z, frame)]
        tiles.append(_tile(image, labels if contours else np.zeros_like(labels), view.spacing))
    return _sheet(tiles)


def _window(labels: np.ndarray) -> tuple[slice, slice]:
    """The part of the plane that holds all masks, with something around."""
    there = np.argwhere(labels.any(axis=(2, 3)))
    size = np.array(labels.shape[:2])
    if not len(there):
        return slice(0, int(size[0])), slice(0, int(size[1]))
    low, high = there.min(axis=0), there.max(axis=0) + 1
    half = (high - low).max() * (0.5 + MARGIN)
    middle = (low + high) / 2
    first = np.clip(np.floor(middle - half), 0, size - 1).astype(int)
    last = np.clip(np.ceil(middle + half), first + 1, size).astype(int)
    return slice(int(first[0]), int(last[0])), slice(int(first[1]), int(last[1]))


def _tile(image: np.ndarray, labels: np.ndarray, spacing: Sequence[float]) -> np.ndarray:
    """One slice with outlines, at the width of a tile and the shape that it has in mm."""
    x, y = image.shape
    width = TILE
    height = max(1, round(TILE * y * spacing[1] / (x * spacing[0])))
    picture = Image.fromarray(np.ascontiguousarray(image.T)).resize((width, height), Image.Resampling.BICUBIC)
    rgb = np.repeat(np.asarray(picture)[..., None], 3, axis=2).copy()
    for code, colour in COLOURS.items():
        soft = Image.fromarray(np.ascontiguousarray(np.equal(labels.T, code).astype(np.uint8) * 255))
        mask = np.asarray(soft.resize((width, height), Image.Resampling.BILINEAR)) > 127
        rgb[_edge(mask)] = colour
    return rgb


def _edge(mask: np.ndarray) -> np.ndarray:
    """Pixels of a mask with a neighbour outside."""
    inner = np.pad(mask, 1)
    return mask & ~(inner[:-2, 1:-1] & inner[2:, 1:-1] & inner[1:-1, :-2] & inner[1:-1, 2:])


def _sheet(tiles: list[np.ndarray]) -> np.ndarray:
    columns = min(len(tiles), max(1, int(np.ceil(np.sqrt(len(tiles) * 1.6)))))
    blank = np.zeros_like(tiles[0])
    tiles = tiles + [blank] * (-len(tiles) % columns)
    return np.concatenate([np.concatenate(tiles[i : i + columns], axis=1) for i in range(0, len(tiles), columns)])


def write_png(path: Path, picture: np.ndarray) -> None:
    """Writes a picture, atomically and with nothing but pixels.

    Args:
        path: Where to.
        picture: (height, width[, 3]) bytes.
    """
    with replacing(path) as temporary:
        Image.fromarray(np.ascontiguousarray(picture)).save(temporary, format="PNG")


def cine_bytes(view: View, found: Segmented, kind: Literal["GIF", "WEBP"] = "GIF") -> bytes:
    """The beat with moving contours.

    Args:
        view: The images.
        found: Their masks; frames that were not looked at are left out.
        kind: GIF, which every program shows, or WEBP, a fifth of its size, for pages.
    """
    pictures = [overlay(view, found, frame) for frame in found.looked_at]
    frames = [_in_palette(picture) if kind == "GIF" else Image.fromarray(picture) for picture in pictures]
    options: dict[str, Any] = {} if kind == "GIF" else {"quality": 70, "method": 2}
    step = max(20, BEAT // len(frames))
    out = io.BytesIO()
    frames[0].save(out, format=kind, save_all=True, append_images=frames[1:], duration=step, loop=0, **options)
    return out.getvalue()


def write_cine(path: Path, view: View, found: Segmented) -> None:
    """Writes :func:`cine_bytes`."""
    with replacing(path) as temporary:
        temporary.write_bytes(cine_bytes(view, found))


def _in_palette(picture: np.ndarray) -> Image.Image:
    """A picture of greys and our colours with a palette of 128 greys and those: the same in every frame."""
    numbers = picture[..., 0] >> 1
    for number, colour in enumerate(COLOURS.values(), start=128):
        numbers[(picture == colour).all(axis=-1)] = number
    image = Image.fromarray(numbers).convert("P")
    greys = np.repeat(np.arange(128) * 2, 3).tolist()
    image.putpalette([*greys, *(level for colour in COLOURS.values() for level in colour)])
    return image
