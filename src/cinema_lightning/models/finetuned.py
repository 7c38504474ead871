"""The published fine-tuned networks: built from their files, with what their configurations say about the outputs."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from cinema_lightning.errors import CinemaError
from cinema_lightning.models.convunetr import ConvUNetR
from cinema_lightning.models.convvit import ConvViT
from cinema_lightning.models.layout import check_layout, first_keys
from cinema_lightning.models.sizes import SIZES
from cinema_lightning.models.weights import (
    CONFIG_NAME,
    block_of,
    config_input_sizes,
    load_published,
    locate,
    read_config,
    read_shapes,
)
from cinema_lightning.views import VIEWS

Shapes = Mapping[str, Sequence[int]]

_SEGMENTATION = ["background", "RV blood pool", "myocardium", "LV blood pool"]
_ACDC = ["DCM", "HCM", "MINF", "NOR", "RV"]
_MNMS = ["DCM", "HCM", "NOR", "ARV", "HHD"]
_MNMS2 = ["ARR", "CIA", "FALL", "HCM", "LV", "NOR"]
_CLASS_NAMES: dict[tuple[str, str], list[str]] = {
    ("segmentation", "acdc"): _SEGMENTATION,
    ("segmentation", "mnms"): _SEGMENTATION,
    ("segmentation", "mnms2"): _SEGMENTATION,
    ("classification_cvd", "acdc"): _ACDC,
    ("classification_cvd", "mnms"): _MNMS,
    ("classification_cvd", "mnms2"): _MNMS2,
    ("classification_sex", "mnms"): ["M", "F"],
    ("classification_vendor", "mnms2"): ["GE MEDICAL SYSTEMS", "Philips Medical Systems", "SIEMENS"],
}
"""What the outputs of published files are, by task folder and dataset, where no configuration says so."""

_STATISTICS: dict[tuple[str, str], tuple[str, float, float]] = {
    ("regression_ef", "acdc"): ("ef", 27.698811590282546, 10.848138374627386),
    ("regression_ef", "mnms"): ("ef", 39.75061820807878, 9.459011847661206),
    ("regression_ef", "mnms2"): ("ef", 37.97920801605608, 10.328604573626588),
    ("regression_bmi", "acdc"): ("bmi", 25.561040294207242, 4.732639548868183),
    ("regression_age", "mnms"): ("age", 52.026666666666664, 18.760570771166726),
}

EF_CAUTION = (
    "The published EF heads were trained on a column 'ef' whose mean is too low for a left-ventricular ejection "
    "fraction; do not report their output as LV EF."
)


def is_finetuned(shapes: Shapes) -> bool:
    """True for the keys of a ConvUNetR or ConvViT in the published layout."""
    return "encoder.cls_token" in shapes and not any(key.startswith("dec_embed_dict.") for key in shapes)


def load_finetuned(
    path: Path | str, revision: str | None = None, **arguments: Any
) -> tuple[ConvUNetR | ConvViT, dict[str, Any]]:
    """Builds a fine-tuned network from a published file and loads all its weights.

    Widths, depths and kernels come from the file's shapes, the input size and the number of heads from the
    ``config.yaml`` beside it or the published defaults.

    Args:
        path: Local file or folder, or a name on the Hugging Face hub
            (``mathpluscode/CineMA/finetuned/segmentation/acdc_sax/acdc_sax_0.safetensors``).
        revision: Hub revision.
        **arguments: Arguments of the network that take precedence.

    Returns:
        The network in float32 on the CPU, in training mode as built, and the facts of :func:`finetuned_facts`.

    Raises:
        CinemaError: If the file cannot be found or read, is of another layout, or does not fit its configuration.
    """
    file_path, config_path = locate(path, revision)
    shapes = read_shapes(file_path)
    facts = finetuned_facts(file_path, config_path, shapes)
    kind = ConvUNetR if facts["network"] == "ConvUNetR" else ConvViT
    wanted = {**network_arguments(config_path, shapes, facts), **arguments}
    try:
        with torch.device("meta"):
            network = kind(**wanted)
    except TypeError as error:
        raise CinemaError(f"{file_path} cannot be built: {error}; check the arguments and {CONFIG_NAME}.") from error
    check_layout(network, shapes, file_path)
    network = network.to_empty(device="cpu")
    load_published(network, file_path)
    return network, facts


def finetuned_facts(path: Path, config_path: Path | None, shapes: Shapes) -> dict[str, Any]:
    """Says what a published fine-tuned file is.

    Args:
        path: The file.
        config_path: Its ``config.yaml`` or None.
        shapes: Key -> shape in the file.

    Returns:
        ``network``, ``views``, ``channels`` and ``outputs``; and, where known, ``frames``, ``target`` (column),
        ``class_names`` in the order of the outputs, ``mean`` and ``std`` of a standardised target, ``caution``.

    Raises:
        CinemaError: If it is no such file, or the configuration contradicts it.
    """
    views = [view for view in VIEWS if len(shapes.get(_first_conv(view), ())) > 2]
    dense = any(key.startswith("decoder_dict.") for key in shapes)
    head = shapes.get(f"pred_head_dict.{views[0]}.weight") if views else None
    if not is_finetuned(shapes) or not head or not (dense or "pred_head_dict.cls.weight" in shapes):
        raise CinemaError(
            f"{path} is not a fine-tuned network in the published layout; its first keys are "
            f"{first_keys(sorted(shapes))}."
        )
    facts: dict[str, Any] = {
        "network": "ConvUNetR" if dense else "ConvViT",
        "views": views,
        "channels": int(shapes[_first_conv(views[0])][1]),
        "outputs": int(head[0]),
    }
    facts |= _published_facts(path, facts["outputs"])
    if config_path is not None:
        facts |= _config_facts(config_path)
    names = facts.get("class_names")
    if names is not None and len(names) != facts["outputs"]:
        raise CinemaError(
            f"{config_path} lists {len(names)} classes ({', '.join(names)}), but the network in {path} has "
            f"{facts['outputs']} outputs; take the {CONFIG_NAME} that belongs to it."
        )
    if facts.get("target") == "ef":
        facts["caution"] = EF_CAUTION
    return facts


def _first_conv(view: str) -> str:
    return f"enc_down_dict.{view}.conv_blocks.0.patch_embed.conv.weight"


def _published_facts(path: Path, outputs: int) -> dict[str, Any]:
    """What is known of a file from its place (``<task>/<data>_<view>/<file>``)."""
    if len(path.parts) < 3:
        return {}
    key = (path.parts[-3], path.parts[-2].split("_")[0])
    facts: dict[str, Any] = {}
    if len(_CLASS_NAMES.get(key, ())) == outputs:
        facts["class_names"] = list(_CLASS_NAMES[key])
    if key in _STATISTICS:
        facts["target"], facts["mean"], facts["std"] = _STATISTICS[key]
    return facts


def _config_facts(path: Path) -> dict[str, Any]:
    config = read_config(path)
    model, data = block_of(config, "model", path), block_of(config, "data", path)
    facts: dict[str, Any] = {}
    if isinstance(model.get("n_frames"), int):
        facts["frames"] = model["n_frames"]
    column = data.get("class_column")
    names = data.get(column) if column else None
    if isinstance(names, list):
        facts |= {"target": str(column), "class_names": [str(name) for name in names]}
    column = data.get("regression_column")
    statistics = data.get(column) if column else None
    if isinstance(statistics, dict):
        try:
            mean, std = float(statistics["mean"]), float(statistics["std"])
        except (KeyError, TypeError, ValueError) as error:
            raise CinemaError(f"{path} gives no mean and std under data.{column}; fetch it again.") from error
        facts |= {"target": str(column), "mean": mean, "std": std}
    return facts


def network_arguments(config_path: Path | None, shapes: Shapes, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Works out a network's constructor arguments: sizes from the shapes, the rest from the configuration.

    Args:
        config_path: The ``config.yaml`` beside the file or None.
        shapes: Key -> shape in the file.
        facts: What :func:`finetuned_facts` says.

    Returns:
        Arguments of :class:`ConvUNetR` or :class:`ConvViT`.
    """
    view = max(facts["views"], key=lambda name: VIEWS[name].dims)
    dense = facts["network"] == "ConvUNetR"
    stages = [
        shapes[key]
        for i in range(_count(shapes, rf"enc_down_dict\.{view}\.conv_blocks\.(\d+)\."))
        if len(shapes.get(key := f"enc_down_dict.{view}.conv_blocks.{i}.patch_embed.conv.weight", ())) > 2
    ]
    dim, depth = int(shapes["encoder.cls_token"][-1]), _count(shapes, r"encoder\.blocks\.(\d+)\.")
    found: dict[str, Any] = {
        "views": facts["views"],
        "channels": facts["channels"],
        "classes" if dense else "outputs": facts["outputs"],
        "size": next((name for name, size in SIZES.items() if (size.enc_dim, size.enc_depth) == (dim, depth)), "base"),
        "patch_size": list(stages[0][2:]),
        "conv_channels": [int(shape[0]) for shape in stages],
        "conv_blocks": _count(shapes, rf"enc_down_dict\.{view}\.conv_blocks\.0\.conv\.(\d+)\."),
        "enc_dim": dim,
        "enc_depth": depth,
    }
    if len(stages) > 1:
        found["scale"] = list(stages[1][2:])
    if dense:
        ups = _count(shapes, rf"decoder_dict\.{view}\.blocks\.(\d+)\.")
        keys = [f"decoder_dict.{view}.blocks.{i}.up.weight" for i in reversed(range(ups))]
        found["dec_channels"] = [int(shapes[key][0]) for key in keys if shapes.get(key)]
    if config_path is None:
        return found
    config = read_config(config_path)
    sizes = config_input_sizes(config, config_path)
    if sizes:
        found["input_size"] = {name: size for name, size in sizes.items() if name in facts["views"]}
    size = block_of(block_of(config, "model", config_path), facts["network"].lower(), config_path).get("size")
    if size is not None:
        found["size"] = size
    return found


def _count(shapes: Shapes, pattern: str) -> int:
    """One more than the largest number that a key holds at the pattern's group."""
    found = [int(match[1]) for key in shapes if (match := re.match(pattern, key))]
    return max(found, default=-1) + 1
