"""A trained network with its task, built from whatever holds it: a checkpoint of a run, or published weights."""

from __future__ import annotations

from argparse import ArgumentError
from pathlib import Path
from typing import Any

from lightning.pytorch.cli import instantiate_module

from cinema_lightning.datasets.base import DATASETS
from cinema_lightning.errors import CinemaError
from cinema_lightning.messages import translate
from cinema_lightning.registry import TASKS
from cinema_lightning.weights.compatibility import buildable, check_fits
from cinema_lightning.weights.files import load_checkpoint, locate, read_note, read_shapes
from cinema_lightning.weights.finetuned import finetuned_facts, is_finetuned, trained_on
from cinema_lightning.weights.published import PUBLISHED, published_network

_TARGETS = {"cvd": "pathology", "ef": "ef"}
"""Second half of a published task folder -> its column, where they differ."""


def trained_task(path: Path) -> tuple[Any, dict[str, Any]]:
    """Builds the task that a file was trained for, with its weights.

    Args:
        path: A checkpoint (.ckpt) of a run, or safetensors in the published layout, ``config.yaml`` beside it.

    Returns:
        (the task on the CPU, as built; its hyperparameters).

    Raises:
        CinemaError: If the file cannot be read, holds another network, or does not say what it is for.
    """
    if path.suffix == PUBLISHED:
        hparams, state = published_network(path, _configuration(path))
        task = _built(buildable(hparams, path), path)
        task.network.load_state_dict(state)
        return task, hparams
    content = load_checkpoint(path)
    hparams = buildable(content["hyper_parameters"], path)
    task = _built(hparams, path)
    check_fits(task, path)
    task.load_state_dict(content["state_dict"])
    return task, hparams


def _built(hparams: dict[str, Any], path: Path) -> Any:
    try:
        return instantiate_module(TASKS[hparams["_class_path"].rsplit(".", 1)[-1]], hparams)
    except ArgumentError as error:
        raise CinemaError(f"{path} describes a network that cannot be built: {translate(str(error))}") from error


def _configuration(path: Path) -> dict[str, Any]:
    """What a user would say on the command line of the task and dataset of a published file."""
    shapes, note = read_shapes(path), read_note(path)
    if not is_finetuned(shapes) or "task" in note:
        return {}
    config = locate(path)[1]
    facts, dataset = finetuned_facts(path, config, shapes, note), trained_on(path, config, note)
    folder = path.parent.parent.name
    column = folder.partition("_")[2]
    options = {
        "dataset": dataset if dataset in DATASETS else None,
        "target": facts.get("target") or _TARGETS.get(column, column),
        "landmarks": facts.get("landmarks"),
    }
    task = {"class_path": _task_of(path, folder, facts)}
    return {"model": task, "data": {"init_args": {key: value for key, value in options.items() if value}}}


def _task_of(path: Path, folder: str, facts: dict[str, Any]) -> str:
    """Name of the task of a published file: by its kind of network, what is said of its outputs, and its folder."""
    dense, marks = facts["network"] == "ConvUNetR", "landmarks" in facts or folder.startswith("landmark")
    if dense:
        return "LandmarkHeatmap" if marks else "Segmentation"
    if marks:
        return "LandmarkCoordinate"
    if "mean" in facts:
        return "Regression"
    if "class_names" in facts or folder.startswith("classification"):
        return "Classification"
    raise CinemaError(
        f"{path} does not say what its {facts['outputs']} outputs are: put its config.yaml beside it, or keep it in "
        "the folder in which it is published (finetuned/<task>/<data>_<view>/)."
    )
