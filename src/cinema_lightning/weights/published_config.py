"""The ``config.yaml`` that lies beside a published file, written for networks of this package."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from cinema_lightning.models.convunetr import ConvUNetR
from cinema_lightning.models.convvit import ConvViT
from cinema_lightning.models.mae import MaskedAutoencoder
from cinema_lightning.models.sizes import SIZES
from cinema_lightning.views import VIEWS
from cinema_lightning.weights.kinds import PUBLISHED, PublishedKind

Publishable: TypeAlias = MaskedAutoencoder | ConvUNetR | ConvViT
PUBLISHABLE = (MaskedAutoencoder, ConvUNetR, ConvViT)
"""Networks that the published layout has a place for."""


def published_config(
    model: Publishable,
    spacing: Mapping[str, Sequence[float] | None] | None = None,
    about: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Writes a network's facts the way the published ``config.yaml`` does; 2D values are padded to three numbers.

    Args:
        model: The network.
        spacing: Voxel size in mm that it was trained at by view; the published one where that is not known.
        about: ``spec``, the facts of the data that it was trained with, which say what its outputs are; and the
            ``arguments`` of its ``network``. None where they are unknown.

    Returns:
        The blocks of the file. Beside the published keys, ``data.labels`` (code -> class of the label maps) and
        ``data.landmarks`` name what the published files leave unsaid.
    """
    about, spacing = about or {}, spacing or {}
    facts, options = about.get("spec") or {}, (about.get("network") or {}).get("arguments") or {}
    if isinstance(model, MaskedAutoencoder):
        return {"model": _encoder(model, "") | {"views": list(model.encoder.views)}, "data": _views(model, spacing, 1)}
    frames = model.channels if facts.get("channel_names") == ["ED", "ES"] else 1
    name = type(model).__name__.lower()
    kind = PUBLISHED[facts["kind"]] if facts.get("kind") in PUBLISHED else PublishedKind()
    named = {"name": facts["dataset"]} if "dataset" in facts else {}
    out: dict[str, Any] = {
        "task": kind.task or ("segmentation" if isinstance(model, ConvUNetR) else "regression"),
        "grad_ckpt": False,
        "data": named | _views(model, spacing, frames) | kind.write(facts),
        "model": {
            "name": name,
            "views": model.views[0] if len(model.views) == 1 else list(model.views),
            "out_chans": model.outputs,
            name: _encoder(model, "enc_")
            | (_decoder(model) if isinstance(model, ConvUNetR) else {})
            | {rate: float(options.get(rate, 0.1)) for rate in ("dropout", "drop_path")},
        },
    }
    if isinstance(model, ConvViT):
        out["model"]["n_frames"] = frames
    return out


def _views(model: Publishable, spacing: Mapping[str, Sequence[float] | None], frames: int) -> dict[str, Any]:
    """Input size, voxel size and channels of the short- and the long-axis views."""
    return {
        "lax" if VIEWS[view].is_long_axis else view: {
            "patch_size": list(geometry.input_size),
            "spacing": [float(x) for x in spacing.get(view) or VIEWS[view].spacing][: geometry.dims],
            "in_chans": model.encoder.channels // frames,
        }
        for view, geometry in model.encoder.geometries.items()
    }


def _encoder(model: Publishable, prefix: str) -> dict[str, Any]:
    first, step = _kernels(model)
    encoder = model.encoder
    size = model.config["size"] if isinstance(model, MaskedAutoencoder) else _size_of(model)
    named = {"size": size} if size is not None else {}
    return named | {
        f"{prefix}patch_size": first,
        f"{prefix}scale_factor": step,
        "enc_conv_chans": list(encoder.conv_channels),
        "enc_conv_n_blocks": encoder.conv_blocks,
    }


def _decoder(model: ConvUNetR) -> dict[str, Any]:
    _, step = _kernels(model)
    decoder: Any = model.decoders[model.views[0]]
    widths = [level.up.weight.shape[1] for level in reversed(decoder.ups)]
    return {"dec_chans": widths, "dec_patch_size": step, "dec_scale_factor": list(step)}


def _kernels(model: Publishable) -> tuple[list[int], list[int]]:
    """Kernels of the first convolution stage and of those after it, three numbers each."""
    widest = max(model.encoder.geometries.values(), key=lambda geometry: geometry.dims)
    padded = [[*kernel, 1][:3] for kernel in widest.kernels]
    return padded[0], padded[-1]


def _size_of(model: ConvUNetR | ConvViT) -> str | None:
    """The name of the encoder's width and depth; None where they were given by hand."""
    encoder = model.encoder
    own = (encoder.cls_token.shape[-1], len(encoder.transformer.blocks))
    return next((name for name, size in SIZES.items() if (size.enc_dim, size.enc_depth) == own), None)
