"""What ``cinema verify`` checks in the table as a whole: ids, splits by subject, classes per split."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, TypeAlias

from cinema_lightning.data.table import SPLITS
from cinema_lightning.datasets.base import Dataset
from cinema_lightning.datasets.files import number
from cinema_lightning.prepare.failures import read_problems

Row: TypeAlias = Mapping[str, str]
PRINT = "print"
"""Level of what is no finding yet: the digest of a study's first frame, by which a copy is known."""


class Finding(NamedTuple):
    """One thing that is wrong (error) or worth a look (warning).

    Attributes:
        level: error or warning.
        id: The study, or empty for the cohort.
        check: What was checked.
        message: One sentence.
    """

    level: str
    id: str
    check: str
    message: str


def check_cohort(reader: Dataset, root: Path, rows: list[Row]) -> Iterator[Finding]:
    """Checks the table as a whole.

    Args:
        reader: The dataset.
        root: Folder of the store.
        rows: The table.

    Yields:
        What is wrong or worth a look.
    """
    yield from _check_table(rows, root)
    yield from _check_subjects(rows)
    yield from _check_classes(reader, rows)


def _check_table(rows: list[Row], root: Path) -> Iterator[Finding]:
    counts = Counter(row["id"] for row in rows)
    for name, count in counts.items():
        if count > 1 or not name:
            yield Finding("error", name, "ids", f"the id '{name}' is in {count} rows; ids must be there and unique")
    for row in rows:
        if row.get("split", "") not in ("", *SPLITS):
            yield Finding("error", row["id"], "splits", f"the split '{row['split']}' is none of {', '.join(SPLITS)}")
    strays = sorted(
        path.name for path in root.iterdir() if path.is_dir() and path.name[0] != "." and path.name not in counts
    )
    if strays:
        yield Finding("warning", "", "files", f"{len(strays)} folders have no row in the table, e.g. {strays[0]}")
    failed = read_problems(root / "failures.csv") if (root / "failures.csv").is_file() else []
    if failed:
        yield Finding("warning", "", "failures", f"{len(failed)} studies could not be prepared, see failures.csv")


def _check_subjects(rows: list[Row]) -> Iterator[Finding]:
    splits: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        splits[row.get("subject") or row["id"]].add(row.get("split", ""))
    for subject, where in splits.items():
        if len(where) > 1:
            names = ", ".join(sorted(name or "no split" for name in where))
            yield Finding("error", subject, "splits", f"subject {subject} has studies in several splits: {names}")


def check_copies(rows: Sequence[Row], prints: Sequence[Finding]) -> Iterator[Finding]:
    """Finds people who have the same image, as a person has who is listed under two names.

    Args:
        rows: The table.
        prints: Digests of first frames: the study, the view and the digest.

    Yields:
        An error where they are in two splits, else a warning; one for each two studies.
    """
    about = {row["id"]: (row.get("subject") or row["id"], row.get("split") or "no split") for row in rows}
    same: dict[tuple[str, str], list[str]] = defaultdict(list)
    for found in prints:
        same[found.check, found.message].append(found.id)
    said: set[tuple[str, str]] = set()
    for (view, _), names in same.items():
        first, *others = sorted(names)
        for other in (name for name in others if about[name][0] != about[first][0] and (first, name) not in said):
            said.add((first, other))
            split, of_first = about[other][1], about[first][1]
            text = f"{view} begins with the same image as that of {first} ({of_first}): one person under two names?"
            yield Finding("warning" if split == of_first else "error", other, "images", f"({split}) {text}")


def _check_split(title: str, column: str, classes: Sequence[str], there: Sequence[str]) -> Iterator[Finding]:
    """Classes that a split lacks; with one alone, neither MCC nor AUROC says anything."""
    for name in classes:
        if name not in there:
            yield Finding("warning", "", "classes", f"no {title} study has {column} '{name}'")
    if len(there) == 1:
        message = f"all {title} studies have {column} '{there[0]}': MCC and AUROC are not defined"
        yield Finding("warning", "", "classes", message)


def _check_classes(reader: Dataset, rows: list[Row]) -> Iterator[Finding]:
    sizes = Counter(row.get("split", "") for row in rows)
    for column, classes in reader.classes.items():
        counts = Counter((row.get("split", ""), row.get(column, "")) for row in rows)
        others = Counter(row.get(column, "") for row in rows if row.get(column, "") not in (*classes, ""))
        for name, count in sorted(others.items()):
            yield Finding(
                "warning", "", "classes", f"{column} '{name}' ({count} studies) is left out of classification"
            )
        for split, title in zip(SPLITS, ("training", "validation", "test"), strict=True):
            there = [name for name in classes if counts[split, name]]
            yield from _check_split(title, column, classes, there) if sizes[split] else ()
        empty = sum(not row.get(column) for row in rows)
        if empty:
            yield Finding("warning", "", "clinical", f"{column} is missing in {empty} of {len(rows)} studies")
    for column in reader.regression:
        empty = sum(number(row.get(column, "")) is None for row in rows)
        if empty:
            yield Finding("warning", "", "clinical", f"{column} is missing in {empty} of {len(rows)} studies")
