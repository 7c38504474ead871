"""A folder of predictions is of one table of studies: what came later is neither left out nor mixed in silently."""

from __future__ import annotations

import json

import lightning as L
import pandas as pd
import pytest
import torch

from cinema_lightning.errors import CinemaError
from cinema_lightning.models.convunetr import ConvUNetR
from cinema_lightning.output.predict import PredictionWriter
from cinema_lightning.output.test import CaseWriter
from cinema_lightning.tasks.segmentation.data import SegmentationData
from cinema_lightning.tasks.segmentation.task import Segmentation


@pytest.fixture
def store(phantom_cohort, tmp_path):
    """Four studies, whose table can be changed."""
    table = pd.read_csv(phantom_cohort / "cohort.csv", dtype={"id": str, "subject": str}).iloc[:4]
    for name in table["id"]:
        (tmp_path / "store").mkdir(exist_ok=True)
        (tmp_path / "store" / name).symlink_to(phantom_cohort / name)
    table.to_csv(tmp_path / "store" / "cohort.csv", index=False)
    return tmp_path / "store"


def claim(root, folder, writer=PredictionWriter, predict_split="all", **options):
    """What a run does before its first batch; gives the ids of which it would ask the network."""
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    given = {"views": ["sax"], "input_size": {"sax": [32, 32, 8]}, "num_workers": 0, "predict_frames": [0]}
    data = SegmentationData(str(root), predict_split=predict_split, **given)
    torch.manual_seed(0)
    task = Segmentation(data.spec, network=lambda **facts: ConvUNetR(**facts, size="tiny"))
    (folder.parent / "none.ckpt").write_bytes(b"")
    own = writer(str(folder), **options)
    own.describe(folder, folder.parent / "none.ckpt", {})
    trainer = L.Trainer(accelerator="cpu", devices=1, enable_checkpointing=False, callbacks=[own], **quiet)
    trainer.predict(task, data, return_predictions=False)
    return own


def rewrite(root, change):
    table = pd.read_csv(root / "cohort.csv", dtype={"id": str, "subject": str})
    change(table).to_csv(root / "cohort.csv", index=False)


def test_a_study_that_came_later_is_not_left_out_in_silence(store, tmp_path):
    whole = pd.read_csv(store / "cohort.csv", dtype=str)
    rewrite(store, lambda table: table.iloc[:3])
    claim(store, tmp_path / "out", shard="1/2")
    rewrite(store, lambda table: table.assign(age=1))  # says nothing of what is predicted
    claim(store, tmp_path / "out", shard="1/2")
    whole.to_csv(store / "cohort.csv", index=False)
    with pytest.raises(CinemaError, match="holds predictions of another checkpoint, other data or other options"):
        claim(store, tmp_path / "out", shard="2/2")
    # a note of before there was a word of the table
    note = tmp_path / "out" / "predictions.json"
    note.write_text(json.dumps({key: cell for key, cell in json.loads(note.read_text()).items() if key != "table"}))
    claim(store, tmp_path / "out", shard="2/2")


def test_predictions_of_a_split_are_of_the_split_as_it_is(store, tmp_path):
    rewrite(store, lambda table: table.assign(split=["test", "test", "val", "train"]))
    for split in ("test", "all"):
        claim(store, tmp_path / split, predict_split=split, shard="1/2")
    rewrite(store, lambda table: table.assign(split=["test", "train", "val", "test"]))
    claim(store, tmp_path / "all", shard="2/2")
    with pytest.raises(CinemaError, match="holds predictions of another checkpoint, other data or other options"):
        claim(store, tmp_path / "test", predict_split="test", shard="2/2")


def test_cases_follow_from_the_whole_table(store):
    opened = SegmentationData(str(store), views=["sax"], input_size={"sax": [32, 32, 8]}).opened
    rewrite(store, lambda table: table.assign(age=1))
    later = SegmentationData(str(store), views=["sax"], input_size={"sax": [32, 32, 8]}).opened
    assert opened.digest(PredictionWriter.of_table) == later.digest(PredictionWriter.of_table)
    assert opened.digest(CaseWriter.of_table) != later.digest(CaseWriter.of_table)
