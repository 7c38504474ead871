"""The zoom of pretraining.

A zoom without rotation is separable, so it is done as one small matrix per sample and axis. That is exact at the
borders whatever the padding, gives the same bits each time on a GPU, and costs less than sampling point by point.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from cinema_lightning.data.augment import AUGMENTATIONS
from cinema_lightning.data.augment.base import Sample, Warp
from cinema_lightning.views import get_view

# Of the cubic convolution kernel, as torch and monai use it in bicubic interpolation.
_CUBIC = -0.75


@AUGMENTATIONS.register
class Zoom(Warp):
    """Zooms by one factor for all axes, z included, about the centre of the true size, which is kept.

    Zeros come in where the image shrinks. Linear in three dimensions, bicubic in two. The short axis draws by itself,
    the long-axis views of a sample share one draw.

    Args:
        probability: That a sample has it.
        factor: Lowest and highest, uniform between; above 1 enlarges.
    """

    def __init__(self, probability: float = 0.5, factor: tuple[float, float] = (0.9, 1.1)) -> None:
        super().__init__(probability)
        self.check_range("factor", factor)
        self.factor = factor

    def drawn(self, sample: Sample, purpose: str) -> float | None:
        """The factor, one for all long-axis views; None for no zoom."""
        rng = sample.rng(purpose, view="lax" if get_view(sample.view).is_long_axis else "")
        return self.draw(rng, sample) if rng.random() < self.probability else None

    def draw(self, rng: np.random.Generator, sample: Sample) -> float:
        """The factor."""
        return float(rng.uniform(*self.factor))

    def matrix(self, drawn: float, size: np.ndarray, spacing: np.ndarray) -> np.ndarray:
        """See :class:`Move`."""
        back, centre = np.eye(4), (size - 1) / 2
        axes = range(len(size))
        back[axes, axes] = 1 / drawn
        back[axes, 3] = centre - centre / drawn
        return back

    def warp(self, planes: Tensor, drawn: Tensor, sizes: Tensor, *, nearest: bool) -> Tensor:
        """See :class:`Warp`."""
        flat = sizes.shape[1] == 2
        images = planes.squeeze(2) if flat else planes
        out = zoom_images(images.float(), drawn, sizes, nearest=nearest).to(planes.dtype)
        return out.unsqueeze(2) if flat else out


def zoom_images(
    images: Tensor,
    factors: Sequence[float] | Tensor,
    sizes: Sequence[Sequence[int]] | Tensor,
    *,
    nearest: bool = False,
) -> Tensor:
    """Zooms images about their own centres, keeping their size.

    Voxel centres are at integers and an image ends half a voxel beyond its outer centres; up to there the outer voxels
    are repeated, farther out is 0.

    Args:
        images: float (B, C, X, Y) (cubic) or (B, C, Z, X, Y) (linear), zero beyond the true sizes.
        factors: (B,), above 1 enlarges; a tensor on the images' device is not waited for.
        sizes: (B, 2) or (B, 3), true sizes in the order of the axes; likewise.
        nearest: Take the nearest voxel instead.

    Returns:
        The same shape.
    """
    taps = 1 if nearest else 4 if images.ndim == 4 else 2
    true = torch.as_tensor(sizes, device=images.device)
    zoom = torch.as_tensor(factors, dtype=images.dtype, device=images.device)
    *depth, width, height = (_matrix(zoom, true[:, axis], length, taps) for axis, length in enumerate(images.shape[2:]))
    lead = (slice(None), *([None] * (images.ndim - 3)))  # the matrices' batch axis, then one for C and one for Z
    out = width[lead] @ images @ height[lead].transpose(-1, -2)
    if depth:
        out = (depth[0][:, None] @ out.flatten(3)).view_as(out)
    return out


def _matrix(zoom: Tensor, size: Tensor, length: int, taps: int) -> Tensor:
    """(B, length, length) interpolation weights of one axis: row = voxel of the result, column = voxel of the image."""
    centre = ((size - 1).to(zoom.dtype) / 2)[:, None]
    place = torch.arange(length, device=zoom.device)
    source = centre + (place - centre) / zoom[:, None]
    first = (source + 0.5 if taps == 1 else source).floor()
    columns = place[None, None, :]
    last = (size - 1)[:, None]
    matrix = zoom.new_zeros(len(zoom), length, length)
    for tap in {1: range(1), 2: range(2), 4: range(-1, 3)}[taps]:
        at = first + tap
        weight = _kernel(source - at, taps)
        # A comparison rather than scatter_add, whose sums come in another order each time on a GPU.
        matrix += weight[:, :, None] * (at.long().clamp(min=0).minimum(last)[:, :, None] == columns)
    inside = (source >= -0.5) & (source <= last + 0.5) & (place <= last)
    return matrix * inside[:, :, None]


def _kernel(distance: Tensor, taps: int) -> Tensor:
    """Weight of a voxel at a distance of up to 1 (linear) or 2 (cubic convolution) voxels; 1 of the nearest."""
    d = distance.abs()
    if taps == 1:
        return torch.ones_like(d)
    if taps == 2:
        return (1 - d).clamp(min=0)
    near = ((_CUBIC + 2) * d - (_CUBIC + 3)) * d * d + 1
    far = ((d - 5) * d + 8) * d * _CUBIC - 4 * _CUBIC
    return torch.where(d <= 1, near, torch.where(d < 2, far, 0.0))
