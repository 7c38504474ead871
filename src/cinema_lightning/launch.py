"""How many processes were started, which of them this one is, and whether the configuration agrees with that."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import torch
from lightning.fabric.plugins.environments import ClusterEnvironment, LightningEnvironment, TorchElasticEnvironment
from lightning.pytorch.plugins.environments import SLURMEnvironment

from cinema_lightning.errors import CinemaError

RANKS = (
    "RANK",
    "NODE_RANK",
    "GROUP_RANK",
    "LOCAL_RANK",
    "SLURM_PROCID",
    "OMPI_COMM_WORLD_RANK",
    "PMI_RANK",
    "JSM_NAMESPACE_RANK",
)
"""Where launchers say which process this is: torchrun, Lightning itself, SLURM, MPI, LSF."""


def other_rank() -> str | None:
    """What says that this is not the first process, such as ``SLURM_PROCID=1``; None in the first, or the only one."""
    # all of them: a process that Lightning launched inside a single SLURM task differs in LOCAL_RANK only
    return next((f"{key}={os.environ[key]}" for key in RANKS if os.environ.get(key, "0") not in ("", "0")), None)


def is_first_process() -> bool:
    """True in the process that makes the run folder: rank 0, or the only one."""
    return other_rank() is None


def layout(trainer: Mapping[str, Any]) -> tuple[int, int]:
    """Devices of a node and nodes, as these trainer options say.

    Raises:
        CinemaError: If the devices are no number and no list.
    """
    devices = trainer.get("devices", "auto")
    if isinstance(devices, str) and "," in devices:
        devices = [part for part in devices.split(",") if part.strip()]
    if isinstance(devices, list | tuple):
        devices = len(devices)
    if devices in ("auto", -1, "-1"):
        cuda = trainer.get("accelerator") in ("auto", "gpu", "cuda")
        devices = torch.cuda.device_count() if cuda else 1
    if not str(devices).isdigit():
        raise CinemaError(f"trainer.devices is {devices}; write how many, or a list of their numbers.")
    return max(int(devices), 1), int(trainer.get("num_nodes") or 1)


def check(trainer: Mapping[str, Any]) -> None:
    """Several processes that each take themselves for the only one would do the same work into one folder.

    Args:
        trainer: Options of the trainer.

    Raises:
        CinemaError: If more processes were started than the options make use of, or another number of them.
    """
    devices, nodes = layout(trainer)
    processes = devices * nodes
    source, started = _started(processes)
    if processes == 1 and (started > 1 or other_rank()):
        raise CinemaError(alone(other_rank() or f"{source}={started}"))
    if processes > 1 and started not in (1, processes):
        raise CinemaError(
            f"{source} is {started}, but trainer.devices {devices} x trainer.num_nodes {nodes} are {processes} "
            "processes; make them equal."
        )
    slurm = (("SLURM_NTASKS_PER_NODE", "trainer.devices", devices), ("SLURM_NNODES", "trainer.num_nodes", nodes))
    for variable, option, count in slurm if source.startswith("SLURM") and started == processes > 1 else ():
        if os.environ.get(variable, str(count)) != str(count):
            raise CinemaError(f"{variable} is {os.environ[variable]}, but {option} is {count}; make them equal.")


def alone(what: str) -> str:
    """The sentence for a process that is not the only one, and that would train as if it were."""
    return (
        f"{what} says that this is one of several processes, but the configuration gives each of them a training of "
        "its own: set --trainer.devices (per node) and --trainer.num_nodes to what was started, or start one process."
    )


def _started(processes: int) -> tuple[str, int]:
    """Which variable says how many processes were started, and how many; 1 where nothing does."""
    keys = ["OMPI_COMM_WORLD_SIZE", "SLURM_STEP_NUM_TASKS"]
    if "RANK" in os.environ or "LOCAL_RANK" in os.environ:
        keys.insert(0, "WORLD_SIZE")
    if processes > 1 and SLURMEnvironment.detect() and "SLURM_PROCID" in os.environ:
        # of a whole job, which a single process may have for itself
        keys.append("SLURM_NTASKS")
    return next(((key, int(os.environ[key])) for key in keys if os.environ.get(key, "").isdigit()), ("", 1))


def environment(trainer: Mapping[str, Any]) -> ClusterEnvironment | None:
    """How ranks are told apart where Lightning would choose badly; None leaves the choice to it.

    Args:
        trainer: Options of the trainer.

    Raises:
        CinemaError: If SLURM's variables contradict each other.
    """
    if TorchElasticEnvironment.detect() or not SLURMEnvironment.detect():
        return None
    devices, nodes = layout(trainer)
    if devices * nodes == 1 or "SLURM_PROCID" not in os.environ or os.environ["SLURM_NTASKS"] == "1":
        if nodes > 1:
            raise CinemaError(f"trainer.num_nodes is {nodes}, but srun did not start this; start it with srun.")
        return LightningEnvironment()
    try:
        # Lightning's requeueing writes a checkpoint inside the signal handler; see callbacks/checkpoint.py
        return SLURMEnvironment(auto_requeue=False)
    except RuntimeError as error:
        raise CinemaError(f"SLURM's variables do not say where the tasks are: {error}") from error
