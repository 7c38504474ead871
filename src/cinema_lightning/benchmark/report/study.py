"""All figures and paired differences of a report, computed once, as two frames that its sections show parts of."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from cinema_lightning.benchmark.report import estimate
from cinema_lightning.benchmark.report.estimate import Difference, Estimate
from cinema_lightning.benchmark.report.gather import Group
from cinema_lightning.benchmark.report.index import Index
from cinema_lightning.benchmark.report.table import tidy, titled
from cinema_lightning.metrics.inference import holm
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
class Study:
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
                yield row | _figure(estimate.estimate(headline.statistic, parts))

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
            found = estimate.difference(headline.statistic, mine, theirs, headline.higher_is_better)
            failed = [estimate.failed_share(parts) for parts in (mine, theirs)]
            row = self.identity(group, headline, self.ours, fraction) | {"baseline": arm}
            yield row | _comparison(found) | {"failed": tidy(failed[0]), "failed_baseline": tidy(failed[1])}
            if found.n_left_out:
                self._warn_of_left_out(group, headline, arm, fraction, found)

    def _warn_of_left_out(self, group: Group, headline: Headline, arm: str, fraction: float, found: Difference) -> None:
        self.warnings.append(
            f"{self.title(group)}, {headline.display}, {fraction:g}% labels: {self.arm_name(self.ours)} and "
            f"{self.arm_name(arm)} do not have values for the same cases; their difference is over the "
            f"{found.n_cases} cases that they share ({found.found.n_subjects} subjects), {found.n_left_out} are left out."
        )


def _part(frame: pd.DataFrame, group: Group, name: str | None, fraction: float) -> pd.DataFrame:
    mask = (frame["task"] == group.task) & (frame["dataset"] == group.dataset) & (frame["fraction"] == fraction)
    return frame[mask if name is None else mask & (frame["figure"] == name)]


def _nothing() -> dict[str, Any]:
    numbers = dict.fromkeys(("value", "low", "high", "sd_seeds"), math.nan)
    return numbers | dict.fromkeys(("n_seeds", "n_cases", "n_subjects", "n_missing"), 0) | {"failed": math.nan}


def _figure(found: Estimate) -> dict[str, Any]:
    numbers = {name: tidy(getattr(found.found, name)) for name in ("value", "low", "high", "sd_seeds")}
    counts = {"n_seeds": found.found.n_seeds, "n_subjects": found.found.n_subjects}
    return numbers | counts | {"n_cases": found.n_cases, "n_missing": found.n_missing, "failed": tidy(found.failed)}


def _comparison(found: Difference) -> dict[str, Any]:
    numbers = {name: tidy(getattr(found.found, name)) for name in ("value", "low", "high", "shift")}
    numbers |= {"p_difference": tidy(found.found.p), "p_wilcoxon": tidy(found.found.shift_p)}
    better = found.ranks.better if found.ranks is not None else None
    ranks = {"rank_better": "value", "rank_low": "low", "rank_high": "high", "p_rank": "p"}
    numbers |= {name: math.nan if better is None else tidy(getattr(better, of)) for name, of in ranks.items()}
    counts = {"n_seeds": found.found.n_seeds, "n_subjects": found.found.n_subjects}
    counts |= {"n_cases": found.n_cases, "n_left_out": found.n_left_out}
    return numbers | counts | {"test": "difference" if better is None else "ranks", "p": tidy(found.p)}


def _corrected(frame: pd.DataFrame) -> pd.DataFrame:
    """Holm's p, and whether ours is better (1) or worse (-1) by it, with more than one training of either arm."""
    holms = [tidy(p) for p in holm(frame["p"].to_numpy(dtype=float)).tolist()]
    towards = frame["value"].where(frame["higher_is_better"].astype(bool), -frame["value"])
    towards = frame["rank_better"].where(frame["test"] == "ranks", towards)
    found = frame.assign(p_holm=holms)
    sure = (found["p_holm"] < SIGNIFICANT) & (found["n_seeds"] > 1)
    return found.assign(better=(towards.gt(0).astype(int) - towards.lt(0).astype(int)).where(sure, 0))


def _best(figures: pd.DataFrame, comparisons: pd.DataFrame) -> pd.DataFrame:
    """Whether ours is better than every other arm that it was compared with."""
    keys = ["task", "dataset", "figure", "arm", "fraction"]
    best = comparisons.groupby(keys)["better"].min() == 1
    found = [bool(best.get(tuple(row), False)) for row in figures[keys].itertuples(index=False)]
    return figures.assign(best=found, primary=figures["primary"].astype(bool))


def heading(headline: Headline) -> str:
    """A figure with its unit and which way is better."""
    return f"{titled(headline.display, headline.unit)} {'↑' if headline.higher_is_better else '↓'}"
