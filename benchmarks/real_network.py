"""A network for the short axis that has seen phantoms only, for `real_images.py`; measures nothing by itself."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pandas as pd

from analyse_network import write_subject
from cinema_lightning.cli import main as cinema
from cinema_lightning.data.draws import generator
from cinema_lightning.files import replacing
from cinema_lightning.phantom.acquisition import Acquisition
from cinema_lightning.phantom.anatomy import Heart
from cinema_lightning.phantom.cohort import scanner
from cinema_lightning.phantom.subject import draw_subject

SEED, VALIDATION = 31, 6
PIXELS, PIXEL, INPUT = 112, 2.0, (96, 96, 8)
"""Of the store and its voxels in mm, and what the network sees at once."""
NAME = "real_images"


def make_store(store: Path, subjects: int, variety: float) -> None:
    """Makes the phantoms that are missing; the table comes last.

    Args:
        store: Its folder.
        subjects: How many.
        variety: How far they deviate from the usual look, see :func:`draw_subject`.
    """
    rows = []
    for index in range(subjects):
        note = store / f"{draw_subject(SEED, index).id}.json"
        if not note.is_file():
            row = _subject(store, index, variety)
            with replacing(note) as temporary:
                pd.Series(row).to_json(temporary)
        rows.append(pd.read_json(note, typ="series", convert_dates=False).to_dict())
        rows[-1]["split"] = "val" if index < VALIDATION else "train"
    with replacing(store / "cohort.csv") as temporary:
        pd.DataFrame(rows).to_csv(temporary, index=False)


def _subject(store: Path, index: int, variety: float) -> dict[str, Any]:
    """Writes ED and ES of one subject, and gives its row."""
    subject = draw_subject(SEED, index, variety)
    heart, look = Heart(subject), scanner(subject)[3]
    rng = generator(SEED, "real images", "scan", index)
    acquisition = Acquisition(
        views=("sax",),
        n_frames=2,
        sax_size=(PIXELS, PIXELS),
        sax_spacing=(PIXEL, PIXEL),
        slice_thickness=float(rng.uniform(6, 9)),
        # Real stacks reach farther beyond the heart than a phantom's.
        n_slices=math.ceil(heart.length / 10 + 1.2) + int(rng.integers(4)),
        seed=SEED,
        base_first=bool(rng.random() < 0.5),
        **look,
    )
    return write_subject(store, heart, acquisition)


def train(folder: Path, store: Path, epochs: int, name: str = NAME) -> Path:
    """Trains the network, goes on where it was stopped, or takes the one that is there.

    Args:
        folder: Where its run is.
        store: What it learns from.
        epochs: Length.
        name: Of the run.

    Returns:
        Its checkpoint.
    """
    size = ",".join(str(n) for n in INPUT)
    options = ["--config", "seg.yaml", "--config", "phantom.yaml", "--config", "domain.yaml"]
    options += ["--data.dataset", "phantom", "--data.root", str(store), "--data.views", "[sax]"]
    options += ["--data.input_size", f"{{sax: [{size}]}}", "--data.batch_size", "2"]
    options += ["--runs", str(folder), "--name", name, "--ckpt_path", "auto"]
    options += ["--model.network", "DynUNet", "--model.network.width", "8"]
    options += ["--model.optim.lr", "3e-3", "--model.optim.warmup_epochs", "1", "--model.layer_decay", "1"]
    options += ["--trainer.max_epochs", str(epochs), "--trainer.check_val_every_n_epoch", "1"]
    options += ["--checkpoint.every_n_epochs", "1", "--early_stop.patience", "0", "--pictures.every_n_epochs", "0"]
    options += ["--trainer.enable_progress_bar", "false", "--trainer.enable_model_summary", "false"]
    if cinema(["fit", *options]):
        raise SystemExit("the network was not trained")
    return folder / name / "0" / "checkpoints" / "best.ckpt"
