"""What could not be prepared: one reason per study, in one CSV."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from cinema_lightning.errors import CinemaError
from cinema_lightning.files import replacing

COLUMNS = ("id", "step", "reason")


class Problem(NamedTuple):
    """Why a study failed, or what to know about one that did not.

    Attributes:
        id: The study.
        step: What was being done: list, read, labels, resample, crop, intensity, write or worker.
        reason: One sentence.
    """

    id: str
    step: str
    reason: str


class StepError(Exception):
    """A step of one study's preparation did not work; the runner turns it into a :class:`Problem`."""

    def __init__(self, step: str, reason: str) -> None:
        super().__init__(step, reason)
        self.step = step
        self.reason = reason


@contextmanager
def step(name: str) -> Iterator[None]:
    """Names the step in which an error came up; inner names win."""
    try:
        yield
    except StepError:
        raise
    except CinemaError as error:
        raise StepError(name, str(error)) from error
    except Exception as error:
        raise StepError(name, f"{type(error).__name__}: {error}") from error


def write_rows(path: Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Writes a CSV, whole or not at all.

    Args:
        path: The file.
        columns: The header.
        rows: The cells.

    Raises:
        CinemaError: If the file cannot be written.
    """
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows([" ".join(cell.split()) if isinstance(cell, str) else cell for cell in row] for row in rows)


def read_problems(path: Path) -> list[Problem]:
    """Reads a CSV of problems (id, step, reason)."""
    with path.open(newline="", encoding="utf-8") as file:
        return [Problem(row["id"], row["step"], row["reason"]) for row in csv.DictReader(file)]
