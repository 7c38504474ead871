"""The tables of a run: cohort, landmarks, failures and warnings, whole or in the parts of a sharded run.

Cells are turned into text once, here, so that the merged parts of a sharded run are the same bytes as the table of a
run in one piece.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cinema_lightning.columns import COHORT
from cinema_lightning.data.table import TABLE, write_cohort
from cinema_lightning.datasets.base import CaseRef
from cinema_lightning.errors import CinemaError
from cinema_lightning.prepare.failures import COLUMNS, Problem, write_rows
from cinema_lightning.prepare.record import read_record

LANDMARKS = ("id", "view", "frame", "landmark", "x", "y")
Rows = list[dict[str, str]]


def text(cell: Any) -> str:
    """A cell as it stands in the file: empty for None and NaN, the shortest exact form for numbers."""
    if cell is None or cell != cell:
        return ""
    return str(int(cell)) if isinstance(cell, bool) else repr(float(cell)) if isinstance(cell, float) else str(cell)


def ordered(names: Iterable[str]) -> list[str]:
    """Columns in the table's order: the common ones first, then a dataset's own by name."""
    names = set(names)
    common = [column.name for column in COHORT if column.name in names]
    return common + sorted(names - set(common))


def collect(out: Path, cases: Sequence[CaseRef], columns: Sequence[str]) -> tuple[Rows, Rows, list[Problem]]:
    """Gathers what the records of prepared studies say.

    Args:
        out: Folder of the store.
        cases: The studies that are up to date.
        columns: Columns that the table has even where no study fills them.

    Returns:
        Rows of the cohort table, rows of the landmark table, warnings; all by id.
    """
    rows: Rows = []
    landmarks: Rows = []
    warnings: list[Problem] = []
    for case in sorted(cases, key=lambda case: case.id):
        record = read_record(out / case.id)
        if record is None:
            raise CinemaError(f"{out / case.id} changed while its table was being written; run the command again.")
        cells: Mapping[str, Any] = {
            "id": case.id,
            "subject": case.subject,
            "split": case.split,
            **dict.fromkeys(columns),
            **record["row"],
            **case.fields,
        }
        rows.append({name: text(cell) for name, cell in cells.items()})
        landmarks += [dict(zip(LANDMARKS, map(text, (case.id, *mark)), strict=True)) for mark in record["landmarks"]]
        warnings += [Problem(case.id, "list", warning) for warning in case.warnings]
        warnings += [Problem(case.id, "read", warning) for warning in record["warnings"]]
    return rows, landmarks, warnings


def write_tables(
    out: Path, rows: Rows, landmarks: Rows, failures: Sequence[Problem], warnings: Sequence[Problem], part: str = ""
) -> None:
    """Writes the four tables, each whole or not at all.

    Args:
        out: Folder of the store.
        rows: Cohort rows; without any, the cohort table is left as it is.
        landmarks: Landmark rows; without any there is no landmark table, nor that of an earlier run.
        failures: What failed.
        warnings: What to know.
        part: "" for the whole run, "I-of-N" for a shard, which names the files so.
    """
    suffix = f".{part}.csv" if part else ".csv"
    # The cohort comes last: a part counts as finished when it is there.
    for name, problems in (("failures", failures), ("warnings", warnings)):
        write_rows(out / f"{name}{suffix}", COLUMNS, problems)
    if landmarks or part:
        write_rows(out / f"landmarks{suffix}", LANDMARKS, [[mark[name] for name in LANDMARKS] for mark in landmarks])
    if rows and not (landmarks or part):
        (out / f"landmarks{suffix}").unlink(missing_ok=True)
    if part:
        names = ordered(name for row in rows for name in row) or ["id"]
        write_rows(out / f"cohort{suffix}", names, [[row.get(name, "") for name in names] for row in rows])
    elif rows:
        names = ordered(name for row in rows for name in row)
        write_cohort(out, [{name: row.get(name) or None for name in names} for row in rows])


def merge_parts(out: Path, shards: int, cases: Sequence[CaseRef] = ()) -> Path | None:
    """Joins the tables of a sharded run once all parts are there.

    Every shard calls this when it is done; the last one finds all parts. Two that end at once write the same bytes.

    Args:
        out: Folder of the store.
        shards: N.
        cases: All studies as they are listed now; parts of an earlier run, which may say otherwise, are not joined.

    Returns:
        Path of the cohort table, or None while parts are missing.
    """
    parts = [f"{index}-of-{shards}" for index in range(1, shards + 1)]
    if not all((out / f"{name}.{part}.csv").is_file() for part in parts for name in ("failures", "warnings", "cohort")):
        return None
    tables = {name: _interleaved(out, name, parts) for name in ("cohort", "landmarks", "failures", "warnings")}
    counts = Counter(row["id"] for row in tables["cohort"])
    if repeated := [name for name, count in counts.items() if count > 1]:
        raise CinemaError(f"The parts in {out} list the id '{min(repeated)}' twice: remove the parts of an older run.")
    if cases and not _are_of(cases, tables):
        print(f"{out} holds parts of an earlier run or of other files: the table is joined when all {shards} are new.")
        return None
    problems = {
        name: [Problem(*(row[key] for key in COLUMNS)) for row in tables[name]] for name in ("failures", "warnings")
    }
    write_tables(out, tables["cohort"], tables["landmarks"], problems["failures"], problems["warnings"])
    return out / TABLE


def _are_of(cases: Sequence[CaseRef], tables: Mapping[str, Rows]) -> bool:
    """Whether parts hold these studies and no others, with the people, splits and fields that they have now."""
    rows = {row["id"]: row for row in tables["cohort"]}
    ids = set(rows) | {row["id"] for row in tables["failures"]}
    same = all(
        rows[case.id].get(name, "") == text(cell)
        for case in cases
        if case.id in rows
        for name, cell in {"subject": case.subject, "split": case.split, **case.fields}.items()
    )
    return same and ids == {case.id for case in cases}


def _interleaved(out: Path, name: str, parts: Sequence[str]) -> Rows:
    rows: Rows = []
    for part in parts:
        path = out / f"{name}.{part}.csv"
        if path.is_file():
            with path.open(newline="", encoding="utf-8") as file:
                rows += csv.DictReader(file)
    return sorted(rows, key=lambda row: row["id"])
