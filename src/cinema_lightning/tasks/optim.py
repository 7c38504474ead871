"""The one optimiser recipe: AdamW, linear warm-up, half-cosine decay (arXiv 2506.00679, public release).

Also which weights learn, and how fast: decay from layer to layer, a frozen backbone.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import nn

from cinema_lightning.errors import CinemaError
from cinema_lightning.models.backbone import DenseBackbone, PooledBackbone
from cinema_lightning.weights.layout import published_name


@dataclass
class Optimisation:
    """How the weights are optimised.

    Args:
        lr: Peak learning rate.
        min_lr: Learning rate at the end of the half-cosine.
        warmup_epochs: Epochs of linear warm-up from 0.
        weight_decay: AdamW's decay of weights with two or more dimensions; vectors (biases, norms) are not decayed.
        betas: AdamW's moment decays.
        global_batch: Samples per optimiser step over all devices, which the learning rate is for. Batches are
            accumulated to reach it on few devices and made smaller on many; it is halved until it is no larger than
            the training set. None: one batch per device and step.
        scale_lr: Where steps are of another size than ``global_batch``, multiply the learning rate by the ratio of the
            two (the linear rule of Goyal et al., arXiv 1706.02677).
        max_skipped: Steps in a row that may be skipped because of a non-finite loss or gradient before the run ends.
    """

    lr: float = 1e-3
    min_lr: float = 1e-6
    warmup_epochs: float = 10.0
    weight_decay: float = 0.05
    betas: tuple[float, float] = (0.9, 0.95)
    global_batch: int | None = None
    scale_lr: bool = True
    max_skipped: int = 10


@dataclass(frozen=True)
class Pace:
    """What the schedule counts with.

    Attributes:
        steps: Optimiser steps of an epoch.
        scale: Factor of the learning rate where a step is not of the samples that the rate is for.
        lr: Peak rate that the optimiser's groups were made with.
    """

    steps: float
    scale: float
    lr: float


def learning_rate(epoch: float, max_epochs: float, settings: Optimisation) -> float:
    """Learning rate at a (fractional) epoch.

    Args:
        epoch: Epochs done so far, with the fraction of the running one.
        max_epochs: Length of the whole run, epochs.
        settings: Peak, minimum and warm-up.

    Returns:
        Linear from 0 to ``lr`` over the warm-up, then half a cosine down to ``min_lr``, which is kept afterwards.
    """
    if epoch < settings.warmup_epochs:
        return settings.lr * epoch / settings.warmup_epochs
    span = max_epochs - settings.warmup_epochs
    done = min((epoch - settings.warmup_epochs) / span, 1.0) if span > 0 else 1.0
    return settings.min_lr + (settings.lr - settings.min_lr) * 0.5 * (1.0 + math.cos(math.pi * done))


def parameter_groups(parameters: Iterable[tuple[str, nn.Parameter]], weight_decay: float) -> list[dict[str, object]]:
    """Splits trainable parameters into decayed (two or more dimensions) and undecayed (vectors, scalars) groups."""
    decayed: list[nn.Parameter] = []
    plain: list[nn.Parameter] = []
    for _, parameter in parameters:
        if parameter.requires_grad:
            (plain if parameter.ndim <= 1 else decayed).append(parameter)
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": plain, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


def fitting_global_batch(wanted: int, n_samples: int) -> int:
    """Halves the global batch until it is no larger than the training set (EMIDEC 32, MyoPS 16 in the paper)."""
    while wanted > max(n_samples, 1):
        wanted //= 2
    return max(wanted, 1)


def divided(wanted: int, batch_size: int, devices: int) -> tuple[int, int]:
    """Divides a global batch over devices and batches.

    Args:
        wanted: Samples of a step.
        batch_size: Largest batch of a device.
        devices: Number of devices.

    Returns:
        Size of a device's batch, and how many make a step: ``wanted`` samples where the number of devices divides it,
        else somewhat fewer; more where there are more devices than that.
    """
    share = wanted / devices
    if wanted % devices:
        count = max(1, math.ceil(share / batch_size))
        return max(1, int(share / count)), count
    size = max(n for n in range(1, batch_size + 1) if share % n == 0)
    return size, wanted // devices // size


def adamw(groups: list[dict[str, object]], settings: Optimisation, fused: bool = True) -> torch.optim.AdamW:
    """AdamW in its fused form, which reads and writes each moment once (a third of the time of the plain loop)."""
    return torch.optim.AdamW(groups, lr=settings.lr, betas=settings.betas, fused=fused)


def layer_scales(network: nn.Module, weight_decay: float, rate: float) -> dict[str, tuple[float, float]]:
    """Learning-rate scale and weight decay of every trained parameter.

    With L transformer blocks, stems, fusion, class token and embeddings are layer 0, block i is layer i + 1, the rest
    (the encoder's final norm, decoders, heads) layer L + 1; the scale is ``rate ** (L + 1 - layer)``. A network
    without a transformer learns at one rate. Vectors are not decayed.

    Args:
        network: The network.
        weight_decay: Decay of parameters with two or more dimensions.
        rate: Decay from layer to layer, 0.75 in the published recipe; 1 switches it off.

    Returns:
        Parameter name in the network -> (scale, weight decay).

    Raises:
        CinemaError: For a rate outside (0, 1].
    """
    if not 0 < rate <= 1:
        raise CinemaError(f"The layer decay is {rate}; give a number above 0 and up to 1.")
    names = {name: published_name(name) for name, p in network.named_parameters() if p.requires_grad}
    blocks = [int(match[1]) for name in _all_names(network) if (match := _BLOCK.match(name))]
    last = max(blocks, default=-1) + 2
    parameters = dict(network.named_parameters())
    return {
        own: (rate ** (last - _layer(name, last)), weight_decay if parameters[own].ndim > 1 else 0.0)
        for own, name in names.items()
    }


_BLOCK = re.compile(r"^encoder\.blocks\.(\d+)\.")


def _all_names(network: nn.Module) -> list[str]:
    return [published_name(name) for name, _ in network.named_parameters()]


def _layer(name: str, last: int) -> int:
    if match := _BLOCK.match(name):
        return int(match[1]) + 1
    return 0 if name.startswith(("enc_down_dict.", "enc_fusion_dict.", "encoder.cls_token")) else last


def layer_decay_groups(
    network: nn.Module, lr: float, weight_decay: float, rate: float = 0.75
) -> list[dict[str, object]]:
    """Optimiser groups with layer-wise decayed learning rates, see :func:`layer_scales`.

    Args:
        network: The network.
        lr: Peak learning rate of the last layer.
        weight_decay: Decay of parameters with two or more dimensions.
        rate: Decay from layer to layer.

    Returns:
        One group per pair of learning rate and weight decay, with its ``name``, low layers first.
    """
    parameters = dict(network.named_parameters())
    members: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, key in layer_scales(network, weight_decay, rate).items():
        members.setdefault(key, []).append(parameters[name])
    return [
        {"params": params, "lr": lr * scale, "weight_decay": decay, "name": f"scale_{scale:.4g}_decay_{decay:.4g}"}
        for (scale, decay), params in sorted(members.items(), key=lambda item: item[0])
    ]


def freeze_backbone(network: DenseBackbone | PooledBackbone) -> None:
    """Freezes all but the heads (and a ConvUNetR's decoders), for a linear probe.

    The frozen parts also stay in evaluation mode: no dropout, no stochastic depth, fixed batch statistics.

    Args:
        network: Changed in place.
    """
    trained = [p for head in network.head_modules() for p in head.parameters() if p.requires_grad]
    network.requires_grad_(False)
    for parameter in trained:
        parameter.requires_grad_(True)
    network.backbone_frozen = True
    network.train(network.training)
