"""The facts of a dataset that a labelled data module works with: labels, classes, views."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cinema_lightning.datasets.base import DATASETS, Dataset
from cinema_lightning.errors import CinemaError

PHANTOM = "phantom"
"""Whose facts hold for a store of no dataset."""


def facts_of(dataset: str | None) -> Dataset:
    """Looks up a dataset.

    Args:
        dataset: A name of ``DATASETS``; None for a phantom store.

    Returns:
        The dataset.

    Raises:
        CinemaError: If there is no such dataset.
    """
    name = PHANTOM if dataset is None else dataset
    if name not in DATASETS:
        raise CinemaError(f"There is no dataset called '{name}'; data.dataset is one of {', '.join(DATASETS)}.")
    return DATASETS[name]


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
