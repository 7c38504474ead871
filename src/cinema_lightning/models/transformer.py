"""Pre-norm transformer blocks with self- or cross-attention."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cinema_lightning.models.blocks import add_linear, gelu, run

MLP_RATIO = 4


class SelfAttention(nn.Module):
    """Multi-head self-attention with one fused projection to queries, keys and values.

    Args:
        dim: Width.
        heads: Number of heads.
    """

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor, onto: Tensor | None = None) -> Tensor:
        """Maps (B, N, D) to (B, N, D), and adds it to a tensor ``onto`` of that shape."""
        qkv = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        if x.device.type == "cpu" and not torch.is_grad_enabled():
            qkv = qkv.contiguous()  # the CPU's kernel reads whole heads faster than strided ones
        q, k, v = qkv.unbind(0)
        return _finish(self.proj, F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2), onto)

    def reset(self) -> None:
        """Draws initial values as for separate query and key-value layers."""
        dim = self.qkv.in_features
        nn.init.xavier_uniform_(self.qkv.weight[:dim])
        nn.init.xavier_uniform_(self.qkv.weight[dim:])


class CrossAttention(nn.Module):
    """Multi-head attention of queries to a context.

    Args:
        dim: Width of both.
        heads: Number of heads.
    """

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q = nn.Linear(dim, dim)
        self.kv = nn.Linear(dim, 2 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor, context: Tensor, bias: Tensor | None = None, onto: Tensor | None = None) -> Tensor:
        """Maps queries (B, N, D) and a context (B, M, D) to (B, N, D), and adds it to a tensor ``onto``.

        A bias (B, heads, N, M) is added to the logits of attention.
        """
        q = self.q(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        kv = self.kv(context).unflatten(-1, (2, self.heads, -1))
        k, v = (part.transpose(1, 2) for part in kv.unbind(2))
        bias = None if bias is None else bias.to(q.dtype)
        seen = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        return _finish(self.proj, seen.transpose(1, 2).flatten(2), onto)


class Mlp(nn.Module):
    """Two linear layers with a GELU between."""

    def __init__(self, dim: int, ratio: int = MLP_RATIO) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, ratio * dim)
        self.fc2 = nn.Linear(ratio * dim, dim)

    def forward(self, x: Tensor, onto: Tensor | None = None) -> Tensor:
        """Maps (..., D) to (..., D), and adds it to a tensor ``onto`` of that shape."""
        return _finish(self.fc2, gelu(self.fc1(x)), onto)


def _finish(linear: nn.Linear, x: Tensor, onto: Tensor | None) -> Tensor:
    return linear(x) if onto is None else add_linear(onto, linear, x)


class DropPath(nn.Module):
    """Stochastic depth: drops a residual branch per sample in training and scales up the rest.

    Args:
        rate: Probability of dropping, at least 0 and below 1.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    @property
    def active(self) -> bool:
        """Whether anything may be dropped now."""
        return self.training and self.rate > 0

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, ...) to (B, ...)."""
        if not self.active:
            return x
        keep = 1 - self.rate
        return x * x.new_empty(x.shape[0], *[1] * (x.dim() - 1)).bernoulli_(keep).div_(keep)


class TransformerBlock(nn.Module):
    """Attention, then an MLP, each on normalised input and added to the residual stream.

    Args:
        dim: Width.
        heads: Number of heads.
        drop_path: Rate of stochastic depth.
        cross: True for attention to a context instead of to itself. The context is not normalised.
    """

    def __init__(self, dim: int, heads: int, drop_path: float = 0.0, cross: bool = False) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attn = CrossAttention(dim, heads) if cross else SelfAttention(dim, heads)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = Mlp(dim)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor, context: Tensor | None = None, bias: Tensor | None = None) -> Tensor:
        """Maps (B, N, D), with a context (B, M, D) and its bias for cross-attention, to (B, N, D)."""
        inputs = (self.norm1(x),) if context is None else (self.norm1(x), context, bias)
        if not self.drop_path.active:
            x = self.attn(*inputs, onto=x)
            return self.mlp(self.norm2(x), onto=x)
        x = x + self.drop_path(self.attn(*inputs))
        return x + self.drop_path(self.mlp(self.norm2(x)))


class Transformer(nn.Module):
    """A stack of blocks and the norm that belongs after it.

    Args:
        dim: Width.
        depth: Number of blocks.
        heads: Number of heads.
        drop_path: Rate of stochastic depth, the same in each block.
        cross: Cross-attention blocks.
        checkpointing: Compute activations again in the backward pass instead of keeping them.
    """

    def __init__(
        self,
        dim: int,
        depth: int,
        heads: int,
        drop_path: float = 0.0,
        cross: bool = False,
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        self.checkpointing = checkpointing
        self.blocks = nn.ModuleList(TransformerBlock(dim, heads, drop_path, cross) for _ in range(depth))
        self.norm = nn.LayerNorm(dim)

    def forward(
        self, x: Tensor, context: Tensor | None = None, bias: Tensor | None = None, keep_last: int | None = None
    ) -> Tensor:
        """Runs the blocks and the norm.

        Args:
            x: (B, N, D).
            context: (B, M, D) for cross-attention.
            bias: (B, heads, N, M), added to the logits of cross-attention.
            keep_last: Normalise and return only so many tokens from the end; None is all of them.

        Returns:
            (B, N or keep_last, D).
        """
        for block in self.blocks:
            x = run(block, x, context, bias, checkpointing=self.checkpointing)
        if keep_last is not None:
            x = x[:, x.shape[1] - keep_last :]
        return self.norm(x)


def init_linear(module: nn.Module) -> None:
    """Draws the published initial values: Xavier-uniform linear layers with zero bias.

    Layers that stand for convolutions are subclasses and keep torch's own values, layer norms start at 1 and 0.

    Args:
        module: Changed in place with all its parts.
    """
    with torch.no_grad():
        for part in module.modules():
            if type(part) is nn.Linear:
                nn.init.xavier_uniform_(part.weight)
                nn.init.zeros_(part.bias)
        for part in module.modules():
            if isinstance(part, SelfAttention):
                part.reset()
