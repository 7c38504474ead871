"""What is used of Lightning and jsonargparse that they promise nobody: a new version has to pass this first."""

from __future__ import annotations

import inspect
from argparse import ArgumentError
from typing import Any

import pytest
import torch
from jsonargparse import ArgumentParser
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.cli import LightningCLI, instantiate_module
from lightning.pytorch.strategies import DDPStrategy

from cinema_lightning.data.resume import unfinished
from cinema_lightning.messages import translate
from cinema_lightning.registry import BACKBONES, TASKS
from cinema_lightning.tasks.base import Task

METHODS = [
    (ModelCheckpoint, "_should_skip_saving_checkpoint", ["trainer"], "callbacks/checkpoint.py"),
    (ModelCheckpoint, "_monitor_candidates", ["trainer"], "callbacks/checkpoint.py"),
    (ModelCheckpoint, "_save_topk_checkpoint", ["trainer", "monitor_candidates"], "callbacks/checkpoint.py"),
    (ModelCheckpoint, "_save_last_checkpoint", ["trainer", "monitor_candidates"], "callbacks/checkpoint.py"),
    (ModelCheckpoint, "check_monitor_top_k", ["trainer", "current"], "callbacks/checkpoint.py"),
    (EarlyStopping, "_evaluate_stopping_criteria", ["current"], "callbacks/early_stop.py"),
    (EarlyStopping, "_should_skip_check", ["trainer"], "callbacks/early_stop.py"),
    (LightningCLI, "_parse_ckpt_path", [], "training.py"),
    (LightningCLI, "_run_subcommand", ["subcommand"], "training.py"),
    (LightningCLI, "_instantiate_trainer", ["config", "callbacks"], "training.py"),
    (LightningCLI, "_get", ["config", "key", "default"], "training.py"),
    (LightningCLI, "_parser", ["subcommand"], "training.py"),
]


@pytest.fixture(scope="module")
def trainer() -> Trainer:
    return Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)


@pytest.mark.parametrize(
    ("owner", "name", "arguments", "user"), METHODS, ids=lambda value: getattr(value, "__name__", None)
)
def test_a_private_hook_of_lightning_is_as_it_was(owner, name, arguments, user):
    moved = f"Lightning's {owner.__name__}.{name} has moved, which {user} overrides or calls"
    assert hasattr(owner, name), moved
    found = list(inspect.signature(getattr(owner, name)).parameters)
    assert found == ["self", *arguments], f"{moved}: it takes {found} now"


def test_private_state_of_lightning_is_as_it_was(trainer):
    loop = trainer.fit_loop
    held: list[tuple[Any, str, str]] = [
        (ModelCheckpoint(), "_every_n_epochs", "callbacks/checkpoint.py"),
        (DDPStrategy(parallel_devices=[torch.device("cpu")]), "_ddp_kwargs", "tasks/base.py"),
        (LightningModule(), "_trainer", "tasks/base.py"),
        (trainer._logger_connector, "update_train_step_metrics", "callbacks/checkpoint.py"),
        (loop, "_combined_loader", "tasks/pacing.py"),
        (loop, "_restarting", "data/resume.py"),
    ]
    moved = [f"{type(owner).__name__}.{name} ({user})" for owner, name, user in held if not hasattr(owner, name)]
    assert not moved, f"Lightning has moved {', '.join(moved)}"


def test_the_progress_that_lightning_saves_is_as_it_was(trainer):
    loops = trainer.fit_loop.state_dict()
    again = unfinished(loops, 0)
    shape = {
        key: {kind: sorted(counts) for kind, counts in value.items() if isinstance(counts, dict)}
        for key, value in loops.items()
    }
    for key in ("epoch_progress", "epoch_loop.batch_progress"):
        assert shape[key]["current"] == sorted(again[key]["current"]), (
            f"Lightning counts otherwise in {key} (data/resume.py)"
        )
    assert "_batches_that_stepped" in loops["epoch_loop.state_dict"]


def test_a_checkpoint_says_by_whom_it_is_built():
    assert list(inspect.signature(instantiate_module).parameters) == ["class_type", "config"], "weights/restore.py"


SENTENCES = [
    (["--model.network=Nonsense"], "key 'model.network': Expected a path but Nonsense either not accessible"),
    (["--model.network=ConvViT"], "key 'model.network': ConvViT is of another kind than is needed here; try"),
    (["--model.network=UNet", "--model.network.widht=3"], "key 'model.network': Option 'widht' is not accepted"),
    (["--model.optim.lr=abc"], "key 'model.optim.lr': Expected a float. Got value: abc."),
    (["--model.freeze=all"], "key 'model.freeze': expected one of 'none', 'backbone'. Got value: all."),
    (["--model.network={class_path: UNet, init_args: {levels: x}}"], "key 'model.network"),
]


def complaint(*argv: str) -> str:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(Task, "model", skip={"spec"})
    with pytest.raises(ArgumentError) as error:
        parser.parse_args(["--model=Segmentation", *argv])
    return str(error.value)


@pytest.mark.parametrize(("argv", "sentence"), SENTENCES, ids=[argv[-1] for argv, _ in SENTENCES])
def test_the_prose_of_jsonargparse_is_as_it_was(argv, sentence):
    TASKS.load()
    BACKBONES.load()
    raw = complaint(*argv)
    said = translate(raw, {"model": (TASKS, BACKBONES)})
    assert said.startswith(sentence), (
        f"jsonargparse says it otherwise, which messages.py reads:\n{raw}\nread as: {said}"
    )
    assert "\n" not in said
    assert not any(word in said for word in ("NestedArg", "Namespace(", "Union subtypes", "<class"))
