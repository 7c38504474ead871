"""Own data as a group has it on its disk: oblique float cines, label maps in codes of its own, a German table."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import nibabel as nib
import numpy as np
import pytest

SIZE, SPACING = (80, 72, 8), (1.6, 1.6, 8.0)
CODES = {"LV": 10, "myocardium": 20, "RV": 30}
DESCRIPTION = """\
name: mine
views:
  sax:
    images: scans/{id}/cine.nii.gz
    labels: masks/{id}_{phase}.nii.gz
labels: {LV: 10, myocardium: 20, RV: 30}
tables:
  people.csv: {id: patient, columns: {ed_frame: ed, es_frame: es}}
frames_from: 1
splits: {train: 0.5, val: 0.25, test: 0.25}
"""


def affine() -> np.ndarray:
    """Oblique, (4, 4) RAS."""
    a, b = 0.5, 0.3
    tilt = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    turn = np.array([[np.cos(b), -np.sin(b), 0], [np.sin(b), np.cos(b), 0], [0, 0, 1]])
    out = np.eye(4)
    out[:3, :3] = tilt @ turn @ np.diag(SPACING)
    out[:3, 3] = -60, -50, 30
    return out


def save(path: Path, voxels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(voxels, affine()), path)


def label_map(radius: float) -> np.ndarray:
    """LV, myocardium and RV as circles, (X, Y, Z) int16."""
    x, y = np.meshgrid(*map(np.arange, SIZE[:2]), indexing="ij")
    plane = np.zeros(SIZE[:2], np.int16)
    plane[np.hypot(x - 16, y - 36) < 0.9 * radius] = CODES["RV"]
    plane[np.hypot(x - 40, y - 36) < radius + 4] = CODES["myocardium"]
    plane[np.hypot(x - 40, y - 36) < radius] = CODES["LV"]
    return np.repeat(plane[..., None], SIZE[2], axis=2)


def millilitres(label: np.ndarray, code: int) -> float:
    return int((label == code).sum()) * float(np.prod(SPACING)) / 1000


def radii(number: int, frames: int) -> list[float]:
    """Of the LV over the cycle: ED at frame 1 of 0.., ES half a cycle later."""
    least = 6 + 0.4 * number
    phase = 2 * np.pi * (np.arange(frames) - 1) / frames
    return (least + (13 - least) * (1 + np.cos(phase)) / 2).tolist()


def make(root: Path, subjects: int = 12, frames: int = 4) -> Path:
    """Writes scans, masks, people.csv and mine.yaml; ED is frame 2 and ES frame 4, counted from 1."""
    rows = ["patient;age;sex;lvef;diagnosis;ed;es"]
    for number in range(1, subjects + 1):
        name, rng = f"P{number:02d}", np.random.default_rng(number)
        maps = [label_map(radius) for radius in radii(number, frames)]
        grey = np.full(31, 60.0)
        grey[[CODES["LV"], CODES["myocardium"], CODES["RV"]]] = 300, 90, 260
        cine = [grey[one] + rng.normal(0, 8, SIZE) for one in maps]
        save(root / "scans" / name / "cine.nii.gz", np.stack(cine, axis=-1).astype(np.float32))
        end_diastole, end_systole = maps[1], maps[1 + frames // 2]
        save(root / "masks" / f"{name}_ED.nii.gz", end_diastole)
        save(root / "masks" / f"{name}_ES.nii.gz", end_systole)
        volumes = [millilitres(one, CODES["LV"]) for one in (end_diastole, end_systole)]
        ejection = f"{(volumes[0] - volumes[1]) / volumes[0] * 100:.2f}".replace(".", ",")
        diagnosis = ("NOR", "DCM")[number % 2]
        rows.append(f"{name};{40 + number};{'mf'[number % 2]};{ejection};{diagnosis};2;{2 + frames // 2}")
    (root / "people.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    (root / "mine.yaml").write_text(DESCRIPTION, encoding="utf-8")
    return root


@pytest.fixture(scope="session")
def own() -> ModuleType:
    """What this file has: how to make own data, and the truth about them."""
    return sys.modules[__name__]
