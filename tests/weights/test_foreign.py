"""Files of others in the place of weights: each is told what it is and what to give instead, and nothing is run."""

import json
import pickle
import zipfile

import pytest
import torch
from safetensors.torch import save_file

from cinema_lightning.errors import CinemaError
from cinema_lightning.models.baselines import UNet
from cinema_lightning.models.convvit import ConvViT
from cinema_lightning.weights.files import load_checkpoint
from cinema_lightning.weights.foreign import what_it_is
from cinema_lightning.weights.transfer import load_weights

ONE = torch.ones(2)
VIT = {"cls_token": ONE, "patch_embed.proj.weight": ONE, "blocks.0.attn.qkv.weight": ONE}
MAE = {**VIT, "mask_token": ONE, "decoder_blocks.0.attn.qkv.weight": ONE}
HUGGING_FACE = {"vit.embeddings.cls_token": ONE, "vit.encoder.layer.0.attention.attention.query.weight": ONE}
NNUNET = {"network_weights": {"encoder.stages.0.0.convs.0.conv.weight": ONE}, "trainer_name": "nnUNetTrainer"}
OURS = {
    "pytorch-lightning_version": "2.5",
    "state_dict": {"network.encoder.cls_token": ONE},
    "hyper_parameters": {"spec": {}},
}
LIGHTNING = {"pytorch-lightning_version": "2.5", "state_dict": {"model.layer1.0.conv1.weight": ONE}}
RAN = []


class Evil:
    def __reduce__(self):
        return RAN.append, ("unpickled",)


def write(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())


def safetensors(tensors):
    return lambda path: save_file({key: value.clone() for key, value in tensors.items()}, path)


def zipped(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "weights inside")


def pickled(content):
    return lambda path: write(path, pickle.dumps(content))


def saved(content, **options):
    return lambda path: torch.save(content, path, **options)


FILES = {
    "mae": (saved({"model": VIT}), r"a PyTorch file \(torch\.save\) of a vision transformer of timm or MAE"),
    "mae of before 1.6": (
        saved({"model": MAE, "args": Evil()}, _use_new_zipfile_serialization=False),
        "a PyTorch file .* of a masked autoencoder of photographs .*MAE",
    ),
    "module": (saved({"state_dict": {f"module.{k}": v for k, v in MAE.items()}}), "a masked autoencoder of photo"),
    "swin": (saved({"state_dict": {"module.swinViT.layers1.0.weight": ONE}}), "a MONAI SwinUNETR"),
    "monai": (saved({"model.0.conv.unit0.conv.weight": ONE}), "a MONAI network"),
    "nnunet": (saved(NNUNET), "an nnU-Net checkpoint"),
    "lightning": (saved(LIGHTNING), "a Lightning checkpoint of another program of a ResNet"),
    "torch": (saved({"foo": ONE}), r"a PyTorch file \(torch\.save\)\."),
    "timm": (safetensors(VIT), "a vision transformer of timm or MAE"),
    "transformers": (safetensors(HUGGING_FACE), "a Hugging Face transformers model"),
    "pickle": (pickled({"weights": [1.0], "evil": Evil()}), "a Python pickle, which is not opened"),
    "zip": (zipped, "a zip archive; unpack it"),
    "page": (lambda path: write(path, "\n<!DOCTYPE html><html>403</html>"), r"a web page \(HTML\)"),
    "json": (lambda path: write(path, json.dumps({"error": "gone"})), "JSON text"),
    "lfs": (lambda path: write(path, "version https://git-lfs.github.com/spec/v1\noid sha256:0"), "a Git LFS pointer"),
    "hdf5": (lambda path: write(path, b"\x89HDF\r\n\x1a\n" + bytes(50)), "an HDF5 file"),
    "gzip": (lambda path: write(path, b"\x1f\x8b\x08" + bytes(50)), "a gzip archive"),
    "empty": (lambda path: write(path, b""), "is empty"),
    "noise": (lambda path: write(path, bytes([200, 3]) * 300), "a file of an unknown format"),
    "text": (lambda path: write(path, "see the wiki"), "is text"),
}


@pytest.mark.parametrize("ending", [".safetensors", ".pth", ".ckpt"])
@pytest.mark.parametrize("name", FILES)
def test_foreign_files_are_named(name, ending, tmp_path):
    make, message = FILES[name]
    path = tmp_path / f"weights{ending}"
    make(path)
    network = ConvViT(["sax"], size="tiny")
    with pytest.raises(CinemaError, match=message) as caught:
        load_weights(path, network)
    assert "give a .ckpt file of a run (cinema fit), or CineMA's weights" in str(caught.value)
    assert "truncated" not in str(caught.value)
    if ending == ".ckpt" and name not in ("module", "swin", "lightning"):  # these have a state_dict
        with pytest.raises(CinemaError, match=message):
            load_checkpoint(path)
    assert not RAN


def test_a_cnn_is_told_whose_weights_it_was_given(tmp_path):
    safetensors(VIT)(tmp_path / "timm.safetensors")
    with pytest.raises(CinemaError, match=r"a vision transformer of timm or MAE; .* UNet cannot start"):
        load_weights(tmp_path / "timm.safetensors", UNet(["sax"], classes=4, size="tiny"))


@pytest.mark.parametrize("content", [OURS, {**OURS, "state_dict": {"network.stages.0.weight": ONE}}])
def test_a_checkpoint_under_another_name_is_told_to_be_renamed(content, tmp_path):
    for ending in (".safetensors", ".pt"):
        path = tmp_path / f"best{ending}"
        torch.save(content, path)
        with pytest.raises(CinemaError, match=r"as cinema fit writes them: give it a name that ends in \.ckpt"):
            load_weights(path, ConvViT(["sax"], size="tiny"))


def test_safetensors_under_another_name_are_told_to_be_renamed(tmp_path):
    path = tmp_path / "best.ckpt"
    save_file({"enc_down_dict.sax.linear.bias": ONE}, path)
    for read in (load_checkpoint, lambda path: load_weights(path, ConvViT(["sax"], size="tiny"))):
        with pytest.raises(CinemaError, match=r"of CineMA's weights .*a name that ends in \.safetensors"):
            read(path)


def test_what_is_cut_off_is_said_to_be(tmp_path):
    path = tmp_path / "x.safetensors"
    save_file({"w": torch.ones(1000)}, path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-100])
    with pytest.raises(CinemaError, match=r"100 bytes are missing at its end, it is truncated\); fetch it again"):
        load_weights(path, ConvViT(["sax"], size="tiny"))
    path.write_bytes(whole[:20])
    with pytest.raises(CinemaError, match="it is truncated"):
        load_weights(path, ConvViT(["sax"], size="tiny"))
    torch.save({"state_dict": {"w": torch.ones(1000)}}, path)
    path.write_bytes(path.read_bytes()[:2000])
    assert "the end is missing" in what_it_is(path)


def test_files_of_torch_that_are_not_read(tmp_path):
    """Nothing of torch's own advice, which is to turn the safeguard off, reaches the user."""
    old, code = tmp_path / "old.pth", tmp_path / "code.pth"
    torch.save({"blocks.0.attn.qkv.weight": torch.zeros(2, 2)}, old, _use_new_zipfile_serialization=False)
    torch.save({"blocks.0.attn.qkv.weight": torch.zeros(2, 2), "args": torch.nn.Linear(1, 1)}, code)
    for path, why in ((old, r"\. It cannot be used here"), (code, ", but holds more than weights and plain values")):
        with pytest.raises(CinemaError, match=rf"of a vision transformer of timm or MAE{why}") as caught:
            load_checkpoint(path, mmap=True)
        assert "weights_only" not in str(caught.value)
        assert "mmap" not in str(caught.value)
