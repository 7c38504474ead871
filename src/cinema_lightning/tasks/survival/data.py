"""Samples of survival: studies with a time to an event or to censoring."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from cinema_lightning.data import DATA
from cinema_lightning.data.labelled import LabelledData, numbers_in, with_studies
from cinema_lightning.data.open import Opened, Spec
from cinema_lightning.errors import CinemaError
from cinema_lightning.files import natural_key


@DATA.register
class SurvivalData(LabelledData):
    """Studies with a time to an event or to censoring: ``time`` in days and ``event`` (1 or 0), the table's columns.

    Studies without one of them are left out with a warning, and so are all but the first of each person (by id), from
    which the time counts. Arguments are those of :class:`~cinema_lightning.data.labelled.LabelledData`.
    """

    kind = "survival"
    unbalanced = "compares subjects, which have to come as they are"
    per_study = True
    test_splits = ("val", "test")  # Cox models and cut points are fitted on those who validate

    def __init__(self, root: str, **options: Any) -> None:
        super().__init__(root, **options)
        self._given = replace(self._given, stratum="event")

    def with_targets(self, opened: Opened, spec: Spec | None) -> Opened:
        """See :meth:`LabelledData.with_targets`."""
        (time, timed, no_time), (event, known, no_event) = numbers_in(opened, "time"), numbers_in(opened, "event")
        used = timed & known & opened.in_a_split
        _check_outcomes(opened, used, time, event)
        later = _later_visits(opened, used)
        notes = [*no_time, *no_event, *opened.left_out(np.flatnonzero(later), "of people with an earlier visit")]
        opened = with_studies(opened, timed & known & ~later, notes, np.nan_to_num(event))
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
    ids: list[str] = opened.cohort.ids.astype(str).tolist()
    rows: list[int] = np.flatnonzero(used).tolist()
    order = np.array(sorted(rows, key=lambda row: natural_key(ids[row])), dtype=np.int64)  # visit 2 before visit 10
    people = opened.cohort.table["subject"].to_numpy(dtype=str)[order]
    later = np.ones(len(used), dtype=bool)
    later[order[np.unique(people, return_index=True)[1]]] = False
    return later & used
