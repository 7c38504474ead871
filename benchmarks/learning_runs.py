"""The trainings behind `learning.py`: phantoms, runs of `cinema fit` and `cinema test`; measures nothing by itself."""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

import pandas as pd

from cinema_lightning.cli import main as cinema
from cinema_lightning.files import replacing
from cinema_lightning.metrics.estimates import figure
from cinema_lightning.metrics.survival import concordance
from cinema_lightning.phantom.truth import AGE_RISK

PHANTOM = ["--config", "phantom.yaml", "--data.dataset", "phantom"]
QUIET = ["--trainer.enable_progress_bar", "false", "--trainer.enable_model_summary", "false"]
LONG_AXIS = ["--data.views", "[lax_2c,lax_3c,lax_4c]"]
LONG_STEPS = ["--model.optim.lr", "4e-3"]
"""Narrow networks with a dense decoder, and the masked autoencoder, learn faster than at the paper's 1e-3."""
FAST_STEPS = ["--model.optim.lr", "8e-3"]
"""The rate at which the strong recipe learnt most in few steps; DynUNet does not gain by it (details.md)."""
EVEN = ["--model.layer_decay", "1"]
"""The autoencoder's first convolution is the same for ED and ES, and has to learn as fast as the rest to tell them."""
WHOLE = ["--model.chunk", "null"]
BY_LIKELIHOOD = ["--checkpoint.monitor", "val/loss", "--checkpoint.mode", "min"]
"""C of few validation subjects jumps about; their partial likelihood is steadier."""
STARTS = ("pretrained", "scratch")
COHORTS = {"small": (80, 184), "large": (256, 0), "outcome": (768, 256)}
"""Subjects with splits of their own, and how many more to test on only: labelled, to pretrain on, with outcomes."""
QUICK_COHORTS = {"small": (20, 8), "large": (10, 0), "outcome": (40, 8)}
PACE_EPOCHS = 3
"""Epochs by which a network's pace is measured."""


@dataclass(frozen=True)
class Setting:
    """How much is done.

    Attributes:
        folder: Where cohorts and runs lie.
        seeds: Of the trainings.
        minutes: What a training to segment SAX may take.
        fraction: Share of the labels where the two starts are compared.
        pretrain_epochs: Length of pretraining.
        quick: An epoch or two of a few subjects, to see that everything runs; the figures mean nothing.
        accelerator: Where networks are trained and tested, cpu or gpu.
        jobs: Trainings at a time.
        epochs: Network -> epochs of a training to segment SAX, where what the minutes hold was measured elsewhere.
    """

    folder: Path
    seeds: tuple[int, ...]
    minutes: float
    fraction: float
    pretrain_epochs: int
    quick: bool
    accelerator: str = "cpu"
    jobs: int = 1
    epochs: tuple[tuple[str, int], ...] = ()

    @property
    def runs(self) -> Path:
        """Folder of the runs."""
        return self.folder / "runs"

    @property
    def device(self) -> list[str]:
        """Options that say where a network runs."""
        return [] if self.accelerator == "cpu" else ["--trainer.accelerator", self.accelerator]

    def best(self, name: str) -> Path:
        """The checkpoint that a run of one seed keeps."""
        return self.runs / name / "0" / "checkpoints" / "best.ckpt"

    def store(self, cohort: str) -> Path:
        """Folder of a cohort, which is made where it is not there."""
        number = list(COHORTS).index(cohort)
        count, exam = (QUICK_COHORTS if self.quick else COHORTS)[cohort]
        make_cohort(self.folder / cohort, count, exam, 1000 * number)
        return self.folder / cohort


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
        validations: How often it looks at the validation subjects; epochs that are a multiple end with one.
    """

    name: str
    config: str
    epochs: int
    cohort: str = "small"
    options: list[str] = field(default_factory=list)
    fit: list[str] = field(default_factory=list)
    validations: int = 10

    def command(self, setting: Setting) -> list[str]:
        """What fit and test have in common."""
        root = ["--data.root", str(setting.store(self.cohort))]
        return ["--config", self.config, *PHANTOM, *self.options, *root, *setting.device]


def make_cohort(folder: Path, count: int, exam: int, seed: int) -> None:
    """Phantoms: the first ``count`` with splits of their own, ``exam`` more of which all are test subjects."""
    path = folder / "cohort.csv"
    if path.is_file():
        there = pd.read_csv(path, usecols=["id", "split"], dtype=str)
        apart = (there.loc[there["id"] >= f"phantom_{count:05d}", "split"] == "test").all()
        if len(there) == count + exam and apart:  # one that was stopped in between has examined subjects in training
            return
    options = ["--subjects", str(count + exam), "--seed", str(seed), "--size", "small", "--workers", "2"]
    if cinema(["phantom", *options, "--out", str(folder)]):
        raise SystemExit(f"{folder} was not made")
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    table.loc[table["id"] >= f"phantom_{count:05d}", "split"] = "test"
    with replacing(path) as temporary:
        table.to_csv(temporary, index=False)


def train(name: str, options: list[str], setting: Setting) -> float:
    """Trains; a run that was stopped goes on, one that is done stays as it is. Gives its minutes.

    Each start writes events into a file of its own, whose name says when it began and whose last change when it ended.
    """
    place = setting.runs / name / "0"
    record = place / "trained.json"
    options = [*options, "--runs", str(setting.runs), "--name", name, *QUIET]
    options += ["--pictures.every_n_epochs", "0", "--ckpt_path", "auto"]
    if record.is_file():
        done = json.loads(record.read_text(encoding="utf-8"))
        if done["options"] != options:
            raise SystemExit(f"{place} was trained with other options; give another --folder.")
        return float(done["minutes"])
    if cinema(["fit", *options]):
        raise SystemExit(f"{name} was not trained")
    files = place.glob("events.out.tfevents.*")
    minutes = sum(path.stat().st_mtime - int(path.name.split(".")[3]) for path in files) / 60
    with replacing(record) as temporary:
        temporary.write_text(json.dumps({"minutes": minutes, "options": options}), encoding="utf-8")
    return minutes


@cache
def pretrain(setting: Setting) -> tuple[Path, float]:
    """Pretrains on all four views of subjects whom no other cohort holds; the checkpoint, and the minutes it took."""
    epochs = 2 if setting.quick else setting.pretrain_epochs
    schedule = ["--trainer.max_epochs", str(epochs)]
    schedule += ["--trainer.check_val_every_n_epoch", str(max(1, epochs // 10)), *setting.device]
    minutes = train("pretrain", [*_autoencoder(setting, "5e-3"), *schedule], setting)
    return setting.best("pretrain"), minutes


def untrained(setting: Setting) -> Path:
    """The same network after one step that changes nothing, by which to see what pretraining has taught."""
    once = ["--trainer.max_epochs", "1", "--trainer.limit_train_batches", "1", "--trainer.check_val_every_n_epoch", "1"]
    train("untrained", [*_autoencoder(setting, "1e-12"), *once, *setting.device], setting)
    return setting.best("untrained")


def _autoencoder(setting: Setting, rate: str) -> list[str]:
    options = ["--config", "pretrain.yaml", "--config", "phantom.yaml", "--data.root", str(setting.store("large"))]
    return [*options, "--model.optim.lr", rate]


def fit(experiment: Experiment, setting: Setting, *more: str) -> float:
    """Trains an experiment to the end of its schedule; gives its minutes."""
    schedule = ["--trainer.max_epochs", str(experiment.epochs), "--early_stop.patience", "0"]
    every = str(max(1, experiment.epochs // experiment.validations))
    schedule += ["--trainer.check_val_every_n_epoch", every, "--checkpoint.every_n_epochs", every]
    return train(experiment.name, [*experiment.command(setting), *schedule, *experiment.fit, *more], setting)


@dataclass(frozen=True)
class Done:
    """A run that is trained and tested: its results and the minutes of training."""

    results: Path
    minutes: float


def run(experiment: Experiment, setting: Setting) -> Done:
    """Fits and tests, and prints the headline figures."""
    if setting.quick:
        experiment = replace(experiment, epochs=min(2, experiment.epochs))
    minutes = fit(experiment, setting)
    results = setting.runs / experiment.name / "0" / "test" / "phantom"
    if (results / "summary.json").is_file():  # train() has made sure that it is of these options
        return Done(results, minutes)
    test = ["test", *experiment.command(setting), "--runs", str(setting.runs), "--name", experiment.name]
    if cinema([*test, *QUIET[:2]]):
        raise SystemExit(f"{experiment.name} was not tested")
    print(as_text(experiment.name, minutes, results, setting.store(experiment.cohort)), flush=True)
    return Done(results, minutes)


def run_all(chains: Sequence[Sequence[Experiment]], setting: Setting) -> None:
    """Runs what has to be done one after the other, several such chains at a time; the first failure ends all."""
    for cohort in sorted({one.cohort for chain in chains for one in chain}):
        setting.store(cohort)  # once, before several ask for it
    with ProcessPoolExecutor(setting.jobs, multiprocessing.get_context("spawn")) as pool:
        for ended in as_completed([pool.submit(_run_chain, chain, setting) for chain in chains]):
            ended.result()


def _run_chain(chain: Sequence[Experiment], setting: Setting) -> None:
    for experiment in chain:
        run(experiment, setting)


def as_text(name: str, took: float, results: Path, store: Path) -> str:
    """A run's minutes, headline figures and what they have to beat."""
    summary = json.loads((results / "summary.json").read_text(encoding="utf-8"))
    cells = []
    for row in summary["headlines"][:3]:
        ends = ", ".join("-" if row[end] is None else f"{row[end]:.3f}" for end in ("low", "high"))
        cells.append(f"{row['metric']} {row['value']:.3f} [{ends}]" if row["value"] is not None else row["metric"])
    beat = yardsticks(summary["facts"]["kind"], results, store).items()
    return f"| {name} | {took:.1f} min | {'; '.join(cells + [f'({what} {value:.3g})' for what, value in beat])} |"


def epochs_within(experiment: Experiment, setting: Setting) -> int:
    """Epochs of a training that fit into the minutes, at the pace of a few epochs of it; a multiple of four."""
    if not setting.quick and experiment.name in (given := dict(setting.epochs)):
        return given[experiment.name]
    name = f"pace_{experiment.name}"
    pace = fit(replace(experiment, name=name, epochs=PACE_EPOCHS), setting, "--trainer.limit_val_batches", "0")
    return max(1, int(setting.minutes * PACE_EPOCHS / pace) // 4) * 4


def yardsticks(kind: str, folder: Path, store: Path) -> dict[str, float]:
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
    return {f"c_{name}": float(figure(concordance, risk, time, event).value) for name, risk in rankings.items()}
