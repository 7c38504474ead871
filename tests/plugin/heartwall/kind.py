"""What wall thickness says of its results. Nothing here is heavy, so that they are read without torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from cinema_lightning.metrics import agreement
from cinema_lightning.results.figures import Missing, numeric
from cinema_lightning.results.folder import refuse_cells
from cinema_lightning.results.headline import Headline, numbers
from cinema_lightning.results.kind import KINDS, Kind, Pair, Ranking, Results
from cinema_lightning.results.pictures import complete_pairs, pair_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BOTH = ("wall_pred", "wall_true")


def headlines(facts: Mapping[str, Any]) -> list[Headline]:
    """The error of the thickness, in the unit of the test."""
    unit = str(facts.get("unit", "mm"))
    return [Headline("wall_mae", "Wall thickness MAE", unit, False, "cases", agreement.mae, numbers(*BOTH))]


def check(cases: pd.DataFrame, facts: Mapping[str, Any], path: Path) -> None:
    """No wall is thinner than nothing."""
    for name in BOTH:
        refuse_cells(cases[name] < 0, cases[name], path, "a thickness, 0 or more")


def pairs(results: Results) -> Iterator[Pair]:
    """The thickness of each case."""
    cases = results.cases
    yield "wall", "all", *(numeric(cases, name) for name in BOTH), cases["subject"].to_numpy()


def walls(results: Results, seed: int) -> Iterator[tuple[str, Figure]]:
    """Agreement of the thickness."""
    both = complete_pairs(*(numeric(results.cases, name) for name in BOTH))
    if not len(both[0]):
        raise Missing("no case has a wall")
    yield "wall", pair_figure(*both, "wall thickness", "mm")


def thickening(cases: pd.DataFrame, facts: Mapping[str, Any]) -> pd.DataFrame:
    """Thickness at ES less that at ED, by study."""
    phases = cases.set_index(["id", "phase"])[list(BOTH)].unstack("phase")
    table = pd.DataFrame({f"thickening{n[4:]}": phases[n]["ES"] - phases[n]["ED"] for n in BOTH})
    return table.reset_index()


KINDS.add(
    "wall",
    Kind(
        headlines,
        columns=lambda _: BOTH,
        check_cases=check,
        metrics=("_gap",),
        pairs=pairs,
        pictures=(walls,),
        function=thickening,
        ranking=lambda _: Ranking("wall_gap", smaller_is_better=True, text="{:.1f} mm off"),
    ),
)
