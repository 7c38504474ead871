"""Landmarks of own data: a table of points, as rows that the reader hands over with the images."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from cinema_lightning.datasets.described.description import LandmarkTable
from cinema_lightning.errors import CinemaError
from cinema_lightning.tables import finite, read_table
from cinema_lightning.views import VIEWS

SHOWN = 3
Mark = tuple[str, str, str, float, float]
"""View, frame as the table writes it, landmark, x, y."""


def read_marks(raw: Path, table: LandmarkTable) -> dict[str, list[Mark]]:
    """Reads a table of landmarks.

    Args:
        raw: The raw folder.
        table: What the description says of it.

    Returns:
        Id or subject -> its landmarks.

    Raises:
        CinemaError: If it lacks a column, or a row names no view or no place; names file and row.
    """
    path, fixed = raw / table.file, table.view in VIEWS
    columns = [table.key, table.landmark, table.x, table.y, *([] if fixed else [table.view])]
    rows = read_table(path, [*columns, *filter(None, [table.frame])], numbers=(table.x, table.y))
    found: dict[str, list[Mark]] = {}
    for number, row in enumerate(rows, start=2):
        view = table.view if fixed else row[table.view]
        x, y = finite(row[table.x]), finite(row[table.y])
        if view not in VIEWS:
            raise CinemaError(f"{path}, row {number}: '{view}' is no view; the views are {', '.join(VIEWS)}.")
        if x is None or y is None or not row[table.landmark]:
            raise CinemaError(f"{path}, row {number}: a landmark needs a name, {table.x} and {table.y}; mend the row.")
        mark = (view, row[table.frame] if table.frame else "", row[table.landmark], x, y)
        there = found.setdefault(row[table.key], [])
        if any(mark[:3] == other[:3] for other in there):
            raise CinemaError(f"{path}, row {number}: marks {mark[2]} of {row[table.key]} a second time; keep one.")
        there.append(mark)
    return found


def without_images(table: LandmarkTable, marks: Collection[str], names: Collection[str]) -> str:
    """What is to be said of landmarks that are of none of the studies; empty where all are.

    Args:
        table: What the description says of the table.
        marks: Ids or subjects that have landmarks.
        names: Ids of the studies, or their subjects.
    """
    others = [name for name in marks if name not in names]
    whose = "study" if table.by == "id" else "subject"
    count = f"1 {whose} has" if len(others) == 1 else f"{len(others)} {whose.replace('study', 'studie')}s have"
    return f"{table.file}: {count} landmarks and no images, e.g. {', '.join(others[:SHOWN])}" if others else ""


def placed(
    marks: Sequence[Mark],
    counts: Mapping[str, int],
    phases: Mapping[str, int],
    named: Mapping[str, Mapping[int, int]],
    first: int | None,
) -> list[tuple[str, int, str, float, float]]:
    """Landmarks with the places of their frames in the series.

    Args:
        marks: Of one study.
        counts: View -> frames of its series.
        phases: ED and ES -> place.
        named: View -> number of a frame in the names of its files -> place; empty where they have none.
        first: Number of the first frame otherwise; None where nobody says.

    Returns:
        Rows (view, place from 0, landmark, x, y) of views that there are.

    Raises:
        CinemaError: If a frame cannot be told, or there is none of that number.
    """
    out = []
    for view, frame, name, x, y in marks:
        if view not in counts:
            continue
        number = finite(frame)
        if frame.upper() in phases:
            place = phases[frame.upper()]
        elif number is None and counts[view] == 1:
            place = 0
        elif number is None or number != int(number) or (first is None and not named.get(view)):
            raise CinemaError(
                f"the landmark {name} is of frame '{frame}', and it is not known which one that is: give numbers and "
                "frames_from, or ED and ES"
            )
        else:
            place = named[view].get(int(number), -1) if named.get(view) else int(number) - int(first or 0)
        if not 0 <= place < counts[view]:
            there = f"its files are {', '.join(map(str, named[view]))}" if named.get(view) else f"{counts[view]} frames"
            raise CinemaError(f"the landmark {name} is of frame {frame}, which {view} does not have ({there})")
        out.append((view, place, name, x, y))
    return out
