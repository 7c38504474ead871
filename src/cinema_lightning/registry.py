"""Named things that YAML and the command line can ask for: tasks, networks, data modules, augmentations.

A registry is a dict with three habits: registering is a decorator, an unknown name is answered with the names that
exist, and packages installed beside this one may add to it through entry points (group ``cinema_lightning.plugins``:
each entry point names a module that registers things when imported). Classes register under their own name, which is
also the short name by which jsonargparse resolves ``class_path`` in YAML, so that there is one way to name a thing.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Callable, Iterator
from importlib.metadata import entry_points
from typing import Any, Generic, TypeVar

from cinema_lightning.errors import CinemaError

T = TypeVar("T")
PLUGIN_GROUP = "cinema_lightning.plugins"


class Registry(Generic[T]):
    """Things of one kind by name.

    Args:
        kind: What the things are, for messages ("task", "network", "dataset").
        package: Package whose modules, also those of its folders, register themselves; imported at the first look-up.
        only: Name of the modules to import, such as one light one of each folder; by default all.
    """

    def __init__(self, kind: str, package: str, only: str = "") -> None:
        self.kind = kind
        self.package = package
        self.only = only
        self._items: dict[str, T] = {}
        self._loaded = False

    def add(self, name: str, item: T) -> T:
        """Registers ``item`` under ``name``; registering another thing under a taken name is an error."""
        if self._items.get(name, item) != item:
            raise CinemaError(f"Two {self.kind}s are called '{name}'; rename one of them.")
        self._items[name] = item
        return item

    def register(self, cls: T) -> T:
        """Class decorator: registers a class under its own name."""
        return self.add(cls.__name__, cls)  # type: ignore[attr-defined]

    def load(self) -> None:
        """Imports every module of the package, then the plug-ins."""
        if self._loaded:
            return
        self._loaded = True
        package = importlib.import_module(self.package)
        for module in pkgutil.walk_packages(package.__path__, f"{self.package}."):
            if module.ispkg or self.only in ("", module.name.rpartition(".")[2]):
                importlib.import_module(module.name)
        for entry in entry_points(group=PLUGIN_GROUP):
            entry.load()

    def __getitem__(self, name: str) -> T:
        self.load()
        try:
            return self._items[name]
        except KeyError:
            raise CinemaError(f"There is no {self.kind} called '{name}'; there are {', '.join(self)}.") from None

    def __iter__(self) -> Iterator[str]:
        self.load()
        return iter(sorted(self._items))

    def values(self) -> list[T]:
        """The things, in the order in which they were registered."""
        self.load()
        return list(self._items.values())

    def __contains__(self, name: object) -> bool:
        self.load()
        return name in self._items


TASKS: Registry[type] = Registry("task", "cinema_lightning.tasks")
"""Tasks by class name."""
DATA: Registry[Any] = Registry("data module", "cinema_lightning.tasks", only="data")
"""Data modules by class name."""
BACKBONES: Registry[type] = Registry("backbone", "cinema_lightning.models")
"""What downstream tasks can be built on, by class name."""
AUGMENTATIONS: Registry[type] = Registry("augmentation", "cinema_lightning.data.augment")
"""Effects that training batches can be augmented with, by class name."""
_OURS = re.compile(r"\bcinema_lightning(?:\.\w+)*\.(\w+)\b")


def class_path(cls: type) -> str:
    """The path by which checkpoints and configurations name a class."""
    return f"{cls.__module__}.{cls.__qualname__}"


def up_to_date(value: T) -> T:
    """Brings the class paths of earlier versions to where the classes are now.

    Checkpoints and configurations name classes by their path. The name at its end is registered once, and so finds its
    class in whichever module it is today; other names stay as they are.

    Args:
        value: Text, or mappings and lists of plain values.

    Returns:
        The same with other paths.
    """
    out: Any = value
    if isinstance(value, str):
        out = _OURS.sub(_as_registered, value)
    elif isinstance(value, dict):
        out = {key: up_to_date(item) for key, item in value.items()}
    elif isinstance(value, list | tuple):
        out = type(value)(up_to_date(item) for item in value)
    result: T = out
    return result


def _as_registered(match: re.Match[str]) -> str:
    registries: tuple[Registry[Any], ...] = (TASKS, DATA, BACKBONES, AUGMENTATIONS)
    return next((class_path(registry[match[1]]) for registry in registries if match[1] in registry), match[0])


def named(registry: Registry[T], name: str) -> Callable[[T], T]:
    """Decorator form of :meth:`Registry.add` for things that are not classes."""
    return lambda item: registry.add(name, item)
