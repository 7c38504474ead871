"""Headline figures of a segmentation, and what else its summary holds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from cinema_lightning.columns import look_up
from cinema_lightning.metrics import classification
from cinema_lightning.metrics.bootstrap import bootstrap
from cinema_lightning.metrics.function import ef_class
from cinema_lightning.metrics.weighted import mean
from cinema_lightning.results.figures import numeric
from cinema_lightning.results.headline import Facts, Headline, mean_error, numbers
from cinema_lightning.results.kind import Pair, Results
from cinema_lightning.results.summary import groups_of
from cinema_lightning.tasks.segmentation.rescan import percent_variation, repeatability, scan_pairs


def _ef_classes(table: pd.DataFrame, facts: Facts) -> tuple[np.ndarray, ...] | None:
    """Classes of the predicted and the true LVEF, as certain probabilities and class numbers."""
    pair = numbers("lv_ef_pred", "lv_ef_true")(table, facts)
    if pair is None:
        return None
    guess, truth = ef_class(pair[0]), ef_class(pair[1])
    scores = np.eye(3)[np.maximum(guess, 0)]
    scores[(guess < 0) | (truth < 0)] = np.nan
    return scores, truth


def headlines(facts: Facts) -> list[Headline]:
    """Overlap, function, classes of the EF and, of rescan, repeatability."""
    found = [
        Headline("mean_dice", "Dice", "", True, "cases", mean, numbers("mean_dice"), own_row=False),
        Headline("mean_hd95", "HD95", "mm", False, "cases", mean, numbers("mean_hd95"), own_row=False),
    ]
    found += [mean_error(look_up(name)) for name in ("lv_ef", "rv_ef", "lv_edv", "lv_esv", "lv_mass")]
    for name, statistic in (("accuracy", classification.accuracy), ("mcc", classification.mcc)):
        display = f"EF class {name if name == 'accuracy' else 'MCC'}"
        found.append(Headline(f"ef_class_{name}", display, "", True, "function", statistic, _ef_classes))
    if facts.get("dataset") == "rescan":
        name = "LVEF scan-rescan variation"
        columns, truth = repeatability("pred"), repeatability("true")
        about = ("lv_ef_variation", name, "%", False, "function")
        found.append(Headline(*about, percent_variation, columns, per_person=True, own_row=False, truth=truth))
    return found


def with_truth(cases: pd.DataFrame) -> pd.DataFrame:
    """The cases that have a label map; all cases where none has.

    What is not defined in a frame that nobody has labelled is no failure, and is not counted as one.
    """
    true = [name for name in cases.columns if str(name).endswith("_volume_true")]
    if "mean_dice" not in cases.columns or not true:
        return cases
    known = cases[true].apply(pd.to_numeric, errors="coerce").notna().any(axis=1)
    return cases[known] if known.any() else cases


def pairs(results: Results) -> Iterator[Pair]:
    """Volumes and areas of the regions, of all cases, of each phase and of each view."""
    ends = ("_volume_pred", "_area_pred")
    names = [str(name).removesuffix("_pred") for name in results.cases if str(name).endswith(ends)]
    for group, part in groups_of(results.cases):
        for name in (name for name in names if f"{name}_true" in part):
            predicted, true = (numeric(part, f"{name}_{side}") for side in ("pred", "true"))
            yield name, group, predicted, true, part["subject"].to_numpy()


def rows(results: Results, seed: int) -> Iterator[dict[str, Any]]:
    """Variation of scan and rescan, predicted and true."""
    if results.facts.get("dataset") != "rescan" or results.function is None:
        return
    for side in ("pred", "true"):
        if (found := scan_pairs(results.function, side)) is not None:
            figure = bootstrap(percent_variation, *found[:2], subjects=found[2], seed=seed)
            about = {"metric": f"lv_ef_{side}_scan_rescan", "group": "all"}
            yield about | {"statistic": "coefficient_of_variation", **figure.as_dict()}
