"""Convolution pieces of the view stems, written for channels-last data.

Convolutions of kernel 1, or of kernel = stride, are linear layers on rows of channels. They keep the initial values
of torch's convolutions, and :mod:`cinema_lightning.weights.files` gives them the shape of convolutions on disk.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from cinema_lightning.models.patches import nested_patches

CHANNEL_NORM_EPS = 1e-6
ROWS_AT_ONCE = 2048
"""Pixels that go through a pixel-wise MLP together on a CPU: their hidden channels then stay in the cache."""


def gelu(x: Tensor) -> Tensor:
    """GELU of a tensor that nobody else holds; in its own memory where no gradient is wanted."""
    if torch.is_grad_enabled():
        return F.gelu(x)
    return F.gelu(x, out=x)  # type: ignore[call-arg]  # out is not in torch's stubs


def add(into: Tensor, other: Tensor) -> Tensor:
    """Adds two maps, reusing the memory of the first, which nobody else holds, where no gradient is wanted."""
    return into + other if torch.is_grad_enabled() else into.add_(other)


def add_linear(base: Tensor, linear: nn.Linear, x: Tensor) -> Tensor:
    """Gives ``base + linear(x)`` and leaves both as they were.

    Where no gradient is wanted the matrix product is summed onto base and bias, without a map of its own.

    Args:
        base: (..., out_features).
        linear: The layer; one that is more than a plain linear layer, such as a LoRA layer, is called as it is.
        x: (..., in_features).

    Returns:
        (..., out_features), a new tensor.
    """
    plain = type(linear).forward is nn.Linear.forward and linear.bias is not None
    same = base.dtype == x.dtype == linear.weight.dtype and not torch.is_autocast_enabled(base.device.type)
    if torch.is_grad_enabled() or not (plain and same and base.is_contiguous()):
        return base + linear(x)
    out = base + linear.bias
    out.view(-1, out.shape[-1]).addmm_(x.reshape(-1, x.shape[-1]), linear.weight.t())
    return out


class PatchConv(nn.Linear):
    """A convolution whose kernel equals its stride, on pixels that are already gathered patch by patch.

    Args:
        in_channels: Input channels.
        out_channels: Output channels.
        kernel: Kernel and stride, one number per spatial dimension.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel: Sequence[int]) -> None:
        super().__init__(math.prod(kernel) * in_channels, out_channels)
        self.kernel = tuple(kernel)

    def nested_weight(self, kernels: Sequence[Sequence[int]]) -> Tensor:
        """The weight for pixels in coarse-to-fine order (see :func:`nested_patches`), (out, pixels * in)."""
        if len(kernels) == 1:
            return self.weight
        grid = self.weight.unflatten(1, (*self.kernel, -1))
        return nested_patches(grid, kernels[1:]).flatten(1)


class PointwiseConv(nn.Linear):
    """A convolution of kernel 1 on channels-last data.

    Args:
        in_channels: Input channels.
        out_channels: Output channels.
        dims: Spatial dimensions of the convolution on disk.
    """

    def __init__(self, in_channels: int, out_channels: int, dims: int) -> None:
        super().__init__(in_channels, out_channels)
        self.kernel = (1,) * dims


class _CpuDepthwise(torch.autograd.Function):
    """Depth-wise convolution whose input gradient is a forward convolution with the flipped kernel.

    The two are equal for odd kernels with same padding. On CPUs the library's own input gradient of a grouped
    convolution takes about ten times as long as its forward pass.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return _depthwise(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        (grad,) = grads
        axes = tuple(range(2, weight.dim()))
        grad_x = _depthwise(grad, weight.flip(axes), None) if ctx.needs_input_grad[0] else None
        grad_weight = _depthwise_weight_grad(grad, x, weight) if ctx.needs_input_grad[1] else None
        grad_bias = grad.sum((0, *axes)) if ctx.needs_input_grad[2] else None
        return grad_x, grad_weight, grad_bias


def _depthwise_weight_grad(grad: Tensor, x: Tensor, weight: Tensor) -> Tensor:
    """The gradient of a depth-wise kernel, of a stack plane by plane: the library's own takes twice as long.

    Args:
        grad: (B, C, X, Y[, Z]).
        x: The input, of the same shape.
        weight: (C, 1, k, k[, k]).
    """
    if weight.dim() == 4:
        groups, padding, wanted = len(weight), [k // 2 for k in weight.shape[2:]], [False, True, False]
        found = torch.ops.aten.convolution_backward(
            grad, x, weight, None, [1, 1], padding, [1, 1], False, [0, 0], groups, wanted
        )
        return cast(Tensor, found[1])
    batch, depth, middle = len(x), x.shape[4], weight.shape[4] // 2
    planes = [
        maps.movedim(4, 0).flatten(0, 1).contiguous(memory_format=torch.channels_last) for maps in (grad, x)
    ]  # (Z * B, C, X, Y)
    parts = []
    for k in range(weight.shape[4]):
        first, end = max(middle - k, 0), min(depth, depth + middle - k)
        kernel = weight[..., k].contiguous()
        if end <= first:
            parts.append(torch.zeros_like(kernel))
            continue
        ours, theirs = planes[0][first * batch : end * batch], planes[1][(first + k - middle) * batch :]
        parts.append(_depthwise_weight_grad(ours, theirs[: len(ours)], kernel))
    return torch.stack(parts, dim=-1)


def _depthwise(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    convolve: Callable[..., Tensor] = F.conv2d if weight.dim() == 4 else F.conv3d
    padding = tuple(k // 2 for k in weight.shape[2:])
    return convolve(x, weight, bias, padding=padding, groups=weight.shape[0])


class DepthwiseConv(nn.Module):
    """A depth-wise 5 x 5[x 5] convolution with same padding on channels-last maps, always in float32.

    Args:
        channels: Channels.
        dims: Spatial dimensions.
        kernel: Odd kernel size.
    """

    def __init__(self, channels: int, dims: int, kernel: int = 5) -> None:
        super().__init__()
        convolution = nn.Conv2d if dims == 2 else nn.Conv3d
        module = convolution(channels, channels, kernel, groups=channels)
        assert module.bias is not None
        self.weight, self.bias = module.weight, module.bias

    def forward(self, maps: Tensor) -> Tensor:
        """Convolves maps (B, X, Y[, Z], C); the result has the same shape, float32."""
        with torch.autocast(maps.device.type, enabled=False):
            x = maps.float().movedim(-1, 1)
            if x.device.type == "cpu" and torch.is_grad_enabled() and not torch.compiler.is_compiling():
                out = _CpuDepthwise.apply(x, self.weight, self.bias)
            else:
                out = _depthwise(x, self.weight, self.bias)
        return out.movedim(1, -1)


class ConvMlp(nn.Module):
    """Two convolutions of kernel 1 with a GELU between, 4x hidden channels."""

    def __init__(self, channels: int, dims: int, ratio: int = 4) -> None:
        super().__init__()
        self.fc1 = PointwiseConv(channels, ratio * channels, dims)
        self.fc2 = PointwiseConv(ratio * channels, channels, dims)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (..., C) to (..., C)."""
        return self.fc2(gelu(self.fc1(x)))


Mixer = Callable[[DepthwiseConv, Tensor], Tensor]
"""Runs a depth-wise convolution on features that are laid out as the caller knows."""


class MaskedConvBlock(nn.Module):
    """Residual block: depth-wise mixing of masked values, then an MLP per pixel.

    Args:
        channels: Channels.
        dims: Spatial dimensions.
    """

    def __init__(self, channels: int, dims: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(channels, eps=CHANNEL_NORM_EPS)
        self.pointwise1 = PointwiseConv(channels, channels, dims)
        self.depthwise = DepthwiseConv(channels, dims)
        self.pointwise2 = PointwiseConv(channels, channels, dims)
        self.norm2 = nn.LayerNorm(channels, eps=CHANNEL_NORM_EPS)
        self.mlp = ConvMlp(channels, dims)

    def forward(self, x: Tensor, mix: Mixer) -> Tensor:
        """Runs the block.

        Args:
            x: (..., C), a whole map or only the rows of visible pixels.
            mix: Runs the depth-wise convolution for this layout, masked pixels counting as zero.

        Returns:
            The same shape.
        """
        x = add_linear(x, self.pointwise2, mix(self.depthwise, self.pointwise1(self.norm1(x))))
        if torch.is_grad_enabled() or x.device.type != "cpu" or torch.compiler.is_compiling():
            return add(x, self.mlp(self.norm2(x)))
        rows = x.reshape(-1, x.shape[-1])
        for some in rows.split(ROWS_AT_ONCE):
            some += self.mlp(self.norm2(some))
        return rows.view(x.shape)


def run(function: Callable[..., Tensor], *args: Any, checkpointing: bool) -> Tensor:
    """Calls a function, keeping its activations or, with checkpointing, computing them again in the backward pass."""
    if checkpointing and torch.is_grad_enabled():
        return checkpoint(function, *args, use_reentrant=False)
    return function(*args)
