"""All figures and paired differences of a report, computed once and shared by its sections."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from cinema_lightning.benchmark.report.blocks import Cell, interval, number, tidy
from cinema_lightning.benchmark.report.estimate import Difference, Estimate, Estimator, Sample
from cinema_lightning.benchmark.report.gather import Arm, Group, samples
from cinema_lightning.benchmark.report.index import Index
from cinema_lightning.metrics.bootstrap import holm
from cinema_lightning.results.headline import Headline

FigureKey = tuple[str, str, str, str, float]
"""Task, dataset, name of the figure, arm, label fraction."""


@dataclass
class Study:
    """What the sections read.

    Attributes:
        index: Folders, records and what the matrix asks for.
        groups: Results by task and dataset.
        ours: Name of the arm that is compared with the others.
        order: All arms, ours first.
        estimator: Draws.
        displays: Names for people: ``task:<name>``, ``arm:<name>``.
        figures: Figure of each arm.
        differences: Ours less each baseline; the key holds the baseline.
        corrected: Holm's p of each difference.
        warnings: Sentences for the last section.
    """

    index: Index
    groups: list[Group]
    ours: str
    order: list[str]
    estimator: Estimator
    displays: Mapping[str, str] = field(default_factory=dict)
    figures: dict[FigureKey, Estimate] = field(default_factory=dict)
    differences: dict[FigureKey, Difference] = field(default_factory=dict)
    corrected: dict[FigureKey, float] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    # ------------------------------------------------------------------ names
    def task_name(self, task: str) -> str:
        """A task for people."""
        return self.displays.get(f"task:{task}", task)

    def arm_name(self, arm: str) -> str:
        """An arm for people."""
        return self.displays.get(f"arm:{arm}", arm)

    def title(self, group: Group) -> str:
        """A group for people."""
        return f"{self.task_name(group.task)}, tested on {group.dataset}"

    def arms_of(self, group: Group, fraction: float | None = None) -> list[str]:
        """Arms that have results in the group, or that the matrix asks for, in order."""
        wanted = {key.arm for key in self.index.expected if key.task == group.task}
        wanted |= {name for name, percent in group.arms if fraction is None or percent == fraction}
        return [name for name in self.order if name in wanted]

    # ------------------------------------------------------------------ figures
    def compute(self) -> None:
        """Computes every figure, the differences, and corrects their p over the whole report."""
        for group in self.groups:
            found = [(headline, self._samples(group, headline)) for headline in group.headlines]
            # Kaggle has no masks and so no Dice: the first figure that is defined is the primary one.
            kept = [pair for pair in found if self._estimates(group, *pair)] or found[:1]
            group.headlines = [headline for headline, _ in kept]
            for place, (headline, parts) in enumerate(kept):
                self._compare(group, headline, parts, primary=place == 0)
        corrected = holm([difference.p for difference in self.differences.values()])
        self.corrected = {key: tidy(p) for key, p in zip(self.differences, corrected.tolist(), strict=True)}

    def _samples(self, group: Group, headline: Headline) -> dict[tuple[str, float], list[Sample]]:
        found = {place: samples(headline, arm, group.facts) for place, arm in group.arms.items()}
        return {place: parts for place, parts in found.items() if parts}

    def _estimates(self, group: Group, headline: Headline, found: dict[tuple[str, float], list[Sample]]) -> bool:
        """Adds the figures of all arms; False, and nothing added, where no arm has a value."""
        figures = {place: self.estimator.estimate(headline.statistic, parts) for place, parts in found.items()}
        if not any(math.isfinite(figure.value) for figure in figures.values()):
            return False
        self.figures |= {
            (group.task, group.dataset, headline.name, *place): figure for place, figure in figures.items()
        }
        return True

    def _compare(
        self, group: Group, headline: Headline, found: dict[tuple[str, float], list[Sample]], primary: bool
    ) -> None:
        for (arm, fraction), parts in found.items():
            mine = found.get((self.ours, fraction))
            # One family of tests: all figures with all labels, the primary one also with fewer.
            if arm == self.ours or not mine or not (primary or fraction == group.full):
                continue
            key = (group.task, group.dataset, headline.name, arm, fraction)
            difference = self.estimator.difference(headline.statistic, mine, parts)
            self.differences[key] = difference
            if primary and difference.n_left_out:
                self.warnings.append(
                    f"{self.title(group)}, {fraction:g}% labels: {self.arm_name(self.ours)} and {self.arm_name(arm)} "
                    f"do not have values for the same cases; their difference is over the {difference.n_cases} "
                    f"cases that they share ({difference.n_subjects} subjects), {difference.n_left_out} are left out."
                )

    def figure(self, group: Group, name: str, arm: str, fraction: float) -> Estimate | None:
        """A figure, or None where there are no results."""
        return self.figures.get((group.task, group.dataset, name, arm, fraction))

    def headline(self, group: Group, name: str) -> Headline | None:
        """One of the group's figures by name."""
        return next((headline for headline in group.headlines if headline.name == name), None)

    def arms_with(self, group: Group, fraction: float) -> Iterator[Arm]:
        """Arms with results at a fraction, in order."""
        return iter(group.at(fraction).values())

    # ------------------------------------------------------------------ cells of tables
    def row(self, group: Group, headline: Headline, arms: list[str], fraction: float) -> list[Cell]:
        """Value and interval of each arm, the best in bold; missing ones and missing seeds say so."""
        found = [self.figure(group, headline.name, arm, fraction) for arm in arms]
        best = self._best(found, headline)
        return [self._cell(group, headline, arm, fraction, entry, best) for arm, entry in zip(arms, found, strict=True)]

    def _best(self, found: list[Estimate | None], headline: Headline) -> float | None:
        values = [entry.value for entry in found if entry is not None and entry.value == entry.value]
        if len(values) < 2:
            return None
        return max(values) if headline.higher_is_better else min(values)

    def _cell(
        self, group: Group, headline: Headline, arm: str, fraction: float, entry: Estimate | None, best: float | None
    ) -> Cell:
        wanted = self.seeds_wanted(group.task, arm, fraction)
        if entry is None:
            # An arm that has results here lacks only what this figure needs.
            known = (arm, fraction) in group.arms
            return Cell("–", muted=True) if known or not wanted else Cell("missing", muted=True)
        small = f"{entry.n_seeds} of {wanted} seeds" if wanted > entry.n_seeds else ""
        text = interval(entry.value, entry.low, entry.high, headline.unit)
        # What looks equal to the best is as good.
        bold = best is not None and number(entry.value, headline.unit) == number(best, headline.unit)
        return Cell(text, bold=bold, small=small, muted=text == "–")

    def seeds_wanted(self, task: str, arm: str, fraction: float) -> int:
        """How many seeds the matrix asks for."""
        return sum(key.task == task and key.arm == arm and key.fraction == fraction for key in self.index.expected)

    # ------------------------------------------------------------------ records
    def record(self, group: Group, headline: Headline, arm: str, fraction: float) -> dict[str, Any]:
        """What identifies a figure in a CSV."""
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
