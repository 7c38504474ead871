"""Evidence that the tasks learn: small networks on phantom hearts, held-out subjects, two CPU cores.

Every line of the table is one run of `cinema fit` and `cinema test` (test subjects are never seen in training). Run it
with `python benchmarks/learning.py --json FILE`; `--only segmentation` and the like run a part.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cinema_lightning.cli import main as cinema
from cinema_lightning.metrics.bootstrap import bootstrap
from cinema_lightning.metrics.survival import concordance

PHANTOM = ["--config", "phantom.yaml", "--data.dataset", "phantom"]


@dataclass(frozen=True)
class Experiment:
    """One run.

    Attributes:
        name: Name of the run's folder and of the line.
        config: Configuration.
        epochs: Length.
        options: Further options of fit and test.
        fit: Further options of fit alone.
        figures: Headline figures to report.
    """

    name: str
    config: str
    epochs: int
    options: list[str] = field(default_factory=list)
    fit: list[str] = field(default_factory=list)
    figures: tuple[str, ...] = ()


def experiments(seeds: int, weights: str) -> Iterator[tuple[str, Experiment]]:
    """(group, experiment) pairs in the order in which they run."""
    dice = ("mean_dice", "lv_ef_mae", "rv_ef_mae")
    for seed in range(seeds):
        seeded = ["--seed_everything", str(seed), "--data.seed", "0"]
        for fraction, epochs in ((1.0, 40), (0.25, 120)):
            for start in ("scratch", "pretrained"):
                given = ["--model.weights", weights] if start == "pretrained" else []
                options = [*seeded, "--data.fraction", str(fraction)]
                name = f"segmentation_{start}_{fraction:.0%}_seed{seed}"
                yield "segmentation", Experiment(name, "acdc_seg.yaml", epochs, options, given, dice)
        given = [*seeded, "--model.weights", weights]
        yield (
            "classification",
            Experiment(f"pathology_seed{seed}", "acdc_cvd.yaml", 200, seeded, given, ("mcc", "accuracy", "auroc")),
        )
        yield "regression", Experiment(f"ef_seed{seed}", "acdc_ef.yaml", 200, seeded, given, ("mae", "pearson"))
        yield (
            "landmarks",
            Experiment(
                f"landmarks_seed{seed}",
                "landmark_heatmap_2ch.yaml",
                100,
                seeded,
                ["--data.batch_size", "8", *given],
                ("mean_distance", "mapse_mae"),
            ),
        )
        yield (
            "survival",
            Experiment(
                f"survival_seed{seed}",
                "ukb_survival.yaml",
                120,
                [*seeded, "--data.views", "[sax]"],
                [*given, "--data.batch_size", "64", "--model.chunk", "null"],
                ("c_index",),
            ),
        )


def run(experiment: Experiment, store: Path, runs: Path) -> dict[str, Any]:
    """Fits and tests; gives the headline figures and the minutes of training."""
    common = ["--config", experiment.config, *PHANTOM, *experiment.options]
    common += ["--data.root", str(store), "--runs", str(runs), "--name", experiment.name]
    quiet = ["--trainer.enable_progress_bar", "false", "--trainer.enable_model_summary", "false"]
    schedule = ["--trainer.max_epochs", str(experiment.epochs), "--early_stop.patience", "0"]
    began = time.monotonic()
    code = cinema(["fit", *common, *quiet, *schedule, "--pictures.every_n_epochs", "0", *experiment.fit])
    minutes = (time.monotonic() - began) / 60
    if code or cinema(["test", *common, *quiet[:2]]):
        raise SystemExit(f"{experiment.name} failed")
    folder = runs / experiment.name / "0" / "test" / "phantom"
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    rows = {row["metric"]: row for row in summary["headlines"]}
    found = {name: rows[name] for name in experiment.figures if name in rows}
    return {"run": experiment.name, "minutes": minutes, "figures": found, "folder": str(folder)}


def yardsticks(group: str, folder: Path, store: Path) -> dict[str, Any]:
    """What the figure of a group has to beat: chance, the mean, the true hazard."""
    cases = pd.read_csv(folder / "cases.csv", dtype={"id": str})
    table = pd.read_csv(store / "cohort.csv", dtype={"id": str}).set_index("id")
    if group == "classification":
        return {"chance_accuracy": float(cases["true"].value_counts(normalize=True).max())}
    if group == "regression":
        mean = float(table.loc[table["split"] == "train", "lv_ef"].mean())
        return {"mae_of_the_mean": float((cases["true"] - mean).abs().mean())}
    if group == "survival":
        columns = (cases[name].to_numpy(dtype=float) for name in ("true_risk", "time", "event"))
        return {"c_index_of_the_true_hazard": bootstrap(concordance, *columns).as_dict()}
    return {}


def main() -> None:
    """Prints the table and writes it where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("benchmarks/results/learning"))
    parser.add_argument("--subjects", type=int, default=48)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--pretrain_epochs", type=int, default=200)
    parser.add_argument("--only", nargs="*", default=None)
    parser.add_argument("--json", type=Path, default=None)
    given = parser.parse_args()
    store, runs = given.folder / "phantom", given.folder / "runs"
    if not (store / "cohort.csv").is_file():
        made = ["--subjects", str(given.subjects), "--size", "small", "--workers", "2", "--out", str(store)]
        assert cinema(["phantom", *made]) == 0
    weights = runs / "pretrain" / "0" / "checkpoints" / "last.ckpt"
    if not weights.is_file():
        options = ["--config", "pretrain.yaml", "--config", "phantom.yaml", "--data.root", str(store)]
        options += ["--trainer.max_epochs", str(given.pretrain_epochs), "--trainer.enable_progress_bar", "false"]
        assert cinema(["fit", *options, "--runs", str(runs), "--name", "pretrain"]) == 0
    lines = []
    for group, experiment in experiments(given.seeds, str(weights)):
        if given.only and group not in given.only:
            continue
        line = run(experiment, store, runs)
        line["yardstick"] = yardsticks(group, Path(line["folder"]), store)
        lines.append(line)
        print(as_text(line), flush=True)
        if given.json:
            given.json.parent.mkdir(parents=True, exist_ok=True)
            given.json.write_text(json.dumps(lines, indent=2, default=float), encoding="utf-8")


def as_text(line: dict[str, Any]) -> str:
    """One line of the table."""
    cells = [
        f"{name} {row['value']:.3f} [{row['low'] or np.nan:.3f}, {row['high'] or np.nan:.3f}]"
        for name, row in line["figures"].items()
    ]
    for name, value in line["yardstick"].items():
        number = value["value"] if isinstance(value, dict) else value
        cells.append(f"({name} {number:.3f})")
    return f"| {line['run']} | {line['minutes']:.1f} min | {'; '.join(cells)} |"


if __name__ == "__main__":
    main()
