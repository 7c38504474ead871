"""Ranges of healthy people and z-scores, from ``reference.yaml``; never a grade of severity."""

from __future__ import annotations

import functools
from importlib.resources import files
from typing import Any

import yaml

from cinema_lightning.analysis.values import Measured, Person, Reference

TWO_SIDED_95 = 1.96
SEXES = {"M": "men", "F": "women"}


@functools.cache
def tables() -> tuple[dict[str, Any], ...]:
    """The tables of the package: source, cohort, papillary convention, ages, and values by column and sex."""
    return tuple(yaml.safe_load((files("cinema_lightning.analysis") / "reference.yaml").read_text("utf-8")))


def references(measured: Measured, person: Person) -> tuple[tuple[Reference, ...], str]:
    """Compares numbers with those of healthy people of the same sex and age.

    Args:
        measured: The study's numbers.
        person: Sex and age.

    Returns:
        A range for each number that a table has, and one sentence why there are none or fewer ("" where nothing is to
        be said).
    """
    if person.sex is None or person.age is None:
        missing = " and ".join(name for name in ("sex", "age") if getattr(person, name) is None)
        return (), f"No ranges: the {missing} of the person is not known."
    found, outside = [], []
    for table in tables():
        low, high = table["ages"]
        if person.aged or not low <= person.age <= high:
            outside.append(f"{table['source'].split(',')[0]} ({low} to {high} years)")
            continue
        found += _of_table(table, measured, person.sex)
    said = f"No ranges of {' and '.join(outside)}: the person's age ({person.age_text}) is outside." if outside else ""
    return tuple(found), said


def _of_table(table: dict[str, Any], measured: Measured, sex: str) -> list[Reference]:
    out = []
    for column, by_sex in table["values"].items():
        number, entry = measured.numbers.get(column), by_sex.get(sex)
        if number is None or entry is None:
            continue
        if "mean" in entry:
            mean, sd, how = entry["mean"], entry["sd"], "mean ± 1.96 SD"
            low, high = mean - TWO_SIDED_95 * sd, mean + TWO_SIDED_95 * sd
        else:
            low, high, how = (
                entry["low"],
                entry["high"],
                "2.5th to 97.5th percentile; z is approximate, from these limits",
            )
            mean, sd = (low + high) / 2, (high - low) / (2 * TWO_SIDED_95)
        ages = "{} to {}".format(*table["ages"])
        whom = f"{table['cohort']}, {SEXES[sex]}, {ages} years, papillary muscles {table['papillary']}"
        out.append(
            Reference(column, float(low), float(high), (number - mean) / sd, f"{table['source']}: {whom}; {how}")
        )
    return out
