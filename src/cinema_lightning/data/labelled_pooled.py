"""Data modules for one target per study: a class, a number, or a time to an event.

ED and ES are stacked as channels, (B, 2, X, Y[, Z]), scaled to [0, 1] over both together. Images without a time axis
have one channel, or one for each sequence.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from lightning.pytorch.utilities import rank_zero_info

from cinema_lightning.data import DATA
from cinema_lightning.data.labelled import LabelledData, with_ed_es, with_samples
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
        notes = _without(opened, self.target, empty)
        other = np.flatnonzero((label < 0) & ~empty & opened.in_a_split)
        if len(other):
            counts = sorted(Counter(str(cells[row]) for row in other).items())
            names = ", ".join(f"{name} {count}" for name, count in counts)
            what = f"{len(other)} studies whose {self.target} is not one of the classes {', '.join(classes)}"
            notes.append(opened.note(f"{what} are left out ({names})."))
        opened = _with_studies(opened, label >= 0, notes, label)
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


@DATA.register
class RegressionData(LabelledData):
    """Studies with a number, such as the ejection fraction: ``label`` is standardised.

    Mean and SD (n - 1) are those of the training studies in use, and are stored with the run; at test they are the
    checkpoint's. Studies without a number are left out with a warning.

    Args:
        root: Folder of the store.
        target: Column that holds the number.
        **options: See :class:`~cinema_lightning.data.labelled.LabelledData`.
    """

    kind = "regression"
    per_study = True

    def __init__(self, root: str, target: str = "lv_ef", **options: Any) -> None:
        super().__init__(root, **options)
        self.target = target

    def with_targets(self, opened: Opened, spec: Spec | None) -> Opened:
        """See :meth:`LabelledData.with_targets`."""
        values, known, notes = _numbers(opened, self.target)
        opened = _with_studies(opened, known, notes)
        seen = values[opened.rows["train"]]
        mean = float(seen.mean()) if len(seen) else None
        std = float(seen.std(ddof=1)) if len(seen) > 1 else None
        if spec is not None:
            mean, std = float(spec["mean"]), float(spec["std"])
        opened = replace(opened, facts={"target": self.target, "mean": mean, "std": std})
        if mean is not None and std:
            return replace(opened, targets={"label": ((values - mean) / std).astype(np.float32)})
        source = opened.cohort.source
        return replace(
            opened,
            untrainable=""
            if mean is None
            else f"{source}: {self.target} is {mean:g} in every training study, so there is nothing to learn; choose "
            "another data.target or train on more subjects.",
            unreadable=f"{source} has no training studies to take the mean and SD of {self.target} from; test with a "
            "checkpoint, which knows them.",
        )


@DATA.register
class SurvivalData(LabelledData):
    """Studies with a time to an event or to censoring: ``time`` in days and ``event`` (1 or 0), the table's columns.

    Studies without one of them are left out with a warning, and so are all but the first of each person (by id), from
    which the time counts. Arguments are those of :class:`~cinema_lightning.data.labelled.LabelledData`.
    """

    kind = "survival"
    per_study = True
    test_splits = ("val", "test")  # Cox models and cut points are fitted on those who validate

    def with_targets(self, opened: Opened, spec: Spec | None) -> Opened:
        """See :meth:`LabelledData.with_targets`."""
        (time, timed, no_time), (event, known, no_event) = _numbers(opened, "time"), _numbers(opened, "event")
        used = timed & known & opened.in_a_split
        _check_outcomes(opened, used, time, event)
        later = _later_visits(opened, used)
        notes = [*no_time, *no_event, *opened.left_out(np.flatnonzero(later), "of people with an earlier visit")]
        opened = _with_studies(opened, timed & known & ~later, notes, np.nan_to_num(event))
        train, val = (event[opened.rows[split]] for split in ("train", "val"))
        unseen, untrainable = [], ""
        if len(train) and not train.any():
            untrainable = (
                f"{opened.cohort.source}: none of the {len(train)} training studies has an event, so no risk can be "
                "learnt; train on more subjects (data.fraction, data.limit_subjects)."
            )
        if spec is None and len(val) and not val.any():
            text = (
                f"none of the {len(val)} validation studies has an event, so neither val/c_index nor val/loss is "
                "defined: the last epoch is kept, and nothing stops early; validate on more subjects "
                "(data.val_fraction)."
            )
            unseen = [opened.note(text)]
        return replace(
            opened,
            targets={"time": time.astype(np.float32), "event": event.astype(np.float32)},
            facts={"n_events": int(train.sum())},
            notes=[*opened.notes, *unseen],
            untrainable=untrainable,
        )


def _with_studies(opened: Opened, known: np.ndarray, notes: list[str], strata: np.ndarray | None = None) -> Opened:
    """One sample per study that is (n,) known to have a target, named after its ED frame."""
    pairs = {}
    for split, rows in opened.studies.items():
        there, said = with_ed_es(opened, rows[known[rows]])
        pairs[split] = list(zip(there.tolist(), opened.phases[there, 0].astype(int).tolist(), strict=True))
        notes = [*notes, *said]
    return replace(with_samples(opened, pairs, strata), notes=[*opened.notes, *notes])


def _numbers(opened: Opened, name: str) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """A numeric column, which of its cells can be used, and a sentence about those of the splits that cannot."""
    opened.cohort.texts(name)  # says which columns there are where it is none
    values = opened.cohort.numbers(name)
    known = np.isfinite(values)
    return values, known, _without(opened, name, ~known)


def _without(opened: Opened, name: str, unknown: np.ndarray) -> list[str]:
    rows = np.flatnonzero(unknown & opened.in_a_split)
    return opened.left_out(rows, f"without a value in column {name}")


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


def _check_outcomes(opened: Opened, used: np.ndarray, time: np.ndarray, event: np.ndarray) -> None:
    for wrong, column, value, needs in (
        (used & (time <= 0), "time", time, "days above 0"),
        (used & ~np.isin(event, (0, 1)), "event", event, "1 for an event or 0 for censoring"),
    ):
        if wrong.any():
            row = int(np.argmax(wrong))
            raise CinemaError(
                f"{opened.cohort.source}: row '{opened.cohort.ids[row]}' has {column} {value[row]:g}; it has to be "
                f"{needs}: mend it or leave the cell empty."
            )


def _later_visits(opened: Opened, used: np.ndarray) -> np.ndarray:
    """(n,) bool, studies of people of whom there is an earlier one: a person dies once, and one clock runs."""
    ids = opened.cohort.ids.astype(str)
    order = np.flatnonzero(used)[np.argsort(ids[used], kind="stable")]
    people = opened.cohort.table["subject"].to_numpy(dtype=str)[order]
    later = np.ones(len(used), dtype=bool)
    later[order[np.unique(people, return_index=True)[1]]] = False
    return later & used
