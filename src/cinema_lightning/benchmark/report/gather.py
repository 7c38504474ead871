"""Results of all arms that were tested on one dataset for one task, read and made comparable."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from cinema_lightning.benchmark.report.estimate import Sample
from cinema_lightning.benchmark.report.index import Entry, Index
from cinema_lightning.columns import CASE, factors
from cinema_lightning.errors import CinemaError
from cinema_lightning.results.folder import read_results
from cinema_lightning.results.headline import Headline
from cinema_lightning.results.kind import Results, headlines

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Arm:
    """An arm at one label fraction.

    Attributes:
        name: Its name.
        fraction: Percent of the training subjects.
        seeds: Seed -> results.
    """

    name: str
    fraction: float
    seeds: dict[int, Results] = field(default_factory=dict)


@dataclass
class Group:
    """All arms of one task that were tested on one dataset.

    Attributes:
        task: Name of the task.
        dataset: Dataset tested on.
        facts: ``test.json`` of the first arm.
        arms: (arm, fraction) -> results by seed.
    """

    task: str
    dataset: str
    facts: dict[str, Any]
    arms: dict[tuple[str, float], Arm] = field(default_factory=dict)

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

    def at(self, fraction: float) -> dict[str, Arm]:
        """Arms with results at a fraction."""
        return {name: arm for (name, percent), arm in self.arms.items() if percent == fraction}

    def fields(self) -> pd.DataFrame:
        """What the groups of each study are, such as its sex and vendor, from whichever table knows: index ``id``."""
        import pandas as pd

        found: dict[str, dict[str, Any]] = {}
        for arm in self.arms.values():
            for results in arm.seeds.values():
                for table in (results.cases, results.function):
                    if table is not None and "id" in table.columns:
                        _add_fields(table, found)
        return pd.DataFrame.from_dict(found, orient="index", columns=[factor.name for factor in factors()])


def _add_fields(table: pd.DataFrame, found: dict[str, dict[str, Any]]) -> None:
    names = [name for name in (factor.name for factor in factors()) if name in table.columns]
    for row in table.drop_duplicates("id")[["id", *names]].itertuples(index=False):
        cells = found.setdefault(str(row[0]), {})
        for name, value in zip(names, row[1:], strict=True):
            if value is not None and value == value and value != "":
                cells.setdefault(name, value)


def gather(index: Index, ours: str, baselines: Sequence[str] | None) -> list[Group]:
    """Reads every folder of results, once.

    Args:
        index: What there is.
        ours: The arm that is compared with the others.
        baselines: The other arms in their order; None takes all.

    Returns:
        Groups in the order of the index; arms within them ours first, then the baselines.

    Raises:
        CinemaError: If a table is malformed, or arms of one group are of different kinds.
    """
    groups: dict[tuple[str, str], Group] = {}
    for entry in index.entries:
        if baselines is not None and entry.key.arm not in (ours, *baselines):
            continue
        results = read_results(entry.folder)
        group = groups.setdefault(
            (entry.key.task, entry.dataset), Group(entry.key.task, entry.dataset, dict(results.facts))
        )
        _check(group, results, entry)
        arm = group.arms.setdefault((entry.key.arm, entry.key.fraction), Arm(entry.key.arm, entry.key.fraction))
        if entry.key.repeat in arm.seeds:
            raise CinemaError(
                f"{entry.folder}: cell {entry.key} has results under cells/ and under external/; keep one."
            )
        arm.seeds[entry.key.repeat] = results
    order = arm_order(index, ours, baselines)
    for group in groups.values():
        group.arms = dict(sorted(group.arms.items(), key=lambda item: (order.index(item[0][0]), -item[0][1])))
    return list(groups.values())


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


def samples(headline: Headline, arm: Arm, facts: Mapping[str, Any]) -> list[Sample]:
    """Columns of one figure, one entry per seed; seeds whose table lacks them are left out.

    Args:
        headline: The figure.
        arm: The arm.
        facts: The group's facts.

    Returns:
        Samples in the order of the seeds.
    """
    return [sample for _, sample in seed_samples(headline, arm, facts)]


def seed_samples(headline: Headline, arm: Arm, facts: Mapping[str, Any]) -> Iterator[tuple[int, Sample]]:
    """Seed and columns of one figure; see :func:`samples`."""
    for seed, results in sorted(arm.seeds.items()):
        table = results.table(headline.source)
        if table is None or not len(table):
            continue
        columns = headline.columns(table, {**facts, **results.facts})
        if columns is not None:
            sample = make_sample(table, columns, f"{arm.name}, seed {seed}")
            # Only one row of a person can hold both visits; the others are not missing.
            yield seed, sample.take(sample.mask) if headline.per_person else sample


def make_sample(table: pd.DataFrame, columns: Sequence[Any], name: str) -> Sample:
    """A sample of a table's rows.

    Raises:
        CinemaError: If two rows are the same case.
    """
    parts = [_plain(table[column]) for column in CASE if column in table.columns]
    keys = np.array(["|".join(row) for row in zip(*parts, strict=True)])
    names, counts = np.unique(keys, return_counts=True)
    if counts.max() > 1:
        raise CinemaError(f"Results of {name} have the case {names[counts.argmax()]} twice; test that cell again.")
    subject = table["subject"].fillna(table["id"]) if "subject" in table.columns else table["id"]
    return Sample(keys, subject.astype(str).to_numpy(dtype=str), tuple(np.asarray(values) for values in columns))


def _plain(values: pd.Series) -> pd.Series:
    """Texts; whole numbers look the same whether or not the column has gaps (3, not 3.0)."""
    import pandas as pd

    if pd.api.types.is_float_dtype(values):
        return values.map(lambda value: f"{value:g}" if value == value else "")
    return values.fillna("").astype(str)


def expected_arms(index: Index, task: str, fraction: float) -> list[str]:
    """Arms that the matrix asks for."""
    return list(dict.fromkeys(key.arm for key in index.expected if key.task == task and key.fraction == fraction))


def expected_seeds(index: Index, task: str, arm: str, fraction: float) -> int:
    """How many seeds the matrix asks for; 0 where it is not known."""
    return sum(key.task == task and key.arm == arm and key.fraction == fraction for key in index.expected)
