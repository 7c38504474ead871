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
from cinema_lightning.models.sizes import SIZES
from cinema_lightning.views import VIEWS
from cinema_lightning.weights.files import (
    CONFIG_NAME,
    block_of,
    config_input_sizes,
    load_published,
    locate,
    read_config,
    read_note,
    read_shapes,
)
from cinema_lightning.weights.foreign import GIVE, whose_is
from cinema_lightning.weights.kinds import PUBLISHED
from cinema_lightning.weights.layout import check_layout, first_keys

Shapes = Mapping[str, Sequence[int]]

_RENAMED = {"myops2020": "myops"}
"""What other software calls a dataset -> its name here."""


def published_outputs(folder: str, dataset: str) -> tuple[list[str], str]:
    """What the networks of a published folder give.

    Args:
        folder: Task folder, such as classification_sex.
        dataset: Dataset that they were trained on.

    Returns:
        (classes in the order of the outputs, none for other kinds; target of a regression, empty for other kinds).
    """
    known = next((kind.known[folder, dataset] for kind in PUBLISHED.values() if (folder, dataset) in kind.known), {})
    return list(known.get("class_names", ())), str(known.get("target", ""))


def is_finetuned(shapes: Shapes) -> bool:
    """True for the keys of a ConvUNetR or ConvViT in the published layout."""
    return "encoder.cls_token" in shapes and not any(key.startswith("dec_embed_dict.") for key in shapes)


def load_finetuned(
    path: Path | str, revision: str | None = None, **arguments: Any
) -> tuple[ConvUNetR | ConvViT, dict[str, Any]]:
    """Builds a fine-tuned network from a published file and loads all its weights.

    What the network was built with comes from, in this order: ``arguments``, what
    :func:`~cinema_lightning.weights.files.save_published` noted in the file, the file's shapes (widths, depths and
    kernels), the ``config.yaml`` beside it (input size, number of heads), the published defaults.

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
    shapes, note = read_shapes(file_path), read_note(file_path)
    facts = finetuned_facts(file_path, config_path, shapes, note)
    cls = ConvUNetR if facts["network"] == "ConvUNetR" else ConvViT
    wanted = {**network_arguments(config_path, shapes, facts), **noted_arguments(note, file_path), **arguments}
    try:
        with torch.device("meta"):
            network = cls(**wanted)
    except TypeError as error:
        raise CinemaError(f"{file_path} cannot be built: {error}; check the arguments and {CONFIG_NAME}.") from error
    check_layout(network, shapes, file_path)
    network = network.to_empty(device="cpu")
    load_published(network, file_path)
    return network, facts


def finetuned_facts(
    path: Path, config_path: Path | None, shapes: Shapes, note: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Says what a published fine-tuned file is.

    Args:
        path: The file.
        config_path: Its ``config.yaml`` or None.
        shapes: Key -> shape in the file.
        note: What the file's header says of it, see :func:`~cinema_lightning.weights.files.read_note`.

    Returns:
        ``network``, ``views``, ``channels`` and ``outputs``; and, where known, ``kind``, ``frames``, ``target``
        (column), ``class_names`` in the order of the outputs, ``label_codes``, ``landmarks``, ``mean`` and ``std`` of
        a standardised target, ``caution``.

    Raises:
        CinemaError: If it is no such file, or the configuration contradicts it.
    """
    views = [view for view in VIEWS if len(shapes.get(_first_conv(view), ())) > 2]
    dense = any(key.startswith("decoder_dict.") for key in shapes)
    head = shapes.get(f"pred_head_dict.{views[0]}.weight") if views else None
    if not is_finetuned(shapes) or not head or not (dense or "pred_head_dict.cls.weight" in shapes):
        raise CinemaError(
            f"{path} {whose_is(shapes)}not a fine-tuned network in the published layout; its first keys are "
            f"{first_keys(sorted(shapes))}. Here, {GIVE}."
        )
    facts: dict[str, Any] = {
        "network": "ConvUNetR" if dense else "ConvViT",
        "views": views,
        "channels": int(shapes[_first_conv(views[0])][1]),
        "outputs": int(head[0]),
    }
    said = _noted_facts(note) or (_config_facts(config_path) if config_path is not None else {})
    place = (path.parts[-3] if len(path.parts) > 2 else "", str(trained_on(path, config_path, note)))
    facts |= said if note else _published_facts(place, facts) | said
    names = facts.get("class_names")
    if names is not None and len(names) != facts["outputs"]:
        raise CinemaError(
            f"{config_path} lists {len(names)} classes ({', '.join(names)}), but the network in {path} has "
            f"{facts['outputs']} outputs; take the {CONFIG_NAME} that belongs to it."
        )
    caution = next((text for kind in PUBLISHED.values() if (text := kind.caution(facts))), "")
    if caution and not note:  # the columns of our own tables are the user's
        facts["caution"] = caution
    return facts


def _first_conv(view: str) -> str:
    return f"enc_down_dict.{view}.conv_blocks.0.patch_embed.conv.weight"


def trained_on(path: Path, config_path: Path | None, note: Mapping[str, Any] | None = None) -> str | None:
    """Name of the dataset that a fine-tuned file was trained on; None where neither note, config nor names tell."""
    spec = (note or {}).get("spec")
    if isinstance(spec, dict):
        return str(spec.get("dataset"))
    said = block_of(read_config(config_path), "data", config_path).get("name") if config_path is not None else None
    said = _RENAMED.get(str(said), str(said)) if said is not None else None
    names = (said, path.parent.name.split("_")[0], path.stem.split("_")[0])
    known = {name for kind in PUBLISHED.values() for _, name in kind.known}
    return next((name for name in names if name in known), said)


def _published_facts(place: tuple[str, str], facts: Mapping[str, Any]) -> dict[str, Any]:
    """What is known of a published file by its task folder and dataset; outside such a folder, by its outputs."""
    kinds = PUBLISHED.values()
    known = [(where, said, kind.dense) for kind in kinds for where, said in kind.known.items()]
    inside = place[0] in {*(where[0] for where, *_ in known), *(folder for kind in kinds for folder in kind.folders)}
    found = next((dict(said) for where, said, _ in known if where == place and "class_names" not in said), {})
    fitting = [
        names
        for where, said, dense in known
        if (where == place if inside else where[1] == place[1])
        and len(names := said.get("class_names", [])) == facts["outputs"]
        and dense == (facts["network"] == "ConvUNetR")
    ]
    if len(fitting) == 1:  # no two of a dataset's networks of one kind have as many outputs
        found["class_names"] = list(fitting[0])
    return found


def _noted_facts(note: Mapping[str, Any] | None) -> dict[str, Any]:
    spec = (note or {}).get("spec")
    if not isinstance(spec, dict):
        return {}
    kept = ("kind", "target", "label_codes", "landmarks", "mean", "std")
    names = {"class_names": list(spec["classes"])} if "classes" in spec else {}
    return {key: spec[key] for key in kept if key in spec} | names


def noted_arguments(note: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Constructor arguments of the network that a file's note describes; empty where there is no such note.

    Raises:
        CinemaError: If the note is damaged.
    """
    if "spec" not in note:
        return {}
    spec, network = note["spec"], note.get("network")
    arguments = network.get("arguments") if isinstance(network, dict) else None
    if not isinstance(spec, dict) or not isinstance(arguments, dict) or "input_size" not in spec:
        raise CinemaError(f"{path} carries a damaged note of what it holds; export it again.")
    return {**arguments, "input_size": spec["input_size"]}


def _config_facts(path: Path) -> dict[str, Any]:
    config = read_config(path)
    model, data = block_of(config, "model", path), block_of(config, "data", path)
    facts: dict[str, Any] = {}
    if isinstance(model.get("n_frames"), int):
        facts["frames"] = model["n_frames"]
    for kind in PUBLISHED.values():
        facts |= kind.read(data, path)
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
        found["dec_blocks"] = _count(shapes, rf"decoder_dict\.{view}\.blocks\.0\.conv\.(\d+)\.")
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
