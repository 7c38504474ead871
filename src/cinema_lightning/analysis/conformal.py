"""Intervals for numbers by normalised split-conformal prediction: as wide as the errors on held-out subjects ask for.

Papadopoulos 2002 (10.1007/3-540-36755-1_29), Lei 2018 (10.1080/01621459.2017.1307116). A calibration subject's score is
its error over its own scale (the networks' standard deviation plus a floor), and an interval reaches as many scales to
both sides as the largest of the smallest ``ceil((n + 1) coverage)`` scores. Groups (Mondrian) have quantiles of their
own where they have enough subjects.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from cinema_lightning.columns import look_up, quantities
from cinema_lightning.errors import CinemaError

QUANTITIES = tuple(column.name for column in quantities("segmentation") if not column.name.endswith("_sv"))
"""What is calibrated: volumes, EF and mass."""
EF_BANDS = (40.0, 55.0)


def fewest(coverage: float) -> int:
    """Calibration subjects without which an interval of this coverage would be infinite: 9 for 90%, 19 for 95%."""
    return math.ceil(coverage / (1 - coverage) - 1e-9)


@dataclass(frozen=True)
class Scores:
    """What calibration subjects say of one quantity.

    Attributes:
        floor: Added to each standard deviation, so that networks that happen to agree promise no certainty.
        all: Errors over scales, ascending.
        groups: The same by group.
    """

    floor: float
    all: tuple[float, ...]
    groups: Mapping[str, tuple[float, ...]] = field(default_factory=dict)

    def reach(self, coverage: float, group: str | None) -> tuple[float, bool]:
        """Scales to each side, and whether they are of the group itself.

        Raises:
            CinemaError: If there are too few subjects for the coverage.
        """
        own = self.groups.get(group or "", ())
        is_own = len(own) >= fewest(coverage)
        scores = own if is_own else self.all
        rank = math.ceil((len(scores) + 1) * coverage - 1e-9)
        if rank > len(scores):
            raise CinemaError(
                f"{len(scores)} calibration subjects are too few for intervals of {100 * coverage:g}%: at least "
                f"{fewest(coverage)} are needed."
            )
        return scores[rank - 1], is_own


def calibrate(
    true: Sequence[float], predicted: Sequence[float], sd: Sequence[float], groups: Sequence[str] | None = None
) -> Scores:
    """Scores of subjects that neither trained nor chose the network.

    Args:
        true: True values.
        predicted: Predictions.
        sd: Standard deviations of the networks, or of turned images; 0 or NaN where there is only one look.
        groups: Group of each subject, for Mondrian intervals.

    Returns:
        The scores; subjects without a number are left out.
    """
    known = np.isfinite(true) & np.isfinite(predicted)
    errors = np.abs(np.asarray(true, float) - np.asarray(predicted, float))[known]
    spread = np.nan_to_num(np.asarray(sd, float), nan=0.0)[known]
    floor = float(np.median(spread)) if len(spread) and np.median(spread) > 0 else 1.0
    scores = errors / (spread + floor)
    members = np.asarray(groups if groups is not None else [""] * len(known), str)[known]
    by_group = {group: tuple(np.sort(scores[members == group]).tolist()) for group in np.unique(members) if group}
    return Scores(floor, tuple(np.sort(scores).tolist()), by_group)


def interval(
    name: str, value: float, sd: float, scores: Scores, coverage: float, group: str | None = None
) -> tuple[float, float, bool]:
    """The interval of one number.

    Args:
        name: Its column, whose limits cut it.
        value: The number.
        sd: Standard deviation of the networks; NaN or 0 where there is one.
        scores: Of :func:`calibrate`.
        coverage: Share of subjects whose true value it is to hold, such as 0.9.
        group: Its group.

    Returns:
        Lower end, upper end, and whether the quantile is the group's own.

    Raises:
        CinemaError: See :meth:`Scores.reach`.
    """
    reach, is_own = scores.reach(coverage, group)
    half = reach * ((sd if np.isfinite(sd) else 0.0) + scores.floor)
    low, high = max(0.0, value - half), value + half
    return low, min(high, 100.0) if look_up(name).unit == "%" else high, is_own


def spread_of_ef(edv: float, esv: float, sd_edv: float, sd_esv: float) -> float:
    """Standard deviation of an EF (points) from those of its volumes, to first order; errors count as independent.

    Only a scale: calibration is on the EF itself, whose volumes' errors are correlated.
    """
    return 100 * math.hypot(sd_esv / edv, esv * sd_edv / edv**2) if edv > 0 else float("nan")


def group_of(by: str, facts: Mapping[str, Any], ef: float | None) -> str | None:
    """Group of a study: its vendor, or the band of its predicted EF.

    Args:
        by: ``vendor``, ``ef`` or ``none``.
        facts: What is known of the study.
        ef: Predicted LVEF.
    """
    if by == "ef" and ef is not None and np.isfinite(ef):
        return ("EF up to 40%", "EF 40 to 55%", "EF above 55%")[int(np.searchsorted(EF_BANDS, ef))]
    vendor = str(facts.get("vendor") or "")
    return vendor if by == "vendor" and vendor else None
