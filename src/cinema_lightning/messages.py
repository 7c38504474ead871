"""Turns jsonargparse's nested messages into one sentence that names the key."""

from __future__ import annotations

import re

from cinema_lightning.registry import Registry

_KEY = re.compile(r'(?:Parser key|Problem with given class_path) ["\']([^"\']+)["\']')
_NOISE = ("Does not validate against", "Subtypes:", "Errors:", "Given value", "Expected a <class 'NoneType'>")


def translate(message: str, registries: tuple[Registry[type], ...] = ()) -> str:
    """Keeps the deepest complaint of a parser message and says which key it is about.

    Args:
        message: What jsonargparse raised; nested by indentation, one level per type that did not fit.
        registries: Where to look for the names that exist when a class name is unknown.

    Returns:
        One sentence.
    """
    lines = [line for line in message.splitlines() if line.strip() and not line.strip(" -").startswith(_NOISE)]
    if not lines:
        return message.strip()
    deepest = max(lines, key=lambda line: (not _is_only_a_key(line), _depth(line)))
    keys = _keys_above(lines, deepest)
    text = _tidy(deepest)
    known = _known_names(text, registries)
    where = f"key '{'.'.join(keys)}': " if keys else ""
    return f"{where}{text}{known}"


def _depth(line: str) -> int:
    return len(line) - len(line.lstrip(" -"))


def _is_only_a_key(line: str) -> bool:
    return bool(re.fullmatch(r"[\s-]*(Parser key|Problem with given class_path) [\"'][^\"']+[\"']:\s*", line))


def _keys_above(lines: list[str], deepest: str) -> list[str]:
    """Parser keys on the way down to the deepest line, outermost first."""
    keys: list[str] = []
    depth = _depth(deepest)
    for line in reversed(lines[: lines.index(deepest) + 1]):
        if _depth(line) < depth or line is deepest:
            depth = _depth(line)
            match = _KEY.search(line)
            if match and "Parser key" in line:
                keys.insert(0, match.group(1))
    return keys


def _tidy(line: str) -> str:
    text = _KEY.sub("", line).strip(" -:")
    text = re.sub(r"^Type .*? expects a function or a callable class: ", "", text)
    text = re.sub(r"\s*Got value: Namespace\(.*$", "", text)
    text = re.sub(r"<class '(?:[\w.]+\.)?(\w+)'>", r"\1", text)
    text = re.sub(r"NestedArg\(key=.*?, val=(.*?)\)", r"\1", text)
    return text.rstrip(". ") + "."


def _known_names(text: str, registries: tuple[Registry[type], ...]) -> str:
    """Names that exist, where the complaint is about a class that does not."""
    if not re.search(r"class_path|[Ii]mport|subclass|not a valid|unresolvable", text):
        return ""
    return "".join(f" Known {registry.kind}s: {', '.join(registry)}." for registry in registries)
