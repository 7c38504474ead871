"""Inference on stacks deeper than a network's input: overlapping tiles along z, probabilities averaged."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Literal

import torch
from torch import Tensor

from cinema_lightning.errors import CinemaError

Activation = Literal["softmax", "sigmoid", "none"]
Network = Callable[[Mapping[str, Tensor]], Mapping[str, Tensor | list[Tensor]] | Tensor]
_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "softmax": lambda logits: logits.softmax(dim=1),
    "sigmoid": torch.sigmoid,
    "none": lambda outputs: outputs,
}


def tile_starts(depth: int, tile: int, overlap: float = 0.5) -> list[int]:
    """First slice of each tile, the last tile flush with the end.

    Args:
        depth: Slices of the stack.
        tile: Slices of a tile.
        overlap: Share of a tile that the next one covers again.

    Returns:
        Ascending slice numbers; just 0 where one tile covers the stack.

    Raises:
        CinemaError: For a tile without slices or an overlap outside [0, 1).
    """
    if tile < 1 or not 0 <= overlap < 1:
        raise CinemaError(f"Tiles of {tile} slices with overlap {overlap} cannot cover a stack; check both.")
    if depth <= tile:
        return [0]
    step = max(1, int(tile * (1 - overlap)))
    n_steps = math.ceil((depth - tile) / step)
    return [min(i * step, depth - tile) for i in range(n_steps + 1)]


@torch.no_grad()
def predict_tiled(
    network: Network,
    images: Mapping[str, Tensor],
    depth: Mapping[str, int],
    activation: Activation = "softmax",
    batch_size: int = 4,
    overlap: float = 0.5,
) -> dict[str, Tensor] | Tensor:
    """Predicts probabilities, in tiles along z where a stack is deeper than the network's input.

    The views that are not tiled go with every tile, and their outputs are averaged over the tiles too. Put the network
    in evaluation mode first.

    Args:
        network: Dense (returns {view: logits}) or pooled (returns (B, outputs)).
        images: View -> (B, C, X, Y[, Z]); one view at most deeper than its tile.
        depth: View -> slices of a tile, for the views with slices.
        activation: What turns outputs into probabilities before they are averaged.
        batch_size: Tiles (of all samples together) in one pass of the network.
        overlap: Share of a tile that the next one covers again.

    Returns:
        View -> probabilities (B, classes, X, Y[, Z]), or (B, outputs) of a pooled network; float32.

    Raises:
        CinemaError: If two views are deeper than their tiles.
    """
    probability = _ACTIVATIONS[activation]
    deep = [v for v, image in images.items() if image.dim() == 5 and v in depth and image.shape[-1] > depth[v]]
    if not deep:
        return _map(network(images), lambda out: probability(out.float()))
    if len(deep) > 1:
        raise CinemaError(
            f"The views {' and '.join(deep)} are both deeper than the network's input; tile one at a time."
        )
    view = deep[0]
    image, tile = images[view], depth[view]
    batch, n_slices = image.shape[0], image.shape[-1]
    jobs = [(sample, start) for start in tile_starts(n_slices, tile, overlap) for sample in range(batch)]
    sums: dict[str, Tensor] = {}
    counts = torch.zeros(n_slices, device=image.device)
    for _, start in jobs[::batch]:
        counts[start : start + tile] += 1
    for first in range(0, len(jobs), batch_size):
        chosen = jobs[first : first + batch_size]
        samples = [sample for sample, _ in chosen]
        inputs = {v: other[samples] for v, other in images.items() if v != view}
        inputs[view] = torch.stack([image[sample, ..., start : start + tile] for sample, start in chosen])
        outputs = network({v: inputs[v] for v in images})
        named = {"": outputs} if isinstance(outputs, Tensor) else outputs
        for name, out in named.items():
            values = probability(_single(out).float())
            _accumulate(sums, name, values, chosen, (batch, n_slices if name == view else None))
    n_tiles = len(jobs) // batch
    result = {name: total.div_(counts if name == view else n_tiles) for name, total in sums.items()}
    return result.get("", result)


def _accumulate(
    sums: dict[str, Tensor],
    name: str,
    values: Tensor,
    chosen: list[tuple[int, int]],
    shape: tuple[int, int | None],
) -> None:
    """Adds tiles' values to the running sums of their samples; ``shape`` is B and, for the tiled view, its depth."""
    batch, n_slices = shape
    if name not in sums:
        size = values.shape[1:] if n_slices is None else (*values.shape[1:-1], n_slices)
        sums[name] = values.new_zeros(batch, *size)
    for value, (sample, start) in zip(values, chosen, strict=True):
        place = sums[name][sample]
        if n_slices is not None:
            place = place[..., start : start + value.shape[-1]]
        place += value


def _single(output: Tensor | list[Tensor]) -> Tensor:
    return output if isinstance(output, Tensor) else output[0]


def _map(
    outputs: Mapping[str, Tensor | list[Tensor]] | Tensor, function: Callable[[Tensor], Tensor]
) -> dict[str, Tensor] | Tensor:
    if isinstance(outputs, Tensor):
        return function(outputs)
    return {view: function(_single(output)) for view, output in outputs.items()}
