"""Low-rank adapters on the attention projections (Hu et al., LoRA, ICLR 2022)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from torch import Tensor, nn
from torch.nn import functional as F

from cinema_lightning.errors import CinemaError
from cinema_lightning.models.backbone import DenseBackbone, PooledBackbone
from cinema_lightning.models.transformer import CrossAttention, SelfAttention

_PROJECTIONS = ("qkv", "q", "kv", "proj")


class LoraLinear(nn.Linear):
    """A linear layer with a trained low-rank addition: ``x W' + b + scale * drop(x) A' B'``, B starting at 0.

    Weight and bias are the wrapped layer's own parameters under their old names.

    Args:
        base: Layer to wrap.
        rank: Rank of the addition.
        alpha: The scale is ``alpha / rank``.
        dropout: Rate of dropout on the addition's input.
    """

    lora_scale: Tensor

    def __init__(self, base: nn.Linear, rank: int, alpha: float, dropout: float = 0.0) -> None:
        super().__init__(base.in_features, base.out_features, base.bias is not None, device="meta")
        self.weight, self.bias = base.weight, base.bias
        self.lora_a = nn.Parameter(base.weight.new_empty(rank, base.in_features))
        self.lora_b = nn.Parameter(base.weight.new_zeros(base.out_features, rank))
        self.register_buffer("lora_scale", base.weight.new_tensor(alpha / rank))
        self.lora_dropout = nn.Dropout(dropout)
        nn.init.kaiming_uniform_(self.lora_a, a=math.sqrt(5))

    def forward(self, x: Tensor) -> Tensor:
        """Maps (..., in_features) to (..., out_features)."""
        low = F.linear(F.linear(self.lora_dropout(x), self.lora_a), self.lora_b)
        return super().forward(x) + low * self.lora_scale

    def merged(self) -> nn.Linear:
        """A plain layer that computes the same in evaluation mode."""
        plain = nn.Linear(self.in_features, self.out_features, self.bias is not None, device="meta")
        weight = self.weight.detach() + self.lora_scale * (self.lora_b.detach() @ self.lora_a.detach())
        plain.weight = nn.Parameter(weight, requires_grad=self.weight.requires_grad)
        plain.bias = self.bias
        return plain


def add_lora(network: DenseBackbone | PooledBackbone, rank: int = 8, alpha: float = 16.0, dropout: float = 0.0) -> int:
    """Adds adapters to all attention projections; only they and the heads stay trainable.

    Load weights first. The network's outputs are unchanged until it is trained.

    Args:
        network: Changed in place.
        rank: Rank of the adapters.
        alpha: Their scale is ``alpha / rank``.
        dropout: Rate of dropout on the adapters' input.

    Returns:
        The number of layers adapted.

    Raises:
        CinemaError: For numbers out of range, a network without attention projections, or one that has adapters.
    """
    if rank < 1 or alpha <= 0 or not 0 <= dropout < 1:
        raise CinemaError(
            f"LoRA with rank {rank}, alpha {alpha} and dropout {dropout} makes no sense; give a rank of at least 1, a "
            "positive alpha and a dropout from 0 up to, but not including, 1."
        )
    places = list(_projections(network))
    if not places:
        raise CinemaError(f"{type(network).__name__} has no attention projections to adapt; use ConvUNetR or ConvViT.")
    if any(isinstance(layer, LoraLinear) for _, _, layer in places):
        raise CinemaError("This network has LoRA adapters already; merge them before adding others.")
    trained = [p for head in network.head_modules() for p in head.parameters() if p.requires_grad]
    network.requires_grad_(False)
    for parameter in trained:
        parameter.requires_grad_(True)
    for owner, name, layer in places:
        setattr(owner, name, LoraLinear(layer, rank, alpha, dropout))
    return len(places)


def merge_lora(network: nn.Module) -> int:
    """Folds adapters into the weights they adapt.

    Args:
        network: Changed in place; its keys are those of a network without adapters afterwards.

    Returns:
        The number of layers merged.
    """
    places = [place for place in _projections(network) if isinstance(place[2], LoraLinear)]
    for owner, name, layer in places:
        assert isinstance(layer, LoraLinear)
        setattr(owner, name, layer.merged())
    return len(places)


def merge_lora_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Folds the adapters of a whole state dict into its weights.

    Args:
        state: State dict of a network with or without adapters.

    Returns:
        State dict of the same network without adapters; other tensors are shared.
    """
    plain = {key: value for key, value in state.items() if ".lora_" not in key}
    for key in state:
        if key.endswith(".lora_a"):
            layer = key.removesuffix(".lora_a")
            low = state[f"{layer}.lora_b"] @ state[key] * state[f"{layer}.lora_scale"]
            plain[f"{layer}.weight"] = state[f"{layer}.weight"] + low
    return plain


def _projections(network: nn.Module) -> Iterator[tuple[nn.Module, str, nn.Linear]]:
    for module in network.modules():
        if isinstance(module, SelfAttention | CrossAttention):
            for name in _PROJECTIONS:
                layer = getattr(module, name, None)
                if isinstance(layer, nn.Linear):
                    yield module, name, layer
