"""Makes the pictures of tour.md from the folder in which its commands were run: python docs/tour_pictures.py TOUR."""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image

HERE = Path(__file__).parent
WIDTH = 640


def smaller(source: Path, name: str) -> None:
    """Copies a picture, no wider than the page."""
    image = Image.open(source).convert("RGB")
    height = round(image.height * WIDTH / image.width)
    image.resize((WIDTH, height)).convert("P", palette=Image.Palette.ADAPTIVE).save(HERE / name, optimize=True)


def main(place: Path) -> None:
    """Writes the pictures beside this file."""
    smaller(place / "data/hearts/contact_sheet.png", "tour_sheet.png")
    (overlays,) = place.glob("runs/seg+phantom/*/test/hearts/pictures/overlays_sax.png")
    smaller(overlays, "tour_test.png")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
