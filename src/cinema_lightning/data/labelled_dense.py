"""Data modules for targets that lie in the image: label maps and landmarks."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from lightning.pytorch.utilities import rank_zero_warn

from cinema_lightning.data import DATA
from cinema_lightning.data.datamodule import Split
from cinema_lightning.data.finetune_transforms import FinetuneAugment, Whole
from cinema_lightning.data.labelled import LabelledData, Pairs
from cinema_lightning.data.labels import Extra, LabelMaps, Points, gather_points, read_landmarks
from cinema_lightning.data.table import mask_of, views_of
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

    @property
    def classes(self) -> dict[str, int]:
        """Classes in the order of the network's outputs, the background first, with their codes in the store."""
        own = {self.facts.labels[code]: code for code in sorted(self.facts.labels)}
        if self._followed is None:
            return own
        names = self._followed["classes"]
        return (
            {name: own[name] for name in names} if own else dict(zip(names, self._followed["label_codes"], strict=True))
        )

    def describe(self) -> dict[str, Any]:
        """See :meth:`LabelledData.describe`."""
        return {"classes": list(self.classes), "label_codes": list(self.classes.values()), "frames": self.frames}

    def check_target(self, spec: dict[str, Any]) -> None:
        """See :meth:`LabelledData.check_target`; a dataset without label maps takes any classes."""
        own, theirs = set(self.facts.labels.values()), set(spec["classes"])
        if own and own != theirs:
            lacking, strange = (", ".join(sorted(names)) or "none" for names in (theirs - own, own - theirs))
            raise CinemaError(
                f"The checkpoint's classes are not those of {self.facts.display}: it has {lacking} besides, and lacks "
                f"{strange}; test it on a dataset with the same labels."
            )

    def check_training(self) -> None:
        """See :meth:`LabelledData.check_training`."""
        if not self.facts.labels:
            raise CinemaError(
                f"{self.facts.display} has no label maps to train on; set data.dataset to what the store was made of."
            )

    def pairs(self, rows: np.ndarray, split: Split) -> Pairs:
        """See :meth:`LabelledData.pairs`."""
        if self.frames == "ed_es":
            rows = self.ed_es(rows)
        wanted = [(int(row), frame) for row in rows for frame in self._wanted(int(row))]
        if split == "test" or not self.facts.labels:
            return wanted
        labelled = {int(row): self._labelled(int(row)) for row in rows}
        kept = [(row, frame) for row, frame in wanted if frame in labelled[row]]
        # Of all frames some may well have no label map; of ED and ES that is worth a word.
        lost = (
            {row for row, _ in wanted} - {row for row, _ in kept}
            if self.frames == "all"
            else {row for row, frame in wanted if frame not in labelled[row]}
        )
        if lost:
            studies = "study has" if len(lost) == 1 else "studies have"
            self.note(
                f"{len(lost)} {split} {studies} no label map of a wanted frame, which is left out (the first is "
                f"'{self.cohort.ids[min(lost)]}'); prepare the data again with the labels."
            )
        return kept

    def extras(self) -> list[Extra]:
        """See :meth:`LabelledData.extras`."""
        return [LabelMaps(self.cohort.root, list(self.classes.values()))] if self.classes else []

    def train_transform(self) -> Whole:
        """The published augmentation of fine-tuning, with a hole."""
        return FinetuneAugment(self.input_size, self.run_seed, noise_scale=self.noise_scale, hole=True)

    def _wanted(self, row: int) -> list[int]:
        if self._single:
            return [0]
        if self.frames == "ed_es":
            return list(dict.fromkeys(int(frame) for frame in self._phases[row]))
        # not the table's n_frames, which counts the frames that all views have: a SAX series may be longer
        return list(range(self._dataset(()).count_frames(row, views_of(int(self._masks[row])))))

    def _labelled(self, row: int) -> set[int]:
        maps, study = LabelMaps(self.cohort.root, list(self.classes.values())), str(self.cohort.ids[row])
        return {frame for view in views_of(int(self._masks[row])) for frame in maps.frames(study, view)}


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

    @property
    def names(self) -> list[str]:
        """Landmarks in the order of the network's outputs, after setup."""
        return list(self.points.names)

    def describe(self) -> dict[str, Any]:
        """See :meth:`LabelledData.describe`."""
        return {"landmarks": self.names, "frames": self.frames}

    def check_target(self, spec: dict[str, Any]) -> None:
        """See :meth:`LabelledData.check_target`."""
        if not set(spec["landmarks"]) & set(self.known):
            raise CinemaError(
                f"{self.cohort.root} marks {', '.join(self.known)}, but the checkpoint finds "
                f"{', '.join(spec['landmarks'])}; test it on data with the same landmarks."
            )
        if absent := [name for name in spec["landmarks"] if name not in self.known]:
            rank_zero_warn(
                f"{self.cohort.root} does not mark {', '.join(absent)}: their distances stay empty, and means are over "
                "the other landmarks."
            )

    def encode(self) -> np.ndarray:
        """See :meth:`LabelledData.encode`."""
        table = read_landmarks(self.cohort.root)
        here = table[table["view"].isin(self.views)]
        self.known = list(dict.fromkeys(here["landmark"].tolist()))
        names = self._followed["landmarks"] if self._followed else (self.landmarks or self.known)
        strange = [name for name in self.landmarks or [] if name not in self.known]
        if not self.known or strange:
            what = f"no landmark called '{strange[0]}'" if strange else "no landmark"
            there = f"; there are {', '.join(self.known)}" if self.known else ""
            raise CinemaError(f"{self.cohort.root} has {what} in {', '.join(self.views)}{there}.")
        self.points: Points = gather_points(here, self.views, names)
        marked = [
            mask_of(view for view in self.views if self.points.frames(str(study), view)) for study in self.cohort.ids
        ]
        self._masks = self._masks & np.array(marked, dtype=np.uint8)
        known = self._masks > 0
        without = np.flatnonzero(~known & self.in_a_split())
        self.leave_out(without, f"without landmarks in {', '.join(self.views)}")
        return known

    def pairs(self, rows: np.ndarray, split: Split) -> Pairs:
        """See :meth:`LabelledData.pairs`."""
        out: Pairs = []
        for row in rows.tolist():
            study = str(self.cohort.ids[row])
            marked = {frame for view in views_of(int(self._masks[row])) for frame in self.points.frames(study, view)}
            phases = self._phases[row]
            if self.frames == "ed_es" and not self._single and np.isfinite(phases).all():
                marked &= {int(frame) for frame in phases}
            out += [(row, frame) for frame in sorted(marked)]
        return out

    def extras(self) -> list[Extra]:
        """See :meth:`LabelledData.extras`."""
        return [self.points]


def _checked_frames(frames: Frames) -> Frames:
    if frames not in ("ed_es", "all"):
        raise CinemaError(f"frames is {frames!r}; it is ed_es or all.")
    return frames
