"""A plain function as a command line: its signature and docstring become the options."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

from cinema_lightning.errors import CinemaError
from cinema_lightning.paths import expanded


def call(
    prog: str,
    summary: str,
    function: Callable[..., int | None],
    arguments: Sequence[str],
    positional: Sequence[str] = (),
    short: Mapping[str, str] | None = None,
) -> int:
    """Parses arguments for a function and calls it.

    Args:
        prog: What the user typed so far, for the help text.
        summary: One line for the help text.
        function: Its parameters become options, its docstring their help.
        arguments: What the user typed after ``prog``.
        positional: Parameters that are given without a flag, as text.
        short: Short flags and the parameters that they stand for, such as ``{"-j": "jobs"}``.

    Returns:
        What the function returned, or 0.

    Raises:
        CinemaError: If the arguments do not fit.
    """
    from argparse import ArgumentError

    from jsonargparse import ArgumentParser

    parser = ArgumentParser(prog=prog, description=summary, exit_on_error=False)
    lists = _lists(function)
    for parameter in positional:
        default = inspect.signature(function).parameters[parameter].default
        optional = {} if default is inspect.Parameter.empty else {"nargs": "?", "default": default}
        parser.add_argument(parameter, type=str, **({"nargs": "+"} if parameter in lists else optional))
    parser.add_function_arguments(function, as_group=False, skip=set(positional))
    try:
        given = joined_flags(lists - set(positional), long_flags(arguments, short or {}))
        options = parser.parse_args(bare_flags(function, given))
    except ArgumentError as error:
        from cinema_lightning.messages import translate

        raise CinemaError(translate(str(error))) from error
    values = parser.instantiate_classes(options).as_dict()
    for name, value in values.items():
        if isinstance(value, Path):
            values[name] = Path(expanded(str(value), f"--{name}"))
    return function(**values) or 0


def _lists(function: Callable[..., object]) -> set[str]:
    """Parameters that take several values."""
    parameters = inspect.signature(function).parameters.items()
    return {name for name, parameter in parameters if str(parameter.annotation).startswith("list[")}


def joined_flags(lists: Collection[str], arguments: Sequence[str]) -> list[str]:
    """Lets an option of several values be given several times: ``--weights A --weights B`` stands for both."""
    values: dict[str, list[str]] = {name: [] for name in lists}
    given: list[str] = []
    rest = iter(arguments)
    for argument in rest:
        flag, equals, value = argument.partition("=")
        if flag.removeprefix("--") not in values or not flag.startswith("--"):
            given.append(argument)
        elif (value := value if equals else next(rest, "")).startswith("["):
            given += [flag, value]
        else:
            values[flag.removeprefix("--")].append(value)
    return [*given, *(word for name, own in values.items() if own for word in (f"--{name}", json.dumps(own)))]


def bare_flags(function: Callable[..., object], arguments: Sequence[str]) -> list[str]:
    """Lets a switch be given without its value: ``--strict`` stands for ``--strict true``."""
    switches = {f"--{name}" for name, p in inspect.signature(function).parameters.items() if p.default is False}
    given: list[str] = []
    for i, argument in enumerate(arguments):
        # as the parser does, a dash in an option's name may stand for an underscore
        name = argument.replace("-", "_").replace("__", "--", 1) if argument.startswith("--") else argument
        given.append(name if name in switches else argument)
        following = arguments[i + 1].lower() if i + 1 < len(arguments) else ""
        if name in switches and following not in ("true", "false", "yes", "no"):
            given.append("true")
    return given


def long_flags(arguments: Sequence[str], short: Mapping[str, str]) -> list[str]:
    """Writes short flags out: ``-j2`` and ``-j 2`` both stand for ``--jobs 2``."""
    given: list[str] = []
    for argument in arguments:
        flag, value = argument[:2], argument[2:]
        if flag in short:
            given += [f"--{short[flag]}", *([value] if value else [])]
        else:
            given.append(argument)
    return given
