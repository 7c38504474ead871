"""Tables written in parts: by several processes, in several attempts, over the shards of a SLURM array.

Every attempt of every process appends to a part of its own, one whole line at a time, so that a kill costs at most a
torn last line, which readers pass over. A finished shard becomes ``<stem>.I-of-N.csv`` and, when all N are there,
``<stem>.csv``; each appears under its name only when complete.
"""

from __future__ import annotations

import csv
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from cinema_lightning.errors import CinemaError
from cinema_lightning.files import replacing
from cinema_lightning.shards import Shard

Key = tuple[str, int, str]
"""id, frame, and the view where the table has a column of that name in third place."""


class PartTable:
    """One table in parts; rows are sorted and told apart by ``id``, ``frame`` and, where the third column is, ``view``.

    Args:
        folder: Where the table goes.
        stem: Its name without ``.csv``.
        shard: Which part of the cohort is written.
    """

    def __init__(self, folder: Path, stem: str, shard: Shard) -> None:
        self.folder = folder
        self.stem = stem
        self.shard = shard
        self.table = folder / f"{stem}.csv"
        self._parts_folder = folder / ".parts"

    def shard_file(self, index: int) -> Path:
        """File of one finished shard."""
        return self.folder / f"{self.stem}.{index}-of-{self.shard.count}.csv"

    @property
    def finished(self) -> bool:
        """True where this shard, or the whole table, is already there."""
        return self.table.is_file() or (self.shard.count > 1 and self.shard_file(self.shard.index).is_file())

    @property
    def begun(self) -> bool:
        """True where anybody wrote rows of any shard, or is about to."""
        there = (*self.folder.glob(f"{self.stem}.csv"), *self.folder.glob(f"{self.stem}.*-of-*.csv"))
        return bool(there) or any(self._parts_folder.glob(f"{self.stem}.*.csv"))

    def parts(self) -> list[Path]:
        """Parts of this shard that earlier attempts left."""
        pattern = f"{self.stem}.{self.shard.index}-of-{self.shard.count}.*.csv"
        return sorted(self._parts_folder.glob(pattern)) if self._parts_folder.is_dir() else []

    def clear(self) -> None:
        """Removes this shard's rows, and the whole table that they are part of."""
        for path in (self.table, self.shard_file(self.shard.index), *self.parts()):
            path.unlink(missing_ok=True)

    def done(self) -> set[tuple[str, int]]:
        """Samples, (id, frame), whose rows are already written.

        Of a table with a row per view the last sample of a part does not count: a kill may have cost it a view.
        """
        keys: set[tuple[str, int]] = set()
        for part in self.parts():
            found = [key for key, _, _ in _places(part)[1]]
            last = found[-1] if found and found[-1][2] else None
            keys.update(key[:2] for key in found if last is None or key[:2] != last[:2])
        return keys

    def new_part(self, rank: int) -> PartWriter:
        """Opens a part for this process and attempt."""
        self._parts_folder.mkdir(parents=True, exist_ok=True)
        attempt = 0
        while True:
            name = f"{self.stem}.{self.shard.index}-of-{self.shard.count}.{rank:04d}-{attempt:04d}.csv"
            path = self._parts_folder / name
            try:
                return PartWriter(path)
            except FileExistsError:
                attempt += 1

    def finish(self) -> Path:
        """Merges this shard's parts where that was not done before, then the shards where all are there.

        Returns:
            The file that holds this shard's rows now.
        """
        parts = self.parts()
        target = self.table if self.shard.count == 1 else self.shard_file(self.shard.index)
        if not target.is_file():  # a stop between the two merges leaves the second to the next attempt
            _merge(parts, target)  # a shard without subjects becomes an empty file, so that the others can merge
        for part in parts:
            part.unlink()
        if self.shard.count > 1:
            shards = [self.shard_file(index + 1) for index in range(self.shard.count)]
            if all(path.is_file() for path in shards):
                _merge(shards, self.table)
                target = self.table
        if self._parts_folder.is_dir() and not any(self._parts_folder.iterdir()):
            self._parts_folder.rmdir()
        return target


class PartWriter:
    """Appends whole lines to a part that nobody else writes.

    Raises:
        FileExistsError: If the part exists.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.open("x", newline="", encoding="utf-8")
        self._columns: list[str] | None = None

    def write(self, rows: list[dict[str, Any]]) -> None:
        """Writes rows, the first of them setting the columns."""
        for row in rows:
            if self._columns is None:
                self._columns = list(row)
                self._file.write(_line(self._columns))
            self._file.write(_line([_text(row[column]) for column in self._columns]))
        self._file.flush()

    def close(self) -> None:
        """Closes the part; an empty one is taken away."""
        self._file.close()
        if self._columns is None:
            self.path.unlink(missing_ok=True)


def _text(value: Any) -> str:
    if value is None or value != value:  # unknown, or not defined
        return ""
    return f"{value:.7g}" if isinstance(value, float) else " ".join(str(value).split("\n"))


def _line(cells: list[str]) -> str:
    quoted = ['"' + cell.replace('"', '""') + '"' if any(c in cell for c in ',"\r') else cell for cell in cells]
    return ",".join(quoted) + "\n"


def _merge(parts: list[Path], target: Path) -> None:
    """Merges parts into one table sorted by key, holding keys and places but no rows; equal keys are written once."""
    headers = []
    places: dict[Key, tuple[Path, int, int]] = {}
    for part in parts:
        header, rows = _places(part)
        headers.append(header)
        places |= {key: (part, start, length) for key, start, length in rows if key not in places}
    known = [header for header in headers if header]
    if any(header != known[0] for header in known):
        raise CinemaError(f"The parts of {target} have different columns; remove {parts[0].parent} and run again.")
    with replacing(target) as temporary, ExitStack() as stack, temporary.open("wb") as file:
        opened = {part: stack.enter_context(part.open("rb")) for part in parts}
        file.write(known[0] if known else b"")
        for _, (part, start, length) in sorted(places.items()):
            opened[part].seek(start)
            file.write(opened[part].read(length))


def _places(path: Path) -> tuple[bytes, list[tuple[Key, int, int]]]:
    """Header line, and key, start and length in bytes of each whole row; a torn last line is passed over."""
    rows: list[tuple[Key, int, int]] = []
    with path.open("rb") as file:
        header = file.readline()
        if not header.endswith(b"\n"):
            return b"", []
        columns, start = _cells(header), len(header)
        width = len(columns)
        by_view = columns[2:3] == ["view"]
        for line in file:
            if line.endswith(b"\n"):
                cells = _cells(line)
                if len(cells) == width:
                    rows.append(((cells[0], int(cells[1]), cells[2] if by_view else ""), start, len(line)))
            start += len(line)
    return header, rows


def _cells(line: bytes) -> list[str]:
    return next(csv.reader([line.decode("utf-8")]))
