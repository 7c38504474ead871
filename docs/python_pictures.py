"""Makes the pictures of python.md from what `make demo` leaves: python docs/python_pictures.py DEMO."""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib as mpl
import nibabel
import numpy as np

import cinema_lightning as cinema

mpl.use("Agg")
import matplotlib.pyplot as plt

HERE = Path(__file__).parent
STUDY = "phantom_00031"
COLOURS = {1: "#4c9be8", 2: "#f2c14e", 3: "#e4572e"}


def scan_of(demo: Path, study: str) -> nibabel.Nifti1Image:
    """The short axis of a held-out phantom, as somebody's NIfTI."""
    frames = [item for item in cinema.open(demo / "cohort", views=["sax"]) if item["id"] == study]
    voxels = np.stack([item["sax"][0].numpy() for item in frames], axis=-1)
    return nibabel.Nifti1Image(voxels, frames[0]["sax_affine"].numpy().astype(float))


def contours(axis: plt.Axes, image: np.ndarray, labels: np.ndarray) -> None:
    """One slice with the outlines of its classes."""
    axis.imshow(image.T, cmap="gray")
    for code, colour in COLOURS.items():
        if (labels == code).any():
            axis.contour((labels == code).T.astype(float), [0.5], colors=colour, linewidths=1.5)
    axis.axis("off")


def masks(image: nibabel.Nifti1Image, found: cinema.inference.results.Segmented, ed: int, es: int) -> plt.Figure:
    """Contours at ED and ES in two slices, and the volume over the cycle."""
    figure, axes = plt.subplots(1, 5, figsize=(12, 2.6), width_ratios=[1, 1, 1, 1, 1.5], layout="constrained")
    voxels = np.asarray(image.dataobj)
    middle = voxels.shape[2] // 2
    for place, (frame, name) in enumerate(((ed, "ED"), (es, "ES"))):
        for row, slice_ in enumerate((middle - 1, middle)):
            axis = axes[2 * place + row]
            contours(axis, voxels[:, :, slice_, frame], found.labels[:, :, slice_, frame])
            axis.set_title(f"{name}, slice {slice_}", fontsize=9)
    for name, colour in (("lv", COLOURS[3]), ("rv", COLOURS[1])):
        axes[4].plot(found.values[f"sax_{name}_volume"], "o-", color=colour, label=name.upper())
    axes[4].set(xlabel="frame", ylabel="ml", ylim=(0, None))
    axes[4].legend()
    return figure


def spread(image: nibabel.Nifti1Image, found: cinema.inference.results.Segmented, frame: int) -> plt.Figure:
    """Four slices with contours, and below how far the turns disagree."""
    voxels = np.asarray(image.dataobj)
    slices = np.linspace(1, voxels.shape[2] - 1, 4).astype(int)
    figure, axes = plt.subplots(2, 4, figsize=(9, 4.6), layout="constrained")
    for (upper, lower), number in zip(axes.T, slices, strict=True):
        contours(upper, voxels[:, :, number, frame], found.labels[:, :, number, 0])
        upper.set_title(f"slice {number}", fontsize=9)
        shown = lower.imshow(found.spread[:, :, number, 0].T, cmap="magma", vmin=0, vmax=0.5)
        lower.axis("off")
    figure.colorbar(shown, ax=axes[1], label="SD of the probability")
    return figure


def cycle(features: cinema.inference.features.Features) -> plt.Figure:
    """The first two directions of the class token over the cycle, and how alike any two frames are."""
    centred = features.cls - features.cls.mean(axis=0)
    places = centred @ np.linalg.svd(centred, full_matrices=False)[2][:2].T
    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.4), layout="constrained")
    left.plot(*places.T, "-", color="grey")
    left.scatter(*places.T, c=features.frames, cmap="twilight")
    for frame, place in zip(features.frames, places, strict=True):
        left.annotate(str(frame), place, xytext=(4, 4), textcoords="offset points", fontsize=8)
    left.set(xlabel="first direction", ylabel="second direction", title="class token, frame by frame")
    left.locator_params(axis="x", nbins=4)
    unit = centred / np.linalg.norm(centred, axis=1, keepdims=True)
    shown = right.imshow(unit @ unit.T, cmap="coolwarm", vmin=-1, vmax=1)
    right.set(xlabel="frame", ylabel="frame", title="how alike two frames are")
    figure.colorbar(shown, ax=right)
    return figure


def main(demo: Path) -> None:
    """Writes the pictures beside this file."""
    image = scan_of(demo, STUDY)
    name, root = "segmentation", demo / "runs"
    found = cinema.load(name, root=root)(image)
    volume = found.values["sax_lv_volume"]
    ed, es = int(np.argmax(volume)), int(np.argmin(volume))
    turned = cinema.load(name, root=root, tta="flips")(image, frames=[es], probabilities=True)
    encoder = cinema.load("pretrain+phantom", root=demo / "runs")
    pictures = {
        "python_masks.png": masks(image, found, ed, es),
        "python_spread.png": spread(image, turned, es),
        "python_features.png": cycle(cinema.features(image, encoder)),
    }
    for name, figure in pictures.items():
        figure.savefig(HERE / name, dpi=80)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
