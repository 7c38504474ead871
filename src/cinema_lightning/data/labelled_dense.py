"""Where data modules were before each kind of task had its folder: plug-ins find them here still."""

from typing import Any

from cinema_lightning.data import formerly


def __getattr__(name: str) -> Any:
    return formerly(__name__, name)
