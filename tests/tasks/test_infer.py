"""What a network gives for a batch is computed once, whoever writes something about it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import lightning as L
import pandas as pd
import pytest
import torch

from cinema_lightning.data.protocol import TaskData, planned_data
from cinema_lightning.models.convunetr import ConvUNetR
from cinema_lightning.models.convvit import ConvViT
from cinema_lightning.models.mae import MaskedAutoencoder
from cinema_lightning.output.predict import PredictionWriter
from cinema_lightning.output.test import CaseWriter
from cinema_lightning.tasks.base import Task
from cinema_lightning.tasks.downstream import Downstream
from cinema_lightning.tasks.pretrain.data import PretrainData
from cinema_lightning.tasks.pretrain.task import Pretrain
from cinema_lightning.tasks.regression.data import RegressionData
from cinema_lightning.tasks.regression.task import Regression
from cinema_lightning.tasks.segmentation.data import SegmentationData
from cinema_lightning.tasks.segmentation.task import Segmentation

QUIET = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
SIZE = {"sax": [32, 32, 8]}


def trainer(folder, *callbacks, **options) -> L.Trainer:
    return L.Trainer(
        accelerator="cpu", devices=1, default_root_dir=folder, callbacks=list(callbacks), **QUIET | options
    )


def tiny(network):
    return lambda **given: network(**given, size="tiny")


def data(kind, root, **options) -> Any:
    given = {"views": ["sax"], "input_size": SIZE, "num_workers": 0, "batch_size": 4}
    return kind(str(root), **given | options)


def written(writer, folder, **options):
    writer = writer(str(folder), nifti=True, **options)
    (folder.parent / "none.ckpt").write_bytes(b"")
    writer.describe(folder, folder.parent / "none.ckpt", {})
    return writer


class Passes:
    """Notes the samples of each pass of a network."""

    def __init__(self, monkeypatch, network) -> None:
        self.batches: list[int] = []
        forward = network.forward

        def counted(images, *rest):
            self.batches.append(len(next(iter(images.values()))))
            return forward(images, *rest)

        monkeypatch.setattr(network, "forward", counted)


def test_a_prediction_with_images_and_pictures_takes_one_pass(phantom_cohort, tmp_path, monkeypatch):
    cohort = data(SegmentationData, phantom_cohort, predict_frames=[0])
    task = Segmentation(cohort.spec, network=tiny(ConvUNetR))
    passes = Passes(monkeypatch, task.network)
    writer = written(PredictionWriter, tmp_path / "out", pictures=True)
    trainer(tmp_path, writer).predict(task, cohort, return_predictions=False)
    rows = pd.read_csv(tmp_path / "out" / "predictions.csv")
    assert len(rows) == sum(passes.batches) == 10
    assert len(list((tmp_path / "out" / "nifti").rglob("*.nii.gz"))) == 10
    assert len(list((tmp_path / "out" / "pictures").rglob("*.png"))) == 10


def test_a_test_with_images_takes_one_pass(phantom_cohort, tmp_path, monkeypatch):
    cohort = data(SegmentationData, phantom_cohort)
    task = Segmentation(cohort.spec, network=tiny(ConvUNetR))
    passes = Passes(monkeypatch, task.network)
    trainer(tmp_path, written(CaseWriter, tmp_path / "out", overlays=0)).test(task, cohort, verbose=False)
    cases = pd.read_csv(tmp_path / "out" / "cases.csv")
    assert len(cases) == sum(passes.batches) == len(list((tmp_path / "out" / "nifti").rglob("*.nii.gz"))) > 0


def test_features_take_one_pass_and_reconstructions_another(phantom_cohort, tmp_path, monkeypatch):
    def predicted(name, **options) -> tuple[pd.DataFrame, int, int]:
        cohort = data(PretrainData, phantom_cohort, predict_frames=[0, 2])
        torch.manual_seed(0)
        task = Pretrain(cohort.spec, tiny(MaskedAutoencoder))
        whole, calls = task.network.encode, []
        monkeypatch.setattr(task.network, "encode", lambda *given: calls.append(given) or whole(*given))
        passes = Passes(monkeypatch, task.network)
        writer = PredictionWriter(str(tmp_path / name), **options)
        (tmp_path / "none.ckpt").write_bytes(b"")
        writer.describe(tmp_path / name, tmp_path / "none.ckpt", {})
        trainer(tmp_path, writer).predict(task, cohort, return_predictions=False)
        table = pd.read_csv(tmp_path / name / "features.csv", dtype=str)
        return table, len(passes.batches), sum(len(given) == 1 for given in calls)

    table, masked, whole = predicted("rows")
    assert (len(table), masked, whole) == (20, 0, 5), "who asks for features alone pays for nothing else"
    all_of_it, masked, whole = predicted("all", nifti=True, pictures=True)
    assert (masked, whole) == (5, 5)
    pd.testing.assert_frame_equal(table, all_of_it)


def test_predictions_that_lightning_gathers_are_the_rows(phantom_cohort, tmp_path):
    cohort = data(RegressionData, phantom_cohort, target="lv_ef", predict_split="test")
    task = Regression(cohort.spec, network=tiny(ConvViT))
    gathered = trainer(tmp_path).predict(task, cohort)
    assert all(isinstance(rows, list) and rows.output is None for rows in gathered), "no output is kept in memory"
    rows = [row for rows in gathered for row in rows]
    assert rows
    assert all(list(row) == ["id", "frame", "predicted"] for row in rows)


def test_data_modules_offer_what_tasks_ask_for(phantom_cohort):
    asked = {name for name in vars(TaskData) if not name.startswith("_")} | set(TaskData.__annotations__)
    truth = {"facts", "spacing_known", "fields", "phase_of", "split_of"}
    for kind, names in ((PretrainData, asked - truth), (SegmentationData, asked)):
        cohort = data(kind, phantom_cohort)
        cohort.setup("fit")
        assert not [name for name in names if not hasattr(cohort, name)]
    assert planned_data(None) is planned_data(SimpleNamespace(datamodule=L.LightningDataModule())) is None


def test_methods_that_take_the_batch_alone_go_on_working():
    class Older(Downstream):
        """A task as plug-ins wrote them before there was ``infer``."""

        def panels(self, batch):
            return {"sax": {"image": batch["sax"]}}

        def rows(self, batch):
            return [{"id": study, "frame": 0} for study in batch["id"]]

    class Newer(Older):
        def rows(self, batch, output):
            return [row | {"output": output} for row in super().rows(batch, output)]

    for kind, extra in ((Older, {}), (Newer, {"output": None})):
        task = kind.__new__(kind)
        assert Task.predict_step(task, {"id": ["a"], "sax": 1}, 0) == [{"id": "a", "frame": 0} | extra]
        assert task.panels({"sax": 1}, None) == {"sax": {"image": 1}}


@pytest.fixture(autouse=True)
def _still():
    torch.manual_seed(0)
