"""Data modules for targets that lie in the image: label maps and landmarks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
from lightning.pytorch.utilities import rank_zero_warn

from cinema_lightning.data import DATA
from cinema_lightning.data.finetune_transforms import FinetuneAugment, Whole
from cinema_lightning.data.labelled import LabelledData, Pairs, with_ed_es, with_samples
from cinema_lightning.data.labels import LabelledDataset, LabelMaps, Points, gather_points, read_landmarks
from cinema_lightning.data.open import Opened, Spec
from cinema_lightning.data.table import Split, mask_of, views_of
from cinema_lightning.datasets.base import Dataset
from cinema_lightning.errors import CinemaError
from cinema_lightning.views import VIEWS, get_view

Frames = Literal["ed_es", "all"]


@DATA.register
class SegmentationData(LabelledData):
    """Frames with label maps; ED and ES of a study are two samples.

    In training and validation only frames with a label map are used. In testing a frame without one is segmented all
    the same (its label is 255), so that volume curves, and datasets without label maps, can be had. Images without a
    time axis (EMIDEC, MyoPS) are one sample per study.

    Args:
        root: Folder of the store.
        frames: ED and ES (ed_es), or all.
        **options: See :class:`~cinema_lightning.data.labelled.LabelledData`.
    """

    kind = "segmentation"

    def __init__(self, root: str, frames: Frames = "ed_es", **options: Any) -> None:
        super().__init__(root, **options)
        self.frames = _checked_frames(frames)

    def with_targets(self, opened: Opened, spec: Spec | None) -> Opened:
        """See :meth:`LabelledData.with_targets`."""
        classes, display = _classes(self.facts, spec), self.facts.display
        maps = LabelMaps(opened.cohort.root, list(classes.values())) if classes else None
        notes, pairs = list(opened.notes), {}
        for split, rows in opened.studies.items():
            if self.frames == "ed_es":
                rows, said = with_ed_es(opened, rows)
                notes += said
            pairs[split] = _frames(opened, rows, self.frames)
            if split != "test" and self.facts.labels and maps is not None:
                pairs[split], said = self._labelled(opened, split, pairs[split], maps)
                notes += said
        why = f"{display} has no label maps to train on; set data.dataset to what the store was made of."
        return replace(
            with_samples(opened, pairs),
            extras=[] if maps is None else [maps],
            facts={"classes": list(classes), "label_codes": list(classes.values()), "frames": self.frames},
            notes=notes,
            untrainable="" if self.facts.labels else why,
        )

    def _labelled(self, opened: Opened, split: Split, pairs: Pairs, maps: LabelMaps) -> tuple[Pairs, list[str]]:
        """Those that have a label map, and a sentence about the others."""
        there = {row: _frames_with(opened, row, maps.frames) for row, _ in pairs}
        kept = [(row, frame) for row, frame in pairs if frame in there[row]]
        # Of all frames some may well have no label map; of ED and ES that is worth a word.
        lost = {row for row, _ in set(pairs) - set(kept)} - {row for row, _ in kept if self.frames == "all"}
        if not lost:
            return kept, []
        studies = "study has" if len(lost) == 1 else "studies have"
        text = (
            f"{len(lost)} {split} {studies} no label map of a wanted frame, which is left out (the first is "
            f"'{opened.cohort.ids[min(lost)]}'); prepare the data again with the labels."
        )
        return kept, [opened.note(text)]

    def train_transform(self) -> Whole:
        """The published augmentation of fine-tuning, with a hole."""
        return FinetuneAugment(self.input_size, self.run_seed, noise_scale=self.noise_scale, hole=True)


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
        self.frames = _checked_frames(frames)
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
            marked = _frames_with(opened, row, points.frames)
            phases = opened.phases[row]
            if self.frames == "ed_es" and not opened.still and np.isfinite(phases).all():
                marked &= {int(frame) for frame in phases}
            pairs += [(row, frame) for frame in sorted(marked)]
        return pairs


def _classes(facts: Dataset, spec: Spec | None) -> dict[str, int]:
    """Classes in the order of the network's outputs, the background first, with their codes in the store."""
    own = {facts.labels[code]: code for code in sorted(facts.labels)}
    if spec is None:
        return own
    if not own:  # a dataset without label maps takes any classes
        return dict(zip(spec["classes"], spec["label_codes"], strict=True))
    if set(own) != set(spec["classes"]):
        theirs = set(spec["classes"])
        lacking, strange = (", ".join(sorted(names)) or "none" for names in (theirs - set(own), set(own) - theirs))
        raise CinemaError(
            f"The checkpoint's classes are not those of {facts.display}: it has {lacking} besides, and lacks "
            f"{strange}; test it on a dataset with the same labels."
        )
    return {name: own[name] for name in spec["classes"]}


def _frames(opened: Opened, rows: np.ndarray, frames: Frames) -> Pairs:
    """ED and ES of some studies, or all of their frames."""
    if opened.still:
        return [(row, 0) for row in rows.tolist()]
    if frames == "ed_es":
        return [(row, n) for row in rows.tolist() for n in dict.fromkeys(opened.phases[row].astype(int).tolist())]
    # not the table's n_frames, which counts the frames that all views have: a SAX series may be longer
    cohort = opened.cohort
    headers = LabelledDataset(cohort.ids, cohort.reader, opened.options.run_seed, str(cohort.source))
    counts = {row: headers.count_frames(row, views_of(int(opened.masks[row]))) for row in rows.tolist()}
    return [(row, frame) for row, count in counts.items() for frame in range(count)]


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


def _frames_with(opened: Opened, row: int, frames: Callable[[str, str], list[int]]) -> set[int]:
    """Frames of a study that have a label map or landmarks in one of its views."""
    study = str(opened.cohort.ids[row])
    return {frame for view in views_of(int(opened.masks[row])) for frame in frames(study, view)}


def _checked_frames(frames: Frames) -> Frames:
    if frames not in ("ed_es", "all"):
        raise CinemaError(f"frames is {frames!r}; it is ed_es or all.")
    return frames
