"""What landmarks say of their results."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cinema_lightning.metrics.function_tables import long_axis_table
from cinema_lightning.results.headline import Facts
from cinema_lightning.results.kind import KINDS, Kind, Ranking
from cinema_lightning.results.pictures import function
from cinema_lightning.tasks.landmarks import figures, pictures

if TYPE_CHECKING:
    from cinema_lightning.weights.published import PublishedFile

_PUBLISHED = ["hinge_1", "hinge_2", "apex"]


def _ranking(facts: Facts) -> Ranking:
    unit = "mm" if facts.get("spacing_known", True) else "px"
    return Ranking(f"mean_distance_{unit}", True, f"{{:.1f}} {unit}", "truth (o) and prediction (x)")


def _published(file: PublishedFile) -> dict[str, Any]:
    names = list(file.facts.get("landmarks") or file.options.get("landmarks") or _PUBLISHED)
    wanted = len(names) * (1 if file.facts["network"] == "ConvUNetR" else 2)
    file.check_outputs(wanted, f"{len(names)} landmarks need {wanted} outputs")
    return {"landmarks": names, "frames": file.option("frames", "ed_es"), "spacing_known": False}


KINDS.add(
    "landmarks",
    Kind(
        figures.headlines,
        pictures=(pictures.distances, function),
        function=long_axis_table,
        ranking=_ranking,
        published=_published,
    ),
)
