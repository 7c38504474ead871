"""Submissions to SLURM: a folder each, with the cells frozen as they were, the script, logs and exit codes.

Jobs run what their submission froze, so that a matrix edited meanwhile changes nothing that already waits, and an array
index always means the same cell.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cinema_lightning.benchmark.matrix import Cell
from cinema_lightning.cluster import slurm
from cinema_lightning.errors import CinemaError
from cinema_lightning.files import write_text


@dataclass(frozen=True)
class Submission:
    """One submitted array.

    Attributes:
        folder: Its folder.
        name: Name of the job, unique.
        cells: Names of the cells by array index.
        job: Id that sbatch gave; empty if the submitter died before writing it down.
        submitted: Unix time.
    """

    folder: Path
    name: str
    cells: tuple[str, ...]
    job: str = ""
    submitted: float = 0.0

    def log(self, index: int) -> Path:
        """Output of the batch script."""
        return self.folder / "logs" / f"{index}.out"

    def exit_code(self, index: int) -> int | None:
        """What the batch script noted down when it ended; None if it has not, or was killed."""
        try:
            return int((self.folder / "exits" / str(index)).read_text(encoding="ascii"))
        except (OSError, ValueError):
            return None


@dataclass(frozen=True)
class Frozen:
    """Cells as a submission froze them.

    Attributes:
        root: Folder of the results.
        program: What verbs are given to; None: the interpreter that runs the cell.
        cells: By array index.
    """

    root: Path
    program: tuple[str, ...] | None
    cells: tuple[Cell, ...]

    def write(self, path: Path) -> None:
        """Writes the file that jobs read."""
        content = {"root": str(self.root), "program": self.program, "cells": [cell.as_dict() for cell in self.cells]}
        write_text(path, json.dumps(content, indent=1) + "\n")


def read_frozen(path: Path) -> Frozen:
    """Reads what :meth:`Frozen.write` wrote.

    Raises:
        CinemaError: If the file is missing or damaged.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        cells = tuple(Cell.from_dict(cell) for cell in content["cells"])
        program = content["program"]
        return Frozen(Path(content["root"]), None if program is None else tuple(program), cells)
    except OSError as error:
        raise CinemaError(
            f"{path} cannot be read ({error.strerror or error}); give the cells.json of a submission."
        ) from None
    except (ValueError, KeyError, TypeError) as error:
        raise CinemaError(f"{path} is no list of cells ({error}); give the cells.json of a submission.") from error


def read_submissions(root: Path) -> list[Submission]:
    """All submissions of a benchmark, oldest first."""
    found = []
    for file in sorted(Path(root, "submissions").glob("*/submission.json")):
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
            found.append(
                Submission(
                    file.parent,
                    content["name"],
                    tuple(content["cells"]),
                    str(content.get("job", "")),
                    float(content.get("submitted", 0)),
                )
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CinemaError(f"{file} is damaged ({error}); cancel its job and move the folder away.") from error
    return found


@dataclass(frozen=True)
class Waiting:
    """A cell's place in a queue, or what became of it there.

    Attributes:
        submission: The latest one with this cell.
        index: Its array index there.
        entry: Its place in the queue; None if it has left.
        known: Whether squeue answered.
    """

    submission: Submission
    index: int
    entry: slurm.QueueEntry | None
    known: bool

    @property
    def job(self) -> str:
        """Such as ``12_3``."""
        return self.entry.job if self.entry else f"{self.submission.job}_{self.index}"

    @property
    def queued(self) -> bool:
        """Whether it still waits or runs, as far as anybody knows."""
        if self.known:
            return self.entry is not None
        return self.submission.exit_code(self.index) in (None, 75)


@dataclass
class Queue:
    """Where each cell stands in the scheduler's queue."""

    places: dict[str, Waiting] = field(default_factory=dict)

    @classmethod
    def look(cls, root: Path) -> Queue:
        """Asks squeue about all submissions of a benchmark."""
        submissions = read_submissions(root)
        answer: dict[str, Any] | None = slurm.queue(submission.name for submission in submissions)
        places: dict[str, Waiting] = {}
        for submission in submissions:
            entries = (answer or {}).get(submission.name, {})
            for index, cell in enumerate(submission.cells):
                place = Waiting(submission, index, entries.get(index), answer is not None)
                earlier = places.get(cell)
                if earlier is None or not (earlier.queued and earlier.entry):  # the one that still waits counts
                    places[cell] = place
        return cls(places)


def write_submission(folder: Path, name: str, cells: Sequence[Cell], **facts: Any) -> None:
    """Writes ``submission.json``, first before and then after the job has its id."""
    content = {"name": name, "cells": [cell.name for cell in cells], **facts}
    write_text(folder / "submission.json", json.dumps(content, indent=1) + "\n")
