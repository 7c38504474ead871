"""ConvUNetR: the encoder with a U-shaped decoder per view, for segmentation and heatmaps (arXiv 2506.00679)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from cinema_lightning.errors import CinemaError
from cinema_lightning.models import BACKBONES
from cinema_lightning.models.backbone import DenseBackbone, DenseOutput, crop_to, pad_to_multiple
from cinema_lightning.models.blocks import PointwiseConv
from cinema_lightning.models.dense_decoder import ViewDecoder
from cinema_lightning.models.encoder import EncoderOptions, MultiViewEncoder
from cinema_lightning.models.sizes import Norm, ViewGeometry, decoder_blocks, decoder_channels, decoder_norm


@BACKBONES.register
class ConvUNetR(DenseBackbone):
    """The pretrained encoder (without fusion), and per view a convolutional decoder with skips from all scales.

    Images need in-plane sizes that are a multiple of 32 (of the patch and one scale step beyond). Any depth will do: a
    stack goes through at its own, with the position table's first entries along z.

    Args:
        views: Views to build weights for.
        input_size: View -> image size in voxels, for the position tables; views left out take their own size.
        channels: Input channels: 3 for three stacked sequences.
        classes: Classes per voxel, the background included; or heatmaps.
        size: tiny, mini, small, base, large or huge.
        drop_path: Rate of stochastic depth in the transformer blocks.
        dropout: Rate of dropout in the decoder's skips.
        checkpointing: Compute activations again in the backward pass instead of keeping them.
        checkpoint_decoder: Do so in the decoder alone, whose maps are most of the memory; its norms and GELUs are
            computed twice, its convolutions are not.
        dec_channels: Channels of the decoder's levels, fine to coarse, by default the size's (32, 64, 128, 256, 512
            for base).
        dec_blocks: Residual blocks of each level going up, by default the size's: 2, and 1 for small.
        norm: What the decoder's norms go over: the channels of each voxel (layer, published), or the voxels of each
            channel (instance); by default the size's, which is layer for all but small.
        flat_levels: Finest levels of the decoder, the full size first, whose convolutions look at no neighbouring
            slices (3 x 3 x 1), as nnU-Net's where slices are far apart.
        carry: The decoder's skip of each level also sees that of the finer one, as an encoder of convolutions would.
        deep_supervision: In training give as many coarser levels besides, which learn the same labels.
        **encoder: Options of the encoder, see :class:`~cinema_lightning.models.encoder.EncoderOptions`; ``patch_size``
            has to be a power of ``scale``.

    Raises:
        CinemaError: For arguments that do not fit together.
    """

    def __init__(
        self,
        views: Sequence[str],
        input_size: Mapping[str, Sequence[int]] | None = None,
        channels: int = 1,
        classes: int = 4,
        size: str = "base",
        drop_path: float = 0.1,
        dropout: float = 0.1,
        checkpointing: bool = False,
        checkpoint_decoder: bool = False,
        dec_channels: Sequence[int] | None = None,
        dec_blocks: int | None = None,
        norm: Norm | None = None,
        flat_levels: int = 0,
        carry: bool = False,
        deep_supervision: int = 0,
        **encoder: Any,
    ) -> None:
        super().__init__(views, input_size, channels, classes)
        options = EncoderOptions(**encoder)
        self.encoder = MultiViewEncoder(self.input_size, channels, size, options, drop_path, checkpointing)
        decoder_widths = decoder_channels(size, dec_channels)
        self.norm = decoder_norm(size, norm)
        if not 0 <= deep_supervision < len(decoder_widths):
            raise CinemaError(
                f"deep_supervision is {deep_supervision}; give how many coarser levels learn besides, 0 to "
                f"{len(decoder_widths) - 1}."
            )
        if not 0 <= flat_levels <= len(decoder_widths):
            raise CinemaError(
                f"flat_levels is {flat_levels}; give how many levels look at no neighbouring slices, 0 to "
                f"{len(decoder_widths)}."
            )
        geometries = self.encoder.geometries
        for geometry in geometries.values():
            _check_grid(geometry, geometry.input_size)
        self.decoders = nn.ModuleDict(
            {
                view: ViewDecoder(
                    channels,
                    self.encoder.conv_channels,
                    self.encoder.dim,
                    decoder_widths,
                    g.kernels[-1],
                    _first_level(g, decoder_widths),
                    dropout,
                    checkpointing or checkpoint_decoder,
                    self.norm,
                    decoder_blocks(size, dec_blocks),
                    deep_supervision,
                    flat_levels,
                    carry,
                )
                for view, g in geometries.items()
            }
        )
        self.heads = nn.ModuleDict(
            {view: PointwiseConv(decoder_widths[0], classes, g.dims) for view, g in geometries.items()}
        )
        self.side_heads = nn.ModuleDict(
            {
                view: nn.ModuleList(PointwiseConv(n, classes, g.dims) for n in decoder_widths[:deep_supervision])
                for view, g in geometries.items()
                if deep_supervision
            }
        )

    def head_modules(self) -> list[nn.Module]:
        """Decoders and heads: all but the stems and the transformer."""
        return [self.decoders, self.heads, self.side_heads]

    def auxiliary_heads(self) -> list[nn.Module]:
        """Those of deep supervision."""
        return [self.side_heads]

    def forward(self, images: Mapping[str, Tensor]) -> DenseOutput:
        """Predicts logits for every voxel of the views present.

        Args:
            images: View -> (B, C, X, Y[, Z]) in [0, 1]; any subset of the network's views.

        Returns:
            View -> logits (B, classes, X, Y[, Z]), channels-last in memory; in training with deep supervision a list
            of such, coarser levels after the first, brought to the image's size.

        Raises:
            CinemaError: For images that do not fit.
        """
        given = self.present(images)
        padded = {view: _deepened(self.encoder.geometries[view], image) for view, image in given.items()}
        for view, image in padded.items():
            _check_grid(self.encoder.geometries[view], image.shape[2:])
        encoded = self.encoder(padded)
        logits: DenseOutput = {}
        for view, image in padded.items():
            grid = self.encoder.geometries[view].grid_of(image.shape[2:])
            tokens = encoded.tokens[view].unflatten(1, grid)
            maps = self.decoders[view](image.movedim(1, -1), encoded.stems[view].stages, tokens)
            size = given[view].shape[2:]
            full: Tensor = crop_to(self.heads[view](maps[0]).movedim(-1, 1), size)
            logits[view] = [full, *self._coarse(view, maps[1:], image.shape[2:], size)] if maps[1:] else full
        return logits

    def _coarse(self, view: str, maps: Sequence[Tensor], padded: Sequence[int], size: Sequence[int]) -> list[Tensor]:
        """Logits of the coarser levels, brought to the image's size."""
        heads = self.side_heads[view]
        assert isinstance(heads, nn.ModuleList)
        levels = [head(level).movedim(-1, 1) for head, level in zip(heads, maps, strict=True)]
        return [crop_to(F.interpolate(level, tuple(padded)), size) for level in levels]


def _deepened(geometry: ViewGeometry, image: Tensor) -> Tensor:
    """Pads a stack along z so that its tokens can be halved once more; with a scale of 1 along z to whole patches."""
    steps = zip(geometry.patch[2:], geometry.kernels[-1][2:], strict=True)
    return pad_to_multiple(image, [1, 1, *(p * k for p, k in steps)])


def _check_grid(geometry: ViewGeometry, size: Sequence[int]) -> None:
    """Refuses images whose tokens cannot be halved once more."""
    grid, step = geometry.grid_of(size), geometry.kernels[-1]
    if any(n % k for n, k in zip(grid, step, strict=True)):
        wanted = " x ".join(str(p * k) for p, k in zip(geometry.patch, step, strict=True))
        raise CinemaError(
            f"The size {' x '.join(map(str, size))} of view '{geometry.view}' is not a multiple of {wanted}, which "
            "ConvUNetR's decoder needs; pad or crop the images."
        )


def _first_level(geometry: ViewGeometry, dec_channels: Sequence[int]) -> int:
    """How many scale steps the first stage takes at once."""
    first, step = geometry.kernels[0], geometry.kernels[-1]
    n_later = len(geometry.kernels)  # the later stages, the patch embedding and the step beyond
    for level in range(1, 9):
        if all(k**level == f for f, k in zip(first, step, strict=True)):
            if len(dec_channels) != level + n_later:
                raise CinemaError(
                    f"dec_channels has {len(dec_channels)} numbers, but this network has {level + n_later} levels; "
                    "give one for each."
                )
            return level
    raise CinemaError(
        f"patch_size {list(first)} of view '{geometry.view}' is no power of scale {list(step)}, which ConvUNetR's "
        "decoder needs; choose another patch_size."
    )
