"""Pretraining from outside: run `cinema fit`, read what it made, stop it, resume it."""

import json
import os
import signal
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml

from cinema_lightning.callbacks.checkpoint import CleanStop
from cinema_lightning.cli import main
from cinema_lightning.weights.files import load_checkpoint

TINY = [
    "--model.network.conv_channels=[4,8]",
    "--model.network.conv_blocks=1",
    "--model.network.enc_dim=16",
    "--model.network.enc_depth=1",
    "--model.network.enc_heads=2",
    "--model.network.dec_dim=16",
    "--model.network.dec_depth=1",
    "--model.network.dec_heads=2",
    "--model.optim.warmup_epochs=1",
    "--data.batch_size=2",
    "--data.val_batch_size=2",
]
EACH_EPOCH = ["--trainer.check_val_every_n_epoch=1", "--checkpoint.every_n_epochs=1"]


def fit(cohort: Path, runs: Path, *more: str) -> int:
    overlays = ["--config", "pretrain.yaml", "--config", "phantom.yaml"]
    return main(["fit", *overlays, *TINY, *EACH_EPOCH, "--data.root", str(cohort), "--runs", str(runs), *more])


def weights(run: Path, which: str = "last") -> dict[str, torch.Tensor]:
    return load_checkpoint(run / "checkpoints" / f"{which}.ckpt")["state_dict"]


def scalars(run: Path) -> dict[str, list[tuple[int, float]]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run)).Reload()
    return {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


@pytest.fixture(scope="module")
def trained(phantom_cohort, tmp_path_factory) -> Path:
    """A run of four epochs that nothing disturbed."""
    runs = tmp_path_factory.mktemp("runs")
    assert fit(phantom_cohort, runs, "--trainer.max_epochs=4", "--trainer.log_every_n_steps=1") == 0
    return runs / "pretrain+phantom" / "0"


def test_a_run_folder_holds_everything(trained):
    for name in ("config.yaml", "versions.json", "checkpoints/best.ckpt", "checkpoints/last.ckpt"):
        assert (trained / name).is_file(), name
    assert {p.name for p in (trained / "pictures").iterdir()} >= {
        f"epoch_{epoch:04d}_{view}.png" for epoch in (0, 3) for view in ("sax", "lax_2c", "lax_3c", "lax_4c")
    }
    config = yaml.safe_load((trained / "config.yaml").read_text())
    assert config["model"]["init_args"]["optim"]["weight_decay"] == 0.05
    assert json.loads((trained / "versions.json").read_text())["torch"] == torch.__version__
    assert len(list(trained.glob("events.out.tfevents.*"))) == 1


def test_tensorboard_tells_losses_speed_and_learning_rate(trained):
    found = scalars(trained)
    views = ("sax", "lax_2c", "lax_3c", "lax_4c")
    for tag in ("train/loss", "val/loss", *(f"{s}/loss_{v}" for s in ("train", "val") for v in views)):
        assert tag in found
    assert 0 <= found["speed/data_wait_share"][-1][1] <= 1
    assert found["speed/samples_per_s"][-1][1] > 0
    rates = [value for tag, rows in found.items() if tag.startswith("lr-") for _, value in rows]
    assert min(rates) == 0
    assert max(rates) == pytest.approx(1e-3, rel=0.1)


def test_the_loss_goes_down(trained):
    losses = [value for _, value in scalars(trained)["val/loss"]]
    assert losses[-1] < losses[0]


def test_the_saved_configuration_runs_again_to_the_same_bits(trained, tmp_path):
    assert main(["fit", "--config", str(trained / "config.yaml"), "--runs", str(tmp_path)]) == 0
    again = weights(tmp_path / "pretrain+phantom" / "0")
    assert all(torch.equal(value, again[key]) for key, value in weights(trained).items())


def _stop_at(monkeypatch, step: int, action) -> None:
    """Does ``action`` when a batch of the run's ``step``-th optimiser step ends."""
    original = CleanStop.on_train_batch_end

    def wrapped(self, trainer, *args):
        if trainer.global_step == step:
            action()
        original(self, trainer, *args)

    monkeypatch.setattr(CleanStop, "on_train_batch_end", wrapped)


@pytest.mark.parametrize(
    ("number", "step"), [(signal.SIGTERM, 5), (signal.SIGUSR2, 6), (signal.SIGINT, 1)]
)  # of 3 steps an epoch: in the middle, at the end, at the start
def test_a_signal_saves_stops_with_75_and_resumes_to_the_same_bits(
    phantom_cohort, trained, tmp_path, monkeypatch, number, step
):
    with monkeypatch.context() as patch:
        _stop_at(patch, step, lambda: os.kill(os.getpid(), number))
        assert fit(phantom_cohort, tmp_path, "--trainer.max_epochs=4", "--trainer.log_every_n_steps=1") == 75
    run = tmp_path / "pretrain+phantom" / "0"
    assert load_checkpoint(run / "checkpoints" / "last.ckpt")["global_step"] == step
    more = ("--trainer.max_epochs=4", "--trainer.log_every_n_steps=1", "--ckpt_path=last")
    assert fit(phantom_cohort, tmp_path, *more) == 0
    wanted, got = weights(trained), weights(run)
    assert all(torch.equal(wanted[key], got[key]) for key in wanted)
    for tag in ("train/loss", "val/loss"):
        assert scalars(run)[tag] == scalars(trained)[tag], "steps are repeated or missing in the event stream"
    assert [p.name for p in (tmp_path / "pretrain+phantom").iterdir()] == ["0"]
    assert {p.name for p in (run / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}


def test_a_kill_resumes_from_the_last_epoch_to_the_same_bits(phantom_cohort, trained, tmp_path, monkeypatch):
    def die():
        raise RuntimeError("killed")

    with monkeypatch.context() as patch:
        _stop_at(patch, 8, die)
        with pytest.raises(RuntimeError, match="killed"):
            fit(phantom_cohort, tmp_path, "--trainer.max_epochs=4")
    assert fit(phantom_cohort, tmp_path, "--trainer.max_epochs=4", "--ckpt_path=auto") == 0
    got = weights(tmp_path / "pretrain+phantom" / "0")
    assert all(torch.equal(value, got[key]) for key, value in weights(trained).items())


def test_accumulated_batches_make_the_steps_of_the_whole_batch(phantom_cohort, tmp_path):
    common = ("--trainer.max_epochs=2", "--pictures.every_n_epochs=0", "--data.batch_size=2")
    assert fit(phantom_cohort, tmp_path, *common, "--model.optim.global_batch=4") == 0
    content = load_checkpoint(tmp_path / "pretrain+phantom/0/checkpoints/last.ckpt")
    assert content["global_step"] == 2, "3 batches of an epoch make one step of two; the tail is dropped"


@pytest.mark.parametrize(("limit", "steps"), [("1", 1), ("1.0", 2)])
def test_one_batch_is_one_batch(phantom_cohort, tmp_path, limit, steps):
    common = ("--trainer.max_epochs=1", "--pictures.every_n_epochs=0", "--data.batch_size=2")
    more = ("--model.optim.global_batch=2", f"--trainer.limit_train_batches={limit}")
    assert fit(phantom_cohort, tmp_path, *common, *more) == 0
    content = load_checkpoint(tmp_path / "pretrain+phantom/0/checkpoints/last.ckpt")
    assert (content["global_step"] == 1) == (steps == 1)


@pytest.mark.parametrize(
    "options",
    [
        ["--trainer.precision=bf16-mixed"],
        ["--model.network.checkpointing=true"],
        ["--model.network.decoder=self", "--model.network.norm_target=true"],
        ["--data.views=[sax,lax_4c]", "--data.input_size={sax: [64,64,6], lax_4c: [64,64]}"],
    ],
)
def test_options_of_training_train(phantom_cohort, tmp_path, monkeypatch, options):
    monkeypatch.setattr("cinema_lightning.trainer_options.has_fast_bf16", lambda device: True)
    assert fit(phantom_cohort, tmp_path, "--trainer.max_epochs=1", "--pictures.every_n_epochs=0", *options) == 0
    assert all(value.isfinite().all() for value in weights(tmp_path / "pretrain+phantom" / "0").values())


def test_bf16_on_hardware_without_it_falls_back_with_a_sentence(phantom_cohort, tmp_path, monkeypatch):
    monkeypatch.setattr("cinema_lightning.trainer_options.has_fast_bf16", lambda device: False)
    options = ("--trainer.max_epochs=1", "--trainer.precision=bf16-mixed", "--pictures.every_n_epochs=0")
    with pytest.warns(UserWarning, match="32-true instead of bf16-mixed"):
        assert fit(phantom_cohort, tmp_path, *options) == 0
    config = yaml.safe_load((tmp_path / "pretrain+phantom" / "0" / "config.yaml").read_text())
    assert config["trainer"]["precision"] == "32-true"


def test_worker_count_does_not_change_a_bit(phantom_cohort, trained, tmp_path):
    assert fit(phantom_cohort, tmp_path, "--trainer.max_epochs=4", "--data.num_workers=1") == 0
    got = weights(tmp_path / "pretrain+phantom" / "0")
    assert all(torch.equal(value, got[key]) for key, value in weights(trained).items())


def test_resuming_another_experiment_is_refused(phantom_cohort, trained, capsys):
    runs = trained.parents[1]
    assert fit(phantom_cohort, runs, "--trainer.max_epochs=4", "--ckpt_path=last", "--model.optim.lr=0.5") == 2
    assert "model.optim.lr" in capsys.readouterr().err


def test_steps_with_a_non_finite_loss_are_dropped_counted_and_end_the_run(
    phantom_cohort, tmp_path, monkeypatch, capsys
):
    from cinema_lightning.tasks.pretrain.task import Pretrain

    original = Pretrain.loss

    def broken(self, batch, stage):
        loss = original(self, batch, stage)
        bad = stage == "train" and (self.global_step == 0 or self.current_epoch > 0)
        return loss * float("nan") if bad else loss

    monkeypatch.setattr(Pretrain, "loss", broken)
    options = ("--trainer.max_epochs=4", "--trainer.log_every_n_steps=1", "--model.optim.max_skipped=3")
    assert fit(phantom_cohort, tmp_path, *options) == 2
    assert "not finite in 3 steps in a row" in capsys.readouterr().err
    run = tmp_path / "pretrain+phantom" / "0"
    assert all(value.isfinite().all() for value in weights(run).values())
    assert scalars(run)["train/skipped_steps"][-1][1] >= 3


def test_predict_writes_one_row_per_subject_and_frame(phantom_cohort, trained, tmp_path):
    command = ["predict", "--config", "pretrain.yaml", "--config", "phantom.yaml", "--data.root", str(phantom_cohort)]
    command += ["--runs", str(trained.parents[1]), "--data.batch_size", "4"]
    assert main([*command, "--output.folder", str(tmp_path / "all")]) == 0
    table = pd.read_csv(tmp_path / "all" / "features.csv", dtype={"id": str})
    cohort = pd.read_csv(phantom_cohort / "cohort.csv", dtype={"id": str})
    assert len(table) == cohort["n_frames"].sum()
    assert set(table["id"]) == set(cohort["id"])
    assert {"cls_0", "sax_15", "lax_4c_0"} <= set(table.columns)
    for shard in ("2/2", "1/2"):
        assert main([*command, "--output.folder", str(tmp_path / "parts"), "--shard", shard]) == 0
    assert (tmp_path / "parts" / "features.csv").read_bytes() == (tmp_path / "all" / "features.csv").read_bytes()


def test_a_shard_without_subjects_does_not_hold_up_the_others(phantom_cohort, trained, tmp_path):
    command = ["predict", "--config", "pretrain.yaml", "--config", "phantom.yaml", "--data.root", str(phantom_cohort)]
    command += ["--runs", str(trained.parents[1]), "--data.predict_split=val", "--output.folder", str(tmp_path)]
    for shard in ("3/3", "1/3", "2/3"):
        assert main([*command, "--shard", shard]) == 0
    assert len(pd.read_csv(tmp_path / "features.csv")) == 4
    before = (tmp_path / "features.csv").stat().st_mtime_ns
    assert main([*command]) == 0
    assert (tmp_path / "features.csv").stat().st_mtime_ns == before
    assert main([*command, "--output.overwrite=true"]) == 0
    assert (tmp_path / "features.csv").stat().st_mtime_ns > before


def test_shards_of_two_predictions_do_not_mix(phantom_cohort, trained, tmp_path, capsys):
    command = ["predict", "--config", "pretrain.yaml", "--config", "phantom.yaml", "--data.root", str(phantom_cohort)]
    command += ["--runs", str(trained.parents[1]), "--data.predict_split=val", "--output.folder", str(tmp_path)]
    assert main([*command, "--shard", "1/2"]) == 0
    other = [*command, "--shard", "2/2", "--ckpt_path=last"]
    assert main(other) == 2
    assert main([*other, "--output.overwrite=true"]) == 2
    assert "shard by shard" in capsys.readouterr().err
    assert not (tmp_path / "features.csv").exists()


def test_exported_weights_predict_the_same(phantom_cohort, trained, tmp_path):
    weights_file = tmp_path / "export" / "mine.safetensors"
    checkpoint = trained / "checkpoints" / "best.ckpt"
    assert main(["export", "--checkpoint", str(checkpoint), "--out", str(weights_file)]) == 0
    assert (weights_file.parent / "config.yaml").is_file()
    command = ["predict", "--config", "pretrain.yaml", "--config", "phantom.yaml", "--data.root", str(phantom_cohort)]
    command += ["--data.predict_split=val", "--ckpt_path"]
    assert main([*command, str(checkpoint), "--output.folder", str(tmp_path / "a")]) == 0
    assert main([*command, str(weights_file), "--output.folder", str(tmp_path / "b")]) == 0
    a, b = ((tmp_path / name / "features.csv").read_bytes() for name in "ab")
    assert a == b


def test_resuming_with_other_subjects_is_refused(phantom_cohort, trained, tmp_path, capsys):
    import shutil

    shutil.copytree(trained, tmp_path / "runs" / "pretrain+phantom" / "0")
    other = tmp_path / "other"
    shutil.copytree(phantom_cohort, other)
    table = pd.read_csv(other / "cohort.csv", dtype={"id": str})
    table[table["id"] != table["id"][table["split"] == "train"].iloc[0]].to_csv(other / "cohort.csv", index=False)
    assert fit(other, tmp_path / "runs", "--trainer.max_epochs=5", "--ckpt_path=last") == 2
    assert "others than those of the run" in capsys.readouterr().err


def test_a_run_predicts_and_validates_subjects_it_was_not_trained_on(phantom_cohort, trained, tmp_path):
    import shutil

    other = tmp_path / "other"
    shutil.copytree(phantom_cohort, other)
    table = pd.read_csv(other / "cohort.csv", dtype={"id": str})
    table["split"] = "val"
    table.iloc[3:].to_csv(other / "cohort.csv", index=False)
    overlays = ["--config", "pretrain.yaml", "--config", "phantom.yaml", "--runs", str(trained.parents[1])]
    overlays += ["--data.root", str(other)]
    assert main(["predict", *overlays, "--output.folder", str(tmp_path / "out")]) == 0
    assert set(pd.read_csv(tmp_path / "out" / "features.csv", dtype={"id": str})["id"]) == set(table["id"][3:])
    assert main(["validate", *overlays]) == 0


def test_predict_resumes_without_repeating_or_losing_rows(phantom_cohort, trained, tmp_path, monkeypatch):
    from cinema_lightning.output.predict import PredictionWriter

    command = ["predict", "--config", "pretrain.yaml", "--config", "phantom.yaml", "--data.root", str(phantom_cohort)]
    command += ["--runs", str(trained.parents[1]), "--output.folder", str(tmp_path), "--data.batch_size", "4"]
    original = PredictionWriter.on_predict_batch_end
    done: list[str] = []
    attempts = [1]

    def wrapped(self, trainer, task, outputs, batch, batch_idx, dataloader_idx=0):
        if attempts == [1] and batch_idx == 3:
            raise RuntimeError("killed")
        done.extend(batch["id"])
        original(self, trainer, task, outputs, batch, batch_idx, dataloader_idx)

    monkeypatch.setattr(PredictionWriter, "on_predict_batch_end", wrapped)
    with pytest.raises(RuntimeError, match="killed"):
        main(command)
    attempts.append(2)
    assert main(command) == 0
    table = pd.read_csv(tmp_path / "features.csv", dtype={"id": str})
    cohort = pd.read_csv(phantom_cohort / "cohort.csv", dtype={"id": str})
    assert not table.duplicated(["id", "frame"]).any()
    assert len(table) == cohort["n_frames"].sum() == len(done), "rows were lost or done again"


def test_predict_writes_reconstructions_with_geometry(phantom_cohort, trained, tmp_path):
    import nibabel
    import numpy as np

    from cinema_lightning.data.store import open_series, series_path

    command = ["predict", "--config", "pretrain.yaml", "--config", "phantom.yaml", "--data.root", str(phantom_cohort)]
    command += ["--runs", str(trained.parents[1]), "--output.folder", str(tmp_path)]
    command += ["--output.nifti", "true", "--output.pictures", "true"]
    assert main([*command, "--data.predict_split", "val"]) == 0
    folder = next((tmp_path / "nifti").iterdir())
    image = nibabel.load(folder / "sax_frame00_image.nii.gz")
    series = open_series(series_path(phantom_cohort, folder.name, "sax"))
    assert image.shape == series.shape
    assert np.allclose(image.affine, series.info.affine, atol=1e-4)
    assert (tmp_path / "pictures" / folder.name / "lax_4c_frame00.png").is_file()
    assert (folder / "sax_frame00_reconstruction.nii.gz").is_file()
    assert main(["predict", *command[1:], "--data.predict_split", "train"]) == 2


def test_a_checkpoint_of_another_network_is_refused(phantom_cohort, trained, tmp_path, capsys):
    path = tmp_path / "other.ckpt"
    content = load_checkpoint(trained / "checkpoints" / "best.ckpt")
    content["state_dict"] = {"weight": torch.zeros(2)}
    torch.save(content, path)
    command = ["predict", "--config", "pretrain.yaml", "--config", "phantom.yaml", "--data.root", str(phantom_cohort)]
    assert main([*command, "--ckpt_path", str(path), "--output.folder", str(tmp_path)]) == 2
    assert "other.ckpt" in capsys.readouterr().err


def test_a_checkpoint_cannot_name_foreign_classes(phantom_cohort, trained, tmp_path, capsys):
    path = tmp_path / "evil.ckpt"
    content = load_checkpoint(trained / "checkpoints" / "best.ckpt")
    content["hyper_parameters"]["network"] = {"class_path": "subprocess.Popen", "init_args": {"args": ["true"]}}
    torch.save(content, path)
    command = ["predict", "--config", "pretrain.yaml", "--config", "phantom.yaml", "--data.root", str(phantom_cohort)]
    assert main([*command, "--ckpt_path", str(path), "--output.folder", str(tmp_path)]) == 2
    assert "subprocess.Popen" in capsys.readouterr().err
