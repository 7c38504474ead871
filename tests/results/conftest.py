"""Plausible folders of results, one maker per kind of task, as `cinema test` writes them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

CLASSES = ["NOR", "DCM", "HCM", "RV"]
REGIONS = {"rv": [1], "myocardium": [2], "lv": [3]}


def write_folder(folder: Path, facts: dict, **tables: pd.DataFrame) -> Path:
    """Writes test.json and one CSV file per table."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "test.json").write_text(json.dumps(facts))
    for name, table in tables.items():
        table.to_csv(folder / f"{name}.csv", index=False)
    return folder


def people(rng: np.random.Generator, n: int) -> pd.DataFrame:
    age = rng.integers(30, 85, n)
    fields = {"age": age, "sex": rng.choice(["F", "M"], n), "bmi": rng.normal(27, 4, n).round(1)}
    return pd.DataFrame({"id": [f"{i + 1:03d}" for i in range(n)], **fields})


def ventricles(rng: np.random.Generator, n: int) -> dict[str, np.ndarray]:
    """True volumes at ED and ES of the three regions, ml."""
    ef = np.clip(rng.normal(50, 14, n), 12, 75) / 100
    lv, rv = rng.normal(165, 35, n), rng.normal(170, 35, n)
    rv_ef = np.clip(rng.normal(48, 9, n), 12, 75) / 100
    muscle = rng.normal(110, 20, n)
    return {
        "lv_ED": lv, "lv_ES": lv * (1 - ef), "rv_ED": rv, "rv_ES": rv * (1 - rv_ef),
        "myocardium_ED": muscle, "myocardium_ES": muscle * 1.02,
    }  # fmt: skip


def overlaps(rng: np.random.Generator, n: int, phase: str) -> dict[str, np.ndarray]:
    """Dice, IoU, HD95 and stability of the three regions, and their means."""
    out: dict[str, np.ndarray] = {}
    for place, region in enumerate(REGIONS):
        dice = np.clip(1 - rng.gamma(2, 0.03 + 0.01 * place + 0.015 * (phase == "ES"), n), 0, 1)
        distance = rng.gamma(3, 1.5, n)
        distance[dice < 0.7] = np.nan
        out |= {f"{region}_dice": dice, f"{region}_iou": dice / (2 - dice), f"{region}_hd95": distance}
        out[f"{region}_stability"] = np.clip(dice + 0.03, 0, 1)
    for name in ("dice", "iou", "hd95", "stability"):
        table = pd.DataFrame({region: out[f"{region}_{name}"] for region in REGIONS})
        out[f"mean_{name}"] = table.mean(axis=1).to_numpy()
    return out


def segmentation(folder: Path, n: int = 40, seed: int = 0) -> Path:
    """ED and ES of every study."""
    rng = np.random.default_rng(seed)
    who, truth = people(rng, n), ventricles(rng, n)
    tables = []
    for frame, phase in ((0, "ED"), (9, "ES")):
        part = {"id": who["id"], "frame": frame, "view": "sax", "subject": who["id"], "phase": phase}
        for region in REGIONS:
            true = truth[f"{region}_{phase}"]
            part |= {f"{region}_volume_true": true, f"{region}_volume_pred": true * rng.normal(1, 0.06, n) + 2}
        tables.append(pd.DataFrame(part | overlaps(rng, n, phase)).join(who.drop(columns="id")))
    facts = {"kind": "segmentation", "dataset": "acdc", "trained_on": "acdc", "regions": REGIONS, "views": ["sax"]}
    return write_folder(folder, facts, cases=pd.concat(tables).sort_values(["id", "frame"]))


def cine(folder: Path, n: int = 12, frames: int = 20, labelled: bool = True, seed: int = 1) -> Path:
    """Every frame of each study, the phases not named; the truth as masks, or as volumes of the study's table."""
    rng = np.random.default_rng(seed)
    who, truth = people(rng, n), ventricles(rng, n)
    cycle = 0.5 + 0.5 * np.cos(2 * np.pi * np.arange(frames) / frames)
    rows = []
    for i in range(n):
        for frame in range(frames):
            row = {"id": who["id"][i], "frame": frame, "view": "sax", "subject": who["id"][i], "phase": ""}
            for region in REGIONS:
                ed, es = truth[f"{region}_ED"][i], truth[f"{region}_ES"][i]
                true = es + (ed - es) * cycle[frame]
                row[f"{region}_volume_true"] = true if labelled else np.nan
                row[f"{region}_volume_pred"] = true * rng.normal(1.02, 0.02) + 3
            if labelled:
                row |= {"mean_dice": rng.uniform(0.8, 0.95), "mean_hd95": rng.uniform(2, 9)}
            else:
                row |= {"mean_dice": np.nan, "lv_edv": truth["lv_ED"][i], "lv_esv": truth["lv_ES"][i]}
            rows.append(row)
    name = "rescan" if labelled else "kaggle"
    return write_folder(
        folder, {"kind": "segmentation", "dataset": name, "trained_on": "acdc"}, cases=pd.DataFrame(rows)
    )


def rescan(folder: Path, n: int = 25, seed: int = 2) -> Path:
    """Two visits of each person, the second read twice."""
    rng = np.random.default_rng(seed)
    truth = ventricles(rng, n)
    rows = []
    for i in range(n):
        for scan in ("A", "B1", "B2"):
            edv, esv = truth["lv_ED"][i] * rng.normal(1, 0.02), truth["lv_ES"][i] * rng.normal(1, 0.03)
            about = {"view": "sax", "subject": f"p{i}", "scan": scan, "lv_edv": edv, "lv_esv": esv}
            for frame, true in ((0, edv), (1, (edv + esv) / 2), (2, esv)):
                row = {"id": f"p{i}_{scan}", "frame": frame, "lv_volume_pred": true * rng.normal(1, 0.03)}
                rows.append(row | about)
    return write_folder(folder, {"kind": "segmentation", "dataset": "rescan"}, cases=pd.DataFrame(rows))


def classification(folder: Path, n: int = 80, classes: list[str] | None = None, seed: int = 3) -> Path:
    rng = np.random.default_rng(seed)
    names = CLASSES if classes is None else classes
    true = rng.integers(0, len(names), n)
    logits = 1.6 * np.eye(len(names))[true] + rng.normal(0, 1, (n, len(names)))
    scores = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    table = people(rng, n).assign(
        frame=0, true=[names[i] for i in true], predicted=[names[i] for i in scores.argmax(1)]
    )
    table = table.assign(subject=table["id"], **{f"prob_{name}": scores[:, i] for i, name in enumerate(names)})
    facts = {"kind": "classification", "dataset": "acdc", "classes": names, "target": "pathology"}
    return write_folder(folder, facts, cases=table)


def regression(folder: Path, n: int = 60, seed: int = 4) -> Path:
    rng = np.random.default_rng(seed)
    table = people(rng, n)
    table = table.rename(columns={"age": "true"}).assign(subject=table["id"], frame=0)
    table["predicted"] = 15 + 0.75 * table["true"] + rng.normal(0, 6, n)
    table["error"] = table["predicted"] - table["true"]
    table["absolute_error"] = table["error"].abs()
    return write_folder(
        folder, {"kind": "regression", "dataset": "mnms", "target": "age", "unit": "years"}, cases=table
    )


def landmarks(folder: Path, n: int = 30, spacing: bool = True, seed: int = 5) -> Path:
    rng = np.random.default_rng(seed)
    names = ["mitral_anterior", "mitral_inferior", "apex"]
    places = {"ED": [(60, 80), (90, 85), (75, 170)], "ES": [(62, 92), (91, 96), (75, 168)]}
    size = 1.4
    tables = []
    for frame, phase in ((0, "ED"), (10, "ES")):
        part = people(rng, n).assign(frame=frame, view="lax_2c", phase=phase)
        part["subject"] = part["id"]
        for place, name in enumerate(names):
            true = np.array(places[phase][place]) + rng.normal(0, 2, (n, 2))
            predicted = true + rng.normal(0, 1 + place, (n, 2))
            part[[f"{name}_x_true", f"{name}_y_true"]] = true
            part[[f"{name}_x_pred", f"{name}_y_pred"]] = predicted
            pixels = np.linalg.norm(predicted - true, axis=1)
            part[f"{name}_distance_px"], part[f"{name}_distance_mm"] = pixels, pixels * size if spacing else np.nan
        for unit in ("px", "mm"):
            part[f"mean_distance_{unit}"] = part[[f"{name}_distance_{unit}" for name in names]].mean(axis=1)
        part["spacing_x"] = part["spacing_y"] = size if spacing else np.nan
        tables.append(part)
    facts = {"kind": "landmarks", "dataset": "ukb", "landmarks": names, "spacing_known": spacing}
    return write_folder(folder, facts, cases=pd.concat(tables))


def survival(folder: Path, n: int = 150, validation: bool = True, seed: int = 6) -> Path:
    rng = np.random.default_rng(seed)
    tables = {}
    for name in ("cases", "validation") if validation else ("cases",):
        table = people(rng, n).assign(frame=0, split="test" if name == "cases" else "val")
        table["subject"] = table["id"]
        hazard = 0.8 * rng.normal(0, 1, n) + 0.04 * (table["age"] - 55)
        time = rng.exponential(4000 * np.exp(-hazard)) + 30
        end = rng.uniform(1500, 4500, n)
        table["lv_ef"] = 55 - 5 * hazard + rng.normal(0, 6, n)
        table["time"], table["event"] = np.minimum(time, end).round(), (time <= end).astype(int)
        table["risk"] = hazard + rng.normal(0, 0.7, n)
        tables[name] = table
    return write_folder(folder, {"kind": "survival", "dataset": "ukb", "target": "death"}, **tables)


MAKERS = {
    "segmentation": segmentation, "cine": cine, "rescan": rescan, "classification": classification,
    "regression": regression, "landmarks": landmarks, "survival": survival,
}  # fmt: skip


@pytest.fixture
def make(tmp_path) -> Callable[..., Path]:
    """Makes a folder of results: ``make("cine", n=3)``."""

    def made(name: str, **options) -> Path:
        return MAKERS[name](tmp_path / name, **options)

    return made


@pytest.fixture
def write(tmp_path) -> Callable[..., Path]:
    """Writes a folder from facts and tables: ``write({"kind": "regression"}, cases=table)``."""
    count = iter(range(100))
    return lambda facts, **tables: write_folder(tmp_path / f"by_hand_{next(count)}", facts, **tables)
