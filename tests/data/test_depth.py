"""Stacks go through networks with the slices that they have, or padded as the network was trained."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import cinema_lightning
from cinema_lightning.data.open import Options, open_cohort
from cinema_lightning.data.store import series_path, write_series
from cinema_lightning.data.table import StoreReader, write_cohort
from cinema_lightning.errors import CinemaError
from cinema_lightning.tasks.pretrain.data import PretrainData
from cinema_lightning.tasks.segmentation.data import SegmentationData

SLICES = [3, 5, 3, 4, 3, 5, 3, 6, 3, 4]
SIZE = {"sax": [16, 16, 5]}


@pytest.fixture
def root(tmp_path):
    """Ten studies of 3 to 6 slices; the table names those of the first five."""
    rows = []
    for i, slices in enumerate(SLICES):
        frames = np.random.default_rng(i).integers(1, 255, (2, 14, 16, slices), np.uint8)
        affine = np.diag([1.0, 1, 10, 1])
        write_series(series_path(tmp_path, f"s{i}", "sax"), frames, affine=affine)
        write_series(series_path(tmp_path, f"s{i}", "sax", "label"), frames // 64, affine=affine)
        known = {"n_slices": slices if i < 5 else "", "ed_frame": 0, "es_frame": 1}
        split = "train" if i < 4 else "val" if i < 8 else "test"
        rows.append({"id": f"s{i}", "split": split, "views": "sax", "n_frames": 2, **known})
    write_cohort(tmp_path, rows)
    return tmp_path


def change(root, **cells):
    lines = (root / "cohort.csv").read_text(encoding="utf-8").splitlines()
    place = lines[0].split(",").index("n_slices")
    for row, cell in cells.items():
        fields = lines[int(row[1:]) + 1].split(",")
        fields[place] = cell
        lines[int(row[1:]) + 1] = ",".join(fields)
    (root / "cohort.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")


def module(cls, root, **options):
    return cls(str(root), views=["sax"], input_size=SIZE, batch_size=4, num_workers=0, seed=0, **options)


def test_slices_come_from_the_table_and_else_once_from_the_file(root, monkeypatch):
    opened = open_cohort(Options(str(root), ["sax"], SIZE))
    asked, own = [], StoreReader.open
    monkeypatch.setattr(StoreReader, "open", lambda self, study, view: asked.append(study) or own(self, study, view))
    rows = np.array([0, 7, 7, 1])
    for _ in range(2):
        assert opened.slices(rows).tolist() == [3, 6, 6, 5]
    assert asked == ["s7"]
    padded = open_cohort(Options(str(root), ["sax"], SIZE, depth="padded"))
    assert padded.slices(rows) is None


@pytest.mark.parametrize("cell", ["4", "2"])
def test_a_cell_that_is_wrong_is_refused_with_its_row(root, cell):
    change(root, s2=cell)
    data = module(PretrainData, root)
    data.setup("fit")
    with pytest.raises(CinemaError, match=rf"sax.b2nd has 3 slices, but column n_slices says {cell}.*row 3 .*'s2'"):
        list(data.train_dataloader())


@pytest.mark.parametrize("cell", ["0", "2.5"])
def test_a_cell_that_is_no_number_of_slices_does_not_count(root, cell):
    change(root, s2=cell)
    assert open_cohort(Options(str(root), ["sax"], SIZE)).slices(np.array([2])).tolist() == [3]


def test_a_file_that_is_missing_is_named_with_its_row(root):
    series_path(root, "s6", "sax").unlink()
    with pytest.raises(CinemaError, match=r"s6/sax.b2nd does not exist.*row 7 of .*cohort.csv, id 's6'"):
        open_cohort(Options(str(root), ["sax"], SIZE)).slices(np.array([6]))


@pytest.mark.parametrize(("cls", "deepest"), [(PretrainData, 5), (SegmentationData, 6)])
def test_validation_stacks_keep_their_depth(root, cls, deepest):
    """Those that are deeper than the input are cropped to it, or tiled later."""
    data = module(cls, root)
    data.setup("fit")
    seen = {}
    for batch in data.val_dataloader():
        batch = data.on_after_batch_transfer(data.on_before_batch_transfer(batch, 0), 0)
        seen |= dict.fromkeys(batch["id"], batch["sax"].shape[2:])
        assert batch["sax_size"][:, 2].tolist() == [batch["sax"].shape[4]] * len(batch["id"])
    assert {study: size[2] for study, size in seen.items()} == {"s4": 3, "s5": 5, "s6": 3, "s7": deepest}
    assert {size[:2] for size in seen.values()} == {(16, 16)}


def test_training_stacks_are_padded_to_the_depth_of_their_batch(root):
    data = module(PretrainData, root, augment=False)
    data.setup("fit")
    (batch,) = data.train_dataloader()
    batch = data.on_after_batch_transfer(data.on_before_batch_transfer(batch, 0), 0)
    assert batch["sax"].shape == (4, 1, 16, 16, 5)
    assert sorted(batch["sax_size"][:, 2].tolist()) == [3, 3, 4, 5]


def test_the_network_says_whether_stacks_are_padded(root):
    data = module(PretrainData, root)
    assert data.spec["depth"] == "own"
    data.follow({key: fact for key, fact in data.spec.items() if key != "depth"}, "validate")  # as of before
    assert (data.options.depth, data.spec["depth"]) == ("padded", "padded")
    data.setup("validate")
    assert {batch["sax"].shape[4] for batch in map(data.eval_transform(), data.val_dataloader())} == {5}
    with pytest.raises(CinemaError, match="depth is 'deep'; it is own or padded"):
        module(PretrainData, root, depth="deep")
    assert "depth" not in PretrainData(str(root), views=["lax_4c"])._given.spec({})


@pytest.mark.parametrize(("depth", "slices"), [("own", 4), ("padded", 5)])
def test_a_store_gives_batches_of_either_depth(root, depth, slices):
    data = cinema_lightning.open(root, views=["sax"], input_size=SIZE, depth=depth)
    batch = data.collate([data[0], data[6]])  # 3 and 4 slices
    assert batch["sax"].shape == (2, 1, 16, 16, slices)
    with pytest.raises(CinemaError, match="depth is 'deep'"):
        cinema_lightning.open(root, depth="deep")
    assert not torch.equal(batch["sax"][0], batch["sax"][1])
