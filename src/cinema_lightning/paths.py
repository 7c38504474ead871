"""``~`` and ``$VAR`` in options and configurations, in one place: a shell only sees those that stand by themselves."""

from __future__ import annotations

import os
import re
from argparse import Namespace
from pathlib import Path
from typing import Any

from cinema_lightning.errors import CinemaError

_VARIABLE = re.compile(r"\$(?:([A-Za-z_]\w*)|\{([A-Za-z_]\w*)\})")


def expanded(text: str, what: str) -> str:
    """Replaces ``~`` and ``~user`` at the start by the home folder, and ``$NAME`` or ``${NAME}`` by the environment's.

    Args:
        text: Value of an option.
        what: What to call the option in a message.

    Returns:
        The value; text with neither is returned as it is.

    Raises:
        CinemaError: If there is no such user or no such variable.
    """

    def value(match: re.Match[str]) -> str:
        name = match[1] or match[2]
        if name not in os.environ:
            raise CinemaError(
                f"{what} is '{text}', but the environment has no variable {name}: set it, or write the path out."
            )
        return os.environ[name]

    path = os.path.expanduser(text)  # noqa: PTH111  (pathlib raises a RuntimeError where there is no such user)
    if path.startswith("~"):
        raise CinemaError(
            f"{what} is '{text}', but there is no user called '{path[1:].split('/')[0]}': write the path out "
            f"(./{text} for a file or folder of that name)."
        )
    return _VARIABLE.sub(value, path)


def expand_all(value: Any, what: str = "") -> Any:
    """Expands every text and path in mappings, lists and namespaces, see :func:`expanded`.

    Args:
        value: A configuration, or a part of it.
        what: Its key, for messages.

    Returns:
        The same, changed in place where it is a namespace, mapping or list.
    """
    if isinstance(value, str):
        return expanded(value, what)
    if isinstance(value, Path):
        return Path(expanded(str(value), what))
    if isinstance(value, list):
        value[:] = [expand_all(entry, what) for entry in value]
    elif isinstance(value, dict):
        value.update({key: expand_all(entry, f"{what}.{key}".strip(".")) for key, entry in value.items()})
    elif isinstance(value, Namespace):
        for key, entry in vars(value).items():
            setattr(value, key, expand_all(entry, f"{what}.{key}".strip(".")))
    return value
