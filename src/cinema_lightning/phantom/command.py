"""``cinema phantom``: beating hearts with known truth."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

from cinema_lightning.errors import CinemaError


def phantom(
    subjects: int = 24,
    out: Path = Path("phantom"),
    seed: int = 0,
    size: Literal["full", "small"] = "full",
    frames: int | None = None,
    workers: int = 1,
    missing_views: float = 0.0,
    picture: Path | None = None,
    shard: str | None = None,
    overwrite: bool = False,
) -> None:
    """Makes beating hearts with known truth, as prepared data: a store, a cohort table and landmarks.

    A second run makes only what is missing. The same seed gives the same bytes, whatever the number of subjects,
    workers or shards.

    Args:
        subjects: Number of subjects.
        out: Folder of the store; made where it is missing.
        seed: Seed of everything.
        size: full is 192 x 192 short axis at 1 x 1 x 10 mm and 256 x 256 long axis at 1 mm; small is 64 x 64 x 6 at
            3 mm and 64 x 64 at 4 mm, for tests.
        frames: Frames over the cardiac cycle; 50 for full and 8 for small if not given.
        workers: Processes that work in parallel.
        missing_views: Chance of each view to be missing, 0 to below 1.
        picture: Draw all views at ED and ES with contours into this PNG file instead of making a cohort.
        shard: I/N makes only part I (from 1) of N; the part that is ready last puts the table together.
        overwrite: Start anew in a folder that holds other phantoms.

    Raises:
        CinemaError: If an option has an impossible value, the folder holds something else, or the disk is full.
    """
    _check(subjects, workers, missing_views, frames)
    part = _parse_shard(shard)
    if picture is not None:
        from cinema_lightning.phantom.picture import draw_picture

        draw_picture(Path(picture), seed)
        return
    from cinema_lightning.phantom.cohort import Settings, claim, is_complete, make_cohort, write_tables

    settings = Settings(seed, size, frames or (50 if size == "full" else 8), missing_views)
    root = Path(out)
    if overwrite and part is not None:
        raise CinemaError("--overwrite with --shard would delete what the other parts make; empty the folder first.")
    claim(root, settings, overwrite)
    everyone = list(range(subjects))
    if part is None:
        make_cohort(root, everyone, settings, workers)
        write_tables(root, everyone)
        return
    number, total = part
    mine = everyone[number - 1 :: total]
    make_cohort(root, mine, settings, workers)
    write_tables(root, mine, f".{number}-of-{total}")
    # Looking at the subjects rather than at the other parts' tables: two parts that end together write the same table.
    if all(is_complete(root, index) for index in everyone):
        write_tables(root, everyone)


def _check(subjects: int, workers: int, missing_views: float, frames: int | None) -> None:
    if subjects < 1:
        raise CinemaError(f"--subjects must be at least 1, not {subjects}.")
    if workers < 1:
        raise CinemaError(f"--workers must be at least 1, not {workers}.")
    if not 0 <= missing_views < 1:
        raise CinemaError(f"--missing_views is a chance from 0 to below 1, not {missing_views}.")
    if frames is not None and frames < 1:
        raise CinemaError(f"--frames must be at least 1, not {frames}.")


def _parse_shard(shard: str | None) -> tuple[int, int] | None:
    if shard is None:
        return None
    match = re.fullmatch(r"(\d+)/(\d+)", shard)
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise CinemaError(f"--shard is I/N with I from 1 to N, such as 2/8, not '{shard}'.")
    return int(match[1]), int(match[2])
