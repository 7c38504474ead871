"""Samples of segmentation: frames with label maps."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from cinema_lightning.data import DATA
from cinema_lightning.data.augment.base import Effect
from cinema_lightning.data.augment.hole import Hole
from cinema_lightning.data.labelled import (
    Frames,
    LabelledData,
    Pairs,
    checked_frames,
    frames_with,
    with_ed_es,
    with_samples,
)
from cinema_lightning.data.labels import LabelledDataset, LabelMaps
from cinema_lightning.data.open import Opened, Spec
from cinema_lightning.data.table import Split, views_of
from cinema_lightning.datasets.base import Dataset
from cinema_lightning.errors import CinemaError


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
        self.frames = checked_frames(frames)

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
        there = {row: frames_with(opened, row, maps.frames) for row, _ in pairs}
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

    def published_augmentation(self) -> list[Effect]:
        """The published augmentation of fine-tuning, and a hole."""
        return [*super().published_augmentation(), Hole()]


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
