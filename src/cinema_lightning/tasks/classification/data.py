"""Samples of classification: studies with a class."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from lightning.pytorch.utilities import rank_zero_info

from cinema_lightning.data import DATA
from cinema_lightning.data.labelled import LabelledData, with_studies, without_value
from cinema_lightning.data.open import Opened, Spec
from cinema_lightning.errors import CinemaError


@DATA.register
class ClassificationData(LabelledData):
    """Studies with a class, such as the pathology: ``label`` is the index of the class.

    Studies of another class are left out with a warning, as are those without one. At test the classes and their order
    are the checkpoint's.

    Args:
        root: Folder of the store.
        target: Column that holds the class.
        classes: Classes in the order of the network's outputs; by default those that the dataset declares for the
            column, else all values that occur in training, sorted.
        **options: See :class:`~cinema_lightning.data.labelled.LabelledData`.
    """

    kind = "classification"
    per_study = True

    def __init__(self, root: str, target: str = "pathology", classes: list[str] | None = None, **options: Any) -> None:
        super().__init__(root, **options)
        self.target = target
        self.given_classes = classes
        self._given = replace(self._given, stratum=target)

    def with_targets(self, opened: Opened, spec: Spec | None) -> Opened:
        """See :meth:`LabelledData.with_targets`."""
        cells = opened.cohort.texts(self.target)
        classes = self._classes(opened, cells)
        if spec is not None:
            _check_classes(opened, self.target, cells, classes, spec)
            classes = list(spec["classes"])
        index = {name: number for number, name in enumerate(classes)}
        label = np.array([index.get(str(cell), -1) for cell in cells], dtype=np.int64)
        empty = np.array([cell is None for cell in cells])
        notes = without_value(opened, self.target, empty)
        other = np.flatnonzero((label < 0) & ~empty & opened.in_a_split)
        if len(other):
            counts = sorted(Counter(str(cells[row]) for row in other).items())
            names = ", ".join(f"{name} {count}" for name, count in counts)
            what = f"{len(other)} studies whose {self.target} is not one of the classes {', '.join(classes)}"
            notes.append(opened.note(f"{what} are left out ({names})."))
        opened = with_studies(opened, label >= 0, notes, label)
        counted = np.bincount(label[opened.rows["train"]], minlength=len(classes)).tolist()
        return replace(
            opened,
            targets={"label": label},
            facts={"target": self.target, "classes": classes, "class_counts": counted},
            untrainable=_one_sided(opened, self.target, dict(zip(classes, counted, strict=True))),
        )

    def setup(self, stage: str | None = None) -> None:
        """See :meth:`CineDataModule.setup`; before training the classes are shown, which may have been found."""
        super().setup(stage)
        if stage == "fit":
            facts = self.opened.facts
            counts = zip(facts["classes"], facts["class_counts"], strict=True)
            rank_zero_info(f"{self.target}: {', '.join(f'{name} {n}' for name, n in counts)} training studies.")

    @property
    def validation_classes(self) -> list[str]:
        """Classes that occur in the validation studies."""
        opened = self.opened
        return [opened.facts["classes"][n] for n in np.unique(opened.targets["label"][opened.rows["val"]])]

    def _classes(self, opened: Opened, cells: list[str | None]) -> list[str]:
        if self.given_classes is not None:
            if len(set(self.given_classes)) < len(self.given_classes) or not self.given_classes:
                raise CinemaError(f"classes is {self.given_classes}; name each class once.")
            return list(self.given_classes)
        if self.target in self.facts.classes:
            return list(self.facts.classes[self.target])
        train = opened.studies["train"]
        rows = train if len(train) else np.flatnonzero(opened.in_a_split)
        return sorted({cell for row in rows if (cell := cells[row]) is not None})


def _check_classes(opened: Opened, target: str, cells: list[str | None], classes: list[str], spec: Spec) -> None:
    own = {cell for cell, inside in zip(cells, opened.in_a_split, strict=True) if inside and cell}
    if not own & set(spec["classes"]):
        raise CinemaError(
            f"{opened.cohort.source} has the {target} classes {', '.join(sorted(own | set(classes)))}, the "
            f"checkpoint has {', '.join(spec['classes'])}, and none is in both; test it on data of those classes."
        )


def _one_sided(opened: Opened, target: str, counts: Mapping[str, int]) -> str:
    """Why classes with these numbers of training studies cannot be learnt; empty where they can."""
    there = [name for name, count in counts.items() if count]
    absent = [name for name in counts if name not in there]
    if not absent and len(there) > 1:
        return ""
    what = f"has no training study of {', '.join(absent)}" if absent else f"knows only the class {', '.join(there)}"
    return (
        f"{opened.cohort.source} {what} in column {target}, which cannot be learnt: train on more subjects "
        f"(data.fraction, data.limit_subjects), or set data.classes to those that are there ([{', '.join(there)}])."
    )
