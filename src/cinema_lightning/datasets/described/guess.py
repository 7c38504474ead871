"""A first description of a folder."""

from pathlib import Path


def write_guess(folder: Path, *, alone: bool) -> int:
    """Stub."""
    raise NotImplementedError
