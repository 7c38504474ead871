"""What libraries say: jsonargparse's nested messages in one sentence, and the rest where a user can act on it."""

from __future__ import annotations

import difflib
import inspect
import logging
import re
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from typing import Any, get_args, get_type_hints

from cinema_lightning.errors import CinemaError
from cinema_lightning.registry import Registry

_ONLY_A_KEY = re.compile(r"""[\s-]*(Parser key|Problem with given class_path) ["'][^"']+["']:\s*""")
_PARSER_KEY = re.compile(r"""Parser key ["']([^"']+)["']""")
_CLASS = re.compile(r"""Problem with given class_path ["']([\w.]+)["']""")
_NOISE = ("Does not validate against", "Subtypes:", "Errors:", "Given value", "Expected a <class 'NoneType'>")
_NOT_WORTH_SAYING = (
    *("litlogger", "litmodels", "TPU available", "GPU available", "Seed set to"),
    *("`Trainer.fit` stopped: `max", "Restoring states from"),
)
BASE_TASK = "cinema_lightning.tasks.base.Task"


def translate(message: str, registries: Mapping[str, tuple[Registry[type], ...]] | None = None) -> str:
    """Keeps the deepest complaint of a parser message and says which key it is about.

    Args:
        message: What jsonargparse raised; nested by indentation, one level per type that did not fit.
        registries: For the first parts of a key, where the names are that exist (``model``: tasks, backbones).

    Returns:
        One sentence.
    """
    lines = [line for line in message.splitlines() if line.strip() and not line.strip(" -").startswith(_NOISE)]
    if not lines:
        return " ".join(message.split())
    complaints = [line for line in lines if not _ONLY_A_KEY.fullmatch(line)] or lines
    depth = max(_depth(line) for line in complaints)
    deepest = _telling([line for line in complaints if _depth(line) == depth])
    keys = _keys_above(lines, deepest[0])
    if any(match.group(1) == BASE_TASK for match in map(_CLASS.search, lines) if match):
        return (
            f"key '{'.'.join(keys)}': nothing says which task it is for; an overlay needs an experiment before it, "
            "such as --config pretrain.yaml."
        )
    if (wrong := _wrong_kind(lines, keys, registries or {})) is not None:
        return wrong
    text = " or ".join(dict.fromkeys(_tidy(line) for line in deepest))
    where = f"key '{'.'.join(keys)}'{_of_which(lines, keys, registries or {})}: " if keys else ""
    return f"{where}{text}.{_known_names(keys, text, registries or {})}"


def _wrong_kind(lines: list[str], keys: list[str], registries: Mapping[str, tuple[Registry[type], ...]]) -> str | None:
    """The sentence for a class that exists but is of another kind than the key takes, such as a dense network."""
    found = [match[1] for line in lines if (match := re.search(r"import path string: (\w+)$", line.strip()))]
    for registry in _registries(keys, registries) if found else ():
        if found[0] in registry:
            of_its_kind = _kind(registry[found[0]])
            others = [name for name in registry if _kind(registry[name]) != of_its_kind]
            return (
                f"key '{'.'.join(keys)}': {found[0]} is of another kind than is needed here; try {', '.join(others)}."
            )
    return None


def _kind(cls: type) -> str:
    """The abstract class of this package that a class is made of."""
    return next((base.__name__ for base in cls.__mro__[1:] if not base.__name__.startswith("_")), "")


def _depth(line: str) -> int:
    return len(line) - len(line.lstrip(" -"))


def _keys_above(lines: list[str], deepest: str) -> list[str]:
    """Parser keys on the way down to the deepest line, outermost first."""
    keys: list[str] = []
    depth = _depth(deepest) + 1
    for line in reversed(lines[: lines.index(deepest) + 1]):
        if _depth(line) < depth:
            depth = _depth(line)
            match = _PARSER_KEY.search(line)
            if match:
                keys.insert(0, match.group(1))
    return keys


def _tidy(line: str) -> str:
    text = re.sub(r"""(Parser key|Problem with given class_path) ["'][^"']+["']""", "", line).strip(" -:")
    text = re.sub(r"^Type .*? expects a function or a callable class: ", "", text)
    text = re.sub(r"\s*Got value: Namespace\(.*$", "", text)
    text = re.sub(r"<class '(?:[\w.]+\.)?(\w+)'>", r"\1", text)
    text = re.sub(r"Expected a typing\.Literal\[(.*)\]", r"expected one of \1", text)
    text = re.sub(r"NestedArg\(key=.*?, val=(.*?)\)", r"\1", text)
    text = re.sub(r"^Expected a dot import path string: (.*)$", r"there is no class \1", text)
    return text.rstrip(". ")


def _telling(lines: list[str]) -> list[str]:
    """Leaves out that a value is no bool, where more than its type is said to be wrong."""
    told = [line for line in lines if "Expected a <class 'bool'>" not in line]
    return told if any(not re.match(r"[\s-]*Expected a (<class|typing)", line) for line in told) else lines


def _registries(keys: list[str], registries: Mapping[str, tuple[Registry[type], ...]]) -> tuple[Registry[type], ...]:
    """Where the names are that a key may take."""
    above = (".".join(keys[:n]) for n in range(len(keys), 0, -1))
    return next((registries[key] for key in above if key in registries), ())


def _of_which(lines: list[str], keys: list[str], registries: Mapping[str, tuple[Registry[type], ...]]) -> str:
    """The class that a complaint is about, where a key holds a list of them."""
    found = [match[1].rpartition(".")[2] for line in lines if (match := _CLASS.search(line))]
    listed = registries.get(".".join(keys[:2]), ())
    return "".join(f" of {found[-1]}" for registry in listed if found and found[-1] in registry)


def _known_names(keys: list[str], text: str, registries: Mapping[str, tuple[Registry[type], ...]]) -> str:
    """Names that exist, where the complaint is about a class that does not."""
    if not re.search(r"no class|class_path|[Ii]mport|subclass|not a valid|unresolvable", text):
        return ""
    known = _registries(keys, registries)
    names = [name for registry in known for name in registry]
    close = difflib.get_close_matches(text.rsplit(" ", 1)[-1], names, n=2, cutoff=0.6)
    hint = f" Did you mean {' or '.join(close)}?" if close else ""
    return hint + "".join(f" Known {registry.kind}s: {', '.join(registry)}." for registry in known)


def understand_null() -> None:
    """Lets ``--model.optim.global_batch=null`` mean null at any depth.

    jsonargparse hands a value of a nested option on as text once per level, so that null arrives as the word None.
    """
    import yaml
    from jsonargparse import get_loader, set_loader

    load = get_loader("yaml")
    if getattr(load, "understands_null", False):
        return

    def load_null(text: str) -> Any:
        return None if isinstance(text, str) and text.strip() == "None" else load(text)

    load_null.understands_null = True  # type: ignore[attr-defined]
    set_loader("yaml", load_null, exceptions=(yaml.YAMLError,))


def suggestion(message: str, known: Iterable[str], registries: Mapping[str, tuple[Registry[type], ...]]) -> str:
    """The nearest right key, where the complaint of :func:`translate` is about one that does not exist.

    Args:
        message: The complaint.
        known: Keys that the verb has, such as ``trainer.max_epochs``.
        registries: For the first part of a key, the classes whose options stand under it.

    Returns:
        `` Did you mean ...?``, or which other classes have that option; empty where nothing is near, or the complaint
        is another.
    """
    option = re.search(r"^(?:key '([\w.]+)'(?: of \w+)?: )?Option '([\w.]+)' is not accepted", message)
    whole = re.search(r"does not accept option '([\w.]+)'|unrecognized arguments: --([\w.]+)", message)
    near = None
    if option is not None:
        place, name = option[1] or "", option[2]
        others = [cls.__name__ for cls in _classes_at(place.split("."), registries) if name in _arguments(cls)]
        if others:  # of an overlay for another kind of network, such as strong.yaml
            return f" It is an option of {', '.join(others)}."
        near = _nearest(name, _options_at(place.split("."), registries))
        near = f"{place}.{near}".lstrip(".") if near else None
    elif whole is not None:
        near = _nearest_key(whole[1] or whole[2], [key for key in known if key.isidentifier() or "." in key])
    return f" Did you mean {near}?" if near else ""


def _nearest(name: str, known: Iterable[str]) -> str | None:
    return next(iter(difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)), None)


def _nearest_key(key: str, known: list[str]) -> str | None:
    head, dot, tail = key.partition(".")
    heads = {name.partition(".")[0] for name in known}
    head = head if head in heads else _nearest(head, heads) or head
    inside = [name for name in known if name.startswith(f"{head}.")]
    if head in heads and dot and head not in known and inside:
        return _nearest(head + dot + tail, inside)
    return head + dot + tail if head in heads and head + dot + tail != key else _nearest(key, known)


def _options_at(keys: list[str], registries: Mapping[str, tuple[Registry[type], ...]]) -> set[str]:
    """Names of options under a key: of the classes that it takes, or of the group that one of their options is."""
    if whole := _classes_at(keys, registries):
        return {name for cls in whole for name in _arguments(cls)}
    classes = [cls for registry in registries.get(keys[0], ()) for cls in registry.values()]
    groups = [hint for cls in classes for hint in _types(_arguments(cls).get(keys[-1])) if is_dataclass(hint)]
    return {field.name for group in groups for field in fields(group)}


def _classes_at(keys: list[str], registries: Mapping[str, tuple[Registry[type], ...]]) -> list[type]:
    """Classes that may stand at a key: the tasks or data at the first, backbones at ``network``."""
    there = registries.get(keys[0], ())
    chosen = there[:1] if len(keys) == 1 else there[1:] if keys[-1] == "network" else ()
    return [cls for registry in chosen for cls in registry.values()]


def _arguments(cls: type) -> dict[str, Any]:
    """Type of each argument that a class or those that it is made of take."""
    own = [vars(base)["__init__"] for base in cls.__mro__ if "__init__" in vars(base) and base.__module__ != "builtins"]
    return {name: hint for init in own if inspect.isfunction(init) for name, hint in _hints(init).items()}


def _types(hint: Any) -> tuple[Any, ...]:
    return get_args(hint) or (hint,)


def _hints(function: Any) -> dict[str, Any]:
    names = [name for name in inspect.signature(function).parameters if name not in ("self", "spec", "options")]
    try:
        hints = get_type_hints(function)
    except NameError:  # a name that is imported for type checking only
        hints = {}
    return {name: hints.get(name) for name in names}


def unmonitored(error: Exception) -> CinemaError | None:
    """The sentence for a callback of the user's that watches a metric which is not logged; None for other errors."""
    match = re.search(r"conditioned on metric `(.+?)` which is not available.*?following: (.*)", str(error), re.DOTALL)
    if match is None:
        return None
    logged = re.findall(r"`([^`]+)`", match[2])
    close = difflib.get_close_matches(match[1], logged, n=1, cutoff=0.6)
    return CinemaError(
        f"key 'trainer.callbacks': EarlyStopping watches {match[1]}, which this run does not log"
        + (f"; did you mean {close[0]}?" if close else f"; it logs {', '.join(logged)}.")
    )


def quieten() -> None:
    """Leaves out what libraries say that a user of this command can do nothing about."""
    for message in (
        ".*ended before the epoch ended and your dataloader is not resumable.*",  # the data module goes on there
        ".*exists and is not empty.*",  # the folder of a resumed run
        ".*callbacks used to create the checkpoint need to be provided.*",  # predicting takes no training callbacks
        ".*LeafSpec.*",
        ".*does not have many workers.*",
        ".*is smaller than the logging interval.*",
        ".*find_unused_parameters=True was specified.*",  # true of cohorts in which every subject has every view
        ".*Grad strides do not match bucket view strides.*",
        ".*The `srun` command is available on your system but is not used.*",
        ".*Total length of .* across ranks is zero.*",  # nothing left to predict
        ".*Encountered `nan` values in tensor.*",  # a metric that was not defined in a batch; the mean leaves it out
    ):
        warnings.filterwarnings("ignore", message=message)
    for name in ("pytorch.utilities.rank_zero", "fabric.utilities.rank_zero", "fabric.utilities.seed"):
        logging.getLogger(f"lightning.{name}").addFilter(_worth_saying)
    connector = "lightning.pytorch.trainer.connectors.checkpoint_connector"  # checkpoints are read weights-only here
    logging.getLogger(connector).setLevel(logging.WARNING)


def _worth_saying(record: logging.LogRecord) -> bool:
    return not any(word in record.getMessage() for word in _NOT_WORTH_SAYING)
