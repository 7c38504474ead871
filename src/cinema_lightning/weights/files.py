"""Reading and writing weight files in the published layout: safetensors with a ``config.yaml`` beside them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from cinema_lightning.errors import CinemaError
from cinema_lightning.files import replacing, write_text
from cinema_lightning.models.mae import MaskedAutoencoder
from cinema_lightning.registry import up_to_date
from cinema_lightning.views import VIEWS
from cinema_lightning.weights.foreign import GIVE, broken_checkpoint, broken_safetensors, unfit, whose_is
from cinema_lightning.weights.layout import check_layout, first_keys, published_slots, to_published
from cinema_lightning.weights.published_config import Publishable, published_config

PUBLISHED_MAE = "pretrained/cinema.safetensors"
CONFIG_NAME = "config.yaml"
NOTE = "cinema_lightning"
"""Where a file's header says what this package knows of it."""


def read_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Reads keys and shapes of a safetensors file without its numbers.

    Raises:
        CinemaError: If the file is missing, truncated or of another format.
    """
    with opened(path) as file:
        return {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118


def load_published(model: nn.Module, path: Path | str, revision: str | None = None) -> None:
    """Loads a published file into a network; every key must be there and fit.

    Args:
        model: Changed in place.
        path: Local file or folder, or a name on the Hugging Face hub (see :func:`locate`).
        revision: Hub revision.

    Raises:
        CinemaError: If the file cannot be found or read, or does not fit; the network is then unchanged.
    """
    file_path, _ = locate(path, revision)
    check_layout(model, read_shapes(file_path), file_path)
    state = model.state_dict()
    with torch.no_grad(), opened(file_path) as file:
        for slot in published_slots(model):
            slot.fill(state[slot.own], file.get_tensor(slot.published))


def load_published_mae(path: Path | str, revision: str | None = None, **arguments: Any) -> MaskedAutoencoder:
    """Builds a masked autoencoder from a published file and loads its weights.

    The sizes come from, in this order: ``arguments``, what :func:`save_published` noted in the file, the
    ``config.yaml`` beside it, the published defaults. Views and channels come from the file's keys and shapes.

    Args:
        path: Local file or folder, or a name on the Hugging Face hub (see :func:`locate`).
        revision: Hub revision.
        **arguments: Arguments of :class:`MaskedAutoencoder` that take precedence.

    Returns:
        The network in float32 on the CPU, in training mode as built.

    Raises:
        CinemaError: If the file cannot be found or read, is of another layout, or does not fit its configuration.
    """
    file_path, config_path = locate(path, revision)
    shapes = read_shapes(file_path)
    found = {**_from_shapes(shapes, file_path), **_from_config(config_path), **_from_note(file_path)}
    wanted = {**found, **arguments}
    if wanted.get("input_size"):
        wanted["input_size"] = {v: size for v, size in wanted["input_size"].items() if v in wanted["views"]}
    try:
        with torch.device("meta"):
            model = MaskedAutoencoder(**wanted)
    except TypeError as error:
        raise CinemaError(f"{file_path} cannot be built: {error}; check the arguments and {CONFIG_NAME}.") from error
    check_layout(model, shapes, file_path)
    model = model.to_empty(device="cpu")
    load_published(model, file_path)
    return model


def save_published(
    model: Publishable,
    path: Path | str,
    spacing: Mapping[str, Sequence[float] | None] | None = None,
    about: Mapping[str, Any] | None = None,
) -> None:
    """Writes a network in the published layout, with ``config.yaml`` beside it.

    What it takes to build it again is noted in the file too, so that any size can be built from it alone.

    Args:
        model: The network.
        path: Target, ending in ``.safetensors``; its folder is made if need be.
        spacing: Voxel size in mm that the network was trained at by view; of others the published one is noted.
        about: What a fine-tuned network is, plain values: ``task``, the facts of its data (``spec``), its ``network``
            (class name, ``arguments``) and other ``options`` of the task.

    Raises:
        CinemaError: If the ending is wrong, or the folder holds the configuration of another network.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise CinemaError(f"{path} must end in .safetensors; give such a name.")
    text = yaml.safe_dump(published_config(model, spacing, about), sort_keys=False)
    config_path = path.parent / CONFIG_NAME
    if config_path.exists() and config_path.read_text(encoding="utf-8") != text:
        raise CinemaError(f"{config_path} belongs to another network; save to a folder of its own.")
    path.parent.mkdir(parents=True, exist_ok=True)
    note = dict(about or {})
    if isinstance(model, MaskedAutoencoder):
        note = {"MaskedAutoencoder": model.config, "depth": (note.get("spec") or {}).get("depth", "padded")}
    tensors = to_published(model)
    with replacing(path) as temporary:
        try:
            save_file(tensors, temporary, metadata={"format": "pt", NOTE: json.dumps(note)})
        except SafetensorError as error:  # how safetensors reports a full disk
            raise OSError(str(error)) from error
    write_text(config_path, text)


def locate(path: Path | str, revision: str | None = None) -> tuple[Path, Path | None]:
    """Finds a weights file and the configuration beside it.

    Args:
        path: A local safetensors file; a local folder that holds ``pretrained/cinema.safetensors``,
            ``cinema.safetensors`` or a single safetensors file; a hub repository ``owner/name``, which means its
            pretrained network; or ``owner/name/path/in/it.safetensors``.
        revision: Hub revision.

    Returns:
        The file, and its ``config.yaml`` or None.

    Raises:
        CinemaError: If nothing is found.
    """
    local = Path(path).expanduser()
    if local.is_dir():
        local = _in_folder(local)
    if local.is_file():
        config = local.parent / CONFIG_NAME
        return local, config if config.is_file() else None
    parts = str(path).split("/")
    is_hub_name = len(parts) == 2 or (len(parts) > 2 and parts[-1].endswith(".safetensors"))
    if not is_hub_name or not all(re.fullmatch(r"[\w.-]+", part) for part in parts) or parts[0] in (".", ".."):
        raise CinemaError(f"{path} is neither a file, a folder nor a hub name (owner/name); check the path.")
    return _from_hub("/".join(parts[:2]), "/".join(parts[2:]) or PUBLISHED_MAE, revision)


def _in_folder(folder: Path) -> Path:
    for name in (PUBLISHED_MAE, Path(PUBLISHED_MAE).name):
        if (folder / name).is_file():
            return folder / name
    files = sorted(folder.glob("*.safetensors"))
    if len(files) != 1:
        raise CinemaError(f"{folder} holds {len(files)} safetensors files; name the one to load.")
    return files[0]


def _from_hub(repo: str, name: str, revision: str | None) -> tuple[Path, Path | None]:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    try:
        file = hf_hub_download(repo, name, revision=revision)
    except Exception as error:  # the hub client raises many unrelated kinds
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise CinemaError(
            f"{name} of {repo} is not on this disk and could not be fetched from the Hugging Face hub ({reason}); "
            "check the name and the network, or give a local file."
        ) from error
    try:
        config = hf_hub_download(repo, f"{Path(name).parent.as_posix()}/{CONFIG_NAME}", revision=revision)
    except (EntryNotFoundError, OSError):
        return Path(file), None
    return Path(file), Path(config)


def opened(path: Path) -> Any:
    """Opens a safetensors file, to be used in a ``with`` statement.

    Raises:
        CinemaError: If the file is missing, truncated or of another format.
    """
    if not path.is_file():
        raise CinemaError(f"{path} does not exist; check the path.")
    try:
        return safe_open(path, framework="pt")
    except (SafetensorError, OSError) as error:
        raise broken_safetensors(path, error) from error


def _from_shapes(shapes: Mapping[str, Sequence[int]], path: Path) -> dict[str, Any]:
    """Reads off the keys what a configuration need not name."""
    pattern = re.compile(r"^enc_down_dict\.(\w+)\.conv_blocks\.0\.patch_embed\.conv\.weight$")
    channels = {match[1]: shape[1] for key, shape in shapes.items() if (match := pattern.match(key)) and len(shape) > 1}
    strange = [view for view in channels if view not in VIEWS]
    if not channels or strange or not any(key.startswith("dec_embed_dict.") for key in shapes):
        raise CinemaError(
            f"{path} {whose_is(shapes)}not a pretrained masked autoencoder in the published layout; its first keys are "
            f"{first_keys(sorted(shapes))}. Here, {GIVE}."
        )
    views = [view for view in VIEWS if view in channels]
    nearness = any(key.startswith("nearness.") for key in shapes)
    return {"views": views, "channels": channels[views[0]], "nearness": nearness}


def _from_config(path: Path | None) -> dict[str, Any]:
    """Translates a published ``config.yaml`` to constructor arguments; what it does not say is left out."""
    if path is None:
        return {}
    config = read_config(path)
    model = block_of(config, "model", path)
    names = {
        "size": "size",
        "patch_size": "patch_size",
        "scale_factor": "scale",
        "enc_conv_chans": "conv_channels",
        "enc_conv_n_blocks": "conv_blocks",
    }
    found = {ours: model[theirs] for theirs, ours in names.items() if model.get(theirs) is not None}
    sizes = config_input_sizes(config, path)
    return {**found, "input_size": sizes} if sizes else found


def read_config(path: Path) -> dict[str, Any]:
    """Reads a published ``config.yaml``.

    Raises:
        CinemaError: If it is not valid YAML or holds no block of keys.
    """
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise CinemaError(f"{path} is not valid YAML ({str(error).splitlines()[0]}); fetch it again.") from error
    if not isinstance(config, dict):
        raise CinemaError(f"{path} is not a published configuration: it should hold blocks of keys.")
    return config


def config_input_sizes(config: dict[str, Any], path: Path) -> dict[str, list[int]]:
    """View -> input size, as far as a published configuration says (its ``data`` calls them ``patch_size``)."""
    data = block_of(config, "data", path)
    sizes = {}
    for view, info in VIEWS.items():
        size = block_of(data, "lax" if info.is_long_axis else view, path).get("patch_size")
        if size is not None:
            sizes[view] = list(size)[: info.dims]
    return sizes


def config_spacing(path: Path | None) -> dict[str, list[float]]:
    """View -> voxel size in mm that a published network was trained at, as far as its ``config.yaml`` says.

    Args:
        path: The configuration; None for none.

    Raises:
        CinemaError: If it is no published configuration, or a voxel size is no list of numbers above 0.
    """
    if path is None:
        return {}
    data = block_of(read_config(path), "data", path)
    found = {}
    for view, info in VIEWS.items():
        size = block_of(data, "lax" if info.is_long_axis else view, path).get("spacing")
        if size is None:
            continue
        numbers = isinstance(size, list) and all(isinstance(n, int | float) and n > 0 for n in size)
        if not numbers or len(size) < info.dims:
            raise CinemaError(f"{path}: the spacing of {view} is {size}; it should be {info.dims} voxel sizes in mm.")
        found[view] = [float(n) for n in size[: info.dims]]
    return found


def block_of(config: dict[str, Any], key: str, path: Path) -> dict[str, Any]:
    """One block of a configuration, empty where it is missing."""
    value = config.get(key)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise CinemaError(f"{path} is not a published configuration: '{key}' should hold a block of keys.")
    return value


def load_checkpoint(path: str | Path, mmap: bool = False) -> dict[str, Any]:
    """Reads a Lightning checkpoint on the CPU, tensors and plain values only.

    Args:
        path: The ``.ckpt`` file.
        mmap: Leave the tensors on disk, for a look at names and shapes.

    Returns:
        Its content; hyperparameters name classes by the paths of today.

    Raises:
        CinemaError: If the file is missing, truncated, not a checkpoint, or holds objects that could run code.
    """
    path = Path(path)
    if not path.is_file():
        raise CinemaError(f"There is no checkpoint {path}; check the path.")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    except Exception as error:  # torch raises many unrelated kinds
        raise broken_checkpoint(path, error) from error
    if not isinstance(content, dict) or "state_dict" not in content:
        raise unfit(path)
    return content | {"hyper_parameters": up_to_date(content.get("hyper_parameters") or {})}


def read_checkpoint(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Reads the network out of a checkpoint, see :func:`load_checkpoint`.

    Args:
        path: The ``.ckpt`` file.

    Returns:
        The network's state dict (tensors stay on disk until they are used), and the facts of its data (``spec``).

    Raises:
        CinemaError: If it is no checkpoint of this package.
    """
    content = load_checkpoint(path, mmap=True)
    prefix = "network."
    network = {key[len(prefix) :]: value for key, value in content["state_dict"].items() if key.startswith(prefix)}
    if not network:
        raise unfit(path)
    facts = content["hyper_parameters"].get("spec")
    return network, dict(facts) if isinstance(facts, dict) else {}


def _from_note(path: Path) -> dict[str, Any]:
    found = read_note(path).get("MaskedAutoencoder", {})
    if not isinstance(found, dict):
        raise CinemaError(f"{path} carries a damaged note of its sizes; save it again.")
    return found


def read_note(path: Path) -> dict[str, Any]:
    """What :func:`save_published` noted in a file; empty where it is another's.

    Raises:
        CinemaError: If the file cannot be read, or the note is damaged.
    """
    with opened(path) as file:
        note = (file.metadata() or {}).get(NOTE)
    try:
        return dict(json.loads(note)) if note else {}
    except (ValueError, TypeError) as error:
        raise CinemaError(f"{path} carries a damaged note of what it holds; save it again.") from error
