"""What a kind of task says of its results; each kind registers itself, in ``kind.py`` of its folder under ``tasks/``.

Nothing here is heavy, so that results are read without torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from cinema_lightning.registry import Registry
from cinema_lightning.results.headline import Facts, Headline

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass
class Results:
    """What a test left.

    Attributes:
        folder: Where it lies.
        cases: One row per case.
        function: One row per study, where the kind has a table per study.
        validation: Cases of the validation subjects, for survival.
        facts: What test.json says.
    """

    folder: Path
    cases: pd.DataFrame
    function: pd.DataFrame | None
    validation: pd.DataFrame | None
    facts: dict[str, Any]

    @property
    def kind(self) -> str:
        """Name of the kind of task."""
        return str(self.facts["kind"])

    def table(self, source: str) -> pd.DataFrame | None:
        """The table that a headline figure is made of."""
        return self.cases if source == "cases" else self.function


@dataclass(frozen=True)
class Ranking:
    """How the best, the median and the worst cases are found and shown.

    Attributes:
        column: Column of cases.csv.
        smaller_is_better: Whether the smallest is the best.
        text: How a case's value is written, such as ``Dice {:.3f}``.
        legend: What the lines and marks of the picture are.
    """

    column: str
    smaller_is_better: bool
    text: str
    legend: str = "truth dashed, prediction solid"


Pair = tuple[str, str, np.ndarray, np.ndarray, np.ndarray]
"""(metric, group, predicted, true, subjects)."""
Drawer = Callable[[Results, int], Iterator[tuple[str, "Figure"]]]
"""Takes results and seed; gives (name, picture), or raises :class:`~cinema_lightning.results.figures.Missing`."""
TableWriter = Callable[[Results, Path, int], str | None]
"""Takes results, the CSV file to write, and the seed; gives why there is no such table, or None."""


@dataclass(frozen=True)
class Shown:
    """A column of an exhibit as people read it.

    Attributes:
        name: Column of its table.
        title: Heading, with the unit.
        form: How it is written.
        low: Column of its interval's lower end, where it has one.
        high: Column of the upper end.
    """

    name: str
    title: str
    form: Literal["text", "count", "number", "p"] = "text"
    low: str = ""
    high: str = ""


@dataclass(frozen=True)
class Exhibit:
    """A table of its own that the report shows of a kind, for every arm.

    Attributes:
        name: Name of its files.
        title: Heading.
        text: How to read it.
        table: Takes the tests of an arm's seeds and a seed for what is drawn; may raise
            :class:`~cinema_lightning.errors.CinemaError` or :class:`~cinema_lightning.results.figures.Missing`.
        columns: What people read of it.
    """

    name: str
    title: str
    text: str
    table: Callable[[Sequence[Results], int], pd.DataFrame]
    columns: tuple[Shown, ...]


def _none(*_: Any) -> None:
    return None


def _empty(*_: Any) -> tuple[()]:
    return ()


@dataclass(frozen=True)
class Kind:
    """A kind of task, as a test and the readers of its results know it; only ``headlines`` has no default.

    Attributes:
        headlines: Takes the facts; the figures that a paper would report, the primary one first.
        columns: Takes the facts; columns that cases.csv needs beside ``id``, numbers but for ``texts``.
        texts: Columns that hold names.
        check_facts: Takes the facts and the path of test.json; refuses facts that lack something.
        check_cases: Takes a table of cases with all its ``columns``, the facts and its path; refuses what cannot be.
        metrics: How columns of a case's own metrics end, beside the usual ones
            (:data:`cinema_lightning.columns.SCORES`).
        counted: Takes the cases; those that headline figures and means are made of.
        pairs: Takes the results; predictions beside truths of cases.csv.
        rows: Takes the results and the seed; rows of the summary that neither metrics, pairs nor headlines give.
        pictures: What is drawn of the tables.
        shown: Those of them that the report shows, too, of each arm's first seed.
        exhibits: Tables of its own that the report shows.
        function: Takes cases and facts; the table per study (function.csv), may be empty.
        tables: Name -> what writes a further table.
        why_undefined: Takes the results; why figures may not be defined, where there is more to say than that.
        left_out: Takes the results; a sentence on figures that were asked for and that these cases cannot give.
        ranking: Takes the facts; how cases are ranked for the overlays. Without it none are drawn.
    """

    headlines: Callable[[Facts], list[Headline]]
    columns: Callable[[Facts], Sequence[str]] = _empty
    texts: tuple[str, ...] = ()
    check_facts: Callable[[Facts, Path], None] = _none
    check_cases: Callable[[pd.DataFrame, Facts, Path], None] = _none
    metrics: tuple[str, ...] = ()
    counted: Callable[[pd.DataFrame], pd.DataFrame] = lambda cases: cases
    pairs: Callable[[Results], Iterable[Pair]] = _empty
    rows: Callable[[Results, int], Iterable[dict[str, Any]]] = _empty
    pictures: tuple[Drawer, ...] = ()
    shown: tuple[Drawer, ...] = ()
    exhibits: tuple[Exhibit, ...] = ()
    function: Callable[[pd.DataFrame, Facts], pd.DataFrame] | None = None
    tables: Mapping[str, TableWriter] = field(default_factory=dict)
    why_undefined: Callable[[Results], str | None] = _none
    left_out: Callable[[Results], str | None] = _none
    ranking: Callable[[Facts], Ranking | None] = _none


KINDS: Registry[Kind] = Registry("kind of task", "cinema_lightning.tasks", only="kind")


def headlines(kind: str, facts: Facts) -> list[Headline]:
    """Headline figures of a kind of task.

    Args:
        kind: Its name.
        facts: Facts of the test (test.json).

    Returns:
        The figures; the first one is the primary one. None of a kind that is not known.
    """
    return KINDS[kind].headlines(facts) if kind in KINDS else []
