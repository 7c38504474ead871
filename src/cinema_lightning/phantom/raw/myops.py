"""MyoPS 2020 as shipped: three aligned sequences per case, labels for the 25 training cases only."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from cinema_lightning.data.draws import generator
from cinema_lightning.phantom.anatomy import Heart
from cinema_lightning.phantom.imaging import Imager
from cinema_lightning.phantom.raw.base import RawLayout, RawSettings, Record, layout, place
from cinema_lightning.phantom.raw.emidec import DIASTASIS
from cinema_lightning.phantom.raw.files import plain_affine, put_nifti
from cinema_lightning.phantom.raw.people import person
from cinema_lightning.phantom.raw.scan import examination, grey, grey_scale, relabel

PARTS = "TTETTETET"
SEQUENCES = {"C0": "cine", "DE": "lge", "T2": "t2"}
# LV, RV, myocardium, edema and scar from the phantom's codes; no-reflow counts as scar.
CODES = {3: 500, 1: 600, 2: 200, 4: 1220, 5: 2221, 6: 2221}
# Pixels at full resolution. Preparation crops to 192 pixels of whatever size. Small pixels are so large that this would
# keep the whole field of view, and the heart a few pixels in it; so small pictures show little more than a full crop.
GRID = {"full": 480, "small": 220}
SLICE_DISTANCE = 20.0  # mm; 12 to 23 occur
NAMES = {500: "lv", 600: "rv", 200: "myocardium", 1220: "edema", 2221: "scar"}


@layout
class MyopsLayout(RawLayout):
    """Myocardial Pathology Segmentation Combining Multi-Sequence Cardiac Magnetic Resonance."""

    name = "myops"
    display = "MyoPS 2020"
    most = 37  # training has 25 numbers, and gets two thirds
    single_frame = True
    owned = ("train25", "train25_myops_gd", "test20")

    def write(self, root: Path, index: int, settings: RawSettings) -> Record:
        """See :meth:`RawLayout.write`."""
        part, rank = place(PARTS, index)
        number = (101 if part == "T" else 201) + rank
        heart = Heart(person(settings.seed, index, "acute infarct"))
        subject = heart.subject
        rng = generator(settings.seed, "phantom", "myops", index)
        pixels = GRID[settings.size]
        grid = ((pixels, pixels), (round(float(rng.uniform(0.72, 0.76)), 4),) * 2)
        n_slices = int(rng.integers(3, 6))
        scan = examination(settings, subject, "Philips", sax=grid, scar_labels=True)
        # The sequences were registered to one grid; a few slices lie far apart in the middle of the ventricle.
        scan = replace(scan, slice_distance=SLICE_DISTANCE, n_slices=n_slices, slice_thickness=8.0, noise=0.0)
        stem = f"myops_{'training' if part == 'T' else 'test'}_{number}"
        folder = root / ("train25" if part == "T" else "test20")
        for short, sequence in SEQUENCES.items():
            sax = Imager(heart, replace(scan, sequence=sequence), [DIASTASIS]).image("sax")
            noisy = rician(sax.images[0], 0.02 if short == "C0" else 0.03, rng)
            affine = plain_affine(sax.spacing)
            put_nifti(folder / f"{stem}_{short}.nii.gz", grey(noisy, grey_scale(settings, subject, short)), affine)
        labels = relabel(sax.labels[0], CODES, np.int16)
        if part == "T":
            put_nifti(root / "train25_myops_gd" / f"{stem}_gd.nii.gz", labels, affine)
        voxel = float(np.prod(sax.spacing)) / 1000
        volumes = {f"{name}_ml": round(int((labels == code).sum()) * voxel, 3) for code, name in NAMES.items()}
        return Record([{"id": str(number), "phantom": subject.index, **volumes}])


def rician(image: np.ndarray, sd: float, rng: np.random.Generator) -> np.ndarray:
    """Adds the noise of a magnitude image; each sequence is an acquisition with noise of its own."""
    real, imaginary = rng.normal(0, sd, (2, *image.shape))
    return np.hypot(image + real, imaginary)
