"""Picture of a regression: prediction against truth."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from cinema_lightning.columns import look_up
from cinema_lightning.results.figures import Missing, numeric
from cinema_lightning.results.kind import Results
from cinema_lightning.results.pictures import complete_pairs, pair_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def target(results: Results, seed: int) -> Iterator[tuple[str, Figure]]:
    """Correlation and Bland-Altman of a regression."""
    del seed
    name = str(results.facts.get("target", "target"))
    column = look_up(name)
    unit = str(results.facts.get("unit") or column.unit)
    pair = complete_pairs(numeric(results.cases, "predicted"), numeric(results.cases, "true"))
    if not len(pair[0]):
        raise Missing("no case has both a prediction and a truth")
    yield name, pair_figure(*pair, column.display, unit)
