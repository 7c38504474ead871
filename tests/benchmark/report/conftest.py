"""A benchmark's results made of random numbers: every kind of task, three arms, two seeds, two label fractions."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

SKILL = {"cinema": 1.0, "scratch": 1.6, "unet": 1.3, "nnunet": 0.9}
CLASSES = ["NOR", "DCM", "HCM"]


def people(dataset: str, n: int) -> pd.DataFrame:
    """Subjects with the fields that fairness needs; the same for every arm."""
    rng = np.random.default_rng([n, *dataset.encode()])
    return pd.DataFrame(
        {
            "subject": [f"p{i:03d}" for i in range(n)],
            "sex": rng.choice(["F", "M"], n),
            "age": rng.uniform(35, 85, n).round(1),
            "bmi": rng.uniform(17, 36, n).round(1),
            "vendor": rng.choice(["Siemens", "Philips", "GE"], n, p=[0.5, 0.4, 0.1]),
            "centre": rng.choice(["1", "2"], n),
        }
    )


def write_folder(folder: Path, facts: dict, **tables: pd.DataFrame) -> Path:
    """test.json and tables."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "test.json").write_text(json.dumps(facts))
    for name, table in tables.items():
        table.to_csv(folder / f"{name}.csv", index=False)
    return folder


def segmentation(folder: Path, dataset: str, rng: np.random.Generator, noise: float, n: int, trained_on: str) -> None:
    who = people(dataset, n)
    truth = np.random.default_rng([7, *dataset.encode()])
    edv, ef = truth.uniform(90, 220, n), truth.uniform(25, 70, n)
    fields = {name: who[name] for name in ("subject", "sex", "age", "bmi", "vendor", "centre")}
    function = {"id": who["subject"], "subject": who["subject"]}
    for side in ("lv", "rv"):
        if side == "rv" and dataset == "kaggle":
            continue
        esv = edv * (1 - ef / 100)
        found_edv = edv + rng.normal(0, 6 * noise, n)
        found_esv = np.clip(esv + rng.normal(0, 4 * noise, n), 1, found_edv)
        for name, true, found in (("edv", edv, found_edv), ("esv", esv, found_esv)):
            function |= {f"{side}_{name}_true": true, f"{side}_{name}_pred": found}
        function |= {f"{side}_sv_true": edv - esv, f"{side}_sv_pred": found_edv - found_esv}
        function |= {f"{side}_ef_true": ef, f"{side}_ef_pred": (found_edv - found_esv) / found_edv * 100}
    function |= {"lv_mass_true": edv * 0.8, "lv_mass_pred": edv * 0.8 + rng.normal(0, 8 * noise, n)}
    frames = []
    for frame, phase in ((0, "ED"), (9, "ES")):
        part = {"id": who["subject"], "frame": frame, "view": "sax", "phase": phase}
        dice = {}
        for region in ("rv", "myocardium", "lv"):
            dice[region] = np.clip(1 - np.abs(rng.normal(0.1, 0.04 * noise, n)), 0, 1)
            hd95 = np.where(
                rng.uniform(size=n) < (0.03 if region == "rv" else 0), np.nan, np.abs(rng.normal(5, 2 * noise, n))
            )
            part |= {f"{region}_dice": dice[region], f"{region}_iou": dice[region] / (2 - dice[region])}
            part |= {f"{region}_hd95": hd95, f"{region}_stability": dice[region]}
            part |= {f"{region}_volume_true": edv, f"{region}_volume_pred": edv + rng.normal(0, 5 * noise, n)}
        part["mean_dice"] = np.mean(list(dice.values()), axis=0)
        part["mean_iou"] = part["mean_dice"] / (2 - part["mean_dice"])
        part["mean_hd95"] = np.nanmean([part[f"{region}_hd95"] for region in dice], axis=0)
        part["mean_stability"] = part["mean_dice"]
        if dataset == "kaggle":  # no masks to compare with
            part |= {name: np.nan for name in part if name.endswith(("dice", "iou", "hd95", "volume_true"))}
        frames.append(pd.DataFrame(part | fields))
    facts = {
        "kind": "segmentation",
        "dataset": dataset,
        "trained_on": trained_on,
        "classes": ["background", "rv", "myocardium", "lv"],
        "regions": {"rv": [1], "myocardium": [2], "lv": [3]},
        "views": ["sax"],
        "spacing_known": True,
    }
    write_folder(folder, facts, cases=pd.concat(frames), function=pd.DataFrame(function | fields))


def rescan(folder: Path, rng: np.random.Generator, noise: float, n: int) -> None:
    """Two visits of each person, the second read twice."""
    who = people("rescan", n)
    true = np.random.default_rng(11).uniform(100, 200, n)
    tables, cases = [], []
    for scan in ("A", "B1", "B2"):
        edv = true + rng.normal(0, 5 * noise, n)
        esv = true * 0.42 + rng.normal(0, 5 * noise, n)
        truth = np.random.default_rng([3, ord(scan[0])]).normal(0, 3, (2, n))
        part = who.assign(id=who["subject"] + "_" + scan, scan=scan)
        cases.append(part.assign(frame=0, view="sax", phase="", lv_volume_pred=edv))
        true_edv, true_esv = true + truth[0], true * 0.4 + truth[1]
        part = part.assign(lv_edv_true=true_edv, lv_esv_true=true_esv, lv_ef_true=(1 - true_esv / true_edv) * 100)
        tables.append(part.assign(lv_edv_pred=edv, lv_esv_pred=esv, lv_ef_pred=(1 - esv / edv) * 100))
    facts = {
        "kind": "segmentation",
        "dataset": "rescan",
        "trained_on": "rescan",
        "classes": ["background", "rv", "myocardium", "lv"],
        "regions": {"lv": [3]},
        "views": ["sax"],
    }
    write_folder(folder, facts, cases=pd.concat(cases), function=pd.concat(tables))


def classification(folder: Path, rng: np.random.Generator, noise: float, n: int) -> None:
    who = people("mnms", n)
    true = np.random.default_rng(5).integers(0, 3, n)
    logits = np.eye(3)[true] * 2.2 / noise + rng.normal(0, 1, (n, 3))
    scores = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    table = who.assign(id=who["subject"], frame=0, true=[CLASSES[i] for i in true])
    table["predicted"] = [CLASSES[i] for i in scores.argmax(axis=1)]
    table = table.assign(**{f"prob_{name}": scores[:, i] for i, name in enumerate(CLASSES)})
    facts = {
        "kind": "classification",
        "dataset": "mnms",
        "trained_on": "mnms",
        "classes": CLASSES,
        "target": "pathology",
    }
    write_folder(folder, facts, cases=table)


def regression(folder: Path, rng: np.random.Generator, noise: float, n: int) -> None:
    who = people("mnms", n).rename(columns={"age": "age"})
    error = rng.normal(0.5, 5 * noise, n)
    table = who.assign(id=who["subject"], frame=0, true=who["age"], predicted=who["age"] + error)
    table = table.assign(error=error, absolute_error=np.abs(error))
    facts = {"kind": "regression", "dataset": "mnms", "trained_on": "mnms", "target": "age", "unit": "years"}
    write_folder(folder, facts, cases=table)


def landmarks(folder: Path, rng: np.random.Generator, noise: float, n: int) -> None:
    who = people("landmark", n)
    names = ["mitral_anterior", "mitral_inferior", "apex"]
    frames = []
    for frame, phase in ((0, "ED"), (8, "ES")):
        part = who.assign(id=who["subject"], frame=frame, view="lax_2c", phase=phase)
        for name in names:
            shift = rng.normal(0, 2 * noise, (2, n))
            part[f"{name}_x_true"], part[f"{name}_y_true"] = 100.0, 120.0
            part[f"{name}_x_pred"], part[f"{name}_y_pred"] = 100 + shift[0], 120 + shift[1]
            part[f"{name}_distance_px"] = part[f"{name}_distance_mm"] = np.hypot(*shift)
        part["mean_distance_px"] = part["mean_distance_mm"] = part[[f"{name}_distance_mm" for name in names]].mean(
            axis=1
        )
        frames.append(part)
    facts = {
        "kind": "landmarks",
        "dataset": "landmark",
        "trained_on": "landmark",
        "landmarks": names,
        "spacing_known": True,
    }
    write_folder(folder, facts, cases=pd.concat(frames))


def survival(folder: Path, rng: np.random.Generator, noise: float, n: int) -> None:
    tables = {}
    for name, seed in (("cases", 21), ("validation", 22)):
        truth = np.random.default_rng(seed)
        who = people(f"ukb{seed}", n)
        hazard = truth.normal(0, 1, n)
        time = truth.exponential(np.exp(-hazard) * 2000) + 1
        event = (time < 3000).astype(int)
        risk = hazard + rng.normal(0, noise, n)
        tables[name] = who.assign(
            id=who["subject"], frame=0, time=np.minimum(time, 3000).round(), event=event, risk=risk
        )
    write_folder(folder, {"kind": "survival", "dataset": "ukb", "trained_on": "ukb"}, **tables)


MAKERS = {
    "mnms_cvd": classification,
    "mnms_age": regression,
    "landmark_heatmap_2ch": landmarks,
    "ukb_survival": survival,
    "rescan_seg": rescan,
}


def write_record(cell: Path, seconds: float, gpus: int) -> None:
    step = {"seconds": seconds, "max_rss_bytes": 3 * 2**30, "gpu_memory_bytes": 20 * 2**30, "gpu_joules": 7.2e6}
    record = {"state": "done", "device": "A100" if gpus else "CPU", "devices": gpus, "samples_per_s": 55.0}
    (cell / "cell.json").write_text(json.dumps(record | {"attempts": 1, "steps": {"fit": step}}))


def write_cell(root: Path, task: str, arm: str, fraction: int, seed: int, n: int) -> None:
    """One cell with its record."""
    rng = np.random.default_rng([fraction, seed, *task.encode(), *arm.encode()])
    noise = SKILL[arm] * (1 + 0.5 * (fraction < 100))
    cell = root / "cells" / task / arm / f"f{fraction}" / f"s{seed}"
    if task.startswith("acdc_seg"):
        segmentation(cell / "test" / "acdc_seg", "acdc", rng, noise, n, "acdc")
        segmentation(cell / "test" / "kaggle_seg", "kaggle", rng, noise * 1.3, n, "acdc")
    else:
        MAKERS[task.split(".")[0]](cell / "test" / task, rng, noise, n)
    write_record(cell, 3600.0, 1 if arm != "unet" else 0)


def make_root(root: Path, tasks=("acdc_seg", *MAKERS), arms=("cinema", "scratch", "unet"), n: int = 60) -> Path:
    """All cells but one, and nnU-Net beside them."""
    for task in tasks:
        for arm in arms:
            for fraction in (100, 25):
                for seed in (0, 1):
                    if (task, arm, fraction, seed) != ("acdc_seg", "unet", 25, 1):
                        write_cell(root, task, arm, fraction, seed, n)
    return root


@pytest.fixture(scope="session")
def results_root(tmp_path_factory) -> Path:
    """See :func:`make_root`."""
    root = make_root(tmp_path_factory.mktemp("benchmark"))
    rng = np.random.default_rng(99)
    folder = root / "external" / "acdc_seg" / "nnunet" / "f100" / "s0" / "acdc"
    segmentation(folder, "acdc", rng, SKILL["nnunet"], 60, "acdc")
    table = pd.read_csv(folder / "cases.csv", dtype={"subject": str})
    # Another tool knows nothing of the people, and lost two cases.
    table.drop(columns=["sex", "age", "bmi", "vendor", "centre"]).iloc[2:].to_csv(folder / "cases.csv", index=False)
    (folder / "function.csv").unlink()
    return root


@pytest.fixture(scope="session")
def make_results():
    """The makers, for tests that need a folder of their own."""
    return {"root": make_root, "cell": write_cell, "segmentation": segmentation, "folder": write_folder}
