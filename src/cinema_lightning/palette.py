"""The colours of every picture: Okabe and Ito's, which colour-blind readers can tell apart."""

BLACK, ORANGE, SKY, GREEN, YELLOW = "#000000", "#e69f00", "#56b4e9", "#009e73", "#f0e442"
BLUE, RED, PINK, BROWN = "#0072b2", "#d55e00", "#cc79a7", "#8c6d31"
GREY, GRID = "#7f7f7f", "#e2e2e2"
LINES = (BLUE, ORANGE, GREEN, RED, PINK, SKY, BLACK, BROWN)
"""Curves and points, in their order; brown for the palette's yellow, too pale for lines."""
REGIONS = (BLACK, ORANGE, SKY, RED, GREEN, YELLOW)
"""The class codes of a label map from 0, over an image."""
