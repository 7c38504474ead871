"""Configurations by name, and the bases they stand on.

A name that is not a file is looked up among the packaged configurations. A file may say ``base: [other.yaml, ...]``:
those come first and the file overlays them. jsonargparse cannot do this inside a file without losing subclass types,
nor can it take options of a class before it knows the class, so that a file and its bases are merged here into one
configuration before the parser sees it.
"""

from __future__ import annotations

import difflib
import re
from argparse import ArgumentError
from collections.abc import Iterator, Sequence
from itertools import pairwise
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

    Options of a class that the upper one exchanges for another are dropped with it. An empty text, such as data.root
    of an experiment for any data, replaces nothing.
    """
    out = dict(below)
    if _exchanged(below, above):
        out.pop("init_args", None)
    for key, value in _without_blanks(out, above).items():
        both = isinstance(value, dict) and isinstance(out.get(key), dict)
        out[key] = merged(out[key], value) if both else value
    return out


def _exchanged(below: dict[str, Any], above: dict[str, Any]) -> bool:
    """Whether the class is another."""
    return "class_path" in below and above.get("class_path", below["class_path"]) != below["class_path"]


def _without_blanks(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """The upper configuration without empty texts where the lower one says something."""
    if _exchanged(below, above):
        return above
    out = {key: value for key, value in above.items() if not (value == "" and below.get(key))}
    both = [key for key, value in out.items() if isinstance(value, dict) and isinstance(below.get(key), dict)]
    return out | {key: _without_blanks(below[key], out[key]) for key in both}


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
    below: dict[str, Any] = {}
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
        text, below = _as_one(done[before:], path, below)
        arguments += ["--config", text]
    return [up_to_date(argument) for argument in arguments], named


def _as_one(files: list[Path], path: Path, below: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """What to give to the parser for a file and its bases: the path, or the text of all of them merged.

    Beside it what that comes to with the configurations before it.
    """
    import yaml

    content: dict[str, Any] = {}
    for file in files or [path]:
        content = merged(content, {key: value for key, value in read_config(file).items() if key != "base"})
    whole, said = merged(below, content), _without_blanks(below, content)
    text = str(yaml.safe_dump(said, sort_keys=False))
    plain = files in ([], [path]) and not read_bases(path) and "cinema_lightning." not in text and said == content
    return (str(path) if plain else text), whole


def refuse_unknown(parser: Any, arguments: list[str], config: Any) -> None:
    """Refuses a key that the parser does not know and passed over, because its value is an empty mapping.

    Args:
        parser: The parser of a verb.
        arguments: What it parsed: the verb, flags and values, configurations as :func:`unfold_arguments` gives them.
        config: What it made of them.

    Raises:
        ArgumentError: The parser's complaint about the key.
    """
    for keys, nulled in _emptied(arguments):
        if not _is_there(config, keys):
            try:
                parser.parse_args(nulled)
            except ArgumentError as error:  # or of another kind: null is no value of a known key
                if re.search("not accept", str(error)):
                    raise


def _emptied(arguments: list[str]) -> Iterator[tuple[tuple[str | int, ...], list[str]]]:
    """Keys of every empty mapping in a command line, and the command line with null in its place."""
    import yaml

    for index, (before, argument) in enumerate(pairwise(["", *arguments])):
        flag, equals, value = argument.partition("=") if argument.startswith("--") else (before, "", argument)
        if not flag.startswith("--") or "{" not in (text := _text(flag, value)):
            continue
        try:
            content = yaml.safe_load(text)
        except yaml.YAMLError:  # text that only begins like a mapping
            continue
        for keys in _empty(content):
            given = yaml.safe_dump(_with_null(content, keys), default_flow_style=flag != "--config", width=10**6)
            changed = f"{flag}={given}" if equals else given
            above = () if flag == "--config" else flag.removeprefix("--").split(".")
            yield (*above, *keys), [*arguments[:index], changed, *arguments[index + 1 :]]


def _text(flag: str, value: str) -> str:
    """YAML of the value of a flag; none of one that is no mapping and no list."""
    if flag == "--config":
        return value if "\n" in value or not value else Path(value).read_text(encoding="utf-8")
    return value if value.lstrip().startswith(("{", "[")) else ""


def _items(content: Any) -> list[tuple[str | int, Any]]:
    """What a mapping or list holds, by key or number."""
    if isinstance(content, dict):
        return list(content.items())
    return list(enumerate(content)) if isinstance(content, list) else []


def _empty(content: Any) -> Iterator[tuple[str | int, ...]]:
    """Keys on the way to every empty mapping."""
    if content == {}:
        yield ()
    for key, value in _items(content):
        yield from ((key, *keys) for keys in _empty(value))


def _with_null(content: Any, keys: Sequence[str | int]) -> Any:
    if not keys:
        return None
    changed = {key: _with_null(value, keys[1:]) if key == keys[0] else value for key, value in _items(content)}
    return changed if isinstance(content, dict) else list(changed.values())


def _is_there(content: Any, keys: Sequence[str | int]) -> bool:
    """Whether a parsed configuration holds a key, in the options of a class also without ``init_args`` in the way."""
    if not keys:
        return True
    inside = dict(_items(content if isinstance(content, dict | list) else getattr(content, "__dict__", {})))
    if keys[0] in inside:
        return _is_there(inside[keys[0]], keys[1:])
    return "init_args" in inside and _is_there(inside["init_args"], keys)
