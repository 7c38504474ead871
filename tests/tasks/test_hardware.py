"""What a run does for the devices it finds, as far as it can be seen without them."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from jsonargparse import Namespace
from lightning.pytorch.strategies import DDPStrategy
from torch import nn

from cinema_lightning.models.baselines import ResNet50
from cinema_lightning.models.mae import MaskedAutoencoder
from cinema_lightning.models.precision import choose_float32
from cinema_lightning.tasks.classification.data import ClassificationData
from cinema_lightning.tasks.classification.task import Classification
from cinema_lightning.tasks.pretrain.data import PretrainData
from cinema_lightning.tasks.pretrain.task import Pretrain
from cinema_lightning.trainer_options import choose_precision

SIZES = {"sax": [32, 32, 4], "lax_2c": [64, 64], "lax_3c": [64, 64], "lax_4c": [64, 64]}


@pytest.fixture
def kernels():
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    yield
    torch.set_float32_matmul_precision(before[0])
    torch.backends.cudnn.allow_tf32 = before[1]


STEPS = {"accumulate_grad_batches": 1, "limit_train_batches": 1.0}


def set_up(task, data, strategy=None):
    strategy = strategy or DDPStrategy(parallel_devices=[torch.device("cpu")])
    task._trainer = SimpleNamespace(datamodule=data, world_size=1, strategy=strategy, **STEPS)
    task.setup("fit")
    return strategy


def pretrain(cohort):
    data = PretrainData(str(cohort), batch_size=2, num_workers=0, input_size=SIZES)
    data.setup("fit")
    return Pretrain(data.spec, lambda **known: MaskedAutoencoder(**known, size="tiny")), data


def test_nothing_that_never_differs_is_sent_with_each_step(phantom_cohort):
    task, data = pretrain(phantom_cohort)
    set_up(task, data)
    assert len(list(task.named_buffers())) == 9  # two position tables for each view, and the count of dropped steps
    assert {name for name, _ in task.named_buffers()} == set(task._ddp_params_and_buffers_to_ignore)
    assert {name for name in task.state_dict() if name.endswith("position.table")} == {
        f"network.{part}.{view}.position.table" for part in ("encoder.stems", "queries") for view in SIZES
    }, "they stay in checkpoints"


def test_running_statistics_are_sent(phantom_cohort):
    options = {"views": ["lax_2c"], "input_size": {"lax_2c": [64, 64]}, "dataset": "phantom"}
    data = ClassificationData(str(phantom_cohort), batch_size=2, num_workers=0, **options)
    data.setup("fit")
    task = Classification(data.spec, lambda **known: ResNet50(**known, size="tiny"))
    set_up(task, data)
    norms = [part for part in task.modules() if isinstance(part, nn.modules.batchnorm._BatchNorm)]
    sent = {name for name, _ in task.named_buffers()} - set(task._ddp_params_and_buffers_to_ignore)
    assert len(sent) == 3 * len(norms) > 0


def test_weights_without_a_gradient_are_sought_only_where_views_are_missing(phantom_cohort):
    task, data = pretrain(phantom_cohort)
    assert "find_unused_parameters" not in set_up(task, data)._ddp_kwargs
    data.train_sampler.masks = data.train_sampler.masks.copy()
    data.train_sampler.masks[0] &= np.uint8(1)
    assert set_up(task, data)._ddp_kwargs["find_unused_parameters"] is True
    own = DDPStrategy(parallel_devices=[torch.device("cpu")], find_unused_parameters=False)
    assert set_up(task, data, own)._ddp_kwargs["find_unused_parameters"] is False


@pytest.mark.parametrize(
    ("capability", "verb", "asked", "deterministic", "precision", "benchmark"),
    [
        ((7, 5), "fit", "bf16-mixed", None, "16-mixed", True),
        ((7, 5), "fit", "32-true", True, "32-true", None),
        ((8, 0), "fit", "bf16-mixed", None, "bf16-mixed", True),
        ((8, 0), "test", "bf16-mixed", None, "bf16-mixed", None),
    ],
)
def test_a_gpu_gets_what_it_is_good_at(
    monkeypatch, recwarn, capability, verb, asked, deterministic, precision, benchmark
):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    trainer = Namespace(accelerator="auto", precision=asked, benchmark=None, deterministic=deterministic)
    choose_precision(trainer, verb == "fit")
    assert (trainer.precision, trainer.benchmark) == (precision, benchmark)
    told = [str(one.message) for one in recwarn]
    assert any("This GPU has no bf16 arithmetic" in text and "training in 16-mixed" in text for text in told) == (
        asked != precision
    )


def test_float32_is_exact_in_a_test_and_fast_in_training(kernels, phantom_cohort):
    choose_float32(training=True)
    assert (torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32) == ("high", True)
    choose_float32(training=False)
    assert (torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32) == ("highest", False)
    task, data = pretrain(phantom_cohort)
    set_up(task, data, SimpleNamespace(root_device=torch.device("cuda", 0)))
    assert torch.get_float32_matmul_precision() == "high"
