"""Foundation models for cine cardiac MRI on PyTorch Lightning.

``import cinema_lightning as cinema`` costs nothing: what is named here is imported when it is first used.
"""

import importlib
from typing import Any

__version__ = "0.1.0"

_PLACES = {
    "CinemaError": "errors",
    "analyse": "analysis.study",
    "features": "inference.features",
    "load": "inference.load",
    "networks": "inference.listing",
    "open": "inference.store",
}


def __getattr__(name: str) -> Any:
    """Imports what this package offers in Python, at first use."""
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_PLACES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_PLACES])
