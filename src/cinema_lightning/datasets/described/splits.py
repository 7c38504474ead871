"""Who trains, validates and tests, as a description says: by person, whatever it says."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from cinema_lightning.datasets.described.description import SPLITS, SplitRule
from cinema_lightning.errors import CinemaError

SHOWN = 3


def assign(rule: SplitRule, people: Mapping[str, str], words: Mapping[str, str], source: str) -> dict[str, str]:
    """The split of each study.

    Args:
        rule: What the description says.
        people: Id -> subject.
        words: Id -> what a table's column or ``{split}`` in the pattern says.
        source: The description, for messages.

    Returns:
        Id -> train, val, test, or empty where nothing is said of it.

    Raises:
        CinemaError: If a word means no split, a list names nobody, or a person would be in two splits.
    """
    if rule.lists:
        found = _listed(rule.lists, people, source)
    elif rule.shares or rule.folds:
        order = _drawn(set(people.values()), rule.seed)
        drawn = _shared(order, rule.shares) if rule.shares else _folded(order, rule.folds, rule.fold)
        found = {study: drawn[subject] for study, subject in people.items()}
    else:
        found = {study: _meant(rule, words.get(study, ""), study, source) for study in people}
    check_subjects(found, people, source)
    return found


def check_subjects(found: Mapping[str, str], people: Mapping[str, str], source: str) -> None:
    """Refuses a person in two splits; CinemaError."""
    splits: dict[str, dict[str, str]] = defaultdict(dict)
    for study, split in found.items():
        splits[people[study]].setdefault(split, study)
    for subject, studies in splits.items():
        if len(studies) > 1:
            (one, first), (two, second) = list(studies.items())[:2]
            raise CinemaError(
                f"{source}: splits put subject '{subject}' into {one or 'none'} ({first}) and {two or 'none'} "
                f"({second}); all studies of a person need the same one."
            )


def _meant(rule: SplitRule, word: str, study: str, source: str) -> str:
    meanings = rule.values or {name: name for name in SPLITS}
    if word and word not in meanings:
        raise CinemaError(
            f"{source}: '{word}' of {study} is no split ({', '.join(meanings)}); say what it means with values: "
            f"{{{word}: train}} under splits."
        )
    return meanings.get(word, "")


def _listed(lists: Mapping[str, Sequence[str]], people: Mapping[str, str], source: str) -> dict[str, str]:
    owner: dict[str, str] = {}
    known = {*people, *people.values()}
    for split, names in lists.items():
        for name in names:
            if name not in known:
                raise CinemaError(f"{source}: splits.{split} lists '{name}', which is no study and no subject.")
            if owner.setdefault(name, split) != split:
                raise CinemaError(f"{source}: splits list '{name}' in {owner[name]} and in {split}; keep one.")
    return {study: owner.get(study) or owner.get(subject, "") for study, subject in people.items()}


def _drawn(subjects: Iterable[str], seed: int) -> list[str]:
    """Subjects in the order of a hash, which does not depend on who else is there."""
    return sorted(subjects, key=lambda name: hashlib.blake2b(f"split:{seed}:{name}".encode(), digest_size=8).digest())


def _shared(order: Sequence[str], shares: Mapping[str, float]) -> dict[str, str]:
    """Of three subjects or more, at least one for each share that is not 0."""
    counts = {split: round(shares.get(split, 0) * len(order)) for split in ("test", "val")}
    if len(order) > len(counts):
        counts = {split: max(count, shares.get(split, 0) > 0) for split, count in counts.items()}
    names = [split for split, count in counts.items() for _ in range(count)]
    rest = "train" if shares.get("train", 0) > 0 or not names else names[-1]
    return {subject: names[n] if n < len(names) else rest for n, subject in enumerate(order)}


def _folded(order: Sequence[str], folds: int, fold: int) -> dict[str, str]:
    special = {fold: "test", (fold + 1) % folds: "val"}
    return {subject: special.get(n % folds, "train") for n, subject in enumerate(order)}


def unassigned(studies: Sequence[str]) -> str:
    """What is to be said of studies that are in no split; empty where there are none."""
    if not studies:
        return ""
    named = ", ".join(studies[:SHOWN]) + (", ..." if len(studies) > SHOWN else "")
    count, them = ("1 study is", "it") if len(studies) == 1 else (f"{len(studies)} studies are", "them")
    return f"{count} in no split, so that nobody trains or tests on {them}: {named}"
