"""A task with its weights, from a checkpoint of a run or a published file."""

from __future__ import annotations

from argparse import ArgumentError
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch.cli import instantiate_module

from cinema_lightning import runs
from cinema_lightning.data.facts import PHANTOM
from cinema_lightning.errors import CinemaError
from cinema_lightning.messages import translate
from cinema_lightning.registry import TASKS
from cinema_lightning.weights.compatibility import buildable, check_fits
from cinema_lightning.weights.files import load_checkpoint, locate
from cinema_lightning.weights.published import PUBLISHED, published_network
from cinema_lightning.weights.purpose import purpose_of


def load_task(path: Path, config: Mapping[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
    """Builds the task that a file holds, and loads its weights.

    Args:
        path: A checkpoint (.ckpt), or a published file (.safetensors).
        config: The configuration of the command, which says what task a published network is for; by default what
            the file, its configuration and its folder say.

    Returns:
        (the task on the CPU, the hyperparameters that it was built from).

    Raises:
        CinemaError: If the file cannot be read, or this version cannot build what it describes.
    """
    published = path.suffix == PUBLISHED
    if published:
        found, weights = published_network(path, dict(purpose_of(path) if config is None else config))
    else:
        content = load_checkpoint(path)
        found, weights = content["hyper_parameters"], content["state_dict"]
    hparams = buildable(found, path)
    if not published and "phantoms" not in hparams["spec"] and _has_seen_phantoms(hparams["spec"], path):
        hparams = hparams | {"spec": hparams["spec"] | {"phantoms": True}}
    try:
        task: Any = instantiate_module(TASKS[hparams["_class_path"].rsplit(".", 1)[-1]], hparams)
    except ArgumentError as error:
        raise CinemaError(f"{path} describes a network that cannot be built: {translate(str(error))}") from error
    if published:
        task.network.load_state_dict(weights)
    else:
        check_fits(task, path)
        task.load_state_dict(weights)
    return task, hparams


def trained_with(paths: Sequence[Path | None], data: type) -> dict[str, tuple[dict[str, Any], dict[str, Any]]]:
    """What checkpoints keep of the data that their networks were trained on.

    Args:
        paths: The files; published ones, which keep nothing of it, are passed over.
        data: The class of the data module.

    Returns:
        Path -> the facts of the data (``spec``), and the data module's state, empty where it is of another class.
    """
    files = [path for path in paths if path is not None and path.suffix != PUBLISHED]
    found = {str(path): load_checkpoint(path, mmap=True) for path in files}
    return {
        name: (content["hyper_parameters"].get("spec") or {}, content.get(data.__qualname__) or {})
        for name, content in found.items()
    }


def _has_seen_phantoms(spec: Mapping[str, Any], path: Path) -> bool:
    """Whether a network of before checkpoints said so was trained on phantoms, by its dataset or its run.

    What named no dataset was nearly always phantoms; a store of people that names none is taken for them, too.
    """
    if "dataset" not in spec:  # of a pretraining
        return False
    if spec["dataset"] == PHANTOM:
        return True
    try:
        saved = runs.saved(path.resolve().parent.parent) or {}
        root, phantoms = saved["data"]["init_args"]["root"], saved["phantom"]["root"]
    except (CinemaError, OSError, KeyError, TypeError):  # another program's file, or one that says nothing
        return False
    return bool(root and phantoms) and Path(str(root)) == Path(str(phantoms)) / str(spec["dataset"])


def keep_depth(checkpoint: Path, run: Path | None, config: Any) -> None:
    """What is resumed goes on with the depth of stacks that it began with.

    A run that names a depth is compared with the configuration later; one of before there was a choice, and a
    checkpoint that lies outside of its run, is what it says of itself, by default padded.

    Args:
        checkpoint: The checkpoint.
        run: Folder of the run, where there is one.
        config: The configuration; changed in place.
    """
    options = ((runs.saved(run) if run is not None else None) or {}).get("data") or {}
    if config.data.init_args.get("depth") is None or "depth" in (options.get("init_args") or {}):
        return
    spec = load_checkpoint(checkpoint, mmap=True)["hyper_parameters"].get("spec") or {}
    config.data.init_args.depth = spec.get("depth", "padded")


def find_checkpoint(given: str | None, root: Path, name: str, verb: str) -> tuple[Path | None, Path | None]:
    """A checkpoint, or published weights, and the run that it is of, see :func:`runs.resolve_checkpoint`.

    Raises:
        CinemaError: If there is none, or published weights are to be resumed.
    """
    if given is None or not given.endswith(PUBLISHED):
        return runs.resolve_checkpoint(given, root, name, verb)
    if verb == "fit":
        raise CinemaError(f"--ckpt_path {given}: weights are no state to resume; give a .ckpt file of a run.")
    return locate(given)[0], None
