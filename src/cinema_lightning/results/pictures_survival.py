"""Survival curves by predicted risk."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from cinema_lightning.metrics.survival import concordance_interval, kaplan_meier, log_rank, risk_groups
from cinema_lightning.results.figures import BLUE, RED, Missing, new_figure, numeric
from cinema_lightning.results.folder import Results

if TYPE_CHECKING:
    from matplotlib.figure import Figure

GROUPS = {0: ("low risk", BLUE), 1: ("high risk", RED)}


def kaplan_meier_curves(results: Results, seed: int) -> Iterator[tuple[str, Figure]]:
    """Kaplan-Meier curves of the subjects above and below the median risk of the validation subjects."""
    cases, validation = results.cases, results.validation
    risk, time, event = (numeric(cases, name) for name in ("risk", "time", "event"))
    known = np.isfinite(risk) & np.isfinite(time) & np.isfinite(event)
    if not known.any():
        raise Missing("no case has a risk and an outcome")
    cuts = None
    if validation is not None and np.isfinite(numeric(validation, "risk")).any():
        cuts = [float(np.nanmedian(numeric(validation, "risk")))]
    groups, cuts_used = risk_groups(risk[known], 2, cuts)
    curves = kaplan_meier(time[known], event[known], groups)
    figure, axes = new_figure(2, 1, 6.0, 2.6)
    axis, table = axes[0][0], axes[1][0]
    axis.set_position([0.12, 0.35, 0.84, 0.55])
    end = float(time[known].max())
    moments = np.linspace(0, end, 6)
    rows = []
    for number, curve in curves.items():
        name, colour = GROUPS[int(number)]
        axis.step(
            curve.time,
            curve.survival,
            where="post",
            color=colour,
            label=f"{name} (n = {curve.n}, {curve.events} events)",
        )
        axis.fill_between(curve.time, curve.low, curve.high, step="post", color=colour, alpha=0.15, linewidth=0)
        mine = groups == number
        rows.append([name, *[str(int((time[known][mine] >= moment).sum())) for moment in moments]])
    figure_c = concordance_interval(
        risk[known], time[known], event[known], cases["subject"].to_numpy()[known], seed=seed
    )
    p = log_rank(time[known], event[known], groups)
    chance = f"log-rank p = {p:.3g}" if np.isfinite(p) else "log-rank p not defined"
    where = "validation" if cuts is not None else "test"
    title = f"C-index {figure_c.value:.2f} [{figure_c.low:.2f}, {figure_c.high:.2f}], {chance}"
    axis.set(ylabel="Survival", ylim=(0, 1.02), xlim=(0, end), xlabel="Time (days)", title=title)
    axis.legend(
        fontsize=8,
        loc="lower left",
        title=f"cut at the {where} subjects' median ({cuts_used[0]:.2f})",
        title_fontsize=8,
    )
    _numbers_at_risk(table, rows, moments)
    yield "kaplan_meier", figure


def _numbers_at_risk(axis: object, rows: list[list[str]], moments: np.ndarray) -> None:
    from matplotlib.axes import Axes

    assert isinstance(axis, Axes)
    axis.axis("off")
    head = ["at risk", *[f"{moment:.0f}" for moment in moments]]
    table = axis.table(cellText=rows, colLabels=head, loc="upper center", cellLoc="center")
    table.auto_set_font_size(False)
    table.set_fontsize(8)
