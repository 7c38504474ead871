"""How many samples go through a network at once: as many as help, and as memory holds."""

from __future__ import annotations

import math
import os
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

AT_ONCE = {"cpu": 4, "cuda": 16}
"""Samples in one pass by kind of device where nothing is said; see benchmarks/details.md, "Frames at once"."""
SHARE = 0.5
"""Share of the free memory that a pass may take: libraries need room to work, and results wait to be written."""
KEPT_OUTPUTS = 6
"""Copies of a pass's output that are there at a time: logits, probabilities, and those that wait to be written."""
AMPLE = 16384
"""Bytes a voxel of the image that no network comes near; where that fits, nothing is worked out more closely."""
_CGROUP = Path("/sys/fs/cgroup")


class Peak(TorchDispatchMode):
    """Adds up what is allocated and freed while it is on.

    Args:
        there: Tensors that were there before and do not count.

    Attributes:
        most: Most bytes at a time.
    """

    def __init__(self, there: Iterable[Tensor]) -> None:
        super().__init__()
        self.most = self._now = 0
        self._there = [tensor.untyped_storage() for tensor in there]  # held, so that no other gets one's id
        self._known: dict[int, Any] = {id(storage): storage for storage in self._there}

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor):
                self._add(tensor.untyped_storage())
        return out

    def _add(self, storage: torch.UntypedStorage) -> None:
        key = id(storage)
        if key in self._known:
            return
        size = storage.nbytes()
        self._now += size
        self.most = max(self.most, self._now)

        def freed(_: Any) -> None:
            self._now -= size
            self._known.pop(key, None)

        self._known[key] = weakref.ref(storage, freed)


def pass_bytes(network: nn.Module, images: Mapping[str, Sequence[int]], device: torch.device) -> int:
    """Memory that one pass takes beside the weights, by going through the network without computing anything.

    Args:
        network: The network, in evaluation mode.
        images: View -> shape of a batch, (B, C, X, Y[, Z]).
        device: Where it would compute; kernels differ in what they need.

    Returns:
        Bytes in float32, the images and some copies of the outputs included.
    """
    from torch._subclasses.fake_tensor import FakeTensorMode  # takes a second

    with torch.no_grad(), torch.compiler.set_stance("force_eager"), FakeTensorMode(allow_non_fake_inputs=True) as fake:
        state = {**dict(network.named_parameters()), **dict(network.named_buffers())}
        weights: dict[str, Tensor] = {name: fake.from_tensor(value.detach()) for name, value in state.items()}
        inputs = {view: torch.empty(tuple(shape), device=device) for view, shape in images.items()}
        with Peak([*weights.values(), *inputs.values()]) as peak:
            output = torch.func.functional_call(network, weights, (inputs,))
        outputs = sum(tensor.nbytes for tensor in tree_leaves(output) if isinstance(tensor, Tensor))
    return peak.most + KEPT_OUTPUTS * outputs + sum(image.nbytes for image in inputs.values())


def free_bytes(device: torch.device) -> int | None:
    """Memory that is free on a device; None where the system does not say."""
    if device.type == "cuda":
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + cached
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        return None
    return min(free, _left_in_group(free))


def _left_in_group(otherwise: int) -> int:
    """What a container or a SLURM job may still take."""
    try:
        limit, used = (_CGROUP.joinpath(f"memory.{name}").read_text(encoding="ascii") for name in ("max", "current"))
        return otherwise if limit.strip() == "max" else max(int(limit) - int(used), 0)
    except (OSError, ValueError):
        return otherwise


def samples_at_once(network: nn.Module, images: Mapping[str, Sequence[int]], device: torch.device) -> int | None:
    """How many samples to put through a network together where nobody says it.

    Args:
        network: The network, in evaluation mode.
        images: View -> shape of one sample, (C, X, Y[, Z]).
        device: Where it computes.

    Returns:
        1 at least; no more than ``AT_ONCE``, of which half of the free memory holds as many. Processes of one machine
        share its memory. None where the system does not say what is free, or the network cannot be gone through
        without computing.
    """
    free = free_bytes(device)
    if free is None:
        return None
    beside = int(os.environ.get("LOCAL_WORLD_SIZE", "1")) if device.type == "cpu" else 1
    most = AT_ONCE.get(device.type, 1)
    if most * AMPLE * sum(map(math.prod, images.values())) < SHARE * free / beside:
        return most
    try:
        one = pass_bytes(network, {view: (1, *shape) for view, shape in images.items()}, device)
    except Exception:  # a network of a plug-in may ask for values, which nothing computed
        return None
    return max(1, min(most, int(SHARE * free / beside / one)))
