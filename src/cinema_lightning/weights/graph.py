"""A trained network as a graph for other software: torch.export (.pt2) or ONNX (.onnx)."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from cinema_lightning.errors import CinemaError
from cinema_lightning.files import replacing
from cinema_lightning.models.mae import MaskedAutoencoder
from cinema_lightning.views import get_view

OWN_DEPTH = (
    "the network learnt stacks at their own depth, which a graph of one size cannot take: padded, they give slightly "
    "other numbers than with cinema"
)
Graph = Literal["torch", "onnx"]
SUFFIXES: dict[str, str] = {"torch": ".pt2", "onnx": ".onnx"}
TOLERANCE = 1e-4
"""Largest difference of a graph's outputs from the network's, relative to the largest output where that is above 1."""


class Positional(nn.Module):
    """A network that takes its views one after the other and gives a tuple, as graphs do.

    Dense networks give the logits of each view (``<view>_logits``), pooled ones ``outputs``, pretrained ones their
    tokens (``cls_tokens``, ``<view>_tokens``).

    Args:
        network: The network.
        views: Views in the order of the inputs.
    """

    def __init__(self, network: nn.Module, views: Sequence[str]) -> None:
        super().__init__()
        self.network = network
        self.views = list(views)

    def forward(self, *images: Tensor) -> tuple[Tensor, ...]:
        """Images (B, C, X, Y[, Z]) of each view -> outputs in the order of :meth:`outputs`."""
        given = dict(zip(self.views, images, strict=True))
        encode = self.network.encode if isinstance(self.network, MaskedAutoencoder) else self.network
        found = encode(given)
        return (
            (found,) if isinstance(found, Tensor) else tuple(found[name.rsplit("_", 1)[0]] for name in self.outputs())
        )

    def outputs(self) -> list[str]:
        """Names of the outputs."""
        if isinstance(self.network, MaskedAutoencoder):
            return [f"{name}_tokens" for name in ("cls", *self.views)]
        return [f"{view}_logits" for view in self.views] if hasattr(self.network, "classes") else ["outputs"]


def write_graph(task: Any, out: Path, kind: Graph) -> float:
    """Writes the network of a task as a graph of any batch size, and what it takes and gives as JSON beside it.

    Args:
        task: A task with its weights.
        out: The file.
        kind: ``torch`` or ``onnx``.

    Returns:
        The largest difference of the graph's outputs from the network's, on random images.

    Raises:
        CinemaError: If the network cannot be written so, or the graph gives other numbers.
    """
    sizes = {view: tuple(task.spec["input_size"][view]) for view in task.spec["views"]}
    network = Positional(task.network.eval().float().requires_grad_(False), list(sizes))
    generator = torch.Generator().manual_seed(0)
    images = tuple(torch.rand(2, task.spec["channels"], *size, generator=generator) for size in sizes.values())
    program = _traced(network, images, out)
    out.parent.mkdir(parents=True, exist_ok=True)
    with torch.no_grad(), replacing(out) as temporary:
        found = _torch(program, images, temporary) if kind == "torch" else _onnx(program, network, images, temporary)
        off = max(_difference(a, b) for a, b in zip(found, network(*images), strict=True))
        if not off <= TOLERANCE:
            raise CinemaError(
                f"{out}: the graph's outputs differ from the network's by {off:.2g}; nothing was written."
            )
    with replacing(out.with_suffix(".json")) as temporary:
        temporary.write_text(json.dumps(_about(task, network, sizes), indent=2, default=str) + "\n", encoding="utf-8")
    return off


def _about(task: Any, network: Positional, sizes: dict[str, tuple[int, ...]]) -> dict[str, Any]:
    """What a user of the graph has to know."""
    return {
        "inputs": {
            view: {"shape": ["batch", task.spec["channels"], *size], "view": get_view(view).display}
            for view, size in sizes.items()
        },
        "range": "grey levels scaled to 0 to 1; smaller images are padded with 0 at the end of each axis",
        **({"depth": OWN_DEPTH} if task.spec.get("depth") == "own" else {}),
        "outputs": network.outputs(),
        "task": type(task).__name__,
        "network": type(task.network).__name__,
        "spec": dict(task.spec),
    }


def _traced(network: Positional, images: tuple[Tensor, ...], out: Path) -> Any:
    batch = torch.export.Dim("batch", min=1)
    try:
        with torch.no_grad():
            shapes = (tuple({0: batch} for _ in images),)  # of the one argument that takes them all
            return torch.export.export(network, images, dynamic_shapes=shapes)
    except Exception as error:  # torch.export raises many unrelated kinds
        name = type(network.network).__name__
        first = str(error).strip().split("\n", 1)[0][:200]
        raise CinemaError(
            f"{out}: a {name} cannot be written as a graph ({first}); give it on as its .ckpt file."
        ) from error


def _torch(program: Any, images: tuple[Tensor, ...], path: Path) -> Sequence[Tensor]:
    with path.open("wb") as file:
        torch.export.save(program, file)
    found: Sequence[Tensor] = torch.export.load(path).module()(*images)
    return found


def _onnx(program: Any, network: Positional, images: tuple[Tensor, ...], path: Path) -> Sequence[Tensor]:
    try:
        import onnxruntime
        import onnxscript  # noqa: F401  (what torch writes ONNX with)
    except ModuleNotFoundError as error:
        raise CinemaError(
            f"--format onnx needs {error.name}, which is not installed: pip install 'cinema-lightning[export]'."
        ) from error
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        written = torch.onnx.export(
            program,
            input_names=network.views,
            output_names=network.outputs(),
            dynamo=True,
            verbose=False,
        )
    assert written is not None
    written.save(str(path), include_initializers=True)
    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    given = {view: image.numpy() for view, image in zip(network.views, images, strict=True)}
    return [torch.from_numpy(values) for values in session.run(network.outputs(), given)]


def _difference(found: Tensor, wanted: Tensor) -> float:
    return float((found - wanted).abs().max() / wanted.abs().max().clamp(min=1))
