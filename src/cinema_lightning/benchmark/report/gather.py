"""Results of all arms that were tested on one dataset for one task, read and made comparable.

Of each table only the columns of its figures are kept; cases, studies and subjects go by a number made of their names,
so that millions of cases are paired in seconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cinema_lightning.benchmark.report.cases import Cases, cases_of, compare, completed
from cinema_lightning.benchmark.report.index import Entry, Index
from cinema_lightning.benchmark.report.wanted import wanted
from cinema_lightning.columns import CASE, factors
from cinema_lightning.errors import CinemaError
from cinema_lightning.metrics.samples import Sample
from cinema_lightning.results.folder import read_results
from cinema_lightning.results.headline import Headline
from cinema_lightning.results.kind import KINDS, Results, headlines

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Run:
    """What is kept of one folder of results: tables are large, and only these columns are needed.

    Attributes:
        folder: Where it lies.
        facts: What its test.json says.
        samples: Name of each figure that its tables give -> its columns.
        truths: The same of the reference itself, where a figure can be computed of it.
        trivial: The same of what takes no network.
        left_out: A sentence on figures that were asked for and that its cases cannot give.
    """

    folder: Path
    facts: dict[str, Any]
    samples: dict[str, Sample]
    truths: dict[str, Sample]
    trivial: dict[str, Sample]
    left_out: str | None = None


@dataclass
class Group:
    """All arms of one task that were tested on one dataset.

    Attributes:
        task: Name of the task.
        dataset: Dataset tested on.
        facts: ``test.json`` of the first arm.
        arms: (arm, label fraction in percent) -> runs by seed.
        fields: Study -> what its groups are, such as its sex and vendor, from whichever table knows.
        studies: Number of each case -> number of its study.
        first: Table -> seed -> its cases in the results of it that were read first, with which others are compared.
        notes: Sentences on truths that differ.
    """

    task: str
    dataset: str
    facts: dict[str, Any]
    arms: dict[tuple[str, float], dict[int, Run]] = field(default_factory=dict)
    fields: dict[str, dict[str, Any]] = field(default_factory=dict)
    studies: dict[str, pd.Series] = field(default_factory=dict)
    first: dict[str, dict[int, Cases]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def slug(self) -> str:
        """Its name as part of a file's name."""
        return "".join(c if c.isalnum() or c in "._-" else "_" for c in f"{self.task}-{self.dataset}")

    @property
    def kind(self) -> str:
        """Kind of task."""
        return str(self.facts["kind"])

    @property
    def trained_on(self) -> str:
        """Dataset trained on; that of the test where a table does not say."""
        return str(self.facts.get("trained_on") or self.facts.get("dataset") or self.dataset)

    @property
    def own(self) -> bool:
        """Tested on the dataset trained on."""
        return str(self.facts.get("dataset", self.dataset)) == self.trained_on

    @property
    def full(self) -> float:
        """The largest label fraction."""
        return max(fraction for _, fraction in self.arms)

    @cached_property
    def headlines(self) -> list[Headline]:
        """The kind's figures, the primary one first."""
        return headlines(self.kind, self.facts)

    def headline(self, name: str) -> Headline | None:
        """One of its figures by name."""
        return next((headline for headline in self.headlines if headline.name == name), None)

    def at(self, fraction: float) -> dict[str, dict[int, Run]]:
        """Arms with results at a fraction."""
        return {name: runs for (name, percent), runs in self.arms.items() if percent == fraction}

    def samples(self, headline: Headline, place: tuple[str, float]) -> list[Sample]:
        """Columns of a figure in the order of the seeds; seeds whose table lacks them are left out."""
        runs = self.arms.get(place, {})
        return [run.samples[headline.name] for _, run in sorted(runs.items()) if headline.name in run.samples]

    def first_runs(self) -> dict[str, tuple[int, Run]]:
        """The first seed of each arm, with all labels."""
        return {name: min(runs.items()) for name, runs in self.at(self.full).items()}


def gather(index: Index, ours: str, baselines: Sequence[str] | None) -> list[Group]:
    """Reads every folder of results, once.

    Args:
        index: What there is.
        ours: The arm that is compared with the others.
        baselines: The other arms in their order; None takes all.

    Returns:
        Groups in the order of the index; arms within them ours first, then the baselines.

    Raises:
        CinemaError: If a table is malformed, or arms of one group are of different kinds, cases or truths.
    """
    groups: dict[tuple[str, str], Group] = {}
    for entry in sorted(index.entries, key=lambda entry: entry.external):  # our own say what cases and truths there are
        if baselines is not None and entry.key.arm not in (ours, *baselines):
            continue
        results = read_results(entry.folder, wanted(entry.folder))
        group = groups.setdefault(
            (entry.key.task, entry.dataset), Group(entry.key.task, entry.dataset, dict(results.facts))
        )
        _check(group, results, entry)
        runs = group.arms.setdefault((entry.key.arm, entry.key.fraction), {})
        if entry.key.repeat in runs:
            raise CinemaError(
                f"{entry.folder}: cell {entry.key} has results under cells/ and under external/; keep one."
            )
        runs[entry.key.repeat] = _run(results, group, entry)
    order = arm_order(index, ours, baselines)
    for group in groups.values():
        group.arms = dict(sorted(group.arms.items(), key=lambda item: (order.index(item[0][0]), -item[0][1])))
    names = dict.fromkeys((entry.key.task, entry.dataset) for entry in index.entries)
    return [groups[name] for name in names if name in groups]


def _run(results: Results, group: Group, entry: Entry) -> Run:
    """Takes of the tables what the report needs."""
    tables = {"cases": KINDS[results.kind].counted(results.cases), "function": results.function}
    facts = {**group.facts, **results.facts}
    found: dict[str, dict[str, Sample]] = {"samples": {}, "truths": {}, "trivial": {}}
    for source, table in tables.items():
        if table is None or not len(table):
            continue
        _add_fields(table, group.fields)
        before = group.first.setdefault(source, {})
        first = before.get(entry.key.repeat, next(iter(before.values()), None))
        table = completed(table, first)
        keys, subjects = _names(table, results.folder)
        own = cases_of(results.folder / f"{source}.csv", table, keys, KINDS[results.kind].texts)
        if first is not None:
            others = entry.key.repeat not in before and not entry.external
            group.notes += compare(first, own, drawn=others)
        before.setdefault(entry.key.repeat, own)
        _add_studies(table, keys, group.studies, source)
        for headline in (headline for headline in group.headlines if headline.source == source):
            trivial = None if headline.reference is None else headline.reference.columns
            every = {"samples": headline.columns, "truths": headline.truth, "trivial": trivial}
            for name, columns in every.items():
                values = None if columns is None else columns(table, facts)
                if values is not None:
                    failed = headline.failed(table, facts) if name == "samples" else None
                    sample = Sample(keys, subjects, tuple(np.asarray(part) for part in values), failed)
                    found[name][headline.name] = headline.known(sample)
    return Run(results.folder, facts, **found, left_out=KINDS[results.kind].left_out(results))


def _names(table: pd.DataFrame, folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of a table's cases and subjects.

    Raises:
        CinemaError: If two rows are the same case.
    """
    parts = [_plain(table[column]) for column in CASE if column in table.columns]
    keys = parts[0]
    for part in parts[1:]:
        keys = keys + "|" + part
    twice = keys.duplicated()
    if twice.any():
        raise CinemaError(f"Results of {folder} have the case {keys[twice].iloc[0]} twice; test that cell again.")
    subject = table["subject"].fillna(table["id"]) if "subject" in table.columns else table["id"]
    return numbered(keys), numbered(subject)


def _add_studies(table: pd.DataFrame, keys: np.ndarray, found: dict[str, pd.Series], source: str) -> None:
    import pandas as pd

    known = found.get(source)
    fresh = np.ones(len(keys), dtype=bool) if known is None else ~pd.Index(keys).isin(known.index)
    if fresh.any():
        more = pd.Series(numbered(table["id"])[fresh], index=keys[fresh])
        found[source] = more if known is None else pd.concat([known, more])


def numbered(names: pd.Series) -> np.ndarray:
    """(N,) a number for each name, the same for the same name."""
    import pandas as pd

    return pd.util.hash_array(names.astype(str).to_numpy(dtype=object))


def _add_fields(table: pd.DataFrame, found: dict[str, dict[str, Any]]) -> None:
    names = [name for name in (factor.name for factor in factors()) if name in table.columns]
    for row in table.drop_duplicates("id")[["id", *names]].itertuples(index=False):
        cells = found.setdefault(str(row[0]), {})
        for name, value in zip(names, row[1:], strict=True):
            if value is not None and value == value and value != "":
                cells.setdefault(name, value)


def arm_order(index: Index, ours: str, baselines: Sequence[str] | None) -> list[str]:
    """All arms: ours first, then the baselines as given, or those of the matrix, other cells and other tools."""
    keys = [*index.expected, *sorted(index.tested)]
    external = {entry.key for entry in index.entries if entry.external}
    keys.sort(key=lambda key: key in external)
    names = list(dict.fromkeys(key.arm for key in keys)) if baselines is None else list(baselines)
    return [ours, *(name for name in names if name != ours)]


def _check(group: Group, results: Results, entry: Entry) -> None:
    for name in ("kind", "classes", "regions", "landmarks", "unit"):
        mine, theirs = group.facts.get(name), results.facts.get(name)
        if mine and theirs and mine != theirs:
            raise CinemaError(
                f"{entry.folder / 'test.json'} has {name} {theirs}, but other results of {group.task} on "
                f"{group.dataset} have {mine}; they are no results of one task."
            )


def _plain(values: pd.Series) -> pd.Series:
    """Texts; whole numbers look the same whether or not the column has gaps (3, not 3.0)."""
    import pandas as pd

    if pd.api.types.is_float_dtype(values):
        return values.map(lambda value: f"{value:g}" if value == value else "")
    return values.fillna("").astype(str)
