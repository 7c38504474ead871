"""A store like a prepared ACDC, and what tests of data modules with labels do again and again (``kit``)."""

from __future__ import annotations

import warnings
from types import SimpleNamespace

import lightning as L
import numpy as np
import pytest
import torch

from cinema_lightning.data.store import series_path, write_series
from cinema_lightning.data.table import write_cohort

SIZES = {"sax": [16, 16, 4], "lax_2c": [20, 20], "lax_4c": [20, 20]}
CLASSES = ("DCM", "HCM", "MINF", "NOR", "RV")
FRAMES, ED, ES = 4, 1, 3
AFFINE = np.diag([2.0, 2, 10, 1])


def frames_of(view, shape, number=FRAMES):
    """Frame t is 10 t with a ramp, so that it can be told from the grey levels which frame it is."""
    ramp = np.zeros(shape, np.uint8)
    ramp[0] = 5
    return np.stack([ramp + 10 * t for t in range(number)]).astype(np.uint8)


def write(root, study, view, *, number=FRAMES, labels=None, facts=None, shape=None):
    shape = shape or ((14, 16, 3) if view == "sax" else (18, 20))
    write_series(series_path(root, study, view), frames_of(view, shape, number), affine=AFFINE, provenance=facts)
    if labels is None:
        return
    maps = np.zeros((len(labels), *shape), np.uint8)
    for entry, frame in zip(maps, labels, strict=True):
        entry[2:5], entry[5:8], entry[8:10] = 1, 2, 3
        entry[0] = frame % 4  # which frame it is
    every = list(labels) == list(range(number))
    path = series_path(root, study, view, "label")
    write_series(path, maps, affine=AFFINE, frames_index=None if every else labels)


def acdc_rows(n=25, **more):
    splits = ["train"] * 15 + ["val"] * 5 + ["test"] * 5
    return [
        {
            "id": f"p{i:02d}",
            "subject": f"p{i:02d}",
            "split": splits[i],
            "views": "sax",
            "n_frames": FRAMES,
            "ed_frame": ED,
            "es_frame": ES,
            "lv_ef": 30.0 + i,
            "age": 50 + i,
            "pathology": CLASSES[i % 5],
            "time": 100 + i,
            "event": i % 2,
            **{key: value(i) for key, value in more.items()},
        }
        for i in range(n)
    ]


@pytest.fixture(scope="module")
def acdc(tmp_path_factory):
    """Like a prepared ACDC: labels at ED and ES only."""
    root = tmp_path_factory.mktemp("acdc")
    for row in acdc_rows():
        write(root, row["id"], "sax", labels=[ED, ES])
    write_cohort(root, acdc_rows())
    return root


def table_of(acdc, tmp_path, change):
    """The same series under another table."""
    rows = acdc_rows()
    change(rows)
    for row in rows:
        (tmp_path / row["id"]).symlink_to(acdc / row["id"])
    write_cohort(tmp_path, rows)
    return tmp_path


def build(cls, root, **options):
    views = options.get("views") or ["sax"]
    sizes = {view: SIZES[view] for view in views}
    defaults = {"dataset": "acdc", "batch_size": 5, "num_workers": 0, "input_size": sizes, "seed": 0}
    return cls(str(root), **{**defaults, **options})


def quietly(data, stage="fit"):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data.setup(stage)
    return data


def batches(loader):
    return list(loader)


def every(loader, key):
    parts = [batch[key] for batch in loader]
    return torch.cat(parts) if torch.is_tensor(parts[0]) else [item for part in parts for item in part]


class Collect(L.LightningModule):
    """Keeps what it is given."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.seen = {"train": [], "val": [], "test": []}

    def training_step(self, batch, _):
        self.seen["train"].append(batch)
        return self.weight.sum()

    def validation_step(self, batch, _):
        self.seen["val"].append(batch)

    def test_step(self, batch, index):
        self.seen["test"].append(batch)

    def predict_step(self, batch, _):
        return batch

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def trainer(**options):
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    return L.Trainer(accelerator="cpu", devices=1, enable_model_summary=False, **quiet, **options)


@pytest.fixture(scope="session")
def kit():
    """The helpers above."""
    return SimpleNamespace(
        write=write,
        table_of=table_of,
        build=build,
        quietly=quietly,
        batches=batches,
        every=every,
        Collect=Collect,
        trainer=trainer,
    )
