"""Makes phantoms by the runner of preparation: side by side, resumable, each subject whole or not at all."""

from __future__ import annotations

import json
import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cinema_lightning.data.facts import OF_PHANTOMS
from cinema_lightning.data.table import TABLE
from cinema_lightning.datasets.base import CaseRef
from cinema_lightning.errors import CinemaError
from cinema_lightning.files import write_text
from cinema_lightning.prepare.failures import StepError
from cinema_lightning.prepare.runner import run, stop_on_signals
from cinema_lightning.prepare.scratch import scratch_folder, scratch_of

SETTINGS = OF_PHANTOMS
"""What the phantoms of a folder were made with."""


@dataclass(frozen=True)
class Making(ABC):
    """How the subjects of one cohort are made.

    Attributes:
        root: Output folder.
        scratch: Folder for unfinished subjects.
    """

    root: Path
    scratch: Path

    @abstractmethod
    def called(self, index: int) -> str:
        """What messages call a subject."""

    @abstractmethod
    def is_complete(self, index: int) -> bool:
        """Whether there is nothing left to do for a subject."""

    @abstractmethod
    def write(self, folder: Path, index: int) -> None:
        """Makes a subject in an empty folder and moves it into place."""

    def make(self, case: CaseRef) -> bool:
        """See :meth:`cinema_lightning.prepare.runner.Work.make`."""
        index = int(case.args["index"])
        if self.is_complete(index):
            return False
        try:
            with scratch_folder(self.scratch / case.id) as folder:
                self.write(folder, index)
        except (OSError, CinemaError) as error:
            cause = error if isinstance(error, OSError) else error.__cause__
            if not isinstance(cause, OSError):
                raise
            raise StepError(
                "write",
                f"{self.called(index)} could not be written ({cause.strerror or cause}); the subjects made before are "
                "complete: free some space or mend the permissions, then run the command again to make the rest.",
            ) from error
        return True


def make_subjects(
    making: Callable[[Path, Path], Making], root: Path, indices: Sequence[int], workers: int, title: str, part: str = ""
) -> int:
    """Makes the subjects that are not there yet.

    Args:
        making: Takes the output folder and the one for unfinished subjects.
        root: Output folder.
        indices: Numbers of the subjects.
        workers: Processes; the result does not depend on it.
        title: What the progress bar says.
        part: Name of the shard.

    Returns:
        Exit code: 0, or 128 + number of the signal that stopped it.

    Raises:
        CinemaError: If something cannot be written, or a worker was killed; subjects that are complete stay.
    """
    cases = [CaseRef(subject_id(index), subject_id(index), "", (), args={"index": index}) for index in indices]
    with scratch_of(root, part) as scratch, stop_on_signals() as stop:
        work = making(root, scratch)
        outcomes = run(work, cases, workers, stop, strict=True, title=title, unit="subjects")
    for outcome in outcomes.values():
        if outcome.problem is not None:
            step, reason = outcome.problem.step, outcome.problem.reason
            raise CinemaError(reason if step == "write" else f"{root / outcome.id}: {reason}.")
    if stop.signal is not None:
        print(f"Stopped after {len(outcomes)} of {len(cases)} subjects; the same command goes on from there.")
        return 128 + stop.signal
    return 0


def subject_id(index: int) -> str:
    """Name of subject number ``index``."""
    return f"phantom_{index:05d}"


def claim(
    root: Path, settings: Mapping[str, Any], overwrite: bool, owned: Callable[[Mapping[str, Any]], Sequence[str]]
) -> None:
    """Marks a folder as this cohort's, or refuses one that is another's.

    Args:
        root: Output folder.
        settings: What the cohort is made with; those of raw data name a dataset.
        overwrite: Remove other phantoms of the same sort first.
        owned: Takes the settings of the phantoms that are there; globs of what belongs to them.

    Raises:
        CinemaError: If the folder holds a cohort made with other settings, or something else.
    """
    path = root / SETTINGS
    if root.is_file():
        raise CinemaError(f"{root} is a file; give a folder as --out.")
    if path.exists():
        found = read_json(path)
        _check_sort(root, found, settings)
        if not overwrite:
            _check_same(root, found, settings)
            return
        _clear(root, owned(found))
    elif root.is_dir() and any(not entry.name.startswith(".") for entry in root.iterdir()):
        raise CinemaError(f"{root} is not empty and holds no phantoms; give an empty or a new folder as --out.")
    write_settings(root, settings)


def _check_sort(root: Path, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Raw and prepared phantoms side by side would be neither."""
    if "dataset" in found and (root / TABLE).is_file():
        raise CinemaError(f"{root} holds phantoms that `cinema prepare` prepared; give another folder as --out.")
    is_raw, raw = ("raw" if "dataset" in some else "prepared" for some in (found, wanted))
    if is_raw != raw:
        raise CinemaError(f"{root} holds {is_raw} phantoms, not {raw} ones; give another folder as --out.")


def _check_same(root: Path, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    # what one of the two leaves out is none of it: a store without variety does not name it
    key = next((key for key in {**wanted, **found} if (found.get(key) or None) != (wanted.get(key) or None)), None)
    if key is not None:
        what = "raw phantoms" if "dataset" in wanted else "phantoms"
        raise CinemaError(
            f"{root} holds {what} made with {key} = {found.get(key, 'none')}, not {wanted.get(key, 'none')}; "
            "give another --out, the same settings, or --overwrite true."
        )


def _clear(root: Path, owned: Sequence[str]) -> None:
    """Removes what belongs to phantoms, and nothing else."""
    for path in [path for pattern in owned for path in root.glob(pattern)]:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def read_json(path: Path) -> dict[str, Any]:
    """What a file such as ``phantom.json`` says; empty where it cannot be read."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def write_settings(root: Path, settings: Mapping[str, Any]) -> None:
    """Writes ``phantom.json``."""
    write_text(root / SETTINGS, json.dumps(settings, indent=1) + "\n")


def read_note(path: Path, whole: str) -> dict[str, Any]:
    """What was noted of a subject when it was complete.

    Args:
        path: JSON file.
        whole: What to delete where it is damaged.

    Raises:
        CinemaError: If it cannot be read.
    """
    found = read_json(path)
    if not found:
        raise CinemaError(f"{path} is missing or damaged; delete {whole} and run the command again.")
    return found
