"""What a regression says of its results."""

from __future__ import annotations

from cinema_lightning.results.headline import Facts
from cinema_lightning.results.kind import KINDS, Kind
from cinema_lightning.tasks.regression import figures, pictures


def _columns(facts: Facts) -> tuple[str, ...]:
    del facts
    return ("true", "predicted")


KINDS.add(
    "regression",
    Kind(
        figures.headlines,
        columns=_columns,
        pairs=figures.pairs,
        pictures=(pictures.target,),
    ),
)
