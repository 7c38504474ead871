"""How far long work is: one line that is drawn anew on a terminal, and in a log a new line now and then."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

DRAWN = 0.3
"""Seconds between two drawings on a terminal."""
SPARSE, RARE, SHARE = 10.0, 600.0, 0.02
"""Seconds between the lines of a log: a fiftieth of the time so far, within these bounds."""
_LINE = re.compile(r"^(?P<title>[\w ]+): (?P<percent>\d+)%, (?P<text>.+)$")


class ProgressLine:
    """Says how far work is, and how long the rest takes at the pace so far.

    Args:
        title: What is being done, such as ``fit``.
        total: How much there is to do, in any unit.
        done: How much of it was done before, which tells nothing about the pace.
        unit: What is counted; empty where the number itself says nothing.
        stream: Where to write; None for standard error.
        clock: Seconds that go on.
    """

    def __init__(
        self,
        title: str,
        total: float,
        done: float = 0.0,
        unit: str = "",
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.title, self.total, self.done, self.unit = title, total, done, unit
        self._before, self._clock, self._stream = done, clock, stream or sys.stderr
        self._began = self._shown = clock()
        self._bar = self._new_bar() if self._stream.isatty() else None

    def _new_bar(self) -> Any:
        from tqdm import tqdm

        form = "{desc}: {percentage:3.0f}% |{bar:20}| {postfix}"
        return tqdm(total=1.0, desc=self.title, bar_format=form, file=self._stream, leave=False, dynamic_ncols=True)

    def __enter__(self) -> ProgressLine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def due(self) -> bool:
        """Whether it is time to say something again; what is to be said may take time to find out."""
        now = self._clock()
        often = DRAWN if self._bar is not None else min(max(SPARSE, SHARE * (now - self._began)), RARE)
        return now - self._shown >= often

    def update(self, more: float = 1.0, text: str = "") -> None:
        """So much more is done."""
        self.show(self.done + more, text)

    def show(self, done: float, text: str = "") -> None:
        """So much is done in all; ``text`` says what is at work. Shown where it is time to."""
        self.done = min(done, self.total)
        if not self.due:
            return
        self._shown = now = self._clock()
        if self._bar is not None:
            self._bar.n = self._share
            self._bar.set_postfix_str(self._words(text, now))
        else:
            print(f"{self.title}: {int(100 * self._share)}%, {self._words(text, now)}", file=self._stream, flush=True)

    def write(self, line: str, stream: TextIO | None = None) -> None:
        """Prints a line of its own above."""
        if self._bar is not None:
            self._bar.write(line, file=stream or self._stream)
        else:
            print(line, file=stream or self._stream, flush=True)

    def close(self) -> None:
        """Takes the line off a terminal."""
        if self._bar is not None:
            self._bar.close()

    @property
    def _share(self) -> float:
        return self.done / self.total if self.total else 1.0

    def _words(self, text: str, now: float) -> str:
        counted = f"{self.done:.0f} of {self.total:.0f} {self.unit}" if self.unit else ""
        moved = self.done - self._before
        left = duration((now - self._began) * (self.total - self.done) / moved) + " left" if moved > 0 else ""
        return ", ".join(part for part in (counted, text, left) if part)


def duration(seconds: float) -> str:
    """A time as people say it, such as ``40 s``, ``12 min`` or ``3 h 20 min``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"


def last_progress(log: Path, offset: int = 0) -> tuple[str, float, str] | None:
    """The last line of progress in the log of a command.

    Args:
        log: The log; it may not be there yet.
        offset: Where the command's output begins.

    Returns:
        Title, share that is done, and the words after it; None where there is no such line yet.
    """
    try:
        with log.open("rb") as file:
            file.seek(max(offset, file.seek(0, os.SEEK_END) - 4000))
            lines = file.read().decode("utf-8", errors="replace").splitlines()
    except OSError:
        return None
    for line in reversed(lines):
        if line.startswith("==="):
            return None
        if found := _LINE.match(line):
            return found["title"], int(found["percent"]) / 100, found["text"]
    return None
