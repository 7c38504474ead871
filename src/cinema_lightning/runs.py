"""Run folders: ``<runs>/<name>/<version>/``, the name made of all overlays.

A run's folder holds its full configuration, the versions it ran with, checkpoints (best, last), TensorBoard events,
pictures and tables. The name tells overlays apart (``pretrain+phantom``), so that a test of one never picks another's
checkpoint.
"""

from __future__ import annotations

import glob
import json
import sys
from itertools import count, takewhile
from pathlib import Path
from typing import Any

from cinema_lightning.configs import read_config
from cinema_lightning.errors import CinemaError
from cinema_lightning.files import write_text
from cinema_lightning.registry import up_to_date

RUN_DIR_VARIABLE = "CINEMA_RUN_DIR"
"""Set by the first process for those that it launches, so that all ranks share one folder."""
STOPPED_EXIT_CODE = 75
"""Exit code of a run that a signal stopped after it saved (EX_TEMPFAIL): a batch script may requeue on it."""
FREE_KEYS = (
    "data.root",
    "data.num_workers",
    "data.prefetch_factor",
    "data.pin_memory",
    "data.batch_size",
    "data.val_batch_size",
)
"""Data options that may change between a run and its resumption; they do not change what is learnt.

The batch size is what one device can take at once: a resumed run makes the steps it began with.
"""


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


def best_of(roots: list[Path], name: str) -> Path | None:
    """Best checkpoint of the newest run of a name, in the first folder of runs that has one; last where none is."""
    found = (checkpoint_path(run, w) for p in roots for w in ("best", "last") if (run := newest_with(p, name, w)))
    return next(found, None)


def own_checkpoint(given: str | None, configs: list[Path]) -> str | None:
    """Turns ``best`` (or None) and ``last`` into those of the very run whose saved configuration is given."""
    saved = [path for path in configs if is_saved(path)]
    if not saved or given not in (None, "best", "last"):
        return given
    return str(checkpoint_path(saved[-1].resolve().parent, given or "best"))


def one_argument(arguments: list[str], flag: str = "--ckpt_path") -> list[str]:
    """Several words after a flag, which a shell makes of a pattern, or the flag several times, as one list.

    Args:
        arguments: The command line.
        flag: The flag.

    Returns:
        The command line with the flag at most once.
    """
    rest: list[str] = []
    values: list[str] = []
    taking = False
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if name == flag:
            taking = not equals
            values += [value] if equals else []
        elif taking and not argument.startswith("-"):
            values.append(argument)
        else:
            taking = False
            rest.append(argument)
    if len(values) == 1:
        return [*rest, flag, values[0]]
    return [*rest, flag, json.dumps(values)] if values or flag in arguments else rest


def several(given: str | list[str] | None, verb: str) -> list[str | None]:
    """The checkpoints that ``--ckpt_path`` names: one, or for test and predict several.

    Args:
        given: A name; several, as a list or with commas between; or a pattern
            (``runs/acdc_seg/*/checkpoints/best.ckpt``), of whose folders the best checkpoint is meant.
        verb: ``fit``, ``validate``, ``test`` or ``predict``.

    Returns:
        Names as :func:`resolve_checkpoint` takes them, each once.

    Raises:
        CinemaError: If a pattern fits nothing, or the verb takes one only.
    """
    if given is None:
        return [None]
    words = [given] if isinstance(given, str) else given
    names = [name for word in words for name in _each(word)]
    found = list({Path(name).resolve(): name for name in names}.values())
    if not found:
        raise CinemaError("--ckpt_path needs the name of a checkpoint; leave it out for the newest run's best one.")
    if len(found) > 1 and verb not in ("test", "predict"):
        raise CinemaError(
            f"--ckpt_path names {len(found)} checkpoints, but cinema {verb} takes one; several are averaged by cinema "
            "test and cinema predict."
        )
    return [*found]


def _each(name: str) -> list[str]:
    if Path(name).exists():
        return [name]
    if not any(letter in name for letter in "*?["):
        return [part for word in name.split(",") if (part := word.strip())]
    paths = [Path(path) for path in sorted(glob.glob(name, recursive=True))]  # noqa: PTH207  (of any root)
    inside = [checkpoint_path(path, "best") if path.is_dir() else path for path in paths]
    if not (files := [str(path) for path in inside if path.is_file()]):
        raise CinemaError(f"--ckpt_path {name}: no checkpoint fits this pattern; check it, and put it in quotes.")
    return files


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


def saved(run: Path) -> dict[str, Any] | None:
    """The configuration that a run was last trained with; None where it keeps none."""
    *_, file = run / "config.yaml", *_resumed(run)
    return up_to_date(read_config(file)) if file.is_file() else None


def _resumed(run: Path) -> list[Path]:
    """Configurations with which the run was resumed, oldest first."""
    names = (run / f"config.resumed_{number}.yaml" for number in count(1))
    return list(takewhile(Path.is_file, names))


def keep_weights(run: Path, config: Any) -> None:
    """A resumed run goes on with the weights it started from, though a run's name may mean a newer one by now.

    Args:
        run: Folder of the run.
        config: The configuration; changed in place.
    """
    options = ((saved(run) or {}).get("model") or {}).get("init_args") or {}
    if options.get("weights") is not None and config.model.init_args.get("weights") is not None:
        config.model.init_args.weights = options["weights"]


def take_data(options: Any, run: Path | None) -> None:
    """Fills what a configuration leaves empty of its data (root, target) with what the run was trained on.

    Args:
        options: Options of the data module; changed in place.
        run: Folder of the run that is resumed, tested or applied; None for none.

    Raises:
        CinemaError: If no folder is named, and no run that has one.
    """
    if "" not in (options.get("root"), options.get("target")):
        return
    known = _trained_on(run)
    if not options.get("root"):
        if not known.get("root"):
            raise CinemaError("data.root is empty: give the folder of your data, such as --data.root data/mine.")
        options.root = known["root"]
        if "dataset" in options:
            options.dataset = options.dataset or known.get("dataset")
    if options.get("target") == "":
        options.target = known.get("target") or ""


def is_of_same_data(options: Any, run: Path) -> bool:
    """Whether the data of a run are of the dataset that a configuration asks for, or it asks for none.

    Args:
        options: Options of the data module.
        run: Folder of the run.
    """
    return options.get("dataset") in (None, _trained_on(run).get("dataset"))


def say_other_data(root: str, run: Path | None) -> None:
    """Says in a line that data are not those that a run was trained on.

    Args:
        root: Folder of the data.
        run: Folder of the run, None for none.
    """
    from lightning.pytorch.utilities import rank_zero_info

    own = _trained_on(run).get("root")
    if own and Path(own).resolve() != Path(root).resolve():
        rank_zero_info(f"The data are those in {root}; the run {run} was trained on {own}.")


def _trained_on(run: Path | None) -> dict[str, Any]:
    """Options of the data that a run was trained on, as far as it keeps them."""
    data = (saved(run) or {} if run is not None else {}).get("data") or {}
    return data.get("init_args") or {}


def check_same_experiment(run: Path, ours: dict[str, Any], allowed: bool) -> None:
    """Resuming continues an experiment; another one has no business in its folder, unless it was asked for.

    Args:
        run: Folder of the run that is to be resumed.
        ours: The configuration given now, plain values.
        allowed: Changes were asked for: they are said.

    Raises:
        CinemaError: If it differs in what decides the numbers.
    """
    from lightning.pytorch.utilities import rank_zero_info

    before, old = saved(run), {"ema": {"decay": 0.0}}  # of configurations of before there were averaged weights
    if before is None:
        return
    before, ours = old | before, old | up_to_date(ours)
    changed = [
        key
        for part in ("seed_everything", "model", "data", "ema")
        for key in _differences(before.get(part), ours.get(part), part)
        if key not in FREE_KEYS
    ]
    if "model.optim.global_batch" in changed:
        raise CinemaError(
            "key 'model.optim.global_batch': a resumed run goes on with the steps that it began with; leave it as it "
            f"was in {run}, or start a new run without --ckpt_path."
        )
    if "ema.decay" in changed:
        raise CinemaError(
            f"key 'ema.decay': a resumed run averages its weights as it did; leave it as it was in {run}, or start a "
            "new run without --ckpt_path."
        )
    if changed and allowed:
        rank_zero_info(f"The run {run} goes on with other options: {', '.join(changed)}.")
    elif changed:
        raise CinemaError(
            f"The configuration differs from the run {run} that is to be resumed in {', '.join(changed[:5])}; "
            "give the same --config options (they are kept in its config.yaml), start a new run without --ckpt_path, "
            "or go on with the changes in that run's folder: --allow_changes true."
        )


def _differences(a: Any, b: Any, key: str) -> list[str]:
    """Keys under which two configurations differ; keys that one of them lacks come from another version."""
    if isinstance(a, dict) and isinstance(b, dict):
        return [
            found
            for name in sorted(a.keys() & b.keys())
            for found in _differences(a[name], b[name], key if name == "init_args" else f"{key}.{name}")
        ]
    return [] if a == b else [key]


def write_record(run: Path, text: str) -> None:
    """Writes the full configuration and the versions; a resumed run keeps its first configuration beside.

    Args:
        run: Folder of the run.
        text: The configuration as YAML.
    """
    target = run / "config.yaml"
    if target.exists():
        resumed = _resumed(run)
        latest = resumed[-1] if resumed else target
        same = latest.read_text(encoding="utf-8") == text
        target = latest if same else run / f"config.resumed_{len(resumed) + 1}.yaml"
    versions = json.dumps(software_versions(), indent=2) + "\n"
    for path, content in ((target, text), (run / "versions.json", versions)):
        write_text(path, content)
