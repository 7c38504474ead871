"""Random draws that depend on nothing but their key: (seed, epoch, sample id, frame, view, purpose).

No draw reads global random state, so the number of workers, the number of processes, the order of batches and a
resume in the middle of an epoch do not change any of them.
"""

from __future__ import annotations

import hashlib

import numpy as np

Key = tuple[int, str, int]
"""Epoch, id and frame: what the draws of a sample are keyed on."""


def _word(part: str | int) -> int:
    """One non-negative integer of at most 128 bits per key part, the same on every machine and in every process."""
    tagged = f"i{int(part)}" if isinstance(part, int | np.integer) else f"s{part}"
    return int.from_bytes(hashlib.blake2b(tagged.encode("utf-8"), digest_size=16).digest(), "little")


def generator(seed: int, *key: str | int) -> np.random.Generator:
    """Builds the generator of one draw.

    Args:
        seed: The run's seed.
        *key: What the draw is for, such as ``(epoch, id, frame, view, "zoom")``. Integers and strings are told
            apart, and so are ``("ab", "c")`` and ``("a", "bc")``.

    Returns:
        A fresh numpy generator; the same arguments always give the same stream.
    """
    # Each part takes exactly four 32-bit words, so that the borders between parts cannot shift.
    words: list[int] = []
    for part in (seed, *key):
        value = _word(part)
        words.extend((value >> shift) & 0xFFFFFFFF for shift in (0, 32, 64, 96))
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(words)))
