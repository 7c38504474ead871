"""Starting from other weights: where a ``weights:`` entry of a configuration leads, and what is taken from there."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cinema_lightning.errors import CinemaError
from cinema_lightning.models.backbone import DenseBackbone, PooledBackbone
from cinema_lightning.models.lora import merge_lora_state
from cinema_lightning.models.mae import MaskedAutoencoder
from cinema_lightning.weights.files import config_spacing, locate, opened, read_checkpoint, read_note, read_shapes
from cinema_lightning.weights.finetuned import finetuned_facts, is_finetuned
from cinema_lightning.weights.foreign import GIVE, family
from cinema_lightning.weights.layout import Slot, first_keys, published_name, published_slots

Shape = tuple[int, ...]

_FIRST_CONV = re.compile(r"^enc_down_dict\.\w+\.conv_blocks\.0\.patch_embed\.conv\.weight$")
_PARTS: tuple[tuple[str, str], ...] = (
    (r"^(?:enc_down_dict|dec_embed_dict)\.(\w+)\.pos_embed$", "position embeddings"),
    (r"^enc_down_dict\.(\w+)\.", "stems"),
    (r"^enc_fusion_dict\.(\w+)\.", "fusion"),
    (r"^encoder\.()", "encoder"),
    (r"^dec_embed_dict\.(\w+)\.mask_token$", "mask tokens"),
    (r"^(?:dec_linear|decoder|nearness)\.()", "pretraining decoder"),
    (r"^dec_(?:image_conv_block|down_blocks|conv_blocks|carry|end)_dict\.(\w+)\.", "decoder"),
    (r"^decoder_dict\.(\w+)\.", "decoder"),
    (r"^pred_head_dict\.(\w+)\.", "heads"),
)
_REQUIRED = ("stems", "encoder", "network")
_PRETRAINING_ONLY = ("position embeddings", "mask tokens", "pretraining decoder", "heads")


@dataclass
class LoadReport:
    """What was taken from other weights.

    Attributes:
        source: Where they came from.
        loaded: Published keys that were filled.
        inflated: Those of them that were repeated over input channels.
        left_out: Key of the source -> why it was not used.
        fresh: Published keys of the network that keep their initial values.
        facts: What the source says about its outputs (class names, mean and SD of the target, ...).
        heads: Keys of the network that are heads although their names do not say so.
    """

    source: str
    loaded: list[str] = field(default_factory=list)
    inflated: list[str] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    fresh: list[str] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    heads: frozenset[str] = frozenset()

    @property
    def complete(self) -> bool:
        """True if no part keeps its initial values, the fixed position tables aside."""
        return all(part_of(key)[0] == "position embeddings" for key in self.fresh)

    def __str__(self) -> str:
        """A few sentences for the log."""
        text = [f"Loaded {len(self.loaded)} tensors from {self.source} ({self._parts(self.loaded)})."]
        if self.inflated:
            text.append(f"Repeated over the input channels: {', '.join(self.inflated)}.")
        if self.left_out:
            reasons = Counter(self.left_out.values())
            text.append("Left out: " + "; ".join(f"{n} tensors: {reason}" for reason, n in reasons.items()) + ".")
        if self.fresh:
            text.append(f"Initial values kept: {len(self.fresh)} tensors ({self._parts(self.fresh)}).")
        return " ".join(text)

    def _parts(self, keys: list[str]) -> str:
        counts = Counter(part_of(key, self.heads)[0] for key in keys)
        return ", ".join(f"{part} {n}" for part, n in counts.items())


@dataclass(frozen=True)
class Source:
    """Weights in the published layout.

    Attributes:
        name: Where they come from, for messages.
        shapes: Published key -> shape.
        read: Gives the tensor of a key.
    """

    name: str
    shapes: Mapping[str, Shape]
    read: Callable[[str], Tensor]


def part_of(key: str, heads: frozenset[str] = frozenset()) -> tuple[str, str]:
    """The part of a network that a published key belongs to, and its view (empty where it has none).

    Args:
        key: The key.
        heads: Keys that are heads although their names do not say so, as in networks of other libraries.
    """
    for pattern, part in _PARTS:
        if match := re.match(pattern, key):
            return part, match[1]
    return ("heads" if key in heads else "network"), ""


def state_source(network: nn.Module, state: Mapping[str, Tensor], name: str) -> Source:
    """Presents a state dict, of this package's keys or the published ones, in the published layout.

    Args:
        network: The network that it is meant for, which says how tensors are stored.
        state: State dict; adapters in it are merged.
        name: Where it comes from.

    Returns:
        The source; tensors are views where possible.
    """
    state = merge_lora_state(state)
    tensors: dict[str, Tensor] = {}
    used = set()
    if not any(key.startswith("enc_down_dict.") for key in state):
        for slot in published_slots(network):
            if slot.own in state:
                used.add(slot.own)
                tensors[slot.published] = _exported(slot, state[slot.own])
    tensors |= {published_name(key): value for key, value in state.items() if key not in used}
    return Source(name, {key: tuple(value.shape) for key, value in tensors.items()}, tensors.__getitem__)


def _exported(slot: Slot, tensor: Tensor) -> Tensor:
    try:
        return slot.export(tensor)
    except (RuntimeError, IndexError):  # another kernel: the shape will tell
        return tensor


def transfer(network: nn.Module, source: Source, other_heads: str = "") -> LoadReport:
    """Takes what fits from any weights of the published layout.

    Stems and encoder must fit. Position embeddings, fusion, dense decoders and heads are taken view by view where all
    of one fits, and never from a masked autoencoder, fusion aside. Where the network has more input channels than the
    weights, the first convolution is repeated over them, unscaled (arXiv 2506.00679).

    Args:
        network: Changed in place.
        source: The weights.
        other_heads: Why the source's heads answer another question and are not taken; empty where they may be.

    Returns:
        What was loaded and what was left out.

    Raises:
        CinemaError: If the weights do not fit; the network is then unchanged.
    """
    slots = published_slots(network)
    heads = network.head_keys() if isinstance(network, DenseBackbone | PooledBackbone) else frozenset()
    pretraining = any(key.startswith("dec_embed_dict.") for key in source.shapes)
    same_kind = isinstance(network, MaskedAutoencoder)
    _check_fit(network, slots, source)
    barred: tuple[str, ...] = _PRETRAINING_ONLY if pretraining and not same_kind else ()
    barred += ("heads",) if other_heads else ()
    groups: dict[tuple[str, str], list[Slot]] = {}
    for slot in slots:
        groups.setdefault(part_of(slot.published, heads), []).append(slot)
    report = LoadReport(source.name, heads=heads)
    plan: list[tuple[Slot, int]] = []
    for (part, _), members in groups.items():
        if part not in barred and all(_repeats(slot, source.shapes.get(slot.published)) for slot in members):
            plan += [(slot, _repeats(slot, source.shapes[slot.published])) for slot in members]
        elif part in _REQUIRED or (same_kind and part != "position embeddings"):
            raise _misfit(source, members)
        else:
            report.fresh += [slot.published for slot in members]
    _fill(network, source, plan, report)
    mine = {slot.published: slot.shape for slot in slots}
    views = {view for _, view in groups}
    for key in sorted(source.shapes.keys() - set(report.loaded)):
        reason = _why(key, part_of(key, heads), mine, views, pretraining)
        report.left_out[key] = other_heads if other_heads and reason == "heads of other shapes" else reason
    return report


def _fill(network: nn.Module, source: Source, plan: list[tuple[Slot, int]], report: LoadReport) -> None:
    state = network.state_dict()
    with torch.no_grad():
        for slot, times in plan:
            value = source.read(slot.published)
            if times > 1:
                value = value.repeat(1, times, *[1] * (value.dim() - 2))
                report.inflated.append(slot.published)
            slot.fill(state[slot.own], value)
            report.loaded.append(slot.published)


def _repeats(slot: Slot, shape: Shape | None) -> int:
    """How often a tensor of this shape is repeated over input channels to fill the slot; 0 if it does not fit."""
    if shape is None:
        return 0
    if tuple(shape) == slot.shape:
        return 1
    fits = len(shape) == len(slot.shape) > 2 and (shape[0], *shape[2:]) == (slot.shape[0], *slot.shape[2:])
    if not fits or not _FIRST_CONV.match(slot.published) or slot.shape[1] % shape[1]:
        return 0
    return slot.shape[1] // shape[1]


def _check_fit(network: nn.Module, slots: list[Slot], source: Source) -> None:
    kind = type(network).__name__
    has_encoder = any(slot.published == "encoder.cls_token" for slot in slots)
    shared = any(slot.published in source.shapes for slot in slots)
    if has_encoder != ("encoder.cls_token" in source.shapes) or not shared:
        whose = family(source.shapes)
        raise CinemaError(
            f"{source.name} holds a network of another kind ({whose and f'{whose}; '}first keys "
            f"{first_keys(sorted(source.shapes))}), from which {kind} cannot start; choose another network or other "
            f"weights{f': {GIVE}' * has_encoder}."
        )
    if not has_encoder:
        return
    wanted = {view for key in slots if (found := part_of(key.published))[0] == "stems" for view in found[1:]}
    given = {view for key in source.shapes if (found := part_of(key))[0] == "stems" for view in found[1:]}
    if missing := sorted(wanted - given):
        raise CinemaError(
            f"{source.name} has no weights for the views {', '.join(missing)}, it has {', '.join(sorted(given))}; "
            "choose views among these."
        )
    mine = {slot.published for slot in slots}
    if extra := [key for key in source.shapes if key.startswith("encoder.blocks.") and key not in mine]:
        raise CinemaError(
            f"{source.name} does not fit this network: its encoder is deeper ({first_keys(extra)}); "
            "choose the size that it was trained with."
        )


def _misfit(source: Source, members: list[Slot]) -> CinemaError:
    lacking = [slot.published for slot in members if slot.published not in source.shapes]
    wrong = [
        f"{slot.published} ({list(source.shapes[slot.published])} instead of {list(slot.shape)})"
        for slot in members
        if slot.published in source.shapes and not _repeats(slot, source.shapes[slot.published])
    ]
    parts = [
        f"{verb} {first_keys(keys)}" for verb, keys in (("lacks", lacking), ("has other shapes for", wrong)) if keys
    ]
    return CinemaError(
        f"{source.name} does not fit this network: it {', '.join(parts)}; choose the size and channels that it was "
        "trained with."
    )


def _why(key: str, place: tuple[str, str], mine: Mapping[str, Shape], views: set[str], pretraining: bool) -> str:
    part, view = place
    if view and view != "cls" and view not in views:
        return f"view {view} is not used here"
    if key not in mine:
        return f"this network has no {part}" if part != "network" else "this network has no such tensor"
    if pretraining and part in _PRETRAINING_ONLY:
        return f"{part} of pretraining are not taken over"
    return f"{part} of other shapes"


def load_weights(
    spec: str | Path,
    network: nn.Module,
    revision: str | None = None,
    other_heads: Callable[[dict[str, Any]], str] | None = None,
) -> LoadReport:
    """Starts a network from other weights.

    From a masked autoencoder, ConvUNetR and ConvViT take stems and encoder (ConvViT also the fusion); from one of
    their own kind they take all that fits, and heads with another number of outputs keep their initial values. The
    report's ``complete`` tells whether anything does: ask for it before the network is applied without training.

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
