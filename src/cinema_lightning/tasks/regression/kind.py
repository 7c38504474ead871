"""What a regression says of its results."""

from __future__ import annotations

from cinema_lightning.results.kind import KINDS, Kind
from cinema_lightning.tasks.regression import figures, pictures

KINDS.add(
    "regression",
    Kind(
        figures.headlines,
        columns=lambda _: ("true", "predicted"),
        pairs=figures.pairs,
        pictures=(pictures.target,),
    ),
)
