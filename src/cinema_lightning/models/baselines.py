"""CNN and Swin baselines behind the interface of the other backbones: one network per view, trained from scratch.

The networks are monai's, except the U-Net of the published comparison. Images whose size a network cannot halve as
often as it wants are padded with zeros at the end and the logits cut back. monai is imported when one is built.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from cinema_lightning.errors import CinemaError
from cinema_lightning.models import BACKBONES
from cinema_lightning.models.backbone import (
    Backbone,
    DenseBackbone,
    DenseOutput,
    Float32Linear,
    PooledBackbone,
    crop_to,
    pad_to_multiple,
)
from cinema_lightning.models.sizes import SCALE, cnn_width
from cinema_lightning.models.unet import ResidualUNet
from cinema_lightning.views import get_view

LEVELS = 5


class _PerView(Backbone):
    """A baseline that keeps one network per view; subclasses fill ``networks`` in their constructors.

    Args:
        views: Views to build weights for.
        input_size: View -> image size in voxels; accepted as by every backbone, any size works.
        channels: Input channels.
        outputs: Classes or output numbers.
        size: tiny, mini, small, base, large or huge: the width (32 for base).
        width: Channels at full size, a multiple of 8; doubled at each level.
    """

    head: ClassVar[str]
    """What a network calls its last layer."""

    def __init__(
        self,
        views: Sequence[str],
        input_size: Mapping[str, Sequence[int]] | None,
        channels: int,
        outputs: int,
        size: str = "base",
        width: int | None = None,
    ) -> None:
        super().__init__(views, input_size, channels, outputs)
        self.width = cnn_width(size, width)
        self.networks = nn.ModuleDict()

    def head_modules(self) -> list[nn.Module]:
        """The last layer of each view, not those of deep supervision (off where the backbone is frozen)."""
        return [getattr(network, self.head) for network in self.networks.values()]


class _Dense(_PerView, DenseBackbone):
    """A dense baseline; subclasses fill ``multiples``, too: what each padded axis of a view is a multiple of."""

    def __init__(
        self,
        views: Sequence[str],
        input_size: Mapping[str, Sequence[int]] | None = None,
        channels: int = 1,
        classes: int = 4,
        **shared: Any,
    ) -> None:
        super().__init__(views, input_size, channels, classes, **shared)
        self.multiples: dict[str, tuple[int, ...]] = {}

    def forward(self, images: Mapping[str, Tensor]) -> DenseOutput:
        """Predicts logits for every voxel of the views present, see :class:`DenseBackbone`."""
        output: DenseOutput = {}
        for view, image in self.present(images).items():
            logits = self.networks[view](pad_to_multiple(image, self.multiples[view]))
            size = image.shape[2:]
            if logits.dim() > image.dim():  # deep supervision: (B, n, classes, X, Y[, Z])
                output[view] = [crop_to(level, size) for level in logits.unbind(1)]
            else:
                output[view] = crop_to(logits, size)
        return output


def _check_coarsest(network: str, view: str, size: Sequence[int], multiple: Sequence[int]) -> None:
    """Refuses images that end as a single voxel, of which an instance norm cannot take a variance."""
    if all(n <= m for n, m in zip(size, multiple, strict=True)):
        raise CinemaError(
            f"input_size of view '{view}' is {list(size)}, which {network} scales down to a single voxel; give a "
            "larger one or take another network."
        )


@BACKBONES.register
class UNet(_Dense):
    """The U-Net that the published system is compared with: residual, instance norm, GELU, additive skips.

    Args:
        views: Views to build weights for.
        input_size: View -> image size in voxels; any size works.
        levels: Resolutions; depth is never scaled.
        dropout: Rate of dropout in the blocks.
        **shared: Options of every CNN here: ``channels``, ``classes``, ``size``, ``width``.
    """

    head = "head"

    def __init__(
        self,
        views: Sequence[str],
        input_size: Mapping[str, Sequence[int]] | None = None,
        *,
        levels: int = LEVELS,
        dropout: float = 0.1,
        **shared: Any,
    ) -> None:
        super().__init__(views, input_size, **shared)
        if levels < 2:
            raise CinemaError(f"levels is {levels}; give at least 2.")
        widths = [self.width * 2**i for i in range(levels)]
        for view, image_size in self.input_size.items():
            scale = SCALE[: len(image_size)]
            self.networks[view] = ResidualUNet(self.channels, self.classes, widths, scale, dropout)
            self.multiples[view] = tuple(s ** (levels - 1) for s in scale)
            _check_coarsest("UNet", view, image_size, self.multiples[view])


def nnunet_plan(size: Sequence[int], spacing: Sequence[float]) -> tuple[list[list[int]], list[list[int]]]:
    """Chooses kernels and strides as nnU-Net does.

    An axis is halved while it has at least 8 voxels and its voxels are at most twice as long as the shortest ones;
    the kernel is 1 along an axis whose voxels are longer than that (Isensee et al., Nature Methods 2021).

    Args:
        size: Image size, voxels.
        spacing: Voxel size, mm.

    Returns:
        Kernels and strides of each level, fine to coarse; the first stride is 1.
    """
    sizes, lengths = list(size), list(spacing)
    kernels, strides = [], [[1] * len(sizes)]
    while True:
        near = [length / min(lengths) <= 2 for length in lengths]
        kernels.append([3 if ok else 1 for ok in near])
        step = [2 if ok and n >= 8 else 1 for ok, n in zip(near, sizes, strict=True)]
        if max(step) == 1:
            break
        strides.append(step)
        sizes = [math.ceil(n / s) for n, s in zip(sizes, step, strict=True)]
        lengths = [length * s for length, s in zip(lengths, step, strict=True)]
    kernels[-1] = [3] * len(sizes)
    return kernels, strides


@BACKBONES.register
class DynUNet(_Dense):
    """nnU-Net's network (monai's DynUNet), planned from each view's input size and voxel size.

    Channels are doubled at each level up to 10 (3D) or 16 times (2D) the width.

    In training mode with deep supervision each view's output is a list: full resolution first, coarser ones after it,
    all brought to the image's size.

    Args:
        views: Views to build weights for.
        input_size: View -> image size in voxels that the levels are planned for; views left out take their own size.
        deep_supervision: Give outputs of up to three coarser levels in training.
        residual: Residual blocks in the encoder.
        **shared: Options of every CNN here: ``channels``, ``classes``, ``size``, ``width``.
    """

    head = "output_block"

    def __init__(
        self,
        views: Sequence[str],
        input_size: Mapping[str, Sequence[int]] | None = None,
        *,
        deep_supervision: bool = True,
        residual: bool = False,
        **shared: Any,
    ) -> None:
        from monai.networks.nets.dynunet import DynUNet as MonaiDynUNet

        super().__init__(views, input_size, **shared)
        for view, image_size in self.input_size.items():
            kernels, strides = nnunet_plan(image_size, get_view(view).spacing)
            n_ups = len(strides) - 1
            if n_ups < 2:
                raise CinemaError(
                    f"input_size of view '{view}' is {list(image_size)}, too small for DynUNet; "
                    "give a larger one or take another network."
                )
            dims = len(image_size)
            widest = self.width * (16 if dims == 2 else 10)
            n_extra = min(3, n_ups - 1)
            self.networks[view] = MonaiDynUNet(
                spatial_dims=dims,
                in_channels=self.channels,
                out_channels=self.classes,
                kernel_size=kernels,
                strides=strides,
                upsample_kernel_size=strides[1:],
                filters=[min(self.width * 2**i, widest) for i in range(len(strides))],
                deep_supervision=deep_supervision,
                deep_supr_num=n_extra,
                res_block=residual,
            )
            self.multiples[view] = tuple(math.prod(axis) for axis in zip(*strides, strict=True))

    def auxiliary_heads(self) -> list[nn.Module]:
        """Those of deep supervision."""
        return [part for name, part in self.networks.named_modules() if name.endswith(".deep_supervision_heads")]


@BACKBONES.register
class SegResNet(_Dense):
    """monai's SegResNet (Myronenko 2018, without the variational branch). Every axis is halved three times.

    Args:
        views: Views to build weights for.
        input_size: View -> image size in voxels; any size works.
        dropout: Rate of dropout after the first convolution.
        **shared: Options of every CNN here: ``channels``, ``classes``, ``size``, ``width``.
    """

    head = "conv_final"

    def __init__(
        self,
        views: Sequence[str],
        input_size: Mapping[str, Sequence[int]] | None = None,
        *,
        dropout: float = 0.1,
        **shared: Any,
    ) -> None:
        from monai.networks.nets.segresnet import SegResNet as MonaiSegResNet

        super().__init__(views, input_size, **shared)
        for view, image_size in self.input_size.items():
            self.networks[view] = MonaiSegResNet(
                spatial_dims=len(image_size),
                init_filters=self.width,
                in_channels=self.channels,
                out_channels=self.classes,
                dropout_prob=dropout or None,
                upsample_mode="deconv",  # the interpolating modes have no deterministic gradient on GPUs
            )
            self.multiples[view] = (8,) * len(image_size)


@BACKBONES.register
class SwinUNETR(_Dense):
    """monai's SwinUNETR, with features of 1.5 times the width (48 for base).

    Every axis is padded to a multiple of 32, so a short-axis stack of 16 slices to 32.

    Args:
        views: Views to build weights for.
        input_size: View -> image size in voxels; any size works.
        drop_path: Rate of stochastic depth in the last block (linear from 0 in the first).
        dropout: Rate of dropout in the transformer.
        checkpointing: Compute activations again in the backward pass instead of keeping them.
        **shared: Options of every CNN here: ``channels``, ``classes``, ``size``, ``width``.
    """

    head = "out"

    def __init__(
        self,
        views: Sequence[str],
        input_size: Mapping[str, Sequence[int]] | None = None,
        *,
        drop_path: float = 0.1,
        dropout: float = 0.0,
        checkpointing: bool = False,
        **shared: Any,
    ) -> None:
        from monai.networks.nets.swin_unetr import SwinUNETR as MonaiSwinUNETR

        super().__init__(views, input_size, **shared)
        features = self.width * 3 // 2
        for view, image_size in self.input_size.items():
            self.networks[view] = MonaiSwinUNETR(
                spatial_dims=len(image_size),
                in_channels=self.channels,
                out_channels=self.classes,
                feature_size=features,
                drop_rate=dropout,
                dropout_path_rate=drop_path,
                use_checkpoint=checkpointing,
            )
            self.multiples[view] = (32,) * len(image_size)
            _check_coarsest("SwinUNETR", view, image_size, self.multiples[view])


@BACKBONES.register
class ResNet50(_PerView, PooledBackbone):
    """monai's ResNet-50 in 2D or 3D, one per view: 7 x 7[x 7] stem of stride 2, max-pool, bottlenecks.

    The stem has twice the width. Tiny, mini and small have one bottleneck per stage instead of 3, 4, 6 and 3. Outputs
    are averaged over the views present. Batch norm wants more than one sample per batch in training.

    Args:
        views: Views to build weights for.
        input_size: View -> image size in voxels; any size works.
        channels: Input channels: frames are channels.
        outputs: Output numbers.
        size: As of every CNN here, see above.
        **shared: Option of every CNN here: ``width``.
    """

    head = "fc"

    def __init__(
        self,
        views: Sequence[str],
        input_size: Mapping[str, Sequence[int]] | None = None,
        channels: int = 1,
        outputs: int = 1,
        size: str = "base",
        **shared: Any,
    ) -> None:
        from monai.networks.nets.resnet import ResNet

        super().__init__(views, input_size, channels, outputs, size, **shared)
        for view, image_size in self.input_size.items():
            self.networks[view] = ResNet(
                "bottleneck",
                layers=[1, 1, 1, 1] if size in ("tiny", "mini", "small") else [3, 4, 6, 3],
                block_inplanes=[2 * self.width * 2**i for i in range(4)],
                spatial_dims=len(image_size),
                n_input_channels=channels,
                conv1_t_size=7,
                conv1_t_stride=2,
                num_classes=outputs,
                bias_downsample=False,
            )
        for network in self.networks.values():
            network.fc = Float32Linear(int(network.fc.in_features), outputs)  # type: ignore[union-attr,arg-type]

    def forward(self, images: Mapping[str, Tensor]) -> Tensor:
        """Predicts from the views present, see :class:`PooledBackbone`."""
        return torch.stack([self.networks[view](image) for view, image in self.present(images).items()]).mean(dim=0)
