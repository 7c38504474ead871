"""Options that Lightning accepts: each works, or is refused in a sentence."""

from pathlib import Path

import pytest
import torch
import yaml
from torch.utils._python_dispatch import TorchDispatchMode

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
    "--data.batch_size=2",
    "--trainer.max_epochs=1",
    "--trainer.check_val_every_n_epoch=1",
    "--checkpoint.every_n_epochs=1",
    "--pictures.every_n_epochs=0",
]


def fit(cohort: Path, runs: Path, *more: str) -> int:
    overlays = ["--config", "pretrain.yaml", "--config", "phantom.yaml"]
    return main(["fit", *overlays, *TINY, "--data.root", str(cohort), "--runs", str(runs), *more])


def run_of(runs: Path) -> Path:
    return runs / "pretrain+phantom" / "0"


@pytest.mark.parametrize(
    "option",
    ["--model.optim.global_batch=null", "--model.init_args.optim.global_batch=null", "--model.optim.global_batch=~"],
)
def test_null_is_null_at_any_depth(phantom_cohort, tmp_path, option):
    assert fit(phantom_cohort, tmp_path, "--model.optim.global_batch=4", option) == 0
    config = yaml.safe_load((run_of(tmp_path) / "config.yaml").read_text())
    assert config["model"]["init_args"]["optim"]["global_batch"] is None
    assert config["model"]["init_args"]["optim"]["weight_decay"] == 0.05


@pytest.mark.parametrize(
    ("options", "key", "instead"),
    [
        (["--trainer.precision=bf16-true"], "trainer.precision", "bf16-mixed"),
        (["--trainer.precision=16-true"], "trainer.precision", "16-mixed"),
        (["--trainer.precision=64-true"], "trainer.precision", "32-true"),
        (["--trainer.strategy=fsdp"], "trainer.strategy", "ddp"),
        (["--trainer.strategy=lightning.pytorch.strategies.FSDPStrategy"], "trainer.strategy", "ddp"),
        (["--trainer.strategy=deepspeed_stage_2"], "trainer.strategy", "ddp"),
        (["--trainer.barebones=true"], "trainer.barebones", "limit_train_batches"),
        (["--trainer.enable_checkpointing=false"], "trainer.enable_checkpointing", "fast_dev_run"),
        (["--trainer.limit_train_batches=0"], "trainer.limit_train_batches", "0 trains nothing"),
        (["--trainer.limit_train_batches=0.0"], "trainer.limit_train_batches", "0 trains nothing"),
        (["--trainer.max_steps=0"], "trainer.max_steps", "0 trains nothing"),
        (["--trainer.max_epochs=0"], "trainer.max_epochs", "0 trains nothing"),
    ],
)
def test_what_cannot_be_had_is_refused_in_a_sentence(phantom_cohort, tmp_path, capsys, options, key, instead):
    assert fit(phantom_cohort, tmp_path / "runs", *options) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert key in said
    assert instead in said
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("options", "key", "instead"),
    [
        (["--trainer.accelerator=tpu"], "options of trainer", "torch_xla"),
        (
            ["--trainer.plugins=lightning.pytorch.plugins.HalfPrecision", "--trainer.plugins.precision=bf16-true"],
            "precision=32-true",
            "Choose one",
        ),
        (["--model.optim.global_batch=-4"], "optim.global_batch is -4", "null"),
        (["--model.optim.global_batch=0"], "optim.global_batch is 0", "null"),
        (["--checkpoint.every_n_epochs=0"], "checkpoint.every_n_epochs is 0", "at least 1"),
        (["--data.num_workers=-1"], "data.num_workers is -1", "at least 0"),
        (["--data.prefetch_factor=0"], "data.prefetch_factor is 0", "at least 1"),
    ],
)
def test_what_cannot_be_built_is_refused_and_leaves_no_run(phantom_cohort, tmp_path, capsys, options, key, instead):
    assert fit(phantom_cohort, tmp_path / "runs", *options) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert key in said
    assert instead in said
    assert not list((tmp_path / "runs").rglob("*"))


@pytest.mark.parametrize(
    ("options", "nearest"),
    [
        (["--model.optim.weight_deca=1"], "model.optim.weight_decay"),
        (["--model.network.sise=tiny"], "model.network.size"),
        (["--data.batchsize=2"], "data.batch_size"),
        (["--datta.batch_size=2"], "data.batch_size"),
        (["--checkpoints.every_n_epochs=2"], "checkpoint.every_n_epochs"),
        ({"trainer": {"max_epoch": 3}}, "trainer.max_epochs"),
        ({"model": {"init_args": {"optim": {"min_rl": 3}}}}, "model.optim.min_lr"),
        ({"trainerr": {}}, "trainer"),
        ({"trainer": {"max_epoch": {}}}, "trainer.max_epochs"),
        ({"data": {"init_args": {"batchsize": {}}}}, "data.batch_size"),
        ({"model": {"init_args": {"optimm": {}}}}, "model.optim"),
        ({"model": {"init_args": {"network": {"init_args": {"sise": {}}}}}}, "model.network.size"),
        (["--data.batchsize", "{}"], "data.batch_size"),
    ],
)
def test_a_wrong_key_suggests_the_nearest_right_one(phantom_cohort, tmp_path, capsys, options, nearest):
    if isinstance(options, dict):
        (tmp_path / "mine.yaml").write_text(yaml.safe_dump(options))
        options = ["--config", str(tmp_path / "mine.yaml")]
    assert fit(phantom_cohort, tmp_path / "runs", *options) == 2
    assert f"Did you mean {nearest}?" in capsys.readouterr().err.strip().splitlines()[-1]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--config=strong.yaml"], "key 'model.network': Option 'norm' is not accepted. It is an option of ConvUNetR."),
        (
            ["--model.dice_over=batch"],
            "key 'model' of Pretrain: Option 'dice_over' is not accepted. It is an option of Segmentation.",
        ),
    ],
)
def test_an_option_of_another_class_says_whose_it_is(phantom_cohort, tmp_path, capsys, options, said):
    assert fit(phantom_cohort, tmp_path / "runs", *options) == 2
    assert capsys.readouterr().err.strip().splitlines()[-1] == f"cinema fit: {said}"


def test_a_time_that_leaves_no_step_is_said(phantom_cohort, tmp_path, capsys):
    assert fit(phantom_cohort, tmp_path, "--trainer.max_time=00:00:00:00") == 2
    assert "nothing was trained" in capsys.readouterr().err


def test_a_users_early_stopping_on_what_is_not_logged_is_a_sentence(phantom_cohort, tmp_path, capsys):
    callback = {"class_path": "lightning.pytorch.callbacks.EarlyStopping", "init_args": {"monitor": "val/los"}}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump({"trainer": {"callbacks": [callback]}}))
    assert fit(phantom_cohort, tmp_path / "runs", "--config", str(tmp_path / "mine.yaml")) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert "EarlyStopping watches val/los, which this run does not log; did you mean val/loss?" in said


def test_float16_on_a_cpu_falls_back_with_a_sentence(phantom_cohort, tmp_path, monkeypatch):
    monkeypatch.setattr("cinema_lightning.trainer_options.has_fast_bf16", lambda device: False)
    with pytest.warns(UserWarning, match="32-true instead of 16-mixed"):
        assert fit(phantom_cohort, tmp_path, "--trainer.precision=16-mixed") == 0


def _seen(monkeypatch) -> list[tuple[int, list[str], list[int]]]:
    """Epoch, ids and frames of every training batch."""
    from cinema_lightning.tasks.base import Task

    seen: list[tuple[int, list[str], list[int]]] = []
    step = Task.training_step

    def watched(self, batch, batch_idx):
        seen.append((self.current_epoch, list(batch["id"]), batch["frame"].tolist()))
        return step(self, batch, batch_idx)

    monkeypatch.setattr(Task, "training_step", watched)
    return seen


def test_overfitting_sees_the_same_samples_in_every_epoch(phantom_cohort, tmp_path, monkeypatch):
    seen = _seen(monkeypatch)
    assert fit(phantom_cohort, tmp_path, "--trainer.overfit_batches=2", "--trainer.max_epochs=3") == 0
    epochs = [[batch for epoch, *batch in seen if epoch == wanted] for wanted in range(3)]
    assert len(epochs[0]) == 2
    assert epochs[0] == epochs[1] == epochs[2]


def test_a_share_can_be_overfitted_though_it_is_less_than_a_validation_batch(phantom_cohort, tmp_path, monkeypatch):
    seen = _seen(monkeypatch)
    assert fit(phantom_cohort, tmp_path, "--trainer.overfit_batches=0.5", "--trainer.max_epochs=2") == 0
    epochs = [[batch for epoch, *batch in seen if epoch == wanted] for wanted in range(2)]
    assert epochs[0] == epochs[1]
    assert epochs[0]


@pytest.mark.parametrize(
    ("limit", "wanted", "batches", "said"),
    [(3, 4, 2, "2 batches of 2 on 1 device(s) make one step"), (1, 4, 1, "is multiplied by 0.5")],
)
def test_a_limited_epoch_is_of_whole_steps(
    phantom_cohort, tmp_path, monkeypatch, caplog, recwarn, limit, wanted, batches, said
):
    seen = _seen(monkeypatch)
    options = [f"--trainer.limit_train_batches={limit}", f"--model.optim.global_batch={wanted}"]
    assert fit(phantom_cohort, tmp_path, *options) == 0
    assert len(seen) == batches
    assert load_checkpoint(run_of(tmp_path) / "checkpoints" / "last.ckpt")["global_step"] == 1
    assert said in caplog.text + " ".join(str(warning.message) for warning in recwarn)


def test_a_limit_alone_draws_others_in_each_epoch(phantom_cohort, tmp_path, monkeypatch):
    seen = _seen(monkeypatch)
    assert fit(phantom_cohort, tmp_path, "--trainer.limit_train_batches=2", "--trainer.max_epochs=3") == 0
    assert len({str(batch) for _, *batch in seen}) > 2


def _train_with_scaler(cohort, scale: float, monkeypatch, runs: Path) -> dict:
    """A float16 run on the CPU: Lightning has none, torch has the scaler."""
    from lightning.pytorch.cli import LightningCLI
    from lightning.pytorch.plugins import MixedPrecision

    instantiate = LightningCLI.instantiate_trainer

    def scaled(self, **kwargs):
        scaler = torch.amp.GradScaler("cpu", init_scale=scale)
        kwargs["plugins"] = [*kwargs["plugins"], MixedPrecision("16-mixed", "cpu", scaler=scaler)]
        kwargs["precision"] = None
        return instantiate(self, **kwargs)

    monkeypatch.setattr(LightningCLI, "instantiate_trainer", scaled)
    monkeypatch.setattr("cinema_lightning.training.choose_precision", lambda trainer, training: None)
    assert fit(cohort, runs, "--trainer.max_epochs=3", "--model.optim.max_skipped=2") == 0
    return load_checkpoint(run_of(runs) / "checkpoints" / "last.ckpt")


def test_a_falling_float16_scale_is_nobodys_fault(phantom_cohort, tmp_path, monkeypatch, recwarn):
    state = _train_with_scaler(phantom_cohort, 2.0**40, monkeypatch, tmp_path)
    assert state["state_dict"]["skipped_steps"] == 0
    assert not [w for w in recwarn if "not finite" in str(w.message)]
    scale = state["MixedPrecision"]["scale"]
    assert scale < 2.0**38, "the scale was never too large: the test shows nothing"


def test_clipping_by_value_clips_by_value(phantom_cohort, tmp_path, monkeypatch):
    largest: list[float] = []
    from cinema_lightning.tasks.base import Task

    clip = Task.configure_gradient_clipping

    def watched(self, optimizer, *args, **kwargs):
        clip(self, optimizer, *args, **kwargs)
        gradients = [p.grad for g in optimizer.param_groups for p in g["params"] if p.grad is not None]
        largest.append(max(float(gradient.abs().max()) for gradient in gradients))

    monkeypatch.setattr(Task, "configure_gradient_clipping", watched)
    options = ["--trainer.gradient_clip_val=1e-4", "--trainer.gradient_clip_algorithm=value"]
    assert fit(phantom_cohort, tmp_path, *options) == 0
    assert max(largest) == pytest.approx(1e-4, rel=1e-5)


def _rates(run: Path) -> list[float]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run)).Reload()
    tag = next(tag for tag in events.Tags()["scalars"] if tag.startswith("lr-"))
    return [event.value for event in events.Scalars(tag)]


FINDERS = "lightning.pytorch.callbacks."


def test_a_found_batch_size_is_trained_with_and_kept(phantom_cohort, tmp_path, monkeypatch, caplog):
    seen = _seen(monkeypatch)
    finder = [f"--trainer.callbacks+={FINDERS}BatchSizeFinder", "--trainer.callbacks.max_trials=2"]
    options = [*finder, "--trainer.callbacks.init_val=2", "--data.batch_size=1", "--model.optim.global_batch=8"]
    assert fit(phantom_cohort, tmp_path, *options) == 0
    assert {len(ids) for _, ids, _ in seen[-2:]} == {4}
    assert "of 4 on 1 device(s) make one step" in caplog.text
    assert load_checkpoint(run_of(tmp_path) / "checkpoints" / "last.ckpt")["global_step"] == 1
    del seen[:]
    more = ["--ckpt_path=last", "--trainer.max_epochs=2"]
    assert fit(phantom_cohort, tmp_path, *options, *more) == 0
    assert {len(ids) for _, ids, _ in seen} == {1}, "no search when it goes on, and the batches that fit"
    assert load_checkpoint(run_of(tmp_path) / "checkpoints" / "last.ckpt")["global_step"] == 2


def test_a_found_learning_rate_is_trained_with_and_kept(phantom_cohort, tmp_path, caplog):
    finder = [f"--trainer.callbacks+={FINDERS}LearningRateFinder", "--trainer.callbacks.num_training_steps=30"]
    finder += ["--trainer.callbacks.early_stop_threshold=null", "--trainer.callbacks.min_lr=1e-5"]
    finder += ["--trainer.max_epochs=8"]
    options = [*finder, "--model.optim.warmup_epochs=0", "--trainer.log_every_n_steps=1"]
    assert fit(phantom_cohort, tmp_path, *options) == 0
    found = load_checkpoint(run_of(tmp_path) / "checkpoints" / "last.ckpt")["found_lr"]
    assert f"{found:.3g} instead of 0.001" in caplog.text
    assert max(_rates(run_of(tmp_path))) == pytest.approx(found, rel=1e-5)
    assert fit(phantom_cohort, tmp_path, *options, "--ckpt_path=last", "--trainer.max_epochs=9") == 0
    assert load_checkpoint(run_of(tmp_path) / "checkpoints" / "last.ckpt")["found_lr"] == found
    assert max(_rates(run_of(tmp_path))) == pytest.approx(found, rel=1e-5)


def test_going_on_with_another_rate_and_longer_has_to_be_asked_for(phantom_cohort, tmp_path, capsys):
    def state() -> dict:
        return load_checkpoint(run_of(tmp_path) / "checkpoints" / "last.ckpt")

    assert fit(phantom_cohort, tmp_path, "--model.optim.warmup_epochs=0") == 0
    changed = ["--model.optim.warmup_epochs=0", "--model.optim.lr=5e-4", "--model.optim.weight_decay=0.2"]
    again = [*changed, "--trainer.max_epochs=3", "--ckpt_path=last", "--trainer.log_every_n_steps=1"]
    before = state()["global_step"]
    assert fit(phantom_cohort, tmp_path, *again) == 2
    assert "model.optim.lr" in (said := capsys.readouterr().err)
    assert "--allow_changes" in said
    assert fit(phantom_cohort, tmp_path, *again, "--allow_changes=true") == 0
    after = state()
    assert after["global_step"] == 3 * before
    groups = after["optimizer_states"][0]["param_groups"]
    assert {group["initial_lr"] for group in groups} == {5e-4}
    assert 0.2 in {group["weight_decay"] for group in groups}
    # a third of the half-cosine from the new peak has passed when it goes on
    assert max(_rates(run_of(tmp_path))[-2 * before :]) == pytest.approx(1e-6 + (5e-4 - 1e-6) * 0.75, rel=1e-3)
    assert (run_of(tmp_path) / "config.resumed_1.yaml").is_file()
    last = [*changed, "--trainer.max_epochs=4", "--ckpt_path=last"]
    assert fit(phantom_cohort, tmp_path, *last) == 0, "the changed configuration is the run's now"


def test_a_change_that_is_refused_is_not_on_record(phantom_cohort, tmp_path, capsys):
    assert fit(phantom_cohort, tmp_path) == 0
    again = ["--ckpt_path=last", "--trainer.max_epochs=2"]
    assert fit(phantom_cohort, tmp_path, *again, "--model.network.enc_dim=32", "--allow_changes=true") == 2
    assert fit(phantom_cohort, tmp_path, *again, "--data.limit_subjects=3", "--allow_changes=true") == 2
    capsys.readouterr()
    assert fit(phantom_cohort, tmp_path, *again, "--model.optim.global_batch=2", "--allow_changes=true") == 2
    assert "key 'model.optim.global_batch'" in capsys.readouterr().err
    assert not list(run_of(tmp_path).glob("config.resumed_*"))
    assert fit(phantom_cohort, tmp_path, *again) == 0, "the run is what it was"
    assert len(list(run_of(tmp_path).glob("config.resumed_*"))) == 1


# What CUDA refuses under torch.use_deterministic_algorithms (its documentation), as far as a network could use it.
NOT_DETERMINISTIC = (
    *("nll_loss2d_forward", "nll_loss2d_backward", "upsample_bilinear2d_backward", "upsample_bicubic2d_backward"),
    *("upsample_trilinear3d_backward", "upsample_linear1d_backward", "grid_sampler_2d_backward"),
    *("grid_sampler_3d_backward", "avg_pool3d_backward", "_adaptive_avg_pool2d_backward", "max_pool3d_with_indices"),
    *("_adaptive_avg_pool3d_backward", "adaptive_max_pool2d_backward", "fractional_max_pool2d_backward"),
    *("reflection_pad1d_backward", "reflection_pad2d_backward", "reflection_pad3d_backward"),
    *("replication_pad1d_backward", "replication_pad2d_backward", "replication_pad3d_backward"),
    *("cumsum", "kthvalue", "histc", "bincount", "put_", "_ctc_loss", "embedding_bag"),
)


class Deterministic(TorchDispatchMode):
    """Refuses on a CPU what CUDA would refuse."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        floating = isinstance(args[0], torch.Tensor) and args[0].is_floating_point() if args else False
        if name in NOT_DETERMINISTIC and (name != "cumsum" or floating):
            raise RuntimeError(f"{name} has no deterministic CUDA implementation")
        return func(*args, **(kwargs or {}))


@pytest.fixture
def as_on_cuda(monkeypatch):
    """Loss and gradient of every step refuse what has no deterministic CUDA implementation."""
    from cinema_lightning.tasks.base import Task

    step = Task.training_step

    def watched(self, batch, batch_idx):
        with Deterministic():
            loss = step(self, batch, batch_idx)
            trainable = [p for p in self.parameters() if p.requires_grad]
            torch.autograd.grad(loss, trainable, retain_graph=True, allow_unused=True)
        return loss

    monkeypatch.setattr(Task, "training_step", watched)


def test_pretraining_is_deterministic_on_cuda_too(phantom_cohort, tmp_path, as_on_cuda):
    assert fit(phantom_cohort, tmp_path, "--trainer.deterministic=true") == 0


@pytest.mark.parametrize(
    ("config", "extra"),
    [
        ("acdc_seg.yaml", []),
        ("acdc_seg.yaml", ["--model.network=UNet"]),
        ("acdc_cvd.yaml", []),
        ("acdc_ef.yaml", []),
        ("landmark_heatmap_2ch.yaml", []),
        ("landmark_coordinate_2ch.yaml", []),
    ],
)
def test_fine_tuning_is_deterministic_on_cuda_too(tmp_path, as_on_cuda, config, extra):
    options = ["--phantom.subjects=12", "--phantom.root", str(tmp_path / "data"), "--runs", str(tmp_path / "runs")]
    short = ["--trainer.max_epochs=1", "--trainer.limit_train_batches=1", "--trainer.limit_val_batches=1"]
    base = ["fit", "--config", config, "--config", "phantom.yaml", "--trainer.deterministic=true"]
    assert main([*base, *options, *short, "--data.batch_size=2", *extra]) == 0
