"""An average of the weights over the steps, which is validated, kept and used in the place of the last ones."""

from __future__ import annotations

from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import WeightAveraging
from lightning.pytorch.utilities import rank_zero_info
from torch.optim.swa_utils import get_ema_multi_avg_fn

from cinema_lightning.errors import CinemaError


class Ema(WeightAveraging):
    """Exponential moving average (EMA) of the weights, beside those that are trained.

    Validation and pictures see the averaged weights, and checkpoints hold them (``state_dict``); those that a resumed
    run goes on with lie beside them (``current_model_state``). Buffers, such as batch statistics, are the newest.

    Args:
        decay: Share of the average that a step leaves, such as 0.999: it reaches over about 1 / (1 - decay) steps. 0
            keeps no average.

    Raises:
        CinemaError: If it is no share.
    """

    def __init__(self, decay: float = 0.0) -> None:
        if not 0 <= decay < 1:
            raise CinemaError(f"ema.decay is {decay}; give a share from 0 (no average) to below 1, such as 0.999.")
        super().__init__(use_buffers=False, multi_avg_fn=get_ema_multi_avg_fn(decay))
        self.decay = decay

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Copies the weights to where they will be trained; they are moved there later."""
        self._device = trainer.strategy.root_device
        super().setup(trainer, pl_module, stage)
        rank_zero_info(f"Averages the weights over the steps (ema.decay {self.decay}); checkpoints hold the average.")

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Not yet: pictures of a validation are drawn with the averaged weights, too."""

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Trains on with the weights that are trained."""
        super().on_validation_epoch_end(trainer, pl_module)

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Takes both back.

        Raises:
            CinemaError: If the checkpoint has no average.
        """
        if "averaging_state" not in checkpoint:
            raise CinemaError("The checkpoint holds no averaged weights: resume it without ema.decay.")
        super().on_load_checkpoint(trainer, pl_module, checkpoint)
