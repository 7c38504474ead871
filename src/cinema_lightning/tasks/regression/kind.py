"""What a regression says of its results."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cinema_lightning.errors import CinemaError
from cinema_lightning.results.headline import Facts
from cinema_lightning.results.kind import KINDS, Kind
from cinema_lightning.tasks.regression import figures, pictures

if TYPE_CHECKING:
    from cinema_lightning.weights.published import PublishedFile


def _columns(facts: Facts) -> tuple[str, ...]:
    del facts
    return ("true", "predicted")


def _published(file: PublishedFile) -> dict[str, Any]:
    facts = file.facts
    if "mean" not in facts:
        raise CinemaError(f"{file.path} does not say the mean and SD of its target; put its config.yaml beside it.")
    file.check_outputs(1, "a regression has one")
    target, own = file.option("target", "lv_ef"), str(facts["target"])
    if own not in (target, target.removeprefix("lv_")):  # the published column of the ejection fraction is ef
        raise CinemaError(
            f"{file.path} holds a network for {own}, but data.target is {target}: give the configuration of the task "
            "that it was trained for."
        )
    # what that column held is not known (the figures are too low for LVEF), so it is nobody's lv_ef
    return {"target": own if own == "ef" else target, "mean": facts["mean"], "std": facts["std"]}


KINDS.add(
    "regression",
    Kind(
        figures.headlines,
        columns=_columns,
        pairs=figures.pairs,
        pictures=(pictures.target,),
        published=_published,
    ),
)
