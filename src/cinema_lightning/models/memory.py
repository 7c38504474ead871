"""How many samples go through a network at once: as many as help, and as memory holds."""

from __future__ import annotations

import math
import os
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

AT_ONCE = {"cpu": 4, "cuda": 16}
"""Samples in one pass by kind of device where nothing is said; see benchmarks/details.md, "Frames at once"."""
SHARE = 0.4
"""Share of the whole memory that a pass may take: others use some, and libraries need room to work."""
FREE_SHARE = 0.8
"""Share of the free memory that a pass may take at most."""
KEPT_OUTPUTS = 6
"""Copies of a pass's output that are there at a time: logits, probabilities, and those that wait to be written."""
AMPLE = 16384
"""Bytes a voxel of the image that no network comes near; where that fits, nothing is worked out more closely."""
_CGROUP = Path("/sys/fs/cgroup")
_OWN_GROUP = Path("/proc/self/cgroup")


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


@dataclass(frozen=True)
class Room:
    """Memory of a device that a process may use.

    Attributes:
        whole: Bytes in all, the same in every run.
        free: Bytes that are free now.
    """

    whole: int
    free: int


def room_of(device: torch.device) -> Room | None:
    """Memory of a device; None where the system does not say."""
    if device.type == "cuda":
        free, whole = torch.cuda.mem_get_info(device)
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return Room(int(whole), int(free) + cached)
    try:
        lines = (line.split() for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines())
        bytes_of = {words[0]: int(words[1]) * 1024 for words in lines}
        machine = Room(bytes_of["MemTotal:"], bytes_of["MemAvailable:"])
    except (OSError, KeyError):
        return None
    groups = [found for folder in _groups() if (found := _group_room(folder)) is not None]
    return Room(*(min(sizes) for sizes in zip(*((one.whole, one.free) for one in [machine, *groups]), strict=True)))


def _groups() -> list[Path]:
    """The folders of this process's control group and of those around it: a container's, a SLURM job's."""
    try:
        lines = _OWN_GROUP.read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    own = next((line.removeprefix("0::/") for line in lines if line.startswith("0::/")), "")
    inner = _CGROUP / own
    return [folder for folder in (inner, *inner.parents) if folder.is_relative_to(_CGROUP)]


def _group_room(folder: Path) -> Room | None:
    """What a control group may use; None where it has no limit. Files that are only cached make room when asked."""
    try:
        limit = int(folder.joinpath("memory.max").read_text(encoding="ascii"))
        used = int(folder.joinpath("memory.current").read_text(encoding="ascii"))
        lines = folder.joinpath("memory.stat").read_text(encoding="ascii").splitlines()
    except (OSError, ValueError):  # ValueError: max, no limit
        return None
    cached = next((int(line.split()[1]) for line in lines if line.startswith("inactive_file ")), 0)
    return Room(limit, min(max(limit - used + cached, 0), limit))


def samples_at_once(network: nn.Module, images: Mapping[str, Sequence[int]], device: torch.device) -> int | None:
    """How many samples to put through a network together where nobody says it.

    On a CPU numbers differ in their last digit with the size of a batch. What is free changes from run to run, so the
    whole memory decides, and the same command gives the same numbers on a machine; only where so much is not free are
    they fewer.

    Args:
        network: The network, in evaluation mode.
        images: View -> shape of one sample, (C, X, Y[, Z]).
        device: Where it computes.

    Returns:
        1 at least; no more than ``AT_ONCE``, of which ``SHARE`` of the memory holds as many. Processes of one machine
        share its memory. None where the system does not say what there is, or the network cannot be gone through
        without computing.
    """
    room = room_of(device)
    if room is None:
        return None
    beside = int(os.environ.get("LOCAL_WORLD_SIZE", "1")) if device.type == "cpu" else 1
    most = AT_ONCE.get(device.type, 1)
    held = min(SHARE * room.whole, FREE_SHARE * room.free) / beside
    if most * AMPLE * sum(map(math.prod, images.values())) < held:
        return most
    try:
        one = pass_bytes(network, {view: (1, *shape) for view, shape in images.items()}, device)
    except Exception:  # a network of a plug-in may ask for values, which nothing computed
        return None
    return max(1, min(most, int(held / one)))
