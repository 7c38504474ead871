"""Patterns of file names, such as ``scans/{subject}/{id}_{phase}.nii.gz``, and the files that match them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from cinema_lightning.errors import CinemaError
from cinema_lightning.files import natural_key
from cinema_lightning.listing import list_paths

PHASES: dict[str, tuple[str, ...]] = {"ED": ("ED", "end_diastole"), "ES": ("ES", "end_systole")}
"""Words by which file names call ED and ES, in any case."""
NAMES = ("id", "subject", "phase", "frame", "split")
_PART = re.compile(r"\{(\w*)\}|(\*\*/|\*)")
# One folder or file name at most; the shortest, so that what follows in the pattern decides.
_WORDS = {"id": r"[^/]+?", "subject": r"[^/]+?", "split": r"[^/]+?", "frame": r"\d+"}


@dataclass(frozen=True)
class Match:
    """A file that fits a pattern.

    Attributes:
        path: The file, or folder.
        subject: The person.
        id: The study.
        phase: ED, ES or empty.
        frame: Number of the frame as written; None where the pattern has none.
        split: Word at ``{split}``.
    """

    path: Path
    subject: str
    id: str
    phase: str = ""
    frame: int | None = None
    split: str = ""


@dataclass(frozen=True)
class Pattern:
    """A path relative to the raw folder, with names in braces for what differs, and ``*`` for what does not matter.

    Attributes:
        text: As written.
        names: Names that it holds.
        phases: ED and ES -> words for them.
    """

    text: str
    names: frozenset[str]
    phases: Mapping[str, tuple[str, ...]]

    @classmethod
    def of(cls, text: str, phases: Mapping[str, tuple[str, ...]] | None = None) -> Pattern:
        """Checks and keeps a pattern.

        Raises:
            CinemaError: A half sentence that goes on after the key: what is wrong with it.
        """
        names = {match[1] for match in _PART.finditer(text) if match[2] is None}
        for name in sorted(names):
            if name not in NAMES:
                known = ", ".join(f"{{{name}}}" for name in NAMES)
                raise CinemaError(f"is '{text}', but {{{name}}} means nothing; it can hold {known}")
        if not names & {"id", "subject"}:
            raise CinemaError(f"is '{text}', which holds neither {{id}} nor {{subject}}, so all studies would be one")
        if {"phase", "frame"} <= names:
            raise CinemaError(f"is '{text}', which holds both {{phase}} and {{frame}}; a file is named by one of them")
        if text.startswith("/") or ".." in text.split("/"):
            raise CinemaError(f"is '{text}'; give it relative to the raw folder, inside of it")
        return cls(text, frozenset(names), dict(phases or PHASES))

    def find(self, raw: Path) -> list[Match]:
        """The files of a raw folder that match, in natural order."""
        found = list_paths(raw, _PART.sub(lambda part: part[2] or "*", self.text))
        found.sort(key=lambda path: natural_key(path.relative_to(raw).as_posix()))
        return [*self._matches(raw, found)]

    def _matches(self, raw: Path, found: list[Path]) -> Iterator[Match]:
        regex = self._regex()
        for path in found:
            match = regex.fullmatch(path.relative_to(raw).as_posix())
            if match is None:
                continue
            parts = match.groupdict()
            subject = parts.get("subject") or parts["id"]
            own = parts.get("id") or subject
            word = (parts.get("phase") or "").lower()
            phase = next((name for name, words in self.phases.items() if word in map(str.lower, words)), "")
            frame = int(parts["frame"]) if parts.get("frame") else None
            # An id such as "visit 1" is one of its subject only.
            name = own if re.match(rf"{re.escape(subject)}(?![A-Za-z0-9])", own) else f"{subject}_{own}"
            yield Match(path, subject, name, phase, frame, parts.get("split") or "")

    def _regex(self) -> re.Pattern[str]:
        words = sorted((word for words in self.phases.values() for word in words), key=len, reverse=True)
        groups = {**_WORDS, "phase": "(?i:" + "|".join(map(re.escape, words)) + ")"}
        out, seen, end = "", set[str](), 0
        for part in _PART.finditer(self.text):
            out += re.escape(self.text[end : part.start()])
            end = part.end()
            if part[2] is not None:
                out += "(?:.*/)?" if part[2] == "**/" else "[^/]*"
            elif part[1] in seen:
                out += f"(?P={part[1]})"
            else:
                seen.add(part[1])
                out += f"(?P<{part[1]}>{groups[part[1]]})"
        return re.compile(out + re.escape(self.text[end:]))
