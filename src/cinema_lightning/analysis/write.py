"""Writes what an analysis found: a folder for each study, whole or not at all, and tables of all that are done."""

from __future__ import annotations

import csv
import json
import os
import shutil
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cinema_lightning.analysis.pictures import grey, overlay, write_cine, write_png
from cinema_lightning.analysis.record import as_record, as_row, series_rows, volume_rows
from cinema_lightning.analysis.report import page
from cinema_lightning.analysis.values import Result
from cinema_lightning.errors import CinemaError
from cinema_lightning.files import lock, replacing

RESULT = "result.json"
UNCORRECTED = "result_network.json"
"""What the network's own result said, beside that of a corrected study."""


def uncorrected(view: str) -> str:
    """Name of the network's own masks of a view, beside those that a person corrected."""
    return f"{view}_network.nii.gz"


def write_result(out: Path, result: Result, earlier: Sequence[str] = ()) -> Path:
    """Writes the folder of one study.

    Args:
        out: The output folder.
        result: The study.
        earlier: Views of a corrected study: the network's own masks and its result are kept.

    Returns:
        Its folder, ``<out>/<key>``; an earlier one is replaced.

    Raises:
        CinemaError: If it cannot be written; an earlier one stays as it was.
    """
    mend(out, result.study.key)
    final = out / result.study.key
    made = out / f".{result.study.key}-{uuid.uuid4().hex[:8]}"
    try:
        made.mkdir(parents=True)
        _write(made, result)
        before = {f"{view}.nii.gz": uncorrected(view) for view in earlier} | ({RESULT: UNCORRECTED} if earlier else {})
        for name, kept in before.items():
            source = final / kept if (final / kept).is_file() else final / name
            if source.is_file():
                shutil.copyfile(source, made / kept)
        swap(made, final)
    except OSError as error:
        raise CinemaError(
            f"{final} cannot be written ({error.strerror or error}): free some space, then run again."
        ) from None
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return final


def mend(out: Path, key: str) -> None:
    """Clears what a run that was killed left of a study; a folder that was whole, but had no place yet, gets it.

    Args:
        out: The output folder.
        key: The study's key.
    """
    final = out / key
    for left in sorted(out.glob(f".{key}-*")):  # a new one before the earlier one that it replaces
        if not final.exists() and read_record(left) is not None:
            left.rename(final)
        shutil.rmtree(left, ignore_errors=True)


def swap(made: Path, final: Path) -> None:
    """Puts a finished folder in the place of an earlier one."""
    old = made.with_name(f"{made.name}.old")
    if final.exists():
        final.rename(old)
    made.rename(final)
    shutil.rmtree(old, ignore_errors=True)


def _write(folder: Path, result: Result) -> None:
    write_csv(folder / "series.csv", series_rows(result.study.series))
    for number, picture in result.study.pictures.items():
        write_png(folder / "series" / f"{number:02d}.png", grey(picture).T)
    for name, found in result.segmented.items():
        view = result.study.views[name]
        write_masks(folder / f"{name}.nii.gz", found.labels, view.affine)
        if result.quality != "refuse":  # its volumes are no better than its numbers
            write_csv(folder / f"{name}_volumes.csv", volume_rows(view, found))
        if "lv" in found.phases:
            for phase in ("ed", "es"):
                write_png(folder / f"{name}_{phase}.png", overlay(view, found, getattr(found.phases["lv"], phase)))
        write_cine(folder / f"{name}.gif", view, found)
    (folder / "report.html").write_text(page(result), encoding="utf-8")
    # The last one: a folder that has it is whole.
    write_json(folder / RESULT, as_record(result))


def write_masks(path: Path, labels: np.ndarray, affine: np.ndarray) -> None:
    """Writes masks (X, Y, Z, T) as NIfTI with nothing in its header but geometry."""
    import nibabel

    with replacing(path) as temporary:
        image = nibabel.Nifti1Image(labels.astype(np.uint8), affine)
        image.header.set_xyzt_units("mm")
        nibabel.save(image, temporary)


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Writes rows; columns in the order in which they first appear, empty cells for None."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)


def write_json(path: Path, value: Any) -> None:
    """Writes plain values."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(value, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def read_record(folder: Path, name: str = RESULT) -> dict[str, Any] | None:
    """The record of a study that is done, or :data:`UNCORRECTED`; None where there is none, or it cannot be read."""
    try:
        record = json.loads((folder / name).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) and "id" in record else None


def gather(out: Path, private: Path, failures: Mapping[str, str | None]) -> int:
    """Writes results.csv, results.json and failures.csv of all studies that are done, by any shard.

    Args:
        out: The output folder.
        private: Folder of the secret, whose lock keeps shards apart.
        failures: Key -> reason of the studies of this run, None for those that did not fail; others of earlier runs
            stay.

    Returns:
        Number of studies that are done.
    """
    handle = os.open(private / "lock", os.O_CREAT | os.O_WRONLY, 0o600)
    try:
        lock(handle, private / "lock", wait=True)
        folders = sorted(path for path in out.iterdir() if path.is_dir() and not path.name.startswith("."))
        records = [record for path in folders if (record := read_record(path)) is not None]
        if records:
            units = {name: unit for record in records for name, unit in record["units"].items()}
            write_csv(out / "results.csv", ordered([as_row(record) for record in records]))
            write_json(out / "results.json", {"units": units, "studies": records})
        _write_failures(out / "failures.csv", failures)
    finally:
        os.close(handle)
    return len(records)


def ordered(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows with all columns of any of them, in one order whatever the first study lacks.

    Args:
        rows: Of :func:`~.record.as_row`.
    """
    longest = max(rows, key=len)
    names = list(dict.fromkeys([*longest, *(name for row in rows for name in row)]))
    return [{name: row.get(name) for name in names} for row in rows]


def _write_failures(path: Path, failures: Mapping[str, str | None]) -> None:
    earlier: dict[str, str | None] = {}
    if path.is_file():
        with path.open(newline="", encoding="utf-8") as file:
            earlier = {row["id"]: row["reason"] for row in csv.DictReader(file)}
    left = {key: reason for key, reason in sorted({**earlier, **failures}.items()) if reason is not None}
    if left:
        write_csv(path, [{"id": key, "reason": reason} for key, reason in left.items()])
    else:
        path.unlink(missing_ok=True)
