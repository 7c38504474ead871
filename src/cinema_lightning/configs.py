"""Configurations by name, and the bases they stand on.

A name that is not a file is looked up among the packaged configurations. A file may say ``base: [other.yaml, ...]``:
those come first and the file overlays them. jsonargparse cannot do this inside a file without losing subclass types,
nor can it take options of a class before it knows the class, so that a file and its bases are merged here into one
configuration before the parser sees it.
"""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any

from cinema_lightning.errors import CinemaError
from cinema_lightning.paths import expanded
from cinema_lightning.registry import up_to_date

_BEFORE = {"_segmentation": "seg.yaml", "_classification": "classify.yaml", "_regression": "regress.yaml"}
"""Packaged configurations by the names that they had in earlier versions."""


def packaged_folder() -> Path:
    """Folder of the packaged configurations: inside the wheel, or ``configs/`` of a source checkout."""
    inside = Path(__file__).parent / "configs"
    return inside if inside.is_dir() else Path(__file__).parents[2] / "configs"


def list_configs() -> list[tuple[str, str]]:
    """Packaged configurations that can be run or overlaid.

    Returns:
        (file name, first comment line) pairs, sorted. Files whose name starts with an underscore are bases only.
    """
    rows = []
    for path in sorted(packaged_folder().glob("*.yaml")):
        if not path.name.startswith("_"):
            first = path.read_text(encoding="utf-8").split("\n", 1)[0]
            rows.append((path.name, first.lstrip("# ").strip()))
    return rows


def find_config(name: str, beside: Path | None = None) -> Path:
    """Finds a configuration.

    Args:
        name: A path, or the name of a packaged configuration, with or without ``.yaml``.
        beside: Folder of the file that names it, looked into first.

    Returns:
        The path of an existing file.

    Raises:
        CinemaError: If there is none; says which packaged names are close.
    """
    name = expanded(name, "The name of a configuration")
    folders = [Path(), packaged_folder()] if beside is None else [beside, packaged_folder()]
    for folder in folders:
        for candidate in (folder / name, folder / f"{name}.yaml"):
            if candidate.is_file():
                return candidate
    if (stem := name.removesuffix(".yaml")) in _BEFORE:
        return packaged_folder() / _BEFORE[stem]
    stems = [Path(known).stem for known, _ in list_configs()]
    close = difflib.get_close_matches(Path(name).stem, stems, n=3, cutoff=0.6)
    hint = "`cinema configs` lists the packaged ones."
    if close:
        hint = f"did you mean {' or '.join(f'{stem}.yaml' for stem in close)}?"
    raise CinemaError(f"There is no configuration '{name}', neither as a file nor among the packaged ones; {hint}")


def read_config(path: Path) -> dict[str, Any]:
    """Reads a configuration.

    Raises:
        CinemaError: If the file is not a YAML mapping.
    """
    import yaml

    try:
        text = path.read_text(encoding="utf-8")
        content = yaml.safe_load(text)
        _check_once(yaml.compose(text, Loader=yaml.SafeLoader), path)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or str(error)
        raise CinemaError(f"{path}{where} is not valid YAML: {problem}.") from error
    if content is None:
        content = {}
    if not isinstance(content, dict):
        raise CinemaError(f"{path} is not a configuration: its content is a {type(content).__name__}, not a mapping.")
    return content


def _check_once(top: Any, path: Path) -> None:
    """Refuses a key that stands twice in a mapping, of which YAML keeps the last; CinemaError."""
    import yaml

    waiting, seen = [top], set[int]()
    while waiting:
        node = waiting.pop()
        if id(node) in seen or not isinstance(node, yaml.CollectionNode):
            continue
        seen.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            waiting += node.value
            continue
        first: dict[str, int] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if isinstance(key, yaml.ScalarNode) and key.value in first:
                where = f"first in line {first[key.value]}"
                raise CinemaError(f"{path}, line {line}: says '{key.value}' a second time ({where}); keep one.")
            first[str(key.value)] = line
            waiting.append(value)


def read_bases(path: Path) -> list[str]:
    """Reads the ``base:`` list of a configuration.

    Raises:
        CinemaError: If the file is not a YAML mapping.
    """
    bases = read_config(path).get("base") or []
    return [bases] if isinstance(bases, str) else list(bases)


def merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """One configuration laid over another: mappings are merged, anything else is replaced.

    Options of a class that the upper one exchanges for another are dropped with it.
    """
    out = dict(below)
    exchanged = "class_path" in below and above.get("class_path", below["class_path"]) != below["class_path"]
    if exchanged:
        out.pop("init_args", None)
    for key, value in above.items():
        both = isinstance(value, dict) and isinstance(out.get(key), dict)
        out[key] = merged(out[key], value) if both else value
    return out


def unfold(path: Path, done: list[Path] | None = None, parents: tuple[Path, ...] = ()) -> list[Path]:
    """A configuration preceded by its bases, each file once.

    Raises:
        CinemaError: If files are bases of each other in a circle.
    """
    done = [] if done is None else done
    resolved = path.resolve()
    if resolved in parents:
        chain = " -> ".join(p.name for p in (*parents, resolved))
        raise CinemaError(f"Configurations are bases of each other in a circle: {chain}; take one 'base' away.")
    if resolved in (p.resolve() for p in done):
        return done
    for base in read_bases(path):
        unfold(find_config(base, beside=path.parent), done, (*parents, resolved))
    done.append(path)
    return done


def unfold_arguments(argv: list[str]) -> tuple[list[str], list[Path]]:
    """Replaces every ``--config NAME`` of a command line by the files it stands for, bases first.

    Args:
        argv: Arguments after the verb.

    Returns:
        The arguments with paths, or text where there are bases or names of classes, in place of names; and the
        configurations as the user named them (without bases). Classes are named by the paths of today.
    """
    arguments: list[str] = []
    named: list[Path] = []
    done: list[Path] = []
    rest = iter(argv)
    for argument in rest:
        flag, equals, value = argument.partition("=")
        if flag not in ("--config", "-c"):
            arguments.append(argument)
            continue
        if not equals:
            value = next(rest, "")
        if not value:
            raise CinemaError(f"{flag} needs the name of a configuration; `cinema configs` lists the packaged ones.")
        path = find_config(value)
        named.append(path)
        before = len(done)
        unfold(path, done)
        arguments += ["--config", _as_one(done[before:], path)]
    return [up_to_date(argument) for argument in arguments], named


def _as_one(files: list[Path], path: Path) -> str:
    """What to give to the parser for a file and its bases: the path, or the text of all of them merged."""
    import yaml

    content: dict[str, Any] = {}
    for file in files or [path]:
        content = merged(content, {key: value for key, value in read_config(file).items() if key != "base"})
    text = str(yaml.safe_dump(content, sort_keys=False))
    plain = files in ([], [path]) and not read_bases(path) and "cinema_lightning." not in text
    return str(path) if plain else text
