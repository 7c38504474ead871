"""What benchmarks/statistics.py simulates; this file is no script.

Simulated subjects and trainings, of which the truth is known: how often does a 95% interval hold it, and how often is
p below 0.05 where nothing differs? Each rate stands beside twice its own standard error.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cinema_lightning.metrics import agreement, classification, inference
from cinema_lightning.metrics.cox import cox_models
from cinema_lightning.metrics.estimates import by_group, compare, figure
from cinema_lightning.metrics.samples import sample_of
from cinema_lightning.metrics.survival import concordance
from cinema_lightning.metrics.weighted import Statistic
from cinema_lightning.results.kind import Results
from cinema_lightning.tasks.survival import figures as survival

SIZES = (10, 20, 50, 200)
YEARS = 0.5
"""Horizon of the time-dependent figures."""
OUTCOME = ("risk", "time", "event")
Generator = np.random.Generator
Draw = Callable[[Generator, tuple[int, ...]], np.ndarray]


@dataclass(frozen=True)
class Rate:
    """What was counted.

    Attributes:
        what: Interval or test.
        data: What was drawn.
        n: Subjects.
        seeds: Trainings.
        measure: ``coverage`` or ``rejection``.
        percent: The rate.
        error: Twice its standard error.
        repeats: Simulated data sets of which the interval or the test was defined.
    """

    what: str
    data: str
    n: int
    seeds: int
    measure: str
    percent: float
    error: float
    repeats: int

    @property
    def off(self) -> bool:
        """Whether it is outside of 93 to 97 or 3 to 7 percent, beyond its own error."""
        low, high = (93, 97) if self.measure == "coverage" else (3, 7)
        return not low - self.error <= self.percent <= high + self.error


def rate(about: tuple[str, str, int, int, str], hits: list[bool | None]) -> Rate:
    """Share of the hits; None where nothing was defined."""
    known = [hit for hit in hits if hit is not None]
    share = float(np.mean(known)) if known else float("nan")
    error = 2 * (max(share * (1 - share), 0.05 / max(len(known), 1)) / max(len(known), 1)) ** 0.5
    return Rate(*about, 100 * share, 100 * error, len(known))


def holds(found: inference.Inference, truth: float) -> bool | None:
    """Whether an interval holds the truth."""
    return found.low <= truth <= found.high if found.low == found.low else None


def rejects(p: float) -> bool | None:
    """Whether a test says that something differs."""
    return p < 0.05 if p == p else None


# ---------------------------------------------------------------------- data
VALUES: dict[str, tuple[Draw, float]] = {
    "normal": (lambda rng, shape: rng.normal(0, 1, shape), 0.0),
    "skewed (gamma 2)": (lambda rng, shape: rng.gamma(2, 1, shape), 2.0),
    "skewed (exponential)": (lambda rng, shape: rng.exponential(1, shape), 1.0),
    "bounded (beta 9, 1)": (lambda rng, shape: rng.beta(9, 1, shape), 0.9),
}
"""Values per subject and their mean: errors, distances, Dice."""


def centred(name: str) -> Draw:
    """The same values with mean 0 and SD 1."""
    draw, mean = VALUES[name]
    spread = {"skewed (gamma 2)": 2**0.5, "bounded (beta 9, 1)": (9 / 1100) ** 0.5}.get(name, 1.0)
    return lambda rng, shape: (draw(rng, shape) - mean) / spread


def trained(rng: Generator, subjects: np.ndarray, seeds: int, spread: float) -> np.ndarray:
    """(S, N) values of several trainings on the same subjects; each has an offset of its own, and noise."""
    noise = rng.normal(0, 0.4, (seeds, len(subjects)))
    return subjects + (rng.normal(0, spread, (seeds, 1)) if seeds > 1 else 0.0) + noise


def two_classes(rng: Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities and truths of a classifier of AUROC 0.86; a third is positive."""
    true = rng.random(n) < 0.33
    chance = 1 / (1 + np.exp(-rng.normal(0, 1, n) - 1.5 * true))
    return np.stack([1 - chance, chance], axis=1), true.astype(np.int64)


def four_classes(rng: Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities and truths of a classifier that is right in 82%."""
    true = rng.integers(0, 4, n)
    scores = np.exp(rng.normal(0, 1, (n, 4)) + 2 * np.eye(4)[true])
    return scores / scores.sum(axis=1, keepdims=True), true


def followed(rng: Generator, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Risks, times and events, more than half with an event."""
    risk = rng.normal(size=n)
    death, leave = rng.exponential(np.exp(-0.8 * risk)), rng.exponential(2.0, n)
    return risk, np.minimum(death, leave), (death <= leave).astype(float)


def pairs(name: str) -> Callable[[Generator, int], tuple[np.ndarray, np.ndarray]]:
    """Predictions and truths of an EF whose error has an SD of 5 points."""

    def draw(rng: Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
        true = rng.normal(55, 10, n)
        return true + 1 + 5 * centred(name)(rng, (n,)), true

    return draw


# ---------------------------------------------------------------------- what is printed
def means(repeats: int, sizes: tuple[int, ...]) -> Iterator[Rate]:
    """Intervals of means over subjects and trainings, and tests of two methods that do not differ."""
    for (name, (_, _)), n, seeds in product(VALUES.items(), sizes, (1, 3, 5)):
        draw, spreads = centred(name), (0.0,) if seeds == 1 else (0.0, 0.15, 0.5)
        for spread in spreads:
            rng = np.random.default_rng((n, seeds, int(spread * 100)))
            covered, rejected = [], []
            for _ in range(repeats):
                subjects = draw(rng, (n,))
                covered.append(holds(inference.interval(trained(rng, subjects, seeds, spread)), 0.0))
                # Two methods differ by subject, too, as skewed as the subjects themselves where there is one training.
                own = draw(rng, (n,)) if seeds == 1 else 0.3 * rng.normal(size=n)
                first = trained(rng, subjects + own, seeds, spread)
                second = trained(rng, subjects, seeds, spread)
                rejected.append(rejects(inference.difference(first, second, shift=False).p))
            data = name if seeds == 1 else f"{name}, SD of seeds {spread:g}"
            yield rate(("mean", data, n, seeds, "coverage"), covered)
            yield rate(("mean difference", data, n, seeds, "rejection"), rejected)


def statistics(repeats: int, sizes: tuple[int, ...]) -> Iterator[Rate]:
    """Intervals of figures that are no means, and of shares."""
    cases: dict[str, tuple[Statistic, Callable[..., tuple[np.ndarray, ...]], str]] = {
        "accuracy": (classification.accuracy, four_classes, "four classes"),
        "F1 (macro)": (classification.f1_macro, four_classes, "four classes"),
        "MCC": (classification.mcc, four_classes, "four classes"),
        "sensitivity": (classification.sensitivity, two_classes, "two classes"),
        "AUROC": (classification.auroc, two_classes, "two classes"),
        "AUROC (pairs of classes)": (classification.auroc, four_classes, "four classes"),
        "C-index": (concordance, followed, "censored"),
    }
    for name in ("normal", "skewed (gamma 2)", "bounded (beta 9, 1)"):
        for label, statistic in (
            ("MAE", agreement.mae), ("RMSE", agreement.rmse), ("SD of differences", agreement.difference_sd),
            ("lower limit of agreement", agreement.lower_limit), ("upper limit of agreement", agreement.upper_limit),
            ("Pearson's r", agreement.pearson), ("CCC", agreement.concordance_correlation),
            ("ICC", agreement.intraclass_correlation),
        ):  # fmt: skip
            cases[f"{label}|{name}"] = (statistic, pairs(name), f"errors {name}")
    for key, (statistic, draw, data) in cases.items():
        rng = np.random.default_rng(len(key))
        truth = float(np.mean([statistic(*draw(rng, 20_000)) for _ in range(20)]))
        for n in sizes:
            hits = [holds(figure(statistic, *draw(rng, n)), truth) for _ in range(repeats)]
            yield rate((key.split("|")[0], data, n, 1, "coverage"), hits)


def differences(repeats: int, sizes: tuple[int, ...]) -> Iterator[Rate]:
    """Tests of two classifiers, or scores, that are equally good."""
    for label, statistic, base in (
        ("AUROC difference", classification.auroc, two_classes),
        ("accuracy difference", classification.accuracy, four_classes),
        ("C-index difference", concordance, followed),
    ):
        rng = np.random.default_rng(len(label))
        for n in sizes:
            hits = []
            for _ in range(repeats):
                columns = base(rng, n)
                noisy = [(blurred(rng, columns[0]), *columns[1:]) for _ in range(2)]
                found = compare(statistic, *([sample_of(*each)] for each in noisy))
                hits.append(rejects(found.p))
            yield rate((label, "paired", n, 1, "rejection"), hits)


def blurred(rng: Generator, scores: np.ndarray) -> np.ndarray:
    """Scores with noise of their own, the same for both classes' probabilities."""
    if scores.ndim == 1:
        return scores + rng.normal(0, 0.7, len(scores))
    logits = np.log(scores) + rng.normal(0, 0.7, scores.shape)
    return np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)


def gaps(repeats: int) -> Iterator[Rate]:
    """The largest gap between groups that do not differ."""
    for (label, sizes, spreads), name in product(
        (
            ("five groups of 30", (30,) * 5, (1,) * 5),
            ("groups of 15, 60, 125", (15, 60, 125), (1, 1, 1)),
            ("groups of 15, 60, 125, SD 3, 1, 1", (15, 60, 125), (3, 1, 1)),
            ("four groups of 50, SD 1 to 4", (50,) * 4, (1, 2, 3, 4)),
            ("groups of 100 and 20, SD 1 and 2", (100, 20), (1, 2)),
        ),
        ("normal", "skewed (gamma 2)"),
    ):
        rng, hits = np.random.default_rng(sum(sizes)), []
        for _ in range(repeats):
            drawn = [spread * centred(name)(rng, (n,)) for n, spread in zip(sizes, spreads, strict=True)]
            found = inference.largest_gap({str(number): values for number, values in enumerate(drawn)})
            hits.append(None if found is None else rejects(found.gap.p))
        yield rate(("largest gap", f"{label}, {name}", sum(sizes), 1, "rejection"), hits)
    rng, hits = np.random.default_rng(7), []
    for _ in range(repeats):
        columns = two_classes(rng, 200)
        members = np.arange(200) % 3
        found = by_group(classification.auroc, [sample_of(*columns)], {str(k): members == k for k in range(3)}).largest
        hits.append(None if found is None else rejects(found.gap.p))
    yield rate(("largest gap", "AUROC of three groups of 67", 200, 1, "rejection"), hits)


def sparse(repeats: int, sizes: tuple[int, ...]) -> Iterator[Rate]:
    """Two methods that give the same in most cases; where they differ, each is the better as often."""
    for n, share in product(sizes, (15, 5)):
        rng, hits = np.random.default_rng((n, share)), []
        for _ in range(repeats):
            gap = rng.choice([-0.36, 0.36], n) * (rng.random(n) < 1 / share)
            hits.append(rejects(inference.difference(gap, np.zeros(n), shift=False).p))
        yield rate(("mean difference", f"one case of {share} differs", n, 1, "rejection"), hits)


def failing(repeats: int, sizes: tuple[int, ...]) -> Iterator[Rate]:
    """Ranks with failures, of two methods that fail alike; and the share of failures."""
    for n, seeds in product(sizes, (1, 3)):
        rng = np.random.default_rng((n, seeds))
        hits, covered = [], []
        for _ in range(repeats):
            hard = rng.gamma(2, 1, n)
            rows = hard + rng.gamma(2, 1, (2, seeds, n))
            rows[rng.random(rows.shape) < 0.1] = np.nan
            found = inference.compare_ranks(rows[0], rows[1], higher_is_better=False)
            hits.append(rejects(found.better.p))
            covered.append(holds(inference.failures(rows[0]), 0.1))
        yield rate(("ranks with failures", "a tenth fails", n, seeds, "rejection"), hits)
        yield rate(("share of failures", "a tenth fails", n, seeds, "coverage"), covered)


def cox(repeats: int, sizes: tuple[int, ...]) -> Iterator[Rate]:
    """An image score that says nothing beside age that does: its hazard ratio."""
    for n in sizes:
        rng, hits = np.random.default_rng(n), []
        for _ in range(repeats):
            age, time, event = followed(rng, n)
            columns = {"age": age, "risk": rng.normal(size=n), "time": time, "event": event}
            table = pd.DataFrame(columns | {"subject": np.arange(n)})
            found = cox_models([table], {"clinical and image": ["age", "risk"]}, folds=2)[0]
            hits.append(rejects(found.hazard_ratios["risk"][3]) if found.hazard_ratios else None)
        yield rate(("hazard ratio of the image", "cross-fitted Cox", n, 1, "rejection"), hits)


def horizons(repeats: int, sizes: tuple[int, ...]) -> Iterator[Rate]:
    """AUC and Brier score at a horizon, as a test's summary has them; more than half are censored or free by then."""
    facts = {"horizons": [YEARS]}
    area = next(each for each in survival.headlines(facts) if each.name.startswith("auc"))

    def brier(table: pd.DataFrame) -> dict[str, Any]:
        rows = survival.rows(Results(Path(), table, None, None, facts), 0)
        return next((row for row in rows if row["statistic"] == row["metric"]), {})

    rng = np.random.default_rng(3)
    large = [in_days(rng, 20_000) for _ in range(10)]
    truths = [float(np.mean([area.statistic(*(table[name] for name in OUTCOME)) for table in large]))]
    truths.append(float(np.mean([brier(table)["value"] for table in large[:3]])))
    for n in sizes:
        areas: list[bool | None] = []
        errors: list[bool | None] = []
        for _ in range(repeats):
            table = in_days(rng, n)
            found = figure(area.statistic, *(table[name] for name in OUTCOME), scale=area.scale)
            areas.append(holds(found, truths[0]))
            row = brier(table)
            low, high = row.get("low", np.nan), row.get("high", np.nan)
            errors.append(low <= truths[1] <= high if low == low else None)
        yield rate(("AUC at a horizon", "censored", n, 1, "coverage"), areas)
        yield rate(("Brier score at a horizon", "censored", n, 1, "coverage"), errors)


def in_days(rng: Generator, n: int) -> pd.DataFrame:
    """Subjects of a survival test, whose times are days."""
    risk, years, event = followed(rng, n)
    columns = {"id": np.arange(n), "subject": np.arange(n), "risk": 0.8 * risk}
    return pd.DataFrame(columns | {"time": 365.25 * years, "event": event})


def gains(repeats: int, sizes: tuple[int, ...]) -> Iterator[Rate]:
    """C out of fold of a clinical and an image score that say alike, and what the image adds.

    The truth is that of models fitted to so many subjects: the mean over the simulated data sets.
    """
    for n in sizes:
        rng, found = np.random.default_rng((n, 1)), []
        for _ in range(repeats):
            age, image = rng.normal(size=(2, n))
            death, leave = rng.exponential(np.exp(-0.6 * age - 0.6 * image)), rng.exponential(2.0, n)
            columns = {"age": age, "risk": image, "time": np.minimum(death, leave), "event": death <= leave}
            table = pd.DataFrame(columns | {"subject": np.arange(n)}).astype(float)
            model = cox_models([table], {"clinical": ["age"], "clinical and image": ["age", "risk"]})[1]
            found.append((model.concordance, model.gain or model.concordance))
        for what, several in zip(("C out of fold", "gain in C out of fold"), zip(*found, strict=True), strict=True):
            truth = float(np.nanmean([each.value for each in several]))
            yield rate((what, "cross-fitted Cox", n, 1, "coverage"), [holds(each, truth) for each in several])


def everything(repeats: int, quick: bool) -> Iterator[Rate]:
    """All rates; ``repeats`` of the cheap ones."""
    yield from means(repeats, SIZES)
    yield from statistics(repeats, SIZES)
    yield from sparse(repeats, SIZES)
    yield from differences(repeats, SIZES)
    yield from gaps(repeats)
    yield from failing(repeats, SIZES)
    yield from horizons(repeats, SIZES)
    few = 10 if quick else repeats // 4  # thousands of Cox models
    yield from cox(few, (50, 200))
    yield from gains(few, (50, 200))


def markdown(rates: list[Rate]) -> str:
    """A table: one line per interval or test, data and seeds; a column per number of subjects."""
    lines: dict[tuple[str, str, int, str], dict[int, Rate]] = {}
    for each in rates:
        lines.setdefault((each.what, each.data, each.seeds, each.measure), {})[each.n] = each
    out = ["| what | data | seeds | % | n = 10 | 20 | 50 | 200 |", "|---|---|---|---|---|---|---|---|"]
    for (what, data, seeds, measure), found in lines.items():
        cells = [_cell(found.get(n)) for n in SIZES]
        if not set(found) & set(SIZES):
            (each,) = found.values()
            cells = ["", "", "", f"{_cell(each)} (n = {each.n})"]
        out.append(f"| {what} | {data} | {seeds} | {measure} | {' | '.join(cells)} |")
    return "\n".join(out) + "\n"


def _cell(found: Rate | None) -> str:
    if found is None or found.percent != found.percent:
        return ""
    return f"{found.percent:.1f} ± {found.error:.1f}"


def main() -> None:
    """Runs the simulation."""
    parser = argparse.ArgumentParser(description="Coverage of intervals and rejection rates of tests")
    parser.add_argument("--repeats", type=int, default=1000, help="simulated data sets")
    parser.add_argument("--quick", action="store_true", help="a twentieth of them, in a minute")
    parser.add_argument("--json", type=Path, help="file for the numbers")
    parser.add_argument("--markdown", type=Path, help="file for the table")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    start, rates = time.perf_counter(), []
    for each in everything(options.repeats // 20 if options.quick else options.repeats, options.quick):
        rates.append(each)
        mark = "  <- off" if each.off and each.n >= 50 else ""
        print(
            f"{each.what:<28}{each.data:<46}n {each.n:<5}seeds {each.seeds}  "
            f"{each.measure} {each.percent:5.1f} +- {each.error:.1f}%{mark}",
            flush=True,
        )
    off = [each for each in rates if each.off and each.n >= 50]
    print(f"{len(rates)} rates in {time.perf_counter() - start:.0f} s; {len(off)} of 50 subjects or more are off.")
    if options.json:
        options.json.write_text(json.dumps([asdict(each) for each in rates], indent=1) + "\n", encoding="utf-8")
    if options.markdown:
        options.markdown.write_text(markdown(rates), encoding="utf-8")
