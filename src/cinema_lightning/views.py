"""The four cine views: the only place that knows their dimensions, spacings, crops and input sizes.

The sizes follow the published system (arXiv 2506.00679): short axis resampled to 1 x 1 x 10 mm and cropped to
192 x 192, long axis to 1 x 1 mm and 256 x 256.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from cinema_lightning.errors import CinemaError

Depth = Literal["own", "padded"]
"""Whether a stack goes through a network with the slices that it has, or padded to the network's input."""


@dataclass(frozen=True)
class View:
    """What is fixed about one cine view.

    Attributes:
        name: Key used in file names, tables, batches and YAML.
        display: Name of the field, for figures and tables.
        dims: Spatial dimensions of one frame: 3 for a stack (x, y, z), 2 for a single plane (x, y).
        spacing: Voxel size after preparation, mm, one number per spatial dimension.
        crop: In-plane size after preparation, pixels (x, y).
        input_size: Network input, voxels, one number per spatial dimension.
        patch_size: Size of one token's patch, voxels.
    """

    name: str
    display: str
    dims: int
    spacing: tuple[float, ...]
    crop: tuple[int, int]
    input_size: tuple[int, ...]
    patch_size: tuple[int, ...]

    @property
    def is_long_axis(self) -> bool:
        """True for the single-plane long-axis views."""
        return self.dims == 2


def _long_axis(name: str, display: str) -> View:
    return View(name, display, 2, (1.0, 1.0), (256, 256), (256, 256), (16, 16))


VIEWS: dict[str, View] = {
    view.name: view
    for view in (
        View("sax", "SAX", 3, (1.0, 1.0, 10.0), (192, 192), (192, 192, 16), (16, 16, 1)),
        _long_axis("lax_2c", "2CH"),
        _long_axis("lax_3c", "3CH"),
        _long_axis("lax_4c", "4CH"),
    )
}


def get_view(name: str) -> View:
    """Looks up a view by name.

    Args:
        name: One of the keys of ``VIEWS``.

    Returns:
        The view.

    Raises:
        CinemaError: If there is no such view.
    """
    try:
        return VIEWS[name]
    except KeyError:
        raise CinemaError(f"There is no view called '{name}'; the views are {', '.join(VIEWS)}.") from None
