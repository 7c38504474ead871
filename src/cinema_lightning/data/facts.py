"""What a labelled data module has to know of a dataset: labels, classes, views. Phantom stores have their own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cinema_lightning.datasets.base import CINE_LABELS, DATASETS
from cinema_lightning.errors import CinemaError
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


def facts_of(dataset: str | None) -> Facts:
    """Looks up a dataset's facts.

    Args:
        dataset: A name of ``DATASETS``; phantom, or None, for a phantom store.

    Returns:
        The facts.

    Raises:
        CinemaError: If there is no such dataset.
    """
    if dataset is None or dataset == PHANTOM.name:
        return PHANTOM
    if dataset not in DATASETS:
        known = ", ".join([*DATASETS, PHANTOM.name])
        raise CinemaError(f"There is no dataset called '{dataset}'; data.dataset is one of {known}.")
    found = DATASETS[dataset]
    return Facts(found.name, found.display, found.views, found.labels, found.classes, found.spacing)


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
