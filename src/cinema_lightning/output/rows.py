"""What testing and predicting share: a folder that is claimed, a table in parts, images as NIfTI."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn

from cinema_lightning.columns import IMAGES
from cinema_lightning.data.protocol import data_of
from cinema_lightning.errors import CinemaError
from cinema_lightning.files import write_text
from cinema_lightning.output.aside import Aside
from cinema_lightning.output.images import write_nifti
from cinema_lightning.output.parts import PartTable, PartWriter
from cinema_lightning.shards import Shard
from cinema_lightning.tasks.base import Output, Rows, Task


class RowWriter(Callback):
    """Streams rows to ``<folder>/<stem>.csv``; stopped and started again it goes on where it was.

    Args:
        folder: Where to write.
        shard: Part of the cohort to do, such as ``3/8``; the parts merge when all are there.
        stem: Name of the table.
        nifti: Also write what the task has as images.
        overwrite: Replace what another checkpoint or other data left in the folder.
    """

    what = "predictions"
    of_table: tuple[str, ...] = IMAGES
    """Columns of the cohort table that the rows follow from; empty for all."""

    def __init__(self, folder: str | None, shard: str | None, stem: str, nifti: bool, overwrite: bool) -> None:
        self.folder = Path(folder) if folder else None
        self.shard = Shard.parse(shard)
        self.stem = stem
        self.nifti = nifti
        self.overwrite = overwrite
        self.table: PartTable
        self._part: PartWriter | None = None
        self._aside: Aside | None = None
        self._default = Path(self.what)
        self._record: dict[str, Any] = {}

    def describe(
        self,
        default_folder: Path,
        checkpoint: Path,
        data: dict[str, Any],
        others: Sequence[Path] = (),
        turning: str = "none",
    ) -> None:
        """Says what is done, before the run.

        Args:
            default_folder: Where to write when no folder was given.
            checkpoint: The checkpoint in use.
            data: Options of the data; another value of any of them makes another table.
            others: Checkpoints that are averaged with it.
            turning: Turned images that are averaged.
        """
        self._default = default_folder
        self._record = {"checkpoint": _digest(checkpoint), "data": data, **self.options()}
        if others:
            self._record["others"] = [_digest(path) for path in others]
        if turning != "none":
            self._record["tta"] = turning

    def options(self) -> dict[str, Any]:
        """Options that change what the folder holds."""
        return {"nifti": self.nifti}

    @property
    def place(self) -> Path:
        """The folder that is written to."""
        return self.folder or self._default

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Claims the folder on the first rank, and leaves out of the data what is already there.

        Raises:
            CinemaError: If the folder holds results of something else.
        """
        self.table = PartTable(self.place, self.stem, self.shard)
        self._record["precision"] = str(trainer.precision)  # parts of two precisions would differ in the last digits
        # a folder whose studies changed holds rows of those that are gone, and shards of it would miss some
        data = data_of(trainer)
        chosen = ("subject", "split") if self.of_table and data.predict_split != "all" else ()
        self._record["table"] = data.opened.digest((*self.of_table, *chosen))
        refusal = self._claim(self.place) if trainer.is_global_zero else None
        refusal = trainer.strategy.broadcast(refusal)
        if refusal:
            raise CinemaError(refusal)
        if isinstance(pl_module, Task):
            gathers = trainer.predicting and trainer.predict_loop.return_predictions
            pl_module.rows_left = pl_module.rows_beside and not gathers
        if self.table.finished:
            rank_zero_info(f"Already there: {self.place}; --output.overwrite true does it again.")
            data.restrict_prediction(lambda _: [])
        else:
            data.restrict_prediction(self.shard.of, self.table.done())

    def _claim(self, folder: Path) -> str | None:
        """Notes what the folder's results are of; the sentence that refuses it where it holds others."""
        text = json.dumps(self._record, indent=2, sort_keys=True, default=str) + "\n"
        known = folder / f"{self.stem}.json"
        # a note without rows was left by an attempt that failed before it began
        others = self.table.begun and known.is_file() and self._differs(known)
        if others and self.overwrite and self.shard.count > 1:
            return (
                f"{folder} holds {self.what} of something else, which --output.overwrite cannot replace shard by shard "
                "without mixing the two; choose another folder with --output.folder, or empty this one."
            )
        if self.overwrite:
            self.table.clear()
        elif others:
            return (
                f"{folder} holds {self.what} of another checkpoint, other data or other options; choose another folder "
                "with --output.folder, or replace them with --output.overwrite true."
            )
        write_text(known, text)
        return None

    def _differs(self, known: Path) -> bool:
        """Whether a note is of something else; those of before the table was noted say nothing of it."""
        noted = {"table": self._record["table"]} | json.loads(known.read_text(encoding="utf-8"))
        return bool(noted != json.loads(json.dumps(self._record, default=str)))

    def begin(self, trainer: Trainer) -> None:
        """Opens this process's part."""
        if not self.table.finished:
            self._part = self.table.new_part(trainer.global_rank)

    def later(self, trainer: Trainer, task: LightningModule, job: Callable[[], None]) -> None:
        """Has a batch's rows made and written in a thread, in order, while the network goes on.

        Where the network is far ahead it waits. Of a task that asks its network for rows all is done at once.

        Raises:
            Exception: Whatever was raised while an earlier batch was written.
        """

        def quietly() -> None:
            with torch.inference_mode(), trainer.precision_plugin.forward_context():
                job()

        if not getattr(task, "rows_beside", False):
            quietly()
            return
        self._aside = self._aside or Aside()
        self._aside(quietly)

    def add(self, task: LightningModule, batch: Any, rows: Rows) -> None:
        """Writes the rows of a batch and its images, leaving out repeats that only fill it up."""
        assert self._part is not None
        wanted = [weight > 0 for weight in batch["weight"].tolist()]
        repeats = {key for key, keep in zip(_keys(batch), wanted, strict=True) if not keep} - {
            key for key, keep in zip(_keys(batch), wanted, strict=True) if keep
        }
        if self.nifti:
            self._write_images(task, batch, rows.output, wanted)
        self._part.write([row for row in rows if (row["id"], row["frame"]) not in repeats])

    def close(self) -> None:
        """Waits for what is being written, and closes this process's part.

        Raises:
            Exception: Whatever was raised while a batch was written.
        """
        aside, self._aside = self._aside, None
        try:
            if aside is not None:
                aside.close()
        finally:
            self._close_part()

    def _close_part(self) -> None:
        if self._part is not None:
            self._part.close()
            self._part = None

    def cut_short(self, trainer: Trainer) -> bool:
        """Whether a limit on the batches left subjects out, so that no whole table can be made yet; says so."""
        verb = "test" if trainer.testing else "predict"
        loader = getattr(trainer, f"{verb}_dataloaders")
        limit = getattr(trainer, f"limit_{verb}_batches")
        total = 0 if loader is None else len(loader)
        done = int(total * limit) if isinstance(limit, float) else min(limit, total)
        if done < total:
            rank_zero_warn(
                f"{done} of {total} batches were done (trainer.limit_{verb}_batches, trainer.fast_dev_run); their rows "
                f"are kept under {self.place}, and the same command without the limit does the rest and writes the "
                "tables."
            )
        return done < total

    def made(self, task: LightningModule, found: Any, make: str, batch: Any) -> Rows:
        """The rows that a step gave; where it left them, those that the task's method ``make`` makes of the output."""
        output = getattr(found, "output", None)  # of a plug-in's own step they may be a plain list
        left = isinstance(found, Rows) and not found and getattr(task, "rows_left", False)
        return Rows(getattr(task, make)(batch, output) if left else found, output)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Nobody is there any more to make the rows."""
        if isinstance(pl_module, Task):
            pl_module.rows_left = False

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Writes what the network is through with, and closes the part; the next attempt goes on after it."""
        with suppress(Exception):  # what is being raised already says why
            self.close()
        RowWriter.teardown(self, trainer, pl_module, "")

    def _write_images(self, task: LightningModule, batch: Any, output: Output, wanted: list[bool]) -> None:
        assert isinstance(task, Task)
        found = task.volumes(batch, output)
        for view, images in found.items():
            for i, study in enumerate(batch["id"]):
                if not wanted[i]:
                    continue
                name = f"{view}_frame{int(batch['frame'][i]):02d}"
                for title, volumes in images.items():
                    target = self.place / "nifti" / study / f"{name}_{title}.nii.gz"
                    write_nifti(target, volumes[i].voxels, volumes[i].affine)


def _keys(batch: Any) -> list[tuple[str, int]]:
    return list(zip(batch["id"], batch["frame"].tolist(), strict=True))


def _digest(path: Path) -> str:
    """Name and a hash of a checkpoint's bytes."""
    with path.open("rb") as file:
        return f"{path.name}:{hashlib.file_digest(file, 'sha256').hexdigest()[:16]}"
