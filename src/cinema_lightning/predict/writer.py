"""Writes what a task predicts: a table with one row per subject and frame, and on request pictures and NIfTI."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info

from cinema_lightning.callbacks.pictures import draw_panels
from cinema_lightning.errors import CinemaError
from cinema_lightning.files import replacing
from cinema_lightning.predict.parts import PartTable, PartWriter
from cinema_lightning.shards import Shard
from cinema_lightning.tasks.base import Task


class PredictionWriter(Callback):
    """Streams rows to ``<folder>/<stem>.csv``; stopped and started again it goes on where it was.

    Args:
        folder: Where to write; None is ``predictions/`` in the run's folder.
        shard: Part of the cohort to do, such as ``3/8``; the parts merge when all are there.
        stem: Name of the table.
        reconstructions: Also write each frame's panels as PNG and NIfTI under ``reconstructions/``.
        overwrite: Replace predictions of another checkpoint or other data that lie in the folder.
    """

    def __init__(
        self,
        folder: str | None = None,
        shard: str | None = None,
        stem: str = "features",
        reconstructions: bool = False,
        overwrite: bool = False,
    ) -> None:
        self.folder = Path(folder) if folder else None
        self.shard = Shard.parse(shard)
        self.stem = stem
        self.reconstructions = reconstructions
        self.overwrite = overwrite
        self.table: PartTable
        self._part: PartWriter | None = None
        self._default = Path("predictions")
        self._record: dict[str, Any] = {}

    def describe(self, default_folder: Path, checkpoint: Path, data: dict[str, Any]) -> None:
        """Says what is predicted, before the run.

        Args:
            default_folder: Where to write when no folder was given.
            checkpoint: The checkpoint that predicts.
            data: Options of the data; another value of any of them makes another table.
        """
        self._default = default_folder
        self._record = {"checkpoint": _digest(checkpoint), "data": data, "reconstructions": self.reconstructions}

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Claims the folder on the first rank, and leaves out of the data what is already there.

        Raises:
            CinemaError: If the folder holds predictions of something else.
        """
        folder = self.folder or self._default
        self.table = PartTable(folder, self.stem, self.shard)
        refusal = self._claim(folder) if trainer.is_global_zero else None
        refusal = trainer.strategy.broadcast(refusal)
        if refusal:
            raise CinemaError(refusal)
        datamodule: Any = trainer.datamodule  # type: ignore[attr-defined]
        if self.table.finished:
            rank_zero_info(f"Already there: {folder}; --output.overwrite true does it again.")
            datamodule.restrict_prediction(lambda _: [])
        else:
            datamodule.restrict_prediction(self.shard.of, self.table.done())

    def _claim(self, folder: Path) -> str | None:
        """Notes what the folder's predictions are of; the sentence that refuses it where it holds others."""
        text = json.dumps(self._record, indent=2, sort_keys=True, default=str) + "\n"
        known = folder / f"{self.stem}.json"
        others = known.is_file() and known.read_text(encoding="utf-8") != text
        if others and self.overwrite and self.shard.count > 1:
            return (
                f"{folder} holds predictions of something else, which --output.overwrite cannot replace shard by shard "
                "without mixing the two; choose another folder with --output.folder, or empty this one."
            )
        if self.overwrite:
            self.table.clear()
        elif others:
            return (
                f"{folder} holds predictions of another checkpoint, other data or other options; choose another folder "
                "with --output.folder, or replace them with --output.overwrite true."
            )
        with replacing(known) as temporary:
            temporary.write_text(text, encoding="utf-8")
        return None

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Opens this process's part."""
        if not self.table.finished:
            self._part = self.table.new_part(trainer.global_rank)

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Writes the rows of a batch, leaving out repeats that only fill it up."""
        assert self._part is not None
        real = [weight > 0 for weight in batch["weight"].tolist()]
        if self.reconstructions:
            self._write_panels(pl_module, trainer, batch, real)
        self._part.write([row for row, wanted in zip(outputs, real, strict=True) if wanted])

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Closes the parts of all ranks."""
        self._close()
        trainer.strategy.barrier("predictions")

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Closes the part; the next attempt goes on after it."""
        self._close()

    def _close(self) -> None:
        if self._part is not None:
            self._part.close()
            self._part = None

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Merges the parts on the first rank once all ranks are through; a run that broke off does not come here."""
        if trainer.is_global_zero and not self.table.finished:
            rank_zero_info(f"Written: {self.table.finish()}")

    def _write_panels(self, task: LightningModule, trainer: Trainer, batch: Any, real: list[bool]) -> None:
        with torch.no_grad(), trainer.precision_plugin.forward_context():
            assert isinstance(task, Task)
            panels = task.panels(batch)
        for view, images in panels.items():
            for i, sample in enumerate(batch["id"]):
                if not real[i]:
                    continue
                size = batch[f"{view}_size"][i].tolist()
                folder = self.table.folder / "reconstructions" / sample
                folder.mkdir(parents=True, exist_ok=True)
                name = f"{view}_frame{int(batch['frame'][i]):02d}"
                one = {title: image[i : i + 1] for title, image in images.items()}
                figure = draw_panels(view, one, [sample], [size[2] if len(size) == 3 else 1])
                with replacing(folder / f"{name}.png") as temporary:
                    figure.savefig(temporary, dpi=90)
                affine = batch[f"{view}_affine"][i].double().cpu().numpy()
                for title, image in one.items():
                    crop = tuple(slice(0, n) for n in size)
                    _write_nifti(folder / f"{name}_{title}.nii.gz", image[0][crop].float().cpu().numpy(), affine)


def _write_nifti(path: Path, image: np.ndarray, affine: np.ndarray) -> None:
    """Writes a float image (X, Y[, Z]) as NIfTI, atomically; a plane gets a third axis of length 1."""
    import nibabel

    volume = image[..., None] if image.ndim == 2 else image
    with replacing(path) as temporary:
        nibabel.save(nibabel.Nifti1Image(volume.astype(np.float32), affine), temporary)


def _digest(path: Path) -> str:
    """Name and a hash of a checkpoint's bytes."""
    with path.open("rb") as file:
        return f"{path.name}:{hashlib.file_digest(file, 'sha256').hexdigest()[:16]}"
