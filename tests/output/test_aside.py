"""Files are written in a thread beside the network: in order, with its errors, and losing nothing."""

from __future__ import annotations

import threading
import time

import lightning as L
import pandas as pd
import pytest
import torch

from cinema_lightning.errors import CinemaError
from cinema_lightning.models.convunetr import ConvUNetR
from cinema_lightning.output import rows
from cinema_lightning.output.aside import Aside
from cinema_lightning.output.parts import PartWriter
from cinema_lightning.output.predict import PredictionWriter
from cinema_lightning.tasks.base import Rows
from cinema_lightning.tasks.ensemble import Ensemble
from cinema_lightning.tasks.segmentation.data import SegmentationData
from cinema_lightning.tasks.segmentation.task import Segmentation


def test_jobs_are_done_in_order_in_one_other_thread():
    done, threads = [], set()

    def job(number):
        threads.add(threading.get_ident())
        done.append(number)

    aside = Aside()
    for number in range(50):
        aside(lambda number=number: job(number))
    aside.close()
    assert done == list(range(50))
    assert len(threads) == 1
    assert threading.get_ident() not in threads


def test_whoever_is_ahead_waits():
    aside, go = Aside(waiting=2), threading.Event()
    aside(go.wait)
    aside(go.wait)
    threading.Timer(0.2, go.set).start()
    since = time.perf_counter()
    aside(lambda: None)
    assert time.perf_counter() - since > 0.1
    aside.close()


@pytest.mark.parametrize("at", ["next", "close"])
def test_an_error_is_raised_where_jobs_are_given_and_nothing_follows_it(at):
    done, go = [], threading.Event()

    def full():
        go.wait()
        raise CinemaError("no space")

    aside = Aside(waiting=1 if at == "next" else 2)
    aside(full)
    if at == "close":
        aside(lambda: done.append(1))
    go.set()
    with pytest.raises(CinemaError, match="no space"):
        aside.close() if at == "close" else aside(lambda: done.append(1))
    assert done == []


class Prediction:
    """Masks of some frames of the phantom cohort."""

    def __init__(self, root, folder) -> None:
        self.folder = folder
        options = {"views": ["sax"], "input_size": {"sax": [32, 32, 8]}, "num_workers": 0, "batch_size": 4}
        self.data = SegmentationData(str(root), predict_frames=[0, 2], **options)
        torch.manual_seed(0)
        self.task = Segmentation(self.data.spec, network=lambda **given: ConvUNetR(**given, size="tiny"))
        (folder.parent / "none.ckpt").write_bytes(b"")

    def trainer(self, *callbacks):
        quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
        options = {"accelerator": "cpu", "devices": 1, "enable_checkpointing": False, **quiet}
        return L.Trainer(default_root_dir=self.folder.parent, callbacks=list(callbacks), **options)

    def run(self):
        writer = PredictionWriter(str(self.folder), nifti=True)
        writer.describe(self.folder, self.folder.parent / "none.ckpt", {})
        self.trainer(writer).predict(self.task, self.data, return_predictions=False)
        return pd.read_csv(self.folder / "predictions.csv", dtype={"id": str})


def test_rows_are_written_beside_the_network_and_are_the_same(phantom_cohort, tmp_path, monkeypatch):
    prediction = Prediction(phantom_cohort, tmp_path / "out")
    writers = []
    write = PartWriter.write
    monkeypatch.setattr(
        PartWriter, "write", lambda self, rows: writers.append(threading.current_thread()) or write(self, rows)
    )
    table = prediction.run()
    assert threading.main_thread() not in writers
    gathered = [row for batch in prediction.trainer().predict(prediction.task, prediction.data) for row in batch]
    wanted = pd.DataFrame(gathered).sort_values(["id", "frame"], ignore_index=True)
    pd.testing.assert_frame_equal(table, wanted, check_dtype=False, rtol=1e-6)


class Graded(Segmentation):
    """A plug-in's task that adds to the rows of a batch in steps of its own."""

    def predict_step(self, batch, batch_idx):
        rows = super().predict_step(batch, batch_idx)
        return Rows([row | {"grade": row["frame"] + 1} for row in rows], rows.output)

    def test_step(self, batch, batch_idx):
        found = super().test_step(batch, batch_idx)
        return {"rows": Rows([row | {"grade": row["frame"] + 1} for row in found["rows"]], found["rows"].output)}


def test_what_a_step_of_a_plug_in_adds_to_the_rows_is_written(phantom_cohort, tmp_path):
    prediction = Prediction(phantom_cohort, tmp_path / "out")
    torch.manual_seed(0)
    prediction.task = Graded(prediction.data.spec, network=lambda **given: ConvUNetR(**given, size="tiny"))
    table = prediction.run()
    assert len(table) == 20
    assert (table["grade"] == table["frame"] + 1).all()
    assert (Graded.rows_beside, Segmentation.rows_beside, Ensemble.rows_beside) == (False, True, True)


def test_a_full_disk_is_said_and_no_row_is_lost_or_written_twice(phantom_cohort, tmp_path, monkeypatch):
    prediction = Prediction(phantom_cohort, tmp_path / "out")
    write, calls = rows.write_nifti, []

    def full(*given):
        calls.append(given)
        if len(calls) == 6:
            raise CinemaError("nifti/x.nii.gz could not be written (No space left on device)")
        write(*given)

    with monkeypatch.context() as patch:
        patch.setattr(rows, "write_nifti", full)
        with pytest.raises(CinemaError, match="No space left"):
            prediction.run()
    assert len(calls) == 6, "nothing is written after what failed"
    assert prediction.task.rows_left is False
    parts = list((tmp_path / "out" / ".parts").glob("*.csv"))
    assert [len(pd.read_csv(part)) for part in parts] == [4], "rows come when their images are there"
    table = prediction.run()
    assert len(table) == len(table.drop_duplicates(["id", "frame"])) == 20
    assert len(list((tmp_path / "out" / "nifti").rglob("*.nii.gz"))) == 20
