"""Run folders: ``<runs>/<name>/<version>/``, the name made of all overlays.

A run's folder holds its full configuration, the versions it ran with, checkpoints (best, last), TensorBoard events,
pictures and tables. The name tells overlays apart (``pretrain+phantom``), so that a test of one never picks another's
checkpoint.
"""

from __future__ import annotations

import sys
from pathlib import Path

from cinema_lightning.errors import CinemaError

RUN_DIR_VARIABLE = "CINEMA_RUN_DIR"
"""Set by the first process for those that it launches, so that all ranks share one folder."""


def run_name(configs: list[Path]) -> str:
    """Name of a run: the stems of its configurations joined by ``+``.

    A run's own saved ``config.yaml`` stands for that run's name.
    """
    stems = []
    for path in configs:
        stems.append(path.resolve().parent.parent.name if is_saved(path) else path.stem)
    return "+".join(stems) or "unnamed"


def is_saved(config: Path) -> bool:
    """True for the configuration that a run keeps in its own folder."""
    return config.stem == "config" and config.resolve().parent.name.isdigit()


def versions(folder: Path) -> list[Path]:
    """Version folders of one run name, oldest first."""
    if not folder.is_dir():
        return []
    return sorted((p for p in folder.iterdir() if p.is_dir() and p.name.isdigit()), key=lambda p: int(p.name))


def checkpoint_path(run: Path, which: str) -> Path:
    """Where a run keeps its ``best`` or ``last`` checkpoint."""
    return run / "checkpoints" / f"{which}.ckpt"


def new_run(root: Path, name: str) -> Path:
    """Creates the next version folder; safe against several processes doing so at once."""
    folder = root / name
    number = int(versions(folder)[-1].name) + 1 if versions(folder) else 0
    while True:
        try:
            (folder / str(number)).mkdir(parents=True)
            return folder / str(number)
        except FileExistsError:
            number += 1
        except OSError as error:
            raise CinemaError(
                f"The run folder {folder / str(number)} cannot be made ({error.strerror}); choose another with --runs."
            ) from error


def newest_with(root: Path, name: str, which: str) -> Path | None:
    """Newest run of a name that has a ``best`` or ``last`` checkpoint."""
    for run in reversed(versions(root / name)):
        if checkpoint_path(run, which).is_file():
            return run
    return None


def resolve_checkpoint(given: str | None, root: Path, name: str, verb: str) -> tuple[Path | None, Path | None]:
    """Turns ``--ckpt_path`` into a checkpoint and, when resuming, the run folder to go on in.

    Args:
        given: A path; ``last`` or ``best`` of the newest run of this name; ``auto`` (fit only): ``last`` where there
            is one, else a fresh start; None: a fresh start for fit, ``best`` for the other verbs.
        root: Folder of all runs.
        name: Run name.
        verb: ``fit``, ``validate``, ``test`` or ``predict``.

    Returns:
        (checkpoint, run folder); both None for a fresh fit.

    Raises:
        CinemaError: If there is no such checkpoint. Random weights are never tested.
    """
    if given is None and verb == "fit":
        return None, None
    if given not in (None, "last", "best", "auto"):
        path = Path(str(given))
        if not path.is_file():
            raise CinemaError(f"There is no checkpoint {path}; check --ckpt_path (last, best, auto or a .ckpt file).")
        run = path.resolve().parent.parent
        return path, run if (run / "config.yaml").is_file() else None
    which = "last" if given == "auto" else (given or "best")
    newest = newest_with(root, name, which)
    if newest is not None:
        return checkpoint_path(newest, which), newest
    if given == "auto" and verb == "fit":
        return None, None
    what = f"no {which} checkpoint under {root / name}"
    if verb == "fit":
        raise CinemaError(f"There is {what} to resume from; start without --ckpt_path, or use --ckpt_path auto.")
    raise CinemaError(
        f"There is {what}: random weights are not worth a {verb}. Train first with `cinema fit` and the same --config "
        "options, take --ckpt_path last where a run had no validation, or name a checkpoint with --ckpt_path."
    )


def software_versions() -> dict[str, str]:
    """Versions that a result depends on, for the run's record."""
    from importlib.metadata import PackageNotFoundError, version

    found = {"python": sys.version.split()[0]}
    for package in ("cinema-lightning", "torch", "lightning", "jsonargparse", "torchmetrics", "monai", "numpy"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:  # run from a source tree that was never installed
            found[package] = "not installed"
    return found
