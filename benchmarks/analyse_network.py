"""A small network that segments phantom hearts of the short axis, for `analyse.py`; measures nothing by itself.

It is nnU-Net's network at half the width, which learns most in a few minutes of a core: the benchmark is about what an
analysis makes of masks, not about networks.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from cinema_lightning.cli import main as cinema
from cinema_lightning.data.store import series_path, write_series
from cinema_lightning.files import replacing
from cinema_lightning.phantom.acquisition import Acquisition
from cinema_lightning.phantom.anatomy import Heart
from cinema_lightning.phantom.cohort import normalised, scanner
from cinema_lightning.phantom.imaging import Imager
from cinema_lightning.phantom.subject import draw_subject
from cinema_lightning.phantom.truth import table_row

SEED = 7000
"""Of the subjects to train on; those that are analysed have others."""
SUBJECTS, VALIDATION = 160, 6
NAME = "analyse_network"


def train(folder: Path, epochs: int, subjects: int = SUBJECTS) -> Path:
    """Trains the network, or takes the one that is there.

    Args:
        folder: Where its store and its run are.
        epochs: Length.
        subjects: How many it learns from.

    Returns:
        Its checkpoint.
    """
    store = folder / "store"
    if not (store / "cohort.csv").is_file():
        rows = [_subject(store, index) for index in range(subjects)]
        for number, row in enumerate(rows):
            row["split"] = "val" if number < VALIDATION else "train"
        with replacing(store / "cohort.csv") as temporary:
            pd.DataFrame(rows).to_csv(temporary, index=False)
    options = ["--config", "acdc_seg.yaml", "--config", "phantom.yaml", "--data.dataset", "phantom"]
    options += ["--data.root", str(store), "--runs", str(folder / "runs"), "--name", NAME, "--ckpt_path", "auto"]
    options += ["--model.network.class_path", "DynUNet", "--model.network.init_args.width", "16"]
    options += ["--data.batch_size", "2", "--model.optim.lr", "2e-3", "--model.optim.warmup_epochs", "1"]
    options += ["--trainer.max_epochs", str(epochs), "--trainer.check_val_every_n_epoch", "2"]
    options += ["--checkpoint.every_n_epochs", "1", "--early_stop.patience", "0", "--pictures.every_n_epochs", "0"]
    options += ["--trainer.enable_progress_bar", "false", "--trainer.enable_model_summary", "false"]
    if cinema(["fit", *options]):
        raise SystemExit("the network was not trained")
    return folder / "runs" / NAME / "0" / "checkpoints" / "best.ckpt"


def _subject(store: Path, index: int) -> dict[str, Any]:
    """Writes ED and ES of one subject, 64 x 64 pixels of 3 mm, slices 10 mm apart."""
    subject = draw_subject(SEED, index)
    heart = Heart(subject)
    look = scanner(subject)[3]
    acquisition = Acquisition(
        views=("sax",),
        n_frames=2,
        sax_size=(64, 64),
        sax_spacing=(3.0, 3.0),
        seed=SEED,
        base_first=index % 2 == 0,
        **look,
    )
    return write_subject(store, heart, acquisition)


def write_subject(store: Path, heart: Heart, acquisition: Acquisition) -> dict[str, Any]:
    """Writes ED and ES of a heart's short axis, and gives its row."""
    subject = heart.subject
    vendor, centre, field, _ = scanner(subject)
    imager = Imager(heart, acquisition, [0.0, subject.es_phase])
    image = imager.image("sax")
    common: dict[str, Any] = {"affine": image.affine, "spacing": image.spacing}
    write_series(series_path(store, subject.id, "sax"), normalised(image.images), **common)
    write_series(series_path(store, subject.id, "sax", "label"), image.labels, **common)
    row = table_row(heart, acquisition, {"sax": image}, imager.phases)
    return row | {"vendor": vendor, "centre": centre, "field_strength": field}
