"""What a file is that was given where weights of this package were expected, told without running anything in it.

Formats are told by their first bytes, torch's files and other pickles by the names in them: a pickle's opcodes are
read as text and never carried out.
"""

from __future__ import annotations

import io
import json
import pickletools
import re
import struct
import zipfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from cinema_lightning.errors import CinemaError

GIVE = (
    "give a .ckpt file of a run (cinema fit), or CineMA's weights as .safetensors, such as "
    "mathpluscode/CineMA/pretrained/cinema.safetensors"
)
_OURS = "a Lightning checkpoint, as cinema fit writes them"
_SAFE = "a safetensors file"
_OF_TORCH = ("a PyTorch file", "a Lightning checkpoint")
_LOOK = 4 * 2**20  # bytes of a pickle that are looked at: all of its names, as a rule
_PICKLES = 8  # torch's old files are several, one after another, before their numbers

_FORMATS: tuple[tuple[bytes, str], ...] = (
    (b"version https://git-lfs", "a Git LFS pointer, not the file itself (`git lfs pull` fetches that)"),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file, as Keras writes"),
    (b"\x93NUMPY", "a numpy array"),
    (b"GGUF", "a GGUF file of a language model"),
    (b"\x1f\x8b", "a gzip archive; unpack it, if weights are in it"),
    (b"BZh", "a bzip2 archive; unpack it, if weights are in it"),
    (b"\xfd7zXZ\0", "an xz archive; unpack it, if weights are in it"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive; unpack it, if weights are in it"),
    (b"\x28\xb5\x2f\xfd", "a zstd archive; unpack it, if weights are in it"),
    (b"Rar!", "a RAR archive; unpack it, if weights are in it"),
    (b"%PDF", "a PDF document"),
    (b"\x89PNG", "a PNG picture"),
)
"""First bytes of a file -> what it is."""

_FAMILIES: tuple[tuple[str, str], ...] = (
    (r"^enc_down_dict\.\w+\.", "CineMA's weights in the published layout"),
    (r"^network\.(encoder|heads|fusion)\.", "a network of this package"),
    (r"^decoder_blocks\.\d+\.attn\.", "a masked autoencoder of photographs (MAE, mae_pretrain_vit_*)"),
    (r"swinViT\.layers\d", "a MONAI SwinUNETR"),
    (r"^(vit\.)?blocks\.\d+\.mlp\.linear1", "a MONAI vision transformer or UNETR"),
    (r"^(vit|vit_mae|dinov2|beit|deit|swin|videomae)\.(encoder|embeddings)\.", "a Hugging Face transformers model"),
    (r"^(embeddings|encoder\.layer\.\d+)\.(patch_embeddings|attention|cls_token)", "a Hugging Face transformers model"),
    (r"^blocks\.\d+\.ls1\.", "a DINOv2 vision transformer"),
    (r"^blocks\.\d+\.attn\.(qkv|proj)\.", "a vision transformer of timm or MAE"),
    (r"^layers\.\d+\.blocks\.\d+\.attn\.", "a Swin transformer of timm"),
    (r"^visual\.(transformer|trunk)\.", "a CLIP model"),
    (r"^image_encoder\.blocks\.", "a Segment Anything model"),
    (r"^(network_weights|trainer_name|inference_allowed_mirroring_axes)$", "an nnU-Net checkpoint"),
    (r"^conv_blocks_context\.\d+\.", "an nnU-Net (version 1)"),
    (r"^(encoder|decoder)\.(encoder\.)?stages\.\d+\.\d*\.?convs\.", "an nnU-Net"),
    (r"^(model|down_layers|input_block|skip_layers)\..*\b(conv\.unit\d|submodule|conv\d\.conv)\.", "a MONAI network"),
    (r"^convInit\.conv\.weight$", "a MONAI SegResNet"),
    (r"^layer[1-4]\.\d+\.conv\d\.weight$", "a ResNet of torchvision or MONAI"),
    (r"^stages\.\d+\.blocks\.\d+\.", "a ConvNeXt or another network of timm"),
)
"""Keys of a network -> whose it is; the first that matches counts."""
_PREFIX = re.compile(r"^(module\.|_orig_mod\.|state_dict\.|model\.(?=blocks|decoder_blocks|enc_down|swinViT|layer\d))+")


def unfit(path: Path) -> CinemaError:
    """The sentence about an existing file that is no weights of this package: what it is, and what to give instead."""
    what = what_it_is(path)
    if what.startswith(_OURS) and path.suffix != ".ckpt":
        return CinemaError(f"{path} is {what}: give it a name that ends in .ckpt.")
    if what.startswith(f"{_SAFE} of CineMA") and path.suffix != ".safetensors":
        return CinemaError(f"{path} is {what}: give it a name that ends in .safetensors.")
    return CinemaError(f"{path} is {what}. It cannot be used here: {GIVE}.")


def broken_safetensors(path: Path, error: Exception) -> CinemaError:
    """The sentence about a file that the reader of safetensors refused with an error."""
    if not is_safetensors(path):
        return unfit(path)
    missing = missing_bytes(path)
    what = f"{missing} bytes are missing at its end, it is truncated" if missing else str(error)
    return CinemaError(f"{path} is not a whole safetensors file ({what}); fetch it again.")


def broken_checkpoint(path: Path, error: Exception) -> CinemaError:
    """The sentence about a file that the reader of checkpoints refused with an error."""
    what = what_it_is(path)
    # the format of torch before 1.6 is not ours, and mapping it into memory fails for that reason alone
    if not what.startswith(_OF_TORCH) or not zipfile.is_zipfile(path):
        return unfit(path)
    if "Weights only load failed" in str(error):  # what follows is advice to turn the safeguard off
        return CinemaError(
            f"{path} is {what}, but holds more than weights and plain values, which is not opened since it can run any "
            f"code. It cannot be used here: {GIVE}."
        )
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
    return CinemaError(
        f"{path} is {what}, but cannot be read as weights and plain values ({reason}): it is damaged or holds more "
        f"than these. It cannot be used here: {GIVE}."
    )


def what_it_is(path: Path) -> str:
    """Says what a file is, as the end of "PATH is ...".

    Args:
        path: An existing file.

    Returns:
        A clause without a full stop; ``a file of an unknown format`` where nothing is recognised.
    """
    with path.open("rb") as file:
        head = file.read(4096)
    if not head:
        return "empty"
    if named := next((name for magic, name in _FORMATS if head.startswith(magic)), ""):
        return named
    if head.startswith(b"PK"):
        return _archive(path)
    if is_safetensors(path):
        return _safetensors(path)
    if head[:1] == b"\x80" and len(head) > 1 and head[1] < 6:
        return _pickle(path)
    if head[:1] == b"\x08" and b"pytorch" in head[:64]:
        return "an ONNX network"
    if head[257:262] == b"ustar":
        return "a tar archive; unpack it, if weights are in it"
    return _text(head)


def family(keys: Iterable[str]) -> str:
    """Whose network keys belong to; empty where that is not known."""
    names = [_PREFIX.sub("", key) for key in keys]
    return next((name for pattern, name in _FAMILIES if any(re.search(pattern, key) for key in names)), "")


def whose_is(keys: Iterable[str]) -> str:
    """Begins a sentence about a file with these keys that "is not" something: names its family where that is known."""
    whose = family(keys)
    return f"holds {whose} and is " if whose else "is "


def is_safetensors(path: Path) -> bool:
    """Whether a file begins as safetensors do: the length of a JSON header, and that header."""
    with path.open("rb") as file:
        head = file.read(16)
    return len(head) > 8 and head[8:9] == b"{" and 2 <= struct.unpack("<Q", head[:8])[0] < 2**30


def missing_bytes(path: Path) -> int:
    """How many bytes a safetensors file lacks at its end; 0 where its header cannot say."""
    size = path.stat().st_size
    with path.open("rb") as file:
        length = struct.unpack("<Q", file.read(8))[0]
        if size < 8 + length:
            return int(8 + length - size)
        try:
            header = json.loads(file.read(length))
            ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
        except (ValueError, KeyError, TypeError, IndexError, AttributeError):
            return 0
    return max(0, 8 + length + max(ends, default=0) - size)


def _safetensors(path: Path) -> str:
    with path.open("rb") as file:
        length = struct.unpack("<Q", file.read(8))[0]
        try:
            keys = [key for key in json.loads(file.read(length)) if key != "__metadata__"]
        except ValueError:
            return "a truncated or damaged safetensors file"
    return f"{_SAFE}{_of(family(keys))}"


def _of(whose: str) -> str:
    return f" of {whose}" if whose else ""


def _archive(path: Path) -> str:
    """A zip archive; torch's hold a pickle of names beside the numbers."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            pickles = [name for name in names if name.rsplit("/", 1)[-1] == "data.pkl"]
            if any(name.endswith("constants.pkl") for name in names):
                return "a TorchScript program, which runs code when it is loaded"
            if pickles:
                with archive.open(pickles[0]) as file:
                    return _torch(_strings(file.read(_LOOK)))
    except (zipfile.BadZipFile, OSError, NotImplementedError, EOFError):
        return "a damaged zip archive or PyTorch file (the end is missing); fetch it again"
    if names and all(name.endswith(".npy") for name in names):
        return "a numpy archive (.npz)"
    return "a zip archive; unpack it, if weights are in it"


def _pickle(path: Path) -> str:
    with path.open("rb") as file:
        data = file.read(_LOOK)
    strings = _strings(data)
    if b"\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19" in data[:64]:  # torch's mark before it wrote zip archives
        return _torch(strings)
    whose = family(strings)
    return f"a Python pickle{_of(whose)}, which is not opened since it can run any code"


def _torch(strings: list[str]) -> str:
    """A file of torch.save, by the strings in its pickle."""
    whose = family(strings)
    if "pytorch-lightning_version" in strings:
        if any(key.startswith("network.") for key in strings) and "hyper_parameters" in strings:
            return _OURS
        return f"a Lightning checkpoint of another program{_of(whose)}"
    if whose.startswith("CineMA"):
        return f"{whose}, but written by torch.save; save them as .safetensors"
    return f"a PyTorch file (torch.save){_of(whose)}"


def _strings(data: bytes) -> list[str]:
    """Texts in the first pickles, from their opcodes; nothing is built or called."""
    found: list[str] = []
    stream = io.BytesIO(data)
    with suppress(Exception):  # what follows the pickles is numbers, or the end is missing
        for _ in range(_PICKLES):
            for opcode, value, _ in pickletools.genops(stream):
                if isinstance(value, str) and "UNICODE" in opcode.name:
                    found.append(value)
    return found


def _text(head: bytes) -> str:
    """What a text is, or that it is none."""
    try:
        text = head[:512].decode("utf-8-sig").strip().lower()
    except UnicodeDecodeError:
        return "a file of an unknown format"
    if text.startswith(("<!doctype", "<html", "<?xml", "<head")):
        return "a web page (HTML), probably an error or login page saved in the place of the file"
    if text.startswith("{"):
        return "JSON text, such as an index of files or the message of a failed download"
    return "text" if all(char.isprintable() or char.isspace() for char in text) else "a file of an unknown format"
