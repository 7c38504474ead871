"""Grey images and label maps from PNG files."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cinema_lightning.errors import CinemaError

_NUMBERS = ("L", "P", "1", "I", "I;16", "I;16B", "I;16L")


def read_png(path: Path, *, labels: bool = False) -> np.ndarray:
    """Reads an image.

    Args:
        path: The file.
        labels: It holds codes: numbers as they are stored, also where a palette gives them colours.

    Returns:
        (X, Y): x = column, y = row; grey levels, those of colours as their luminance, or codes.

    Raises:
        CinemaError: If it is missing, broken, or a label map in colours.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            if labels and image.mode not in _NUMBERS:
                raise CinemaError(
                    f"{path} is a picture in colours ({image.mode}), not a map of codes: save the codes in one channel."
                )
            plain = labels or image.mode.startswith("I")
            pixels = np.asarray(image if plain else image.convert("L")).T
            return pixels.astype(np.uint8) if pixels.dtype == bool else pixels
    except FileNotFoundError:
        raise CinemaError(f"{path} is missing: put it there, or mend what names it.") from None
    except (OSError, UnidentifiedImageError, SyntaxError) as error:
        raise CinemaError(f"{path} cannot be read ({error}); it may be half downloaded: get it again.") from None
