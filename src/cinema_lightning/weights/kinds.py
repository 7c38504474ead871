"""What a published file of a kind of task says of its outputs; each kind says so in ``published.py`` of its folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cinema_lightning.registry import Registry

Plain = Mapping[str, Any]
"""Plain values: a ``spec``, a block of ``config.yaml``, what is known of a file."""
Place = tuple[str, str]
"""Folder of a published task and name of a dataset."""


def _nothing(*_: Any) -> dict[str, Any]:
    return {}


@dataclass(frozen=True)
class PublishedKind:
    """How outputs of a kind are written into ``config.yaml`` and read from it.

    Attributes:
        write: Takes the ``spec`` of a network; keys of the block ``data``.
        read: Takes the block ``data`` and the path of the file; what it says of outputs of this kind, empty for others
            (``target``, ``class_names``, ``label_codes``, ``landmarks``, ``mean``, ``std``). CinemaError if damaged.
        task: What the file calls the task; None goes by the network, as the published files do.
        dense: Whether there is one output per voxel.
        folders: Folders of published tasks of this kind beside those of ``known``.
        known: What is known of published files that have no configuration.
        caution: Takes what is known of a file; what to say where it must not be trusted.
    """

    write: Callable[[Plain], dict[str, Any]] = _nothing
    read: Callable[[Plain, Path], dict[str, Any]] = _nothing
    task: str | None = None
    dense: bool = False
    folders: Sequence[str] = ()
    known: Mapping[Place, Plain] = field(default_factory=dict)
    caution: Callable[[Plain], str] = lambda _: ""


PUBLISHED: Registry[PublishedKind] = Registry("published kind of task", "cinema_lightning.tasks", only="published")
"""By name of the kind; a kind that is not here says nothing of its outputs."""
