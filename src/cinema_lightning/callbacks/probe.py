"""What a pretrained network's features know of a column of the table, as a figure of each validation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from lightning import Callback, LightningModule, Trainer

from cinema_lightning.columns import look_up
from cinema_lightning.data.draws import generator
from cinema_lightning.data.open import Opened, named_phases
from cinema_lightning.data.protocol import data_of
from cinema_lightning.errors import CinemaError
from cinema_lightning.metrics.probe import probe_classes, probe_number
from cinema_lightning.tasks.base import Task, run_seed
from cinema_lightning.tasks.pretrain import Pretrain

SUBJECTS = 256
"""Most training and most validation subjects that are looked at, drawn with the seed."""
LEAST = 4
"""Fewest subjects of either that a figure can be made of."""


class Probe(Callback):
    """Logs ``val/probe_linear`` and ``val/probe_knn``: what simple readers find in the features of ED frames.

    They learn from training subjects and are judged on validation subjects, one study of each: R2 of a number, balanced
    accuracy of classes. ED is the frame that the table names, else the first.

    Args:
        column: Column of the table. Empty cells are left out.
    """

    def __init__(self, column: str) -> None:
        self.column = column
        self._keys: dict[str, list[tuple[str, int]]] = {}
        self._values: dict[str, np.ndarray] = {}
        self._is_number = True

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Chooses the subjects.

        Raises:
            CinemaError: If the task gives no features, or too few subjects have the column.
        """
        if not isinstance(pl_module, Pretrain):
            raise CinemaError("key 'probe': a probe looks at the features of pretraining; leave it out here.")
        opened = data_of(trainer).opened
        cells = opened.cohort.texts(self.column)
        known = np.array([cell is not None for cell in cells])
        self._is_number = look_up(self.column).kind == "number" or _all_numbers(cells)
        values = opened.cohort.numbers(self.column) if self._is_number else np.array(cells, dtype=object)
        frames = np.nan_to_num(named_phases(opened.cohort)[:, 0]).astype(int)
        for split in ("train", "val"):
            rows = self._one_of_each(opened, opened.rows[split][known[opened.rows[split]]], split)
            self._keys[split] = [(str(opened.cohort.ids[row]), int(frames[row])) for row in rows]
            self._values[split] = values[rows]
            if len(rows) < LEAST:
                raise CinemaError(
                    f"key 'probe': {len(rows)} {split} subjects have a value in column {self.column} of "
                    f"{opened.cohort.source}, too few for a figure; choose another column, or leave it out."
                )

    def _one_of_each(self, opened: Opened, rows: np.ndarray, split: str) -> np.ndarray:
        subjects = opened.cohort.table["subject"].to_numpy(dtype=str)[rows]
        rows = rows[np.unique(subjects, return_index=True)[1]]
        chosen = generator(run_seed(), "probe", split).permutation(len(rows))[:SUBJECTS]
        return np.asarray(rows[np.sort(chosen)])

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Makes the figures on the first rank, and logs them on all."""
        if trainer.sanity_checking or not self._keys:
            return
        assert isinstance(pl_module, Task)
        found = self._figures(trainer, pl_module) if trainer.is_global_zero else {}
        for name, value in trainer.strategy.broadcast(found).items():
            pl_module.log(f"val/probe_{name}", value, rank_zero_only=False)

    def _figures(self, trainer: Trainer, task: Task) -> dict[str, float]:
        train, val = (self._features(trainer, task, self._keys[split]) for split in ("train", "val"))
        read = probe_number if self._is_number else probe_classes
        return read(train, self._values["train"], val, self._values["val"])

    def _features(self, trainer: Trainer, task: Task, keys: Sequence[tuple[str, int]]) -> np.ndarray:
        """(N, 2 width): the class token beside the mean over views of each view's mean token."""
        out = []
        with torch.no_grad(), trainer.precision_plugin.forward_context():
            for batch in data_of(trainer).batches_of(keys, task.device):
                pooled = {name: tokens.float().mean(dim=1)[0] for name, tokens in task.infer(batch).features.items()}
                views = torch.stack([value for name, value in pooled.items() if name != "cls"]).mean(dim=0)
                out.append(torch.cat([pooled["cls"], views]).double().cpu().numpy())
        return np.stack(out)


def _all_numbers(cells: Sequence[str | None]) -> bool:
    """Whether an undeclared column's cells are numbers, and more than a few different ones."""
    try:
        return len({float(cell) for cell in cells if cell is not None}) > 10
    except ValueError:
        return False
