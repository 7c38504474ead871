"""The matrix of a benchmark: one YAML of tasks, arms, label fractions and seeds, and the cells that it means.

A cell is one task, one arm (a network and where it starts), one label fraction, one seed and, where there are folds,
one fold. Its name is stable and readable (``acdc_seg/unet/f25/s0``), and its results are in ``<root>/cells/<name>/``.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from cinema_lightning.configs import find_config, packaged_folder
from cinema_lightning.errors import CinemaError
from cinema_lightning.paths import expanded

NetworkKind = Literal["dense", "pooled"]
NETWORK_KINDS: tuple[NetworkKind, ...] = ("dense", "pooled")
_SAFE = re.compile(r"[A-Za-z0-9][\w.+-]*")

_TOP = ("name", "root", "overlays", "arguments", "test_arguments", "seeds", "fractions", "folds", "arms", "tasks")
_TASK = (
    "config",
    "kind",
    "display",
    "also_test",
    "arms",
    "overlays",
    "arguments",
    "test_arguments",
    "seeds",
    "fractions",
    "folds",
)
_ARM = ("display", "network", "weights", "layer_decay", "arguments")


@dataclass(frozen=True)
class Test:
    """A test of a trained cell: its name (the configuration's stem) and the arguments of ``cinema test``."""

    name: str
    arguments: tuple[str, ...]


@dataclass(frozen=True)
class Cell:
    """One training and its tests.

    Attributes:
        name: ``<task>/<arm>/f<percent>/s<seed>``, with folds ``.../s<seed>k<fold>of<folds>``.
        task: Name of the task in the matrix.
        kind: ``dense`` or ``pooled``.
        arm: Name of the arm.
        fraction: Percent of the training subjects.
        seed: Seed of everything.
        fit: Arguments of ``cinema fit``, without run folder and checkpoint.
        tests: Tests after it, the task's own data first.
        fold: The fold that validates, such as ``2/5``; empty without folds.
    """

    name: str
    task: str
    kind: NetworkKind
    arm: str
    fraction: float
    seed: int
    fit: tuple[str, ...]
    tests: tuple[Test, ...]
    fold: str = ""

    @property
    def digest(self) -> str:
        """A hash of the training's options: tells whether a result was made with those that the matrix now has."""
        return hashlib.sha256(json.dumps(self.fit).encode()).hexdigest()[:16]

    def as_dict(self) -> dict[str, Any]:
        """Plain types, for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Cell:
        """The cell that :meth:`as_dict` described."""
        tests = tuple(Test(test["name"], tuple(test["arguments"])) for test in content["tests"])
        return cls(**{**content, "fit": tuple(content["fit"]), "tests": tests})


@dataclass(frozen=True)
class Matrix:
    """A benchmark as declared.

    Attributes:
        path: The YAML.
        name: Name of the benchmark.
        root: Folder of its results.
        cells: All cells in their stable order; a cell's index is its place here.
        displays: Names for people, of tasks (``task:<name>``) and arms (``arm:<name>``).
    """

    path: Path
    name: str
    root: Path
    cells: tuple[Cell, ...]
    displays: dict[str, str] = field(default_factory=dict)


def percent(fraction: float) -> str:
    """A label fraction as in names: 100 -> ``100``, 12.5 -> ``12.5``."""
    return f"{fraction:g}"


def read_matrix(name: str, root: Path | None = None) -> Matrix:
    """Reads a benchmark's YAML and lays out its cells.

    Args:
        name: A path, or the name of a packaged configuration.
        root: Folder of the results in place of the YAML's own.

    Returns:
        The matrix.

    Raises:
        CinemaError: Names the file and the key that is unknown, missing, empty or of another type.
    """
    import yaml

    path = find_config(name)
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        raise CinemaError(f"{path}{where} is not valid YAML: {getattr(error, 'problem', None) or error}.") from error
    return _Reader(path).matrix(content, root)


class _Reader:
    """Turns the content of a YAML into cells, complaining with file and key."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def matrix(self, content: Any, root: Path | None) -> Matrix:
        top = self.mapping(content, "", _TOP)
        if "model" in top or "tasks" not in top:
            raise self.error("tasks", "is missing: a benchmark lists its tasks there")
        arms = self.arms(top.get("arms"))
        tasks = self.mapping(top["tasks"], "tasks", None)
        if not tasks:
            raise self.error("tasks", "is empty; name at least one task")
        cells: list[Cell] = []
        displays: dict[str, str] = {}
        for name, options in tasks.items():
            self.safe(name, "tasks")
            task = self.mapping(options or {}, f"tasks.{name}", _TASK)
            cells += self.cells_of(name, task, top, arms)
            displays[f"task:{name}"] = str(task.get("display", name))
        for of_kind in arms.values():
            displays |= {f"arm:{arm}": str(options.get("display", arm)) for arm, options in of_kind.items()}
        own = Path(expanded(str(top.get("root", top.get("name", self.path.stem))), f"{self.path}: key 'root'"))
        return Matrix(self.path, str(top.get("name", self.path.stem)), root or own, tuple(cells), displays)

    def cells_of(self, name: str, task: dict[str, Any], top: dict[str, Any], arms: dict[str, Any]) -> list[Cell]:
        key = f"tasks.{name}"
        kind = task.get("kind")
        if kind not in NETWORK_KINDS:
            raise self.error(
                f"{key}.kind", f"is {kind!r}; give dense (masks, heatmaps) or pooled (one answer per study)"
            )
        chosen = self.chosen_arms(task, key, arms.get(kind, {}), kind)
        fractions = self.axis(task, top, key, "fractions", lambda x: 1 <= x <= 100, "percents from 1 to 100")
        seeds = self.axis(task, top, key, "seeds", lambda x: isinstance(x, int) and x >= 0, "whole numbers from 0")
        config = self.config(str(task.get("config", name)), f"{key}.config" if "config" in task else key)
        overlays = self.overlays(top, "overlays") + self.overlays(task, f"{key}.overlays")
        folds = self.folds(task, top, key)
        tests = self.tests(config, task, top, key, overlays)
        common = self.options(top, "arguments") | self.options(task, f"{key}.arguments")
        return [
            Cell(
                name=f"{name}/{arm}/f{percent(fraction)}/s{seed}" + (f"k{fold.replace('/', 'of')}" if fold else ""),
                task=name,
                kind=kind,
                arm=arm,
                fraction=float(fraction),
                seed=seed,
                fit=(
                    *("--config", config),
                    *_flags(arm_options),
                    *overlays,
                    *_flags({"data.init_args.fraction": round(fraction / 100, 6), "seed_everything": seed} | common),
                    *_flags({"data.init_args.fold": fold} if fold else {}),
                    *_flags(extra),
                ),
                tests=tests,
                fold=fold,
            )
            for arm, (arm_options, extra) in chosen.items()
            for fraction in fractions
            for seed in seeds
            for fold in folds
        ]

    # ------------------------------------------------------------------ parts
    def arms(self, content: Any) -> dict[str, dict[str, dict[str, Any]]]:
        kinds = self.mapping(content or {}, "arms", NETWORK_KINDS)
        arms: dict[str, dict[str, dict[str, Any]]] = {}
        for kind, of_kind in kinds.items():
            named = self.mapping(of_kind or {}, f"arms.{kind}", None)
            if not named:
                raise self.error(f"arms.{kind}", "is empty; name at least one arm")
            for arm in named:
                self.safe(arm, f"arms.{kind}")
            arms[kind] = {
                arm: self.mapping(options or {}, f"arms.{kind}.{arm}", _ARM) for arm, options in named.items()
            }
        return arms

    def chosen_arms(
        self, task: dict[str, Any], key: str, arms: dict[str, dict[str, Any]], kind: str
    ) -> dict[str, tuple[dict[str, Any], dict[str, Any]]]:
        """Arms of a task: the options that choose the network, and those that come last."""
        names = task.get("arms", list(arms))
        if not isinstance(names, list) or not names:
            raise self.error(f"{key}.arms", f"is empty; list arms of arms.{kind}")
        for name in names:
            if name not in arms:
                raise self.error(f"{key}.arms", f"names '{name}', which arms.{kind} does not have: {', '.join(arms)}")
        chosen = {}
        for name in names:
            options: dict[str, Any] = {}
            network = arms[name].get("network")
            if isinstance(network, Mapping):
                options |= {f"model.init_args.network.{part}": value for part, value in network.items()}
            elif network is not None:
                options["model.init_args.network.class_path"] = network
            options["model.init_args.weights"] = arms[name].get("weights")
            if "layer_decay" in arms[name]:
                options["model.init_args.layer_decay"] = arms[name]["layer_decay"]
            chosen[name] = (options, self.options(arms[name], f"arms.{kind}.{name}.arguments"))
        return chosen

    def tests(
        self, config: str, task: dict[str, Any], top: dict[str, Any], key: str, overlays: tuple[str, ...]
    ) -> tuple[Test, ...]:
        others = task.get("also_test", [])
        if not isinstance(others, list):
            raise self.error(f"{key}.also_test", "is no list of configurations, such as [kaggle_seg]")
        configs = [config, *(self.config(str(other), f"{key}.also_test") for other in others)]
        stems = [Path(each).stem for each in configs]
        if len(set(stems)) < len(stems):
            raise self.error(f"{key}.also_test", "names a dataset twice; the task's own is tested anyway")
        extra = _flags(self.options(top, "test_arguments") | self.options(task, f"{key}.test_arguments"))
        return tuple(
            Test(stem, ("--config", each, *overlays, *extra)) for stem, each in zip(stems, configs, strict=True)
        )

    def axis(self, task: dict[str, Any], top: dict[str, Any], key: str, name: str, fits: Any, what: str) -> list[Any]:
        values, where = (task[name], f"{key}.{name}") if name in task else (top.get(name), name)
        if not isinstance(values, list) or not values:
            raise self.error(where, f"is {'missing' if values is None else 'empty or no list'}; list {what}")
        for value in values:
            if not isinstance(value, int | float) or isinstance(value, bool) or not fits(value):
                raise self.error(where, f"holds {value!r}; list {what}")
        if len(set(values)) < len(values):
            raise self.error(where, "holds a value twice")
        return values

    def folds(self, task: dict[str, Any], top: dict[str, Any], key: str) -> list[str]:
        """The folds as ``data.fold`` takes them; one empty text without folds."""
        count, where = (task["folds"], f"{key}.folds") if "folds" in task else (top.get("folds"), "folds")
        if count is None:
            return [""]
        if not isinstance(count, int) or isinstance(count, bool) or count < 2:
            raise self.error(where, f"is {count!r}; give the number of folds, 2 or more")
        tested = self.options(top, "test_arguments") | self.options(task, f"{key}.test_arguments")
        if any(name.endswith("test_split") and value != "test" for name, value in tested.items()):
            raise self.error(where, "cannot be had with a test_split: all folds are tested on the table's test rows")
        return [f"{number}/{count}" for number in range(1, count + 1)]

    def overlays(self, content: dict[str, Any], key: str) -> tuple[str, ...]:
        names = content.get("overlays") or []
        if not isinstance(names, list):
            raise self.error(key, "is no list of configurations, such as [phantom.yaml]")
        return tuple(part for name in names for part in ("--config", self.config(str(name), key)))

    def config(self, name: str, key: str) -> str:
        """A packaged configuration by its name, another by its full path, so that cells run in any folder."""
        try:
            found = find_config(name, beside=self.path.parent).resolve()
        except CinemaError as error:
            raise CinemaError(f"{self.path}, key '{key}': {error}") from error
        return found.name if found.parent == packaged_folder().resolve() else str(found)

    def options(self, content: dict[str, Any], key: str) -> dict[str, Any]:
        return self.mapping(content.get(key.rsplit(".", 1)[-1]) or {}, key, None)

    # ------------------------------------------------------------------ checks
    def mapping(self, content: Any, key: str, known: Iterable[str] | None) -> dict[str, Any]:
        if not isinstance(content, dict):
            what = f"key '{key}'" if key else "the file"
            raise CinemaError(f"{self.path}: {what} holds a {type(content).__name__} where key: value pairs belong.")
        for name in content:
            if known is not None and name not in known:
                close = difflib.get_close_matches(str(name), list(known), n=1, cutoff=0.6)
                hint = f"did you mean {close[0]}?" if close else f"known are {', '.join(known)}."
                raise CinemaError(f"{self.path}: key '{f'{key}.{name}'.strip('.')}' is unknown; {hint}")
        return {str(name): value for name, value in content.items()}

    def safe(self, name: str, key: str) -> None:
        if not _SAFE.fullmatch(name):
            raise self.error(f"{key}.{name}", "is the name of a folder: letters, digits and . _ + - only")

    def error(self, key: str, what: str) -> CinemaError:
        return CinemaError(f"{self.path}: key '{key}' {what}.")


def _flags(options: Mapping[str, Any]) -> tuple[str, ...]:
    """Options as arguments; what is no text is written as JSON, which is YAML."""
    return tuple(f"--{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in options.items())


# ---------------------------------------------------------------------- selection
AXES = ("task", "arm", "fraction", "seed", "fold", "kind", "cell")


def select(cells: Sequence[Cell], expression: str | None) -> list[int]:
    """Indices of the cells that a filter lets through.

    Args:
        cells: All cells.
        expression: ``task=*_seg,arm=cinema,unet,fraction=100,seed=0``: values of an axis are alternatives and may hold
            ``*`` and ``?``; axes are task, arm, fraction (percent), seed, fold (``2/5``), kind and cell (the
            full name). None: all.

    Returns:
        Indices in the full order.

    Raises:
        CinemaError: If the filter is malformed or lets nothing through.
    """
    from fnmatch import fnmatchcase

    if not expression:
        return list(range(len(cells)))
    wanted = _parse(expression)
    chosen = [
        i
        for i, cell in enumerate(cells)
        if all(any(fnmatchcase(_value(cell, axis), p) for p in patterns) for axis, patterns in wanted.items())
    ]
    if chosen:
        return chosen
    for axis, patterns in wanted.items():
        there = list(dict.fromkeys(_value(cell, axis) for cell in cells))
        if axis != "cell" and not any(fnmatchcase(value, p) for value in there for p in patterns):
            raise CinemaError(f"--select: no {axis} is {' or '.join(patterns)}; there are {', '.join(there)}.")
    raise CinemaError(f"--select {expression}: no cell has all of these together.")


def _parse(expression: str) -> dict[str, list[str]]:
    wanted: dict[str, list[str]] = {}
    axis = ""
    for token in (part.strip() for part in expression.split(",")):
        name, equals, value = token.partition("=")
        if equals:
            axis, token = name.strip(), value.strip()
            if axis not in AXES:
                raise CinemaError(f"--select: there is no axis '{axis}'; the axes are {', '.join(AXES)}.")
        if not axis or not token:
            raise CinemaError(
                f"--select {expression}: write AXIS=VALUE[,VALUE...], such as task=*_seg,arm=cinema,unet."
            )
        wanted.setdefault(axis, []).append(token)
    return wanted


def _value(cell: Cell, axis: str) -> str:
    if axis == "fraction":
        return percent(cell.fraction)
    return str(cell.name if axis == "cell" else getattr(cell, axis))
