"""Which results there are: cells of the benchmark, and results of other tools laid beside them.

    <root>/cells/<task>/<arm>/f<percent>/s<seed>/cell.json            a cell's record: state and cost
    <root>/cells/<task>/<arm>/f<percent>/s<seed>/**/cases.csv         its results, with test.json beside each
    <root>/external/<task>/<arm>/f<percent>/s<seed>/<dataset>/cases.csv   of any other tool, with test.json

Nothing else of a cell's folder is read, so results count the same whoever made them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cinema_lightning.errors import CinemaError
from cinema_lightning.files import natural_key

_FRACTION = re.compile(r"f(\d+(?:\.\d+)?)")
_SEED = re.compile(r"s(\d+)(?:k(\d+of\d+))?")


@dataclass(frozen=True, order=True)
class CellKey:
    """One training: task, arm, label fraction in percent, seed and, where there are folds, fold of how many."""

    task: str
    arm: str
    fraction: float
    seed: int
    fold: tuple[int, int] | tuple[()] = ()

    def __str__(self) -> str:
        fold = "k{}of{}".format(*self.fold) if self.fold else ""
        return f"{self.task}/{self.arm}/f{self.fraction:g}/s{self.seed}{fold}"

    @property
    def repeat(self) -> int:
        """Number under which the report averages it with others: the seed; with folds 100 times that and the fold."""
        return 100 * self.seed + self.fold[0] if self.fold else self.seed


@dataclass(frozen=True)
class Entry:
    """One folder of results.

    Attributes:
        key: The cell that it belongs to.
        dataset: Dataset tested on.
        folder: Where ``cases.csv`` and ``test.json`` lie.
        external: Made by another tool.
    """

    key: CellKey
    dataset: str
    folder: Path
    external: bool


@dataclass
class Index:
    """All results under a root.

    Attributes:
        root: The root.
        entries: Folders of results.
        records: Cell -> content of its ``cell.json``.
        expected: Cells that the matrix asks for; empty where it is not known.
        warnings: What is odd about the folders.
    """

    root: Path
    entries: list[Entry] = field(default_factory=list)
    records: dict[CellKey, dict[str, Any]] = field(default_factory=dict)
    expected: list[CellKey] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @property
    def tested(self) -> set[CellKey]:
        """Cells with results."""
        return {entry.key for entry in self.entries}

    def missing(self) -> list[CellKey]:
        """Cells that the matrix asks for and that have no results."""
        tested = self.tested
        return [key for key in self.expected if key not in tested]


def build_index(root: Path, expected: Iterable[Any] = ()) -> Index:
    """Looks for results.

    Args:
        root: Folder of a benchmark.
        expected: Cells of the matrix, with ``task``, ``arm``, ``fraction`` (percent) and ``seed``.

    Returns:
        The index, in the order of the matrix, then of the names.

    Raises:
        CinemaError: If the root is no folder, or a ``test.json`` or ``cell.json`` cannot be read.
    """
    if not root.is_dir():
        raise CinemaError(
            f"There is no folder {root}; give the root of a benchmark, where `cinema benchmark run` writes."
        )
    index = Index(root)
    cells = list(expected)
    index.expected = [
        CellKey(cell.task, cell.arm, float(cell.fraction), int(cell.seed), _fold(getattr(cell, "fold", "")))
        for cell in cells
    ]
    place = {key: number for number, key in enumerate(index.expected)}
    found = [*_cells(root / "cells", index), *_cells(root / "external", index, external=True)]
    index.entries = sorted(found, key=lambda entry: (place.get(entry.key, len(place)), entry.key, entry.dataset))
    changed = [
        str(key) for key, cell in zip(index.expected, cells, strict=True) if _changed(index.records.get(key), cell)
    ]
    if changed:
        index.warnings.append(f"Cells made with other options than the matrix now has: {', '.join(changed)}.")
    odd = sorted({str(entry.key) for entry in found if place and not entry.external and entry.key not in place})
    if odd:
        index.warnings.append(
            f"Cells that the matrix does not have (they are in the report all the same): {', '.join(odd)}."
        )
    return index


def _fold(text: str | None) -> tuple[int, int] | tuple[()]:
    """``2/5`` or ``2of5`` as numbers; empty for none."""
    found = re.findall(r"\d+", text or "")
    return (int(found[0]), int(found[1])) if found else ()


def _changed(record: dict[str, Any] | None, cell: Any) -> bool:
    digest = getattr(cell, "digest", None)
    return record is not None and digest is not None and record.get("digest", digest) != digest


def _cells(top: Path, index: Index, external: bool = False) -> Iterator[Entry]:
    for folder in sorted(path for path in top.glob("*/*/f*/s*") if path.is_dir()):
        task, arm, fraction, seed = folder.relative_to(top).parts
        percent, number = _FRACTION.fullmatch(fraction), _SEED.fullmatch(seed)
        if percent is None or number is None:
            index.warnings.append(f"{folder} is no cell's folder (f<percent>/s<seed>); it was left out.")
            continue
        key = CellKey(task, arm, float(percent[1]), int(number[1]), _fold(number[2]))
        if (folder / "cell.json").is_file():
            index.records[key] = read_json(folder / "cell.json")
        yield from _results(folder, key, index, external)


def _results(folder: Path, key: CellKey, index: Index, external: bool) -> Iterator[Entry]:
    """The newest folder of each test of a cell (versions count up), by the dataset that it was tested on."""
    newest: dict[str, Path] = {}
    places = {path.parent for name in ("cases.csv", "test.json") for path in folder.rglob(name)}
    for place in sorted(places, key=lambda path: natural_key(str(path.relative_to(folder)))):
        absent = [name for name in ("cases.csv", "test.json") if not (place / name).is_file()]
        if absent:
            index.warnings.append(f"{place} has no {absent[0]}, so its results were left out.")
        else:
            newest[place.name] = place
    datasets = {test: str(read_json(place / "test.json").get("dataset", test)) for test, place in newest.items()}
    for test, place in newest.items():
        twice = list(datasets.values()).count(datasets[test]) > 1
        yield Entry(key, f"{datasets[test]} ({test})" if twice else datasets[test], place, external)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file that holds an object.

    Raises:
        CinemaError: Names the file where it does not.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CinemaError(f"{path} cannot be read as JSON ({error}); mend it or test that cell again.") from error
    if not isinstance(content, Mapping):
        raise CinemaError(f"{path} holds a {type(content).__name__} where key: value pairs belong.")
    return dict(content)
