"""Headline figures of a segmentation, and what else its summary holds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from cinema_lightning.columns import look_up
from cinema_lightning.metrics import classification
from cinema_lightning.metrics.function import ef_class
from cinema_lightning.metrics.inference import POSITIVE
from cinema_lightning.metrics.weighted import mean
from cinema_lightning.results.figures import numeric
from cinema_lightning.results.headline import Facts, Headline, Reference, lacking, mean_error, nowhere, numbers
from cinema_lightning.results.kind import Pair, Results
from cinema_lightning.results.summary import figure_row, groups_of
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


def without_distance(table: pd.DataFrame, facts: Facts) -> np.ndarray:
    """Cases of which a region was missed, or seen where there is none: no distance says how bad that is.

    The mean over the other regions would make such a case look good. Where the table has no volumes, the cases with a
    Dice and without a distance.
    """
    regions = [str(name).removesuffix("_hd95") for name in table.columns if str(name).endswith("_hd95")]
    ends = [(f"_{size}_true", f"_{size}_pred", "_hd95") for size in ("volume", "area")]
    triples = [[region + end for end in three] for region in regions for three in ends]
    known = [found for names in triples if (found := numbers(*names)(table, facts)) is not None]
    if known:
        wrong = [np.isfinite(true) & ((true > 0) | (guess > 0)) & ~np.isfinite(apart) for true, guess, apart in known]
        return np.any(wrong, axis=0)
    found = numbers("mean_dice", "mean_hd95")(table, facts)
    return nowhere(table, facts) if found is None else np.isfinite(found[0]) & ~np.isfinite(found[1])


def _without_ef(table: pd.DataFrame, facts: Facts) -> np.ndarray:
    return lacking("lv_ef_pred", "lv_ef_true")(table, facts)


def _majority(table: pd.DataFrame, facts: Facts) -> tuple[np.ndarray, ...] | None:
    """The commonest class of the true LVEF, for every study."""
    pair = _ef_classes(table, facts)
    if pair is None or not (pair[1] >= 0).any():
        return None
    commonest = np.eye(3)[np.bincount(pair[1][pair[1] >= 0], minlength=3).argmax()]
    return np.where(np.isfinite(pair[0]), commonest, np.nan), pair[1]


def headlines(facts: Facts) -> list[Headline]:
    """Overlap, function, classes of the EF and, of rescan, repeatability."""
    distance = Headline("mean_hd95", "HD95", "mm", False, "cases", mean, numbers("mean_hd95"), own_row=False)
    found = [
        Headline("mean_dice", "Dice", "", True, "cases", mean, numbers("mean_dice"), own_row=False),
        replace(distance, failed=without_distance),
    ]
    found += [mean_error(look_up(name)) for name in ("lv_ef", "rv_ef", "lv_edv", "lv_esv", "lv_mass")]
    for name, statistic in (("accuracy", classification.accuracy), ("mcc", classification.mcc)):
        display = f"EF class {name if name == 'accuracy' else 'MCC'}"
        figure = Headline(f"ef_class_{name}", display, "", True, "function", statistic, _ef_classes)
        found.append(replace(figure, failed=_without_ef, reference=Reference("majority class", _majority)))
    if facts.get("dataset") == "rescan":
        name = "LVEF scan-rescan variation"
        columns, truth = repeatability("pred"), repeatability("true")
        figure = Headline("lv_ef_variation", name, "%", False, "function", percent_variation, columns)
        found.append(replace(figure, per_person=True, own_row=False, scale=POSITIVE, truth=truth))
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
    del seed
    if results.facts.get("dataset") != "rescan" or results.function is None:
        return
    for side in ("pred", "true"):
        if (found := scan_pairs(results.function, side)) is not None:
            about = {"metric": f"lv_ef_{side}_scan_rescan", "group": "all"}
            row = figure_row(percent_variation, *found[:2], subjects=found[2], scale=POSITIVE)
            yield about | {"statistic": "coefficient_of_variation", **row}
