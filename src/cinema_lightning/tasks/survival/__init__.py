"""Survival: the risk of an event."""

from cinema_lightning.registry import lazy

__getattr__ = lazy(f"{__name__}.task", "Survival")
