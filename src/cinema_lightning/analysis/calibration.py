"""``cinema calibrate``: what a test on held-out subjects says of a network's errors, kept beside its weights."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from cinema_lightning.analysis.conformal import QUANTITIES, Scores, calibrate, fewest, group_of, interval, spread_of_ef
from cinema_lightning.analysis.headers import vendor_of
from cinema_lightning.analysis.values import Interval, Result
from cinema_lightning.columns import spread_of
from cinema_lightning.errors import CinemaError
from cinema_lightning.files import replacing
from cinema_lightning.metrics.function import myocardial_mass

By = Literal["none", "vendor", "ef"]
ENDING = ".calibration.json"
DIGEST = re.compile(r"[0-9a-f]{16}")
RANGES = {"age": "years", "field_strength": "T", "spacing_z": "mm between slices"}
# How far outside the calibration's range a number may lie.
MARGIN = {"age": 5.0, "field_strength": 0.2, "spacing_z": 1.0}


@dataclass(frozen=True)
class Calibration:
    """Errors of a network, or an ensemble, on subjects that neither trained nor chose it.

    Attributes:
        name: Dataset and number of subjects.
        digests: First 16 digits of the SHA-256 of the weights' files, sorted.
        by: What groups are made of.
        scores: Quantity -> scores.
        vendors: Vendors of its subjects; empty where unknown.
        ranges: Age, field strength, slice distance -> smallest and largest of its subjects, where known.
    """

    name: str
    digests: tuple[str, ...]
    by: By
    scores: Mapping[str, Scores]
    vendors: tuple[str, ...] = ()
    ranges: Mapping[str, tuple[float, float]] | None = None


def calibrate_command(
    results: str, checkpoint: list[str] | None = None, by: By = "none", out: Path | None = None
) -> None:
    """Makes calibrated intervals possible: keeps the errors of a test beside the weights that were tested.

    The subjects of the test must have had no part in training or choosing the network. ``cinema analyse`` finds the
    file beside the weights and gives intervals; outside of the test's vendors, field strengths, slice distances and
    ages it says that they are not valid.

    Args:
        results: Folder of the results of `cinema test`: runs/<run>/<version>/test/<dataset>.
        checkpoint: The weights that were tested, all of an ensemble; found in the run's folder where not given.
        by: Also intervals of their own for each vendor, or band of EF, with enough subjects.
        out: The file to write; by default beside the first checkpoint.
    """
    folder = Path(results).expanduser()
    made, files = calibration_of(folder, [Path(path).expanduser() for path in checkpoint or []], by)
    place = out or beside(files[0])
    with replacing(place) as temporary:
        temporary.write_text(json.dumps(asdict(made), indent=1) + "\n", encoding="utf-8")
    counts = ", ".join(f"{name} {len(scores.all)}" for name, scores in made.scores.items())
    print(f"Written: {place} (subjects: {counts}). `cinema analyse --weights {files[0]}` now gives intervals.")


def beside(weights: Path) -> Path:
    """Where the calibration of weights lies."""
    return weights.with_name(weights.name + ENDING)


def calibration_of(folder: Path, checkpoints: Sequence[Path], by: By) -> tuple[Calibration, list[Path]]:
    """Reads a test.

    Args:
        folder: Its folder.
        checkpoints: The weights; empty finds them in the run's folder.
        by: See :class:`Calibration`.

    Returns:
        The calibration, and the files of the weights.

    Raises:
        CinemaError: If it is no test of a segmentation, has too few subjects, is of other weights than given, or they
            are not found.
    """
    from cinema_lightning.results.folder import read_results
    from cinema_lightning.results.kind import KINDS

    KINDS.load()
    found = read_results(folder)
    if found.function is None or "lv_edv_pred" not in found.function:
        raise CinemaError(f"{folder} has no function.csv with volumes: calibrate a test of a short-axis segmentation.")
    files = _weights(folder, found.facts, checkpoints)
    table = found.function.drop_duplicates("subject")
    scores = {name: made for name in QUANTITIES if (made := _scores(name, table, found.cases, by)) is not None}
    if not scores:
        raise CinemaError(
            f"{folder} has too few subjects with true values: intervals of 90% need {fewest(0.9)} for each number."
        )
    name = f"{found.facts.get('dataset')}, {table['subject'].nunique()} subjects"
    vendors = sorted({_vendor(cell) for cell in _known(table, "vendor")})
    return Calibration(name, tuple(sorted(map(_digest, files))), by, scores, tuple(vendors), _ranges(table)), files


def _weights(folder: Path, facts: Mapping[str, Any], given: Sequence[Path]) -> list[Path]:
    """The files that were tested, all of an ensemble; their digests have to be those that the test noted."""
    if facts.get("tta", "none") != "none":
        raise CinemaError(
            f"{folder} is a test on turned images too (tta: {facts['tta']}), which an analysis does not look at: test "
            "again without tta."
        )
    noted = [str(facts.get("checkpoint_digest")), *map(str, facts.get("other_checkpoints", ()))]
    wanted = {text.rpartition(":")[2] for text in noted if DIGEST.fullmatch(text.rpartition(":")[2])}
    run = folder.resolve().parent.parent
    own = {_digest(path): path for path in sorted(run.glob("checkpoints/*.ckpt"), reverse=True)} if not given else {}
    files = list(given) or [path for digest, path in own.items() if digest in wanted]
    for path in files:
        if not path.is_file():
            raise CinemaError(f"There is no {path}: give the weights that were tested with --checkpoint.")
    if not files or (wanted and {_digest(path) for path in files} != wanted):
        which = f"it was made by {len(wanted)} files together" if len(wanted) > 1 else "the file of now is another one"
        raise CinemaError(f"{folder} was not made by the weights given or found: {which}; name all with --checkpoint.")
    return files


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def _vendor(cell: Any) -> str:
    """A vendor as analyses call it, however a table writes it."""
    text = "" if str(cell) == "nan" else str(cell)
    return vendor_of(text) or text


def _known(table: pd.DataFrame, name: str) -> list[Any]:
    return [] if name not in table else [cell for cell in table[name].tolist() if str(cell) not in ("", "nan")]


def _ranges(table: pd.DataFrame) -> dict[str, tuple[float, float]]:
    columns = {"age": "age", "field_strength": "field_strength", "spacing_z": "orig_sax_spacing_z"}
    known = {name: pd.to_numeric(pd.Series(_known(table, column)), errors="coerce") for name, column in columns.items()}
    return {name: (float(cells.min()), float(cells.max())) for name, cells in known.items() if cells.notna().any()}


def _scores(name: str, table: pd.DataFrame, cases: pd.DataFrame, by: By) -> Scores | None:
    if f"{name}_true" not in table or f"{name}_pred" not in table:
        return None
    rows = [{str(key): cell for key, cell in row.items()} for row in table.to_dict("records")]
    rows = [{**row, "vendor": _vendor(row.get("vendor", ""))} for row in rows]
    groups = [group_of(by, row, row.get("lv_ef_pred")) or "" for row in rows]
    sds = [_sd(name, row, cases) for row in rows]
    made = calibrate(table[f"{name}_true"].tolist(), table[f"{name}_pred"].tolist(), sds, groups)
    return made if len(made.all) >= fewest(0.9) else None


def _sd(name: str, row: Mapping[str, Any], cases: pd.DataFrame) -> float:
    """Standard deviation of a study's number over the networks, from those of its frames."""
    mine = cases[cases["id"] == row["id"]]

    def at(structure: str, phase: str) -> float:
        column, frame = spread_of(f"{structure}_volume_pred"), row.get(f"{phase}_frame_pred")
        if column not in mine or "frame" not in mine or frame is None:
            return float("nan")
        found = mine.loc[mine["frame"] == frame, column]
        return float(found.iloc[0]) if len(found) else float("nan")

    return scale_of(name, at, {key: float(row.get(f"{key}_pred", np.nan)) for key in QUANTITIES})


def scale_of(name: str, at: Any, numbers: Mapping[str, float]) -> float:
    """How far networks differ in a quantity.

    Args:
        name: The quantity.
        at: Takes structure (lv, rv, myocardium) and phase (ed, es) for the standard deviation of its volume, ml.
        numbers: The study's EDV and ESV.

    Returns:
        Standard deviation in the quantity's unit; NaN where it is not known.
    """
    if name.endswith("_ef"):
        side = name[:2]
        return spread_of_ef(numbers[f"{side}_edv"], numbers[f"{side}_esv"], at(side, "ed"), at(side, "es"))
    if name.endswith("_mass"):
        return float(myocardial_mass(at("myocardium", "ed")))
    return float(at(name[:2], name[3:5]))


def read_calibration(path: Path) -> Calibration:
    """Reads what :func:`calibrate_command` wrote.

    Raises:
        CinemaError: If it cannot be read as one.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        scores = {
            name: Scores(one["floor"], tuple(one["all"]), {key: tuple(own) for key, own in one["groups"].items()})
            for name, one in content.pop("scores").items()
        }
        made = Calibration(scores=scores, **content)
        ranges = {name: (float(low), float(high)) for name, (low, high) in (made.ranges or {}).items()}
        return replace(made, digests=tuple(made.digests), vendors=tuple(made.vendors), ranges=ranges)
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        raise CinemaError(f"{path} is no calibration: make it again with `cinema calibrate`, or remove it.") from None


def calibration_beside(weights: Sequence[Path]) -> Calibration | None:
    """The calibration of weights, alone or together; None where there is none, or it is of others.

    Args:
        weights: The files, all of an ensemble.

    Raises:
        CinemaError: See :func:`read_calibration`.
    """
    found = [read_calibration(beside(path)) for path in weights if beside(path).is_file()]
    if not found:
        return None
    digests = tuple(sorted(map(_digest, weights)))
    return next((calibration for calibration in found if calibration.digests == digests), None)


def intervals(result: Result, calibration: Calibration, coverage: float = 0.9) -> tuple[Interval, ...]:
    """Calibrated intervals of a study's numbers.

    Args:
        result: The study, with numbers.
        calibration: Of the same weights.
        coverage: Share of subjects whose true value they are to hold.

    Returns:
        One interval for each number that was calibrated.

    Raises:
        CinemaError: If there are too few calibration subjects for the coverage.
    """
    numbers, found = result.measured.numbers, result.segmented.get("sax")
    if found is None:
        return ()
    spread, phases = found.spread or {}, found.phases

    def at(structure: str, phase: str) -> float:
        own = phases.get("rv" if structure == "rv" else "lv")
        return float(spread[structure][getattr(own, phase)]) if own and structure in spread else float("nan")

    known = {name: float(value) for name, value in numbers.items() if value is not None}
    facts = _facts(result)
    outside, unknown = _outside(facts, calibration), _unknown(facts, calibration)
    remark = f" Not valid here: {outside}." if outside else ""
    remark += f" Not known here, so not compared: {unknown}." if unknown else ""
    group = group_of(calibration.by, {"vendor": result.study.scanner.vendor}, known.get("lv_ef"))
    out = []
    for name, scores in calibration.scores.items():
        if name in known:
            low, high, own = interval(name, known[name], scale_of(name, at, known), scores, coverage, group)
            whom = f"{calibration.name}, of which {group}" if own and group else calibration.name
            out.append(Interval(name, low, high, coverage, not outside, f"Calibrated on {whom}.{remark}"))
    return tuple(out)


def _facts(result: Result) -> dict[str, Any]:
    """What of a study is compared with the calibration subjects; None or empty where unknown."""
    study = result.study
    spacing = study.views["sax"].spacing[2] if "sax" in study.views else None
    return {
        "vendor": study.scanner.vendor,
        "age": study.person.age,
        "field_strength": study.scanner.field_strength,
        "spacing_z": spacing,
    }


def _outside(facts: dict[str, Any], calibration: Calibration) -> str:
    """In what a study differs from all calibration subjects, where both are known."""
    said, vendor = [], facts["vendor"]
    if vendor and calibration.vendors and vendor not in calibration.vendors:
        said.append(f"the scanner is of {vendor}, those were of {' and '.join(calibration.vendors)}")
    for name, (low, high) in (calibration.ranges or {}).items():
        value = facts.get(name)
        if value is not None and not low - MARGIN[name] <= value <= high + MARGIN[name]:
            said.append(f"its {_words(name)} of {value:g} {RANGES[name]} is outside {low:g} to {high:g}")
    return "; ".join(said)


def _unknown(facts: dict[str, Any], calibration: Calibration) -> str:
    """What is known of the calibration subjects, but not of a study."""
    names = [*(["vendor"] if calibration.vendors else []), *(calibration.ranges or {})]
    return " and ".join(_words(name) for name in names if facts.get(name) in (None, ""))


def _words(name: str) -> str:
    return name.replace("_z", "").replace("_", " ")
