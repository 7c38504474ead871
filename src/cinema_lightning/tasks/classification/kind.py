"""What a classification says of its results."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from cinema_lightning.errors import CinemaError
from cinema_lightning.results.folder import refuse, refuse_cells
from cinema_lightning.results.headline import Facts
from cinema_lightning.results.kind import KINDS, Kind
from cinema_lightning.tasks.classification import figures, pictures


def _columns(facts: Facts) -> list[str]:
    return ["true", *[f"prob_{name}" for name in facts["classes"]]]


def _check_facts(facts: Facts, path: Path) -> None:
    if len(facts.get("classes") or []) < 2:
        raise CinemaError(f"{path} lists no classes; give them in the order of the outputs.")


def _check_cases(table: pd.DataFrame, facts: Facts, path: Path) -> None:
    names = table["true"]
    wrong = ~names.isin([*map(str, facts["classes"]), ""])
    refuse(wrong, path, lambda row: f"'{names.iloc[row]}' in column true is none of the classes in test.json")
    for name in _columns(facts)[1:]:
        refuse_cells(table[name].notna() & ~table[name].between(0, 1), table[name], path, "a probability, 0 to 1")


KINDS.add(
    "classification",
    Kind(
        figures.headlines,
        columns=_columns,
        texts=("true", "predicted"),
        check_facts=_check_facts,
        check_cases=_check_cases,
        rows=figures.rows,
        pictures=(pictures.confusion_matrix, pictures.roc, pictures.calibration),
    ),
)
