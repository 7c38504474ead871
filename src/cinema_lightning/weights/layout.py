"""How this package's modules correspond to the keys and shapes of the published files.

They differ in three ways: names, convolutions that are linear layers here, and query and key-value layers that are
one layer here. :func:`published_slots` lists the correspondence for any network built of these modules.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from cinema_lightning.errors import CinemaError
from cinema_lightning.models.blocks import PatchConv, PointwiseConv
from cinema_lightning.models.dense_decoder import PatchUpConv
from cinema_lightning.models.transformer import SelfAttention

_STEM = r"^encoder\.stems\.(\w+)\."
_RULES: tuple[tuple[str, str], ...] = tuple(
    (pattern, replacement)
    for pattern, replacement in (
        (
            _STEM + r"stages\.(\d+)\.blocks\.(\d+)\.pointwise([12])\.",
            r"enc_down_dict.\1.conv_blocks.\2.conv.\3.conv\4.",
        ),
        (_STEM + r"stages\.(\d+)\.blocks\.(\d+)\.depthwise\.", r"enc_down_dict.\1.conv_blocks.\2.conv.\3.dw_conv."),
        (_STEM + r"stages\.(\d+)\.blocks\.(\d+)\.", r"enc_down_dict.\1.conv_blocks.\2.conv.\3."),
        (_STEM + r"stages\.(\d+)\.down\.", r"enc_down_dict.\1.conv_blocks.\2.patch_embed.conv."),
        (_STEM + r"stages\.(\d+)\.norm\.", r"enc_down_dict.\1.conv_blocks.\2.patch_embed.norm."),
        (_STEM + r"embed\.", r"enc_down_dict.\1.patch_embed.proj."),
        (_STEM + r"linear\.", r"enc_down_dict.\1.linear."),
        (_STEM + r"position\.table$", r"enc_down_dict.\1.pos_embed"),
        (r"^encoder\.transformer\.", "encoder."),
        (r"^fusion\.(\w+)\.downs\.", r"enc_fusion_dict.\1.down_convs."),
        (r"^fusion\.(\w+)\.norm\.", r"enc_fusion_dict.\1.norm."),
        (r"^decoder_embed\.", "dec_linear."),
        (r"^queries\.(\w+)\.position\.table$", r"dec_embed_dict.\1.pos_embed"),
        (r"^queries\.(\w+)\.mask_token$", r"dec_embed_dict.\1.mask_token"),
        (r"^heads\.", "pred_head_dict."),
        (r"^decoders\.(\w+)\.image\.", r"dec_image_conv_block_dict.\1."),
        (r"^decoders\.(\w+)\.down\.", r"dec_down_blocks_dict.\1.0."),
        (r"^decoders\.(\w+)\.skips\.", r"dec_conv_blocks_dict.\1."),
        (r"^decoders\.(\w+)\.carries\.", r"dec_carry_dict.\1."),  # this package's own, not published
        (r"^decoders\.(\w+)\.end\.", r"dec_end_dict.\1."),
        (r"^decoders\.(\w+)\.ups\.(\d+)\.up\.", r"decoder_dict.\1.blocks.\2.up."),
        (r"^decoders\.(\w+)\.ups\.(\d+)\.blocks\.", r"decoder_dict.\1.blocks.\2.conv."),
    )
)


@dataclass(frozen=True)
class Slot:
    """Where one published tensor lives in a network of this package.

    Attributes:
        published: Key in a published file.
        own: Key in the network's state dict.
        shape: Shape in a published file.
        kernel: Kernel of a convolution that is a linear layer here, else None.
        rows: First and last row (exclusive) of the own tensor that it fills; None for all.
        transposed: The convolution is a transposed one.
    """

    published: str
    own: str
    shape: tuple[int, ...]
    kernel: tuple[int, ...] | None = None
    rows: tuple[int, int] | None = None
    transposed: bool = False

    def export(self, tensor: Tensor) -> Tensor:
        """Turns the own tensor into the published one."""
        if self.rows is not None:
            tensor = tensor[self.rows[0] : self.rows[1]]
        if self.kernel is None:
            return tensor
        if self.transposed:
            return tensor.unflatten(0, (*self.kernel, -1)).movedim((-1, -2), (0, 1))
        return tensor.unflatten(1, (*self.kernel, -1)).movedim(-1, 1)

    def fill(self, target: Tensor, value: Tensor) -> None:
        """Copies a published tensor to its place in the own tensor."""
        if self.kernel is not None and self.transposed:
            value = value.movedim((0, 1), (-1, -2)).flatten(0, -2)
        elif self.kernel is not None:
            value = value.movedim(1, -1).flatten(1)
        rows = target if self.rows is None else target[self.rows[0] : self.rows[1]]
        rows.copy_(value)


def published_name(key: str) -> str:
    """Translates a state-dict key of this package to the published name (query, key and value still together)."""
    for pattern, replacement in _RULES:
        name, found = re.subn(pattern, replacement, key)
        if found:
            return name
    return key


def published_slots(model: nn.Module) -> list[Slot]:
    """Lists every tensor of the published layout that a network has a place for.

    Args:
        model: A network built of this package's modules, on any device including meta.

    Returns:
        One entry per published key.
    """
    state = model.state_dict(keep_vars=True)
    modules = dict(model.named_modules())
    slots: list[Slot] = []
    for own, tensor in state.items():
        parent, _, leaf = own.rpartition(".")
        owner = modules.get(parent.rpartition(".")[0])
        slots += _slots_of(own, published_name(own), tensor, modules.get(parent), owner, leaf)
    return slots


def _slots_of(
    own: str, name: str, tensor: Tensor, module: nn.Module | None, owner: nn.Module | None, leaf: str
) -> Iterator[Slot]:
    shape = tuple(tensor.shape)
    if isinstance(module, PatchConv | PointwiseConv) and leaf == "weight":
        out, channels = shape[0], shape[1] // torch.Size(module.kernel).numel()
        yield Slot(name, own, (out, channels, *module.kernel), kernel=module.kernel)
    elif isinstance(module, PatchUpConv) and leaf == "weight":
        out, channels = shape[0] // torch.Size(module.kernel).numel(), shape[1]
        yield Slot(name, own, (channels, out, *module.kernel), kernel=module.kernel, transposed=True)
    elif isinstance(owner, SelfAttention) and module is owner.qkv:
        dim = shape[0] // 3
        yield Slot(name.replace(".qkv.", ".q."), own, (dim, *shape[1:]), rows=(0, dim))
        yield Slot(name.replace(".qkv.", ".kv."), own, (2 * dim, *shape[1:]), rows=(dim, 3 * dim))
    else:
        yield Slot(name, own, shape)


def to_published(model: nn.Module) -> dict[str, Tensor]:
    """Gives a network's tensors under published names and shapes, contiguous, on the CPU.

    Heads that are used in training only are left out.
    """
    state = model.state_dict()
    auxiliary = {id(p) for head in getattr(model, "auxiliary_heads", list)() for p in head.parameters()}
    members = {key for key, value in model.state_dict(keep_vars=True).items() if id(value) not in auxiliary}
    slots = [slot for slot in published_slots(model) if slot.own in members]
    return {slot.published: slot.export(state[slot.own]).detach().cpu().contiguous() for slot in slots}


def check_layout(model: nn.Module, shapes: Mapping[str, Sequence[int]], path: Path | str) -> None:
    """Compares the keys and shapes of a published file with what a network needs.

    Args:
        model: The network.
        shapes: Key -> shape in the file.
        path: The file, for the message.

    Raises:
        CinemaError: If they differ; it names the first keys that do.
    """
    wanted = {slot.published: slot.shape for slot in published_slots(model)}
    complaints = (
        ("lacks", [key for key in wanted if key not in shapes]),
        ("has unknown", [key for key in shapes if key not in wanted]),
        (
            "has other shapes for",
            [
                f"{key} ({list(shapes[key])} instead of {list(shape)})"
                for key, shape in wanted.items()
                if key in shapes and tuple(shapes[key]) != shape
            ],
        ),
    )
    found = [f"{verb} {first_keys(keys)}" for verb, keys in complaints if keys]
    if found:
        raise CinemaError(
            f"{path} does not fit this network: it {', '.join(found)}; give a checkpoint of the same network and size."
        )


def first_keys(keys: Sequence[str], n: int = 3) -> str:
    """Names the first few keys, for messages."""
    more = f" and {len(keys) - n} more" if len(keys) > n else ""
    return ", ".join(keys[:n]) + more
