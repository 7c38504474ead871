"""A prepared store, or a folder of plain NIfTI files, as a torch dataset."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import torch
from torch.utils.data import Dataset

from cinema_lightning.data.dataset import Batch, Sample, collate
from cinema_lightning.data.labels import LabelledDataset, LabelMaps, plain
from cinema_lightning.data.open import named_phases
from cinema_lightning.data.sampler import Draw
from cinema_lightning.data.table import SPLITS, TABLE, Split, mask_of, read_cohort, views_of
from cinema_lightning.data.transforms import Whole
from cinema_lightning.errors import CinemaError
from cinema_lightning.inference.pipe import whole_numbers
from cinema_lightning.views import VIEWS, Depth, get_view

if TYPE_CHECKING:
    import pandas as pd

_CODES = range(255)
"""Label maps are handed out in the codes of the store; 255 is where nothing is known."""


class Store(Dataset[dict[str, Any]]):
    """The frames of a store, with all views, labels and fields of the study; made by :func:`cinema_lightning.open`.

    An item is a dict: ``id``, ``frame``, ``fields`` (cells of the table), and for each view V that the study has ``V``
    uint8 (1, X, Y[, Z]), ``V_spacing`` (3,) mm, ``V_affine`` (4, 4), and from a store ``V_label`` uint8 (X, Y[, Z])
    codes, 255 all over where ``V_labelled`` is false.

    Attributes:
        table: One row per study.
        views: Views that are read.
    """

    def __init__(
        self,
        root: Path,
        views: Sequence[str],
        split: Split | None,
        frames: Literal["all", "ed_es"] | Sequence[int],
        input_size: Mapping[str, Sequence[int]],
        depth: Depth,
    ) -> None:
        cohort = read_cohort(root, views)
        self.table: pd.DataFrame = cohort.table
        self.views = tuple(views)
        sizes = {view: input_size.get(view, get_view(view).input_size) for view in views}
        self._fit = Whole(sizes, depth=depth)
        self._masks = cohort.view_masks & np.uint8(mask_of(views))
        phases = named_phases(cohort)
        extras = [LabelMaps(cohort.root, _CODES)] if cohort.source.name == TABLE else []
        self._dataset = LabelledDataset(cohort.ids, cohort.reader, 0, str(cohort.source), extras=extras, phases=phases)
        chosen = self._masks > 0
        if split is not None:
            chosen &= cohort.table["split"].to_numpy() == split
        rows = np.flatnonzero(chosen)
        if not len(rows):
            what = f"{split} studies" if split else "studies"
            raise CinemaError(f"{cohort.source} has no {what} with the views {', '.join(views)}; ask for others.")
        counts = cohort.numbers("n_frames")
        self._samples = [
            (int(row), frame) for row in rows for frame in self._frames(int(row), frames, phases[row], counts[row])
        ]

    def _frames(self, row: int, wanted: Any, phases: np.ndarray, count: float) -> list[int]:
        if wanted == "ed_es":
            return list(dict.fromkeys(int(frame) for frame in phases if np.isfinite(frame)))
        if wanted != "all":
            return whole_numbers(wanted, "all", "ed_es")
        known = np.isfinite(count)
        return list(range(int(count) if known else self._dataset.count_frames(row, views_of(int(self._masks[row])))))

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Reads one frame of one study.

        Raises:
            CinemaError: If a file is missing or damaged; names row, id and file.
        """
        row, frame = self._samples[index]
        sample = self._dataset.sample(Draw(0, row, views_of(int(self._masks[row])), 1.0, frame))
        fields = {str(name): plain(cell) for name, cell in self.table.iloc[row].items()}
        tensors = {k: torch.from_numpy(v) if isinstance(v, np.ndarray) else v for k, v in sample.items()}
        kept = {k: v for k, v in tensors.items() if k not in ("weight", "epoch")}
        return kept | {"fields": fields}

    def collate(self, items: Sequence[Mapping[str, Any]]) -> Batch:
        """A batch for a network, to be given to a DataLoader as ``collate_fn``.

        Args:
            items: Items that have the same views.

        Returns:
            For each view V float32 (B, 1, X, Y[, Z]) in [0, 1], padded at the end to the input size at least;
            ``V_size`` the true sizes, ``V_label`` padded with 0; ``id``, ``frame`` and ``fields``.

        Raises:
            CinemaError: If the views differ.
        """
        keys = [sorted(item) for item in items]
        if any(one != keys[0] for one in keys):
            raise CinemaError("The items of a batch have different views: open the store with views that all have.")
        arrays: list[Sample] = [
            {k: v.numpy() if isinstance(v, torch.Tensor) else v for k, v in item.items() if k != "fields"}
            | {"weight": 1.0, "epoch": 0}
            for item in items
        ]
        batch = self._fit(collate(arrays))
        wanted = {k: v for k, v in batch.items() if not k.startswith("_") and k not in ("weight", "epoch")}
        return wanted | {"fields": [item["fields"] for item in items]}


def open(
    root: str | Path,
    *,
    views: Sequence[str] | None = None,
    split: Split | None = None,
    frames: Literal["all", "ed_es"] | Sequence[int] = "all",
    input_size: Mapping[str, Sequence[int]] | None = None,
    depth: Depth = "padded",
) -> Store:
    """Opens a store made by `cinema prepare` or `cinema phantom`, or a folder of plain NIfTI files, as a torch dataset.

    Args:
        root: The folder.
        views: Views to read; a study is read with those of them that it has. By default all.
        split: train, val or test, as the table says; by default all studies.
        frames: All frames, the two that the table names ED and ES (ed_es), or numbers from 0.
        input_size: View -> size of a network's input, such as ``model.spec.input_size``, which batches are padded to;
            by default the published one.
        depth: Whether the batches' stacks are padded along z too (padded), or as deep as the deepest of the batch
            (own), such as ``model.spec.depth``.

    Returns:
        The dataset.

    Raises:
        CinemaError: If there is no data, or none of that split or view.
    """
    for view in views or ():
        get_view(view)
    if depth not in get_args(Depth):
        raise CinemaError(f"depth is {depth!r}; it is own or padded.")
    if split is not None and split not in SPLITS:
        raise CinemaError(f"split is '{split}'; it is {', '.join(SPLITS)}, or left out for all.")
    return Store(Path(root).expanduser(), list(views or VIEWS), split, frames, input_size or {}, depth)
