"""A store as a torch dataset."""

from __future__ import annotations

import pytest
import torch
from torch.utils.data import DataLoader

import cinema_lightning as cinema
from cinema_lightning.data.store import open_series, series_path
from cinema_lightning.errors import CinemaError


def test_a_store_as_a_dataset(phantom_cohort):
    data = cinema.open(phantom_cohort)
    assert len(data) == 10 * 4
    item = data[5]
    series = open_series(series_path(phantom_cohort, item["id"], "sax"))
    assert torch.equal(item["sax"][0], torch.from_numpy(series.read([item["frame"]])[0]))
    assert set(item["sax_label"].unique().tolist()) <= {0, 1, 2, 3, 255}
    assert item["fields"]["lv_edv"] == data.table.set_index("id").loc[item["id"], "lv_edv"]
    assert {f"{view}_affine" for view in ("sax", "lax_2c", "lax_3c", "lax_4c")} <= set(item)


def test_batches_for_a_loop_of_ones_own(phantom_cohort):
    data = cinema.open(phantom_cohort, views=["sax", "lax_4c"], split="train", frames="ed_es")
    train = data.table[data.table["split"] == "train"]
    assert len(data) == 2 * len(train)
    batch = next(iter(DataLoader(data, batch_size=3, collate_fn=data.collate)))
    assert batch["sax"].shape == (3, 1, 192, 192, 16)
    assert (batch["sax"].dtype, float(batch["sax"].min()), float(batch["sax"].max())) == (torch.float32, 0.0, 1.0)
    assert batch["sax_label"].shape == (3, 192, 192, 16)
    assert batch["lax_4c"].shape == (3, 1, 256, 256)
    assert [fields["id"] for fields in batch["fields"]] == batch["id"]


def test_plain_files_as_a_dataset(scan):
    data = cinema.open(scan.parent.parent)
    assert len(data) == 5
    assert data[2]["sax"].dtype == torch.uint8


def test_what_is_not_there(phantom_cohort, tmp_path):
    with pytest.raises(CinemaError, match="There is no data folder"):
        cinema.open(tmp_path / "gone")
    with pytest.raises(CinemaError, match="no view called 'lax_9c'"):
        cinema.open(phantom_cohort, views=["lax_9c"])
    with pytest.raises(CinemaError, match="split is 'training'; it is train, val, test"):
        cinema.open(phantom_cohort, split="training")
    with pytest.raises(CinemaError, match=r"frames is 'ED'; give numbers from 0, such as .*, or all or ed_es"):
        cinema.open(phantom_cohort, frames="ED")
