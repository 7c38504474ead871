"""``cinema prepare``: from what a provider ships to the store and its table."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from cinema_lightning.datasets.base import DATASETS, CaseRef, Dataset
from cinema_lightning.datasets.described.guess import write_guess
from cinema_lightning.datasets.described.stored import check_store, described, is_description, keep
from cinema_lightning.datasets.published_layout import fetched, layout_of
from cinema_lightning.errors import CinemaError
from cinema_lightning.imaging.nifti import Geometry
from cinema_lightning.paths import expanded
from cinema_lightning.prepare.failures import Problem
from cinema_lightning.prepare.record import note_phantoms, recorded_size
from cinema_lightning.prepare.runner import Outcome, Plan, run, stop_on_signals
from cinema_lightning.prepare.scratch import scratch_of
from cinema_lightning.prepare.size import Size
from cinema_lightning.prepare.tables import collect, merge_parts, write_tables
from cinema_lightning.shards import Shard


def prepare(
    dataset: str = "",
    raw: Path | None = None,
    out: Path | None = None,
    workers: int = 1,
    shard: str | None = None,
    strict: bool = False,
    outcomes: Path | None = None,
    size: Size = "full",
    geometry: Geometry = "refuse",
    view: str | None = None,
    phases: list[str] | None = None,
    guess: Path | None = None,
) -> int:
    """Turns a downloaded dataset, or own data by a description, into the store and its table (cohort.csv).

    Run it again after an interruption or a repair: only studies that are missing or whose files changed are prepared.
    What cannot be prepared is listed in failures.csv and does not stop the rest; what was repaired or left out on the
    way is listed in warnings.csv.

    Args:
        dataset: Which dataset: acdc, mnms, mnms2, kaggle, rescan, landmark, emidec, myops or ukb; or the path of a
            description of own data: a YAML (docs/own_data.md), nnU-Net's dataset.json or a MONAI datalist.
        raw: Folder that holds the dataset as its provider ships it, or as the published CineMA code preprocessed it;
            that may also be a data set on the Hugging Face hub, such as mathpluscode/ACDC. Of own data the
            description's folder where it is not given.
        out: Folder of the store; made where it is missing.
        workers: Processes that prepare studies side by side. One works without a second process; with two or more, a
            study that uses up the memory fails alone.
        shard: I/N prepares the I-th of N parts (I from 1), for N jobs side by side; the last one joins the tables.
        strict: Stop at the first study that cannot be prepared.
        outcomes: UK Biobank only: CSV of outcomes and covariates by EID.
        size: full is as published; small, for quick trials, makes pictures of 64 x 64 pixels (SAX voxels 3 times as
            long in plane, long-axis voxels 4 times, slices as they are). A store has one size.
        geometry: What to believe where the sform and the pixdim of a NIfTI header name different voxel sizes: sform
            (as nibabel does), pixdim (as SimpleITK and the published code do), or neither: refuse fails such studies.
        view: Of a JSON, the view of its images: sax (as where it is not given), lax_2c, lax_3c or lax_4c.
        phases: Of a JSON, how file names call ED and ES at their end, such as [ED,ES].
        guess: Looks at a folder and writes a description of what it finds to <its name>.yaml, to be edited; nothing is
            prepared.

    Returns:
        Exit code: 0 when every study is in the store, 1 when some failed, 128 + number of the signal that stopped it.

    Raises:
        CinemaError: If the folder is not the dataset's, nothing can be prepared, the store has another size, or with
            ``strict`` a study failed.
    """
    if guess is not None:
        return write_guess(Path(guess), alone=not (dataset or raw or out))
    reader, raw = _reader(dataset, raw, view, phases or [])
    out = _checked_out(out, workers)
    part = Shard.parse(shard) if shard is not None else None
    found = recorded_size(out)
    if found not in (None, size):
        raise CinemaError(
            f"{out} holds studies that were prepared with --size {found}, and a store has one size: give another --out "
            f"for --size {size}, or delete that folder first."
        )
    check_store(reader, out)
    raw = fetched(raw, reader)
    reader = layout_of(reader, raw)
    cases, notes = _list(reader, raw, outcomes)
    cases = _with_geometry(reader, cases, geometry)
    mine = cases if part is None else cases[part.index - 1 :: part.count]
    label = "" if part is None else f"{part.index}-of-{part.count}"
    began = time.monotonic()
    with scratch_of(out, label) as scratch, stop_on_signals() as stop:
        plan = Plan(reader, out, scratch, size)
        outcomes_by_id = run(plan, mine, workers, stop, strict=strict, title=reader.display)
        if stop.signal is not None:
            print(f"Stopped after {len(outcomes_by_id)} of {len(mine)} studies; the same command goes on from there.")
            return 128 + stop.signal
        failures = sorted(outcome.problem for outcome in outcomes_by_id.values() if outcome.problem is not None)
        ready = [case for case in mine if case.id in outcomes_by_id and outcomes_by_id[case.id].status != "failed"]
        rows, landmarks, warnings = collect(out, ready, reader.column_names)
        if part is None or part.index == 1:
            warnings += notes
        if rows or part is not None:
            keep(reader, out)
            note_phantoms(out, cases)
        write_tables(out, rows, landmarks, failures, sorted(warnings), label)
        if part is not None:
            merge_parts(out, part.count, cases)
    _report(reader, out, outcomes_by_id, failures, len(warnings), label, time.monotonic() - began)
    if strict and failures:
        raise CinemaError(f"{failures[0].id} failed at step '{failures[0].step}': {failures[0].reason}")
    return 1 if failures else 0


def _reader(dataset: str, raw: Path | None, view: str | None, phases: list[str]) -> tuple[Dataset, Path]:
    """The dataset, registered or described, and its raw folder."""
    if not dataset:
        raise CinemaError("name a dataset, or give the path of a description of your own data (docs/own_data.md).")
    if is_description(dataset):
        path = Path(expanded(dataset, "The description"))
        return described(path, view, phases), path.parent if raw is None else Path(raw)
    if view is not None or phases:
        raise CinemaError(f"--view and --phases are for own data listed in a JSON; {dataset} says them itself.")
    if dataset not in DATASETS:
        raise CinemaError(
            f"There is no dataset called '{dataset}'; there are {', '.join(DATASETS)}. Own data is named by the path "
            f"of its description, such as {dataset}.yaml."
        )
    if raw is None:
        raise CinemaError(f"--raw is missing: give the folder that holds {dataset} as downloaded.")
    return DATASETS[dataset], Path(raw)


def _checked_out(out: Path | None, workers: int) -> Path:
    if out is None:
        raise CinemaError("--out is missing: give the folder of the store.")
    if workers < 1:
        raise CinemaError(f"--workers is {workers}; give 1 or more.")
    return Path(out)


def _list(reader: Dataset, raw: Path, outcomes: Path | None) -> tuple[list[CaseRef], list[Problem]]:
    """The studies by id, unusable names and repeated ids marked, and what to know about those left out."""
    cases = reader.cases(raw)
    if not cases:
        raise CinemaError(
            f"{raw} holds no study of {reader.display}: looked for {reader.looked_for}; give that folder with --raw."
        )
    notes = [Problem(case.id, "list", reader.excluded[case.id]) for case in cases if case.id in reader.excluded]
    notes += [Problem("", "list", note) for note in reader.notes(raw)]
    if outcomes is not None:
        cases, unmatched = reader.join_outcomes(cases, Path(outcomes))
        notes += [Problem("", "outcomes", note) for note in unmatched]
    cases = [case for case in cases if case.id not in reader.excluded]
    counts = Counter(case.id for case in cases)
    unique = {case.id: _checked(case, counts[case.id]) for case in cases}
    return [unique[name] for name in sorted(unique)], notes


def _with_geometry(reader: Dataset, cases: list[CaseRef], geometry: Geometry) -> list[CaseRef]:
    """The choice becomes one of the studies' arguments, so that another one prepares them anew."""
    if geometry == "refuse":
        return cases
    if not reader.nifti:
        raise CinemaError(f"{reader.display} is not read from NIfTI files: leave --geometry out.")
    return [replace(case, args={**case.args, "geometry": geometry}) for case in cases]


def _checked(case: CaseRef, count: int) -> CaseRef:
    if count > 1:
        return replace(case, problem=f"the id is listed {count} times; ids must be unique")
    if re.search(r"[/\\\0]", case.id) or case.id.startswith("."):
        return replace(case, problem="the id cannot be the name of a folder")
    return case


def _report(
    reader: Dataset,
    out: Path,
    outcomes: dict[str, Outcome],
    failures: Sequence[Problem],
    warnings: int,
    label: str,
    seconds: float,
) -> None:
    counts = Counter(outcome.status for outcome in outcomes.values())
    suffix = f".{label}.csv" if label else ".csv"
    made = f"{counts['made']} prepared, {counts['kept']} already up to date, {len(failures)} failed"
    table = out / f"cohort{suffix}"
    said = f" Table: {table}." if counts["made"] + counts["kept"] or label else f" {table} is an earlier run's."
    print(f"{reader.display}: {made}, in {seconds:.0f} s." + (said if table.exists() else ""))
    if failures:
        print(f"What failed and why: {out / ('failures' + suffix)}.")
    if warnings:
        print(f"{warnings} warnings: {out / ('warnings' + suffix)}.")
