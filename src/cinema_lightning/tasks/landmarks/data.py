"""Samples of landmarks: long-axis frames on which points are marked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from lightning.pytorch.utilities import rank_zero_warn

from cinema_lightning.data import DATA
from cinema_lightning.data.labelled import Frames, LabelledData, Pairs, checked_frames, frames_with, with_samples
from cinema_lightning.data.labels import Points, gather_points, read_landmarks
from cinema_lightning.data.open import Opened, Spec
from cinema_lightning.data.table import mask_of
from cinema_lightning.errors import CinemaError
from cinema_lightning.views import VIEWS, get_view


@DATA.register
class LandmarkData(LabelledData):
    """Long-axis frames with landmarks; each marked frame is a sample.

    Args:
        root: Folder of the store.
        frames: ED and ES (ed_es) where the table names them, or all that are marked.
        landmarks: Landmarks in the order of the network's outputs; by default all that are marked in the views.
        **options: See :class:`~cinema_lightning.data.labelled.LabelledData`.
    """

    kind = "landmarks"

    def __init__(self, root: str, frames: Frames = "ed_es", landmarks: list[str] | None = None, **options: Any) -> None:
        super().__init__(root, **options)
        self.frames = checked_frames(frames)
        self.landmarks = landmarks
        stacks = [view for view in self.views if not get_view(view).is_long_axis]
        if stacks:
            flat = ", ".join(view for view in VIEWS if get_view(view).is_long_axis)
            raise CinemaError(
                f"Landmarks lie in long-axis images, not in {stacks[0]}; set data.views to some of {flat}."
            )

    def with_targets(self, opened: Opened, spec: Spec | None) -> Opened:
        """See :meth:`LabelledData.with_targets`."""
        views, ids = opened.options.views, opened.cohort.ids.tolist()
        points = _points(opened, self.landmarks, spec)
        marked = [mask_of(view for view in views if points.frames(study, view)) for study in ids]
        opened = replace(opened, masks=opened.masks & np.array(marked, dtype=np.uint8))
        known = opened.masks > 0
        without = np.flatnonzero(~known & opened.in_a_split)
        pairs = {split: self._pairs(opened, rows[known[rows]], points) for split, rows in opened.studies.items()}
        return replace(
            with_samples(opened, pairs),
            extras=[points],
            facts={"landmarks": list(points.names), "frames": self.frames},
            notes=[*opened.notes, *opened.left_out(without, f"without landmarks in {', '.join(views)}")],
        )

    def _pairs(self, opened: Opened, rows: np.ndarray, points: Points) -> Pairs:
        pairs = []
        for row in rows.tolist():
            marked = frames_with(opened, row, points.frames)
            phases = opened.phases[row]
            if self.frames == "ed_es" and not opened.still and np.isfinite(phases).all():
                marked &= {int(frame) for frame in phases}
            pairs += [(row, frame) for frame in sorted(marked)]
        return pairs


def _points(opened: Opened, wanted: Sequence[str] | None, spec: Spec | None) -> Points:
    """The landmarks in the order of the network's outputs, where they are marked."""
    root, views = opened.cohort.root, opened.options.views
    table = read_landmarks(root)
    here = table[table["view"].isin(views)]
    known = list(dict.fromkeys(here["landmark"].tolist()))
    strange = [name for name in wanted or [] if name not in known]
    if not known or strange:
        what = f"no landmark called '{strange[0]}'" if strange else "no landmark"
        there = f"; there are {', '.join(known)}" if known else ""
        raise CinemaError(f"{root} has {what} in {', '.join(views)}{there}.")
    if spec is None:
        return gather_points(here, views, wanted or known)
    names = spec["landmarks"]
    if not set(names) & set(known):
        raise CinemaError(
            f"{root} marks {', '.join(known)}, but the checkpoint finds {', '.join(names)}; test it on data with the "
            "same landmarks."
        )
    if absent := [name for name in names if name not in known]:
        rank_zero_warn(
            f"{root} does not mark {', '.join(absent)}: their distances stay empty, and means are over the other "
            "landmarks."
        )
    return gather_points(here, views, names)
