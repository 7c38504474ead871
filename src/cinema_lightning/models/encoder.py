"""What all networks share: one stem per view, a common transformer, and multi-scale fusion."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from cinema_lightning.errors import CinemaError
from cinema_lightning.models.blocks import PatchConv
from cinema_lightning.models.inputs import ordered_images
from cinema_lightning.models.patches import Selection, nested_patches, select, take
from cinema_lightning.models.sizes import (
    ViewGeometry,
    product,
    resolve_size,
    stem_blocks,
    stem_channels,
    stem_patch,
    view_geometry,
)
from cinema_lightning.models.stem import StemOutput, ViewStem
from cinema_lightning.models.transformer import Transformer, init_linear


@dataclass
class EncoderOutput:
    """Encoded tokens and what the stems made on the way.

    Attributes:
        cls: (B, 1, D), the class token.
        tokens: View -> (B, n, D), visible tokens, or all of them without masks.
        stems: View -> the stem's output, with each convolution stage's map.
    """

    cls: Tensor
    tokens: dict[str, Tensor]
    stems: dict[str, StemOutput]


@dataclass(frozen=True)
class EncoderOptions:
    """What an encoder of a size can be made of instead; every network that has one takes these as its own options.

    Args:
        patch_size: Kernel of the first convolution stage; by default such that a token spans the view's patch, in the
            size small 8 x 8 pixels.
        scale: Kernel of the later convolution stages and of the patch embedding, 2 x 2 x 1 by default.
        conv_channels: Channels of the convolution stages, by default the size's.
        conv_blocks: Masked convolution blocks per stage, by default the size's: 2, and 1 for small.
        enc_dim: Encoder width; like the next two it is taken from the size table unless given.
        enc_depth: Encoder blocks.
        enc_heads: Encoder heads.
    """

    patch_size: Sequence[int] | None = None
    scale: Sequence[int] | None = None
    conv_channels: Sequence[int] | None = None
    conv_blocks: int | None = None
    enc_dim: int | None = None
    enc_depth: int | None = None
    enc_heads: int | None = None


class MultiViewEncoder(nn.Module):
    """Stems, class token and a transformer over the tokens of all views present.

    Args:
        input_size: View -> image size in voxels, None for the view's own; their order is the order of the tokens.
        channels: Input channels of each view.
        size: Name of a size in :data:`~cinema_lightning.models.sizes.SIZES`.
        options: What else it is made of.
        drop_path: Rate of stochastic depth.
        checkpointing: Compute activations again in the backward pass instead of keeping them.
        visible_only: With masks, skip the masked positions in the stems.

    Raises:
        CinemaError: For arguments that do not fit together.
    """

    def __init__(
        self,
        input_size: Mapping[str, Sequence[int] | None],
        channels: int,
        size: str,
        options: EncoderOptions,
        drop_path: float = 0.0,
        checkpointing: bool = False,
        visible_only: bool = True,
    ) -> None:
        super().__init__()
        table = resolve_size(size, enc_dim=options.enc_dim, enc_depth=options.enc_depth, enc_heads=options.enc_heads)
        self.dim = table.enc_dim
        self.channels = channels
        self.conv_channels = stem_channels(size, options.conv_channels)
        self.conv_blocks = stem_blocks(size, options.conv_blocks)
        self.visible_only = visible_only
        self.geometries = {
            view: view_geometry(
                view, image_size, stem_patch(size, options.patch_size), options.scale, len(self.conv_channels)
            )
            for view, image_size in input_size.items()
        }
        self.stems = nn.ModuleDict(
            {
                view: ViewStem(geometry, channels, self.conv_channels, self.conv_blocks, self.dim, checkpointing)
                for view, geometry in self.geometries.items()
            }
        )
        self.cls_token = nn.Parameter(torch.zeros(1, 1, self.dim))
        self.transformer = Transformer(
            self.dim, table.enc_depth, table.enc_heads, drop_path, checkpointing=checkpointing
        )
        init_linear(self)
        nn.init.normal_(self.cls_token, std=0.02)

    @property
    def views(self) -> tuple[str, ...]:
        """The views that the network has weights for."""
        return tuple(self.geometries)

    def present(self, images: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Checks images and sorts them in the network's order of views.

        Args:
            images: View -> (B, C, X, Y[, Z]); any subset of the network's views.

        Returns:
            The same images in order.

        Raises:
            CinemaError: For no images, a view without weights, wrong dimensions, channels or sizes, or uneven batches.
        """
        images = ordered_images(images, {view: g.dims for view, g in self.geometries.items()}, self.channels)
        for view, image in images.items():
            self.geometries[view].grid_of(image.shape[2:])
        return images

    def selections(
        self,
        images: Mapping[str, Tensor],
        masks: Mapping[str, Tensor | Selection],
        n_visible: Mapping[str, int] | None = None,
    ) -> dict[str, Selection]:
        """Turns the masks of the views present into patch numbers.

        Args:
            images: Checked images.
            masks: View -> (B, N), true = masked, or a selection that was made of such a mask.
            n_visible: View -> visible patches, where that is known (see :func:`select`).

        Returns:
            View -> selection.

        Raises:
            CinemaError: For a view without a mask or a mask that does not fit.
        """
        chosen = {}
        for view, image in images.items():
            if view not in masks:
                raise CinemaError(f"View '{view}' has images but no mask; give one mask per view.")
            mask = masks[view]
            n_patches = math.prod(self.geometries[view].grid_of(image.shape[2:]))
            if isinstance(mask, Selection):
                if mask.mask.shape != (len(image), n_patches):
                    raise CinemaError(
                        f"The selection of view '{view}' is of {tuple(mask.mask.shape)} patches, but the images have "
                        f"{(len(image), n_patches)}."
                    )
                chosen[view] = mask
            else:
                known = None if n_visible is None else n_visible[view]
                chosen[view] = select(view, mask, len(image), n_patches, known)
        return chosen

    def forward(self, images: Mapping[str, Tensor], selections: Mapping[str, Selection] | None = None) -> EncoderOutput:
        """Encodes the views present together.

        Args:
            images: View -> (B, C, X, Y[, Z]); any subset of the network's views.
            selections: View -> visible patches (see :meth:`selections`); None for all patches, without masking.

        Returns:
            Encoded tokens after the final norm, and the stems' outputs.

        Raises:
            CinemaError: For images that do not fit.
        """
        images = self.present(images)
        stems = {
            view: self.stems[view](image, None if selections is None else selections[view], self.visible_only)
            for view, image in images.items()
        }
        batch = next(iter(images.values())).shape[0]  # not len, which a graph takes for a constant
        tokens = torch.cat([self.cls_token.expand(batch, -1, -1), *[stem.tokens for stem in stems.values()]], dim=1)
        tokens = self.transformer(tokens)
        cls, *views = tokens.split([1, *[stem.tokens.shape[1] for stem in stems.values()]], dim=1)
        return EncoderOutput(cls, dict(zip(stems, views, strict=True)), stems)


class MultiScaleFusion(nn.Module):
    """Adds every convolution stage's output, brought to the patch grid, to one view's tokens; then a norm.

    Args:
        geometry: Kernels of the view's stem.
        conv_channels: Channels of each convolution stage.
        dim: Width of the tokens.
    """

    def __init__(self, geometry: ViewGeometry, conv_channels: Sequence[int], dim: int) -> None:
        super().__init__()
        self.kernels = geometry.kernels
        self.downs = nn.ModuleList(
            PatchConv(width, dim, product(self.kernels[i + 1 :])) for i, width in enumerate(conv_channels)
        )
        self.norm = nn.LayerNorm(dim)

    def forward(self, tokens: Tensor, stem: StemOutput) -> Tensor:
        """Fuses one view.

        Args:
            tokens: (B, n, D), encoded tokens.
            stem: The same view's stem output.

        Returns:
            (B, n, D).
        """
        for i, (down, stage) in enumerate(zip(self.downs, stem.stages, strict=True)):
            assert isinstance(down, PatchConv)
            if stem.visible_only:
                weight = down.nested_weight(self.kernels[:i:-1])
                tokens = tokens + nn.functional.linear(stage.flatten(2), weight, down.bias)
                continue
            patches = nested_patches(stage, [down.kernel]).flatten(2)
            if stem.selection is not None:
                patches = take(patches, stem.selection.visible)
            tokens = tokens + down(patches)
        return self.norm(tokens)
