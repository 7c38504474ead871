"""The masked autoencoder against the golden numbers, and its behaviour."""

import importlib.util
import math
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from cinema_lightning.errors import CinemaError
from cinema_lightning.models.mae import MaskedAutoencoder
from cinema_lightning.models.patches import patchify, unpatchify
from cinema_lightning.models.sizes import SIZES
from cinema_lightning.weights.files import load_published_mae
from cinema_lightning.weights.layout import to_published

GOLDEN = Path(os.environ.get("CINEMA_GOLDEN", Path(__file__).parents[1] / "golden"))
VIEWS = ["sax", "lax_2c", "lax_3c", "lax_4c"]
SIZES_GIVEN = {
    "input_size": {"sax": [64, 64, 4], "lax_2c": [64, 64], "lax_3c": [64, 64], "lax_4c": [64, 64]},
    "conv_channels": [8, 16],
    "enc_dim": 32,
    "enc_depth": 2,
    "enc_heads": 4,
    "dec_dim": 24,
    "dec_depth": 2,
    "dec_heads": 4,
}
OPTIONS = {"mae": {}, "mae_norm_target": {"norm_target": True}, "mae_self_attention": {"decoder": "self"}}
TINY = {
    "size": "tiny",
    "conv_channels": [4, 8],
    "conv_blocks": 1,
    "input_size": {"sax": [32, 32, 3], "lax_4c": [48, 32]},
}


def relative(a, b):
    return ((a - b).abs().max() / b.abs().max()).item()


def group(tensors, prefix):
    return {key[len(prefix) + 1 :]: value for key, value in tensors.items() if key.startswith(prefix + ".")}


def golden_model(folder, **options):
    return load_published_mae(
        GOLDEN / folder / "weights.safetensors", **SIZES_GIVEN, **OPTIONS[folder], **options
    ).eval()


def tiny(**options):
    torch.manual_seed(0)
    return MaskedAutoencoder(["sax", "lax_4c"], **{**TINY, **options})


def batch(model, sizes=None, n=2, channels=1, ratio=0.75, views=None):
    generator = torch.Generator().manual_seed(1)
    images, masks = {}, {}
    for view in views or model.views:
        size = (sizes or {}).get(view) or model.encoder.geometries[view].input_size
        images[view] = torch.rand(n, channels, *size, generator=generator)
        patches = model.n_patches(view, size)
        order = torch.rand(n, patches, generator=generator).argsort(dim=1)
        masks[view] = order >= int(patches * (1 - ratio))
    return images, masks


def gradients(model, images, masks):
    model.zero_grad(set_to_none=True)
    output = model(images, masks)
    output.loss.backward()
    return output, {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("sparse", [True, False], ids=["visible_only", "dense"])
@pytest.mark.parametrize("case", ["all", "sax_lax_4c"])
@pytest.mark.parametrize("folder", list(OPTIONS))
def test_golden(folder, case, sparse):
    model = golden_model(folder, sparse_stem=sparse)
    golden = load_file(GOLDEN / folder / f"{case}.safetensors")
    images, masks = group(golden, "input"), group(golden, "mask")
    output, grads = gradients(model, images, masks)
    assert relative(output.loss, golden["loss"]) < 1e-4
    for view in images:
        assert relative(output.predictions[view], golden[f"pred.{view}"]) < 1e-4
        assert output.losses[view].shape == (len(images[view]),)
        assert relative(output.losses[view].mean(), golden[f"loss.{view}"]) < 1e-4
    norm = torch.linalg.vector_norm(torch.stack([grad.norm() for grad in grads.values()]))
    assert relative(norm, golden["grad_norm"]) < 1e-4
    with torch.no_grad():
        features = model.encode(images)
    assert set(features) == {"cls", *images}
    for key, value in features.items():
        assert relative(value, golden[f"feature.{key}"]) < 1e-4


@pytest.mark.parametrize("case", ["other_size", "other_size_lax"])
def test_golden_other_sizes(case):
    golden = load_file(GOLDEN / "mae" / f"{case}.safetensors")
    with torch.no_grad():
        features = golden_model("mae").encode(group(golden, "input"))
    for key, value in features.items():
        assert relative(value, golden[f"feature.{key}"]) < 1e-4


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"channels": 2},
        {"decoder": "self", "norm_target": True},
        {"conv_channels": [4, 6, 8], "patch_size": [2, 2, 1]},
    ],
)
def test_visible_only_equals_dense(options):
    sparse, dense = tiny(**options), tiny(**options, sparse_stem=False)
    images, masks = batch(sparse, {"sax": (48, 32, 2)}, channels=options.get("channels", 1))
    a, grads_a = gradients(sparse, images, masks)
    b, grads_b = gradients(dense, images, masks)
    for view in images:
        assert relative(a.predictions[view], b.predictions[view]) < 1e-5
    assert grads_a.keys() == grads_b.keys() == dict(sparse.named_parameters()).keys()
    largest = max(grad.abs().max().item() for grad in grads_b.values())
    for name in grads_a:
        assert (grads_a[name] - grads_b[name]).abs().max().item() < 1e-5 * largest, name


def test_masked_patches_do_not_reach_the_prediction():
    model = tiny().eval()
    images, masks = batch(model)
    changed = {}
    for view, image in images.items():
        patches = model.patchify(view, image).clone()
        patches[masks[view]] = 9.0
        geometry = model.encoder.geometries[view]
        changed[view] = unpatchify(patches, geometry.grid_of(image.shape[2:]), geometry.patch)
    with torch.no_grad():
        for sparse in (True, False):
            model.encoder.visible_only = sparse
            a, b = model(images, masks), model(changed, masks)
            for view in images:
                assert torch.equal(a.predictions[view], b.predictions[view])


def test_any_subset_of_views():
    model = tiny()
    for views in (["sax"], ["lax_4c"]):
        images, masks = batch(model, views=views)
        output, grads = gradients(model, images, masks)
        assert set(output.losses) == set(views)
        torch.testing.assert_close(output.loss, output.losses[views[0]].mean())
        assert not any(f".{other}." in name for name in grads for other in {"sax", "lax_4c"} - set(views))


@pytest.mark.parametrize("sparse", [True, False], ids=["visible_only", "dense"])
@pytest.mark.parametrize("decoder", ["cross", "self"])
@pytest.mark.parametrize("patch", [[4, 4, 1], [4, 4, 2]])
def test_a_stack_at_its_own_depth_gives_what_it_gives_where_all_padding_is_masked(patch, decoder, sparse):
    """Masked padding reaches nothing visible, so only the positions of the slices could differ."""
    sizes = {"sax": [32, 32, 8], "lax_4c": [32, 32]}
    model = tiny(input_size=sizes, patch_size=patch, sparse_stem=sparse, decoder=decoder).eval()
    own, own_masks = batch(model, {"sax": [32, 32, 5]})
    grid = model.encoder.geometries["sax"].grid
    depth = -(-5 // patch[2])
    assert model.n_patches("sax", (32, 32, 5)) == grid[0] * grid[1] * depth == own_masks["sax"].shape[1]
    padded = {**own, "sax": torch.nn.functional.pad(own["sax"], (0, 3))}
    mask = torch.ones(2, *grid, dtype=torch.bool)
    mask[..., :depth] = own_masks["sax"].unflatten(1, (*grid[:2], depth))
    masks = {**own_masks, "sax": mask.flatten(1)}
    for view, tokens in model.encode(padded, masks).items():
        torch.testing.assert_close(model.encode(own, own_masks)[view], tokens)
    found, wanted = model(own, own_masks).predictions["sax"], model(padded, masks).predictions["sax"]
    if decoder == "cross":  # queries do not see each other, so those of the padding change nothing either
        real = torch.stack([torch.arange(grid[2]) < depth] * grid[0] * grid[1]).flatten()
        for one, them, hidden in zip(found, wanted, masks["sax"], strict=True):
            torch.testing.assert_close(one, them[real[hidden]])
    filled = model.reconstruct("sax", own["sax"], own_masks["sax"], found)
    assert filled.shape == model.hide("sax", own["sax"], own_masks["sax"]).shape == own["sax"].shape


def test_order_of_views_does_not_matter():
    model = tiny()
    images, masks = batch(model)
    with torch.no_grad():
        a = model(images, masks).loss
        b = model(dict(reversed(images.items())), masks).loss
    assert torch.equal(a, b)


@pytest.mark.parametrize(("size", "millions"), [("base", 125.67), ("large", None), ("huge", None), ("tiny", None)])
def test_size_presets(size, millions):
    with torch.device("meta"):
        model = MaskedAutoencoder(VIEWS, size=size)
    table = SIZES[size]
    assert len(model.encoder.transformer.blocks) == table.enc_depth
    assert len(model.decoder.blocks) == table.dec_depth
    assert model.encoder.cls_token.shape == (1, 1, table.enc_dim)
    per_block = lambda d: 12 * d * d + 13 * d  # noqa: E731  attention 4 d^2 + 4 d, MLP 8 d^2 + 5 d, norms 4 d
    blocks = sum(p.numel() for p in model.encoder.transformer.blocks.parameters())
    assert blocks == table.enc_depth * per_block(table.enc_dim)
    if millions is not None:
        total = sum(value.numel() for value in model.state_dict().values())
        assert round(total / 1e6, 2) == millions
        assert round(4 * total / 1e6) == 503


def test_defaults_follow_the_views():
    with torch.device("meta"):
        model = MaskedAutoencoder(VIEWS)
    assert [model.n_patches(view) for view in VIEWS] == [2304, 256, 256, 256]
    assert model.n_visible("sax") == 576
    assert model.encoder.geometries["sax"].kernels == ((4, 4, 1), (2, 2, 1), (2, 2, 1))


def test_initial_values():
    model = tiny(enc_dim=64, enc_heads=4, dec_dim=64, dec_heads=4, conv_channels=[16, 32])
    block = model.encoder.transformer.blocks[0]
    bounds = (
        (block.attn.qkv.weight[:64], 64, 64),
        (block.attn.qkv.weight[64:], 64, 128),
        (block.mlp.fc1.weight, 64, 256),
    )
    for weight, n_in, n_out in bounds:
        bound = math.sqrt(6 / (n_in + n_out))
        assert 0.95 * bound < weight.abs().max() <= bound
    assert all((p == 0).all() for name, p in block.named_parameters() if name.endswith("bias"))
    assert (block.norm1.weight == 1).all()
    stage = model.encoder.stems["sax"].stages[1]
    assert 0.9 / math.sqrt(16 * 4) < stage.down.weight.abs().max() <= 1 / math.sqrt(16 * 4)
    assert stage.down.bias.abs().max() > 0
    fusion = model.fusion["sax"].downs[0]
    assert 0.9 / math.sqrt(16 * 16) < fusion.weight.abs().max() <= 1 / math.sqrt(16 * 16)
    assert 0.01 < model.encoder.cls_token.std() < 0.03
    assert 0.01 < model.queries["sax"].mask_token.std() < 0.03


@pytest.mark.parametrize("sparse", [True, False])
def test_checkpointing_gives_the_same_gradients(sparse):
    plain, saved = tiny(sparse_stem=sparse), tiny(sparse_stem=sparse, checkpointing=True)
    images, masks = batch(plain)
    a, grads_a = gradients(plain, images, masks)
    b, grads_b = gradients(saved, images, masks)
    torch.testing.assert_close(a.loss, b.loss)
    for name in grads_a:
        torch.testing.assert_close(grads_a[name], grads_b[name])


def test_drop_path_only_in_training():
    model = tiny(drop_path=0.5, enc_depth=4)
    images, masks = batch(model)
    with torch.no_grad():
        drawn = {model(images, masks).loss.item() for _ in range(4)}
        model.eval()
        settled = {model(images, masks).loss.item() for _ in range(2)}
    assert len(drawn) > 1
    assert len(settled) == 1


def test_bf16_autocast():
    model = tiny()
    images, masks = batch(model, n=1)
    reference, grads = gradients(model, images, masks)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output, grads_low = gradients(model, images, masks)
    assert output.loss.dtype == torch.float32
    torch.testing.assert_close(output.loss, reference.loss, rtol=0.05, atol=0.05)
    assert all(grad.isfinite().all() and grad.dtype == torch.float32 for grad in grads_low.values())
    assert grads_low.keys() == grads.keys()


def test_patchify_golden_and_back():
    golden = load_file(GOLDEN / "misc" / "tensors.safetensors")
    image, patches = golden["patchify.input"], golden["patchify.patch4x4x1"]
    assert torch.equal(patchify(image, (4, 4, 1)), patches)
    assert torch.equal(unpatchify(patches, (2, 3, 2), (4, 4, 1)), image)


@pytest.mark.parametrize("norm_target", [False, True])
def test_reconstruct_with_perfect_predictions_is_the_image(norm_target):
    model = tiny(norm_target=norm_target)
    images, masks = batch(model)
    for view, image in images.items():
        target = model.patchify(view, image)[masks[view]].unflatten(0, (len(image), -1))
        if norm_target:
            target = (target - target.mean(-1, keepdim=True)) / (target.std(-1, keepdim=True) + 1e-6)
        picture = model.reconstruct(view, image, masks[view], target)
        torch.testing.assert_close(picture, image)
        blank = model.reconstruct(view, torch.zeros_like(image), masks[view], torch.ones_like(target))
        assert (model.patchify(view, blank)[~masks[view]] == 0).all()


def test_config_builds_the_same_model():
    model = tiny(channels=2, drop_path=0.1)
    again = MaskedAutoencoder(**model.config)
    again.load_state_dict(model.state_dict())
    assert again.config == model.config
    assert all(isinstance(value, (list, dict, str, int, float, bool, type(None))) for value in model.config.values())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda i, m: i.update(lax_2c=i["lax_4c"]), "no weights for view 'lax_2c'"),
        (lambda i, m: i.clear(), "No view is present"),
        (lambda i, m: i.update(sax=i["sax"][..., 0]), "need 5 axes"),
        (lambda i, m: i.update(sax=i["sax"].repeat(1, 2, 1, 1, 1)), "2 channels"),
        (lambda i, m: i.update(sax=i["sax"][:, :, :30]), "not a multiple of the patch"),
        (lambda i, m: i.update(sax=i["sax"][:1]), "different numbers of samples"),
        (lambda i, m: m.pop("sax"), "no mask"),
        (lambda i, m: m.update(sax=m["sax"].float()), "must be boolean"),
        (lambda i, m: m.update(sax=m["sax"][:, :-1]), "must be boolean of shape"),
        (lambda i, m: m.update(sax=torch.ones_like(m["sax"])), "every patch"),
        (lambda i, m: m.update(sax=torch.zeros_like(m["sax"])), "hides nothing"),
        (lambda i, m: m["sax"].__setitem__((0, slice(None)), False), "hide as many"),
    ],
)
def test_bad_input(change, message):
    model = tiny()
    images, masks = batch(model)
    change(images, masks)
    with pytest.raises(CinemaError, match=message):
        model(images, masks)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"views": []}, "different view names"),
        ({"views": ["sax", "sax"]}, "different view names"),
        ({"views": ["axial"], "input_size": None}, "no view called 'axial'"),
        ({"size": "medium"}, "sizes are tiny, base"),
        ({"mask_ratio": 1.0}, "mask_ratio"),
        ({"decoder": "both"}, "cross or self"),
        ({"drop_path": 1.0}, "drop_path"),
        ({"channels": 0}, "channels"),
        ({"enc_heads": 5}, "multiple of enc_heads"),
        ({"enc_depth": 0}, "enc_depth is 0"),
        ({"input_size": {"sax": [30, 32, 3]}}, "not a multiple"),
        ({"input_size": {"sax": [32, 32]}}, "give 3 numbers"),
        ({"input_size": {"lax_2c": [32, 32]}}, "not among views"),
        ({"scale": [2]}, "needs 3 positive numbers"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(CinemaError, match=message):
        MaskedAutoencoder(**{"views": ["sax", "lax_4c"], **TINY, **arguments})


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_agrees_with_cpu():
    model = tiny()
    images, masks = batch(model)
    a, _ = gradients(model, images, masks)
    to = lambda tensors: {key: value.cuda() for key, value in tensors.items()}  # noqa: E731
    b, _ = gradients(model.cuda(), to(images), to(masks))
    torch.testing.assert_close(a.loss, b.loss.cpu(), rtol=1e-3, atol=1e-4)


def test_benchmark_reference_computes_the_same():
    spec = importlib.util.spec_from_file_location(
        "reference_mae", Path(__file__).parents[2] / "benchmarks" / "reference_mae.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    model = tiny(conv_blocks=2, enc_depth=2)
    geometries = model.encoder.geometries
    reference = module.ReferenceMae(
        {view: g.grid for view, g in geometries.items()},
        {view: g.kernels for view, g in geometries.items()},
        widths=(4, 8),
        enc=(16, 2, 2),
        dec=(16, 1, 2),
    )
    reference.load_state_dict(to_published(model))
    images, masks = batch(model)
    output, _ = gradients(model, images, masks)
    loss, predictions = reference(images, masks)
    loss.backward()
    torch.testing.assert_close(output.loss, loss)
    for view in images:
        torch.testing.assert_close(output.predictions[view], predictions[view], rtol=1e-4, atol=1e-5)
    norms = [torch.stack([p.grad.norm() for p in m.parameters()]).norm() for m in (model, reference)]
    torch.testing.assert_close(norms[0], norms[1])
