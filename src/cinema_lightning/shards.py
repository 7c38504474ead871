"""Parts of a cohort, for SLURM arrays: ``--shard 3/8`` is the third of eight."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from cinema_lightning.errors import CinemaError


@dataclass(frozen=True)
class Shard:
    """Part ``index`` (from 1) of ``count``, as in ``--shard 3/8``."""

    index: int = 1
    count: int = 1

    @classmethod
    def parse(cls, text: str | None) -> Shard:
        """Reads ``I/N``.

        Raises:
            CinemaError: If the text is not two numbers with 1 <= I <= N.
        """
        if text is None:
            return cls()
        match = re.fullmatch(r"(\d+)/(\d+)", text.strip())
        if match:
            index, count = int(match[1]), int(match[2])
            if 1 <= index <= count:
                return cls(index, count)
        raise CinemaError(f"--shard {text}: give the part and the number of parts, counting from 1, such as 3/8.")

    def of(self, ids: Iterable[str]) -> list[str]:
        """This shard's share of the (unique, sorted) ids."""
        return sorted(set(ids))[self.index - 1 :: self.count]
