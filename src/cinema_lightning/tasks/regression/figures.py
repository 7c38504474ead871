"""Headline figures of a regression, and the pairs that they are made of."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from cinema_lightning.metrics import agreement
from cinema_lightning.results.figures import numeric
from cinema_lightning.results.headline import Facts, Headline, lacking, numbers, predicting_the_mean
from cinema_lightning.results.kind import Pair, Results


def headlines(facts: Facts) -> list[Headline]:
    """Error and correlation of the target."""
    unit, pair = str(facts.get("unit", "")), numbers("predicted", "true")
    figures = (
        ("mae", "MAE", unit, False, agreement.mae),
        ("rmse", "RMSE", unit, False, agreement.rmse),
        ("pearson", "Pearson's r", "", True, agreement.pearson),
        ("ccc", "Concordance correlation", "", True, agreement.concordance_correlation),
        ("icc", "Intraclass correlation", "", True, agreement.intraclass_correlation),
    )
    found = [
        Headline(name, display, measure, higher, "cases", statistic, pair, own_row=False)
        for name, display, measure, higher, statistic in figures
    ]
    failed, mean = lacking("predicted", "true"), predicting_the_mean(pair)
    # What does not vary is correlated with nothing.
    return [replace(each, failed=failed, reference=None if each.higher_is_better else mean) for each in found]


def pairs(results: Results) -> Iterator[Pair]:
    """The target."""
    cases = results.cases
    target = str(results.facts.get("target", "target"))
    yield target, "all", numeric(cases, "predicted"), numeric(cases, "true"), cases["subject"].to_numpy()
