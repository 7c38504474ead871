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
from cinema_lightning.predict.parts import Key, PartTable, PartWriter
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

    def prepare(self, default_folder: Path, checkpoint: Path, data: dict[str, Any]) -> set[Key]:
        """Opens the folder and says what is already there.

        Args:
            default_folder: Where to write when no folder was given.
            checkpoint: The checkpoint that predicts.
            data: Options of the data; another value of any of them makes another table.

        Returns:
            (id, frame) pairs that earlier attempts wrote.

        Raises:
            CinemaError: If the folder holds predictions of something else.
        """
        folder = self.folder or default_folder
        folder.mkdir(parents=True, exist_ok=True)
        record = {"checkpoint": _digest(checkpoint), "data": data}
        text = json.dumps(record, indent=2, sort_keys=True, default=str) + "\n"
        self.table = PartTable(folder, self.stem, self.shard)
        known = folder / f"{self.stem}.json"
        if known.is_file() and known.read_text(encoding="utf-8") != text:
            if not self.overwrite:
                raise CinemaError(
                    f"{folder} holds predictions of another checkpoint or other data; choose another folder with "
                    "--output.folder, or replace them with --output.overwrite true."
                )
            self._clear(folder)
        temporary = known.with_name(f".{known.name}.{self.shard.index}.tmp")
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(known)
        return self.table.done()

    def _clear(self, folder: Path) -> None:
        for path in (*folder.glob(f"{self.stem}*.csv"), *(folder / ".parts").glob(f"{self.stem}*.csv")):
            path.unlink()

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Opens this process's part."""
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
        """Closes the parts and merges them on the first rank."""
        self._close()
        trainer.strategy.barrier("predictions")
        if trainer.is_global_zero:
            self.finish()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Closes the part; the next attempt goes on after it."""
        self._close()

    def _close(self) -> None:
        if self._part is not None:
            self._part.close()
            self._part = None

    def finish(self) -> None:
        """Merges and says where the result is."""
        target = self.table.finish()
        if target.is_file():
            rank_zero_info(f"Written: {target}")

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
                temporary = folder / f".{name}.tmp.png"
                figure.savefig(temporary, dpi=90)
                temporary.replace(folder / f"{name}.png")
                affine = batch[f"{view}_affine"][i].double().cpu().numpy()
                for title, image in one.items():
                    crop = tuple(slice(0, n) for n in size)
                    _write_nifti(folder / f"{name}_{title}.nii.gz", image[0][crop].float().cpu().numpy(), affine)


def _write_nifti(path: Path, image: np.ndarray, affine: np.ndarray) -> None:
    """Writes a float image (X, Y[, Z]) as NIfTI, atomically; a plane gets a third axis of length 1."""
    import nibabel

    volume = image[..., None] if image.ndim == 2 else image
    temporary = path.with_name(f".tmp.{path.name}")
    nibabel.save(nibabel.Nifti1Image(volume.astype(np.float32), affine), temporary)
    temporary.replace(path)


def _digest(path: Path) -> str:
    """Name and a hash of a checkpoint's bytes."""
    with path.open("rb") as file:
        return f"{path.name}:{hashlib.file_digest(file, 'sha256').hexdigest()[:16]}"
