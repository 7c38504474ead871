"""What survival says of its results."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from cinema_lightning.results.folder import refuse_cells
from cinema_lightning.results.headline import Facts
from cinema_lightning.results.kind import KINDS, Kind, Results
from cinema_lightning.tasks.survival import cox, figures, pictures, risk


def _check_cases(table: pd.DataFrame, facts: Facts, path: Path) -> None:
    del facts
    time, event = table["time"], table["event"]
    refuse_cells(time.notna() & ~(time > 0), time, path, "a time above 0")
    refuse_cells(event.notna() & ~event.isin([0, 1]), event, path, "0 or 1")


def _why_undefined(results: Results) -> str | None:
    if pd.to_numeric(results.cases["event"], errors="coerce").sum():
        return "no case has its event by then, or nobody is free of it"
    return f"none of the {len(results.cases)} studies has an event"


KINDS.add(
    "survival",
    Kind(
        figures.headlines,
        columns=lambda _: ("time", "event", "risk"),
        check_cases=_check_cases,
        rows=figures.rows,
        pictures=(pictures.kaplan_meier_curves,),
        tables={"cox": cox.write_cox, "risk_groups": risk.write_risk_groups},
        why_undefined=_why_undefined,
    ),
)
