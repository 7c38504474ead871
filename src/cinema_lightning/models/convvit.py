"""ConvViT: the encoder with linear heads, for classification, regression and coordinates (arXiv 2506.00679)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from cinema_lightning.errors import CinemaError
from cinema_lightning.models import BACKBONES
from cinema_lightning.models.backbone import Float32Linear, PooledBackbone
from cinema_lightning.models.encoder import EncoderOptions, MultiScaleFusion, MultiViewEncoder

Variant = Literal["all", "patch", "cls"]


@BACKBONES.register
class ConvViT(PooledBackbone):
    """The pretrained encoder and fusion, then one linear head per view and one for the class token.

    The output is the mean of the heads: each view's on its mean-pooled tokens, and the class token's. A missing view
    takes no part in the mean.

    Args:
        views: Views to build weights for.
        input_size: View -> image size in voxels, for the position tables; views left out take their own size.
        channels: Input channels: 2 for ED and ES frames stacked.
        outputs: Output numbers.
        size: tiny, mini, small, base, large or huge.
        variant: Heads that count: "all", "patch" (the views' only) or "cls" (the class token's only). Parts that the
            variant does not reach are not trained.
        drop_path: Rate of stochastic depth in the transformer blocks.
        checkpointing: Compute activations again in the backward pass instead of keeping them.
        **encoder: Options of the encoder, see :class:`~cinema_lightning.models.encoder.EncoderOptions`.

    Raises:
        CinemaError: For arguments that do not fit together.
    """

    def __init__(
        self,
        views: Sequence[str],
        input_size: Mapping[str, Sequence[int]] | None = None,
        channels: int = 1,
        outputs: int = 1,
        size: str = "base",
        variant: Variant = "all",
        drop_path: float = 0.1,
        checkpointing: bool = False,
        **encoder: Any,
    ) -> None:
        super().__init__(views, input_size, channels, outputs)
        if variant not in get_args(Variant):
            raise CinemaError(f"There is no variant '{variant}'; choose all, patch or cls.")
        self.variant: Variant = variant
        options = EncoderOptions(**encoder)
        self.encoder = MultiViewEncoder(self.input_size, channels, size, options, drop_path, checkpointing)
        widths, dim = self.encoder.conv_channels, self.encoder.dim
        geometries = self.encoder.geometries
        self.fusion = nn.ModuleDict({view: MultiScaleFusion(g, widths, dim) for view, g in geometries.items()})
        self.heads = nn.ModuleDict({name: Float32Linear(dim, outputs) for name in (*self.views, "cls")})
        self._freeze_unreached()

    def head_modules(self) -> list[nn.Module]:
        """All linear heads."""
        return [self.heads]

    def forward(self, images: Mapping[str, Tensor], variant: Variant | None = None) -> Tensor:
        """Predicts from the views present.

        Args:
            images: View -> (B, C, X, Y[, Z]) in [0, 1]; any subset of the network's views.
            variant: Heads that count; None takes the network's own.

        Returns:
            (B, outputs).

        Raises:
            CinemaError: For images that do not fit.
        """
        variant = variant or self.variant
        encoded = self.encoder(images)
        outputs = []
        if variant != "cls":
            for view, tokens in encoded.tokens.items():
                fused = self.fusion[view](tokens, encoded.stems[view])
                outputs.append(self.heads[view](fused.float().mean(dim=1)))
        if variant != "patch":
            outputs.append(self.heads["cls"](encoded.cls[:, 0]))
        return torch.stack(outputs).mean(dim=0)

    def _freeze_unreached(self) -> None:
        """Takes the parts that the variant leaves out of training: they would get no gradient (an error under DDP)."""
        reached = {"all": (*self.views, "cls"), "patch": self.views, "cls": ("cls",)}[self.variant]
        for name, head in self.heads.items():
            head.requires_grad_(name in reached)
        self.fusion.requires_grad_(self.variant != "cls")
