"""The facts of a dataset that a labelled data module works with: labels, classes, views."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cinema_lightning.data.store import open_series
from cinema_lightning.datasets.base import DATASETS, Dataset
from cinema_lightning.datasets.described.stored import in_store
from cinema_lightning.errors import CinemaError
from cinema_lightning.listing import list_paths

PHANTOM = "phantom"
"""Whose facts hold for a store of no dataset."""
OF_PHANTOMS = "phantom.json"
"""File at the top of raw data or of a store that says that they are phantoms, and how these were made."""


def is_of_phantoms(root: str | Path) -> bool:
    """Whether a store, or raw data, was made of phantoms, and of nobody else."""
    return (Path(root) / OF_PHANTOMS).is_file()


def facts_of(dataset: str | None, root: str | Path = "") -> Dataset:
    """Looks up a dataset.

    Args:
        dataset: A name of ``DATASETS``, or of own data; None for what the store says that it was made of, which without
            a word of it is a phantom store.
        root: Folder of the store, which knows its own data.

    Returns:
        The dataset.

    Raises:
        CinemaError: If there is no such dataset.
    """
    own = in_store(Path(root)) if root else None
    if own is not None and dataset in (None, own.name):
        return own
    if own is not None:
        raise CinemaError(
            f"{root} was made of '{own.name}', but data.dataset is {dataset}: set it to {own.name}, or data.root to "
            "the other store."
        )
    name = dataset or (_made_of(Path(root)) if root else None) or PHANTOM
    if name not in DATASETS:
        raise CinemaError(f"There is no dataset called '{name}'; data.dataset is one of {', '.join(DATASETS)}.")
    return DATASETS[name]


def _made_of(root: Path) -> str | None:
    """The registered dataset that a store's first series names; None where it names none."""
    if not (root / "cohort.csv").is_file():
        return None
    for folder in os.scandir(root):
        for path in list_paths(Path(folder.path), "*.b2nd") if folder.is_dir() else []:
            name = open_series(path).info.provenance.get("dataset")
            return str(name) if name in DATASETS else None
    return None


def check_made_of(provenance: Mapping[str, Any], facts: Dataset, source: str) -> None:
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
