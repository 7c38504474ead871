"""The size table of the networks and the defaults of the convolution stem."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from cinema_lightning.errors import CinemaError
from cinema_lightning.views import get_view

CONV_CHANNELS = (64, 128)
CONV_BLOCKS = 2
SCALE = (2, 2, 1)

Norm = Literal["layer", "instance"]
"""Over what the dense decoder's norms are: the channels of each voxel (published), or the voxels of each channel."""


@dataclass(frozen=True)
class Preset:
    """Widths, depths and head counts of the encoder and of the pretraining decoder."""

    enc_dim: int
    enc_depth: int
    enc_heads: int
    dec_dim: int
    dec_depth: int
    dec_heads: int


SIZES: dict[str, Preset] = {
    "tiny": Preset(16, 1, 2, 16, 1, 2),
    "base": Preset(768, 12, 12, 512, 8, 16),
    "large": Preset(1024, 24, 16, 512, 8, 16),
    "huge": Preset(1280, 32, 16, 512, 8, 16),
    "mini": Preset(128, 4, 4, 96, 2, 4),
    "small": Preset(128, 4, 4, 96, 2, 4),
}
"""Mini and small are made to learn on a laptop: mini at full image size, small from pictures of 64 x 64 pixels."""

_CONV_CHANNELS = {"mini": (16, 32), "small": (16, 32)}
_PATCH_SIZE = {"small": (2, 2, 1)}
"""Tokens of 8 x 8 pixels: of 16 x 16, one would hold a whole ventricle of a 64 x 64 picture."""

DEC_CHANNELS = (32, 64, 128, 256, 512)
_DEC_CHANNELS = {"tiny": (4, 8, 16, 24, 32), "mini": (8, 16, 32, 64, 128), "small": (16, 32, 64, 128)}
_CONV_BLOCKS = {"small": 1}
_DEC_BLOCKS = {"small": 1}
_DEC_NORMS: dict[str, Norm] = {"small": "instance"}
_NEARNESS = {"small"}
_WIDTHS = {"tiny": 8, "mini": 16, "small": 16, "base": 32, "large": 48, "huge": 64}


def stem_channels(size: str, given: Sequence[int] | None = None) -> tuple[int, ...]:
    """Channels of the stem's convolution stages: those given, else the size's."""
    if given is not None:
        return tuple(given)
    return _CONV_CHANNELS.get(size, CONV_CHANNELS)


def stem_patch(size: str, given: Sequence[int] | None = None) -> Sequence[int] | None:
    """Kernel of the stem's first convolution: the one given, else the size's; None for tokens of the view's patch."""
    return _PATCH_SIZE.get(size) if given is None else given


def decoder_channels(size: str, given: Sequence[int] | None = None) -> tuple[int, ...]:
    """Channels of the dense decoder's levels, fine to coarse: those given, else the size's."""
    return tuple(_DEC_CHANNELS.get(size, DEC_CHANNELS) if given is None else given)


def stem_blocks(size: str, given: int | None = None) -> int:
    """Masked convolution blocks of each stage of the stem: those given, else the size's."""
    return _CONV_BLOCKS.get(size, CONV_BLOCKS) if given is None else given


def decoder_blocks(size: str, given: int | None = None) -> int:
    """Residual blocks of each level of the dense decoder going up: those given, else the size's.

    Raises:
        CinemaError: If the number is not positive.
    """
    if given is not None and given < 1:
        raise CinemaError(f"dec_blocks is {given}; give a positive number.")
    return _DEC_BLOCKS.get(size, 2) if given is None else given


def decoder_norm(size: str, given: Norm | None = None) -> Norm:
    """Norm of the dense decoder: the one given, else the size's.

    Raises:
        CinemaError: If there is no such norm.
    """
    if given is not None and given not in get_args(Norm):
        raise CinemaError(f"There is no norm '{given}'; choose {' or '.join(get_args(Norm))}.")
    return _DEC_NORMS.get(size, "layer") if given is None else given


def decoder_nearness(size: str, given: bool | None = None) -> bool:
    """Whether the pretraining decoder prefers what lies near: as given, else as the size does."""
    return size in _NEARNESS if given is None else given


def cnn_width(size: str, given: int | None = None) -> int:
    """Channels of a CNN at full resolution: those given, else the size's (32 for base).

    Raises:
        CinemaError: If there is no such size, or the width is not a positive multiple of 8.
    """
    if size not in SIZES:
        raise CinemaError(f"There is no network size called '{size}'; the sizes are {', '.join(SIZES)}.")
    width = _WIDTHS[size] if given is None else given
    if width < 8 or width % 8:
        raise CinemaError(f"width is {width}; give a multiple of 8.")
    return width


def resolve_size(size: str, **overrides: int | None) -> Preset:
    """Looks up a size and replaces what is given by hand.

    Args:
        size: One of the keys of ``SIZES``.
        **overrides: Fields of :class:`Preset`; None keeps the table's number.

    Returns:
        The size to build.

    Raises:
        CinemaError: If there is no such size, a number is not positive, or heads do not divide a width.
    """
    if size not in SIZES:
        raise CinemaError(f"There is no network size called '{size}'; the sizes are {', '.join(SIZES)}.")
    given = {key: value for key, value in overrides.items() if value is not None}
    for key, value in given.items():
        if value < 1:
            raise CinemaError(f"{key} is {value}; give a positive number.")
    result = Preset(**{**vars(SIZES[size]), **given})
    for part in ("enc", "dec"):
        dim, heads = getattr(result, f"{part}_dim"), getattr(result, f"{part}_heads")
        if dim % heads:
            raise CinemaError(
                f"{part}_dim {dim} cannot be split into {heads} heads; make it a multiple of {part}_heads."
            )
    return result


@dataclass(frozen=True)
class ViewGeometry:
    """How one view's image becomes tokens.

    Attributes:
        view: Name of the view.
        input_size: Image size that the position table is made for, voxels.
        kernels: Kernel (= stride) of each strided step, fine to coarse: the convolution stages, then the patch
            embedding.
    """

    view: str
    input_size: tuple[int, ...]
    kernels: tuple[tuple[int, ...], ...]

    @property
    def dims(self) -> int:
        """Number of spatial dimensions, 2 or 3."""
        return len(self.input_size)

    @property
    def patch(self) -> tuple[int, ...]:
        """Size of one token's patch, voxels."""
        return product(self.kernels)

    @property
    def grid(self) -> tuple[int, ...]:
        """Tokens along each axis at the table's image size."""
        return self.grid_of(self.input_size)

    def padded(self, size: Sequence[int]) -> tuple[int, ...]:
        """An image size with as many slices as make whole patches; in plane as it is."""
        plane, depth = size[:2], size[2:]
        return *plane, *(-(-n // p) * p for n, p in zip(depth, self.patch[2:], strict=False))

    def grid_of(self, size: Sequence[int]) -> tuple[int, ...]:
        """Tokens along each axis for an image size.

        Raises:
            CinemaError: If the size has the wrong number of axes or is not a multiple of the patch.
        """
        if len(size) != self.dims:
            raise CinemaError(f"View '{self.view}' has {self.dims} spatial axes, but the size given is {tuple(size)}.")
        if any(n < p or n % p for n, p in zip(size, self.patch, strict=True)):
            raise CinemaError(
                f"The size {_times(size)} of view '{self.view}' is not a multiple of the patch {_times(self.patch)}; "
                "pad or crop the images."
            )
        return tuple(n // p for n, p in zip(size, self.patch, strict=True))


def view_geometry(
    view: str,
    input_size: Sequence[int] | None = None,
    patch_size: Sequence[int] | None = None,
    scale: Sequence[int] | None = None,
    n_stages: int = len(CONV_CHANNELS),
) -> ViewGeometry:
    """Works out the strided steps of one view's stem.

    Args:
        view: Name of the view.
        input_size: Image size in voxels; None takes the view's own.
        patch_size: Kernel of the first convolution stage (not of a token; the published configuration calls it
            ``patch_size``). Numbers beyond the view's dimensions are cut. None makes tokens of the view's own patch.
        scale: Kernel of every later stage and of the patch embedding; cut likewise; None is 2 x 2 x 1.
        n_stages: Number of convolution stages.

    Returns:
        The geometry.

    Raises:
        CinemaError: For an unknown view or sizes that do not fit together.
    """
    info = get_view(view)
    step = _cut(SCALE if scale is None else scale, info.dims, "scale", view)
    if patch_size is None:
        patch_size = [max(1, p // s**n_stages) for p, s in zip(info.patch_size, step, strict=True)]
    first = _cut(patch_size, info.dims, "patch_size", view)
    size = tuple(int(n) for n in (info.input_size if input_size is None else input_size))
    geometry = ViewGeometry(view, size, (first, *([step] * n_stages)))
    if len(size) != info.dims:
        raise CinemaError(f"input_size of view '{view}' is {list(size)}; give {info.dims} numbers.")
    _ = geometry.grid  # complains about a size that is not a multiple of the patch
    return geometry


def product(kernels: Sequence[Sequence[int]]) -> tuple[int, ...]:
    """Multiplies kernels axis by axis."""
    total = [1] * len(kernels[0])
    for kernel in kernels:
        total = [t * k for t, k in zip(total, kernel, strict=True)]
    return tuple(total)


def _cut(values: Sequence[int], dims: int, name: str, view: str) -> tuple[int, ...]:
    if len(values) < dims or any(v < 1 for v in values):
        raise CinemaError(f"{name} is {list(values)}; view '{view}' needs {dims} positive numbers.")
    return tuple(int(v) for v in values[:dims])


def _times(size: Sequence[int]) -> str:
    return " x ".join(str(n) for n in size)
