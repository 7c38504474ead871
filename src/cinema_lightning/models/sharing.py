"""Networks whose encoders are the same: it is kept once, and goes over each image once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn

from cinema_lightning.models.encoder import EncoderOutput, MultiViewEncoder
from cinema_lightning.models.patches import Selection
from cinema_lightning.models.transformer import SelfAttention


def share_encoders(networks: Sequence[nn.Module]) -> list[MultiViewEncoder]:
    """Lets networks whose encoders hold the same weights use one, as heads do that were trained on a frozen backbone.

    Args:
        networks: Networks; ``encoder`` of some is replaced by another's that gives the same.

    Returns:
        The encoders that several of them use.
    """
    kept: list[MultiViewEncoder] = []
    shared: list[MultiViewEncoder] = []
    for network in networks:
        own = getattr(network, "encoder", None)
        if not isinstance(own, MultiViewEncoder):
            continue
        twin = next((one for one in kept if one is own or _same(one, own)), None)
        if twin is None:
            kept.append(own)
            continue
        network.encoder = twin
        shared += [] if any(one is twin for one in shared) else [twin]
    return shared


@contextmanager
def encoding_once(encoders: Sequence[MultiViewEncoder]) -> Iterator[None]:
    """Inside, encoders in evaluation mode give for images that they have seen what they made of them before."""
    with ExitStack() as stack:
        for encoder in encoders:
            stack.enter_context(_remembering(encoder))
        yield


@contextmanager
def _remembering(encoder: MultiViewEncoder) -> Iterator[None]:
    made: list[tuple[Mapping[str, Tensor], EncoderOutput]] = []
    encode = encoder.forward

    def forward(images: Mapping[str, Tensor], selections: Mapping[str, Selection] | None = None) -> EncoderOutput:
        if selections is not None:
            return encode(images, selections)
        known = next((output for seen, output in made if _equal(seen, images)), None)
        if known is None:
            known = encode(images)
            made.append((dict(images), known))
        return known

    encoder.forward = forward  # type: ignore[method-assign]
    try:
        yield
    finally:
        del encoder.forward  # the class's own is found again


def _same(one: MultiViewEncoder, other: MultiViewEncoder) -> bool:
    return _made_alike(one) == _made_alike(other) and _equal(one.state_dict(), other.state_dict())


def _made_alike(encoder: MultiViewEncoder) -> tuple[object, ...]:
    """What an encoder is made of that its weights do not tell."""
    heads = [part.heads for part in encoder.modules() if isinstance(part, SelfAttention)]
    return encoder.geometries, encoder.channels, heads


def _equal(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(
        value.shape == other[name].shape and torch.equal(value, other[name]) for name, value in one.items()
    )
