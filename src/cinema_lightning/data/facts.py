"""What a labelled data module has to know of a dataset: labels, classes, views. Phantom stores have their own."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cinema_lightning.data.store import open_series
from cinema_lightning.datasets.base import CINE_LABELS, DATASETS, Dataset
from cinema_lightning.datasets.described.stored import in_store
from cinema_lightning.errors import CinemaError
from cinema_lightning.listing import list_paths
from cinema_lightning.views import VIEWS


@dataclass(frozen=True)
class Facts:
    """Facts that a dataset declares, see :class:`cinema_lightning.datasets.base.Dataset`.

    Attributes:
        name: Name in YAML.
        display: Name in prose.
        views: Views that a complete study has.
        labels: Class code of the label maps -> name; empty where there are no label maps.
        classes: Column -> its classes in the order of the network's outputs.
        spacing: Voxel size after preparation per view, mm, where it is not the view's own; None keeps the image's.
    """

    name: str
    display: str
    views: tuple[str, ...]
    labels: Mapping[int, str]
    classes: Mapping[str, tuple[str, ...]]
    spacing: Mapping[str, tuple[float, ...] | None] = field(default_factory=dict)


# Stores that `cinema phantom --out DIR` writes without a raw layout; their columns are those of every cohort table.
PHANTOM = Facts(
    "phantom",
    "phantom",
    tuple(VIEWS),
    CINE_LABELS,
    {
        "pathology": ("NOR", "DCM", "HCM", "MINF", "ARV"),
        "sex": ("M", "F"),
        "vendor": ("GE", "Philips", "Siemens"),
    },
)


def facts_of(dataset: str | None, root: str | Path = "") -> Facts:
    """Looks up a dataset's facts.

    Args:
        dataset: A name of ``DATASETS``, or of own data; phantom for a phantom store; None for what the store says that
            it was made of.
        root: Folder of the store, which knows its own data.

    Returns:
        The facts.

    Raises:
        CinemaError: If there is no such dataset.
    """
    own = in_store(Path(root)) if root else None
    if own is not None and dataset in (None, own.name):
        return _of(own)
    if own is not None:
        raise CinemaError(
            f"{root} was made of '{own.name}', but data.dataset is {dataset}: set it to {own.name}, or data.root to "
            "the other store."
        )
    name = (dataset or _made_of(Path(root))) if root else dataset
    if name is None or name == PHANTOM.name:
        return PHANTOM
    if name not in DATASETS:
        known = ", ".join([*DATASETS, PHANTOM.name])
        raise CinemaError(f"There is no dataset called '{name}'; data.dataset is one of {known}.")
    return _of(DATASETS[name])


def _of(found: Dataset) -> Facts:
    return Facts(found.name, found.display, found.views, found.labels, found.classes, found.spacing)


def _made_of(root: Path) -> str | None:
    """The registered dataset that a store's first series names; None where it names none."""
    if not (root / "cohort.csv").is_file():
        return None
    for folder in os.scandir(root):
        for path in list_paths(Path(folder.path), "*.b2nd") if folder.is_dir() else []:
            name = open_series(path).info.provenance.get("dataset")
            return str(name) if name in DATASETS else None
    return None


def check_made_of(provenance: Mapping[str, Any], facts: Facts, source: str) -> None:
    """Refuses a store that was made of another dataset than the one whose facts are used.

    Args:
        provenance: What a series of the store says of its making.
        facts: The facts in use.
        source: What to call the store in the message.

    Raises:
        CinemaError: Names both.
    """
    made_of = str(provenance.get("dataset", facts.name))
    if made_of != facts.name and made_of in DATASETS:
        raise CinemaError(
            f"{source} was made of {DATASETS[made_of].display}, but data.dataset is {facts.name}: set it to {made_of}, "
            "or data.root to the other store."
        )
