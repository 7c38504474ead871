"""Pretraining: a masked autoencoder."""

from typing import Any

from cinema_lightning.registry import TASKS


def __getattr__(name: str) -> Any:
    """Where Pretrain was before it had a folder: plug-ins find it here still."""
    if name == "Pretrain":
        return TASKS[name]
    raise AttributeError(name)
