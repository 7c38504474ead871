"""The bars of what is learnt, on phantom hearts that were never seen in training: claim, figure, bar, met or not.

    OMP_NUM_THREADS=1 python benchmarks/learning.py --seeds 0 1 2 --json FILE      # hours; --only features: a part
    python benchmarks/learning.py --quick                                          # that all of it runs: minutes

- segmentation: SAX by the strong recipe from the pretrained start, against nnU-Net's (DynUNet) in the same minutes.
- pretraining: pretrained against scratch in five tasks with few labels.
- features: what a linear reader finds in the tokens of the pretrained network as it is.
- ensemble: the segmentation networks of all seeds together, against their mean.

Every run is one of `cinema fit` and `cinema test`; those that two parts need are trained once. Stopped, it goes on. One
network is pretrained, so intervals are about subjects and about fine-tunings of it, not about pretrainings.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch.utils.data import DataLoader

import cinema_lightning
from cinema_lightning.cli import main as cinema
from cinema_lightning.columns import CASE
from cinema_lightning.metrics.agreement import pearson
from cinema_lightning.metrics.classification import auroc
from cinema_lightning.metrics.estimates import compare, estimate, figure
from cinema_lightning.metrics.inference import Inference, difference
from cinema_lightning.metrics.probe import read_features
from cinema_lightning.metrics.samples import Sample
from cinema_lightning.results.folder import read_results
from cinema_lightning.results.headline import Headline
from cinema_lightning.results.kind import headlines
from cinema_lightning.views import VIEWS
from learning_runs import (
    BY_LIKELIHOOD,
    EVEN,
    FAST_STEPS,
    LONG_AXIS,
    LONG_STEPS,
    QUIET,
    STARTS,
    WHOLE,
    Done,
    Experiment,
    Setting,
    epochs_within,
    pretrain,
    run,
    run_all,
    untrained,
)

TURNS = "none"
"""Phantoms all lie one way: turned or mirrored, each is read worse than as it is (details.md)."""
STRONG = ["--config", "strong.yaml", *FAST_STEPS]
DYNUNET = ["--config", "upright.yaml", "--model.network.class_path", "DynUNet", *LONG_STEPS]
NETWORKS = {"ours": STRONG, "dynunet": DYNUNET}
SEGMENT = ["--data.batch_size", "4"]
POINTS = ["--config", "strong.yaml", *LONG_STEPS]
FIGURES = {"diagnosis": "auroc"}
"""By which tasks are judged, where it is not the first figure of their kind."""


@dataclass(frozen=True)
class Bar:
    """A claim that is held against its bar.

    Attributes:
        claim: What is claimed.
        value: The figure.
        ends: Its interval; None where there is none.
        subjects: Test subjects.
        bar: What the figure has to be.
        met: Whether it is; None where it was measured otherwise than the bar asks.
        beside: What belongs to it, such as minutes.
    """

    claim: str
    value: float
    ends: tuple[float, float] | None
    subjects: int
    bar: str
    met: bool | None
    beside: str = ""

    def __str__(self) -> str:
        ends = f" [{self.ends[0]:.4g}, {self.ends[1]:.4g}]" if self.ends else ""
        verdict = {True: "met", False: "NOT met", None: "not judged"}[self.met]
        return f"| {self.claim} | {self.value:.4g}{ends} | {self.bar} | {verdict} | {self.beside} |"


def held(claim: str, found: Inference, bar: str, met: bool, *beside: str) -> Bar:
    """A figure with its interval held against a bar; one that is not a number meets none."""
    ends = (found.low, found.high) if np.isfinite([found.low, found.high]).all() else None
    told = [f"{found.n_subjects} subjects, {found.n_seeds} training(s)", *beside]
    return Bar(claim, found.value, ends, found.n_subjects, bar, bool(met), "; ".join(told))


# ---------------------------------------------------------------------- figures of runs
def headline(done: Sequence[Done], name: str | None = None) -> tuple[Headline, list[Sample]]:
    """A headline figure, by default the first of the kind of task, with its cases in the results of each seed."""
    several = [read_results(each.results) for each in done]
    known = headlines(several[0].kind, several[0].facts)
    (found,) = [one for one in known if one.name == (name or known[0].name)]
    samples = []
    for results in several:
        table = results.table(found.source)
        named = [column for column in CASE if column in table]
        sample = found.sample(table, results.facts, table[named].astype(str).agg(" ".join, axis=1).to_numpy())
        if sample is None:
            raise SystemExit(f"{results.folder} has no {found.name}")
        samples.append(sample)
    return found, samples


def gain(ours: Sequence[Done], theirs: Sequence[Done], name: str | None = None) -> tuple[Headline, Inference]:
    """How much better the first runs are by a headline figure, over subjects and seeds; above 0 is better."""
    figured, first = headline(ours, name)
    second = headline(theirs, name)[1]
    pair = (first, second) if figured.higher_is_better else (second, first)
    return figured, compare(figured.statistic, *pair, figured.scale)


# ---------------------------------------------------------------------- the groups
def segmenting(setting: Setting, network: str) -> list[Experiment]:
    """Trainings of one network that segments SAX, by seed."""
    start = ["--model.weights", str(pretrain(setting)[0])] if network == "ours" else []
    options = [*NETWORKS[network], *SEGMENT]
    one = Experiment(f"segmentation_{network}", "acdc_seg.yaml", 1, options=options, fit=start, validations=4)
    one = replace(one, epochs=epochs_within(one, setting))
    return [seeded(one, seed) for seed in setting.seeds]


def segmented(setting: Setting, network: str) -> list[Done]:
    """Results of one network that segments SAX, by seed."""
    return [run(one, setting) for one in segmenting(setting, network)]


def seeded(experiment: Experiment, seed: int, *more: str) -> Experiment:
    """The experiment with a seed."""
    options = [*experiment.options, "--seed_everything", str(seed), *more]
    return replace(experiment, name=f"{experiment.name}_seed{seed}", options=options)


def segmentation(setting: Setting) -> Iterator[Bar]:
    """SAX from the pretrained start against DynUNet in the same minutes."""
    done = {name: segmented(setting, name) for name in NETWORKS}
    took = {name: np.mean([each.minutes for each in several]) for name, several in done.items()}
    beside = f"minutes of training: ours {took['ours']:.1f}, after {pretrain(setting)[1]:.3g} of pretraining; "
    beside += f"DynUNet {took['dynunet']:.1f}"
    if setting.epochs:
        told = ", ".join(f"{name.split('_')[1]} {count}" for name, count in setting.epochs)
        beside = (
            f"epochs that {setting.minutes:g} minutes of one core hold: {told}; on the {setting.accelerator} {beside}"
        )
    found = gain(done["ours"], done["dynunet"])[1]
    yield held("SAX Dice, ours less DynUNet", found, "interval above -0.003", found.low > -0.003, beside)
    errors = [headline(done[name], "lv_ef_mae") for name in NETWORKS]
    error, other = (estimate(one.statistic, samples, one.scale) for one, samples in errors)
    beside = f"DynUNet {other.value:.3g}"
    yield held("LVEF MAE of ours, points", error, "at most 3.5", error.value <= 3.5, beside)


def started(setting: Setting, seed: int, start: str) -> dict[str, Experiment]:
    """The five tasks from one start. As many steps as with all labels; survival begins at the network that knows LVEF.

    An event says little about one heart, so what to look at is learnt from LVEF first, in both arms.
    """
    given = ["--model.weights", str(pretrain(setting)[0])] if start == "pretrained" else []
    pooled = [*EVEN, *given] if given else []

    def one(task: str, config: str, epochs: int, cohort: str, options: list[str], first: list[str]) -> Experiment:
        more = ["--data.seed", str(seed), "--data.fraction", str(setting.fraction)]
        longer = 10 * max(1, round(epochs / setting.fraction / 10))  # the last validation is at the end
        name = f"{task}_{setting.fraction:g}_{start}"
        return seeded(Experiment(name, config, longer, cohort, options, first), seed, *more)

    lvef = one("lvef", "acdc_ef.yaml", 40, "outcome", LONG_AXIS, pooled)
    first = ["--model.weights", str(setting.best(lvef.name)), "--model.optim.lr", "5e-4", *BY_LIKELIHOOD]
    outcome = [*LONG_AXIS, *WHOLE, "--data.batch_size", "32"]
    return {
        "segmentation": one("masks", "acdc_seg.yaml", 22, "small", [*STRONG, "--data.batch_size", "4"], given),
        "LVEF": lvef,
        "diagnosis": one("diagnosis", "acdc_cvd.yaml", 20, "outcome", [], pooled),
        "landmarks": one("landmarks", "landmark_heatmap_2ch.yaml", 160, "small", POINTS, given),
        "survival": one("survival", "ukb_survival.yaml", 20, "outcome", outcome, first),
    }


def pretraining(setting: Setting) -> Iterator[Bar]:
    """Pretrained against scratch with a share of the labels, task by task."""
    arms = {start: [started(setting, seed, start) for seed in setting.seeds] for start in STARTS}
    tasks, helped = list(arms["scratch"][0]), []
    for task in tasks:
        ours, theirs = ([run(one[task], setting) for one in arms[start]] for start in STARTS)
        figured, found = gain(ours, theirs, FIGURES.get(task))
        helped.append(found.low > 0)
        claim = f"{task} with {setting.fraction:.0%} of the labels: gain of pretraining, {figured.display}"
        yield held(f"{claim} {figured.unit}".strip(), found, "interval above 0", helped[-1])
    yield Bar(f"tasks of {len(tasks)} that pretraining helps", sum(helped), None, 0, "at least 4", sum(helped) >= 4)


def features(setting: Setting) -> Iterator[Bar]:
    """A linear reader of the tokens of ED and ES as pretraining left them; beside it of an untrained network.

    Where something lies is half of what tokens say: their means over a view lose it (details.md). The reader learns
    from training subjects.
    """
    store = setting.store("outcome")
    cohort = pd.read_csv(store / "cohort.csv", dtype={"id": str}).set_index("id")
    train, test = ((cohort["split"] == name).to_numpy() for name in ("train", "test"))
    known, nothing = (frozen(tokens(one, store), cohort) for one in (pretrain(setting)[0], untrained(setting)))
    lvef = cohort["lv_ef"].to_numpy(dtype=float)
    names, labels = np.unique(cohort["pathology"].to_numpy(dtype=str), return_inverse=True)

    def correlation(features: np.ndarray) -> Inference:
        read = read_features(features[train], lvef[train, None], features[test])["linear"]
        return figure(pearson, read[:, 0], lvef[test])

    def separation(features: np.ndarray) -> Inference:
        read = read_features(features[train], np.eye(len(names))[labels[train]], features[test])["linear"]
        return figure(auroc, read, labels[test])

    claims = {"LVEF, linear reader of frozen tokens, r": (correlation, 0.8)}
    claims["diagnosis, the same, AUROC"] = (separation, 0.85)
    for claim, (judged, bar) in claims.items():
        found, beside = judged(known), judged(nothing)
        told = f"learnt from {train.sum()} subjects", f"of an untrained network {beside.value:.3g}"
        yield held(claim, found, f"at least {bar:g}", found.value >= bar, *told)


def tokens(checkpoint: Path, store: Path) -> dict[tuple[str, int], np.ndarray]:
    """Id and frame -> class token and means of 2 x 2 tokens of each view, of ED and ES of all subjects."""
    model = cinema_lightning.load(checkpoint, device="cpu")
    network = model.network
    frames = cinema_lightning.open(store, frames="ed_es", input_size=model.spec.input_size, depth="own")
    found = {}
    for batch in DataLoader(frames, 32, collate_fn=frames.collate):
        images = {view: batch[view] for view in VIEWS}
        with torch.inference_mode():
            encoded = network.encode(images)
        parts = [encoded["cls"].flatten(1)]
        for view, image in images.items():
            geometry = network.encoder.geometries[view]
            grid = encoded[view].unflatten(1, geometry.grid_of(geometry.padded(image.shape[2:])))
            parts.append(grid.unflatten(2, (-1, 2)).unflatten(1, (-1, 2)).mean(dim=(2, 4)).flatten(1))
        rows = torch.cat(parts, dim=1).numpy()
        found |= {(one, int(frame)): row for one, frame, row in zip(batch["id"], batch["frame"], rows, strict=True)}
    return found


def frozen(found: Mapping[tuple[str, int], np.ndarray], cohort: pd.DataFrame) -> np.ndarray:
    """(N, D) features of ED beside those of ES, of the subjects of a cohort in its order."""
    phases = [list(zip(cohort.index, cohort[name], strict=True)) for name in ("ed_frame", "es_frame")]
    return np.stack([np.concatenate([found[one], found[other]]) for one, other in zip(*phases, strict=True)])


def ensemble(setting: Setting) -> Iterator[Bar]:
    """Networks of all seeds together against the mean of each, and whether their spread knows errors."""
    if len(setting.seeds) < 2:
        raise SystemExit("an ensemble needs several networks; give --seeds 0 1 2")
    alone = segmented(setting, "ours")
    names = [f"segmentation_ours_seed{seed}" for seed in setting.seeds]
    experiment = Experiment("segmentation_ours", "acdc_seg.yaml", 1, options=[*NETWORKS["ours"], *SEGMENT])
    folder = setting.folder / "ensemble"
    networks = [str(setting.best(name)) for name in names]
    options = [*experiment.command(setting), "--ckpt_path", *networks, "--tta", TURNS]
    if cinema(
        [
            "test",
            *options,
            *QUIET[:2],
            "--runs",
            str(setting.runs),
            "--name",
            "ensemble",
            "--output.folder",
            str(folder),
        ]
    ):
        raise SystemExit("the ensemble was not tested")
    together = read_results(folder).cases
    mean = np.mean([by_subject(read_results(one.results).cases)["mean_dice"].to_numpy() for one in alone], axis=0)
    each = by_subject(together)
    found = difference(each["mean_dice"].to_numpy(), mean)
    beside = f"{len(networks)} networks, --tta {TURNS}; of these trainings only"
    yield held("SAX Dice, ensemble less the mean of its networks", found, "interval above 0", found.low > 0, beside)
    dice, spread = each["mean_dice"].to_numpy(), each["spread"].to_numpy()
    worst = np.zeros(len(dice), dtype=int)
    worst[np.argsort(dice, kind="stable")[: max(1, round(len(dice) / 10))]] = 1
    found = figure(auroc, np.stack([-spread, spread], axis=1), worst)
    yield held(
        "the worst tenth by Dice, ranked by the spread of volumes, AUROC", found, "at least 0.75", found.value >= 0.75
    )


def by_subject(cases: pd.DataFrame) -> pd.DataFrame:
    """Dice, and where several networks spoke the spread of the volumes as a share of them, means over ED and ES."""
    volumes = [name for name in cases if name.endswith("_volume_pred")]
    spreads = [f"{name}_sd" for name in volumes if f"{name}_sd" in cases]
    relative = cases[spreads].sum(axis=1, skipna=False) / cases[volumes].sum(axis=1)
    return cases.assign(spread=relative).groupby("subject")[["mean_dice", "spread"]].mean()


GROUPS: dict[str, Callable[[Setting], Iterator[Bar]]] = {
    "segmentation": segmentation,
    "pretraining": pretraining,
    "features": features,
    "ensemble": ensemble,
}


def chains(groups: Sequence[str], setting: Setting) -> list[list[Experiment]]:
    """The trainings of groups, those that wait for each other in one list; the longest lists first."""
    found: list[list[Experiment]] = []
    if "pretraining" in groups:
        for tasks in (started(setting, seed, start) for seed in setting.seeds for start in STARTS):
            # survival begins where the LVEF of the same start ends
            found += [[tasks["LVEF"], tasks["survival"]], [tasks["diagnosis"]]]
            found += [[tasks["landmarks"]], [tasks["segmentation"]]]
    if {"segmentation", "ensemble"} & set(groups):
        networks = list(NETWORKS) if "segmentation" in groups else ["ours"]
        found += [[one] for network in networks for one in segmenting(setting, network)]
    order = ["lvef", "diagnosis", "segmentation", "landmarks", "masks"]
    return sorted(found, key=lambda chain: order.index(chain[0].name.split("_")[0]))


def as_asked(group: str, setting: Setting) -> bool:
    """Whether a group is measured as its bars ask: whole cohorts, three seeds, 25% of the labels, nine minutes."""
    if setting.quick or (group != "features" and len(setting.seeds) < 3):
        return False
    return (group != "pretraining" or setting.fraction == 0.25) and (group != "segmentation" or setting.minutes <= 9)


def main() -> None:
    """Prints the bars and writes them where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="where cohorts and runs lie")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--minutes", type=float, default=9.0, help="of a training to segment SAX")
    parser.add_argument("--fraction", type=float, default=0.25, help="share of the labels in the group pretraining")
    parser.add_argument("--pretrain_epochs", type=int, default=450)
    parser.add_argument("--only", nargs="+", default=list(GROUPS), choices=list(GROUPS))
    parser.add_argument("--accelerator", default="cpu", choices=["cpu", "gpu"])
    parser.add_argument("--jobs", type=int, default=1, help="trainings at a time, each in a process")
    what = "of a training to segment SAX, ours and DynUNet's: what --minutes hold, where that was measured elsewhere"
    parser.add_argument("--epochs", type=int, nargs=2, metavar=("OURS", "DYNUNET"), help=what)
    parser.add_argument("--quick", action="store_true", help="a few subjects and an epoch or two; figures mean nothing")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    folder = args.folder or Path("benchmarks/results") / ("learning_quick" if args.quick else "learning")
    seeds = tuple(dict.fromkeys(args.seeds))
    named = [f"segmentation_{name}" for name in NETWORKS]
    epochs = tuple(zip(named, args.epochs, strict=True)) if args.epochs else ()
    if args.accelerator != "cpu" and not (epochs or args.quick):
        parser.error("the minutes are those of one core; say with --epochs how many fit into them there")
    setting = Setting(folder, seeds, args.minutes, args.fraction, args.pretrain_epochs, args.quick)
    setting = replace(setting, accelerator=args.accelerator, jobs=args.jobs, epochs=epochs)
    bars: list[dict[str, object]] = []
    if args.jobs > 1:
        run_all(chains(args.only, setting), setting)
    for group in args.only:
        for bar in GROUPS[group](setting):
            told = bar if as_asked(group, setting) else replace(bar, met=None)
            print(told, flush=True)
            bars.append({"group": group, **asdict(told)})
            if args.json:
                args.json.parent.mkdir(parents=True, exist_ok=True)
                args.json.write_text(json.dumps(bars, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
