"""Survival: Kaplan-Meier curves by predicted risk group, and Cox models with and without the image's score."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from cinema_lightning.benchmark.report.blocks import (
    NOTHING,
    Cell,
    Paragraph,
    Picture,
    Pictures,
    Section,
    Table,
    interval,
    number,
    p_value,
    tidy,
)
from cinema_lightning.benchmark.report.charts import DAYS_PER_YEAR, kaplan_meier
from cinema_lightning.benchmark.report.gather import Group
from cinema_lightning.benchmark.report.study import Study
from cinema_lightning.benchmark.report.tasks import slug
from cinema_lightning.errors import CinemaError
from cinema_lightning.metrics import survival as metrics
from cinema_lightning.results.figures import Missing
from cinema_lightning.results.kind import KINDS, Results
from cinema_lightning.tasks.survival.cox import fit_cox
from cinema_lightning.tasks.survival.risk import NAMES, grouped

MODELS = {"clinical": "Clinical", "image": "Image", "clinical and image": "Clinical + image"}
OUTCOME = {"risk", "time", "event"}


@dataclass(frozen=True)
class _Run:
    """The first seed of an arm."""

    group: Group
    arm: str
    seed: int
    results: Results

    @property
    def identity(self) -> dict[str, Any]:
        return {"task": self.group.task, "dataset": self.group.dataset, "arm": self.arm, "seed": self.seed}


def survival(study: Study) -> Section:
    """Curves by risk group and Cox models of every survival task, one seed per arm."""
    section = Section("survival", "Survival")
    groups = [group for group in study.groups if set(KINDS[group.kind].columns(group.facts)) >= OUTCOME]
    if not groups:
        section.blocks.append(Paragraph("There are no results of survival tasks."))
        return section
    section.blocks.append(Paragraph(_TEXT))
    curves = Section("risk_groups", "Risk groups")
    cox = Section("cox", "Cox models")
    for group in groups:
        runs = [
            _Run(group, arm.name, min(arm.seeds), arm.seeds[min(arm.seeds)])
            for arm in study.arms_with(group, group.full)
        ]
        _add_curves(study, group, runs, curves)
        _add_cox(study, group, runs, cox)
    section.parts = [curves, *([cox] if cox.blocks else [])]
    return section


_TEXT = (
    "Concordance (Harrell's C) is among the figures of each task, averaged over seeds. The curves and models here "
    "are of each arm's first seed, with all labels. Cut points and Cox models come from the validation subjects, "
    "not the test."
)


# ---------------------------------------------------------------------- Kaplan-Meier
def _add_curves(study: Study, group: Group, runs: list[_Run], section: Section) -> None:
    pictures: list[Picture] = []
    rows: list[list[Cell | str]] = []
    for run in runs:
        try:
            found = grouped(run.results)
        except Missing:
            continue
        time, p = found.time, found.p
        curves = metrics.kaplan_meier(time, found.event, found.groups)
        ordered = {name: curves[key] for key, name in NAMES.items() if key in curves}
        title = study.arm_name(run.arm)
        pictures.append(
            Picture(
                kaplan_meier(ordered, title, years=bool(np.nanmax(time) > 2 * DAYS_PER_YEAR)),
                f"{title}, seed {run.seed}: log-rank p {p_value(p)}; below the axis, subjects at risk.",
                f"Kaplan-Meier curves of the risk groups of {title}; the numbers are in the table.",
            )
        )
        where = "median of its own test scores" if found.from_test else "median of the validation scores"
        for name, curve in ordered.items():
            rows.append([title, name, str(curve.n), str(curve.events), p_value(p), f"{number(found.cut)} ({where})"])
            counts = {"group": name, "n": curve.n, "events": curve.events}
            section.records.append(
                run.identity
                | counts
                | {"cut": tidy(found.cut), "cut_from_test": found.from_test, "p_log_rank": tidy(p)}
            )
    if not pictures:
        section.blocks.append(Paragraph(f"{study.title(group)}: no case has a risk score, a time and an event."))
        return
    header = ["Arm", "Risk group", "Subjects", "Events", "Log-rank p", "Cut at"]
    caption = f"{study.title(group)}: risk groups of the test subjects."
    table_block = Table(f"risk-groups-{slug(group)}", caption, header, rows, left=2)
    section.blocks += [Pictures(pictures), table_block]


# ---------------------------------------------------------------------- Cox
def _add_cox(study: Study, group: Group, runs: list[_Run], section: Section) -> None:
    rows: list[list[Cell | str]] = []
    for run in runs:
        if run.results.validation is None:
            continue
        try:
            models = [replace(model, name=MODELS[model.name]) for model in fit_cox(run.results, study.estimator.seed)]
        except CinemaError as error:
            study.warnings.append(f"{study.title(group)}, {study.arm_name(run.arm)}: no Cox models. {error}")
            continue
        for model in models:
            rows += _cox_rows(study.arm_name(run.arm), model)
            section.records += _cox_records(run, model)
    if not rows:
        section.blocks.append(
            Paragraph(f"{study.title(group)}: no arm has the validation.csv that Cox models are fitted on.")
        )
        return
    header = ["Arm", "Model", "C on test subjects", "Covariate", "Hazard ratio", "p", "Fitted on"]
    caption = (
        f"{study.title(group)}: Cox models fitted on the validation subjects, judged on the test. Hazard ratios are "
        "per standard deviation, or male against female."
    )
    section.blocks.append(Table(f"cox-{slug(group)}", caption, header, rows, left=2))


def _cox_rows(arm: str, model: metrics.CoxModel) -> list[list[Cell | str]]:
    if model.problem:
        return [[arm, model.name, Cell(model.problem, muted=True), NOTHING, NOTHING, NOTHING, str(model.n_train)]]
    figure = model.concordance
    first: list[Cell | str] = [
        arm,
        model.name,
        interval(tidy(figure.value), tidy(figure.low), tidy(figure.high)),
    ]
    rows: list[list[Cell | str]] = []
    for covariate, (ratio, low, high, p) in model.hazard_ratios.items():
        text = interval(tidy(ratio), tidy(low), tidy(high), "ratio")
        rows.append(
            [
                *(first if not rows else ["", "", ""]),
                covariate,
                text,
                p_value(p),
                str(model.n_train) if not rows else "",
            ]
        )
    return rows


def _cox_records(run: _Run, model: metrics.CoxModel) -> list[dict[str, Any]]:
    figure = model.concordance
    common = {
        "model": model.name,
        "concordance": tidy(figure.value),
        "concordance_low": tidy(figure.low),
        "concordance_high": tidy(figure.high),
        "n_test": figure.n_subjects,
        "n_train": model.n_train,
        "problem": model.problem,
    }
    ratios = model.hazard_ratios or {"": (math.nan, math.nan, math.nan, math.nan)}
    names = ("hazard_ratio", "hazard_ratio_low", "hazard_ratio_high", "p")
    return [
        run.identity | common | {"covariate": covariate} | dict(zip(names, map(tidy, values), strict=True))
        for covariate, values in ratios.items()
    ]
