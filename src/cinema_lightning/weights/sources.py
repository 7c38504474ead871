"""Weights by name: where a ``weights:`` entry of a configuration leads, and what comes of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import nn

from cinema_lightning.weights.files import config_spacing, locate, opened, read_checkpoint, read_note, read_shapes
from cinema_lightning.weights.finetuned import finetuned_facts, is_finetuned
from cinema_lightning.weights.transfer import LoadReport, Source, state_source, transfer


def load_weights(
    spec: str | Path,
    network: nn.Module,
    revision: str | None = None,
    other_heads: Callable[[dict[str, Any]], str] | None = None,
) -> LoadReport:
    """Starts a network from other weights.

    From a masked autoencoder, ConvUNetR and ConvViT take stems and encoder (see
    :func:`~cinema_lightning.weights.transfer.init_from_pretrained`); from one of their own kind they take all that
    fits, and heads with another number of outputs keep their initial values. The report's ``complete`` tells whether
    anything does: ask for it before the network is applied without training.

    Args:
        spec: A Lightning checkpoint of this package (``.ckpt``), or a safetensors file in the published layout: a
            local file or folder, or a hub name (see :func:`~cinema_lightning.weights.files.locate`).
        network: Changed in place.
        revision: Hub revision.
        other_heads: Takes what the source says about its outputs, and says why its heads answer another question and
            are not taken; empty where they may be. Nothing given: they are taken where they fit.

    Returns:
        What was loaded, what was left out and why; its ``facts`` hold what the source says about its outputs and
        the voxel size (``spacing``, by view) that it was trained at.

    Raises:
        CinemaError: If nothing is found, the file is damaged or of another kind, or it does not fit; the network is
            then unchanged.
    """
    if str(spec).endswith(".ckpt"):
        path = Path(spec).expanduser()
        state, facts = read_checkpoint(path)
        report = transfer(network, state_source(network, state, str(path)), other_heads(facts) if other_heads else "")
        report.facts = facts
        return report
    path, config = locate(spec, revision)
    with file_source(path) as source:
        finetuned = is_finetuned(source.shapes)
        facts = finetuned_facts(path, config, source.shapes, read_note(path)) if finetuned else {}
        report = transfer(network, source, other_heads(facts) if other_heads else "")
    spacing = config_spacing(config)
    report.facts = facts | ({"spacing": spacing} if spacing else {})
    return report


@contextmanager
def file_source(path: Path) -> Iterator[Source]:
    """Presents a published file as a source; tensors are read one by one.

    Args:
        path: A safetensors file.

    Yields:
        The source, usable inside the ``with`` statement.

    Raises:
        CinemaError: If the file is missing, truncated or of another format.
    """
    shapes = read_shapes(path)
    with opened(path) as file:
        yield Source(str(path), shapes, file.get_tensor)
