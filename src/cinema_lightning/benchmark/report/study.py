"""All figures and paired differences of a report, computed once, as two frames that its sections show parts of."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from cinema_lightning.benchmark.report.gather import Group
from cinema_lightning.benchmark.report.index import Index
from cinema_lightning.benchmark.report.table import listed, tidy, titled
from cinema_lightning.metrics import estimates
from cinema_lightning.metrics.inference import Inference, Ranks, holm
from cinema_lightning.metrics.samples import Sample
from cinema_lightning.results.headline import Headline

SIGNIFICANT = 0.05
FIGURES = (
    "task", "dataset", "trained_on", "kind", "figure", "unit", "higher_is_better", "arm", "fraction", "primary",
    "value", "low", "high", "sd_seeds", "n_seeds", "n_seeds_wanted", "n_cases", "n_subjects", "n_missing", "failed",
    "best",
)  # fmt: skip
COMPARISONS = (
    "task", "dataset", "trained_on", "kind", "figure", "unit", "higher_is_better", "arm", "baseline", "fraction",
    "primary", "value", "low", "high", "p_difference", "shift", "p_wilcoxon", "failed", "failed_baseline",
    "rank_better", "rank_low", "rank_high", "p_rank", "test", "p", "p_holm", "n_seeds", "n_cases", "n_subjects",
    "n_left_out", "better",
)  # fmt: skip


@dataclass
class BenchmarkStudy:
    """What the sections read.

    Attributes:
        index: Folders, records and what the matrix asks for.
        groups: Results by task and dataset.
        ours: Name of the arm that is compared with the others.
        order: All arms, ours first.
        displays: Names for people: ``task:<name>``, ``arm:<name>``.
        figures: One row per task, dataset, figure, arm and label fraction; those of arms that the matrix asks for and
            that have no results have no seeds.
        comparisons: One row per comparison of ours with a baseline.
        warnings: Sentences for the last section.
    """

    index: Index
    groups: list[Group]
    ours: str
    order: list[str]
    displays: Mapping[str, str] = field(default_factory=dict)
    figures: pd.DataFrame = field(default_factory=pd.DataFrame)
    comparisons: pd.DataFrame = field(default_factory=pd.DataFrame)
    warnings: list[str] = field(default_factory=list)

    # ------------------------------------------------------------------ names
    def task_name(self, task: str) -> str:
        """A task for people."""
        return self.displays.get(f"task:{task}", task)

    def arm_name(self, arm: str) -> str:
        """An arm for people."""
        return self.displays.get(f"arm:{arm}", arm)

    def arm_names(self, arms: Sequence[str]) -> dict[str, str]:
        """Arms and their names for people."""
        return {arm: self.arm_name(arm) for arm in arms}

    def tested_on(self, group: Group) -> str:
        """The dataset, and that of the training where it is another."""
        return group.dataset if group.own else f"{group.dataset} (trained on {group.trained_on})"

    def title(self, group: Group) -> str:
        """A group for people."""
        return f"{self.task_name(group.task)}, tested on {group.dataset}"

    def place(self, arm: str) -> int:
        """An arm's place in the order, which gives its colour."""
        return self.order.index(arm)

    def arms_of(self, group: Group) -> list[str]:
        """Arms that have results in the group, or that the matrix asks for, in order."""
        wanted = {key.arm for key in self.index.expected if key.task == group.task}
        return [name for name in self.order if name in wanted | {name for name, _ in group.arms}]

    def seeds_wanted(self, task: str, arm: str, fraction: float) -> int:
        """How many seeds the matrix asks for."""
        return sum(key.task == task and key.arm == arm and key.fraction == fraction for key in self.index.expected)

    # ------------------------------------------------------------------ parts of the frames
    def figures_of(self, group: Group, name: str | None = None, fraction: float | None = None) -> pd.DataFrame:
        """Rows of a group at a label fraction, the largest where none is given; of one figure, or of all."""
        return _part(self.figures, group, name, group.full if fraction is None else fraction)

    def comparisons_of(self, group: Group, name: str | None = None, fraction: float | None = None) -> pd.DataFrame:
        """Comparisons of a group, likewise."""
        return _part(self.comparisons, group, name, group.full if fraction is None else fraction)

    def about(self, group: Group) -> dict[str, str]:
        """What rows of a group are called on the page."""
        return {"task_name": self.task_name(group.task), "tested_on": self.tested_on(group)}

    # ------------------------------------------------------------------ the frames
    def compute(self) -> None:
        """Computes every figure and the differences, and corrects their p over the whole report."""
        figures: list[dict[str, Any]] = []
        comparisons: list[dict[str, Any]] = []
        for group in self.groups:
            found = {headline.name: list(self._figures(group, headline)) for headline in group.headlines}
            # Kaggle has no masks and so no Dice: the first figure that is defined is the primary one.
            defined = [h for h in group.headlines if any(math.isfinite(row["value"]) for row in found[h.name])]
            self.warnings += [f"{self.title(group)}: {note}." for note in group.notes]
            self._warn_of_undefined(group, [h for h in group.headlines if h not in defined])
            group.headlines = defined or group.headlines[:1]
            for place, headline in enumerate(group.headlines):
                figures += [row | {"primary": place == 0} for row in found[headline.name]]
                comparisons += [row | {"primary": place == 0} for row in self._compare(group, headline, place == 0)]
        self.comparisons = _corrected(pd.DataFrame(comparisons, columns=list(COMPARISONS)))
        self.figures = _best(pd.DataFrame(figures, columns=list(FIGURES)), self.comparisons)

    def identity(self, group: Group, headline: Headline, arm: str, fraction: float) -> dict[str, Any]:
        """What a row of any frame begins with."""
        return {
            "task": group.task,
            "dataset": group.dataset,
            "trained_on": group.trained_on,
            "kind": group.kind,
            "figure": headline.name,
            "unit": headline.unit,
            "higher_is_better": headline.higher_is_better,
            "arm": arm,
            "fraction": fraction,
        }

    def _figures(self, group: Group, headline: Headline) -> Iterator[dict[str, Any]]:
        expected = {(key.arm, key.fraction) for key in self.index.expected if key.task == group.task}
        known = set(group.arms)
        for arm, fraction in sorted(expected | known, key=lambda place: (self._rank(place[0]), -place[1])):
            wanted = self.seeds_wanted(group.task, arm, fraction)
            row = self.identity(group, headline, arm, fraction) | {"n_seeds_wanted": wanted}
            if (arm, fraction) not in known:
                if arm in self.order:
                    yield row | _nothing()
            elif parts := group.samples(headline, (arm, fraction)):
                yield row | _figure(headline, parts)
        # What takes no network, once, on the cases of the first arm.
        run = next(iter(next(iter(group.arms.values())).values()))
        if headline.reference is not None and headline.name in run.trivial:
            row = self.identity(group, headline, headline.reference.name, group.full) | {"n_seeds_wanted": 0}
            yield row | _figure(headline, [run.trivial[headline.name]]) | {"n_seeds": 0}

    def _rank(self, arm: str) -> int:
        return self.order.index(arm) if arm in self.order else len(self.order)

    def _compare(self, group: Group, headline: Headline, primary: bool) -> Iterator[dict[str, Any]]:
        for arm, fraction in group.arms:
            # One family of tests: all figures with all labels, the primary one also with fewer.
            if arm == self.ours or not (primary or fraction == group.full):
                continue
            mine, theirs = (group.samples(headline, (name, fraction)) for name in (self.ours, arm))
            if not mine or not theirs:
                continue
            row = self.identity(group, headline, self.ours, fraction) | {"baseline": arm}
            row |= _comparison(headline, mine, theirs)
            yield row
            if row["n_left_out"]:
                self._warn_of_left_out(group, headline, row)

    def _warn_of_undefined(self, group: Group, undefined: Sequence[Headline]) -> None:
        """Figures whose columns there are and that no arm's cases define, and those that they cannot give."""
        runs = [run for several in group.arms.values() for run in several.values()]
        names = [h.display for h in undefined if any(h.name in run.samples for run in runs)]
        if names:
            lacking = "no case has both a prediction and a truth that define them"
            self.warnings.append(f"{self.title(group)}: not defined and left out: {listed(names)}; {lacking}.")
        self.warnings += [f"{self.title(group)}: {said}." for said in dict.fromkeys(r.left_out for r in runs) if said]

    def _warn_of_left_out(self, group: Group, headline: Headline, row: Mapping[str, Any]) -> None:
        self.warnings.append(
            f"{self.title(group)}, {headline.display}, {row['fraction']:g}% labels: {self.arm_name(self.ours)} and "
            f"{self.arm_name(row['baseline'])} do not have values for the same cases; their difference is over the "
            f"{row['n_cases']} cases that they share ({row['n_subjects']} subjects), {row['n_left_out']} are left out."
        )


def _part(frame: pd.DataFrame, group: Group, name: str | None, fraction: float) -> pd.DataFrame:
    mask = (frame["task"] == group.task) & (frame["dataset"] == group.dataset) & (frame["fraction"] == fraction)
    return frame[mask if name is None else mask & (frame["figure"] == name)]


def _nothing() -> dict[str, Any]:
    numbers = dict.fromkeys(("value", "low", "high", "sd_seeds"), math.nan)
    return numbers | dict.fromkeys(("n_seeds", "n_cases", "n_subjects", "n_missing"), 0) | {"failed": math.nan}


def _figure(headline: Headline, samples: Sequence[Sample]) -> dict[str, Any]:
    found = estimates.estimate(headline.statistic, samples, headline.scale)
    numbers = {name: tidy(getattr(found, name)) for name in ("value", "low", "high", "sd_seeds")}
    missing = max(int((~sample.mask).sum()) for sample in samples)
    counts = {"n_seeds": found.n_seeds, "n_subjects": found.n_subjects, "n_missing": missing}
    cases = max(len(sample.keys) for sample in samples)
    return numbers | counts | {"n_cases": cases, "failed": tidy(estimates.share_failed(samples).value)}


def _comparison(headline: Headline, mine: Sequence[Sample], theirs: Sequence[Sample]) -> dict[str, Any]:
    """Ours less another arm; where either failed in some case, the p that counts is that of the ranks."""
    found = estimates.compare(headline.statistic, mine, theirs, headline.scale)
    failing = any(sample.failed is not None and sample.failed.any() for sample in (*mine, *theirs))
    options = {"higher_is_better": headline.higher_is_better}
    ranks = estimates.compare_failing(headline.statistic, mine, theirs, **options) if failing else None
    numbers = {name: tidy(getattr(found, name)) for name in ("value", "low", "high", "shift")}
    numbers |= {"p_difference": tidy(found.p), "p_wilcoxon": tidy(found.shift_p)}
    shares = [tidy(estimates.share_failed(samples).value) for samples in (mine, theirs)]
    numbers |= {"failed": shares[0], "failed_baseline": shares[1]}
    return (
        numbers
        | _ranks(ranks)
        | _counts(found, mine, theirs)
        | {"p": tidy(found.p if ranks is None else ranks.better.p)}
    )


def _ranks(ranks: Ranks | None) -> dict[str, Any]:
    names = {"rank_better": "value", "rank_low": "low", "rank_high": "high", "p_rank": "p"}
    found = {name: math.nan if ranks is None else tidy(getattr(ranks.better, of)) for name, of in names.items()}
    return found | {"test": "difference" if ranks is None else "ranks"}


def _counts(found: Inference, mine: Sequence[Sample], theirs: Sequence[Sample]) -> dict[str, int]:
    """Cases in common, and those that only one arm has a value for, or failed at where the other did not."""
    known = [sample.keys[sample.mask] for sample in (*mine, *theirs)]
    common = known[0]
    for keys in known[1:]:
        common = np.intersect1d(common, keys)
    asked = np.unique(np.concatenate(known))
    counts = {"n_seeds": found.n_seeds, "n_subjects": found.n_subjects}
    return counts | {"n_cases": len(common), "n_left_out": len(asked) - len(common)}


def _corrected(frame: pd.DataFrame) -> pd.DataFrame:
    """Holm's p, and whether ours is better (1) or worse (-1) by it, with more than one training of either arm."""
    holms = [tidy(p) for p in holm(frame["p"].to_numpy(dtype=float)).tolist()]
    towards = frame["value"].where(frame["higher_is_better"].astype(bool), -frame["value"])
    towards = frame["rank_better"].where(frame["test"] == "ranks", towards)
    found = frame.assign(p_holm=holms)
    # Where a figure cannot be ranked case by case, failures are said, but nothing is sure.
    judged = (found["test"] == "ranks") | ((found["failed"] == 0) & (found["failed_baseline"] == 0))
    sure = judged & (found["p_holm"] < SIGNIFICANT) & (found["n_seeds"] > 1)
    return found.assign(better=(towards.gt(0).astype(int) - towards.lt(0).astype(int)).where(sure, 0))


def _best(figures: pd.DataFrame, comparisons: pd.DataFrame) -> pd.DataFrame:
    """Whether ours is better than every other arm that it was compared with."""
    keys = ["task", "dataset", "figure", "arm", "fraction"]
    best = comparisons.groupby(keys)["better"].min() == 1
    found = [bool(best.get(tuple(row), False)) for row in figures[keys].itertuples(index=False)]
    return figures.assign(best=found, primary=figures["primary"].astype(bool))


def known(frame: pd.DataFrame) -> pd.DataFrame:
    """Rows that have results, those of what takes no network among them."""
    return frame[(frame["n_seeds"] > 0) | frame["value"].notna()]


def heading(headline: Headline) -> str:
    """A figure with its unit and which way is better."""
    return f"{titled(headline.display, headline.unit)} {'↑' if headline.higher_is_better else '↓'}"
