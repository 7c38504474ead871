"""What survival says of its results."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from cinema_lightning.results.folder import refuse_cells
from cinema_lightning.results.headline import Facts
from cinema_lightning.results.kind import KINDS, Exhibit, Kind, Results, Shown
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


def _left_out(results: Results) -> str | None:
    """The horizons that nobody is followed beyond."""
    times = pd.to_numeric(results.cases["time"], errors="coerce")
    late = [f"{years:g}" for years in figures.horizons_of(results.facts) if not figures.followed(times, years)]
    if not late or not times.notna().any():
        return None
    return (
        f"AUC and Brier score at {', '.join(late)} years: left out, the longest follow-up is "
        f"{times.max() / figures.DAYS_PER_YEAR:.1f} years; set model.init_args.horizons to earlier ones"
    )


RISK_GROUPS = Exhibit(
    "risk_groups",
    "Risk groups",
    "Test subjects above and below the median risk of the validation subjects; of each arm's first seed.",
    risk.risk_table,
    (
        Shown("group", "Risk group"),
        Shown("n", "Subjects", "count"),
        Shown("events", "Events", "count"),
        Shown("person_years", "Person-years", "number"),
        Shown("cut", "Cut at", "number"),
        Shown("cut_is_median_of", "Median of"),
        Shown("log_rank_p", "Log-rank p", "p"),
    ),
)
COX = Exhibit(
    "cox",
    "Cox models",
    "Fitted and judged on the test subjects, which chose neither network nor checkpoint: C and its gain over the "
    "clinical model are out of fold, over all seeds. Hazard ratios are of all subjects, per standard deviation, or "
    "male against female.",
    cox.cox_table,
    (
        Shown("model", "Model"),
        Shown("c_index", "C out of fold", "number", "c_low", "c_high"),
        Shown("gain", "Gain over clinical", "number", "gain_low", "gain_high"),
        Shown("covariate", "Covariate"),
        Shown("hazard_ratio", "Hazard ratio", "number", "low", "high"),
        Shown("p", "p of the ratio", "p"),
        Shown("n", "Subjects", "count"),
        Shown("n_events", "Events", "count"),
        Shown("problem", "Remark"),
    ),
)
KINDS.add(
    "survival",
    Kind(
        figures.headlines,
        columns=lambda _: ("time", "event", "risk"),
        check_cases=_check_cases,
        rows=figures.rows,
        pictures=(pictures.kaplan_meier_curves,),
        shown=(pictures.kaplan_meier_curves,),
        exhibits=(RISK_GROUPS, COX),
        tables={"cox": cox.write_cox, "risk_groups": risk.write_risk_groups},
        why_undefined=_why_undefined,
        left_out=_left_out,
    ),
)
