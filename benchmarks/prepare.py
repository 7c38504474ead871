"""Preparation: studies per second and core, gain from a second worker, peak memory of a worker.

Makes synthetic studies of ACDC's size (NIfTI, 216 x 256 x 10 x 30) and of UK Biobank's (two archives of DICOM files,
11 SAX slices and three long-axis views of 50 frames), prepares them with one and two workers in turn, and prints the
medians. "possible" is what two processes that only compute gain over one at that moment: compare the gain with it where
other work shares the cores. Usage: python benchmarks/prepare.py [--studies 16] [--rounds 3] [--only acdc] [--json FILE]
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import multiprocessing
import os
import platform
import resource
import shutil
import statistics
import tempfile
import time
import zipfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from scipy import ndimage

from cinema_lightning.prepare.command import prepare

UKB_TARGET = 12.0  # seconds of one core per participant


def texture(shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Something as compressible as a cine frame: smooth anatomy and Rician-like noise."""
    rng = np.random.default_rng(seed)
    coarse = ndimage.zoom(rng.random([max(2, n // 12) for n in shape]), [n / max(2, n // 12) for n in shape], order=1)
    return (600 * coarse[tuple(slice(n) for n in shape)] + rng.normal(0, 12, shape) + 40).clip(0, 4000).astype(np.int16)


def make_acdc(raw: Path, studies: int) -> None:
    import nibabel as nib

    affine = np.diag([-1.5625, -1.5625, 10.0, 1.0])
    volume = texture((216, 256, 10), 0)
    series = np.stack([np.roll(volume, t, axis=0) for t in range(30)], axis=-1)
    label = np.zeros((216, 256, 10), np.uint8)
    label[80:130, 100:150, 1:9], label[90:120, 110:140, 1:9], label[60:80, 100:140, 1:9] = 2, 3, 1
    first = raw / "database" / "training" / "patient001"
    for number in range(1, studies + 1):
        folder = first.with_name(f"patient{number:03d}")
        folder.mkdir(parents=True)
        (folder / "Info.cfg").write_text("ED: 1\nES: 12\nGroup: NOR\nHeight: 184.0\nNbFrame: 30\nWeight: 95.0")
        for name, array in (("4d", series), ("frame01_gt", label), ("frame12_gt", label)):
            path = folder / f"{folder.name}_{name}.nii.gz"
            if number == 1:
                nib.save(nib.Nifti1Image(array, affine), path)
            else:
                path.hardlink_to(first / f"patient001_{name}.nii.gz")


def _dicom(pixels: np.ndarray, position: np.ndarray, axes: tuple[float, ...], frame: int) -> bytes:
    import pydicom
    from pydicom.dataset import FileMetaDataset

    header = pydicom.Dataset()
    header.file_meta = FileMetaDataset()
    header.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    header.file_meta.MediaStorageSOPClassUID = header.SOPClassUID = pydicom.uid.MRImageStorage
    header.file_meta.MediaStorageSOPInstanceUID = header.SOPInstanceUID = "1.2.3"
    header.SeriesInstanceUID, header.TriggerTime, header.CardiacNumberOfImages = "1.2.4", 20.0 * frame, 50
    header.PixelSpacing, header.SliceThickness = [1.826923, 1.826923], 8.0
    header.ImagePositionPatient, header.ImageOrientationPatient = position.tolist(), list(axes)
    header.Rows, header.Columns = pixels.shape
    header.SamplesPerPixel, header.PhotometricInterpretation = 1, "MONOCHROME2"
    header.BitsAllocated, header.BitsStored, header.HighBit, header.PixelRepresentation = 16, 12, 11, 0
    header.PixelData = pixels.astype(np.uint16).tobytes()
    buffer = io.BytesIO()
    header.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def make_ukb(raw: Path, studies: int) -> None:
    axes = {"sax": (1.0, 0, 0, 0, 1.0, 0), "2Ch": (0, 1.0, 0, 0, 0, 1.0), "4Ch": (1.0, 0, 0, 0, 0, 1.0)}
    series = {
        "20208": {f"CINE_segmented_LAX_{name}": (axes.get(name, axes["2Ch"]), 0.0) for name in ("2Ch", "3Ch", "4Ch")}
    }
    series["20209"] = {f"CINE_segmented_SAX_b{index + 1}": (axes["sax"], 10.0 * index) for index in range(11)}
    raw.mkdir(parents=True)
    for field, content in series.items():
        first = raw / f"1000001_{field}_2_0.zip"
        lines = ["filename,patientid,acquisition date,series discription"]
        with zipfile.ZipFile(first, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, (axis, height) in content.items():
                pixels = texture((208, 187), len(lines))
                row, column = np.array(axis[:3]), np.array(axis[3:])
                position = -row * 187 * 0.91 - column * 208 * 0.91 + np.array([0, 0, height])
                for frame in range(50):
                    file = f"{name}.{frame:03d}.dcm"
                    archive.writestr(file, _dicom(np.roll(pixels, frame, axis=0), position, axis, frame))
                    lines.append(f"{file},1000001,Aug 30, 2015,{name}")
            archive.writestr("manifest.csv", "\n".join(lines))
        for number in range(2, studies + 1):
            (raw / f"{1000000 + number}_{field}_2_0.zip").hardlink_to(first)


def timed(name: str, raw: Path, workers: int) -> float:
    out = raw.parent / f"out_{name}"
    shutil.rmtree(out, ignore_errors=True)
    began = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        code = prepare(name, raw, out, workers=workers)
    seconds = time.perf_counter() - began
    if code != 0:
        raise SystemExit((out / "failures.csv").read_text())
    return seconds


def busy(seconds: float) -> int:
    """Counts how often this process can sort a small array in a time: no memory traffic, no files."""
    values, count, end = np.random.default_rng(0).random(4096), 0, time.perf_counter() + seconds
    while time.perf_counter() < end:
        np.sort(values)
        count += 1
    return count


def machine_speed_up(pool: ProcessPoolExecutor, seconds: float = 2.0) -> float:
    """How much more two busy processes get done than one, here and now: 2 on two idle cores."""
    list(pool.map(busy, [0.1, 0.1]))
    one = pool.submit(busy, seconds).result()
    return sum(pool.map(busy, [seconds, seconds])) / one


def measure(name: str, make: Callable[[Path, int], None], studies: int, rounds: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        raw = Path(folder) / "raw"
        make(raw, studies)
        timed(name, raw, 1)  # warms the file cache and the imports
        cpu, times, possible = [], {1: [], 2: []}, []
        pool = ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn"))
        for _ in range(rounds):
            possible.append(machine_speed_up(pool))
            for workers, seconds in times.items():
                before = time.process_time()
                seconds.append(timed(name, raw, workers))
                if workers == 1:
                    cpu.append(time.process_time() - before)
        pool.shutdown()
        stored = sum(path.stat().st_size for path in (Path(folder) / f"out_{name}").rglob("*.b2nd"))
    one, two = (statistics.median(seconds) for seconds in times.values())
    return {
        "studies": studies,
        "seconds_per_study": one / studies,
        "core_seconds_per_study": statistics.median(cpu) / studies,
        "studies_per_second_and_core": studies / one,
        "speed_up_of_two_workers": statistics.median([a / b for a, b in zip(times[1], times[2], strict=True)]),
        "speed_up_of_two_busy_processes": statistics.median(possible),
        "two_workers_seconds": two,
        "worker_peak_gb": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20,
        "stored_mb_per_study": stored / studies / 2**20,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=("acdc", "ukb"))
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    makers = {"acdc": make_acdc, "ukb": make_ukb}
    results = {}
    for name, make in makers.items():
        if arguments.only in (None, name):
            results[name] = measure(name, make, arguments.studies, arguments.rounds)
    print(f"{platform.machine()}, {os.cpu_count()} cores, {arguments.studies} studies, {arguments.rounds} rounds")
    heads = {"": 6, "s/study": 9, "core s/study": 14, "studies/s/core": 16, "2 workers": 11, "possible": 10}
    print("".join(f"{head:>{width}}" for head, width in (heads | {"peak GB": 9, "MB/study": 10}).items()))
    for name, row in results.items():
        print(
            f"{name:6}{row['seconds_per_study']:9.2f}{row['core_seconds_per_study']:14.2f}"
            f"{row['studies_per_second_and_core']:16.2f}{row['speed_up_of_two_workers']:10.2f}x"
            f"{row['speed_up_of_two_busy_processes']:9.2f}x{row['worker_peak_gb']:9.2f}{row['stored_mb_per_study']:10.1f}"
        )
    if "ukb" in results:
        cores = 75_000 * results["ukb"]["core_seconds_per_study"] / 86_400
        print(f"75,000 UK Biobank studies in a day: {cores:.1f} cores (target {UKB_TARGET:.0f} core s per study)")
    if arguments.json:
        arguments.json.write_text(json.dumps({"machine": platform.platform(), **results}, indent=1))


if __name__ == "__main__":
    main()
