"""Writes what a task predicts: a table with one row per subject and frame, and on request pictures and NIfTI."""

from __future__ import annotations

from functools import partial
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info

from cinema_lightning.callbacks.pictures import draw_panels
from cinema_lightning.files import replacing
from cinema_lightning.output.rows import RowWriter
from cinema_lightning.tasks.base import Output, Task


class PredictionWriter(RowWriter):
    """Streams rows to ``<folder>/<stem>.csv``; stopped and started again it goes on where it was.

    Args:
        folder: Where to write; None is ``predictions/`` in the run's folder.
        shard: Part of the cohort to do, such as ``3/8``; the parts merge when all are there.
        stem: Name of the table; None is ``features`` after pretraining and ``predictions`` after any other task.
        nifti: Also write each frame's reconstruction or label map as NIfTI under ``nifti/``; label maps in the geometry
            in which the images were acquired, whose voxels the table's volumes count.
        pictures: Also draw each frame under ``pictures/``.
        overwrite: Replace predictions of another checkpoint or other data that lie in the folder.
    """

    def __init__(
        self,
        folder: str | None = None,
        shard: str | None = None,
        stem: str | None = None,
        nifti: bool = False,
        pictures: bool = False,
        overwrite: bool = False,
    ) -> None:
        super().__init__(folder, shard, stem or "predictions", nifti, overwrite)
        self._named = stem is not None
        self.pictures = pictures

    def options(self) -> dict[str, Any]:
        """See :meth:`RowWriter.options`."""
        return {"nifti": self.nifti, "pictures": self.pictures}

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """See :meth:`RowWriter.setup`."""
        if not self._named:
            self.stem = getattr(pl_module, "prediction_stem", self.stem)
        if grid := getattr(pl_module, "prediction_grid", ""):  # numbers of two grids do not belong into one table
            self._record["grid"] = grid
        super().setup(trainer, pl_module, stage)

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Opens this process's part."""
        self.begin(trainer)

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Has the rows of a batch written."""
        self.later(trainer, pl_module, partial(self._write, pl_module, batch, outputs))

    def _write(self, task: LightningModule, batch: Any, outputs: Any) -> None:
        rows = self.made(task, outputs, "rows", batch)
        if self.pictures:
            self._draw(task, batch, rows.output)
        self.add(task, batch, rows)

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Closes the parts of all ranks."""
        self.close()
        trainer.strategy.barrier("predictions")

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Merges the parts on the first rank once all ranks are through; a run that broke off does not come here."""
        super().teardown(trainer, pl_module, stage)
        if not self.cut_short(trainer) and trainer.is_global_zero and not self.table.table.is_file():
            rank_zero_info(f"Written: {self.table.finish()}")

    def _draw(self, task: LightningModule, batch: Any, output: Output) -> None:
        assert isinstance(task, Task)
        panels = task.panels(batch, output)
        wanted = [weight > 0 for weight in batch["weight"].tolist()]
        for view, content in panels.items():
            for i, study in enumerate(batch["id"]):
                if not wanted[i]:
                    continue
                size = batch[f"{view}_size"][i].tolist()
                one = {title: images[i : i + 1] for title, images in content.items()}
                figure = draw_panels(view, one, [study], [size[2] if len(size) == 3 else 1])
                name = f"{view}_frame{int(batch['frame'][i]):02d}.png"
                with replacing(self.place / "pictures" / study / name) as temporary:
                    figure.savefig(temporary, dpi=90)
