"""Schedule, parameter groups, global batch."""

import json
import warnings
from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from cinema_lightning.models.mae import MaskedAutoencoder
from cinema_lightning.tasks.optim import (
    Optimisation,
    divided,
    fitting_global_batch,
    learning_rate,
    parameter_groups,
)
from cinema_lightning.tasks.pretrain.data import PretrainData
from cinema_lightning.tasks.pretrain.task import Pretrain

SMALL = {"sax": [32, 32, 4], "lax_2c": [64, 64], "lax_3c": [64, 64], "lax_4c": [64, 64]}


def test_schedule_is_the_published_one(golden):
    wanted = json.loads((golden / "misc" / "scalars.json").read_text())["lr_schedule"]
    settings = Optimisation(lr=wanted["peak"], min_lr=wanted["minimum"], warmup_epochs=wanted["warmup_epochs"])
    for epoch, value in wanted["values"].items():
        assert learning_rate(float(epoch), wanted["epochs"], settings) == pytest.approx(value, rel=1e-6, abs=1e-12)


def test_schedule_without_warm_up_or_decay_stays_finite():
    assert learning_rate(0, 10, Optimisation(warmup_epochs=0)) == pytest.approx(1e-3)
    assert learning_rate(10, 10, Optimisation(warmup_epochs=10)) == pytest.approx(1e-6)


def test_vectors_are_not_decayed_and_frozen_weights_left_out():
    layer = torch.nn.Linear(3, 2)
    frozen = torch.nn.Parameter(torch.zeros(2, 2), requires_grad=False)
    groups = parameter_groups([*layer.named_parameters(), ("frozen", frozen)], 0.05)
    assert [(len(g["params"]), g["weight_decay"]) for g in groups] == [(1, 0.05), (1, 0.0)]


@pytest.mark.parametrize(("n", "batch"), [(100, 64), (47, 32), (20, 16), (1, 1), (0, 1)])
def test_global_batch_is_halved_to_fit_the_training_set(n, batch):
    assert fitting_global_batch(64, n) == batch


@pytest.mark.parametrize(
    ("wanted", "batch_size", "devices", "size", "count"),
    [
        (64, 16, 1, 16, 4),
        (64, 16, 4, 16, 1),
        (64, 16, 8, 8, 1),
        (64, 16, 64, 1, 1),
        (64, 24, 1, 16, 4),
        (64, 4, 2, 4, 8),
        (64, 16, 6, 10, 1),  # 60
        (64, 4, 3, 3, 6),  # 54
        (64, 16, 128, 1, 1),  # 128
        (16, 4, 3, 2, 2),  # 12
    ],
)
def test_the_global_batch_is_divided_over_devices(wanted, batch_size, devices, size, count):
    assert divided(wanted, batch_size, devices) == (size, count)
    if wanted % devices == 0:
        assert size * count * devices == wanted


class Eight(PretrainData):
    """Eight studies that train."""

    def samples(self, split):
        return np.arange(8), None


class Devices(SimpleNamespace):
    """A trainer with some devices, as far as a task's setup asks."""

    def __init__(self, datamodule, world_size, accumulate_grad_batches=1):
        super().__init__(
            datamodule=datamodule,
            world_size=world_size,
            global_rank=0,
            accumulate_grad_batches=accumulate_grad_batches,
            limit_train_batches=1.0,
            max_epochs=10,
            precision_plugin=None,
            lightning_module=None,
            training=True,
            strategy=SimpleNamespace(root_device=torch.device("cpu")),
        )


@pytest.mark.parametrize(
    ("devices", "options", "batch_size", "accumulated", "factor"),
    [
        (1, {}, 4, 2, 1),
        (2, {}, 4, 1, 1),
        (4, {}, 2, 1, 1),
        (8, {}, 1, 1, 1),
        (3, {}, 1, 2, 6 / 8),
        (3, {"scale_lr": False}, 1, 2, 1),
        (2, {"global_batch": 4}, 2, 1, 1),
        (8, {"global_batch": 4}, 1, 1, 2),
        (1, {"global_batch": None}, 4, 1, 1),
    ],
)
def test_the_published_step_is_kept_or_the_rate_scaled(
    phantom_cohort, devices, options, batch_size, accumulated, factor
):
    data = Eight(str(phantom_cohort), batch_size=4, input_size=SMALL, val_fraction=0.2)
    data.trainer = Devices(data, devices)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # 32 samples at once are too many of 8: the data module says so
        data.setup("fit")
    task = Pretrain(data.spec, lambda **known: MaskedAutoencoder(**known, size="tiny"))
    task.optim = Optimisation(**{"global_batch": 8, "lr": 0.01, "warmup_epochs": 0} | options)
    task._trainer = data.trainer
    task.setup("fit")
    assert (data.batch_size, data.train_sampler.batch_size) == (batch_size, batch_size)
    assert data.trainer.accumulate_grad_batches == accumulated
    said = pytest.warns(UserWarning, match="samples instead of optim.global_batch")
    with nullcontext() if factor == 1 and "scale_lr" not in options else said:
        optimizer = task.configure_optimizers()["optimizer"]
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.01 * factor)


def test_accumulation_that_a_user_sets_scales_the_rate_too(phantom_cohort):
    data = Eight(str(phantom_cohort), batch_size=2, input_size=SMALL, val_fraction=0.2)
    data.trainer = Devices(data, 1, accumulate_grad_batches=2)
    data.setup("fit")
    task = Pretrain(data.spec, lambda **known: MaskedAutoencoder(**known, size="tiny"))
    task.optim = Optimisation(global_batch=8, lr=0.01, warmup_epochs=0)
    task._trainer = data.trainer
    task.setup("fit")
    assert data.trainer.accumulate_grad_batches == 2
    with pytest.warns(UserWarning, match="takes 4 samples instead of optim.global_batch 8.* multiplied by 0.5"):
        assert task.configure_optimizers()["optimizer"].param_groups[0]["lr"] == pytest.approx(0.005)
