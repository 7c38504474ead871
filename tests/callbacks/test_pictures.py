"""Pictures of a validation."""

import io

import numpy as np
import torch
from PIL import Image

from cinema_lightning.callbacks.pictures import DPI, draw_panels, rendered


def test_one_drawing_has_the_pixels_of_the_file():
    generator = torch.Generator().manual_seed(0)
    panels = {"image": torch.rand(2, 16, 16, 4, generator=generator), "truth": torch.ones(2, 16, 16, 4).byte()}
    found = rendered(draw_panels("sax", panels, ["a", "b"], [3, 4]))
    file = io.BytesIO()
    draw_panels("sax", panels, ["a", "b"], [3, 4]).savefig(file, dpi=DPI)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, np.asarray(Image.open(file).convert("RGB")))
