"""Figures that the published system reports, for the report's own column.

Source: Fu et al., arXiv 2506.00679, version 1, abstract. It gives six figures, with 95% intervals, for the fine-tuned
foundation model and for a CNN trained from scratch, and does not say on which single dataset they were measured.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

SOURCE = "arXiv 2506.00679 v1, abstract"


@dataclass(frozen=True)
class Published:
    """A published figure.

    Attributes:
        figure: Name of the headline figure that it stands beside.
        display: What the paper calls it.
        unit: Its unit.
        ours: Value, low, high of CineMA.
        baseline: The same of the CNN.
        kind: Kind of task that it was measured in.
        where: Whether it belongs to a test on this dataset of a model trained on that one.
    """

    figure: str
    display: str
    unit: str
    ours: tuple[float, float, float]
    baseline: tuple[float, float, float]
    kind: str
    where: Callable[[str, str], bool]

    def applies(self, kind: str, dataset: str, trained_on: str) -> bool:
        """Whether it belongs to a task of this kind, tested on this dataset, trained on that one."""
        return kind == self.kind and self.where(dataset, trained_on)


def _same(dataset: str, trained_on: str) -> bool:
    return dataset == trained_on


def _own(dataset: str, trained_on: str) -> bool:
    return dataset == trained_on and dataset != "rescan"


def _unseen(dataset: str, trained_on: str) -> bool:
    return dataset == "kaggle" and trained_on != "kaggle"


def _rescan(dataset: str, trained_on: str) -> bool:
    return dataset == trained_on == "rescan"


PUBLISHED = (
    Published(
        "lv_ef_mae", "LVEF MAE from segmentation", "%", (3.33, 2.88, 3.82), (3.63, 2.99, 4.24), "segmentation", _own
    ),
    Published(
        "rv_ef_mae", "RVEF MAE from segmentation", "%", (5.49, 4.74, 6.55), (6.28, 5.33, 7.48), "segmentation", _own
    ),
    Published(
        "lv_ef_mae",
        "LVEF MAE on data never trained on",
        "%",
        (4.83, 4.58, 5.21),
        (5.59, 5.23, 6.01),
        "segmentation",
        _unseen,
    ),
    Published(
        "lv_ef_variation",
        "Scan-rescan coefficient of variation",
        "%",
        (8.45, 7.43, 9.30),
        (12.02, 10.73, 13.19),
        "segmentation",
        _rescan,
    ),
    Published(
        "disease_specificity",
        "Disease detection specificity",
        "%",
        (60.06, 52.23, 68.73),
        (31.55, 22.92, 39.98),
        "classification",
        _same,
    ),
    Published(
        "disease_sensitivity",
        "Disease detection sensitivity",
        "%",
        (90.20, 85.77, 93.64),
        (86.84, 83.85, 89.44),
        "classification",
        _same,
    ),
)


def published(figure: str, kind: str, dataset: str, trained_on: str) -> Published | None:
    """The published figure that stands beside one of ours, or None."""
    for entry in PUBLISHED:
        if entry.figure == figure and entry.applies(kind, dataset, trained_on):
            return entry
    return None
