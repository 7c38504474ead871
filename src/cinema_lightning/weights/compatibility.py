"""Whether a checkpoint and a network belong together, said in one sentence where they do not."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from cinema_lightning.errors import CinemaError
from cinema_lightning.models.mae import MaskedAutoencoder
from cinema_lightning.registry import BACKBONES, DATA, TASKS
from cinema_lightning.weights.files import load_checkpoint
from cinema_lightning.weights.foreign import unfit


def refuse_foreign_classes(hparams: Any, path: Path | None) -> None:
    """A checkpoint may name registered classes of this package and of plug-ins, nothing else: names run code.

    Raises:
        CinemaError: If it names another.
    """
    registered = (registry[name] for registry in (TASKS, DATA, BACKBONES) for name in registry)
    allowed = {name for cls in (*registered, MaskedAutoencoder) for name in _names(cls)}
    for name in _class_paths(hparams):
        if name not in allowed:
            raise CinemaError(
                f"{path} asks for the class {name}, which is not part of this package or an installed plug-in; refused."
            )


def buildable(hparams: dict[str, Any], path: Path) -> dict[str, Any]:
    """Hyperparameters from which the task of a checkpoint is built again.

    Args:
        hparams: What the checkpoint holds.
        path: Where it is, for messages.

    Returns:
        Them without what only its making needed: who built it, and other weights that it started from.

    Raises:
        CinemaError: If they are of no task, or name foreign classes.
    """
    if "_class_path" not in hparams or "spec" not in hparams:
        raise unfit(path)
    refuse_foreign_classes(hparams, path)
    kept = {key: value for key, value in hparams.items() if key != "_instantiator"}
    return kept | ({"weights": None} if "weights" in kept else {})


def check_fits(model: Any, path: Path) -> None:
    """Says in one sentence when a checkpoint holds another network, before Lightning loads it."""
    ours = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    theirs = {key: tuple(value.shape) for key, value in load_checkpoint(path, mmap=True)["state_dict"].items()}
    later = {f"{name}.{leaf}" for name, part in model.named_modules() for leaf in getattr(part, "may_lack", ())}
    known = theirs.keys() | (ours.keys() - later)
    differing = sorted(key for key in known if ours.get(key) != theirs.get(key))
    if differing:
        what = [f"{key} ({theirs.get(key, 'absent')} there, {ours.get(key, 'absent')} here)" for key in differing[:3]]
        raise CinemaError(
            f"{path} holds another network: {len(differing)} weights differ, first {', '.join(what)}. Use the "
            "configuration it was trained with, or another checkpoint; train one of an earlier version anew."
        )


def _names(cls: type) -> list[str]:
    """Under which a class can be imported: its module's, and those of the packages that offer it, too."""
    parts = cls.__module__.split(".")
    places = (".".join(parts[: n + 1]) for n in range(len(parts)))
    offering = [place for place in places if getattr(sys.modules.get(place), cls.__name__, None) is cls]
    return [f"{place}.{cls.__qualname__}" for place in offering]


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
