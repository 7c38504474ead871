"""A cohort made on demand, so that any configuration becomes self-contained with ``--config phantom.yaml``.

What a configuration trains on decides what is made: a phantom store, or phantoms in the raw layout of a dataset that
then go through its preparation like downloaded data. Each cohort has a folder of its own inside the data folder, so
that one data folder serves all configurations.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from jsonargparse import Namespace
from lightning.pytorch.cli import LightningArgumentParser
from lightning.pytorch.utilities import rank_zero_info

from cinema_lightning.data.nifti import is_series
from cinema_lightning.data.table import TABLE
from cinema_lightning.errors import CinemaError
from cinema_lightning.files import lock
from cinema_lightning.listing import list_paths
from cinema_lightning.phantom.cohort import FRAMES
from cinema_lightning.phantom.making import SETTINGS, read_json, write_settings

PLAIN = "plain"
"""Folder, inside the folder of phantoms, of the store of those that stand for no dataset."""
ROOT = "phantom"
"""What configs/phantom.yaml says for data.root, which stands for no name."""


@dataclass
class PhantomCohort:
    """A phantom cohort to make where no data is named.

    Args:
        root: Folder in which it is made. A data.root of another name is taken as it is, and never made.
        subjects: Number of subjects; a dataset whose numbering has no room for so many gets as many as it has.
        size: ``small`` for tests and laptops, ``full`` as the paper's images.
        frames: Frames per series; None takes the size's own number.
        seed: The same seed gives the same hearts.
        workers: Processes that render and prepare.
    """

    root: str = ROOT
    subjects: int = 24
    size: Literal["full", "small"] = "small"
    frames: int | None = None
    seed: int = 0
    workers: int = 2


def add_options(parser: LightningArgumentParser) -> None:
    """Adds ``--phantom`` to a verb."""
    parser.add_argument(
        "--phantom", type=PhantomCohort | None, default=None, help="Cohort to make where no data is named."
    )


def leave_open(config: Namespace) -> None:
    """Takes back a data.root that names nothing, so that a run's own data count before phantoms."""
    if config.phantom is not None and {Path(config.data.init_args.root), Path(config.phantom.root)} == {Path(ROOT)}:
        config.data.init_args.root = ""


def settle(config: Namespace) -> None:
    """Points a configuration's data.root at phantoms, made where they are missing, where it asks for them."""
    if config.phantom is not None:
        options = config.data.init_args
        options.root = str(data_folder(options.root, config.phantom, options.get("dataset")))


def data_folder(named: str, cohort: PhantomCohort, dataset: str | None = None) -> Path:
    """The folder to take the data from: what the user named, else phantoms, made where they are missing.

    Args:
        named: data.root.
        cohort: What to make where nothing is named.
        dataset: See :func:`ensure_cohort`.

    Returns:
        ``named`` as it is; the cohort's folder where it is ``phantom``, the cohort's own root, or what is to be made
        in it.

    Raises:
        CinemaError: If the named folder is missing, and what :func:`ensure_cohort` raises.
    """
    ours = Path(named).name == (dataset or PLAIN) and _is_wanting(Path(named))
    made = Path(named).parent if ours else Path(named)
    if made in (Path(ROOT), Path(cohort.root)):
        return ensure_cohort(Path(cohort.root), cohort, dataset)
    if not Path(named).is_dir():
        raise CinemaError(
            f"There is no data folder {named}, and phantoms are made only where none is named: mend data.root, leave "
            f"it out, or have them made there with --phantom.root {named} in its place."
        )
    return Path(named)


def _is_wanting(folder: Path) -> bool:
    """Whether phantoms are not there, or another process still makes them or was stopped in it."""
    return not folder.is_dir() or ((folder / SETTINGS).is_file() and not (folder / TABLE).is_file())


def ensure_cohort(root: Path, cohort: PhantomCohort, dataset: str | None = None) -> Path:
    """Makes the cohort of a dataset where the data folder has no data for it yet; what is there is kept.

    Safe to call in several processes at once, of one run or of many: one makes the cohort, the others wait for it.
    After an interruption the next call goes on. A cohort that is there is used as it is, also where it was made with
    other settings, which is said in a line.

    Args:
        root: Folder of phantoms.
        cohort: What to make.
        dataset: The dataset whose layout, labels and splits the cohort shall have; None or phantom for a plain store
            of phantoms.

    Returns:
        The folder to take the data from: ``root`` where it holds data of the user, or a store that fits; otherwise
        ``root/plain`` or ``root/<dataset>``.

    Raises:
        CinemaError: If there are no phantoms of that dataset, another's data is in the way, or something cannot be
            written.
        SystemExit: If a signal stopped it; the code is 128 + its number.
    """
    root = Path(root)
    name = None if dataset in (None, "phantom") else dataset
    inside = _settings(root)
    # A folder of raw phantoms has the same file, and is no store.
    plain = inside is not None and "dataset" not in inside
    if (root / TABLE).is_file() and (name is None or not plain):
        return root
    if not plain and _holds_others(root):
        return root  # data without a table, such as a folder of NIfTI files
    maker: _Maker = _Plain(root, cohort, plain) if name is None else _Prepared(root, cohort, name)
    if not maker.is_finished():
        with _alone(root / f".{name or PLAIN}.lock"):
            if not maker.is_finished():
                maker.make()
    maker.say_what_differs()
    return maker.folder


def _settings(folder: Path) -> dict[str, Any] | None:
    """What the phantoms of a folder were made with; None where it holds none."""
    return read_json(folder / SETTINGS) if (folder / SETTINGS).is_file() else None


def _holds_others(root: Path) -> bool:
    """Whether a folder holds anything but cohorts that were made here."""
    from cinema_lightning.phantom.raw.base import LAYOUTS

    ours = (PLAIN, *LAYOUTS)
    entries = [entry for entry in root.iterdir() if entry.name[0] != "."] if root.is_dir() else []
    # a study of the user may be called like a dataset; no cohort has files of views directly in its folder
    return any(
        entry.name not in ours or any(is_series(file) for file in list_paths(entry, "*.nii*")) for entry in entries
    )


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Holds a lock file; waits while another process does. The system lets go of it when a process ends."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a")
    except OSError as error:
        raise CinemaError(
            f"{path.parent} cannot be written ({error.strerror or error}), so no phantoms can be made there; "
            "set phantom.root to another folder."
        ) from None
    with file:
        if not lock(file.fileno(), path):
            rank_zero_info(f"Another process makes the phantoms in {path.parent}; waiting for it.")
            lock(file.fileno(), path, wait=True)
        yield


class _Maker:
    """Makes one cohort in one folder.

    Args:
        folder: The store.
        cohort: What to make.
    """

    def __init__(self, folder: Path, cohort: PhantomCohort) -> None:
        self.folder, self.cohort = folder, cohort

    @property
    def settings(self) -> dict[str, Any]:
        """What the cohort is made with."""
        raise NotImplementedError

    def is_finished(self) -> bool:
        """Whether there is nothing left to do; the table is written last."""
        return (self.folder / TABLE).is_file()

    def make(self) -> None:
        """Makes the cohort, or the rest of it."""
        raise NotImplementedError

    def found(self) -> dict[str, Any]:
        """What the cohort that is there was made with."""
        return _settings(self.folder) or {}

    def say_what_differs(self) -> None:
        """One line where the cohort that is there is not quite the one that was asked for."""
        wanted, found = self.settings, self.found()
        other = [
            f"{key} {found[key]} instead of {wanted[key]}"
            for key in wanted
            if found.get(key, wanted[key]) != wanted[key]
        ]
        if other:
            rank_zero_info(
                f"The phantoms in {self.folder} were made with {', '.join(other)}; they are used as they are "
                "(delete the folder to have them made anew)."
            )


class _Plain(_Maker):
    """The store that ``cinema phantom`` makes, of no dataset.

    Args:
        root: Data folder.
        cohort: What to make.
        claimed: The data folder is itself such a store.
    """

    def __init__(self, root: Path, cohort: PhantomCohort, claimed: bool) -> None:
        super().__init__(root if claimed else root / PLAIN, cohort)
        self.claimed = claimed

    @property
    def settings(self) -> dict[str, Any]:
        cohort = self.cohort
        frames = cohort.frames or FRAMES[cohort.size]
        return {"subjects": cohort.subjects, "seed": cohort.seed, "size": cohort.size, "frames": frames}

    def make(self) -> None:
        from cinema_lightning.phantom.command import phantom

        cohort, found = self.cohort, _settings(self.folder)
        rank_zero_info(f"Making a phantom cohort of {cohort.subjects} subjects in {self.folder}.")
        wanted = {key: value for key, value in self.settings.items() if key != "subjects"}
        # What an interrupted run with other settings left in our own folder is of no use to anyone.
        stale = not self.claimed and found is not None and any(found.get(key) != wanted[key] for key in wanted)
        code = phantom(
            subjects=cohort.subjects,
            out=self.folder,
            seed=cohort.seed,
            size=cohort.size,
            frames=cohort.frames,
            workers=cohort.workers,
            overwrite=stale,
        )
        if code:
            raise SystemExit(code)

    def found(self) -> dict[str, Any]:
        with (self.folder / TABLE).open(encoding="utf-8") as file:
            rows = sum(bool(line.strip()) for line in file) - 1
        return {"subjects": rows} | super().found()


class _Prepared(_Maker):
    """Phantoms in a dataset's raw layout, prepared as its downloaded data would be.

    The raw files lie in a hidden folder until the store is complete.
    """

    def __init__(self, root: Path, cohort: PhantomCohort, dataset: str) -> None:
        from cinema_lightning.phantom.raw.base import LAYOUTS
        from cinema_lightning.phantom.raw.runner import settings_for

        super().__init__(root / dataset, cohort)
        most = LAYOUTS[dataset].most
        subjects = cohort.subjects if most is None else min(cohort.subjects, most)
        self.wanted = settings_for(dataset, subjects, cohort.seed, cohort.size, cohort.frames)
        self.raw = root / f".{dataset}.raw"
        inside = _settings(self.folder)
        if self.folder.exists() and (inside is None or inside.get("dataset") != dataset) and any(self.folder.iterdir()):
            raise CinemaError(
                f"{self.folder} holds other data than phantoms of {dataset}: set data.root to it to train on it, or "
                "phantom.root to another folder to have phantoms made there."
            )

    @property
    def settings(self) -> dict[str, Any]:
        return {key: value for key, value in self.wanted.as_dict().items() if key not in ("dataset", "version")}

    def is_finished(self) -> bool:
        return super().is_finished() and not self.raw.exists()

    def make(self) -> None:
        if not super().is_finished():
            self._make_raw()
            self._prepare()
        shutil.rmtree(self.raw, ignore_errors=True)

    def _make_raw(self) -> None:
        from cinema_lightning.phantom.raw.runner import make_raw

        rank_zero_info(
            f"Making a phantom cohort of {self.wanted.subjects} subjects as {self.wanted.dataset} in {self.folder}."
        )
        wanted = self.wanted.as_dict()
        for folder in (self.raw, self.folder):
            if folder.exists() and _settings(folder) != wanted:  # left by an interrupted run with other settings
                shutil.rmtree(folder, ignore_errors=True)
        if code := make_raw(self.raw, self.wanted, self.cohort.workers):
            raise SystemExit(code)
        write_settings(self.folder, wanted)

    def _prepare(self) -> None:
        from cinema_lightning.prepare.command import prepare

        outcomes = self.raw / "outcomes.csv"
        code = prepare(
            self.wanted.dataset,
            self.raw,
            self.folder,
            workers=self.cohort.workers,
            outcomes=outcomes if outcomes.is_file() else None,
            size=self.cohort.size,
        )
        if code >= 128:
            raise SystemExit(code)
        if not super().is_finished():
            raise CinemaError(
                f"None of the phantoms in {self.raw} could be prepared; {self.folder / 'failures.csv'} says why."
            )
