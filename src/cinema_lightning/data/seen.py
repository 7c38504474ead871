"""Who a network has seen: those that it was trained on, and those that chose its weights, are no test of it.

A checkpoint keeps digests of their names, since the table that says who trains may be another one later.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cinema_lightning.data.facts import is_of_phantoms
from cinema_lightning.data.open import Opened, Spec
from cinema_lightning.data.table import Split
from cinema_lightning.errors import CinemaError

PEOPLE = "people"
"""Key of a data module's state in a checkpoint."""
_LENGTH = 12
_JUDGED_BY: dict[Split, tuple[Split, ...]] = {"test": ("train", "val"), "val": ("train",), "train": ()}
"""Split that is judged -> splits of the training whose people must not be in it."""


def people_of(opened: Opened) -> dict[str, str]:
    """Who trains and validates, as a checkpoint keeps it.

    Args:
        opened: The cohort.

    Returns:
        Split -> digests of the subjects whose samples are used, one after the other; and a digest of the folder.
    """
    found = {split: "".join(sorted(map(_digest, _subjects(opened, split)))) for split in ("train", "val")}
    return found | {"root": _folder(opened)}


def check_unseen(data: Any, networks: Mapping[str, tuple[Spec, Mapping[str, Any]]], stage: str) -> None:
    """Refuses to judge a network on people that it was trained on, whatever the table says of them by now.

    Args:
        data: The data module, see :class:`~cinema_lightning.data.labelled.LabelledData`.
        networks: Name of a file -> what its network was trained with, and the state of the data module, which holds
            what :func:`people_of` gave, unless it is of before that was kept.
        stage: validate, test or another, in which nobody is judged.

    Raises:
        CinemaError: Names the split, the first of these people, and the file.
    """
    for name, (spec, state) in networks.items():
        people = state.get(PEOPLE, {})
        for split in data.judged(stage) if people and _are_the_same(data, spec, people) else ():
            seen = {one for before in _JUDGED_BY[split] for one in _digests(people[before])}
            again = [one for one in _subjects(data.opened, split) if _digest(one) in seen]
            if again:
                raise CinemaError(
                    f"{data.opened.cohort.source}: {_counted(len(again), split)} ('{again[0]}'"
                    f"{', ...' if len(again) > 1 else ''}) trained the network in {name} or chose its weights, because "
                    "the splits are not those of its training, and its figures would be too good: test with the "
                    "splits that it was trained with, train anew, or, if these are other people, give their dataset "
                    "another name."
                )


def _counted(count: int, split: str) -> str:
    return f"1 {split} subject" if count == 1 else f"{count} {split} subjects"


def _are_the_same(data: Any, spec: Spec, people: Mapping[str, str]) -> bool:
    """Whether equal names are one person: phantoms have the names of patients, and of the phantoms of other folders."""
    phantoms = spec.get("phantoms") or is_of_phantoms(data.options.root)
    return spec.get("dataset") == data.facts.name and not (phantoms and people.get("root") != _folder(data.opened))


def _subjects(opened: Opened, split: Split) -> list[str]:
    names: list[str] = np.unique(opened.cohort.table["subject"].to_numpy(dtype=str)[opened.rows[split]]).tolist()
    return names


def _folder(opened: Opened) -> str:
    return _digest(str(Path(opened.options.root).resolve()))


def _digest(name: str) -> str:
    return hashlib.blake2b(name.encode(), digest_size=_LENGTH // 2).hexdigest()


def _digests(text: str) -> Iterable[str]:
    return (text[start : start + _LENGTH] for start in range(0, len(text), _LENGTH))


def check_held_out(data: Any, specs: Mapping[str, Spec], stage: str) -> None:
    """Leaves out of a test the splits on which one of several networks was trained, as that of another fold was.

    Args:
        data: The data module, see :class:`~cinema_lightning.data.labelled.LabelledData`; ``test_splits`` is changed.
        specs: What each network was trained with, by the name of its file.
        stage: test or predict.

    Raises:
        CinemaError: If no split is left.
    """
    if len(specs) == 1:
        return
    studies = {name: data.open(spec, predict=True).studies for name, spec in specs.items()}
    first = next(iter(studies.values()))
    wanted = data.test_splits if stage == "test" else [split for split in (data.predict_split,) if split != "all"]
    trained = {name: set(rows["train"].tolist()) for name, rows in studies.items()}
    guilty = {
        split: next(
            (name for name, rows in trained.items() if split != "train" and rows & set(first[split].tolist())), ""
        )
        for split in wanted
    }
    kept = tuple(split for split in wanted if not guilty[split])
    if wanted and not kept:
        split = wanted[-1]
        raise CinemaError(
            f"{guilty[split]} was trained on {split} studies of the first network, whose figures would be too good: "
            "average networks of the same split, ask each fold's network alone, or test on a table that names its test "
            "rows."
        )
    if stage == "test":
        data.test_splits = kept
