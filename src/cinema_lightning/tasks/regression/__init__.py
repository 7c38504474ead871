"""Regression: one number for each study."""

from cinema_lightning.registry import lazy

__getattr__ = lazy(f"{__name__}.task", "Regression")
