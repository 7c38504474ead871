"""The picture of the docs: one subject of every pathology in all views at ED and ES, with contours."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path
from typing import Any

import numpy as np

from cinema_lightning.errors import CinemaError
from cinema_lightning.palette import REGIONS
from cinema_lightning.phantom.anatomy import Heart
from cinema_lightning.phantom.cohort import Settings, acquisition_for, normalised
from cinema_lightning.phantom.imaging import Imager
from cinema_lightning.phantom.subject import PATHOLOGIES, Subject, draw_subject
from cinema_lightning.views import VIEWS

COLOURS = REGIONS[1:4]  # RV, myocardium, LV


def draw_picture(path: Path, seed: int = 0, variety: float = 0.0) -> None:
    """Draws a PNG of five subjects (rows) in four views at ED and ES (columns); RV, myocardium and LV are outlined.

    Args:
        path: The PNG file.
        seed: Cohort seed; the first five subjects have one pathology each.
        variety: How far they deviate from the usual look.

    Raises:
        CinemaError: If the file cannot be written.
    """
    import matplotlib.pyplot as plt
    from matplotlib.figure import Figure
    from PIL import Image

    if path.suffix.lower() != ".png":
        raise CinemaError(f"--picture is written as PNG; give it a name that ends in .png, not '{path.name}'.")
    five = (draw_subject(seed, index, variety) for index in range(5))
    subjects = sorted(five, key=lambda s: PATHOLOGIES.index(s.pathology))
    figure = Figure(figsize=(10.4, 6.7), dpi=100, facecolor="black")
    axes = figure.subplots(5, 8, gridspec_kw={"wspace": 0.02, "hspace": 0.02})
    figure.subplots_adjust(left=0.03, right=1, bottom=0, top=0.965)
    for row, subject in zip(axes, subjects, strict=True):
        _draw_row(row, subject)
    for column, axis in enumerate(axes[0]):
        view = list(VIEWS.values())[column % 4]
        axis.set_title(f"{view.display} {('ED', 'ES')[column // 4]}", color="white", fontsize=8, pad=2)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", facecolor="black")
    plt.close("all")
    # Noise hardly compresses: a palette of greys and of the three colours over them keeps the file small.
    image = Image.open(buffer).convert("RGB").quantize(palette=_palette(), dither=Image.Dither.NONE)
    temporary = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(temporary, format="PNG", optimize=True)
        temporary.replace(path)
    except OSError as error:
        raise CinemaError(
            f"{path} could not be written ({error.strerror or error}); give another --picture."
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def _palette() -> Any:
    """48 greys, and each contour's colour mixed into six of them."""
    from matplotlib.colors import to_rgb
    from PIL import Image

    greys = [(level, level, level) for level in np.linspace(0, 255, 48)]
    for colour in COLOURS:
        full = 255 * np.array(to_rgb(colour))
        greys += [tuple(share * full + (1 - share) * grey) for share in (1.0, 0.7, 0.4) for grey in (30, 160)]
    palette = Image.new("P", (1, 1))
    palette.putpalette([round(float(value)) for colour in greys for value in colour])
    return palette


def _draw_row(row: np.ndarray, subject: Subject) -> None:
    acquisition = dataclasses.replace(acquisition_for(subject, Settings(seed=subject.seed)), base_first=True)
    imager = Imager(Heart(subject), acquisition, times=(0.0, subject.es_phase))
    row[0].set_ylabel(subject.pathology, color="white", fontsize=9)
    for column, view in enumerate(VIEWS):
        series = imager.image(view)
        images, labels = normalised(series.images), series.labels
        if view == "sax":
            middle = int(np.argmax((labels[1] == 3).sum(axis=(0, 1)) * (np.arange(labels.shape[3]) > 3)))
            images, labels = images[..., middle], labels[..., middle]
        for frame in (0, 1):
            _draw(row[column + 4 * frame], images[frame], labels[frame])


def _draw(axis: Any, image: np.ndarray, label: np.ndarray) -> None:
    axis.imshow(image.T, cmap="gray", vmin=0, vmax=235, interpolation="bilinear")
    for code, colour in enumerate(COLOURS, start=1):
        mask = label == code if code != 2 else label >= 2
        if mask.any():
            axis.contour(mask.T.astype(float), levels=[0.5], colors=[colour], linewidths=0.8)
    margin = 0.1 * np.asarray(image.shape)
    axis.set_xlim(margin[0], image.shape[0] - margin[0])
    axis.set_ylim(image.shape[1] - margin[1], margin[1])
    axis.set_xticks([])
    axis.set_yticks([])
