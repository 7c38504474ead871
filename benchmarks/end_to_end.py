"""Samples per second of whole runs against the network alone: store, workers, transforms, step, logging; prediction.

    python benchmarks/end_to_end.py --json end_to_end.json

A few phantom studies stand in the store many times over, so that an epoch is long. In one process the loop of
``cinema fit`` or ``cinema predict`` and its network alone take turns on the same batches, see turns.py; the ratio is of
the medians, of time and of this process's core seconds, which a busy machine does not stretch. Validation is left out:
its share of a run is logged (``speed/validation_share``).
"""

from __future__ import annotations

import argparse
import csv
import json
import statistics
import tempfile
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import torch

import turns
from cinema_lightning.cli import main as cinema
from cinema_lightning.data.table import write_cohort

TARGET = 0.95
MANY = "1000000"


@dataclass(frozen=True)
class Case:
    """One kind of run.

    Attributes:
        verb: fit or predict.
        size: Size of the phantoms: full (192 x 192 x 16 and 256 x 256) or small (64 x 64).
        config: Configurations.
        batch: Samples of a batch.
        batches: Batches of a turn.
        network: Size of the network.
    """

    verb: str
    size: str
    config: tuple[str, ...]
    batch: int
    batches: int
    network: str = "mini"


PRETRAIN, SEGMENT = ("pretrain.yaml",), ("acdc_seg.yaml",)
CASES = {
    "pretraining, base": Case("fit", "full", (*PRETRAIN, "laptop.yaml"), 1, 3, "base"),
    "pretraining, mini": Case("fit", "full", (*PRETRAIN, "laptop.yaml"), 4, 6),
    "pretraining, mini, small pictures": Case("fit", "small", (*PRETRAIN, "phantom.yaml"), 8, 10),
    "segmentation, mini, small pictures": Case("fit", "small", (*SEGMENT, "phantom.yaml"), 4, 10),
    "features, mini": Case("predict", "full", (*PRETRAIN, "laptop.yaml"), 4, 6),
    "masks, mini": Case("predict", "full", (*SEGMENT, "laptop.yaml"), 2, 4),
    "masks, mini, small pictures": Case("predict", "small", (*SEGMENT, "phantom.yaml"), 4, 20),
}


def make_store(root: Path, size: str, subjects: int, copies: int) -> None:
    """A store of phantoms in which each study stands many times, by links."""
    if cinema(["phantom", "--subjects", str(subjects), "--size", size, "--workers", "1", "--out", str(root)]):
        raise SystemExit("The phantoms could not be made.")
    with (root / "cohort.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    out = []
    for row in rows:
        for copy in range(copies):
            name = f"{row['id']}_{copy}"
            (root / name).symlink_to(root / row["id"])
            out.append(row | {"id": name, "subject": name, "split": "val" if copy == 0 else "train"})
    write_cohort(root, out)


def options(case: Case, root: Path, runs: Path, workers: int) -> list[str]:
    """Arguments of a run."""
    out = [part for name in case.config for part in ("--config", name)]
    out += ["--data.root", str(root), "--runs", str(runs), "--data.batch_size", str(case.batch)]
    out += ["--data.num_workers", str(workers), "--trainer.enable_progress_bar=false", "--trainer.accelerator=cpu"]
    out += ["--trainer.devices=1"]
    if case.config[0] == "acdc_seg.yaml":
        out += ["--data.dataset", "phantom"]
    if case.verb == "fit":
        out += ["--model.network.size", case.network, "--trainer.enable_model_summary=false"]
        out += ["--trainer.max_epochs", MANY, "--trainer.check_val_every_n_epoch", MANY]
    return out


def weights_for(case: Case, store: Path, runs: Path) -> None:
    """A run of a single step, whose network is applied."""
    fit = replace(case, verb="fit", batch=1)
    short = ["--trainer.max_epochs=1", "--trainer.limit_train_batches=1", "--trainer.limit_val_batches=1"]
    if cinema(["fit", *options(fit, store, runs, 0), *short, "--pictures.every_n_epochs=0"]):
        raise SystemExit("The network to apply could not be made.")


def measure(name: str, store: Path, workers: int, n_turns: int) -> dict[str, float]:
    """Samples per second of the loop and of the network alone, and the loop's share."""
    case = CASES[name]
    callback = "turns.FitTurns" if case.verb == "fit" else "turns.PredictTurns"
    with tempfile.TemporaryDirectory() as runs:
        if case.verb == "predict":
            weights_for(case, store, Path(runs))
        more = [f"--trainer.callbacks={callback}", f"--trainer.callbacks.batches={case.batches}"]
        more.append(f"--trainer.callbacks.turns={n_turns}")
        with suppress(turns.Done):
            cinema([case.verb, *options(case, store, Path(runs), workers), *more])
    if len(turns.FOUND) < n_turns:
        raise SystemExit(f"{name}: the run ended before all turns were taken.")
    middle = {key: statistics.median(getattr(turn, key) for turn in turns.FOUND) for key in vars(turns.FOUND[0])}
    samples = case.batch * case.batches
    return {
        "samples_per_second": samples / middle["loop"],
        "of_the_network": samples / middle["alone"],
        "ratio": middle["alone"] / middle["loop"],
        "core_ratio": middle["alone_core"] / middle["loop_core"],
        "waited": middle["waited"] / middle["loop"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=list(CASES), default=list(CASES), help="runs to measure")
    parser.add_argument("--workers", nargs="+", type=int, default=[1, 2], help="numbers of workers")
    parser.add_argument("--turns", type=int, default=3, help="timed turns of each")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads of the network")
    parser.add_argument("--json", type=Path, help="file to write the numbers to")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    rows: dict[str, dict[str, dict[str, float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        stores = {size: Path(folder) / size for size in {CASES[name].size for name in args.only}}
        for size, store in stores.items():
            make_store(store, size, *((3, 60) if size == "full" else (8, 40)))
        print(f"Target of the ratio: {TARGET}")
        print(f"{'run':38} workers  samples/s  network alone   ratio  of cores  waited", flush=True)
        for name in args.only:
            rows[name] = {}
            for workers in args.workers:
                row = measure(name, stores[CASES[name].size], workers, args.turns)
                rows[name][str(workers)] = row
                numbers = f"{row['samples_per_second']:10.2f} {row['of_the_network']:14.2f} {row['ratio']:7.2f}"
                numbers += f" {row['core_ratio']:9.2f} {row['waited']:7.2f}"
                print(f"{name:38} {workers:>7} {numbers}", flush=True)
    if args.json:
        report = {"threads": args.threads, "turns": args.turns, "target": TARGET, "rows": rows}
        args.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
