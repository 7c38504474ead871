"""Whether a checkpoint, a configuration and a network belong together, said in one sentence where they do not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cinema_lightning.callbacks.checkpoint import load_checkpoint
from cinema_lightning.data import DATA
from cinema_lightning.errors import CinemaError
from cinema_lightning.models import BACKBONES
from cinema_lightning.models.mae import MaskedAutoencoder
from cinema_lightning.models.weights import load_published_mae
from cinema_lightning.tasks import TASKS
from cinema_lightning.tasks.pretrain import Pretrain
from cinema_lightning.views import get_view

PUBLISHED = ".safetensors"
"""Ending of published weights."""


def differences(a: Any, b: Any, key: str) -> list[str]:
    """Keys under which two configurations differ; keys that one of them lacks come from another version."""
    if isinstance(a, dict) and isinstance(b, dict):
        return [
            found
            for name in sorted(a.keys() & b.keys())
            for found in differences(a[name], b[name], key if name == "init_args" else f"{key}.{name}")
        ]
    return [] if a == b else [key]


def refuse_foreign_classes(hparams: Any, path: Path | None) -> None:
    """A checkpoint may name registered classes of this package and of plug-ins, nothing else: names run code.

    Raises:
        CinemaError: If it names another.
    """
    allowed = {
        f"{cls.__module__}.{cls.__qualname__}"
        for registry in (TASKS, DATA, BACKBONES)
        for cls in map(registry.__getitem__, registry)
    } | {f"{MaskedAutoencoder.__module__}.{MaskedAutoencoder.__qualname__}"}
    for name in _class_paths(hparams):
        if name not in allowed:
            raise CinemaError(
                f"{path} asks for the class {name}, which is not part of this package or an installed plug-in; refused."
            )


def published_network(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Hyperparameters and weights of a published masked autoencoder, as a checkpoint of ours would hold them.

    Args:
        path: The safetensors file, a ``config.yaml`` beside it where there is one.

    Returns:
        (hyperparameters of the pretraining task, state dict of its network).

    Raises:
        CinemaError: If the file is of another layout.
    """
    network = load_published_mae(path)
    given = ("views", "input_size", "channels")
    options = {key: value for key, value in network.config.items() if key not in given}
    sizes = network.config["input_size"] or {}
    spec = {
        "views": list(network.views),
        "input_size": {view: list(sizes.get(view, get_view(view).input_size)) for view in network.views},
        "channels": network.config["channels"],
    }
    kind = f"{MaskedAutoencoder.__module__}.{MaskedAutoencoder.__qualname__}"
    hparams = {
        "_class_path": f"{Pretrain.__module__}.{Pretrain.__qualname__}",
        "spec": spec,
        "network": {"class_path": kind, "init_args": options},
    }
    return hparams, network.state_dict()


def check_fits(model: Any, path: Path) -> None:
    """Says in one sentence when a checkpoint holds another network, before Lightning loads it."""
    ours = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    theirs = {key: tuple(value.shape) for key, value in load_checkpoint(path, mmap=True)["state_dict"].items()}
    differing = sorted(key for key in ours.keys() | theirs.keys() if ours.get(key) != theirs.get(key))
    if differing:
        what = [f"{key} ({theirs.get(key, 'absent')} there, {ours.get(key, 'absent')} here)" for key in differing[:3]]
        raise CinemaError(
            f"{path} holds another network: {len(differing)} weights differ, first {', '.join(what)}. Use the "
            "configuration it was trained with, or another checkpoint."
        )


def _class_paths(value: Any) -> list[str]:
    """Names of classes and functions that building from these hyperparameters would import."""
    if isinstance(value, dict):
        own = [str(value[key]) for key in ("class_path", "_class_path") if key in value]
        if isinstance(value.get("network"), str):  # a function may stand in the place of a class, by its name alone
            own.append(value["network"])
        return own + [name for item in value.values() for name in _class_paths(item)]
    if isinstance(value, list | tuple):
        return [name for item in value for name in _class_paths(item)]
    return []
