"""Schedule, parameter groups, global batch."""

import json

import pytest
import torch

from cinema_lightning.tasks.optim import Optimisation, fitting_global_batch, learning_rate, parameter_groups


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
