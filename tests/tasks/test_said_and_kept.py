"""Promises that a second reading found broken: stopped and sharded tests, padding, ranks without samples, units."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml
from safetensors.torch import save_file

from cinema_lightning.cli import main
from cinema_lightning.errors import CinemaError
from cinema_lightning.models.convunetr import ConvUNetR
from cinema_lightning.models.convvit import ConvViT
from cinema_lightning.output.parts import PartTable
from cinema_lightning.output.test import CaseWriter
from cinema_lightning.shards import Shard
from cinema_lightning.tasks.classification.task import Classification
from cinema_lightning.tasks.landmarks.task import LandmarkHeatmap
from cinema_lightning.tasks.segmentation.task import Segmentation
from cinema_lightning.weights.layout import to_published
from cinema_lightning.weights.published import published_network

SMALL = {"conv_channels": [8, 16], "enc_dim": 48, "enc_depth": 1, "enc_heads": 12}


def published(folder: Path, network: torch.nn.Module, config: dict) -> Path:
    """Writes a network as a published fine-tuned file."""
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump({"data": {"sax": {"patch_size": [64, 64, 8]}, **config}}))
    save_file(to_published(network), folder / "weights_0.safetensors")
    return folder / "weights_0.safetensors"


def regression_file(folder: Path, **config) -> Path:
    network = ConvViT(["sax"], input_size={"sax": [64, 64, 8]}, channels=2, outputs=1, **SMALL)
    return published(folder, network, config)


@pytest.fixture(scope="module")
def command(phantom_cohort, tmp_path_factory):
    """Arguments that test a published regression network on phantoms, whose tests take a second."""
    statistics = {"regression_column": "bmi", "bmi": {"mean": 25.0, "std": 4.0}}
    path = regression_file(tmp_path_factory.mktemp("published") / "x", **statistics)
    options = ["--config", "acdc_bmi.yaml", "--config", "phantom.yaml", "--data.dataset", "phantom"]
    options += ["--data.root", str(phantom_cohort), "--trainer.enable_progress_bar", "false", "--output.overlays", "0"]
    return ["test", *options, "--ckpt_path", str(path)]


def test_shards_without_subjects_let_the_others_finish(command, tmp_path):
    for part in ("1/3", "2/3", "3/3"):
        assert main([*command, "--output.folder", str(tmp_path), "--shard", part]) == 0
    assert (tmp_path / "summary.json").is_file()
    assert len(pd.read_csv(tmp_path / "cases.csv")) < 3, "a shard should have had no subject"


@pytest.mark.parametrize("broken", ["on_test_end", "_finish"])
def test_a_test_that_stopped_after_its_last_case_goes_on(broken, command, tmp_path, monkeypatch):
    def stop(*_):
        raise KeyError("stopped")

    with monkeypatch.context() as patch:
        patch.setattr(CaseWriter, broken, stop)
        with pytest.raises(KeyError):
            main([*command, "--output.folder", str(tmp_path)])
    assert not (tmp_path / "summary.json").exists()
    assert main([*command, "--output.folder", str(tmp_path)]) == 0
    assert (tmp_path / "summary.json").is_file()
    assert not (tmp_path / ".parts").exists()


def test_a_folder_without_rows_is_not_taken(command, tmp_path):
    (tmp_path / "cases.json").write_text("{}")
    assert main([*command, "--output.folder", str(tmp_path)]) == 0
    (tmp_path / "cases.json").write_text("{}")
    assert main([*command, "--output.folder", str(tmp_path)]) == 2


def test_a_stop_between_the_two_merges_loses_nothing(tmp_path):
    for index in (1, 2):
        table = PartTable(tmp_path, "t", Shard(index, 2))
        part = table.new_part(0)
        part.write([{"id": f"s{index}", "frame": 0, "value": 1}])
        part.close()
        table.finish()
    (tmp_path / "t.csv").unlink()
    PartTable(tmp_path, "t", Shard(1, 2)).finish()
    assert pd.read_csv(tmp_path / "t.csv")["id"].tolist() == ["s1", "s2"]


def test_a_kill_may_cost_a_sample_its_last_view(tmp_path):
    table = PartTable(tmp_path, "t", Shard())
    part = table.new_part(0)
    part.write(
        [{"id": "a", "frame": 0, "view": v} for v in ("sax", "lax_4c")] + [{"id": "b", "frame": 0, "view": "sax"}]
    )
    part.close()
    assert table.done() == {("a", 0)}


def test_published_regression_is_for_its_own_target(tmp_path):
    data = {"class_path": "RegressionData", "init_args": {"target": "bmi", "dataset": "phantom"}}
    path = regression_file(tmp_path / "regression_ef" / "acdc_sax")
    for task, target in (("Regression", "bmi"), ("Survival", None)):
        data["init_args"]["target"] = target
        with pytest.raises(CinemaError, match="holds a network for ef"):
            published_network(path, {"model": {"class_path": task}, "data": data})
    data["init_args"]["target"] = "lv_ef"
    with pytest.warns(UserWarning, match="do not report their output as LV EF"):
        hparams, _ = published_network(path, {"model": {"class_path": "Regression"}, "data": data})
    assert hparams["spec"]["target"] == "ef"


def test_the_published_ef_is_nobodys_lv_ef(phantom_cohort, tmp_path, capsys):
    path = regression_file(tmp_path / "regression_ef" / "acdc_sax")
    options = ["--config", "acdc_ef.yaml", "--config", "phantom.yaml", "--data.dataset", "phantom"]
    options += ["--data.root", str(phantom_cohort), "--trainer.enable_progress_bar", "false", "--ckpt_path", str(path)]
    assert main(["test", *options, "--output.folder", str(tmp_path / "test")]) == 2
    assert "holds a network for regression of ef, but the data is for regression of lv_ef" in capsys.readouterr().err
    assert not (tmp_path / "test").exists()
    assert main(["predict", *options, "--data.target", "ef", "--output.folder", str(tmp_path / "out")]) == 0
    assert "predicted" in pd.read_csv(tmp_path / "out" / "predictions.csv")


def task_of(cls, kind: str, network, views: dict, **facts):
    spec = {"views": list(views), "input_size": views, "channels": 1, "kind": kind, "dataset": "acdc"}
    spec |= {"spacing_known": True, **facts}
    torch.manual_seed(0)
    task = cls(spec, network=lambda **arguments: network(**arguments, size="tiny")).eval()
    task.log = lambda *_, **__: None
    return task


def test_validation_loss_does_not_depend_on_the_other_images_of_a_batch():
    facts = {"classes": ["background", "RV blood pool", "myocardium", "LV blood pool"], "label_codes": [0, 1, 2, 3]}
    task = task_of(Segmentation, "segmentation", ConvUNetR, {"sax": [32, 32, 4]}, **facts)

    def batch(depth: int, real: int) -> dict:
        generator = torch.Generator().manual_seed(1)
        image, label = torch.rand(1, 1, 32, 32, 4, generator=generator), torch.randint(0, 4, (1, 32, 32, 4))
        size = torch.tensor([[32, 32, 4], [32, 32, depth]])[:real]
        grow = (0, depth - 4)
        return {
            "id": ["a", "b"][:real],
            "weight": torch.tensor([1.0, 0.0])[:real],
            "sax": torch.nn.functional.pad(image, grow).repeat(real, 1, 1, 1, 1),
            "sax_label": torch.nn.functional.pad(label, grow).repeat(real, 1, 1, 1).to(torch.uint8),
            "sax_labelled": torch.ones(real, dtype=torch.bool),
            "sax_size": size,
        }

    with torch.no_grad():
        torch.manual_seed(2)
        alone = task.loss(batch(4, 1), "val")
        torch.manual_seed(2)
        beside = task.loss(batch(8, 2), "val")
    torch.testing.assert_close(alone, beside)


def test_millimetres_are_those_of_the_data_in_use():
    task = task_of(LandmarkHeatmap, "landmarks", ConvUNetR, {"lax_4c": [64, 64]}, landmarks=["a", "b"])
    batch = {"lax_4c_points": torch.zeros(1, 2, 2), "lax_4c_points_valid": torch.ones(1, 2, dtype=torch.bool)}
    batch["lax_4c_spacing"] = torch.tensor([[2.0, 2.0, 1.0]])

    class Known:
        def __init__(self, spacing_known: bool) -> None:
            self.datamodule = self
            self.spacing_known = spacing_known

    for known in (True, False):
        task._trainer = Known(known)
        pixels, millimetres = task._distances(batch, "lax_4c", torch.ones(1, 2, 2))
        assert pixels[0, 0] == pytest.approx(2**0.5)
        assert (millimetres[0, 0] == pytest.approx(2 * 2**0.5)) == known
        assert task.facts()["unit"] == ("mm" if known else "px")


def _rank(rank: int, folder: str) -> None:
    store = torch.distributed.FileStore(f"{folder}/store", 2)
    torch.distributed.init_process_group("gloo", store=store, rank=rank, world_size=2)
    facts = {"classes": ["a", "b"], "target": "x", "class_counts": [1, 1]}
    task = task_of(Classification, "classification", ConvViT, {"sax": [32, 32, 4]}, **facts)
    label = torch.tensor([0, 1, 1])
    task.infer = lambda _: torch.tensor([[2.0, 0.0], [0.0, 1.0], [0.0, 3.0]])
    weight = torch.ones(3) if rank == 0 else torch.zeros(3)  # the second rank has repeats only
    task.loss({"id": ["1", "2", "3"], "weight": weight, "label": label}, "val")
    value = torch.stack([task.auroc.compute(), task.accuracy.compute(), task.val_loss.compute()])
    torch.save(value, f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


def test_a_rank_without_validation_samples_is_no_obstacle(tmp_path):
    torch.multiprocessing.start_processes(_rank, (str(tmp_path),), nprocs=2, start_method="fork")
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1))
    torch.testing.assert_close(first, second)
    assert first[:2].tolist() == [1, 1]
