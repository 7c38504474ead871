"""Evidence that nothing is lost where stacks go through the networks at their own depth instead of padded to 16 slices.

    OMP_NUM_THREADS=1 python benchmarks/own_depth.py --json own_depth.json

Phantom short axes of 32 x 32 pixels of 5 mm and one slice every 10 mm, an input of 32 x 32 x 16, small networks, as
many steps in both, with the same seed. For each seed the autoencoder's loss at masked patches of the slices that
held-out studies have (the same patches for both), and Dice and error of LVEF of held-out studies after training to
segment. Own depth less padded, paired by study, with intervals over studies and seeds. Stopped, it goes on.
"""

from __future__ import annotations

import argparse
import json
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from cinema_lightning.cli import main as cinema
from cinema_lightning.data.table import read_cohort
from cinema_lightning.files import replacing
from cinema_lightning.metrics.inference import difference
from cinema_lightning.models.mae import MaskedAutoencoder
from cinema_lightning.phantom import cohort
from cinema_lightning.phantom.acquisition import Acquisition
from cinema_lightning.phantom.subject import Subject
from cinema_lightning.tasks.pretrain.task import draw_masks
from cinema_lightning.weights.restore import load_task

VARIANTS = ("own", "padded")
SIZE = (32, 32, 16)
QUIET = ["--trainer.enable_progress_bar", "false", "--trainer.enable_model_summary", "false"]
PHANTOM = ["--config", "phantom.yaml", "--data.views", "[sax]", "--data.input_size", f"{{sax: {list(SIZE)}}}"]
SMALL = ["--model.network.patch_size", "[2,2,1]", "--model.network.conv_channels", "[8,16]"]
SMALL += ["--model.network.enc_dim", "64", "--model.network.enc_depth", "3"]
KINDS = {
    "pretrain": ["--config", "pretrain.yaml", *PHANTOM, *SMALL],
    "segment": ["--config", "seg.yaml", *PHANTOM, *SMALL, "--model.network.dec_channels", "[8,16,32,64]"],
}


def short_axis(subject: Subject, settings: cohort.Settings) -> Acquisition:
    """A short axis of as many slices as cover the LV."""
    look = cohort.scanner(subject)[3]
    return Acquisition(("sax",), settings.frames, sax_size=SIZE[:2], sax_spacing=(5.0, 5.0), seed=settings.seed, **look)


def make_store(root: Path, subjects: int, frames: int) -> None:
    """Phantoms, of which half train, four validate and the others test."""
    if not (root / "cohort.csv").exists():
        cohort.acquisition_for = short_axis
        cohort.make_cohort(root, subjects, cohort.Settings(frames=frames, size="small"))
    table = pd.read_csv(root / "cohort.csv", dtype=str, keep_default_na=False)
    half = subjects // 2
    table["split"] = ["train"] * half + ["val"] * 4 + ["test"] * (subjects - half - 4)
    with replacing(root / "cohort.csv") as temporary:
        table.to_csv(temporary, index=False)


def train(kind: str, seed: int, variant: str, args: argparse.Namespace) -> Path:
    """Fits (and tests); gives the run's folder."""
    name, epochs = f"{kind}_{variant}_{seed}", args.epochs if kind == "segment" else args.pretrain_epochs
    options = [*KINDS[kind], "--data.root", str(args.folder / "phantom"), "--data.depth", variant]
    options += ["--seed_everything", str(seed), "--runs", str(args.folder / "runs"), "--name", name, *QUIET]
    fit = ["--trainer.max_epochs", str(epochs), "--data.batch_size", "4", "--trainer.limit_val_batches", "0"]
    fit += ["--model.optim.lr", "4e-3", "--model.optim.warmup_epochs", "2"]
    fit += ["--early_stop.patience", "0", "--pictures.every_n_epochs", "0", "--ckpt_path", "auto"]
    if cinema(["fit", *options, *fit]):
        raise SystemExit(f"{name} failed")
    run = args.folder / "runs" / name / "0"
    if kind == "segment" and cinema(["test", *options, "--ckpt_path", str(run / "checkpoints" / "last.ckpt")]):
        raise SystemExit(f"{name} failed")
    return run


def tested(run: Path) -> pd.DataFrame:
    """Dice and error of LVEF (points) by study."""
    folder = run / "test" / "phantom"
    dice = pd.read_csv(folder / "cases.csv", dtype={"id": str}).groupby("id")["mean_dice"].mean()
    function = pd.read_csv(folder / "function.csv", dtype={"id": str}).set_index("id")
    error = (function["lv_ef_pred"] - function["lv_ef_true"]).abs()
    return pd.DataFrame({"dice": dice, "lv_ef_error": error})


@torch.no_grad()
def losses(run: Path, store: Path) -> pd.DataFrame:
    """Mean squared error at the masked patches of the slices that are there, by held-out study."""
    task = load_task(run / "checkpoints" / "last.ckpt")[0].eval()
    studies, found = read_cohort(store), {}
    for study in studies.ids[(studies.table["split"] != "train").to_numpy()]:
        image = studies.reader.open(study, "sax").read([0])[0].astype(np.float32)
        image = (image - image.min()) / (np.ptp(image) or 1)
        found[study] = _loss(task.network, torch.from_numpy(image)[None, None], study, task.spec["depth"])
    return pd.DataFrame({"pretraining_loss": found})


def _loss(network: MaskedAutoencoder, image: torch.Tensor, study: str, variant: str) -> float:
    slices = image.shape[4]
    grid = tuple(n // p for n, p in zip(image.shape[2:], network.encoder.geometries["sax"].patch, strict=True))
    n = network.n_patches("sax", image.shape[2:])
    hidden = draw_masks([(0, study, 0)], "sax", n, network.n_visible("sax", image.shape[2:]), 0).mask
    masks, real = hidden, torch.ones_like(hidden)
    if variant == "padded" and slices < SIZE[2]:
        missing = SIZE[2] - slices
        n = grid[0] * grid[1] * missing
        padding = draw_masks([(0, study, 1)], "sax", n, int(n * 0.25), 0).mask.view(1, *grid[:2], missing)
        masks = torch.cat([hidden.view(1, *grid), padding], dim=3).flatten(1)
        real = (torch.arange(SIZE[2]) < slices).expand(1, *grid[:2], -1).flatten(1)
        image = torch.nn.functional.pad(image, (0, missing))
    target = network.patchify("sax", image)[masks]
    errors = (network({"sax": image}, {"sax": masks}).predictions["sax"][0] - target).square().mean(dim=1)
    return float(errors[real[masks]].mean())


def compared(tables: dict[str, list[pd.DataFrame]]) -> list[dict[str, Any]]:
    """Mean of each variant, and own depth less padded, for each figure."""
    rows = []
    for figure in tables["own"][0]:
        values = {name: np.stack([one[figure].to_numpy() for one in tables[name]]) for name in VARIANTS}
        found = difference(values["own"], values["padded"])
        row = {"figure": figure, "seeds": len(tables["own"]), "studies": found.n_subjects}
        row |= {name: float(np.nanmean(values[name])) for name in VARIANTS}
        rows.append(row | {"difference": found.value, "low": found.low, "high": found.high, "p": found.p})
    return rows


def main() -> None:
    """Prints the table and writes it where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path("benchmarks/results/own_depth"))
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--subjects", type=int, default=64)
    parser.add_argument("--frames", type=int, default=6)
    parser.add_argument("--epochs", type=int, default=20, help="epochs of segmentation")
    parser.add_argument("--pretrain_epochs", type=int, default=100)
    parser.add_argument("--only", nargs="*", default=list(KINDS), choices=list(KINDS))
    parser.add_argument("--json", type=Path, help="file to write the numbers to")
    args = parser.parse_args()
    make_store(args.folder / "phantom", args.subjects, args.frames)
    tables: dict[str, dict[str, list[pd.DataFrame]]] = {kind: {name: [] for name in VARIANTS} for kind in args.only}
    for seed, kind, variant in product(args.seeds, reversed(args.only), VARIANTS):
        run = train(kind, seed, variant, args)
        found = tested(run) if kind == "segment" else losses(run, args.folder / "phantom")
        tables[kind][variant].append(found)
        print(kind, variant, seed, found.mean().round(4).to_dict(), flush=True)
    rows = [row for kind in args.only for row in compared(tables[kind])]
    print(pd.DataFrame(rows).round(4).to_string(index=False))
    if args.json:
        args.json.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
