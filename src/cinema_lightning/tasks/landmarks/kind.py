"""What landmarks say of their results."""

from __future__ import annotations

from cinema_lightning.metrics.function_tables import long_axis_table
from cinema_lightning.results.headline import Facts
from cinema_lightning.results.kind import KINDS, Kind, Ranking
from cinema_lightning.results.pictures import function
from cinema_lightning.tasks.landmarks import figures, pictures


def _ranking(facts: Facts) -> Ranking:
    unit = "mm" if facts.get("spacing_known", True) else "px"
    return Ranking(f"mean_distance_{unit}", True, f"{{:.1f}} {unit}", "truth (o) and prediction (x)")


KINDS.add(
    "landmarks",
    Kind(
        figures.headlines,
        pictures=(pictures.distances, function),
        function=long_axis_table,
        ranking=_ranking,
    ),
)
