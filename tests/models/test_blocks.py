"""Convolution pieces against torch's own convolutions, and the transformer's attention against a plain sum."""

import pytest
import torch
from torch import nn

from cinema_lightning.models.blocks import (
    ROWS_AT_ONCE,
    DepthwiseConv,
    MaskedConvBlock,
    PatchConv,
    PointwiseConv,
    add_linear,
)
from cinema_lightning.models.patches import nested_patches, pixel_index, select, take
from cinema_lightning.models.precision import has_fast_bf16
from cinema_lightning.models.transformer import CrossAttention, DropPath, SelfAttention, TransformerBlock


@pytest.mark.parametrize("size", [(6, 7), (5, 6, 4), (5, 6, 1), (5, 6, 2), (5, 6, 9)])
def test_depthwise_convolution_and_its_gradients(size):
    torch.manual_seed(0)
    conv = DepthwiseConv(3, len(size))
    plain = (nn.Conv2d if len(size) == 2 else nn.Conv3d)(3, 3, 5, padding=2, groups=3)
    plain.load_state_dict(conv.state_dict())
    x = torch.randn(2, *size, 3)
    a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
    out, expected = conv(a), plain(b.movedim(-1, 1)).movedim(1, -1)
    torch.testing.assert_close(out, expected)
    grad = torch.randn_like(out)
    out.backward(grad)
    expected.backward(grad)
    torch.testing.assert_close(a.grad, b.grad, rtol=1e-4, atol=1e-5)
    for own, other in zip(conv.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(own.grad, other.grad, rtol=1e-4, atol=1e-4)


def test_frozen_depthwise_convolution_passes_gradients_on():
    conv = DepthwiseConv(2, 2).requires_grad_(False)
    x = torch.randn(1, 6, 6, 2, requires_grad=True)
    conv(x).sum().backward()
    assert x.grad is not None


def test_patch_convolution_in_any_order_equals_a_strided_convolution():
    torch.manual_seed(0)
    conv = PatchConv(3, 5, (4, 4, 1))
    plain = nn.Conv3d(3, 5, (4, 4, 1), stride=(4, 4, 1))
    with torch.no_grad():
        plain.weight.copy_(conv.weight.unflatten(1, (4, 4, 1, 3)).movedim(-1, 1))
        plain.bias.copy_(conv.bias)
    maps = torch.randn(2, 8, 12, 3, 3)
    expected = plain(maps.movedim(-1, 1)).movedim(1, -1).flatten(1, 3)
    torch.testing.assert_close(conv(nested_patches(maps, [(4, 4, 1)]).flatten(2)), expected, rtol=1e-4, atol=1e-5)
    kernels = [(2, 2, 1), (2, 2, 1)]
    nested = nn.functional.linear(nested_patches(maps, kernels).flatten(2), conv.nested_weight(kernels), conv.bias)
    torch.testing.assert_close(nested, expected, rtol=1e-4, atol=1e-5)


def test_pixel_index_follows_nested_patches():
    maps = torch.randn(2, 8, 4, 3, 5)
    kernels = [(2, 2, 1), (2, 1, 1)]
    mask = torch.rand(2, 12).argsort(dim=1) > 4
    selection = select("sax", mask[:, :12], 2, 12)
    index = pixel_index((8, 4, 3), kernels, selection.visible[:, :5])
    rows = maps.flatten(0, 3)[index]
    expected = take(nested_patches(maps, kernels), selection.visible[:, :5]).flatten(0, 2)
    assert torch.equal(rows, expected)


def test_attention():
    torch.manual_seed(0)
    x, context = torch.randn(2, 5, 8), torch.randn(2, 7, 8)
    own, cross = SelfAttention(8, 2), CrossAttention(8, 2)
    with torch.no_grad():
        cross.q.weight.copy_(own.qkv.weight[:8])
        cross.q.bias.copy_(own.qkv.bias[:8])
        cross.kv.weight.copy_(own.qkv.weight[8:])
        cross.kv.bias.copy_(own.qkv.bias[8:])
        cross.proj.load_state_dict(own.proj.state_dict())
    torch.testing.assert_close(own(x), cross(x, x))
    q = cross.q(x).view(2, 5, 2, 4)
    k, v = cross.kv(context).view(2, 7, 2, 2, 4).unbind(2)
    weights = (torch.einsum("bnhd,bmhd->bhnm", q, k) / 2).softmax(-1)
    expected = cross.proj(torch.einsum("bhnm,bmhd->bnhd", weights, v).flatten(2))
    torch.testing.assert_close(cross(x, context), expected)


def test_drop_path_keeps_the_mean():
    torch.manual_seed(0)
    out = DropPath(0.25).train()(torch.ones(4000, 1, 1))
    assert {round(value, 4) for value in out.flatten().unique().tolist()} == {0.0, round(1 / 0.75, 4)}
    assert abs(out.mean().item() - 1) < 0.05


def test_fast_bf16_follows_the_capabilities(monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True, "avx512_bf16": True}, raising=False)
    assert has_fast_bf16("cpu")
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True, "avx512_bf16": False}, raising=False)
    assert not has_fast_bf16(torch.device("cpu"))
    assert not has_fast_bf16("meta")


@pytest.mark.parametrize("contiguous", [True, False])
def test_add_linear_sums_in_place_without_touching_its_inputs(contiguous):
    torch.manual_seed(0)
    linear, base, x = PointwiseConv(6, 4, 2), torch.randn(3, 5, 4), torch.randn(3, 5, 6)
    if not contiguous:
        base, x = base.transpose(0, 1).contiguous().transpose(0, 1), x.transpose(0, 1).contiguous().transpose(0, 1)
    copies = base.clone(), x.clone()
    wanted = base + linear(x)
    with torch.no_grad():
        torch.testing.assert_close(add_linear(base, linear, x), wanted.detach())
    assert torch.equal(base, copies[0])
    assert torch.equal(x, copies[1])


def test_add_linear_obeys_autocast():
    torch.manual_seed(0)
    linear, base, x = nn.Linear(6, 4), torch.zeros(3, 4), torch.randn(3, 6)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(add_linear(base, linear, x), linear(x).float())


def test_convolution_block_piece_by_piece_equals_the_whole():
    torch.manual_seed(0)
    block, maps = MaskedConvBlock(4, 2), torch.randn(1, 40, ROWS_AT_ONCE // 32, 4)
    assert maps[..., 0].numel() > ROWS_AT_ONCE
    copy = maps.clone()

    def mix(conv, x):
        return conv(x)

    with torch.no_grad():
        pieces = block(maps, mix)
    torch.testing.assert_close(pieces, block(maps, mix).detach())
    assert torch.equal(maps, copy)


@pytest.mark.parametrize("cross", [False, True])
def test_transformer_block_without_gradients_leaves_its_input(cross):
    torch.manual_seed(0)
    block, x = TransformerBlock(8, 2, drop_path=0.5, cross=cross).eval(), torch.randn(2, 5, 8)
    context = torch.randn(2, 7, 8) if cross else None
    copy = x.clone()
    with torch.no_grad():
        out = block(x, context)
    torch.testing.assert_close(out, block(x, context).detach())
    assert torch.equal(x, copy)
