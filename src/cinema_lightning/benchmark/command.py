"""``cinema benchmark SUBVERB``: the benchmark from the command line."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass

from cinema_lightning.errors import CinemaError
from cinema_lightning.verbs import call


@dataclass(frozen=True)
class SubVerb:
    """A verb of ``cinema benchmark``: a line of help, and ``module:function`` below this package."""

    summary: str
    target: str


SUBVERBS = {
    "plan": SubVerb("List the cells and their states; predict the time of what is left.", "plan:plan"),
    "run": SubVerb("Run one cell, or all of them on this machine.", "run:run"),
    "submit": SubVerb("Submit what is not done to SLURM.", "submit:submit"),
    "report": SubVerb("One page of tables and figures from whatever is done.", "report.command:report"),
}


def benchmark(argv: Sequence[str]) -> int:
    """Runs a verb of ``cinema benchmark``.

    Args:
        argv: What follows ``cinema benchmark``.

    Returns:
        Exit code, see :func:`cinema_lightning.cli.main`.

    Raises:
        CinemaError: If there is no such verb or the arguments do not fit.
    """
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(help_text())
        return 0 if argv else 2
    name, rest = argv[0], argv[1:]
    if name not in SUBVERBS:
        raise CinemaError(f"there is no 'benchmark {name}'; there are {', '.join(SUBVERBS)}.")
    module, function = SUBVERBS[name].target.split(":")
    target = getattr(importlib.import_module(f"cinema_lightning.benchmark.{module}"), function)
    return call(f"cinema benchmark {name}", SUBVERBS[name].summary, target, rest, short={"-j": "jobs"})


def help_text() -> str:
    """The text of ``cinema benchmark --help``."""
    width = max(map(len, SUBVERBS))
    lines = [f"  {name:<{width}}  {verb.summary}" for name, verb in SUBVERBS.items()]
    usage = (
        "usage: cinema benchmark VERB [options]\n\nThe benchmark: a declared matrix of cells, run here or on a cluster."
    )
    return "\n".join([usage, "", *lines, "", "`cinema benchmark VERB --help` shows a verb's options."])
