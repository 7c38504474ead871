"""The decoder's attention to what lies near: distances, networks saved before it, and that it is used."""

import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from cinema_lightning.errors import CinemaError
from cinema_lightning.models.mae import MaskedAutoencoder
from cinema_lightning.models.nearness import ELSEWHERE, Nearness, places
from cinema_lightning.models.patches import patchify
from cinema_lightning.weights.compatibility import check_fits
from cinema_lightning.weights.files import NOTE, load_published_mae, save_published

SIZE = {"sax": [32, 16, 3], "lax_4c": [16, 16]}
OPTIONS = {"size": "small", "enc_dim": 16, "enc_depth": 1, "dec_dim": 16, "dec_depth": 1}


def autoencoder(**options):
    torch.manual_seed(0)
    return MaskedAutoencoder(["sax", "lax_4c"], SIZE, **{**OPTIONS, **options}).eval()


def batch(model):
    generator = torch.Generator().manual_seed(1)
    images = {view: torch.rand(2, 1, *size, generator=generator) for view, size in SIZE.items()}
    masks = {view: torch.ones(2, model.n_patches(view), dtype=torch.bool) for view in SIZE}
    for mask in masks.values():
        mask[0, 0] = mask[1, -1] = False
    return images, masks


def test_places_count_as_patches_do():
    """A patch whose voxels hold their own place lies where it says."""
    axes = [torch.arange(n, dtype=torch.float32) for n in (32, 16, 3)]
    image = torch.stack(torch.meshgrid(*axes, indexing="ij"))[None]  # (1, 3, X, Y, Z)
    patches = patchify(image, (8, 8, 1)).unflatten(2, (-1, 3))
    corners = patches.amin(dim=2)[0] / torch.tensor([8.0, 8.0, 2.0])  # two slices are half a patch apart
    torch.testing.assert_close(places((4, 2, 3), torch.arange(24)[None])[0], corners)


def test_the_bias_falls_with_distance_within_a_view():
    bias = Nearness(2)([torch.tensor([[[0.0, 0, 0]]]), torch.zeros(1, 1, 3)], [torch.tensor([[[3.0, 4, 0]]])] * 2)
    assert bias.shape == (1, 2, 2, 2)
    steep, flat = 3.0, 0.5
    expected = [[[5.0, ELSEWHERE], [ELSEWHERE, 5.0]]]
    torch.testing.assert_close(bias[0], -torch.tensor([steep, flat])[:, None, None] * torch.tensor(expected))


def test_a_hidden_patch_takes_more_from_its_neighbour():
    """With values that are apart only in where they are seen, what lies near moves the prediction more."""
    model = autoencoder()
    with torch.no_grad():
        for block in model.decoder.blocks:
            block.attn.q.weight.zero_()  # the bias alone decides
    images, _ = batch(model)
    mask = torch.ones(1, 24, dtype=torch.bool)
    mask[0, [0, 23]] = False  # the first and the last patch of the stack are seen
    given = {"sax": images["sax"][:1]}
    hidden = patchify(given["sax"], (8, 8, 1))

    def moved(patch, target):
        """How much the prediction of a hidden patch changes where a visible one does."""
        changed = hidden.clone()
        changed[0, patch] = 1 - changed[0, patch]
        other = {"sax": model._unpatchify("sax", changed, SIZE["sax"])}
        number = target - 1  # among the hidden ones, of which the first follows the first visible one
        first, second = (model(one, {"sax": mask}).predictions["sax"][0, number] for one in (given, other))
        return (first - second).abs().mean()

    with torch.no_grad():
        assert moved(0, 1) > 1.5 * moved(23, 1)  # beside the first
        assert moved(23, 22) > 1.5 * moved(0, 22)  # beside the last


def test_a_network_saved_before_goes_on_without():
    old = autoencoder(nearness=False)
    new = autoencoder()
    images, masks = batch(old)
    assert not torch.equal(new(images, masks).loss, old(images, masks).loss)
    new.load_state_dict(old.state_dict())
    torch.testing.assert_close(new(images, masks).loss, old(images, masks).loss)
    again = autoencoder()
    again.load_state_dict(new.state_dict())
    assert not again.nearness.slopes.any()


def test_published_sizes_have_none():
    assert autoencoder(size="tiny", enc_heads=2).nearness is None
    assert autoencoder(decoder="self").nearness is None


def test_it_belongs_to_cross_attention():
    with pytest.raises(CinemaError, match="leave it out for the decoder 'self'"):
        autoencoder(nearness=True, decoder="self")


def test_a_run_of_before_is_opened(tmp_path):
    path, task = tmp_path / "old.ckpt", torch.nn.ModuleDict({"network": autoencoder()})
    old = torch.nn.ModuleDict({"network": autoencoder(nearness=False)})
    torch.save({"state_dict": old.state_dict()}, path)
    check_fits(task, path)
    lacking = {key: value for key, value in old.state_dict().items() if "cls_token" not in key}
    torch.save({"state_dict": lacking}, path)
    with pytest.raises(CinemaError, match=r"1 weights differ, first network\.encoder\.cls_token"):
        check_fits(task, path)


def test_an_export_of_before_is_opened(tmp_path):
    old = autoencoder(nearness=False)
    save_published(old, tmp_path / "old.safetensors")
    with safe_open(tmp_path / "old.safetensors", "pt") as file:
        note = json.loads(file.metadata()[NOTE])
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  # it is no mapping
    del note["MaskedAutoencoder"]["nearness"]
    save_file(tensors, tmp_path / "older.safetensors", {NOTE: json.dumps(note)})
    images, masks = batch(old)
    for name in ("old", "older"):
        again = load_published_mae(tmp_path / f"{name}.safetensors").eval()
        assert again.nearness is None
        torch.testing.assert_close(again(images, masks).loss, old(images, masks).loss)
    save_published(autoencoder(), tmp_path / "new" / "new.safetensors")
    assert load_published_mae(tmp_path / "new" / "new.safetensors").nearness.slopes.all()
