"""What every network asks of its input: images by view, any subset of the views it was built for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor
from torch.nn import functional as F

from cinema_lightning.errors import CinemaError


def ordered_images(images: Mapping[str, Tensor], dims: Mapping[str, int], channels: int) -> dict[str, Tensor]:
    """Checks images and sorts them in a network's order of views.

    Args:
        images: View -> (B, C, X, Y[, Z]); any subset of the network's views.
        dims: View -> spatial dimensions, in the network's order.
        channels: C.

    Returns:
        The same images in order.

    Raises:
        CinemaError: For no images, a view without weights, wrong dimensions or channels, or uneven batches.
    """
    known = ", ".join(dims)
    if not images:
        raise CinemaError(f"No view is present; give images of at least one of {known}.")
    for view, image in images.items():
        if view not in dims:
            raise CinemaError(f"This network has no weights for view '{view}'; it was built for {known}.")
        if image.dim() != dims[view] + 2:
            raise CinemaError(
                f"Images of view '{view}' need {dims[view] + 2} axes (batch, channel and {dims[view]} spatial ones), "
                f"but they have shape {tuple(image.shape)}."
            )
        if image.shape[1] != channels:
            raise CinemaError(
                f"Images of view '{view}' have {image.shape[1]} channels, but the network takes {channels}."
            )
    first = next(iter(images.values()))  # shapes are compared and not counted, so that a graph takes any batch
    if any(image.shape[0] != first.shape[0] for image in images.values()):
        raise CinemaError("The views of a batch have different numbers of samples; give the same views for each.")
    return {view: images[view] for view in dims if view in images}


def pad_to(image: Tensor, size: Sequence[int]) -> Tensor:
    """Pads an image with zeros at the end of each axis, as the data pipeline does.

    Args:
        image: (B, C, X, Y[, Z]).
        size: Wanted size, voxels, along no axis less than the image's.

    Returns:
        The padded image, or the same one where nothing is missing.
    """
    missing = [wanted - n for wanted, n in zip(size, image.shape[2:], strict=True)]
    if not any(missing):
        return image
    return F.pad(image, [n for axis in reversed(missing) for n in (0, axis)])
