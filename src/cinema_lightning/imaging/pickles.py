"""Pickles of numpy arrays without the danger: a loader that refuses everything else.

Loading a pickle may call any function that it names. Here it may only name what numpy needs to rebuild arrays, dtypes
and scalars; any other name ends the loading before it is called.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

from cinema_lightning.errors import CinemaError

_MODULES = ("numpy.core.multiarray", "numpy._core.multiarray")
_NUMERIC = ("numpy.core.numeric", "numpy._core.numeric")
ALLOWED: frozenset[tuple[str, str]] = frozenset(
    [("numpy", "ndarray"), ("numpy", "dtype")]
    + [(module, name) for module in _MODULES for name in ("_reconstruct", "scalar")]
    + [(module, "_frombuffer") for module in _NUMERIC]
)


def _latin1(text: str, encoding: str = "latin1") -> bytes:
    """Python 2's way of storing bytes (``_codecs.encode(text, 'latin1')``), and no other codec."""
    if encoding not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError(f"text encoded as {encoding!r}")
    return text.encode("latin1")


class _ArrayUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("_codecs", "encode"):
            return _latin1
        if (module, name) not in ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which numpy arrays do not need")
        return super().find_class(module, name)


def load_arrays(path: Path) -> dict[str, Any]:
    """Loads a pickled dictionary of numpy arrays and plain values.

    Args:
        path: The pickle, of any protocol, also one written by Python 2.

    Returns:
        The dictionary.

    Raises:
        CinemaError: If the file is missing or cut short, holds something else, or asks for code that arrays do not
            need (nothing of it has run then).
    """
    try:
        with Path(path).open("rb") as file:
            content = _ArrayUnpickler(file, encoding="latin1").load()
    except OSError as error:
        raise CinemaError(
            f"{path} could not be opened ({error.strerror or error}): look whether it is there and may be read."
        ) from None
    except (EOFError, MemoryError) as error:
        raise CinemaError(f"{path} ends too early ({type(error).__name__}): download it again.") from None
    except pickle.UnpicklingError as error:
        raise CinemaError(f"{path} was refused: {error}; use the file as its authors give it.") from None
    except Exception as error:  # a damaged pickle may raise nearly anything
        raise CinemaError(f"{path} is damaged ({type(error).__name__}: {error}): download it again.") from None
    if not isinstance(content, dict):
        raise CinemaError(
            f"{path} holds a {type(content).__name__}, not a dictionary of arrays: use the file as its authors give it."
        )
    return content
