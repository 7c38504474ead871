"""Samples of pretraining: one frame of each study."""

from __future__ import annotations

from cinema_lightning.data import DATA
from cinema_lightning.data.augment.base import Effect
from cinema_lightning.data.augment.crop import Crop
from cinema_lightning.data.augment.zoom import Zoom
from cinema_lightning.data.datamodule import CineDataModule


@DATA.register
class PretrainData(CineDataModule):
    """UK Biobank, or any other cohort, for pretraining: one random frame per study and epoch, the same in all views.

    Subjects may lack views: batches are grouped by the views that their samples have. Training batches are zoomed at
    random as published. Arguments are those of :class:`CineDataModule`.
    """

    def published_augmentation(self) -> list[Effect]:
        """A zoom, and a crop."""
        return [Zoom(), Crop(axes_apart=True)]
