"""The two kinds of network that downstream tasks are built on, and what they take.

All are built with the same arguments: ``views``, ``input_size``, ``channels`` and the number of ``classes`` (dense) or
``outputs`` (pooled), which the task knows from the data; then options with defaults, among them ``size``, one of the
names in :data:`~cinema_lightning.models.sizes.SIZES`, so that one overlay (``size: mini``) shrinks any of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self, TypeAlias

import torch
from torch import Tensor, nn

from cinema_lightning.errors import CinemaError
from cinema_lightning.models.inputs import ordered_images, pad_to
from cinema_lightning.views import get_view

DenseOutput: TypeAlias = dict[str, Tensor | list[Tensor]]


class Float32Linear(nn.Linear):
    """A linear head that no autocast reaches.

    bf16 has eight bits: a coordinate of 0.8 of 256 pixels would come in steps of one pixel, and risks would tie.
    """

    def forward(self, input: Tensor) -> Tensor:
        """(..., in) of any precision -> (..., out) in that of the weights."""
        with torch.autocast(input.device.type, enabled=False):
            return super().forward(input.to(self.weight.dtype))


class Backbone(nn.Module):
    """Checks and keeps what all downstream networks are built with.

    Args:
        views: Views to build weights for.
        input_size: View -> image size in voxels; views left out take their own size.
        channels: Input channels: 1, or stacked frames or sequences.
        outputs: Classes or output numbers.

    Raises:
        CinemaError: For arguments that do not fit together.
    """

    def __init__(
        self, views: Sequence[str], input_size: Mapping[str, Sequence[int]] | None, channels: int, outputs: int
    ) -> None:
        super().__init__()
        if not views or isinstance(views, str) or len(set(views)) < len(views):
            raise CinemaError(f"views is {views!r}; give a list of different view names.")
        sizes = dict(input_size or {})
        strange = [view for view in sizes if view not in views]
        if strange:
            raise CinemaError(f"input_size names the view '{strange[0]}', which is not among views {list(views)}.")
        if channels < 1:
            raise CinemaError(f"channels is {channels}; give a positive number.")
        if outputs < 1:
            raise CinemaError(f"The number of classes or outputs is {outputs}; give a positive number.")
        self.channels = channels
        self.outputs = outputs
        self.backbone_frozen = False
        self.input_size: dict[str, tuple[int, ...]] = {}
        for view in views:
            info = get_view(view)
            size = tuple(int(n) for n in sizes.get(view, info.input_size))
            if len(size) != info.dims or min(size) < 1:
                raise CinemaError(f"input_size of view '{view}' is {list(size)}; give {info.dims} positive numbers.")
            self.input_size[view] = size

    @property
    def views(self) -> tuple[str, ...]:
        """The views that the network has weights for."""
        return tuple(self.input_size)

    def present(self, images: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Checks images (see :func:`ordered_images`) and sorts them in the network's order of views."""
        return ordered_images(images, {view: len(size) for view, size in self.input_size.items()}, self.channels)

    def train(self, mode: bool = True) -> Self:
        """Sets training or evaluation mode; a frozen backbone stays in evaluation mode, without dropout and the like.

        See :func:`~cinema_lightning.tasks.optim.freeze_backbone`.
        """
        super().train(mode)
        if mode and self.backbone_frozen:
            for part in self.children():
                part.eval()
            for head in self.head_modules():
                head.train()
        return self

    def head_modules(self) -> list[nn.Module]:
        """The parts that a linear probe trains; all else is the backbone.

        Subclasses must say so.
        """
        raise NotImplementedError(f"{type(self).__name__} does not say what its heads are.")

    def auxiliary_heads(self) -> list[nn.Module]:
        """Heads that are used in training only, such as those of deep supervision."""
        return []

    def head_keys(self) -> frozenset[str]:
        """Keys of the state dict that belong to heads of either sort."""
        modules = [*self.head_modules(), *self.auxiliary_heads()]
        members = {id(value) for module in modules for value in (*module.parameters(), *module.buffers())}
        return frozenset(key for key, value in self.state_dict(keep_vars=True).items() if id(value) in members)


class DenseBackbone(Backbone):
    """A network that gives one value per voxel and class: segmentation, landmark heatmaps.

    Called with {view: (B, C, X, Y[, Z])}, any subset of its views, it returns {view: logits (B, classes, X, Y[, Z])}.
    In training mode a network with deep supervision returns a list of such logits per view instead: the full
    resolution first, then coarser ones, all brought to the image's size.
    """

    @property
    def classes(self) -> int:
        """Classes per voxel, the background included."""
        return self.outputs

    def __call__(self, images: Mapping[str, Tensor]) -> DenseOutput:
        """Runs the network, see the class."""
        output: DenseOutput = super().__call__(images)
        return output


class PooledBackbone(Backbone):
    """A network that gives one row of outputs per sample: classification, regression, coordinates, risk.

    Called with {view: (B, C, X, Y[, Z])}, any subset of its views, it returns (B, outputs).
    """

    def __call__(self, images: Mapping[str, Tensor], **options: Any) -> Tensor:
        """Runs the network, see the class."""
        output: Tensor = super().__call__(images, **options)
        return output


def pad_to_multiple(image: Tensor, multiple: Sequence[int]) -> Tensor:
    """Pads an image with zeros at the end of each axis, as the data pipeline does.

    Args:
        image: (B, C, X, Y[, Z]).
        multiple: What each padded axis is a multiple of.

    Returns:
        The padded image, or the same one where nothing is missing.
    """
    return pad_to(image, [-(-n // m) * m for n, m in zip(image.shape[2:], multiple, strict=True)])


def crop_to(image: Tensor, size: Sequence[int]) -> Tensor:
    """Cuts (B, C, X, Y[, Z]) back to a size, undoing :func:`pad_to_multiple`."""
    return image[(slice(None), slice(None), *[slice(n) for n in size])]
