"""What a published file of a regression says of its output."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cinema_lightning.errors import CinemaError
from cinema_lightning.weights.kinds import PUBLISHED, Plain, PublishedKind

KNOWN = {
    ("regression_ef", "acdc"): ("ef", 27.698811590282546, 10.848138374627386),
    ("regression_ef", "mnms"): ("ef", 39.75061820807878, 9.459011847661206),
    ("regression_ef", "mnms2"): ("ef", 37.97920801605608, 10.328604573626588),
    ("regression_bmi", "acdc"): ("bmi", 25.561040294207242, 4.732639548868183),
    ("regression_age", "mnms"): ("age", 52.026666666666664, 18.760570771166726),
}
EF_CAUTION = (
    "The published EF heads were trained on a column 'ef' whose mean is too low for a left-ventricular ejection "
    "fraction; do not report their output as LV EF."
)


def _write(spec: Plain) -> dict[str, Any]:
    statistics = {"mean": float(spec["mean"]), "std": float(spec["std"])}
    return {"regression_column": spec["target"], spec["target"]: statistics}


def _read(data: Plain, path: Path) -> dict[str, Any]:
    column = data.get("regression_column")
    statistics = data.get(column) if column else None
    if not isinstance(statistics, dict):
        return {}
    try:
        mean, std = float(statistics["mean"]), float(statistics["std"])
    except (KeyError, TypeError, ValueError) as error:
        raise CinemaError(f"{path} gives no mean and std under data.{column}; fetch it again.") from error
    return {"target": str(column), "mean": mean, "std": std}


PUBLISHED.add(
    "regression",
    PublishedKind(
        write=_write,
        read=_read,
        known={place: dict(zip(("target", "mean", "std"), said, strict=True)) for place, said in KNOWN.items()},
        caution=lambda facts: EF_CAUTION if facts.get("target") == "ef" else "",
    ),
)
