"""Time to read one random frame of all four views: the store against extraction from .nii.gz, as published.

    python benchmarks/load_frames.py [--real DIR] [--subjects 3] [--json FILE]

Each subject has 50 frames: 192 x 192 x 11 short axis and three long-axis series of 256 x 256. With --real (or
$CINEMA_REAL) the frames are real images, moved and stretched a little from frame to frame; without, smooth synthetic
ones with noise. The published way is SimpleITK's ImageFileReader with an extraction region of one frame. Both ways take
turns frame by frame and medians are compared; files are in the page cache for both.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import SimpleITK as sitk  # noqa: N813
from scipy.ndimage import gaussian_filter, zoom

from cinema_lightning.data.store import open_series, series_path, write_series
from cinema_lightning.views import VIEWS

N_FRAMES = 50
TARGET = 40.0


def real_images(folder: Path, view: str) -> list[np.ndarray]:
    """ED and ES frames of every study of a NIfTI folder; for a long-axis view, any long-axis images."""
    from cinema_lightning.data.table import read_cohort

    cohort = read_cohort(folder)
    images = []
    for study, names in zip(cohort.ids, cohort.table["views"], strict=True):
        for name in names.split():
            if VIEWS[name].dims == VIEWS[view].dims:
                images.extend(cohort.reader.open(str(study), name).read())
    return images


def synthetic_image(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    image = gaussian_filter(rng.standard_normal(shape), (6, 6, 0.5)[: len(shape)])
    image = (image - image.min()) / (image.max() - image.min()) * 200
    # Grain as left by resampling: neighbours in plane share a little of it.
    image += gaussian_filter(rng.normal(0, 10, shape), (0.5, 0.5, 0)[: len(shape)])
    return np.clip(image, 0, 255).astype(np.uint8)


def make_frames(image: np.ndarray, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """A beating series from one image: stretched in plane by up to 3%, shifted, with the grain of the image kept."""
    depth = np.resize(np.arange(image.shape[2]), shape[2]) if len(shape) == 3 else slice(None)
    image = image[:, :, depth] if len(shape) == 3 else image
    frames = []
    for t in range(N_FRAMES):
        factor = 1.03 + 0.03 * np.sin(2 * np.pi * t / N_FRAMES)
        big = zoom(image, (factor, factor, 1)[: image.ndim], order=1)
        x, y = (int(rng.integers(extent - wanted + 1)) for extent, wanted in zip(big.shape, shape[:2], strict=False))
        frames.append(big[x : x + shape[0], y : y + shape[1]])
    return np.stack(frames)


def make_subject(root: Path, name: str, real: Path | None, rng: np.random.Generator) -> None:
    for view in VIEWS.values():
        shape = (*view.crop, 11) if view.dims == 3 else view.crop
        pool = real_images(real, view.name) if real else []
        image = pool[int(rng.integers(len(pool)))] if pool else synthetic_image(shape, rng)
        path = series_path(root, name, view.name)
        frames, affine = make_frames(image, shape, rng), np.diag([-1.0, -1.0, 10.0 if view.dims == 3 else 1, 1])
        write_series(path, frames, affine=affine)
        nib.save(
            nib.Nifti1Image(frames.reshape(N_FRAMES, *shape[:2], -1).transpose(1, 2, 3, 0), affine),
            path.with_suffix(".nii.gz"),
        )


def read_store(folder: Path, frame: int) -> list[np.ndarray]:
    frames = []
    for view in VIEWS:
        series = open_series(series_path(folder.parent, folder.name, view))
        frames.append(series.read([frame]))
        assert series.info.spacing
    return frames


def read_published(folder: Path, frame: int) -> list[np.ndarray]:
    frames = []
    for view in VIEWS:
        reader = sitk.ImageFileReader()
        reader.SetFileName(str(folder / f"{view}.nii.gz"))
        reader.ReadImageInformation()
        size = list(reader.GetSize())
        size[3] = 0
        reader.SetExtractIndex([0, 0, 0, frame])
        reader.SetExtractSize(size)
        frames.append(sitk.GetArrayFromImage(reader.Execute()))
    return frames


def timed(read: Callable[[Path, int], list[np.ndarray]], folder: Path, frame: int) -> tuple[float, list[np.ndarray]]:
    start = time.perf_counter()
    frames = read(folder, frame)
    return time.perf_counter() - start, frames


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    real = os.environ.get("CINEMA_REAL")
    parser.add_argument("--real", type=Path, default=Path(real) if real else None)
    parser.add_argument("--subjects", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        for subject in range(args.subjects):
            make_subject(root, f"s{subject}", args.real, rng)
        times: dict[str, list[float]] = {"store": [], "published": []}
        for repeat in range(args.repeats + 2):
            folder, frame = root / f"s{repeat % args.subjects}", int(rng.integers(N_FRAMES))
            slow, expected = timed(read_published, folder, frame)
            fast, frames = timed(read_store, folder, frame)
            for one, other in zip(frames, expected, strict=True):
                assert np.array_equal(one[0].T.reshape(other.shape), other)
            if repeat >= 2:  # warm-ups
                times["published"].append(slow)
                times["store"].append(fast)
        disk = {suffix: sum(p.stat().st_size for p in root.rglob(f"*{suffix}")) for suffix in (".b2nd", ".nii.gz")}
    result = {
        "images": "real" if args.real else "synthetic",
        "published_ms": statistics.median(times["published"]) * 1e3,
        "store_ms": statistics.median(times["store"]) * 1e3,
        "disk_ratio": disk[".b2nd"] / disk[".nii.gz"],
        "target_ratio": TARGET,
    }
    result["ratio"] = result["published_ms"] / result["store_ms"]
    print(f"one random frame of {len(VIEWS)} views, {result['images']} images, medians of {args.repeats}")
    print(f"  .nii.gz, SimpleITK extraction  {result['published_ms']:8.1f} ms")
    print(f"  store                          {result['store_ms']:8.2f} ms")
    print(f"  ratio                          {result['ratio']:8.1f}    (target {TARGET:.0f})")
    print(f"  disk, store / .nii.gz          {result['disk_ratio']:8.3f}    (target at most 1)")
    if args.json:
        args.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
