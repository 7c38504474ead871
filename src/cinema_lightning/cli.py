"""The command ``cinema``: verbs, help and error sentences. Heavy imports happen inside the verbs.

``fit``, ``validate``, ``test`` and ``predict`` go through LightningCLI (see :mod:`cinema_lightning.training`); the
other verbs are plain functions whose signature and docstring become the options.
"""

from __future__ import annotations

import errno
import importlib
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import TextIOWrapper

from cinema_lightning import __version__
from cinema_lightning.errors import CinemaError
from cinema_lightning.verbs import call

USER_ERROR = 2
INTERRUPTED = 130


@dataclass(frozen=True)
class Verb:
    """A verb of the command line.

    Attributes:
        summary: One line for ``cinema --help``.
        target: ``module:function`` of a plain verb; empty for the verbs of LightningCLI.
        positional: Parameters that are given without a flag.
        own_arguments: The function takes the rest of the command line as it is.
    """

    summary: str
    target: str = ""
    positional: tuple[str, ...] = ()
    own_arguments: bool = False


VERBS: dict[str, Verb] = {
    "fit": Verb("Train: pretraining or any downstream task, as the configuration says."),
    "validate": Verb("Compute the validation metrics of a trained run."),
    "test": Verb("Test a trained run on held-out subjects."),
    "predict": Verb("Apply a trained run: features, reconstructions, predictions, one row per subject and frame."),
    "phantom": Verb("Make a cohort of beating phantom hearts with truth; no data needed.", "phantom.command:phantom"),
    "prepare": Verb(
        "Turn a downloaded dataset, or own data, into the store and its table.", "prepare.command:prepare", ("dataset",)
    ),
    "verify": Verb("Check a prepared dataset before training on it.", "prepare.verify:verify", ("dataset",)),
    "describe": Verb(
        "Statistics per split, and a contact sheet with label contours.", "prepare.describe:describe", ("dataset",)
    ),
    "analyse": Verb(
        "Studies in (DICOM or NIfTI), checked volumes, masks and a page out.",
        "analysis.command:analyse",
        ("studies",),
    ),
    "view": Verb("Show the reports of analysed studies in this machine's browser.", "analysis.view:view", ("results",)),
    "calibrate": Verb(
        "Keep the errors of a test beside its weights, so that analyses give intervals.",
        "analysis.calibration:calibrate_command",
        ("results",),
    ),
    "export": Verb("Write a trained network as published safetensors, torch.export or ONNX.", "weights.export:export"),
    "benchmark": Verb(
        "Plan, run, submit to SLURM and report the benchmark.", "benchmark.command:benchmark", own_arguments=True
    ),
    "submit": Verb("Submit a training, test or prediction to SLURM.", "cluster.submit:submit_job", own_arguments=True),
    "models": Verb("List published and local networks, with what they need and give.", "inference.listing:list_models"),
    "configs": Verb("List the packaged configurations.", "cli:configs"),
}


def help_text() -> str:
    """The text of ``cinema --help``, made without importing anything heavy."""
    width = max(map(len, VERBS))
    lines = [f"  {name:<{width}}  {verb.summary}" for name, verb in VERBS.items()]
    return "\n".join(
        [
            "usage: cinema VERB [options]",
            "",
            "Foundation models for cine cardiac MRI: pretrain, fine-tune, test and apply.",
            "",
            "verbs:",
            *lines,
            "",
            "`cinema VERB --help` shows a verb's options; `cinema --version` the version.",
            "First steps: cinema fit --config pretrain.yaml --config phantom.yaml",
        ]
    )


def configs() -> None:
    """Lists the packaged configurations, one line each."""
    from cinema_lightning.configs import list_configs, packaged_folder

    rows = list_configs()
    width = max((len(name) for name, _ in rows), default=0)
    for name, summary in rows:
        print(f"{name:<{width}}  {summary}")
    print(f"\nUse: cinema fit --config NAME [--config OVERLAY]. The files are in {packaged_folder()}.")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        argv: Arguments without the program's name; None takes the process's own.

    Returns:
        Exit code: 0 done, 1 done with failures, 2 a mistake that one sentence explained, 75 stopped by a signal after
        saving, 130 interrupted.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    _print_anything()
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(help_text())
        return 0 if arguments else USER_ERROR
    if arguments[0] == "--version":
        print(f"cinema-lightning {__version__}")
        return 0
    verb, rest = arguments[0], arguments[1:]
    try:
        return _dispatch(verb, rest)
    except CinemaError as error:
        return _say(verb, error)
    except KeyboardInterrupt:
        sys.stderr.write(f"\ncinema {verb}: interrupted; what was finished is kept, and the same command goes on.\n")
        return INTERRUPTED
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS):
            raise
        name = f" ({error.filename})" if error.filename else ""
        return _say(verb, CinemaError(f"{error.strerror}{name}; nothing was written half. Mend that and run again."))


def _print_anything() -> None:
    """What a terminal or log of another encoding than UTF-8 cannot show becomes a question mark, and ends nothing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper) and not stream.encoding.lower().startswith("utf"):
            stream.reconfigure(errors="replace")


def _say(verb: str, error: CinemaError) -> int:
    """Prints the sentence, and the stack where ``CINEMA_DEBUG`` asks for it."""
    if os.environ.get("CINEMA_DEBUG"):
        raise error
    sys.stderr.write(f"cinema {verb}: {error}\n")
    return USER_ERROR


def _dispatch(verb: str, rest: list[str]) -> int:
    if verb not in VERBS:
        raise CinemaError(f"there is no such verb; the verbs are {', '.join(VERBS)}.")
    if VERBS[verb].target:
        return _plain(verb, rest)
    from cinema_lightning.configs import unfold_arguments

    arguments, configs = unfold_arguments(rest)  # before torch is imported: a misspelt name is answered at once
    from cinema_lightning.phantom import overlay
    from cinema_lightning.training import run

    return run(verb, arguments, configs, source=overlay)


def _plain(verb: str, rest: list[str]) -> int:
    """Runs a plain verb: its function's signature is the command line, or it reads its own."""
    entry = VERBS[verb]
    module, name = entry.target.split(":")
    function: Callable[..., int | None] = getattr(importlib.import_module(f"cinema_lightning.{module}"), name)
    if entry.own_arguments:
        return function(rest) or 0
    return call(f"cinema {verb}", entry.summary, function, rest, entry.positional)


def entry() -> None:
    """Console entry point."""
    sys.exit(main())
