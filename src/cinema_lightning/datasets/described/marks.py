"""Landmarks of own data: a table of points, as rows that the reader hands over with the images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from cinema_lightning.datasets.described.description import LandmarkTable
from cinema_lightning.errors import CinemaError
from cinema_lightning.tables import finite, read_table
from cinema_lightning.views import VIEWS

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


def placed(
    marks: Sequence[Mark], counts: Mapping[str, int], phases: Mapping[str, int], first: int | None
) -> list[tuple[str, int, str, float, float]]:
    """Landmarks with the places of their frames in the series.

    Args:
        marks: Of one study.
        counts: View -> frames of its series.
        phases: ED and ES -> place.
        first: Number of the first frame; None where nobody says.

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
        elif number is None or first is None or number != int(number):
            raise CinemaError(
                f"the landmark {name} is of frame '{frame}', and it is not known which one that is: give numbers and "
                "frames_from, or ED and ES"
            )
        else:
            place = int(number) - first
        if not 0 <= place < counts[view]:
            raise CinemaError(f"the landmark {name} is of frame {frame}, but {view} has {counts[view]} frames")
        out.append((view, place, name, x, y))
    return out
