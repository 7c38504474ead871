"""Who trains, who validates, who tests: by subject, and by a hash of the seed and the subject's name."""

from __future__ import annotations

import hashlib
import re
import warnings
from collections.abc import Sequence

import numpy as np

from cinema_lightning.data.table import SPLITS, Cohort, Split, text_of
from cinema_lightning.errors import CinemaError


def split_rows(cohort: Cohort, val_fraction: float, seed: int, test_fraction: float = 0.0) -> dict[Split, np.ndarray]:
    """Splits a cohort by subject, so that all studies of a person are on one side.

    Where the table's split column names both train and val rows, it is followed, and rows without a split are left
    out. Otherwise the rows that are not test rows are divided: the subjects are ranked by a hash of seed and name, and
    the first ``val_fraction`` of them validate. A subject's rank does not depend on who else is in the table. Where no
    row is a test row either, ``test_fraction`` of the subjects are taken for testing before, in the same way.

    Args:
        cohort: The cohort.
        val_fraction: Share of the subjects that validate, 0 to below 1; at least one if it is not 0 and there are two.
        seed: The run's seed.
        test_fraction: Share of the subjects that test, 0 to below 1, in a table that names no test rows.

    Returns:
        Row numbers, in the order of the table, under train, val and test.

    Raises:
        CinemaError: If a subject is on two sides in the table, or the fraction is out of range.
    """
    if not 0 <= val_fraction < 1:
        raise CinemaError(f"val_fraction is {val_fraction}; it is a share of the subjects, from 0 to below 1.")
    if not 0 <= test_fraction < 1:
        raise CinemaError(f"test_fraction is {test_fraction}; it is a share of the subjects, from 0 to below 1.")
    given = cohort.table["split"].to_numpy(dtype=str)
    if (given == "train").any() and (given == "val").any():
        _check_leaks(cohort, given, (("train", "val"), ("train", "test"), ("val", "test")))
        if (unassigned := int((given == "").sum())) > 0:
            warnings.warn(f"{cohort.source}: {unassigned} rows without a split are left out.", stacklevel=2)
        return {split: np.flatnonzero(given == split) for split in SPLITS}
    _check_leaks(cohort, given, (("train", "test"), ("val", "test"), ("", "test")))  # all but the tests are divided
    rest, tests = np.flatnonzero(given != "test"), np.flatnonzero(given == "test")
    if test_fraction > 0 and not len(tests):
        rest, tests = _set_aside(cohort, rest, test_fraction, seed, "test")
    rest, validates = _set_aside(cohort, rest, val_fraction, seed, "split")
    return {"train": rest, "val": validates, "test": tests}


def parse_fold(text: str) -> tuple[int, int]:
    """The fold that validates, from 1, and their number: of ``2/5``.

    Raises:
        CinemaError: If it is something else.
    """
    match = re.fullmatch(r"\s*(\d+)\s*/\s*(\d+)\s*", str(text))
    fold, count = (int(match[1]), int(match[2])) if match else (0, 0)
    if not 1 <= fold <= count or count < 2:
        raise CinemaError(f"data.fold is {text}; give the fold that validates and their number, from 1, such as 2/5.")
    return fold, count


def fold_rows(
    cohort: Cohort, fold: str, seed: int, test_fraction: float = 0.0, strata: np.ndarray | None = None
) -> dict[Split, np.ndarray]:
    """Splits a cohort for cross-validation: one fold of the subjects validates, the others train.

    Divided are the subjects of the table's train and val rows together; those that test do so in every fold. Subjects
    are ranked by a hash of seed and name and dealt out stratum by stratum, so that folds differ by one subject at most,
    in all and of each stratum.

    Args:
        cohort: The cohort.
        fold: Such as ``2/5``.
        seed: The run's seed.
        test_fraction: See :func:`split_rows`.
        strata: (n,) stratum of each row; a subject belongs to that of its first row.

    Returns:
        Row numbers, in the order of the table, under train, val and test.

    Raises:
        CinemaError: If the fold cannot be, or there are fewer subjects than folds.
    """
    number, count = parse_fold(fold)
    split = split_rows(cohort, 0.0, seed, test_fraction)
    rows = np.sort(np.concatenate([split["train"], split["val"]]))
    unique, first, inverse = np.unique(
        cohort.table["subject"].to_numpy(dtype=str)[rows], return_index=True, return_inverse=True
    )
    if len(unique) < count:
        raise CinemaError(f"{cohort.source} has {len(unique)} subjects to divide, too few for {count} folds.")
    group = np.zeros(len(unique), dtype=int) if strata is None else np.asarray(strata)[rows[first]]
    ranking = _ranking(unique, seed, "fold")
    dealt = ranking[np.argsort(group[ranking], kind="stable")]
    place = np.empty(len(unique), dtype=int)
    place[dealt] = np.arange(len(unique)) % count
    validates = place[inverse] == number - 1
    return {"train": rows[~validates], "val": rows[validates], "test": split["test"]}


def _set_aside(
    cohort: Cohort, rows: np.ndarray, fraction: float, seed: int, purpose: str
) -> tuple[np.ndarray, np.ndarray]:
    """The rows without and of a share of the subjects, at least one subject if the share is not 0 and there are two."""
    unique, inverse = np.unique(cohort.table["subject"].to_numpy(dtype=str)[rows], return_inverse=True)
    count = round(fraction * len(unique))
    if fraction > 0 and len(unique) > 1:
        count = min(max(count, 1), len(unique) - 1)
    chosen = np.zeros(len(unique), dtype=bool)
    chosen[_ranking(unique, seed, purpose)[:count]] = True
    return rows[~chosen[inverse]], rows[chosen[inverse]]


def limit_subjects(cohort: Cohort, rows: np.ndarray, limit: int, seed: int) -> np.ndarray:
    """Keeps the rows of ``limit`` subjects drawn with the seed; a larger limit keeps the subjects of a smaller one.

    Args:
        cohort: The cohort.
        rows: Row numbers.
        limit: How many subjects.
        seed: The run's seed.

    Returns:
        Row numbers, in the same order.
    """
    unique, inverse = np.unique(cohort.table["subject"].to_numpy(dtype=str)[rows], return_inverse=True)
    kept = np.zeros(len(unique), dtype=bool)
    kept[_ranking(unique, seed, "limit")[:limit]] = True
    return rows[kept[inverse]]


def fraction_of_subjects(
    cohort: Cohort, rows: np.ndarray, fraction: float, seed: int, strata: np.ndarray | None = None
) -> np.ndarray:
    """Keeps the rows of ``int(fraction * n)`` of n subjects, at least one; a larger fraction keeps those of a smaller.

    Subjects of a stratum are ranked by a hash of seed and name. The first of each stratum come before all others, and
    then the strata take turns in proportion to their sizes, so that any fraction has them in nearly the same shares.

    Args:
        cohort: The cohort.
        rows: Row numbers.
        fraction: Above 0, up to 1.
        seed: The run's seed.
        strata: (n,) stratum of each row of the cohort; a subject belongs to that of its first row.

    Returns:
        Row numbers, in the same order.

    Raises:
        CinemaError: If the fraction is out of range.
    """
    if not 0 < fraction <= 1:
        raise CinemaError(f"fraction is {fraction}; it is a share of the training subjects, above 0 and up to 1.")
    if fraction == 1 or len(rows) == 0:
        return rows
    unique, first, inverse = np.unique(
        cohort.table["subject"].to_numpy(dtype=str)[rows], return_index=True, return_inverse=True
    )
    group = np.zeros(len(unique), dtype=int) if strata is None else np.asarray(strata)[rows[first]]
    ranking = _ranking(unique, seed, "fraction")
    turn = np.empty((len(unique), 2))
    for stratum in np.unique(group):
        members = ranking[group[ranking] == stratum]
        place = np.arange(len(members))
        turn[members, 0] = np.where(place == 0, 0, (place + 0.5) / len(members))
        turn[members, 1] = -len(members)
    # Of equal turns the larger stratum comes first. Rounded up by a hair, since 0.29 * 100 is 28.999...
    order = np.lexsort((np.argsort(ranking), turn[:, 1], turn[:, 0]))
    kept = np.zeros(len(unique), dtype=bool)
    kept[order[: max(int(fraction * len(unique) + 1e-9), 1)]] = True
    return rows[kept[inverse]]


def strata_of(cohort: Cohort, column: str) -> np.ndarray:
    """(n,) number of each row's cell in a column, equal cells alike; -1 where it is empty."""
    cells = np.array([text_of(cell) or "" for cell in cohort.table[column].tolist()], dtype=str)
    return np.searchsorted(np.unique(cells[cells != ""]), cells) - (cells == "")


def _ranking(subjects: np.ndarray, seed: int, purpose: str) -> np.ndarray:
    """Order of the subjects by a hash: one blake2b each, as a generator each would take seconds for 75,000."""
    key = f"{purpose}:{seed}:"
    digests = [hashlib.blake2b((key + subject).encode(), digest_size=8).digest() for subject in subjects.tolist()]
    return np.argsort(np.frombuffer(b"".join(digests), dtype=">u8"), kind="stable")


def _check_leaks(cohort: Cohort, given: np.ndarray, apart: Sequence[tuple[str, str]]) -> None:
    subjects = cohort.table["subject"].to_numpy(dtype=str)
    for one, other in apart:
        shared = np.intersect1d(subjects[given == one], subjects[given == other])
        if len(shared):
            where = f"in {one}" if one else "without a split"
            raise CinemaError(
                f"{cohort.source}: subject '{shared[0]}' has rows {where} and in {other}; give all rows of a subject "
                "the same split."
            )
