"""``cinema analyse``: studies in, checked results out."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from tqdm import tqdm

from cinema_lightning.analysis.again import analysed
from cinema_lightning.analysis.archive import archive_objects, write_back
from cinema_lightning.analysis.calibration import beside as calibration_file
from cinema_lightning.analysis.choose import Choice
from cinema_lightning.analysis.corrections import Corrections, read_corrections
from cinema_lightning.analysis.gate import read_limits
from cinema_lightning.analysis.keys import archive_folder, keyed, read_secret, secret_folder
from cinema_lightning.analysis.many import Done, Place, digest_of, places_of
from cinema_lightning.analysis.networks import DEFAULT, Networks, load_networks
from cinema_lightning.analysis.sources import unquoted, writable
from cinema_lightning.analysis.study import analyse_study, corrected_result, read_study
from cinema_lightning.analysis.values import Result, Study
from cinema_lightning.analysis.write import gather, mend, read_record, write_result
from cinema_lightning.errors import CinemaError
from cinema_lightning.listing import list_paths
from cinema_lightning.prepare.runner import stop_on_signals
from cinema_lightning.runs import best_of
from cinema_lightning.shards import Shard

Status = Literal["made", "kept"]


class _NetworkError(CinemaError):
    """No study can be analysed without its network, so that the first one's error ends the run."""


@dataclass
class _Run:
    """What all studies of one call share; networks are loaded when the first study needs them."""

    out: Path
    weights: list[str]
    fast: bool
    choose: Choice | None
    thresholds: Path | None
    corrections: Mapping[str, Corrections]
    secret: bytes
    done: Done
    overwrite: bool
    dicom: bool = False
    dicom_cine: bool = False
    networks: Networks | None = field(default=None)

    @property
    def settings(self) -> list[str]:
        """What a result depends on besides its files."""
        limits = self.thresholds.read_text(encoding="utf-8") if self.thresholds else ""
        archive = ["dicom"] * self.dicom + ["dicom_cine"] * self.dicom_cine
        return [*map(_version, self.weights), str(self.fast), str(self.choose), limits, *archive]

    def key(self, identity: str) -> str:
        return keyed(self.secret, identity)

    def loaded(self) -> Networks:
        if self.networks is None:
            try:
                self.networks = load_networks(self.weights)
            except CinemaError as error:
                raise _NetworkError(str(error)) from None
        return self.networks


def _version(weights: str) -> str:
    """A name of weights with what tells a run that was trained, or calibrated, again."""
    path = Path(weights).expanduser()
    file = path if path.is_file() else best_of([path.parent if path.is_dir() else Path("runs")], path.name)
    files = [] if file is None else [one for one in (file, calibration_file(file)) if one.is_file()]
    return " ".join([weights, *(f"{one} {one.stat().st_size} {one.stat().st_mtime_ns}" for one in files)])


def analyse(
    studies: list[str],
    out: Path,
    weights: list[str] | None = None,
    fast: bool = False,
    shard: str | None = None,
    choose: Choice | None = None,
    corrections: Path | None = None,
    thresholds: Path | None = None,
    dicom: bool = False,
    dicom_cine: bool = False,
    overwrite: bool = False,
) -> int:
    """Sorts, segments, measures and judges studies of cardiac MR. For research, not for diagnosis.

    Run it again after an interruption: studies that are done are kept. What failed is listed in failures.csv and stops
    nothing. Nothing that is written under --out says who a person is; the secret by which studies are named, and the
    list of where each lies, are kept beside it in OUT.private.

    Args:
        studies: Folders or zips of DICOM, NIfTI files or folders of <view>.nii.gz; folders of studies; or text files
            that list them, one path a line.
        out: Folder of the results; made where it is missing.
        weights: Networks: published names, runs or files; several for one view are an ensemble. By default the
            published short axis of M&Ms-2. The option may be given several times.
        fast: Segment 40% of the frames only, around ED and ES; what the others would tell is neither checked nor
            written.
        shard: I/N does the I-th of N parts (I from 1), for N jobs side by side.
        choose: Which of several studies of one person in a folder: latest or earliest.
        corrections: YAML of what a person corrected: edited masks, other series, ED, ES, basal or apical slice. Studies
            are measured again without the network; only those that it names.
        thresholds: YAML of thresholds that differ from the gate's own.
        dicom: Also write masks at ED and ES, and the numbers, as DICOM for the archive, into OUT.dicom. These carry the
            patient's name and numbers; nothing else does.
        dicom_cine: Also write the masks of the whole beat as one DICOM object.
        overwrite: Do again what is done.

    Returns:
        Exit code: 0 when all studies are done, 1 when some failed, 128 + number of the signal that stopped it.

    Raises:
        CinemaError: If nothing can be done, or the only study fails.
    """
    out = out.expanduser()
    places = places_of(studies, out)
    writable(out)
    read_limits(thresholds)  # before any work: a slip in it would fail each study
    named = read_corrections(corrections) if corrections else {}
    part = Shard.parse(shard)
    mine = places[part.index - 1 :: part.count]
    secret = _secret(out)
    done = Done(secret_folder(out))
    run = _Run(
        out, list(weights or [DEFAULT]), fast, choose, thresholds, named, secret, done, overwrite, dicom, dicom_cine
    )
    _check_corrections(run, places)
    failures: dict[str, str | None] = {}
    counts = {"made": 0, "kept": 0}
    with stop_on_signals() as stop, _bar(mine) as bar:
        for place in mine:
            if stop.signal is not None:
                break
            failures[run.key(place.token)] = None
            try:
                counts[_one(run, place)] += 1
            except _NetworkError:
                raise
            except Exception as error:
                reason = _reason(error, place)
                if len(places) == 1:
                    raise CinemaError(f"the study was not analysed: {reason}") from None
                failures[run.key(place.token)] = _failed(run, place, reason)
            bar.update()
    total = gather(out, secret_folder(out), failures)
    if stop.signal is not None:
        print(f"Stopped after {sum(counts.values())} of {len(mine)} studies; the same command goes on from there.")
        return 128 + stop.signal
    failed = sum(reason is not None for reason in failures.values())
    print(_summary(run, counts, failed, total))
    return 1 if failed else 0


def _secret(out: Path) -> bytes:
    """The secret; not a new one where another made the names of results that are there."""
    if not (secret_folder(out) / "secret").exists() and any(read_record(path) for path in list_paths(out)):
        raise CinemaError(
            f"{out} holds results, but {secret_folder(out)}, by whose secret they are named, is missing: bring it "
            "back, or give another --out; else each study would be there under two names."
        )
    return read_secret(out)


def _check_corrections(run: _Run, places: list[Place]) -> None:
    """Corrections name studies that were given and are done."""
    if "" in run.corrections and len(places) > 1:
        raise CinemaError(f"the corrections name no study, and there are {len(places)}: put each one's under its key.")
    known = {run.done.of(place).get("id") for place in places}
    unknown = [key for key in run.corrections if key and key not in known]
    if unknown:
        raise CinemaError(f"the corrections name the study {unknown[0]}, which is none of those that are done here.")


def _bar(mine: list[Place]) -> Any:
    """Studies done, and the time left."""
    return tqdm(total=len(mine), desc="studies", unit="study", file=sys.stderr, disable=None if len(mine) > 1 else True)


def _reason(error: Exception, place: Place) -> str:
    """The sentence of an error, without the study's path; of what nobody foresaw, and may quote a header, its place."""
    if isinstance(error, CinemaError):
        return str(error).replace(str(place.path.resolve()), "the study").replace(str(place.path), "the study")
    if os.environ.get("CINEMA_DEBUG"):
        raise error
    frames = traceback.extract_tb(error.__traceback__)
    last = next((frame for frame in reversed(frames) if "cinema_lightning" in frame.filename), frames[-1])
    where = f"{type(error).__name__} in {Path(last.filename).name}, line {last.lineno}"
    return f"an error that was not foreseen ({where}); CINEMA_DEBUG=1 shows it, and may show who the person is."


def _failed(run: _Run, place: Place, reason: str) -> str:
    """Why a study failed; it is named by the key of its path, which the private list explains."""
    known = run.done.of(place).get("id", "")
    if read_record(run.out / known) is not None:
        reason += f" The result of before, {known}, stays."
    tqdm.write(f"study {place.number} failed: {reason}", file=sys.stderr)
    run.done.note(place, failure=run.key(place.token))
    return reason


def _summary(run: _Run, counts: Mapping[str, int], failed: int, total: int) -> str:
    said = f"{counts['made']} studies analysed, {counts['kept']} kept, {failed} failed."
    if total:
        said += f" Results: {run.out / 'results.csv'} ({total} studies)."
    if failed:
        said += f" What failed and why: {run.out / 'failures.csv'}."
    return said + f" Where each study lies: {run.done.folder} (keep it to yourself)."


def _one(run: _Run, place: Place) -> Status:
    """Analyses one study, unless it is done."""
    files = place.files()
    fingerprint = digest_of([files, *run.settings])
    known = run.done.of(place)
    if known.get("id"):
        mend(run.out, known["id"])
    is_done = known.get("fingerprint") == fingerprint and read_record(run.out / known["id"]) is not None
    if run.corrections and known.get("id", "") not in run.corrections and "" not in run.corrections:
        return "kept"
    if is_done and not run.overwrite and not run.corrections:
        return "kept"
    corrections = run.corrections.get(known.get("id", ""), run.corrections.get(""))
    if not corrections and not run.overwrite:
        _keep_corrected(run.out / known.get("id", ""))
    if corrections and (known.get("files") or files) != files:
        raise CinemaError("its files have changed since it was analysed: run it again without --corrections first.")
    study = read_study(place.path, run.key, run.choose, corrections.series if corrections else None)
    run.done.check(place, study.key)
    with _frames(study, run) as frames:
        result = _result(run, study, corrections, lambda _, count: frames.update(count))
    _to_archive(run, place, result)
    write_result(run.out, result, earlier=tuple(result.segmented) if corrections else ())
    # Corrected, it still counts as made of what the network saw, so that the same command without them keeps it.
    run.done.note(place, id=study.key, **({} if corrections else {"files": files, "fingerprint": fingerprint}))
    return "made"


def _keep_corrected(folder: Path) -> None:
    """Refuses to put what a network says in the place of what a person corrected."""
    record = read_record(folder)
    if record and record["corrections"]:
        raise CinemaError(
            f"it was corrected as {folder.name}, which other files, weights or options would undo: give its "
            "--corrections with them, or --overwrite."
        )


def _frames(study: Study, run: _Run) -> Any:
    """Frames of one study, and the time left for it."""
    masks = run.loaded().masks if not run.corrections else {}
    total = sum(view.n_frames for name, view in study.views.items() if name in masks)
    return tqdm(total=total, desc=study.key, unit="frame", leave=False, file=sys.stderr, disable=None)


def _result(run: _Run, study: Study, corrections: Corrections | None, progress: Any) -> Result:
    if corrections is None:
        return analyse_study(study, run.loaded(), fast=run.fast, thresholds=run.thresholds, progress=progress)
    before = analysed(study, run.out / study.key, corrections, run.loaded, fast=run.fast)
    return corrected_result(before, corrections, run.thresholds)


def _to_archive(run: _Run, place: Place, result: Result) -> None:
    """Writes the DICOM that is asked for; what is there already follows the result."""
    folder = archive_folder(run.out) / result.study.key
    masks = run.dicom or (folder / "ed.dcm").is_file()
    cine = run.dicom_cine or (folder / "cine.dcm").is_file()
    if masks or cine:
        with unquoted():
            write_back(folder, archive_objects(place.path, result, masks=masks, cine=cine))
