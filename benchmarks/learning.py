"""Evidence that the tasks learn: small networks on phantom hearts, held-out subjects, two CPU cores.

Every line of the table is one run of `cinema fit` and `cinema test` (test subjects are never seen in training).
Cohorts have further subjects to test on only, since few test subjects make wide intervals. Run it with
`python benchmarks/learning.py --json FILE`; `--only segmentation` and the like run a part. Two parts at a time, each
with `OMP_NUM_THREADS=1`, finish sooner than one after the other with two threads. Stopped, it goes on.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cinema_lightning.cli import main as cinema
from cinema_lightning.files import replacing
from cinema_lightning.metrics.estimates import figure
from cinema_lightning.metrics.inference import difference
from cinema_lightning.metrics.survival import concordance
from cinema_lightning.phantom.truth import AGE_RISK

GROUPS = ["segmentation", "transfer", "classification", "regression", "landmarks", "survival"]
PHANTOM = ["--config", "phantom.yaml", "--data.dataset", "phantom"]
LONG_AXIS = ["--data.views", "[lax_2c,lax_3c,lax_4c]"]
LONG_STEPS = ["--model.optim.lr", "4e-3"]
"""Narrow networks with a dense decoder, and the masked autoencoder, learn faster than at the paper's 1e-3."""
SMALL_BATCH = ["--data.batch_size", "4", *LONG_STEPS]
EVEN = ["--model.layer_decay", "1"]
"""The autoencoder's first convolution is the same for ED and ES, and has to learn as fast as the rest to tell them."""
WHOLE = ["--model.chunk", "null"]
BY_LIKELIHOOD = ["--checkpoint.monitor", "val/loss", "--checkpoint.mode", "min"]
"""C of 77 validation subjects jumps about; their partial likelihood is steadier."""
COHORTS = {"small": (80, 184), "large": (256, 0), "outcome": (768, 256)}
"""Subjects with splits of their own, and how many more to test on only: labelled, to pretrain on, with outcomes."""


@dataclass(frozen=True)
class Experiment:
    """One run.

    Attributes:
        name: Name of the run's folder and of the line.
        config: Configuration.
        epochs: Length.
        cohort: Name in COHORTS.
        options: Further options of fit and test.
        fit: Further options of fit alone.
        figures: Headline figures to report.
    """

    name: str
    config: str
    epochs: int
    cohort: str = "small"
    options: list[str] = field(default_factory=list)
    fit: list[str] = field(default_factory=list)
    figures: tuple[str, ...] = ()


def transfer(seed: int, weights: str) -> Iterator[Experiment]:
    """4CH segmentation from scratch and from the pretrained encoder, with all and with a quarter of the labels."""
    for fraction, epochs in ((1.0, 40), (0.25, 160)):  # as many steps
        for start in ("scratch", "pretrained"):
            options = ["--seed_everything", str(seed), "--data.seed", str(seed), "--data.fraction", str(fraction)]
            given = ["--model.weights", weights] if start == "pretrained" else []
            name = f"transfer_{fraction:.0%}_{start}_seed{seed}"
            yield Experiment(
                name,
                "mnms2_4ch_seg.yaml",
                epochs,
                "small",
                [*options, *LONG_STEPS],
                given,
                ("mean_dice", "mean_hd95"),
            )


def survival(seed: int, runs: Path) -> Iterator[Experiment]:
    """Time to an event from the three long-axis views: direct, and from a network that has learnt LVEF first.

    An event says little about one heart, so what to look at is learnt from LVEF, which every cohort has; whether that
    starts from scratch or from the masked autoencoder is told by two chains.
    """
    seeded = ["--seed_everything", str(seed), "--data.seed", "0", *LONG_AXIS]
    about_events = ("c_index",)
    for start in ("scratch", "pretrained"):
        first = f"lvef_long_axis_{start}_seed{seed}"
        given = [*EVEN, "--model.weights", str(best(runs, "pretrain"))] if start == "pretrained" else []
        options = [*seeded, "--trainer.check_val_every_n_epoch", "4"]
        yield Experiment(first, "acdc_ef.yaml", 40, "outcome", options, given, ("mae", "pearson"))
        name = f"survival_from_lvef_{start}_seed{seed}"
        given = ["--model.weights", str(best(runs, first)), "--model.optim.lr", "5e-4", *BY_LIKELIHOOD]
        options = [*seeded, *WHOLE, "--data.batch_size", "32", "--trainer.check_val_every_n_epoch", "2"]
        yield Experiment(name, "ukb_survival.yaml", 20, "outcome", options, given, about_events)
    options = [*seeded, *WHOLE, "--data.batch_size", "16", "--trainer.check_val_every_n_epoch", "5"]
    name = f"survival_scratch_seed{seed}"
    yield Experiment(name, "ukb_survival.yaml", 90, "outcome", options, BY_LIKELIHOOD, about_events)


def best(runs: Path, name: str) -> Path:
    """The checkpoint that a run of one seed keeps."""
    return runs / name / "0" / "checkpoints" / "best.ckpt"


def experiments(seed: int, runs: Path) -> dict[str, list[Experiment]]:
    """Experiments of each group for one seed."""
    seeded = ["--seed_everything", str(seed), "--data.seed", "0"]

    def one(name: str, config: str, epochs: int, cohort: str, figures: tuple[str, ...], *more: str) -> Experiment:
        return Experiment(f"{name}_seed{seed}", config, epochs, cohort, [*seeded, *more], figures=figures)

    return {
        "segmentation": [
            one("segmentation", "acdc_seg.yaml", 22, "small", ("mean_dice", "lv_ef_mae", "rv_ef_mae"), *SMALL_BATCH)
        ],
        "transfer": list(transfer(seed, str(best(runs, "pretrain")))),
        "classification": [one("pathology", "acdc_cvd.yaml", 150, "small", ("mcc", "accuracy", "auroc"))],
        "regression": [one("ef", "acdc_ef.yaml", 200, "small", ("mae", "pearson"))],
        "landmarks": [
            one("landmarks", "landmark_heatmap_2ch.yaml", 160, "small", ("mean_distance", "mapse_mae"), *LONG_STEPS)
        ],
        "survival": list(survival(seed, runs)),
    }


def run(experiment: Experiment, folder: Path) -> dict[str, Any]:
    """Fits and tests; gives the headline figures and the minutes of training."""
    runs = folder / "runs"
    common = ["--config", experiment.config, *PHANTOM, *experiment.options]
    common += ["--data.root", str(folder / experiment.cohort), "--runs", str(runs), "--name", experiment.name]
    quiet = ["--trainer.enable_progress_bar", "false", "--trainer.enable_model_summary", "false"]
    schedule = ["--trainer.max_epochs", str(experiment.epochs), "--early_stop.patience", "0"]
    more = ["--pictures.every_n_epochs", "0", "--ckpt_path", "auto"]  # a run that is there is not trained again
    if cinema(["fit", *common, *quiet, *schedule, *more, *experiment.fit]) or cinema(["test", *common, *quiet[:2]]):
        raise SystemExit(f"{experiment.name} failed")
    place = runs / experiment.name / "0"
    began = min(int(path.name.split(".")[3]) for path in place.glob("events.out.tfevents.*"))
    minutes = ((place / "checkpoints" / "last.ckpt").stat().st_mtime - began) / 60
    results = place / "test" / "phantom"
    summary = json.loads((results / "summary.json").read_text(encoding="utf-8"))
    rows = {row["metric"]: row for row in summary["headlines"]}
    found = {name: rows[name] for name in experiment.figures if name in rows}
    line = {"run": experiment.name, "minutes": minutes, "figures": found, "folder": str(results)}
    return line | {"yardstick": yardsticks(summary["facts"]["kind"], results, folder / experiment.cohort)}


def yardsticks(kind: str, folder: Path, store: Path) -> dict[str, Any]:
    """What the figure of a kind of task has to beat, and what could be reached: chance, the mean, the true hazard."""
    cases = pd.read_csv(folder / "cases.csv", dtype={"id": str})
    table = pd.read_csv(store / "cohort.csv", dtype={"id": str}).set_index("id")
    if kind == "classification":
        return {"chance_accuracy": float(cases["true"].value_counts(normalize=True).max())}
    if kind == "regression":
        mean = float(table.loc[table["split"] == "train", "lv_ef"].mean())
        return {"mae_of_the_mean": float((cases["true"] - mean).abs().mean())}
    if kind != "survival":
        return {}
    true = cases["true_risk"].to_numpy(dtype=float)
    rankings = {
        "true_hazard": true,
        "true_hazard_without_age": true - AGE_RISK * cases["age"].to_numpy(dtype=float),
        "measured_lv_ef": -cases["lv_ef"].to_numpy(dtype=float),
    }
    time, event = (cases[name].to_numpy(dtype=float) for name in ("time", "event"))
    out: dict[str, Any] = {
        f"c_{name}": asdict(figure(concordance, risk, time, event)) for name, risk in rankings.items()
    }
    cox = pd.read_csv(folder / "cox.csv").drop_duplicates("model").set_index("model")["c_index"]
    out |= {f"c_cox_{name.replace(' ', '_')}": float(value) for name, value in cox.items()}
    out["log_rank_p"] = float(pd.read_csv(folder / "risk_groups.csv")["log_rank_p"].iloc[0])
    return out


def make_cohort(folder: Path, count: int, exam: int, seed: int) -> None:
    """Phantoms: the first ``count`` with splits of their own, ``exam`` more of which all are test subjects."""
    path = folder / "cohort.csv"
    if path.is_file() and len(pd.read_csv(path, usecols=["id"])) == count + exam:
        return
    options = ["--subjects", str(count + exam), "--seed", str(seed), "--size", "small", "--workers", "2"]
    assert cinema(["phantom", *options, "--out", str(folder)]) == 0
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    table.loc[table["id"] >= f"phantom_{count:05d}", "split"] = "test"
    with replacing(path) as temporary:
        table.to_csv(temporary, index=False)


def paired(lines: list[dict[str, Any]], metric: str = "mean_dice") -> Iterator[str]:
    """Pretrained less scratch, per fraction of the labels: each test subject's mean over phases and seeds."""
    for fraction in ("100%", "25%"):
        values = {}
        for start in ("pretrained", "scratch"):
            folders = [line["folder"] for line in lines if line["run"].startswith(f"transfer_{fraction}_{start}_")]
            tables = [pd.read_csv(Path(folder) / "cases.csv", dtype={"id": str}) for folder in folders]
            values[start] = pd.concat(tables).groupby("id")[metric].mean()
        found = difference(values["pretrained"], values["scratch"])
        better = int((values["pretrained"] > values["scratch"]).sum())
        yield (
            f"{fraction} of the labels, {len(tables)} seeds: pretrained less scratch {found.value:+.4f} "
            f"[{found.low:.4f}, {found.high:.4f}], p = {found.p:.1g} (over subjects, of these trainings only), better "
            f"in {better} of {len(values['scratch'])} subjects"
        )


def prepare(folder: Path, pretrain_epochs: int, groups: list[str]) -> None:
    """Makes the cohorts that are wanted and, where it is, the pretrained network."""
    pretrained = {"transfer", "survival"} & set(groups)
    unused = {"large"} if not pretrained else set()
    unused |= {"outcome"} if "survival" not in groups else set()
    for seed, (name, (count, exam)) in enumerate(COHORTS.items()):
        if name not in unused:
            make_cohort(folder / name, count, exam, 1000 * seed)
    if pretrained:
        options = ["--config", "pretrain.yaml", "--config", "phantom.yaml", "--data.root", str(folder / "large")]
        options += [*LONG_AXIS, "--model.optim.lr", "5e-3", "--trainer.max_epochs", str(pretrain_epochs)]
        options += ["--trainer.enable_progress_bar", "false", "--runs", str(folder / "runs"), "--name", "pretrain"]
        options += ["--ckpt_path", "auto"]  # one that was stopped goes on, one that is done stays as it is
        assert cinema(["fit", *options]) == 0


def main() -> None:
    """Prints the table and writes it where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("benchmarks/results/learning"))
    parser.add_argument("--seeds", type=int, nargs="*", default=[0])
    parser.add_argument("--pretrain_epochs", type=int, default=450)
    parser.add_argument("--only", nargs="*", default=GROUPS, choices=GROUPS)
    parser.add_argument("--json", type=Path, default=None)
    given = parser.parse_args()
    prepare(given.folder, given.pretrain_epochs, given.only)
    lines = []
    for group, seed in product(given.only, given.seeds):
        for experiment in experiments(seed, given.folder / "runs")[group]:
            line = run(experiment, given.folder)
            lines.append(line)
            print(as_text(line), flush=True)
            if given.json:
                given.json.parent.mkdir(parents=True, exist_ok=True)
                given.json.write_text(json.dumps(lines, indent=2, default=float), encoding="utf-8")
    if "transfer" in given.only:
        print(*paired(lines), sep="\n")


def as_text(line: dict[str, Any]) -> str:
    """One line of the table."""
    cells = []
    for name, row in line["figures"].items():
        low, high = (np.nan if row[end] is None else row[end] for end in ("low", "high"))
        cells.append(f"{name} {row['value']:.3f} [{low:.3f}, {high:.3f}]")
    for name, value in line["yardstick"].items():
        number = value["value"] if isinstance(value, dict) else value
        cells.append(f"({name} {number:.3g})")
    return f"| {line['run']} | {line['minutes']:.1f} min | {'; '.join(cells)} |"


if __name__ == "__main__":
    main()
