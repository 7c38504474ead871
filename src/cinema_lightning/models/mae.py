"""The multi-view masked autoencoder (CineMA, arXiv 2506.00679)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from cinema_lightning.errors import CinemaError
from cinema_lightning.models.encoder import EncoderOptions, MultiScaleFusion, MultiViewEncoder
from cinema_lightning.models.inputs import pad_to
from cinema_lightning.models.nearness import Nearness, places
from cinema_lightning.models.patches import Selection, patchify, take, unpatchify
from cinema_lightning.models.position import PositionTable
from cinema_lightning.models.sizes import ViewGeometry, decoder_nearness, resolve_size
from cinema_lightning.models.transformer import Transformer, init_linear

DecoderKind = Literal["cross", "self"]
TARGET_EPS = 1e-6


@dataclass
class MaeOutput:
    """What one pretraining pass gives.

    Attributes:
        loss: Scalar, mean over the views of their mean losses.
        losses: View -> (B,), mean squared error over each sample's masked patches.
        predictions: View -> (B, n_masked, P), the values of the masked patches in ascending order; normalised per
            patch if the targets are.
    """

    loss: Tensor
    losses: dict[str, Tensor]
    predictions: dict[str, Tensor]


class ViewQueries(nn.Module):
    """One view's decoder tokens: its position table and the token that stands for masked patches.

    Args:
        geometry: The view's geometry.
        dim: Width of the decoder.
    """

    def __init__(self, geometry: ViewGeometry, dim: int) -> None:
        super().__init__()
        self.geometry = geometry
        self.position = PositionTable(geometry.grid, dim)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, dim))
        nn.init.normal_(self.mask_token, std=0.02)

    def forward(self, tokens: Tensor, selection: Selection, size: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Places the visible tokens and makes the masked ones.

        Args:
            tokens: (B, n_visible, D).
            selection: Which patches they are.
            size: Image size, voxels.

        Returns:
            Visible tokens (B, n_visible, D) and masked tokens (B, n_masked, D), positions added.
        """
        position = self.position(self.geometry.grid_of(size))
        return tokens + take(position, selection.visible), self.mask_token + take(position, selection.masked)


class MaskedAutoencoder(nn.Module):
    """Masked autoencoder over any subset of the cine views.

    Args:
        views: Views to build weights for.
        input_size: View -> image size in voxels, for the position tables; views left out take their own size.
            Images of other sizes work too: of fewer slices the tables' first entries count, otherwise the tables are
            interpolated.
        channels: Input channels.
        size: tiny, mini, small, base, large or huge.
        mask_ratio: Share of patches to mask; ``int(n_patches * (1 - mask_ratio))`` are kept.
        decoder: "cross" (masked tokens attend to visible ones only) or "self" (plain self-attention over all).
        norm_target: Predict each patch normalised to zero mean and unit variance.
        nearness: The cross-attention of the decoder prefers visible patches that lie near the hidden one, so that few
            steps teach it to fill gaps; by default the size's, which is False for all but small.
        drop_path: Rate of stochastic depth in the transformer blocks.
        sparse_stem: Skip masked positions in the stems; gives the same numbers in less time.
        checkpointing: Compute activations again in the backward pass instead of keeping them.
        dec_dim: Decoder width; like the next two it is taken from the size table unless given.
        dec_depth: Decoder blocks.
        dec_heads: Decoder heads.
        **encoder: Options of the encoder, see :class:`~cinema_lightning.models.encoder.EncoderOptions`.

    Raises:
        CinemaError: For arguments that do not fit together.
    """

    def __init__(
        self,
        views: Sequence[str],
        input_size: Mapping[str, Sequence[int]] | None = None,
        channels: int = 1,
        size: str = "base",
        mask_ratio: float = 0.75,
        decoder: DecoderKind = "cross",
        norm_target: bool = False,
        nearness: bool | None = None,
        drop_path: float = 0.0,
        sparse_stem: bool = True,
        checkpointing: bool = False,
        dec_dim: int | None = None,
        dec_depth: int | None = None,
        dec_heads: int | None = None,
        **encoder: Any,
    ) -> None:
        super().__init__()
        arguments, options = dict(locals()), EncoderOptions(**encoder)
        own = {key: value for key, value in arguments.items() if key not in ("self", "__class__", "encoder")}
        self._config = {key: _plain(value) for key, value in (own | vars(options)).items()}
        _check(views, input_size, channels, mask_ratio, decoder, drop_path)
        if nearness and decoder == "self":
            raise CinemaError("nearness is of the decoder 'cross'; leave it out for the decoder 'self'.")
        table = resolve_size(size, dec_dim=dec_dim, dec_depth=dec_depth, dec_heads=dec_heads)
        self.mask_ratio = mask_ratio
        self.norm_target = norm_target
        self.cross = decoder == "cross"
        sizes = {view: (input_size or {}).get(view) for view in views}
        self.encoder = MultiViewEncoder(sizes, channels, size, options, drop_path, checkpointing, sparse_stem)
        geometries, dim = list(self.encoder.geometries.values()), self.encoder.dim
        self.fusion = nn.ModuleDict({g.view: MultiScaleFusion(g, self.encoder.conv_channels, dim) for g in geometries})
        self.decoder_embed = nn.Linear(dim, table.dec_dim)
        self.queries = nn.ModuleDict({g.view: ViewQueries(g, table.dec_dim) for g in geometries})
        self.decoder = Transformer(
            table.dec_dim, table.dec_depth, table.dec_heads, drop_path, self.cross, checkpointing
        )
        self.nearness = Nearness(table.dec_heads) if self.cross and decoder_nearness(size, nearness) else None
        self.heads = nn.ModuleDict(
            {g.view: nn.Linear(table.dec_dim, math.prod(g.patch) * channels) for g in geometries}
        )
        for part in (self.decoder_embed, self.decoder, self.heads):
            init_linear(part)

    @property
    def config(self) -> dict[str, Any]:
        """The constructor's arguments as plain lists, numbers and strings."""
        return dict(self._config)

    @property
    def views(self) -> tuple[str, ...]:
        """The views that the network has weights for."""
        return self.encoder.views

    def n_patches(self, view: str, size: Sequence[int] | None = None) -> int:
        """Number of patches of a view.

        Args:
            view: One of the network's views.
            size: Image size in voxels; None is the size the network was built for.

        Returns:
            The number.

        Raises:
            CinemaError: For a view without weights or a size that is in plane not a multiple of the patch.
        """
        geometry = self._geometry(view)
        return math.prod(geometry.grid_of(geometry.padded(geometry.input_size if size is None else size)))

    def n_visible(self, view: str, size: Sequence[int] | None = None) -> int:
        """Number of patches to keep at the network's mask ratio; arguments as for :meth:`n_patches`."""
        return max(1, int(self.n_patches(view, size) * (1 - self.mask_ratio)))

    def patchify(self, view: str, images: Tensor) -> Tensor:
        """Cuts images of a view (B, C, X, Y[, Z]) into patches (B, N, prod(patch) * C), the channel last."""
        geometry = self._geometry(view)
        return patchify(pad_to(images, geometry.padded(images.shape[2:])), geometry.patch)

    def _unpatchify(self, view: str, patches: Tensor, size: Sequence[int]) -> Tensor:
        """Puts patches together to images of a size, undoing :meth:`patchify`."""
        geometry = self._geometry(view)
        whole = unpatchify(patches, geometry.grid_of(geometry.padded(size)), geometry.patch)
        return whole[..., : size[2]] if geometry.dims == 3 else whole

    def encode(
        self, images: Mapping[str, Tensor], masks: Mapping[str, Tensor | Selection] | None = None
    ) -> dict[str, Tensor]:
        """Encodes images.

        Args:
            images: View -> (B, C, X, Y[, Z]) in [0, 1]; any subset of the network's views.
            masks: View -> (B, N) boolean, true = masked, as many in every sample, or a selection made of it; None to
                see everything.

        Returns:
            "cls" -> (B, 1, D), and view -> (B, n, D) after fusion: visible tokens, or all of them without masks.

        Raises:
            CinemaError: For images or masks that do not fit.
        """
        images = self.encoder.present(images)
        return self._encode(images, None if masks is None else self._selections(images, masks))

    def forward(self, images: Mapping[str, Tensor], masks: Mapping[str, Tensor | Selection]) -> MaeOutput:
        """Predicts the masked patches from the visible ones.

        Args:
            images: View -> (B, C, X, Y[, Z]) in [0, 1]; any subset of the network's views.
            masks: View -> (B, N) boolean, true = masked, as many in every sample, or a selection made of it, of which
                nothing has to be read back from the device. A compiled network takes masks of its own ratio only.

        Returns:
            Loss and predictions.

        Raises:
            CinemaError: For images or masks that do not fit.
        """
        images = self.encoder.present(images)
        selections = self._selections(images, masks)
        for view, selection in selections.items():
            if selection.masked.shape[1] == 0:
                raise CinemaError(f"The mask of view '{view}' hides nothing; mask at least one patch.")
        features = self._encode(images, selections)
        predictions = self._decode(features, selections, images)
        losses = {
            view: self._loss(view, images[view], selections[view], prediction)
            for view, prediction in predictions.items()
        }
        loss = torch.stack([values.mean() for values in losses.values()]).mean()
        return MaeOutput(loss, losses, predictions)

    @torch.no_grad()
    def reconstruct(self, view: str, images: Tensor, mask: Tensor, predictions: Tensor) -> Tensor:
        """Puts predictions into the masked patches of images, undoing the normalisation of targets.

        Args:
            view: Name of the view.
            images: (B, C, X, Y[, Z]).
            mask: (B, N), true = masked.
            predictions: (B, n_masked, P).

        Returns:
            Images of the same shape, float32.
        """
        patches = self.patchify(view, images).float().clone()
        predictions = predictions.float()
        if self.norm_target:
            true = patches[mask].reshape(predictions.shape)
            predictions = predictions * (true.std(dim=-1, keepdim=True) + TARGET_EPS) + true.mean(dim=-1, keepdim=True)
        patches[mask] = predictions.flatten(0, 1)
        return self._unpatchify(view, patches, images.shape[2:])

    @torch.no_grad()
    def hide(self, view: str, images: Tensor, mask: Tensor) -> Tensor:
        """Images (B, C, X, Y[, Z]) of a view with the masked patches (B, N) set to 0, as the network sees them."""
        patches = self.patchify(view, images).clone()
        patches[mask] = 0
        return self._unpatchify(view, patches, images.shape[2:])

    def _selections(
        self, images: Mapping[str, Tensor], masks: Mapping[str, Tensor | Selection]
    ) -> dict[str, Selection]:
        """Visible and masked patches; in a compiled network, which cannot read a mask, of its own ratio."""
        known = {view: self.n_visible(view, image.shape[2:]) for view, image in images.items()}
        return self.encoder.selections(images, masks, known if torch.compiler.is_compiling() else None)

    def _geometry(self, view: str) -> ViewGeometry:
        if view not in self.encoder.geometries:
            raise CinemaError(
                f"This network has no weights for view '{view}'; it was built for {', '.join(self.views)}."
            )
        return self.encoder.geometries[view]

    def _encode(self, images: Mapping[str, Tensor], selections: Mapping[str, Selection] | None) -> dict[str, Tensor]:
        encoded = self.encoder(images, selections)
        fused = {view: self.fusion[view](tokens, encoded.stems[view]) for view, tokens in encoded.tokens.items()}
        return {"cls": encoded.cls, **fused}

    def _decode(
        self, features: Mapping[str, Tensor], selections: Mapping[str, Selection], images: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        visible, masked = [], []
        for view, selection in selections.items():
            tokens = self.decoder_embed(features[view])
            seen, hidden = self.queries[view](tokens, selection, images[view].shape[2:])
            visible.append(seen)
            masked.append(hidden)
        counts = [tokens.shape[1] for tokens in masked]
        if self.cross:
            # The class token is a query in the published decoder too, but queries do not see each other and its own
            # output is not used, so it is left out here.
            decoded = self.decoder(torch.cat(masked, dim=1), torch.cat(visible, dim=1), self._bias(selections, images))
        else:
            tokens = torch.cat([self.decoder_embed(features["cls"]), *visible, *masked], dim=1)
            decoded = self.decoder(tokens, keep_last=sum(counts))
        parts = decoded.split(counts, dim=1)
        return {view: self.heads[view](part) for view, part in zip(selections, parts, strict=True)}

    def _bias(self, selections: Mapping[str, Selection], images: Mapping[str, Tensor]) -> Tensor | None:
        """What the decoder's attention owes to distances."""
        if self.nearness is None:
            return None
        geometries = self.encoder.geometries
        grids = {view: geometries[view].grid_of(geometries[view].padded(images[view].shape[2:])) for view in selections}
        hidden = [places(grids[view], selection.masked) for view, selection in selections.items()]
        seen = [places(grids[view], selection.visible) for view, selection in selections.items()]
        bias: Tensor = self.nearness(hidden, seen)
        return bias

    def _loss(self, view: str, images: Tensor, selection: Selection, prediction: Tensor) -> Tensor:
        target = take(self.patchify(view, images), selection.masked).float()
        if self.norm_target:
            target = (target - target.mean(dim=-1, keepdim=True)) / (target.std(dim=-1, keepdim=True) + TARGET_EPS)
        return (prediction.float() - target).square().mean(dim=(1, 2))


def _plain(value: Any) -> Any:
    """Turns tuples and mappings into plain lists and dicts."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(item) for item in value]
    return value


def _check(
    views: Sequence[str],
    input_size: Mapping[str, Sequence[int]] | None,
    channels: int,
    mask_ratio: float,
    decoder: str,
    drop_path: float,
) -> None:
    if not views or isinstance(views, str) or len(set(views)) < len(views):
        raise CinemaError(f"views is {views!r}; give a list of different view names.")
    strange = [view for view in input_size or {} if view not in views]
    if strange:
        raise CinemaError(f"input_size names the view '{strange[0]}', which is not among views {list(views)}.")
    if channels < 1:
        raise CinemaError(f"channels is {channels}; give a positive number.")
    if not 0 < mask_ratio < 1:
        raise CinemaError(f"mask_ratio is {mask_ratio}; give a number between 0 and 1.")
    if decoder not in get_args(DecoderKind):
        raise CinemaError(f"There is no decoder '{decoder}'; choose cross or self.")
    if not 0 <= drop_path < 1:
        raise CinemaError(f"drop_path is {drop_path}; give a number from 0 up to, but not including, 1.")
