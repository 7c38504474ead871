"""What a published file is for: the task and dataset that a user would name on the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cinema_lightning.datasets.base import DATASETS
from cinema_lightning.errors import CinemaError
from cinema_lightning.weights.files import locate, read_note, read_shapes
from cinema_lightning.weights.finetuned import finetuned_facts, is_finetuned, trained_on

_TARGETS = {"cvd": "pathology", "ef": "ef"}
"""Second half of a published task folder -> its column, where they differ."""


def purpose_of(path: Path) -> dict[str, Any]:
    """The configuration of a command for which a published file was made.

    Args:
        path: The safetensors file, ``config.yaml`` beside it where there is one.

    Returns:
        Task, dataset, target and landmarks, as far as the file, its configuration and its folder say; empty where the
        file needs none, as it says itself what it holds.

    Raises:
        CinemaError: If nothing says what its outputs are.
    """
    shapes, note = read_shapes(path), read_note(path)
    if not is_finetuned(shapes) or "task" in note:
        return {}
    config = locate(path)[1]
    facts, dataset = finetuned_facts(path, config, shapes, note), trained_on(path, config, note)
    folder = path.parent.parent.name
    dataset = dataset or ("landmark" if folder.startswith("landmark") else None)
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
