"""Data modules for one target per study: a class, a number, or a time to an event. ED and ES are the channels."""

from __future__ import annotations

from collections import Counter
from typing import Any, Literal

import numpy as np

from cinema_lightning.data import DATA
from cinema_lightning.data.datamodule import Split
from cinema_lightning.data.dataset import FrameDataset
from cinema_lightning.data.labelled import LabelledData, Pairs
from cinema_lightning.data.labels import Extra, Numbers
from cinema_lightning.errors import CinemaError


class StudyData(LabelledData):
    """Base of the data modules with one target per study.

    ED and ES are stacked as channels, (B, 2, X, Y[, Z]), scaled to [0, 1] over both together. Images without a time
    axis have one channel, or one for each sequence.
    """

    def channels(self) -> Literal["frame", "series"] | np.ndarray:
        """See :meth:`LabelledData.channels`."""
        if self._single:
            return super().channels()
        return np.nan_to_num(self._phases, nan=-1).astype(int)

    def channel_names(self) -> list[str]:
        """See :meth:`LabelledData.channel_names`."""
        return super().channel_names() if self._single else ["ED", "ES"]

    def pairs(self, rows: np.ndarray, split: Split) -> Pairs:
        """One sample per study, named after its ED frame."""
        return [(int(row), int(self._phases[row, 0])) for row in self.ed_es(rows)]

    def known_numbers(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """A numeric column, and which of its cells can be used; notes how many of the splits' cannot."""
        self.cohort.texts(name)
        values = self.cohort.numbers(name)
        known = np.isfinite(values)
        self.note_unknown(name, ~known)
        return values, known

    def note_unknown(self, name: str, unknown: np.ndarray) -> None:
        """Says how many studies have no target."""
        rows = np.flatnonzero(unknown & self.in_a_split())
        self.leave_out(rows, f"without a value in column {name}")

    def _frames_of(self, row: int, dataset: FrameDataset, phases: np.ndarray) -> list[int]:
        if not np.isfinite(self._phases[row]).all():
            raise CinemaError(
                f"{self.cohort.source}: row '{self.cohort.ids[row]}' has no ed_frame or es_frame; fill them, or set "
                "data.assumed_phases."
            )
        return [int(self._phases[row, 0])]


@DATA.register
class ClassificationData(StudyData):
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

    def __init__(self, root: str, target: str = "pathology", classes: list[str] | None = None, **options: Any) -> None:
        super().__init__(root, **options)
        self.target = target
        self.given_classes = classes

    def encode(self) -> np.ndarray:
        """See :meth:`LabelledData.encode`."""
        cells = self.cohort.texts(self.target)
        self.classes: list[str] = self._classes(cells)
        index = {name: number for number, name in enumerate(self.classes)}
        self.label = np.array([index.get(str(cell), -1) for cell in cells])
        empty = np.array([cell is None for cell in cells])
        self.note_unknown(self.target, empty)
        other = np.flatnonzero((self.label < 0) & ~empty & self.in_a_split())
        if len(other):
            counts = Counter(str(cells[row]) for row in other)
            names = ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))
            self.note(
                f"{len(other)} studies whose {self.target} is not one of the classes {', '.join(self.classes)} are "
                f"left out ({names})."
            )
        return self.label >= 0

    def strata(self) -> np.ndarray:
        """See :meth:`LabelledData.strata`."""
        return self.label

    def learn(self) -> None:
        """Counts the classes of the training studies."""
        self.class_counts = np.bincount(self.label[self._samples["train"][0]], minlength=len(self.classes)).tolist()

    def describe(self) -> dict[str, Any]:
        """See :meth:`LabelledData.describe`."""
        return {"target": self.target, "classes": list(self.classes), "class_counts": self.class_counts}

    def check_target(self, spec: dict[str, Any]) -> None:
        """See :meth:`LabelledData.check_target`."""
        own = {
            cell
            for cell, inside in zip(self.cohort.texts(self.target), self.in_a_split(), strict=True)
            if inside and cell
        }
        if not own & set(spec["classes"]):
            raise CinemaError(
                f"{self.cohort.source} has the {self.target} classes {', '.join(sorted(own | set(self.classes)))}, the "
                f"checkpoint has {', '.join(spec['classes'])}, and none is in both; test it on data of those classes."
            )

    def check_training(self) -> None:
        """See :meth:`LabelledData.check_training`."""
        there = [name for name, count in zip(self.classes, self.class_counts, strict=True) if count]
        absent = [name for name in self.classes if name not in there]
        if absent or len(there) < 2:
            what = f"has no training study of {', '.join(absent)}" if absent else f"knows only the class {there[0]}"
            raise CinemaError(
                f"{self.cohort.source} {what} in column {self.target}, which cannot be learnt: train on more subjects "
                f"(data.fraction, data.limit_subjects), or set data.classes to those that are there "
                f"([{', '.join(there)}])."
            )

    @property
    def validation_classes(self) -> list[str]:
        """Classes that occur in the validation studies, after setup."""
        return [self.classes[number] for number in np.unique(self.label[self._samples["val"][0]])]

    def extras(self) -> list[Extra]:
        """See :meth:`LabelledData.extras`."""
        return [Numbers({"label": self.label.astype(np.int64)})]

    def _classes(self, cells: list[str | None]) -> list[str]:
        if self._followed is not None:
            return list(self._followed["classes"])
        if self.given_classes is not None:
            if len(set(self.given_classes)) < len(self.given_classes) or not self.given_classes:
                raise CinemaError(f"classes is {self.given_classes}; name each class once.")
            return list(self.given_classes)
        declared = self.facts.classes.get(self.target)
        if declared is not None:
            return list(declared)
        rows = self.rows["train"] if len(self.rows["train"]) else np.flatnonzero(self.in_a_split())
        return sorted({cell for row in rows if (cell := cells[row]) is not None})


@DATA.register
class RegressionData(StudyData):
    """Studies with a number, such as the ejection fraction: ``label`` is standardised.

    Mean and SD (n - 1) are those of the training studies in use, and are stored with the run; at test they are the
    checkpoint's. Studies without a number are left out with a warning.

    Args:
        root: Folder of the store.
        target: Column that holds the number.
        **options: See :class:`~cinema_lightning.data.labelled.LabelledData`.
    """

    kind = "regression"

    def __init__(self, root: str, target: str = "lv_ef", **options: Any) -> None:
        super().__init__(root, **options)
        self.target = target
        self.mean: float | None = None
        self.std: float | None = None

    def encode(self) -> np.ndarray:
        """See :meth:`LabelledData.encode`."""
        self.values, known = self.known_numbers(self.target)
        return known

    def learn(self) -> None:
        """Takes mean and SD from the training studies, or from the checkpoint."""
        if self._followed is not None:
            self.mean, self.std = float(self._followed["mean"]), float(self._followed["std"])
            return
        values = self.values[self._samples["train"][0]]
        self.mean = float(values.mean()) if len(values) else None
        self.std = float(values.std(ddof=1)) if len(values) > 1 else None

    def describe(self) -> dict[str, Any]:
        """See :meth:`LabelledData.describe`."""
        return {"target": self.target, "mean": self.mean, "std": self.std}

    def check_training(self) -> None:
        """See :meth:`LabelledData.check_training`."""
        if self.mean is not None and not self.std:
            raise CinemaError(
                f"{self.cohort.source}: {self.target} is {self.mean:g} in every training study, so there is nothing to "
                "learn; choose another data.target or train on more subjects."
            )

    def extras(self) -> list[Extra]:
        """See :meth:`LabelledData.extras`."""
        if self.mean is None or not self.std:
            raise CinemaError(
                f"{self.cohort.source} has no training studies to take the mean and SD of {self.target} from; test "
                "with a checkpoint, which knows them."
            )
        return [Numbers({"label": ((self.values - self.mean) / self.std).astype(np.float32)})]


@DATA.register
class SurvivalData(StudyData):
    """Studies with a time to an event or to censoring: ``time`` in days and ``event`` (1 or 0), the table's columns.

    Studies without one of them are left out with a warning, and so are all but the first of each person (by id), from
    which the time counts. Arguments are those of :class:`~cinema_lightning.data.labelled.LabelledData`.
    """

    kind = "survival"
    test_splits = ("val", "test")  # Cox models and cut points are fitted on those who validate

    def encode(self) -> np.ndarray:
        """See :meth:`LabelledData.encode`."""
        (self.time, timed), (self.event, known) = self.known_numbers("time"), self.known_numbers("event")
        used = timed & known & self.in_a_split()
        for wrong, column, value in (
            (used & (self.time <= 0), "time", self.time),
            (used & ~np.isin(self.event, (0, 1)), "event", self.event),
        ):
            if wrong.any():
                row = int(np.argmax(wrong))
                needs = "days above 0" if column == "time" else "1 for an event or 0 for censoring"
                raise CinemaError(
                    f"{self.cohort.source}: row '{self.cohort.ids[row]}' has {column} {value[row]:g}; it has to be "
                    f"{needs}: mend it or leave the cell empty."
                )
        return timed & known & ~self._later_visits(used)

    def _later_visits(self, used: np.ndarray) -> np.ndarray:
        """(n,) bool, studies of people of whom there is an earlier one: a person dies once, and one clock runs."""
        ids = self.cohort.ids.astype(str)
        order = np.flatnonzero(used)[np.argsort(ids[used], kind="stable")]
        people = self.cohort.table["subject"].to_numpy(dtype=str)[order]
        later = np.ones(len(used), dtype=bool)
        later[order[np.unique(people, return_index=True)[1]]] = False
        later &= used
        self.leave_out(np.flatnonzero(later), "of people with an earlier visit")
        return later

    def strata(self) -> np.ndarray:
        """See :meth:`LabelledData.strata`."""
        return np.nan_to_num(self.event)

    def describe(self) -> dict[str, Any]:
        """See :meth:`LabelledData.describe`."""
        return {"n_events": int(self.event[self._samples["train"][0]].sum())}

    def check_training(self) -> None:
        """See :meth:`LabelledData.check_training`."""
        if self.n_train and not self.event[self._samples["train"][0]].any():
            raise CinemaError(
                f"{self.cohort.source}: none of the {self.n_train} training studies has an event, so no risk can be "
                "learnt; train on more subjects (data.fraction, data.limit_subjects)."
            )
        rows = self._samples["val"][0]
        if len(rows) and not self.event[rows].any():
            self.note(
                f"none of the {len(rows)} validation studies has an event, so neither val/c_index nor val/loss is "
                "defined: the last epoch is kept, and nothing stops early; validate on more subjects "
                "(data.val_fraction)."
            )

    def extras(self) -> list[Extra]:
        """See :meth:`LabelledData.extras`."""
        return [Numbers({"time": self.time.astype(np.float32), "event": self.event.astype(np.float32)})]
