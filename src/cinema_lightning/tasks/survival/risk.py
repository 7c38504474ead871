"""Groups of subjects by predicted risk: one cut for the curves and for the table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from cinema_lightning.files import replacing
from cinema_lightning.metrics.survival import log_rank, risk_groups
from cinema_lightning.results.figures import Missing, numeric
from cinema_lightning.results.kind import Results

NAMES = {0: "low risk", 1: "high risk"}


@dataclass(frozen=True)
class Grouped:
    """Test subjects in two groups.

    Attributes:
        risk: (N,) predicted log-risk.
        time: (N,) days.
        event: (N,) 1 for an event, 0 for censoring.
        people: (N,) subjects.
        groups: (N,) 0 for low and 1 for high risk.
        cut: Risk above which it is high.
        from_test: Whether the cut is the test subjects' own median, there being no validation subjects.
    """

    risk: np.ndarray
    time: np.ndarray
    event: np.ndarray
    people: np.ndarray
    groups: np.ndarray
    cut: float
    from_test: bool

    @property
    def source(self) -> str:
        """Whose median the cut is."""
        return "the test subjects'" if self.from_test else "the validation subjects'"

    @property
    def p(self) -> float:
        """The log-rank test's p of one survival curve for both."""
        return log_rank(self.time, self.event, self.groups)


def grouped(results: Results) -> Grouped:
    """Parts the subjects at the median risk of the validation subjects, or at their own where there are none.

    Args:
        results: The tables.

    Returns:
        The groups.

    Raises:
        Missing: If no case has a risk and an outcome.
    """
    cases = results.cases
    risk, time, event = (numeric(cases, name) for name in ("risk", "time", "event"))
    known = np.isfinite(risk) & np.isfinite(time) & np.isfinite(event)
    if not known.any():
        raise Missing("no case has a risk and an outcome")
    cuts = None
    if results.validation is not None:
        scores = numeric(results.validation, "risk")
        if np.isfinite(scores).any():
            cuts = [float(np.nanmedian(scores))]
    groups, used = risk_groups(risk[known], 2, cuts)
    people = cases["subject"].to_numpy()[known]
    return Grouped(risk[known], time[known], event[known], people, groups, float(used[0]), cuts is None)


def write_risk_groups(results: Results, path: Path, seed: int = 0) -> str | None:
    """Writes one row per group: subjects, events, person-years, the cut and the log-rank test's p.

    Args:
        results: The tables.
        path: The CSV file to write.
        seed: Not needed: there are no intervals.

    Returns:
        Why there is no such table, or None.
    """
    del seed
    try:
        found = risk_table([results])
    except Missing as missing:
        path.unlink(missing_ok=True)
        return str(missing)
    with replacing(path) as temporary:
        found.to_csv(temporary, index=False)
    return None


def risk_table(results: Sequence[Results], seed: int = 0) -> pd.DataFrame:
    """One row per group of the first of some tests.

    Raises:
        Missing: If no case has a risk and an outcome.
    """
    del seed
    found = grouped(results[0])
    rows = []
    for number, name in NAMES.items():
        mine = found.groups == number
        years = float(found.time[mine].sum()) / 365.25
        row = {"group": name, "n": int(mine.sum()), "events": int(found.event[mine].sum()), "person_years": years}
        rows.append(row | {"cut": found.cut, "cut_is_median_of": found.source.removesuffix("'"), "log_rank_p": found.p})
    return pd.DataFrame(rows)
