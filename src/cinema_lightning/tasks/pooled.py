"""Base of the tasks with one row of outputs per study."""

from __future__ import annotations

import torch
from torch import Tensor

from cinema_lightning.models.tiling import predict_tiled
from cinema_lightning.tasks.base import Batch, Panels
from cinema_lightning.tasks.downstream import Downstream, by_own_size, least_size


class Pooled(Downstream):
    """Outputs of whole studies; stacks deeper than the input go through in tiles, whose outputs are averaged."""

    def infer(self, batch: Batch) -> Tensor:
        """(B, outputs) float32, without a gradient."""
        depth = {view: size[2] for view, size in self.spec["input_size"].items() if len(size) == 3}
        images = self.images(batch)
        parts = by_own_size(batch, images, least_size(self.spec))
        found = [(places, predict_tiled(self.network, part, depth, "none")) for places, part in parts]
        order = torch.tensor([place for places, _ in found for place in places])
        values = torch.cat([part for _, part in found if isinstance(part, Tensor)])
        return values[order.argsort()]

    outputs = infer  # as plug-ins knew it

    def scores(self, output: Tensor) -> dict[str, Tensor]:
        """The outputs themselves."""
        return {"outputs": output}

    def from_scores(self, batch: Batch, scores: dict[str, Tensor]) -> Tensor:
        """See :meth:`scores`."""
        return scores["outputs"]

    def panels(self, batch: Batch, output: Tensor) -> Panels:
        """The images, channel by channel."""
        names = self.spec.get("channel_names") or [f"channel {i}" for i in range(self.spec["channels"])]
        return {
            view: {name: image[:, channel] for channel, name in enumerate(names)}
            for view, image in self.images(batch).items()
        }
